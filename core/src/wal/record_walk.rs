//! Whether the records of a segment reach its end: page by page, record by record, as the server itself reads them
//! (`XLogDecodeNextRecord` and `XLogReaderValidatePageHeader` in `access/transam/xlogreader.c`, versions 10 to 18).
//!
//! A record counts once all of it has been seen, its CRC-32C is right, and it points back to the very record before it. So
//! nothing that an earlier use of the file has left is taken for a continuation: its pages have other addresses, and within
//! a page its records point elsewhere. Where records end in the middle of a segment, more may have been written elsewhere.
//!
//! Page headers are described in `page`; a record (`access/xlogrecord.h`) begins, native byte order:
//!
//! | offset | field | type |
//! | --- | --- | --- |
//! | 0 | length of the whole record | u32 |
//! | 8 | position of the record before | u64 |
//! | 16 | what it does, in the upper four bits | u8 |
//! | 17 | resource manager | u8 |
//! | 20 | CRC-32C of all from byte 24 on, then of bytes 0 to 19 | u32 |
//!
//! Records begin at multiples of eight. What does not fit on a page goes on behind the header of the next.

use crc_fast::{CrcAlgorithm, Digest};

use super::page::field;
use super::{LONG_HEADER_BYTES, LongPageHeader, Lsn, TimelineId, WalMagic};

/// Where in a long page header the size of all pages is.
const PAGE_SIZE_AT: usize = 36;
const SHORT_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 24;
/// Records begin at multiples of it (`MAXALIGN`).
const ALIGNMENT: usize = 8;

const PREVIOUS_AT: usize = 8;
const INFO_AT: usize = 16;
const MANAGER_AT: usize = 17;
const CRC_AT: usize = 20;

const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;
/// Up to version 18 bit 2 says something of base backups, and bit 3 is `FIRST_IS_OVERWRITE_CONTRECORD`; after that, bit 2 is.
const LAST_WITH_FOUR_FLAGS: u16 = 0xD118;

/// `RM_XLOG_ID` and `XLOG_SWITCH`: nothing more is written into this segment.
const SWITCH: (u8, u8) = (0, 0x40);

/// How the records of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordsEnd {
    /// In a switch to the next segment, behind which there is nothing.
    Switch,
    /// Exactly where the segment ends.
    End,
    /// In a switch, behind which there is something else.
    SwitchAndMore(Lsn),
    /// The last record goes on in the next segment, so nothing proves that all of it is there that belongs here.
    GoesOn(Lsn),
    /// In the middle: there, no record follows that was written after the one before.
    Middle(Lsn),
    /// That cannot be told: all of it is a part of one record; or the only one may be an old one, since what it points back to is
    /// unknown; or what is there may be in a form that is not known here.
    Unproven,
}

/// Reads the pages of segments that follow each other.
///
/// Whoever begins with the segment before the one in question can check the first record of that, too.
#[derive(Debug, Clone)]
pub struct RecordWalk {
    magic: WalMagic,
    page_bytes: usize,
    segment_bytes: u64,
    /// The flag of a page whose first record takes the place of one that a crash has broken off, and all flags that there are.
    overwrites: u16,
    all_flags: u16,
    /// Where the next page must be.
    address: u64,
    /// Of the page before; it never decreases.
    timeline: TimelineId,
    /// Beyond which it may not go.
    last_timeline: TimelineId,
    state: State,
    /// Where the last whole record begins, once there is one.
    last: Option<u64>,
    /// Whether that one points back to a record that was seen.
    linked: bool,
    /// Whether nothing but zeros lies between that one and the place where the next could begin.
    padded: bool,
    /// Whether they end at what is nothing in any form of records: a page that is another's, or that does not go on, or zeros.
    cut_off: bool,
}

#[derive(Debug, Clone)]
enum State {
    /// The walk has not begun.
    Start,
    /// In what is left of a record that began before the walk.
    Skipping(u64),
    /// Where a record may begin.
    Between,
    /// In a record.
    Within(Box<Partial>),
    /// Behind a switch, and whether something follows it.
    Switched { at: u64, more: bool },
    /// Behind the last valid record.
    Ended(u64),
}

