//! Base backups outside of the archive: directories written by `pg_basebackup`, as files or as tar archives.
//!
//! `backup_label` contains the start of a backup (`do_pg_backup_start` in `access/transam/xlogbackup.c`), and
//! `backup_manifest`, which version 13 and later write, its end. Without a manifest, a standby's backup ends where
//! its `pg_control` says that data is consistent, and a primary's where the archive says so.

mod directory;
mod manifest;
mod owner;
mod packed;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::blocking::step;
use crate::coverage::{BaseBackup, Below};
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::wal::{CONTROL_FILE_BYTES, Lsn, SegmentSize, SystemIdentifier, TimelineId};
use crate::whole_file::open_regular;

use directory::{Content, look_into};
pub use packed::Packing;

/// Identity of a backup. Two backups of a standby may start at the same position.
type Identity = (TimelineId, Lsn, Option<(TimelineId, Lsn)>);

/// Returns the base backups of a cluster in these directories, without duplicates. Each directory is a backup or
/// contains some. A directory without backups is an error, and so is one that cannot be interpreted, because its
/// backup may need WAL.
pub fn backups_elsewhere(
    directories: &[PathBuf],
    system: SystemIdentifier,
    size: SegmentSize,
) -> Result<Vec<BaseBackup>, Error> {
    let mut backups: Vec<BaseBackup> = Vec::new();
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
    // Links and copies lead to the same backup again. Each would count for redundancy.
    let mut seen: BTreeSet<Identity> = BTreeSet::new();
    let identity = |backup: &BaseBackup| (backup.timeline(), backup.wal.start, backup.wal.end);
    // An incremental one and what was combined of it count once, and the incremental one still needs others.
    let incremental: Vec<(Identity, Below)> =
        backups.iter().filter_map(|backup| Some((identity(backup), backup.builds_on?))).collect();
    backups.retain(|backup| seen.insert(identity(backup)));
    for backup in &mut backups {
        let same = incremental.iter().find(|(of, _)| *of == identity(backup));
        backup.builds_on = same.map(|(_, below)| *below);
    }
    Ok(backups)
}

/// Lists the subdirectories, sorted by name.
fn directories_in(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let cannot_look = |error| {
        let what = format!("cannot look into {}", directory.display());
        denied::failed(ErrorKind::Local, what, directory, Kept::ForSeveral, error)
    };
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot_look)? {
        let path = entry.map_err(cannot_look)?.path();
        // Some file systems have one in their root, readable by the superuser only.
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
            Err(error) => {
                let what = format!("cannot look at {}", path.display());
                return Err(denied::failed(ErrorKind::Local, what, &path, Kept::ForSeveral, error));
            }
        }
    }
    directories.sort_unstable();
    Ok(directories)
}

/// Reads the start of a backup's own `pg_control`; `None` if there is none.
fn control(directory: &Path) -> Result<Option<Vec<u8>>, Error> {
    let path = directory.join("global/pg_control");
    let Some((file, _)) = open(&path)? else { return Ok(None) };
    let mut beginning = Vec::new();
    let read = file.take(CONTROL_FILE_BYTES as u64).read_to_end(&mut beginning);
    read.map_err(|error| failed(&path, "cannot read").because(error))?;
    Ok(Some(beginning))
}

fn failed(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Local, format!("{what} {}", path.display()))
}

/// Opens a file and returns it with its modification time; `None` if it does not exist.
fn open(path: &Path) -> Result<Option<(File, Timestamp)>, Error> {
    step();
    let opened = open_regular(path).and_then(|file| {
        let written = file.metadata()?.modified()?;
        Ok((file, Timestamp::try_from(written).unwrap_or(Timestamp::MAX)))
    });
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(denied::cannot_read(ErrorKind::Local, "", path, Kept::ForSeveral, error)),
    }
}
