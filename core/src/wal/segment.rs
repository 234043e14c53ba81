//! WAL segments: sizes, names, and the arithmetic between the two.
//!
//! With n = 2^32 / segment size, segment number s of a timeline has the name `%08X%08X%08X` of timeline, s / n, s % n
//! (`XLogFileName` in `access/xlog_internal.h`). A name does not determine the size, so functions about order or
//! position take the size as an argument.

use std::fmt;
use std::str::FromStr;

use super::{Lsn, NameError, TimelineId, parse_name_field};

/// The size of a cluster's WAL segments in bytes: a power of two from 1 MiB to 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSize(u32);

/// Error for a number of bytes that is not a WAL segment size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes is not a WAL segment size (a power of two from 1 MB to 1 GB)")]
pub struct SegmentSizeError(u64);

impl SegmentSize {
    /// The smallest size, 1 MiB.
    pub const MIN: Self = Self(1 << 20);
    /// The largest size, 1 GiB.
    pub const MAX: Self = Self(1 << 30);
    /// The default size of initdb, 16 MiB.
    pub const DEFAULT: Self = Self(16 << 20);

    /// Creates a size from a number of bytes.
    pub fn new(bytes: u64) -> Result<Self, SegmentSizeError> {
        match u32::try_from(bytes) {
            Ok(b) if b.is_power_of_two() && (Self::MIN.0..=Self::MAX.0).contains(&b) => Ok(Self(b)),
            _ => Err(SegmentSizeError(bytes)),
        }
    }

    /// Returns the only size for which the segment `name` contains `position`. Returns `None` if no size fits or, as
    /// at the very beginning of the WAL, several do.
    #[must_use]
    pub fn implied_by(position: Lsn, name: SegmentName) -> Option<Self> {
        let sizes =
            (Self::MIN.0.trailing_zeros()..=Self::MAX.0.trailing_zeros()).map(|power| Self(1 << power));
        let mut fitting =
            sizes.filter(|size| SegmentName::containing(name.timeline, position, *size) == Some(name));
        fitting.next().filter(|_| fitting.next().is_none())
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Returns the number of segments that share the middle third of a name: 4096 of 1 MiB, 256 of 16 MiB, 4 of 1
    /// GiB.
    #[must_use]
    pub fn segments_per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

/// The name of a WAL segment: 24 upper-case hexadecimal digits.
///
/// The derived order is that of the names as text. It is no order of age across timelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    timeline: TimelineId,
    log: u32,
    segment: u32,
}

impl fmt::Display for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB", self.bytes() >> 20)
    }
}

impl SegmentName {
    /// Returns the name of segment `number` of a timeline; `None` if its positions exceed 64 bits.
    #[must_use]
    pub fn from_number(timeline: TimelineId, number: u64, size: SegmentSize) -> Option<Self> {
        let log = u32::try_from(number / size.segments_per_log()).ok()?;
        let segment = u32::try_from(number % size.segments_per_log()).ok()?;
        Some(Self { timeline, log, segment })
    }

    /// Returns the name of the segment that contains `position`.
    #[must_use]
    pub fn containing(timeline: TimelineId, position: Lsn, size: SegmentSize) -> Option<Self> {
        Self::from_number(timeline, position.0 / size.bytes(), size)
    }

    /// Returns the segment's timeline.
    #[must_use]
    pub fn timeline(self) -> TimelineId {
        self.timeline
    }

    /// Returns the segment's number, counted from position 0; `None` if no segment of that size has this name.
    #[must_use]
    pub fn number(self, size: SegmentSize) -> Option<u64> {
        let per_log = size.segments_per_log();
        (u64::from(self.segment) < per_log).then(|| u64::from(self.log) * per_log + u64::from(self.segment))
    }

    /// Returns the position of the segment's first byte; `None` if no segment of that size has this name.
    #[must_use]
    pub fn start(self, size: SegmentSize) -> Option<Lsn> {
        Some(Lsn(self.number(size)? * size.bytes()))
    }

    /// Returns a number that orders segments by position, for any segment size. It does not depend on the timeline.
    #[must_use]
    pub fn order(self) -> u64 {
        (u64::from(self.log) << 32) + u64::from(self.segment)
    }

    /// Returns the name of the next segment on the same timeline.
    #[must_use]
    pub fn next(self, size: SegmentSize) -> Option<Self> {
        Self::from_number(self.timeline, self.number(size)? + 1, size)
    }

    /// Returns the first 16 digits of the name, which up to 4096 segments share.
    #[must_use]
    pub fn group(self) -> String {
        format!("{:08X}{:08X}", self.timeline.get(), self.log)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.get(), self.log, self.segment)
    }
}

