//! Base backups that stay, with the reasons.

use std::fmt;

use crate::coverage::BackupState;
use crate::wal::TimelineId;

/// A base backup that stays: what a policy decides about it, whatever is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBackup {
    /// The backup, with its state.
    pub state: BackupState,
    /// All reasons.
    pub why: Vec<Why>,
}

/// A reason to keep a base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is one of the newest backups.
    Redundancy {
        /// Its rank: 1 is the newest.
        rank: usize,
        /// Number of backups to keep.
        of: usize,
    },
    /// It ended within the recovery window.
    InWindow,
    /// It is the last one before the recovery window. Only this backup recovers the first moments of the window.
    BeforeWindow,
    /// It is the last one before the recovery window that leads to this timeline, which was written within the
    /// window. The last backup of all may be on a timeline that was given up later.
    LeadsTo(TimelineId),
    /// It is the newest one that leads to the end of this timeline, which is the newest or was written recently. The
    /// newest backup of all may be on a timeline that was given up later.
    OnlyWay(TimelineId),
    /// Its files were found where base backups are kept.
    StillThere,
    /// No policy keeps it, or it lacks WAL and does not count, but all WAL that it needs stays for other reasons.
    AfterOldestKept,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redundancy { rank: 1, of } => write!(f, "the newest of {of}"),
            Self::Redundancy { rank, of } => write!(f, "number {rank} of the newest {of}"),
            Self::InWindow => f.write_str("within the recovery window"),
            Self::BeforeWindow => f.write_str("the last one before the recovery window"),
            Self::LeadsTo(timeline) => {
                write!(f, "the last one before the recovery window that leads to timeline {timeline}")
            }
            Self::OnlyWay(timeline) => {
                write!(f, "the newest that leads to the end of timeline {timeline}")
            }
            Self::StillThere => f.write_str("its files are still there"),
            Self::AfterOldestKept => f.write_str("not asked for, but others need all that it does"),
        }
    }
}
