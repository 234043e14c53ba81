//! Base backups that are kept elsewhere: directories that `pg_basebackup` has filled, as files or as tar archives.
//!
//! What says where a backup begins is its `backup_label` (`do_pg_backup_start` in `access/transam/xlogbackup.c`); where it
//! ends, its `backup_manifest`, which version 13 and later write. Without one, a standby's ends where its `pg_control` says that
//! data is consistent, and only the archive tells the end of a primary's.

mod directory;
mod manifest;
mod owner;
mod packed;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::coverage::Origin;
use crate::error::{Error, ErrorKind};
use crate::wal::{BackupHistory, Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineId};

use directory::{Content, look_into};

/// A base backup outside of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupElsewhere {
    /// The directory it is in.
    pub place: PathBuf,
    /// The segment in which its replay starts.
    pub start_segment: SegmentName,
    /// Where in that.
    pub start: Lsn,
    /// What replay must reach, and on which timeline, where that is known.
    pub stop: Option<(TimelineId, Lsn)>,
    /// Whether a standby gave it, as far as its files tell.
    pub from_standby: bool,
    /// When it had ended: when the last of the files that say so was written.
    pub ended: Timestamp,
}

impl BackupElsewhere {
    /// Whether that is its backup history file. A standby's has none, and may begin where a primary's does.
    #[must_use]
    pub fn is(&self, history: &BackupHistory) -> bool {
        !self.from_standby
            && (self.start_segment, self.start) == (history.start_segment, history.start)
            && self.stop.is_none_or(|(_, stop)| history.stop == Some(stop))
    }

    /// Where its replay begins.
    #[must_use]
    pub fn origin(&self, size: SegmentSize) -> Origin {
        let timeline = self.start_segment.timeline();
        let (stop_timeline, stop) = self.stop.unwrap_or((timeline, self.start));
        Origin { timeline, start: self.start_segment.number(size).unwrap_or_default(), stop, stop_timeline }
    }

    /// What tells a backup from every other one. Two that a standby gives may begin at one place.
    fn identity(&self) -> (TimelineId, Lsn, Option<(TimelineId, Lsn)>) {
        (self.start_segment.timeline(), self.start, self.stop)
    }
}

/// The base backups of a cluster in these directories, each once: each directory is one, or holds some. A directory without
/// any is a failure, as is one that cannot be understood: what it holds may need WAL.
pub fn backups_elsewhere(
    directories: &[PathBuf],
    system: SystemIdentifier,
    size: SegmentSize,
) -> Result<Vec<BackupElsewhere>, Error> {
    let mut backups: Vec<BackupElsewhere> = Vec::new();
    for named in directories {
        let mut contents = vec![look_into(named, system, size)?];
        if matches!(contents.as_slice(), [Content::NoBackup]) {
            for below in directories_in(named)? {
                contents.push(look_into(&below, system, size)?);
            }
        }
        let before = backups.len();
        backups.extend(contents.into_iter().filter_map(|content| match content {
            Content::Backup(backup) => Some(backup),
            Content::NoBackup | Content::AnotherClusters => None,
        }));
        if backups.len() == before {
            return Err(failed(named, "there is no base backup of this cluster in").hint(
                "name a directory that pg_basebackup has filled, as files or as tar archives, or one that holds such",
            ));
        }
    }
    // Links lead to one again, and there are copies. Each would take a place among those that are kept.
    let mut seen = BTreeSet::new();
    backups.retain(|backup| seen.insert(backup.identity()));
    Ok(backups)
}

/// In the order of their names.
fn directories_in(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let cannot_look = |error| failed(directory, "cannot look into").because(error);
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot_look)? {
        let path = entry.map_err(cannot_look)?.path();
        // Every file system of some kinds has one, which only root may read.
        if path.file_name() == Some(OsStr::new("lost+found")) {
            continue;
        }
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => directories.push(path),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                tracing::warn!(
                    "{} leads nowhere, and is passed over; delete it, or let it lead to a base backup",
                    path.display()
                );
            }
            Err(error) => return Err(failed(&path, "cannot look at").because(error)),
        }
    }
    directories.sort_unstable();
    Ok(directories)
}

fn failed(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Local, format!("{what} {}", path.display()))
}

/// A file, and when it was written; `None` where there is none.
fn open(path: &Path) -> Result<Option<(File, Timestamp)>, Error> {
    let opened = File::open(path).and_then(|file| {
        let written = file.metadata()?.modified()?;
        Ok((file, Timestamp::try_from(written).unwrap_or(Timestamp::MAX)))
    });
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "cannot read").because(error)),
    }
}
