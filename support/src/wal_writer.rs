//! WAL as written by version 15, record by record, so that a test can build any segments.

use crc_fast::{CrcAlgorithm, Digest};

const PAGE_BYTES: u64 = 8192;
/// An ordinary resource manager, and that of records about the WAL itself.
const HEAP: u8 = 10;
const XLOG: u8 = 0;
const SWITCH: u8 = 0x40;

/// The WAL of one timeline from the start of a segment on.
pub struct WalWriter {
    /// System identifier of the cluster.
    pub system: u64,
    /// Timeline of what is written next.
    pub timeline: u32,
    /// Segment size.
    pub segment_bytes: u64,
    /// Position of the start of `bytes`.
    start: u64,
    bytes: Vec<u8>,
    /// Position of the last record.
    last: u64,
}

impl WalWriter {
    /// Creates WAL that starts with segment `number`.
    pub fn new(system: u64, timeline: u32, number: u64, segment_bytes: u64) -> Self {
        let start = number * segment_bytes;
        // As if a record ended just before.
        Self { system, timeline, segment_bytes, start, bytes: Vec::new(), last: start - 64 }
    }

    /// Returns the position of the next byte.
    pub fn position(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Writes a record with a body of that many bytes; returns its position.
    pub fn record(&mut self, body: usize) -> u64 {
        self.write(HEAP, 0, &vec![b'x'; body])
    }

    /// Writes records with bodies of these sizes.
    pub fn records(&mut self, bodies: &[usize]) {
        for body in bodies {
            self.record(*body);
        }
    }

    /// Ends the segment, with the empty pages of version 10 or with zeros. Returns the position of the switch record.
    pub fn switch(&mut self, with_page_headers: bool) -> u64 {
        let at = self.write(XLOG, SWITCH, b"");
        while !self.position().is_multiple_of(self.segment_bytes) {
            if with_page_headers && self.position().is_multiple_of(PAGE_BYTES) {
                self.page_header(0);
            } else {
                let rest = PAGE_BYTES - self.position() % PAGE_BYTES;
                self.bytes.resize(self.bytes.len() + usize::try_from(rest).unwrap(), 0);
            }
        }
        at
    }

    /// Writes records until one of them ends exactly at the end of the segment.
    pub fn fill(&mut self) {
        loop {
            let room = self.room();
            // Never leaves so little that the last record would not fit.
            let total = if room <= 4096 { room } else { 2048 };
            self.record(usize::try_from(total).unwrap() - 24);
            if self.position().is_multiple_of(self.segment_bytes) {
                break;
            }
        }
    }

    /// Returns the number of bytes of records that fit into the rest of the segment.
    fn room(&self) -> u64 {
        let end = (self.position() / self.segment_bytes + 1) * self.segment_bytes;
        let pages = (end - self.position()) / PAGE_BYTES;
        let begun = if self.position().is_multiple_of(PAGE_BYTES) { pages } else { pages + 1 };
        let headers = begun * 24 - if self.position().is_multiple_of(PAGE_BYTES) { 0 } else { 24 };
        let long = if self.position().is_multiple_of(self.segment_bytes) { 16 } else { 0 };
        end - self.position() - headers - long
    }

    /// Leaves the last record incomplete at the end of its page, as a crash does, and marks that on the next page.
    pub fn break_off(&mut self, body: usize) {
        let before = (self.last, self.bytes.len());
        let at = self.record(body);
        let page_end = (at / PAGE_BYTES + 1) * PAGE_BYTES;
        assert!(page_end < self.position(), "it must cross the end of a page");
        self.bytes.truncate(usize::try_from(page_end - self.start).unwrap());
        self.last = before.0;
        self.page_header_with(8, 0);
        self.record(16);
    }

    fn write(&mut self, manager: u8, info: u8, body: &[u8]) -> u64 {
        let total = u32::try_from(24 + body.len()).unwrap();
        let mut head = total.to_ne_bytes().to_vec();
        head.extend(7u32.to_ne_bytes());
        head.extend(self.last.to_ne_bytes());
        head.extend([info, manager, 0, 0]);
        let mut crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        crc.update(body);
        crc.update(&head);
        head.extend(u32::try_from(crc.finalize()).unwrap().to_ne_bytes());
        let record = [&head, body].concat();
        if self.position().is_multiple_of(PAGE_BYTES) {
            self.page_header(0);
        }
        let at = self.position();
        let mut left = &record[..];
        while !left.is_empty() {
            if self.position().is_multiple_of(PAGE_BYTES) {
                self.page_header(u32::try_from(left.len()).unwrap());
            }
            let room = usize::try_from(PAGE_BYTES - self.position() % PAGE_BYTES).unwrap();
            let (now, later) = left.split_at(room.min(left.len()));
            self.bytes.extend(now);
            left = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.last = at;
        at
    }

    fn page_header(&mut self, left: u32) {
        self.page_header_with(u16::from(left > 0), left);
    }

    fn page_header_with(&mut self, flags: u16, left: u32) {
        let address = self.position();
        let is_long = address.is_multiple_of(self.segment_bytes);
        self.bytes.extend(0xD110u16.to_ne_bytes());
        self.bytes.extend((flags | 4 | if is_long { 2 } else { 0 }).to_ne_bytes());
        self.bytes.extend(self.timeline.to_ne_bytes());
        self.bytes.extend(address.to_ne_bytes());
        self.bytes.extend(left.to_ne_bytes());
        self.bytes.extend([0; 4]);
        if is_long {
            self.bytes.extend(self.system.to_ne_bytes());
            self.bytes.extend(u32::try_from(self.segment_bytes).unwrap().to_ne_bytes());
            self.bytes.extend(u32::try_from(PAGE_BYTES).unwrap().to_ne_bytes());
        }
    }

    /// Returns the segments so far; the last one is filled up with zeros.
    pub fn segments(&self) -> Vec<Vec<u8>> {
        let size = usize::try_from(self.segment_bytes).unwrap();
        let fill_up = |part: &[u8]| [part, &vec![0; size - part.len()]].concat();
        self.bytes.chunks(size).map(fill_up).collect()
    }
}
