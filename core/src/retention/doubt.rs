//! Why nothing may be deleted.

use std::fmt;

use jiff::Timestamp;

use crate::wal::{SegmentName, TimelineId};

/// Why nothing may be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// The policy goes by backups, and there is no complete one that could be kept.
    NoBackup {
        /// How many there are that lack WAL which they need.
        incomplete: usize,
    },
    /// Something is from after this moment, so one of two clocks is wrong.
    FromTheFuture {
        /// What it is.
        what: String,
        /// When it was made.
        since: Timestamp,
    },
    /// The policy is for archives without base backups, and there are some.
    HasBackups(usize),
    /// Nothing has been archived for as long as the recovery window, so archiving has stopped or a clock is wrong.
    NothingNew {
        /// Since when the newest file is there.
        newest: Timestamp,
        /// The recovery window.
        days: u32,
    },
    /// A backup of an older timeline may be the only one that leads to a timeline, and nothing says where that one began.
    UnknownWay(TimelineId),
    /// No complete backup would be left.
    TakesLastBackup {
        /// The newest one that there is.
        title: String,
    },
    /// No complete backup would be left that leads to an end of the log that is wanted.
    TakesWay {
        /// The newest one that does.
        title: String,
        /// The timeline that ends there.
        to: TimelineId,
    },
    /// All is to be kept from a segment on that is behind the end of the log.
    BehindTheEnd {
        /// That segment.
        before: SegmentName,
        /// The last one that is archived.
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
