//! How well an archive keeps up with its server, and what could be recovered from it: for those who watch.
//!
//! It is asked every minute or so, so it never lists the whole archive: of the segments, only the newest group of each
//! timeline. What only a listing would tell is taken from what the last prune and the last verification have noted.

mod backlog;

use jiff::{SignedDuration, Timestamp};

use crate::archive::{Archive, ArchivedFile};
use crate::blocking::blocking;
use crate::catalog::{
    ArchivedBackup, PruneReport, Reading, Texts, Totals, VerifyReport, says_something_of_the_file, texts,
};
use crate::cluster::DataDirectory;
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier, WalName};

pub use backlog::Backlog;

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
    pub oldest_backup: Option<ArchivedBackup>,
    /// How many base backups are known, and how many of them lack their first segment.
    pub backups: (usize, usize),
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

    /// From when until when the cluster can be recovered to any moment, if nothing is missing in between.
    #[must_use]
    pub fn window(&self) -> Option<(Timestamp, Timestamp)> {
        let start = self.oldest_backup.as_ref()?.archived_at;
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

/// Asks the archive.
pub async fn ask(
    archive: &Archive,
    system: SystemIdentifier,
    data: Option<DataDirectory>,
    reading: Reading,
) -> Result<ArchiveStatus, Error> {
    let newest = reading.patiently(async || archive.newest_segments(system).await).await?;
    let Texts { histories, backups, unreadable, .. } = texts(archive, system, reading).await?;
    if newest.is_empty() && histories.is_empty() && backups.is_empty() && unreadable.is_empty() {
        let what = format!("the archive {} holds no file of system {system}", archive.url());
        return Err(Error::new(ErrorKind::Unavailable, what)
            .hint("is it mounted, is it this cluster's archive, and has anything been archived yet?"));
    }
    let mut unreadable: Vec<String> =
        unreadable.iter().map(|(name, error)| format!("{name}: {}", error.report())).collect();
    let prune = reading.patiently(async || PruneReport::read(archive, system).await).await;
    let prune = known(prune, &mut unreadable)?;
    let verify = reading.patiently(async || VerifyReport::read(archive, system).await).await;
    let verify = known(verify, &mut unreadable)?;
    let (number, oldest, gone) = oldest_backup(archive, system, backups, reading).await?;
    let unarchived = match data {
        // After the archive was asked: what was archived meanwhile has not waited for long.
        Some(data) => {
            let newest = newest.clone();
            blocking(move || backlog::unarchived(&data, system, &newest)).await
        }
        None => None,
    };
    Ok(ArchiveStatus {
        newest,
        oldest_backup: oldest,
        backups: (number, gone),
        prune,
        verify,
        unreadable,
        unarchived,
    })
}

/// What was read, if it could be; what cannot be made sense of is noted, and no failure.
fn known<T>(read: Result<Option<T>, Error>, unreadable: &mut Vec<String>) -> Result<Option<T>, Error> {
    match read {
        Err(error) if says_something_of_the_file(error.kind()) => {
            unreadable.push(error.report());
            Ok(None)
        }
        read => read,
    }
}

/// How many backups there are, the oldest one whose first segment is there, and how many older ones lack theirs.
async fn oldest_backup(
    archive: &Archive,
    system: SystemIdentifier,
    mut backups: Vec<ArchivedBackup>,
    reading: Reading,
) -> Result<(usize, Option<ArchivedBackup>, usize), Error> {
    let number = backups.len();
    backups.sort_by_key(|backup| (backup.archived_at, backup.history.start_segment.order()));
    for (gone, backup) in backups.into_iter().enumerate() {
        let first = WalName::Segment(backup.history.start_segment);
        if reading.patiently(async || archive.holds(system, first).await).await? {
            return Ok((number, Some(backup), gone));
        }
    }
    Ok((number, None, number))
}
