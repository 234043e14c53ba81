//! Search for the end of the records in a segment, page by page and record by record, as the server reads them
//! (`XLogDecodeNextRecord` and `XLogReaderValidatePageHeader` in `access/transam/xlogreader.c`, versions 10 to 18).
//!
//! A record counts if it is complete, its CRC-32C is right, and it points back to the record before it. Leftovers
//! from an earlier use of the file therefore never count: their pages have other addresses, and within a page their
//! records point back to other positions. If the records end in the middle of a segment, another copy of it may
//! contain more.
//!
//! Page headers are described in `page`. A record (`access/xlogrecord.h`) begins, in native byte order:
//!
//! | offset | field | type |
//! | --- | --- | --- |
//! | 0 | length of the whole record | u32 |
//! | 8 | position of the previous record | u64 |
//! | 16 | operation, in the upper four bits | u8 |
//! | 17 | resource manager | u8 |
//! | 20 | CRC-32C of bytes 24 to the end, then of bytes 0 to 19 | u32 |
//!
//! Records start at multiples of eight. The part that does not fit on a page continues after the header of the next
//! page.

use crc_fast::{CrcAlgorithm, Digest};

use super::page::field;
use super::{LONG_HEADER_BYTES, LongPageHeader, Lsn, TimelineId, WalMagic};

/// Offset of the page size in a long page header.
const PAGE_SIZE_AT: usize = 36;
const SHORT_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 24;
/// Alignment of records (`MAXALIGN`).
const ALIGNMENT: usize = 8;

const PREVIOUS_AT: usize = 8;
const INFO_AT: usize = 16;
const MANAGER_AT: usize = 17;
const CRC_AT: usize = 20;

const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;
/// Up to version 18, bit 2 concerns base backups and bit 3 is `FIRST_IS_OVERWRITE_CONTRECORD`. Later versions use bit
/// 2 for it.
const LAST_WITH_FOUR_FLAGS: u16 = 0xD118;

/// `RM_XLOG_ID` and `XLOG_SWITCH`: the last record of its segment.
const SWITCH: (u8, u8) = (0, 0x40);

/// The end of the records in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordsEnd {
    /// The last record is a switch to the next segment, and only zeros follow.
    Switch,
    /// The last record ends exactly at the end of the segment.
    End,
    /// The last record is a switch, but something else follows it.
    SwitchAndMore(Lsn),
    /// The last record continues in the next segment, so nothing proves that this segment is complete.
    GoesOn(Lsn),
    /// The records end at this position, in the middle of the segment.
    Middle(Lsn),
    /// Unknown. The whole segment is part of one record; or its only record may be a leftover, because the previous
    /// one is unknown; or its records may have an unknown layout.
    Unproven,
}

/// A walk over the pages of consecutive segments.
///
/// A walk that starts one segment earlier also verifies the first record of the segment in question.
#[derive(Debug, Clone)]
pub struct RecordWalk {
    magic: WalMagic,
    page_bytes: usize,
    segment_bytes: u64,
    /// Flag of a page whose first record replaces one that a crash left incomplete.
    overwrites: u16,
    all_flags: u16,
    /// Address of the next page.
    address: u64,
    /// Timeline of the previous page. Timelines never decrease.
    timeline: TimelineId,
    /// Last timeline that a page may have.
    last_timeline: TimelineId,
    state: State,
    /// Position of the last complete record.
    last: Option<u64>,
    /// `true` if the last record points back to a record that was seen.
    linked: bool,
    /// `true` if only zeros follow the last record up to the next aligned position.
    padded: bool,
    /// `true` if the records end at something that is no record in any layout: a page of another segment, a page that
    /// does not continue the record, or zeros.
    cut_off: bool,
}

#[derive(Debug, Clone)]
enum State {
    /// No page has been read.
    Start,
    /// In a record that began before the walk, with this many bytes to skip.
    Skipping(u64),
    /// At a position where a record may start.
    Between,
    /// In a record.
    Within(Box<Partial>),
    /// After a switch; `more` is `true` if something other than zeros follows it.
    Switched { at: u64, more: bool },
    /// After the last valid record.
    Ended(u64),
}

/// A record that has been read in part.
#[derive(Debug, Clone)]
struct Partial {
    at: u64,
    total: u64,
    seen: u64,
    header: Vec<u8>,
    crc: Digest,
}

/// The fields that all page headers have.
struct PageHeader {
    info: u16,
    timeline: TimelineId,
    /// Remaining bytes of the record that continues from the previous page.
    left: u64,
    bytes: usize,
}

