//! Check of the page headers of a segment: they must be in an order that a server can have written. Each byte is seen
//! once, in pieces of any size.
//!
//! A server writes a segment from its start, page by page. A page is right if it has the magic number of the first
//! page and its own address. Anything may follow the last right page: zeros after a switch (11 and later) or in a new
//! file, holes, or pages from an earlier use of the file. But no right page follows a wrong one, the timelines of
//! right pages never decrease, and none is later than the segment's own. A segment that breaks this rule has lost a
//! page or is a mixture of files.
//!
//! The rule holds for the part of a segment that its timeline wrote. After a fork, the rest of a recycled file may
//! contain pages with right addresses: they were written before a power loss, or received by a standby on the
//! previous timeline (`RemoveNonParentXlogFiles` in `access/transam/xlog.c` renames such files). A [`PageFault`]
//! therefore has a position, and the caller ignores a fault after a known fork.
//!
//! Servers before 9.5 leave old content after a switch (9.3) and in the first segment of a timeline (9.3 and 9.4).
//! Their pages are not checked.

use super::page::field;
use super::{LongPageHeader, Lsn, SegmentName, TimelineId, WalMagic};

/// State of the check of one segment.
#[derive(Debug, Clone)]
pub struct Pages {
    magic: WalMagic,
    start: Lsn,
    page_size: u64,
    name: SegmentName,
    seen: u64,
    header: [u8; HEADER_BYTES],
    timeline: TimelineId,
    /// Position of the first page that is not right.
    gap: Option<Lsn>,
    fault: Option<PageFault>,
}

/// Magic number, info, timeline and address: the start of every page header.
const HEADER_BYTES: usize = 16;

/// Magic number of 9.5, the first version that leaves no old content in a segment.
const FILLS_UP: WalMagic = WalMagic(0xD087);

/// A page that no server writes at this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageFault {
    /// A right page follows a wrong one.
    #[error("its page at {at} is one of this segment, but the one at {gap} before it is not")]
    AfterGap {
        /// Position of the right page.
        at: Lsn,
        /// Position of the first wrong page.
        gap: Lsn,
    },
    /// A page has an earlier timeline than a page before it.
    #[error("its page at {at} says timeline {found}, after pages of timeline {before}")]
    EarlierTimeline {
        /// Position of the page.
        at: Lsn,
        /// Timeline of the page.
        found: TimelineId,
        /// Timeline of the page before.
        before: TimelineId,
    },
    /// A page has a later timeline than the segment.
    #[error("its page at {at} says timeline {found}, but segment {name} is of timeline {}", name.timeline())]
    LaterTimeline {
        /// Position of the page.
        at: Lsn,
        /// Timeline of the page.
        found: TimelineId,
        /// Name of the segment.
        name: SegmentName,
    },
}

impl PageFault {
    /// Returns the position of the first faulty page. All pages before it are right.
    #[must_use]
    pub fn begins_at(self) -> Lsn {
        match self {
            Self::AfterGap { gap, .. } => gap,
            Self::EarlierTimeline { at, .. } | Self::LaterTimeline { at, .. } => at,
        }
    }
}

impl Pages {
    /// Creates the check of segment `name`, whose first page has the header `first`.
    #[must_use]
    pub fn of(first: &LongPageHeader, name: SegmentName) -> Self {
        Self {
            magic: first.magic,
            start: first.address,
            page_size: u64::from(first.page_size).max(HEADER_BYTES as u64),
            name,
            seen: 0,
            header: [0; HEADER_BYTES],
            timeline: first.timeline,
            gap: None,
            fault: None,
        }
    }

