//! Neighbours of a segment in a directory, by a fresh lookup: opens each directory above it, and lists the last one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Local;
use super::directory::Directory;
use super::fresh::{cannot_list, open};
use super::rights::failed;
use crate::archive::ArchivedName;
use crate::archive::failure::Asked;
use crate::archive::key;
use crate::archive::surroundings::{Surroundings, holds_nothing};
use crate::blocking::blocking;
use crate::coverage::BackupTrace;
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier, TimelineId, WalName};

impl Local {
    pub(in crate::archive) async fn surroundings(
        &self,
        system: SystemIdentifier,
        segment: SegmentName,
    ) -> Result<Surroundings, Error> {
        let directory = self.directory.clone();
        blocking(move || {
            let any_segment = confirm_holds(&directory, system)?;
            let wal = directory.root().join(key::wal(system).as_ref());
            let mut around = Surroundings { any_segment, ..Surroundings::default() };
            for group in groups(&wal)? {
                match group.timeline.cmp(&segment.timeline()) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Greater => around.higher_timelines = true,
                    // Earlier groups contain nothing after the segment. Later groups are needed only if nothing was
                    // found so far.
                    std::cmp::Ordering::Equal if group.name < segment.group() || around.later.is_some() => {}
                    std::cmp::Ordering::Equal => {
                        for name in names(&group.path)? {
                            around.add(segment, name.wal(), Timestamp::MAX);
                        }
                    }
                }
            }
            if let Some((later, found)) = &mut around.later {
                *found = since(&wal.join(later.group()).join(later.to_string()))?;
            }
            Ok(around)
        })
        .await
    }

    pub(in crate::archive) async fn confirm_holds(&self, system: SystemIdentifier) -> Result<(), Error> {
        let directory = self.directory.clone();
        blocking(move || confirm_holds(&directory, system).map(drop)).await
    }

    /// Lists the backup history files, and looks at the few that can prove something.
    pub(in crate::archive) async fn backups_about(
        &self,
        system: SystemIdentifier,
        segment: SegmentName,
    ) -> Result<Vec<(BackupTrace, Timestamp)>, Error> {
        let directory = self.directory.root().join(format!("{system}/backups"));
        blocking(move || {
            let names = names(&directory)?.into_iter().map(ArchivedName::wal);
            let with_time =
                |trace: BackupTrace| Ok((trace, since(&directory.join(trace.name().to_string()))?));
            BackupTrace::about(segment, names).into_iter().map(with_time).collect()
        })
        .await
    }

    /// Lists the timelines that have a history file.
    pub(in crate::archive) async fn timelines(
        &self,
        system: SystemIdentifier,
    ) -> Result<Vec<TimelineId>, Error> {
        let directory = self.directory.root().join(format!("{system}/timelines"));
        blocking(move || {
            let timelines = names(&directory)?.into_iter().filter_map(|name| match name.wal() {
                WalName::History(timeline) => Some(timeline),
                _ => None,
            });
            Ok(timelines.collect())
        })
        .await
    }

    pub(in crate::archive) async fn lowest_segment(
        &self,
        system: SystemIdentifier,
        timeline: TimelineId,
    ) -> Result<Option<SegmentName>, Error> {
        let wal = self.directory.root().join(key::wal(system).as_ref());
        blocking(move || {
            for group in groups(&wal)?.iter().filter(|group| group.timeline == timeline) {
                let segments = names(&group.path)?.into_iter().filter_map(|name| match name.wal() {
                    WalName::Segment(segment) => Some(segment),
                    _ => None,
                });
                if let Some(lowest) = segments.min() {
                    return Ok(Some(lowest));
                }
            }
            Ok(None)
        })
        .await
    }
}

/// Checks that the directory contains a file of the cluster, and returns `true` if it contains a segment. Directories alone
/// may come from a failed push.
fn confirm_holds(directory: &Directory, system: SystemIdentifier) -> Result<bool, Error> {
    let root = directory.root();
    open(root)?;
    let of_system = root.join(system.to_string());
    open(&of_system)?;
    let wal = of_system.join("wal");
    let texts = [of_system.join("timelines"), of_system.join("backups")];
    // Newest first: a recovery asks for segments near the end, and old directories may be empty.
    let groups = groups(&wal)?.into_iter().rev().map(|group| (group.path, true));
    for (directory, of_segments) in groups.chain(texts.map(|directory| (directory, false))) {
        if has_a_file(&directory)? {
            return Ok(of_segments);
        }
    }
    Err(holds_nothing(root.display(), system))
}

/// A directory of segments.
struct Group {
    timeline: TimelineId,
    name: String,
    path: PathBuf,
}

/// Lists the segment directories, sorted by name.
fn groups(wal: &Path) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    for entry in entries(wal)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_group = name.len() == 16 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        let timeline = name.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if let Some(timeline) = timeline.filter(|_| is_group).and_then(TimelineId::new) {
            groups.push(Group { timeline, name, path: entry.path() });
        }
    }
    groups.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(groups)
}

/// Lists the archived files in a directory, including dangling links: their targets return when they are mounted.
fn names(directory: &Path) -> Result<Vec<ArchivedName>, Error> {
    let entries = entries(directory)?.into_iter();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Returns `true` if a directory contains an archived file.
fn has_a_file(directory: &Path) -> Result<bool, Error> {
    for name in names(directory)? {
        let path = directory.join(name.to_string());
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(failed(format!("cannot look at {}", path.display()), &path, Asked::Look, error));
            }
            _ => {}
        }
    }
    Ok(false)
}

/// Lists a directory; empty if it does not exist.
fn entries(directory: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let Some(listing) = open(directory)? else {
        return if fs::symlink_metadata(directory).is_ok() {
            let what = format!("{} is a symbolic link that leads nowhere", directory.display());
            Err(Error::new(ErrorKind::Unavailable, what).hint("is what it leads to mounted?"))
        } else {
            Ok(Vec::new())
        };
    };
    listing.collect::<io::Result<Vec<_>>>().map_err(cannot_list(directory))
}

/// Returns the modification time of a file. A file that disappeared in between existed a moment ago.
fn since(path: &Path) -> Result<Timestamp, Error> {
    match fs::metadata(path).and_then(|found| found.modified()) {
        Ok(modified) => Ok(Timestamp::try_from(modified).unwrap_or(Timestamp::MAX)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Timestamp::MAX),
        Err(error) => Err(failed(format!("cannot look at {}", path.display()), path, Asked::Look, error)),
    }
}