impl FromStr for SegmentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let field = |range| text.get(range).and_then(parse_name_field);
        match (text.len(), field(0..8).and_then(TimelineId::new), field(8..16), field(16..24)) {
            (24, Some(timeline), Some(log), Some(segment)) => Ok(Self { timeline, log, segment }),
            _ => Err(NameError::new(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(megabytes: u64) -> SegmentSize {
        SegmentSize::new(megabytes << 20).unwrap()
    }

    fn name(text: &str) -> SegmentName {
        text.parse().unwrap()
    }

    #[test]
    fn only_powers_of_two_from_one_megabyte_to_one_gigabyte_are_sizes() {
        let legal: Vec<u64> = (0..=40).map(|p| 1 << p).filter(|b| SegmentSize::new(*b).is_ok()).collect();
        assert_eq!(legal, (20..=30).map(|p| 1 << p).collect::<Vec<u64>>());
        for bytes in [0, 1, (1 << 20) - 1, (1 << 20) + 1, 3 << 20, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            assert!(SegmentSize::new(bytes).is_err(), "{bytes}");
        }
    }

    #[test]
    fn the_middle_third_of_a_name_counts_up_after_4_gib() {
        assert_eq!(
            name("0000000100000000000000FF").next(size(16)),
            Some(name("000000010000000100000000")),
            "256 segments of 16 MB"
        );
        assert_eq!(name("0000000100000000000000FF").next(size(1)), Some(name("000000010000000000000100")));
        assert_eq!(name("000000010000000000000FFF").next(size(1)), Some(name("000000010000000100000000")));
        assert_eq!(name("00000001000000000000003F").next(size(64)), Some(name("000000010000000100000000")));
        assert_eq!(name("000000010000000000000003").next(size(1024)), Some(name("000000010000000100000000")));
        assert_eq!(name("00000001FFFFFFFF00000003").next(size(1024)), None, "the log ends there");
    }

    #[test]
    fn segments_are_ordered_by_position_on_any_timeline_and_grouped_by_timeline_and_log() {
        let in_order = ["000000090000000000000001", "0000000100000000000000FF", "000000020000000100000000"];
        assert!(in_order.map(|text| name(text).order()).is_sorted_by(|one, next| one < next));
        assert_eq!(name("000000010000000100000000").order(), name("000000020000000100000000").order());
        assert_eq!(name("0000000A00000016000000FF").group(), "0000000A00000016");
    }

    #[test]
    fn a_name_of_another_segment_size_has_no_number() {
        assert_eq!(name("000000010000000000000100").number(size(16)), None);
        assert_eq!(name("000000010000000000000100").number(size(1)), Some(0x100));
    }

    #[test]
    fn the_start_is_the_address_of_the_first_page() {
        assert_eq!(name("0000000A0000001600000003").start(size(16)), Some(Lsn(0x16_0300_0000)));
        assert_eq!(name("0000000A0000001600000003").start(size(1024)), Some(Lsn(0x16_C000_0000)));
    }

    #[test]
    fn a_position_and_the_name_of_its_segment_determine_the_size() {
        let implied = |position, of| SegmentSize::implied_by(Lsn(position), name(of));
        assert_eq!(implied(0xB0_0028, "00000001000000000000000B"), Some(size(1)));
        assert_eq!(implied(0xB00_0028, "00000001000000000000000B"), Some(size(16)));
        assert_eq!(implied(0x1_C000_0028, "000000020000000100000003"), Some(size(1024)));
        assert_eq!(implied(0x1_0000_0028, "000000020000000100000000"), None, "of any size");
        assert_eq!(
            implied(0x1_2000_0028, "000000020000000100000000"),
            Some(size(1024)),
            "of the largest alone"
        );
        assert_eq!(implied(0x1_0100_0028, "000000010000000000000001"), None, "of none");
    }

    fn sizes() -> impl Strategy<Value = SegmentSize> {
        (20u32..=30).prop_map(|power| SegmentSize::new(1 << power).unwrap())
    }

    proptest! {
        #[test]
        fn no_wrong_size_is_determined(size in sizes(), position: u64) {
            let name = SegmentName::containing(TimelineId::new(1).unwrap(), Lsn(position), size).unwrap();
            let implied = SegmentSize::implied_by(Lsn(position), name);
            prop_assert_eq!(implied.unwrap_or(size), size);
            prop_assert!(implied.is_some() || name.segment == 0);
        }

        #[test]
        fn names_and_numbers_survive_the_round_trip(size in sizes(), timeline in 1u32.., position: u64) {
            let timeline = TimelineId::new(timeline).unwrap();
            let number = position / size.bytes();
            let name = SegmentName::containing(timeline, Lsn(position), size).unwrap();
            prop_assert_eq!(name.number(size), Some(number));
            prop_assert_eq!(name.start(size), Some(Lsn(position - position % size.bytes())));
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert_eq!(name.timeline(), timeline);
            prop_assert!(name.to_string().starts_with(&name.group()));
        }

        #[test]
        fn the_next_segment_starts_where_this_one_ends(size in sizes(), position in 0..u64::MAX - (1 << 30)) {
            let name = SegmentName::containing(TimelineId::new(1).unwrap(), Lsn(position), size).unwrap();
            let next = name.next(size).unwrap();
            prop_assert_eq!(next.start(size).unwrap().0, name.start(size).unwrap().0 + size.bytes());
            prop_assert!(next > name, "on one timeline the order of names is the order of positions");
        }
    }
}