/// A record of which so much has been seen.
#[derive(Debug, Clone)]
struct Partial {
    at: u64,
    total: u64,
    seen: u64,
    header: Vec<u8>,
    crc: Digest,
}

/// What every page begins with.
struct PageHeader {
    info: u16,
    timeline: TimelineId,
    /// How much of a record from the page before follows.
    left: u64,
    bytes: usize,
}

impl RecordWalk {
    /// A walk that begins with a segment of `timeline`. `beginning` are the segment's first bytes, which have been found to be
    /// its own; `None` if the pages are too small for a header.
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

    /// How long each page is.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Whether no further page can change the answer.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// Takes the next page.
    pub fn page(&mut self, page: &[u8]) {
        let address = self.address;
        self.address = address.saturating_add(self.page_bytes as u64);
        let state = std::mem::replace(&mut self.state, State::Ended(address));
        self.state = self.after_page(state, page, address);
    }

    /// How the records of the segment end whose last page was taken just now.
    #[must_use]
    pub fn end(&self) -> RecordsEnd {
        match &self.state {
            // Where no record was sound, what is there may be in a form that is not known here.
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
            // What a switch has left unused belongs to the segment that it ended.
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
            // A crash has left that record unfinished, and the server goes on without it.
            State::Within(_) | State::Skipping(_) if overwritten => State::Between,
            State::Within(partial) if goes_on && partial.left() == header.left => State::Within(partial),
            State::Skipping(left) if goes_on && left == header.left => State::Skipping(left),
            State::Start if goes_on && header.left > 0 => State::Skipping(header.left),
            State::Start | State::Between if !goes_on => State::Between,
            state => {
                // How long a record is that has begun here, only its form tells, which may be unknown.
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

    /// Takes as much of a page as belongs to one record, and gives what is left of the page.
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

    /// What lies behind the bytes up to the next place where a record may begin. A page's length is a multiple of theirs.
    fn behind_padding<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let (padding, rest) = rest.split_at(rest.len() % ALIGNMENT);
        self.padded = is_zero(padding);
        rest
    }

    fn begins_segment(&self, address: u64) -> bool {
        address.is_multiple_of(self.segment_bytes)
    }

    /// Zeros, or up to version 10 a page header and zeros.
    fn is_empty_page(&self, page: &[u8], address: u64) -> bool {
        let header = self
            .page_header(page, address)
            .filter(|header| header.info & (FIRST_IS_CONTRECORD | self.overwrites) == 0 && header.left == 0);
        page.get(header.map_or(0, |header| header.bytes)..).is_some_and(is_zero)
    }

    /// The page's header, if it is that of the page at `address`.
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
    /// Where the first record begins of which not all is there.
    fn begins_at(&self, address: u64) -> u64 {
        if let Self::Within(partial) = self { partial.at } else { address }
    }
}

impl Partial {
    fn new(at: u64, total: u64) -> Self {
        let crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        Self { at, total, seen: 0, header: Vec::with_capacity(RECORD_HEADER_BYTES), crc }
    }

    /// How much of it is still to come.
    fn left(&self) -> u64 {
        self.total - self.seen
    }

    fn take(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        let (header, body) = split(bytes, (RECORD_HEADER_BYTES - self.header.len()) as u64);
        self.header.extend_from_slice(header);
        self.crc.update(body);
    }

    /// Whether it points back to the record at `last`, as far as it has been seen; where none is known, to any before it.
    fn may_follow(&self, last: Option<u64>) -> bool {
        let before = field(&self.header, PREVIOUS_AT).map(u64::from_ne_bytes);
        before.is_none_or(|before| last.map_or(before < self.at, |last| before == last))
    }

    /// Whether all of it, which has been seen, is what was written.
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

/// At most so many bytes, and the rest.
fn split(bytes: &[u8], at_most: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(at_most).unwrap_or(usize::MAX).min(bytes.len()))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