impl RecordWalk {
    /// Creates a walk that starts with a segment of `timeline`.
    ///
    /// `beginning` is the start of the segment, already checked to belong to it. Returns `None` if its pages are too
    /// small for a header.
    #[must_use]
    pub fn new(beginning: &[u8], timeline: TimelineId) -> Option<Self> {
        let first = LongPageHeader::parse(beginning).ok()?;
        let page_bytes = u32::from_ne_bytes(field(beginning, PAGE_SIZE_AT)?);
        let (overwrites, all_flags) =
            if first.magic.0 <= LAST_WITH_FOUR_FLAGS { (0x0008, 0x000F) } else { (0x0004, 0x0007) };
        Some(Self {
            magic: first.magic,
            overwrites,
            all_flags,
            page_bytes: usize::try_from(page_bytes).ok().filter(|bytes| *bytes > LONG_HEADER_BYTES)?,
            segment_bytes: first.segment_size.bytes(),
            address: first.address.0,
            timeline: first.timeline,
            last_timeline: timeline,
            state: State::Start,
            last: None,
            linked: false,
            padded: true,
            cut_off: false,
        })
    }

    /// Returns the size of a page, in bytes.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Returns `true` if no further page can change the result.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// Reads the next page.
    pub fn page(&mut self, page: &[u8]) {
        let address = self.address;
        self.address = address.saturating_add(self.page_bytes as u64);
        let state = std::mem::replace(&mut self.state, State::Ended(address));
        self.state = self.after_page(state, page, address);
    }

    /// Returns the end of the records in the segment whose last page was read just now.
    #[must_use]
    pub fn end(&self) -> RecordsEnd {
        match &self.state {
            // Without one sound record, the layout of the records may be unknown.
            State::Ended(_) if self.last.is_none() && !self.cut_off => RecordsEnd::Unproven,
            State::Ended(at) => RecordsEnd::Middle(Lsn(*at)),
            State::Within(partial) => RecordsEnd::GoesOn(Lsn(partial.at)),
            State::Start | State::Skipping(_) => RecordsEnd::Unproven,
            State::Switched { .. } | State::Between if !self.linked => RecordsEnd::Unproven,
            State::Switched { at, more: true } => RecordsEnd::SwitchAndMore(Lsn(*at)),
            State::Switched { .. } => RecordsEnd::Switch,
            State::Between if self.padded => RecordsEnd::End,
            State::Between => RecordsEnd::Middle(Lsn(self.address)),
        }
    }

    fn after_page(&mut self, state: State, page: &[u8], address: u64) -> State {
        let state = match state {
            State::Ended(at) => return State::Ended(at),
            // The rest of a segment after a switch is unused.
            State::Switched { .. } if self.begins_segment(address) => State::Between,
            State::Switched { at, more } => {
                return State::Switched { at, more: more || !self.is_empty_page(page, address) };
            }
            state => state,
        };
        let whole = page.len() == self.page_bytes;
        let Some(header) = self.page_header(page, address).filter(|_| whole) else {
            self.cut_off = true;
            return State::Ended(state.begins_at(address));
        };
        self.timeline = header.timeline;
        let goes_on = header.info & FIRST_IS_CONTRECORD != 0;
        let overwritten = header.info & self.overwrites != 0;
        let mut state = match state {
            // A crash left that record incomplete, and the server continued without it.
            State::Within(_) | State::Skipping(_) if overwritten => State::Between,
            State::Within(partial) if goes_on && partial.left() == header.left => State::Within(partial),
            State::Skipping(left) if goes_on && left == header.left => State::Skipping(left),
            State::Start if goes_on && header.left > 0 => State::Skipping(header.left),
            State::Start | State::Between if !goes_on => State::Between,
            state => {
                // The length of a record that starts here is known only if its layout is.
                self.cut_off = matches!(state, State::Skipping(_) | State::Between);
                return State::Ended(state.begins_at(address));
            }
        };
        let mut rest = page.get(header.bytes..).unwrap_or_default();
        while !rest.is_empty() && !matches!(state, State::Switched { .. } | State::Ended(_)) {
            let at = address + (page.len() - rest.len()) as u64;
            (state, rest) = self.step(state, rest, at);
        }
        match state {
            State::Switched { at, .. } => State::Switched { at, more: !is_zero(rest) },
            state => state,
        }
    }

