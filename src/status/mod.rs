//! How well an archive keeps up with its server, and what could be recovered from it: for those who watch.
//!
//! It is asked every minute or so, so it never lists the whole archive: of the segments, only the newest group of each
//! timeline. What only a listing would tell is taken from what the last prune and the last verification have noted.

mod backlog;
mod forks;
mod gather;
mod look;
mod standby;

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::archive::ArchivedFile;
use crate::blocking::blocking;
use crate::catalog::{KnownBackup, Labels, PruneReport, Totals, VerifyReport};
use crate::cluster::DataDirectory;
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier};

pub use backlog::{Backlog, unarchived};
pub use forks::{Hole, Parallel, WithoutHistory};
pub use gather::{ask, ask_if_any};
pub use standby::Standby;

/// All that is told.
#[derive(Debug)]
pub struct Status {
    /// The cluster, where it is known.
    pub system: Option<SystemIdentifier>,
    /// The moment at which it was looked.
    pub at: Timestamp,
    /// What waits to be archived; none where no data directory was named.
    pub backlog: Option<Result<Backlog, Error>>,
    /// What the archive says, or why it cannot be asked.
    pub archive: Result<ArchiveStatus, Error>,
}

/// What an archive says of a cluster.
#[derive(Debug, Default)]
pub struct ArchiveStatus {
    /// The newest segment of each timeline, in the order of timelines.
    pub newest: Vec<ArchivedFile>,
    /// The oldest base backup that can be recovered, as far as its first segment tells.
    pub oldest_backup: Option<KnownBackup>,
    /// The newest one.
    pub newest_backup: Option<KnownBackup>,
    /// How many base backups are known, and how many of the oldest lack their first segment.
    pub backups: (usize, usize),
    /// What is missing on the way to the newest timeline, right before each place where a timeline was left.
    pub holes: Vec<Hole>,
    /// The timelines that were written on after the newest one, or one on the way to it, had begun.
    pub parallel: Vec<Parallel>,
    /// The timeline of a server that was looked at, if the archive lacks its history file.
    pub without_history: Option<WithoutHistory>,
    /// What a server that was looked at needs of the archive, if it recovers.
    pub standby: Option<Standby>,
    /// The last prune.
    pub prune: Option<PruneReport>,
    /// The last verification.
    pub verify: Option<VerifyReport>,
    /// What cannot be read, and why.
    pub unreadable: Vec<String>,
    /// Of a server that was looked at: the segments that it has finished and the archive does not have.
    pub unarchived: Option<Unarchived>,
}

/// Segments that a server has finished and the archive does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unarchived {
    /// The oldest of them.
    pub first: SegmentName,
    /// When it was finished.
    pub since: Timestamp,
    /// How many there are.
    pub segments: u64,
}

impl Status {
    /// What waits in the data directory, if that is known.
    #[must_use]
    pub fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_ref()?.as_ref().ok()
    }

    /// How long ago that was. Clocks may differ, but nothing is from the future.
    #[must_use]
    pub fn age(&self, since: Timestamp) -> SignedDuration {
        self.at.duration_since(since).max(SignedDuration::ZERO)
    }

    /// How far the archive lags behind the server: what would be lost with the server, as time.
    ///
    /// Where the server's data directory was looked at, that is for how long the oldest finished file has been waiting:
    /// nothing where none waits, so a server that is idle does not lag, however old its newest segment is. Elsewhere it is
    /// the age of the newest segment of the newest timeline.
    #[must_use]
    pub fn lag(&self) -> Option<SignedDuration> {
        let archive = self.archive.as_ref().ok()?;
        if self.backlog.is_none() {
            return archive.newest().map(|newest| self.age(newest.since));
        }
        let waiting = [self.backlog()?.oldest, archive.unarchived.map(|unarchived| unarchived.since)];
        let oldest = waiting.into_iter().flatten().min();
        Some(oldest.map_or(SignedDuration::ZERO, |oldest| self.age(oldest)))
    }
}

impl ArchiveStatus {
    /// The newest segment of the newest timeline.
    #[must_use]
    pub fn newest(&self) -> Option<&ArchivedFile> {
        self.newest.last()
    }

    /// From when on the cluster can be recovered to any moment, if nothing is missing; and when the last segment was archived.
    /// The last commit in that is older, and no target after it is ever reached.
    #[must_use]
    pub fn window(&self) -> Option<(Timestamp, Timestamp)> {
        let start = self.oldest_backup.as_ref()?.ended;
        // A backup history file is archived a moment after the segment in which the backup ends.
        Some((start, self.newest()?.since.max(start)))
    }

    /// What is in the archive, as of when, and which command has counted it.
    #[must_use]
    pub fn totals(&self) -> Option<(Totals, Timestamp, &'static str)> {
        let prune = self.prune.as_ref().and_then(|report| Some((report.totals?, report.at, "prune")));
        let verify = self.verify.as_ref().and_then(|report| Some((report.totals?, report.at, "verify")));
        prune.into_iter().chain(verify).max_by_key(|(_, at, _)| *at)
    }
}

/// Looks at what waits in a data directory, whose cluster must be `system` where that is given; and whose it is.
pub async fn look_at(
    data: DataDirectory,
    system: Option<SystemIdentifier>,
) -> Result<(SystemIdentifier, Result<Backlog, Error>), Error> {
    blocking(move || {
        let path = data.path().display();
        let whose = data.system_identifier()?.ok_or_else(|| {
            Error::new(ErrorKind::Local, format!("there is no global/pg_control in {path}"))
                .hint("is it the server's data directory, and mounted?")
        })?;
        if let Some(expected) = system.filter(|expected| *expected != whose) {
            let what = format!("the data directory {path} is of system {whose}, not of {expected}");
            return Err(Error::new(ErrorKind::Configuration, what).hint("leave --system-identifier out"));
        }
        Ok((whose, Backlog::of(&data)))
    })
    .await
}

/// What is looked at besides the archive.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The data directory of a server.
    pub data: Option<DataDirectory>,
    /// Directories in which base backups are kept.
    pub backup_directories: Vec<PathBuf>,
    /// The labels of the base backups in the archive that count.
    pub labels: Labels,
}