    /// Checks the next bytes of the segment.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // Less than a page, and a page has at most 64 KiB.
            let in_page = usize::try_from(self.seen % self.page_size).unwrap_or_default();
            let rest = usize::try_from(self.page_size).unwrap_or(usize::MAX).saturating_sub(in_page);
            let wanted = if in_page < HEADER_BYTES { HEADER_BYTES - in_page } else { rest };
            let (piece, left) = bytes.split_at(wanted.min(bytes.len()));
            bytes = left;
            self.seen += piece.len() as u64;
            if let Some(room) = self.header.get_mut(in_page..in_page + piece.len()) {
                room.copy_from_slice(piece);
                if in_page + piece.len() == HEADER_BYTES {
                    self.look();
                }
            }
        }
    }

    /// Returns the first fault among the bytes seen so far.
    #[must_use]
    pub fn fault(&self) -> Option<PageFault> {
        self.fault
    }

    /// Checks the page whose header is now complete.
    fn look(&mut self) {
        if self.fault.is_some() || self.magic.0 < FILLS_UP.0 {
            return;
        }
        let at = Lsn(self.start.0 + self.seen - HEADER_BYTES as u64);
        let Some(found) = self.timeline_if_right(at) else {
            self.gap = self.gap.or(Some(at));
            return;
        };
        self.fault = if let Some(gap) = self.gap {
            Some(PageFault::AfterGap { at, gap })
        } else if found > self.name.timeline() {
            Some(PageFault::LaterTimeline { at, found, name: self.name })
        } else if found < self.timeline {
            Some(PageFault::EarlierTimeline { at, found, before: self.timeline })
        } else {
            None
        };
        self.timeline = found;
    }

    fn timeline_if_right(&self, at: Lsn) -> Option<TimelineId> {
        let magic = WalMagic(u16::from_ne_bytes(field(&self.header, 0)?));
        let address = Lsn(u64::from_ne_bytes(field(&self.header, 8)?));
        let timeline = TimelineId::new(u32::from_ne_bytes(field(&self.header, 4)?))?;
        (magic == self.magic && address == at).then_some(timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{SegmentSize, SystemIdentifier};
    use proptest::prelude::*;

    const NAME: &str = "000000030000000000000007";
    const START: u64 = 7 << 20;

    fn id(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    /// Kind of page.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Page {
        /// A page of this segment, on that timeline.
        Right(u32),
        /// A page from an earlier use of the file.
        Old,
        Zeros,
    }
    use Page::{Old, Right, Zeros};

    fn first(page_size: u32, magic: u16) -> LongPageHeader {
        LongPageHeader {
            magic: WalMagic(magic),
            timeline: id(1),
            address: Lsn(START),
            system: SystemIdentifier::new(7).unwrap(),
            segment_size: SegmentSize::MIN,
            page_size,
        }
    }

    /// Builds a segment of these pages, filled up with zeros.
    fn segment(pages: &[Page], page_size: u32, magic: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, page) in (0..).zip(pages) {
            let (timeline, before) = match page {
                Right(timeline) => (*timeline, 0),
                Old => (1, 5 << 20),
                Zeros => (0, 0),
            };
            let begin = bytes.len();
            if *page != Zeros {
                bytes.extend(magic.to_ne_bytes());
                bytes.extend(5u16.to_ne_bytes());
                bytes.extend(timeline.to_ne_bytes());
                bytes.extend((START - before + number * u64::from(page_size)).to_ne_bytes());
                bytes.resize(begin + 100, 0xAB);
            }
            bytes.resize(begin + page_size as usize, 0);
        }
        bytes.resize(1 << 20, 0);
        bytes
    }

    fn fault_of(pages: &[Page]) -> Option<PageFault> {
        fault_in(&segment(pages, 8192, 0xD110), 8192, 0xD110, 1 << 20)
    }

    fn fault_in(bytes: &[u8], page_size: u32, magic: u16, piece: usize) -> Option<PageFault> {
        let mut pages = Pages::of(&first(page_size, magic), NAME.parse().unwrap());
        bytes.chunks(piece).for_each(|piece| pages.feed(piece));
        pages.fault()
    }

    const fn at(page: u64) -> Lsn {
        Lsn(START + page * 8192)
    }

    #[test]
    fn segments_that_servers_write_pass() {
        for pages in [
            &[Right(1); 128][..],
            &[Right(1)],
            &[Right(1), Right(1), Zeros],
            &[Right(1), Right(1), Old, Old],
            &[Right(1), Old, Zeros, Old],
            &[Right(1), Zeros, Old, Zeros],
            &[Right(1), Right(2), Right(2), Right(3), Old],
        ] {
            assert_eq!(fault_of(pages), None, "{pages:?}");
        }
    }

    #[test]
    fn segments_that_no_server_writes_fail_with_a_position() {
        let after_gap = PageFault::AfterGap { at: at(3), gap: at(1) };
        for pages in [[Right(1), Zeros, Zeros, Right(1)], [Right(1), Old, Zeros, Right(1)]] {
            assert_eq!(fault_of(&pages), Some(after_gap), "{pages:?}");
        }
        assert_eq!(after_gap.begins_at(), at(1));
        let earlier = PageFault::EarlierTimeline { at: at(2), found: id(1), before: id(2) };
        assert_eq!(fault_of(&[Right(1), Right(2), Right(1), Right(2)]), Some(earlier));
        let later = PageFault::LaterTimeline { at: at(1), found: id(4), name: NAME.parse().unwrap() };
        assert_eq!(fault_of(&[Right(1), Right(4)]), Some(later));
        assert_eq!((earlier.begins_at(), later.begins_at()), (at(2), at(1)));
    }

    #[test]
    fn a_header_that_comes_in_pieces_is_read() {
        let bytes = segment(&[Right(1), Zeros, Zeros, Right(1)], 8192, 0xD110);
        for piece in [1, 10, 8190, 8200] {
            assert!(fault_in(&bytes, 8192, 0xD110, piece).is_some(), "in pieces of {piece}");
        }
    }

    #[test]
    fn versions_that_leave_old_content_are_not_checked() {
        let pages = [Right(1), Zeros, Right(1), Right(2), Right(1)];
        for (magic, judged) in [(0xD075, false), (0xD07E, false), (0xD087, true), (0xD119, true)] {
            let found = fault_in(&segment(&pages, 8192, magic), 8192, magic, 1 << 20);
            assert_eq!(found.is_some(), judged, "{magic:X}");
        }
    }

    fn page() -> impl Strategy<Value = Page> {
        prop_oneof![(1u32..=4).prop_map(Right), Just(Old), Just(Zeros)]
    }

    proptest! {
        #[test]
        fn a_segment_written_from_its_start_passes_whatever_follows(
            steps in prop::collection::vec(0u32..2, 0..60),
            behind in prop::collection::vec(prop_oneof![Just(Old), Just(Zeros)], 0..60),
        ) {
            let mut timeline = 1;
            let mut pages = vec![Right(1)];
            for step in steps {
                timeline = (timeline + step).min(3);
                pages.push(Right(timeline));
            }
            pages.extend(behind);
            prop_assert_eq!(fault_of(&pages), None);
        }

        #[test]
        fn the_rule_decides_and_the_pieces_do_not(
            rest in prop::collection::vec(page(), 0..15),
            piece in 1usize..20_000,
            power in 10u32..=16,
        ) {
            let pages: Vec<Page> = [Right(1)].into_iter().chain(rest).collect();
            let right: Vec<u32> =
                pages.iter().map_while(|page| if let Right(of) = page { Some(*of) } else { None }).collect();
            let behind = &pages[right.len()..];
            let passes = right.is_sorted()
                && right.iter().all(|timeline| *timeline <= 3)
                && !behind.iter().any(|page| matches!(page, Right(_)));
            let bytes = segment(&pages, 1 << power, 0xD110);
            let found = fault_in(&bytes, 1 << power, 0xD110, piece);
            prop_assert_eq!(found.is_none(), passes, "{:?}", found);
            prop_assert_eq!(found, fault_in(&bytes, 1 << power, 0xD110, 1 << 20));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000), piece in 1usize..99) {
            let _ = fault_in(&bytes, 1024, 0xD110, piece);
        }
    }
}
