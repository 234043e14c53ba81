//! `--before`: the oldest WAL to keep, given by name, as for `pg_archivecleanup`.

use std::fmt;
use std::str::FromStr;

use crate::wal::{NameError, SegmentName, WalName};

/// Value of `--before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Deletes what comes before this segment.
    Segment(SegmentName),
    /// Deletes nothing.
    Nothing,
}

/// Value of a standby's `%r` while it needs all WAL.
const ALL_OF_IT: &str = "000000000000000000000000";

/// Error from parsing `--before`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeforeError {
    /// The text is not the name of a WAL file.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The name is that of a timeline history file, which has no position in the WAL.
    #[error("{0} has no place in the log; name a segment, a .partial or a .backup file")]
    History(WalName),
}

impl FromStr for Before {
    type Err = BeforeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == ALL_OF_IT {
            return Ok(Self::Nothing);
        }
        match text.parse()? {
            WalName::Segment(segment) | WalName::Partial(segment) | WalName::Backup { segment, .. } => {
                Ok(Self::Segment(segment))
            }
            name @ WalName::History(_) => Err(BeforeError::History(name)),
        }
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Nothing => f.write_str(ALL_OF_IT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SegmentName {
        text.parse().unwrap()
    }

    #[test]
    fn any_name_with_a_position_in_the_wal_is_accepted() {
        let segment = Before::Segment(name("00000001000000000000000A"));
        for text in [
            "00000001000000000000000A",
            "00000001000000000000000A.partial",
            "00000001000000000000000A.00000028.backup",
        ] {
            assert_eq!(text.parse(), Ok(segment), "{text}");
        }
        assert_eq!("000000000000000000000000".parse(), Ok(Before::Nothing));
        assert!(matches!("00000002.history".parse::<Before>(), Err(BeforeError::History(_))));
        for text in ["", "0", "000000000000000000000001", "00000001000000000000000A.gz"] {
            assert!(matches!(text.parse::<Before>(), Err(BeforeError::Name(_))), "{text}");
        }
    }
}
