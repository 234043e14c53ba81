//! Names of the four kinds of file that PostgreSQL passes to `archive_command`.

use std::fmt;
use std::str::FromStr;

use super::{SegmentName, TimelineId, parse_name_field};

/// The name of a WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalName {
    /// A complete segment, `000000010000000A000000FF`.
    Segment(SegmentName),
    /// The last, incomplete segment of a timeline before a promotion, `000000010000000A000000FF.partial`.
    Partial(SegmentName),
    /// A timeline history file, `00000002.history`.
    History(TimelineId),
    /// A backup history file, `000000010000000A000000FF.00000028.backup`.
    Backup {
        /// Segment in which the base backup starts.
        segment: SegmentName,
        /// Offset of the start in the segment, in bytes.
        offset: u32,
    },
}

/// Error from parsing a name: the text is none of the four kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not the name of a WAL file (a segment such as 00000001000000000000002A, the same with .partial \
     or .00000028.backup, or 00000002.history)"
)]
pub struct NameError(String);

impl NameError {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl WalName {
    /// Returns the segment whose WAL this file contains, whole or in part; `None` for the two kinds of text file.
    #[must_use]
    pub fn segment(self) -> Option<SegmentName> {
        match self {
            Self::Segment(segment) | Self::Partial(segment) => Some(segment),
            Self::History(_) | Self::Backup { .. } => None,
        }
    }

    /// Returns the timeline of the file. For a history file, that is the timeline which begins there.
    #[must_use]
    pub fn timeline(self) -> TimelineId {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::Backup { segment, .. } => {
                segment.timeline()
            }
            Self::History(timeline) => timeline,
        }
    }

    /// Returns the key by which the server sorts the files that it has to archive: timeline history files first, then
    /// by name (`pgarch_readyXlog` in `pgarch.c`).
    #[must_use]
    pub fn archiving_order(self) -> (bool, String) {
        (!matches!(self, Self::History(_)), self.to_string())
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => write!(f, "{segment}"),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::History(timeline) => write!(f, "{:08X}.history", timeline.get()),
            Self::Backup { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| NameError::new(text))
    }
}

fn parse(text: &str) -> Option<WalName> {
    match text.split_once('.') {
        None => Some(WalName::Segment(text.parse().ok()?)),
        Some((stem, "partial")) => Some(WalName::Partial(stem.parse().ok()?)),
        Some((stem, "history")) => Some(WalName::History(TimelineId::new(parse_name_field(stem)?)?)),
        Some((stem, rest)) => {
            let offset = parse_name_field(rest.strip_suffix(".backup")?)?;
            Some(WalName::Backup { segment: stem.parse().ok()?, offset })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_four_kinds_are_read() {
        let segment: SegmentName = "0000000A000000160000003C".parse().unwrap();
        let cases = [
            ("0000000A000000160000003C", WalName::Segment(segment)),
            ("0000000A000000160000003C.partial", WalName::Partial(segment)),
            ("0000000A.history", WalName::History(TimelineId::new(10).unwrap())),
            ("0000000A000000160000003C.00C00028.backup", WalName::Backup { segment, offset: 0x00C0_0028 }),
        ];
        for (text, name) in cases {
            assert_eq!(text.parse(), Ok(name));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn a_name_says_of_which_timeline_it_is_and_of_which_segment_if_it_has_wal() {
        let of = |text: &str| {
            let name: WalName = text.parse().unwrap();
            (name.timeline().get(), name.segment().map(|segment| segment.to_string()))
        };
        let segment = Some("0000000A000000160000003C".to_owned());
        assert_eq!(of("0000000A000000160000003C"), (10, segment.clone()));
        assert_eq!(of("0000000A000000160000003C.partial"), (10, segment));
        assert_eq!(of("0000000A000000160000003C.00C00028.backup"), (10, None));
        assert_eq!(of("0000000B.history"), (11, None));
    }

    #[test]
    fn history_files_are_archived_first_and_the_others_by_name() {
        let in_order = [
            "00000002.history",
            "00000003.history",
            "000000010000000000000005",
            "000000010000000000000005.00000028.backup",
            "000000010000000000000006.partial",
            "000000020000000000000006",
        ];
        let mut names = in_order.map(|text| text.parse::<WalName>().unwrap());
        names.reverse();
        names.sort_by_key(|name| name.archiving_order());
        assert_eq!(names.map(|name| name.to_string()), in_order);
    }

    #[test]
    fn malformed_names_are_refused() {
        let refused = [
            "",
            ".",
            ".history",
            ".partial",
            "00000001",
            "00000000.history",
            "0000000a.history",
            "000000001.history",
            "00000001.history.tmp",
            "00000001.History",
            "000000000000000100000002",
            "00000001000000000000000",
            "0000000100000000000000010",
            "00000001000000000000000g",
            "0000000100000000000000ff",
            "+00000010000000000000001",
            "000000010000000000000001 ",
            " 000000010000000000000001",
            "000000010000000000000001\n",
            "000000010000000000000001.",
            "000000010000000000000001.gz",
            "000000010000000000000001.Partial",
            "000000010000000000000001.partial.partial",
            "000000010000000000000001.0000028.backup",
            "000000010000000000000001.000000028.backup",
            "000000010000000000000001.00000028.backup.partial",
            "000000010000000000000001.backup",
            "000000010000000000000001..backup",
            "../00000001000000000000/",
            "/00000010000000000000001",
            "00000001000000000000000\u{e9}",
            "RECOVERYXLOG",
        ];
        for text in refused {
            assert!(text.parse::<WalName>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_name_survives_the_round_trip(text in "[0-9A-Fa-f]{8}([0-9A-F]{16})?(\\.(partial|history|[0-9A-F]{8}\\.backup|[a-z]{0,7}))?") {
            if let Ok(name) = text.parse::<WalName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,48}") {
            let _ = text.parse::<WalName>();
        }
    }
}