    /// Reads the part of the page that belongs to one record, and returns the rest of the page.
    fn step<'a>(&mut self, state: State, rest: &'a [u8], at: u64) -> (State, &'a [u8]) {
        match state {
            State::Skipping(left) => {
                let (taken, rest) = split(rest, left);
                match left - taken.len() as u64 {
                    0 => (State::Between, self.behind_padding(rest)),
                    left => (State::Skipping(left), rest),
                }
            }
            State::Between => match field(rest, 0).map(u32::from_ne_bytes).map(u64::from) {
                Some(total) if total >= RECORD_HEADER_BYTES as u64 => {
                    (State::Within(Box::new(Partial::new(at, total))), rest)
                }
                total => {
                    self.cut_off = total == Some(0);
                    (State::Ended(at), rest)
                }
            },
            State::Within(mut partial) => {
                let (taken, rest) = split(rest, partial.left());
                partial.take(taken);
                if !partial.may_follow(self.last) {
                    return (State::Ended(partial.at), rest);
                }
                if partial.left() > 0 {
                    return (State::Within(partial), rest);
                }
                if !partial.is_sound() {
                    return (State::Ended(partial.at), rest);
                }
                let rest = self.behind_padding(rest);
                self.linked = self.last.is_some();
                self.last = Some(partial.at);
                let next = if partial.is_switch() {
                    State::Switched { at: partial.at, more: false }
                } else {
                    State::Between
                };
                (next, rest)
            }
            state => (state, rest),
        }
    }

    /// Skips to the next aligned position. Page sizes are multiples of the alignment.
    fn behind_padding<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let (padding, rest) = rest.split_at(rest.len() % ALIGNMENT);
        self.padded = is_zero(padding);
        rest
    }

    fn begins_segment(&self, address: u64) -> bool {
        address.is_multiple_of(self.segment_bytes)
    }

    /// Returns `true` if the page consists of zeros or, up to version 10, of a page header and zeros.
    fn is_empty_page(&self, page: &[u8], address: u64) -> bool {
        let has_none_of = |info: u16, flags: [u16; 2]| flags.iter().all(|flag| info & flag == 0);
        let header = self.page_header(page, address).filter(|header| {
            has_none_of(header.info, [FIRST_IS_CONTRECORD, self.overwrites]) && header.left == 0
        });
        page.get(header.map_or(0, |header| header.bytes)..).is_some_and(is_zero)
    }

    /// Returns the page's header if it is that of the page at `address`.
    fn page_header(&self, page: &[u8], address: u64) -> Option<PageHeader> {
        let info = u16::from_ne_bytes(field(page, 2)?);
        let timeline = TimelineId::new(u32::from_ne_bytes(field(page, 4)?))?;
        let is_long = info & LONG_HEADER != 0;
        let is_its_own = u16::from_ne_bytes(field(page, 0)?) == self.magic.0
            && info & !self.all_flags == 0
            && u64::from_ne_bytes(field(page, 8)?) == address
            && is_long == self.begins_segment(address)
            && (self.timeline..=self.last_timeline).contains(&timeline);
        is_its_own.then_some(PageHeader {
            info,
            timeline,
            left: u64::from(u32::from_ne_bytes(field(page, 16)?)),
            bytes: if is_long { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES },
        })
    }
}

impl State {
    /// Returns the position of the first incomplete record.
    fn begins_at(&self, address: u64) -> u64 {
        if let Self::Within(partial) = self { partial.at } else { address }
    }
}

impl Partial {
    fn new(at: u64, total: u64) -> Self {
        let crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        Self { at, total, seen: 0, header: Vec::with_capacity(RECORD_HEADER_BYTES), crc }
    }

    /// Returns the number of bytes still to come.
    fn left(&self) -> u64 {
        self.total - self.seen
    }

    fn take(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        let (header, body) = split(bytes, (RECORD_HEADER_BYTES - self.header.len()) as u64);
        self.header.extend_from_slice(header);
        self.crc.update(body);
    }

    /// Returns `true` if the part seen so far points back to the record at `last`, or to any earlier position if
    /// `last` is unknown.
    fn may_follow(&self, last: Option<u64>) -> bool {
        let before = field(&self.header, PREVIOUS_AT).map(u64::from_ne_bytes);
        before.is_none_or(|before| last.map_or(before < self.at, |last| before == last))
    }

    /// Returns `true` if the CRC of the complete record is right.
    fn is_sound(&self) -> bool {
        let mut crc = self.crc;
        crc.update(self.header.get(..CRC_AT).unwrap_or_default());
        field(&self.header, CRC_AT).map(u32::from_ne_bytes).map(u64::from) == Some(crc.finalize())
    }

    fn is_switch(&self) -> bool {
        let action = (self.header.get(MANAGER_AT), self.header.get(INFO_AT).map(|info| info & 0xF0));
        action == (Some(&SWITCH.0), Some(SWITCH.1))
    }
}

/// Splits off at most `at_most` bytes.
fn split(bytes: &[u8], at_most: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(at_most).unwrap_or(usize::MAX).min(bytes.len()))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
