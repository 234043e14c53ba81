//! Which base backups stay, and why.

use std::fmt;

use super::Backup;
use crate::wal::TimelineId;

/// A backup that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBackup {
    /// The backup.
    pub backup: Backup,
    /// All the reasons.
    pub why: Vec<Why>,
}

/// Why a backup stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is one of the newest, the first being the newest of all.
    Redundancy {
        /// Which of them.
        place: usize,
        /// Of how many.
        of: usize,
    },
    /// It ended within the recovery window.
    InWindow,
    /// It is the last one before the recovery window, whose first moments only it can recover.
    BeforeWindow,
    /// It is the last one before the recovery window from which that timeline can be reached, on which something was written
    /// within the window. The last one of all may have been taken on a timeline that was given up later.
    LeadsTo(TimelineId),
    /// It is the newest one from which the end of that timeline can be reached, which is the newest one or was written on
    /// lately. The newest backup of all may have been taken on a timeline that was given up later.
    OnlyWay(TimelineId),
    /// Its files were found where base backups are kept.
    StillThere,
    /// No policy wants it, or it lacks WAL and is not counted, but what it needs stays for the sake of others.
    AfterBoundary,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redundancy { place: 1, of } => write!(f, "the newest of {of}"),
            Self::Redundancy { place, of } => write!(f, "number {place} of the newest {of}"),
            Self::InWindow => f.write_str("within the recovery window"),
            Self::BeforeWindow => f.write_str("the last one before the recovery window"),
            Self::LeadsTo(timeline) => {
                write!(f, "the last one before the recovery window that leads to timeline {timeline}")
            }
            Self::OnlyWay(timeline) => {
                write!(f, "the newest that leads to the end of timeline {timeline}")
            }
            Self::StillThere => f.write_str("its files are still there"),
            Self::AfterBoundary => f.write_str("not asked for, but others need all that it does"),
        }
    }
}
