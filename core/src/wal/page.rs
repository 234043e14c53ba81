//! The long page header at the start of every WAL segment (`XLogLongPageHeaderData` in `access/xlog_internal.h`).
//!
//! Native byte order; the layout is the same since version 9.3:
//!
//! | offset | field | type |
//! | --- | --- | --- |
//! | 0 | magic | u16 |
//! | 2 | info, 0x0002 = long header | u16 |
//! | 4 | timeline | u32 |
//! | 8 | page address | u64 |
//! | 16 | length of the record continued from the page before | u32 |
//! | 24 | system identifier | u64 |
//! | 32 | segment size | u32 |
//! | 36 | page size | u32 |

use std::fmt;

use super::{Lsn, SegmentName, SegmentSize, SegmentSizeError, SystemIdentifier, TimelineId};

/// Number of leading bytes of a segment that [`LongPageHeader::parse`] needs.
pub const LONG_HEADER_BYTES: usize = 40;

const INFO_LONG_HEADER: u16 = 0x0002;

/// The magic number of a WAL page. Every major version of PostgreSQL has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalMagic(pub u16);

impl WalMagic {
    /// Returns the major version of PostgreSQL; `None` for a version newer than this walkeep.
    #[must_use]
    pub fn version(self) -> Option<&'static str> {
        Some(match self.0 {
            0xD075 => "9.3",
            0xD07E => "9.4",
            0xD087 => "9.5",
            0xD093 => "9.6",
            0xD097 => "10",
            0xD098 => "11",
            0xD101 => "12",
            0xD106 => "13",
            0xD10D => "14",
            0xD110 => "15",
            0xD113 => "16",
            0xD116 => "17",
            0xD118 => "18",
            _ => return None,
        })
    }

    /// Returns `true` for 0xD000 to 0xDFFF. Every version so far uses a magic in this range, so newer servers are
    /// accepted, while zeros, text and other files are not.
    fn is_plausible(self) -> bool {
        self.0 >> 12 == 0xD
    }
}

impl fmt::Display for WalMagic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}", self.0)
    }
}

/// Header of the first page of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongPageHeader {
    /// Magic number, which identifies the major version of PostgreSQL.
    pub magic: WalMagic,
    /// Timeline on which this page was written.
    pub timeline: TimelineId,
    /// Position of the page's first byte.
    pub address: Lsn,
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Segment size of the cluster.
    pub segment_size: SegmentSize,
    /// Size of a WAL page, in bytes.
    pub page_size: u32,
}

