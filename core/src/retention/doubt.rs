//! Reasons to delete nothing.

use std::fmt;

use jiff::Timestamp;

use crate::wal::{SegmentName, TimelineId};

/// A reason to delete nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// The policy depends on backups, and no complete one could be kept.
    NoBackup {
        /// Number of backups that lack WAL.
        incomplete: usize,
    },
    /// A file or backup has a time in the future, so one of two clocks is wrong.
    FromTheFuture {
        /// Name of the file or backup.
        what: String,
        /// Its time.
        since: Timestamp,
    },
    /// The policy is for archives without base backups, and there are this many.
    HasBackups(usize),
    /// Nothing was archived for as long as the recovery window: archiving has stopped, or a clock is wrong.
    NothingNew {
        /// Archiving time of the newest file.
        newest: Timestamp,
        /// Recovery window in days.
        days: u32,
    },
    /// A backup of an older timeline may be the only one that leads to this timeline, whose start is unknown.
    UnknownWay(TimelineId),
    /// No complete backup would be left.
    TakesLastBackup {
        /// Name of the newest one.
        title: String,
    },
    /// No complete backup would be left that leads to a wanted end of the WAL.
    TakesWay {
        /// Name of the newest one that leads there.
        title: String,
        /// Timeline that ends there.
        to: TimelineId,
    },
    /// The oldest WAL to keep lies after the end of the WAL.
    BehindTheEnd {
        /// Segment from which all is to be kept.
        before: SegmentName,
        /// Last archived segment.
        last: SegmentName,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackup { incomplete: 0 } => f.write_str("no base backup was found"),
            Self::NoBackup { incomplete } => {
                write!(f, "no complete base backup was found, but {incomplete} that lack WAL")
            }
            Self::FromTheFuture { what, since } => {
                write!(f, "{what} is of {since}, which has not come yet: a clock is wrong")
            }
            Self::HasBackups(number) => {
                write!(f, "there are {number} base backups, which a limit by age would not look at")
            }
            Self::NothingNew { newest, days } => write!(
                f,
                "nothing has been archived since {newest}, for longer than the days that are to be kept ({days}): \
                 archiving has stopped, or a clock is wrong"
            ),
            Self::UnknownWay(timeline) => write!(
                f,
                "nothing says where timeline {timeline} began, and so which base backups lead there: {:08X}.history is \
                 missing",
                timeline.get()
            ),
            Self::TakesLastBackup { title } => {
                write!(
                    f,
                    "no complete base backup would be left: the newest one, {title}, would lose its WAL"
                )
            }
            Self::TakesWay { title, to } => write!(
                f,
                "no complete base backup would be left that leads to the end of timeline {to}: {title} would lose its WAL"
            ),
            Self::BehindTheEnd { before, last } => {
                write!(
                    f,
                    "{before} is behind the end of the log: the last segment that is archived is {last}"
                )
            }
        }
    }
}