/// Error from parsing or checking a long page header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The file is shorter than a long page header.
    #[error("it has {0} bytes, less than a page header")]
    Short(usize),
    /// The first bytes are not those of a WAL page.
    #[error("it does not begin with a WAL page header (magic {0}, info {1:04X})")]
    NotWal(WalMagic, u16),
    /// A field of the header has an impossible value.
    #[error("its page header has an impossible {0}")]
    Impossible(&'static str),
    /// The header names an impossible segment size.
    #[error("its page header names an impossible segment size")]
    SegmentSize(#[from] SegmentSizeError),
    /// The file does not have the segment size of its cluster.
    #[error("it has {actual} bytes, but segments of its cluster have {expected}")]
    Length {
        /// Segment size in the header, in bytes.
        expected: u64,
        /// Size of the file, in bytes.
        actual: u64,
    },
    /// The page belongs to another segment.
    #[error("its page header says {found}, which is not where segment {name} starts")]
    Address {
        /// Name of the file.
        name: SegmentName,
        /// Address in the header.
        found: Lsn,
    },
    /// The page was written on a timeline that this segment cannot contain.
    #[error("its page header says timeline {found}, but segment {name} is of timeline {}", name.timeline())]
    Timeline {
        /// Name of the file.
        name: SegmentName,
        /// Timeline in the header.
        found: TimelineId,
    },
    /// The page belongs to another cluster.
    #[error("it belongs to system {found}, not to system {expected}")]
    System {
        /// System identifier that the page should have.
        expected: SystemIdentifier,
        /// System identifier in the header.
        found: SystemIdentifier,
    },
}

impl LongPageHeader {
    /// Parses the header from the first bytes of a segment.
    pub fn parse(page: &[u8]) -> Result<Self, PageError> {
        let short = PageError::Short(page.len());
        let u16_at = |at| field(page, at).map(u16::from_ne_bytes).ok_or(short.clone());
        let u32_at = |at| field(page, at).map(u32::from_ne_bytes).ok_or(short.clone());
        let u64_at = |at| field(page, at).map(u64::from_ne_bytes).ok_or(short.clone());

        let (magic, info) = (WalMagic(u16_at(0)?), u16_at(2)?);
        let page_size = u32_at(36)?;
        if !magic.is_plausible() || info & INFO_LONG_HEADER == 0 {
            return Err(PageError::NotWal(magic, info));
        }
        if !page_size.is_power_of_two() || !(1 << 10..=1 << 16).contains(&page_size) {
            return Err(PageError::Impossible("page size"));
        }
        Ok(Self {
            magic,
            timeline: TimelineId::new(u32_at(4)?).ok_or(PageError::Impossible("timeline"))?,
            address: Lsn(u64_at(8)?),
            system: SystemIdentifier::new(u64_at(24)?).ok_or(PageError::Impossible("system identifier"))?,
            segment_size: SegmentSize::new(u64::from(u32_at(32)?))?,
            page_size,
        })
    }

    /// Checks that a file of `file_bytes` bytes which begins with this page is the segment `name`.
    ///
    /// The page's timeline may be older than the name's: when a timeline begins inside a segment, the server copies
    /// the part before the fork, page headers included, from the parent's segment.
    pub fn check(&self, name: SegmentName, file_bytes: u64) -> Result<(), PageError> {
        if file_bytes != self.segment_size.bytes() {
            return Err(PageError::Length { expected: self.segment_size.bytes(), actual: file_bytes });
        }
        if name.start(self.segment_size) != Some(self.address) {
            return Err(PageError::Address { name, found: self.address });
        }
        if self.timeline > name.timeline() {
            return Err(PageError::Timeline { name, found: self.timeline });
        }
        Ok(())
    }

    /// Checks that the page belongs to the cluster `expected`.
    pub fn check_system(&self, expected: SystemIdentifier) -> Result<(), PageError> {
        if self.system == expected { Ok(()) } else { Err(PageError::System { expected, found: self.system }) }
    }
}

pub(super) fn field<const N: usize>(page: &[u8], at: usize) -> Option<[u8; N]> {
    page.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page() -> Vec<u8> {
        let mut page = Vec::new();
        page.extend(0xD110u16.to_ne_bytes());
        page.extend(0x0002u16.to_ne_bytes());
        page.extend(2u32.to_ne_bytes());
        page.extend(0x16_0300_0000u64.to_ne_bytes());
        page.extend([0; 8]);
        page.extend(7_381_092_445_103_374_871u64.to_ne_bytes());
        page.extend((16u32 << 20).to_ne_bytes());
        page.extend(8192u32.to_ne_bytes());
        page
    }

    fn with(at: usize, bytes: &[u8]) -> Result<LongPageHeader, PageError> {
        let mut page = page();
        page[at..at + bytes.len()].copy_from_slice(bytes);
        LongPageHeader::parse(&page)
    }

    #[test]
    fn the_fields_are_read() {
        let header = LongPageHeader::parse(&page()).unwrap();
        assert_eq!(header.magic.version(), Some("15"));
        assert_eq!(header.timeline.get(), 2);
        assert_eq!(header.address.to_string(), "16/3000000");
        assert_eq!(header.system.to_string(), "7381092445103374871");
        assert_eq!(header.segment_size, SegmentSize::DEFAULT);
        header.check("000000020000001600000003".parse().unwrap(), 16 << 20).unwrap();
    }

    #[test]
    fn every_version_from_9_3_to_18_is_known_by_its_number() {
        let known = (0..=u16::MAX).filter_map(|magic| Some((magic, WalMagic(magic).version()?)));
        let expected = [
            (0xD075, "9.3"),
            (0xD07E, "9.4"),
            (0xD087, "9.5"),
            (0xD093, "9.6"),
            (0xD097, "10"),
            (0xD098, "11"),
            (0xD101, "12"),
            (0xD106, "13"),
            (0xD10D, "14"),
            (0xD110, "15"),
            (0xD113, "16"),
            (0xD116, "17"),
            (0xD118, "18"),
        ];
        assert_eq!(known.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn pages_have_1_to_64_kib() {
        let sizes = (0..32).map(|power| 1u32 << power);
        let legal: Vec<u32> = sizes.filter(|size| with(36, &size.to_ne_bytes()).is_ok()).collect();
        assert_eq!(legal, (10..=16).map(|power| 1 << power).collect::<Vec<u32>>());
    }

    #[test]
    fn a_newer_server_is_accepted() {
        assert_eq!(with(0, &0xD119u16.to_ne_bytes()).unwrap().magic.version(), None);
        assert_eq!(with(0, &0xD200u16.to_ne_bytes()).unwrap().magic.version(), None);
    }

    #[test]
    fn malformed_headers_are_refused() {
        assert_eq!(LongPageHeader::parse(&[]), Err(PageError::Short(0)));
        assert_eq!(LongPageHeader::parse(&page()[..39]), Err(PageError::Short(39)));
        assert!(matches!(LongPageHeader::parse(&[0; 40]), Err(PageError::NotWal(..))));
        assert!(matches!(with(0, &0x1234u16.to_ne_bytes()), Err(PageError::NotWal(..))));
        assert!(matches!(with(2, &0x0001u16.to_ne_bytes()), Err(PageError::NotWal(..))));
        assert!(matches!(with(4, &[0; 4]), Err(PageError::Impossible("timeline"))));
        assert!(matches!(with(24, &[0; 8]), Err(PageError::Impossible("system identifier"))));
        assert!(matches!(with(32, &12345u32.to_ne_bytes()), Err(PageError::SegmentSize(_))));
        assert!(matches!(with(36, &[0; 4]), Err(PageError::Impossible("page size"))));
    }

    #[test]
    fn a_page_of_another_segment_is_refused() {
        let header = LongPageHeader::parse(&page()).unwrap();
        let check = |name: &str, bytes| header.check(name.parse().unwrap(), bytes);
        assert!(matches!(check("000000020000001600000004", 16 << 20), Err(PageError::Address { .. })));
        assert!(matches!(check("000000020000001600000103", 16 << 20), Err(PageError::Address { .. })));
        assert!(matches!(check("000000010000001600000003", 16 << 20), Err(PageError::Timeline { .. })));
        assert!(matches!(check("000000020000001600000003", 1 << 20), Err(PageError::Length { .. })));
        assert!(matches!(
            header.check_system(SystemIdentifier::new(1).unwrap()),
            Err(PageError::System { .. })
        ));
    }

    #[test]
    fn the_first_segment_of_a_timeline_may_start_with_pages_of_its_parent() {
        let header = LongPageHeader::parse(&page()).unwrap();
        assert_eq!(header.check("000000030000001600000003".parse().unwrap(), 16 << 20), Ok(()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = LongPageHeader::parse(&bytes);
        }
    }
}
