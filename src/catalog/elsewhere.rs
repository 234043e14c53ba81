//! Base backups that are kept elsewhere: directories that `pg_basebackup` has filled, as files or as tar archives.
//!
//! What says where a backup begins is its `backup_label` (`do_pg_backup_start` in `access/transam/xlogbackup.c`); where it
//! ends, its `backup_manifest`, which version 13 and later write.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use serde::Deserialize;

use crate::cluster::DataDirectory;
use crate::error::{Error, ErrorKind};
use crate::wal::{BackupHistory, BackupLabel, Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineId};

/// A base backup outside of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupElsewhere {
    /// The directory it is in.
    pub place: PathBuf,
    /// The segment in which its replay starts.
    pub start: SegmentName,
    /// What replay must reach, where that is known.
    pub stop: Option<Lsn>,
    /// When it had ended: when the last of the files that say so was written.
    pub ended: Timestamp,
}

impl BackupElsewhere {
    /// Whether that is its backup history file.
    #[must_use]
    pub fn is(&self, history: &BackupHistory) -> bool {
        self.start == history.start_segment && self.stop.is_none_or(|stop| history.stop == Some(stop))
    }
}

/// Longer labels are none.
const MAX_LABEL_BYTES: u64 = 64 << 10;

/// A manifest has a line of some 200 bytes for each file of the cluster.
const MAX_MANIFEST_BYTES: u64 = 4 << 30;

/// The base backups of a cluster in these directories: each is one, or holds some. A directory without any is a failure, as is
/// one that cannot be read: what it holds may need WAL.
pub fn backups_elsewhere(
    directories: &[PathBuf],
    system: SystemIdentifier,
    size: SegmentSize,
) -> Result<Vec<BackupElsewhere>, Error> {
    let mut backups = Vec::new();
    for directory in directories {
        let before = backups.len();
        let cannot_look = |error| failed(directory, "cannot look into").because(error);
        if let Some(backup) = backup_in(directory, size)? {
            backups.extend(backup.of(system, directory)?);
        } else {
            let mut entries = fs::read_dir(directory)
                .and_then(Iterator::collect::<io::Result<Vec<_>>>)
                .map_err(cannot_look)?;
            entries.sort_unstable_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let path = entry.path();
                if fs::metadata(&path).map_err(cannot_look)?.is_dir()
                    && let Some(backup) = backup_in(&path, size)?
                {
                    backups.extend(backup.of(system, &path)?);
                }
            }
        }
        if backups.len() == before {
            return Err(failed(directory, "there is no base backup of this cluster in").hint(
                "name a directory that pg_basebackup has filled, as files or as tar archives, or one that holds such",
            ));
        }
    }
    Ok(backups)
}

fn failed(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Local, format!("{what} {}", path.display()))
}

/// A backup that was found, before it is known whose it is.
struct Found {
    backup: BackupElsewhere,
    system: Option<SystemIdentifier>,
}

impl Found {
    /// The backup, unless it is another cluster's. One that does not say is taken for this one's: that keeps more.
    fn of(self, system: SystemIdentifier, directory: &Path) -> Result<Option<BackupElsewhere>, Error> {
        let whose = match self.system {
            Some(whose) => Some(whose),
            None => DataDirectory::named(directory.to_owned()).system_identifier()?,
        };
        Ok(whose.is_none_or(|whose| whose == system).then_some(self.backup))
    }
}

/// The backup that a directory is, if it is one.
fn backup_in(directory: &Path, size: SegmentSize) -> Result<Option<Found>, Error> {
    let manifest = manifest_in(directory)?;
    let label = match plain_label_in(directory)? {
        Some(label) => Some(label),
        // Where the manifest says all, tar archives need not be opened.
        None if manifest.is_some() => None,
        None => tar_label_in(directory)?,
    };
    let (start, written) = match (&label, &manifest) {
        (Some((label, written)), _) => (label.start_segment, *written),
        (None, Some(manifest)) => {
            let unusable = || failed(directory, "cannot make sense of the backup_manifest in");
            (manifest.start(size).ok_or_else(unusable)?, manifest.written)
        }
        (None, None) => return Ok(None),
    };
    let backup = BackupElsewhere {
        place: directory.to_owned(),
        start,
        stop: manifest.as_ref().and_then(Manifest::stop),
        ended: manifest.as_ref().map_or(written, |manifest| manifest.written.max(written)),
    };
    Ok(Some(Found { backup, system: manifest.and_then(|manifest| manifest.system) }))
}

/// What a manifest says of WAL.
#[derive(Debug)]
struct Manifest {
    ranges: Vec<Range>,
    system: Option<SystemIdentifier>,
    written: Timestamp,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestText {
    #[serde(rename = "WAL-Ranges")]
    wal_ranges: Vec<Range>,
    /// From version 17 on.
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

impl Manifest {
    /// The segment in which the oldest of its WAL is.
    fn start(&self, size: SegmentSize) -> Option<SegmentName> {
        let starts = self.ranges.iter().map(|range| {
            let position: Lsn = range.start.parse().ok()?;
            Some((position, TimelineId::new(range.timeline)?))
        });
        let (position, timeline) = starts.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        SegmentName::containing(timeline, position, size)
    }

    fn stop(&self) -> Option<Lsn> {
        self.ranges.iter().filter_map(|range| range.end.parse().ok()).max()
    }
}

fn manifest_in(directory: &Path) -> Result<Option<Manifest>, Error> {
    let path = directory.join("backup_manifest");
    let Some((file, written)) = open(&path)? else { return Ok(None) };
    let text = serde_json::from_reader(io::BufReader::new(file.take(MAX_MANIFEST_BYTES)));
    let text: ManifestText = text.map_err(|error| failed(&path, "cannot read").because(error))?;
    let system = text.system_identifier.and_then(SystemIdentifier::new);
    Ok(Some(Manifest { ranges: text.wal_ranges, system, written }))
}

fn plain_label_in(directory: &Path) -> Result<Option<(BackupLabel, Timestamp)>, Error> {
    let path = directory.join("backup_label");
    let Some((file, written)) = open(&path)? else { return Ok(None) };
    let label = read_label(file).map_err(|error| failed(&path, "cannot read").because(error))?;
    Ok(Some((label, written)))
}

/// The label in `base.tar`, of which it is one of the first members, compressed or not.
fn tar_label_in(directory: &Path) -> Result<Option<(BackupLabel, Timestamp)>, Error> {
    for name in ["base.tar", "base.tar.gz", "base.tar.zst", "base.tar.lz4"] {
        let path = directory.join(name);
        let Some((file, written)) = open(&path)? else { continue };
        let cannot = || failed(&path, "cannot read the backup_label in");
        let plain: Box<dyn Read> = match name {
            "base.tar" => Box::new(file),
            "base.tar.gz" => Box::new(MultiGzDecoder::new(file)),
            "base.tar.zst" => {
                Box::new(zstd::stream::read::Decoder::new(file).map_err(|error| cannot().because(error))?)
            }
            _ => {
                return Err(
                    cannot().hint("walkeep cannot decompress lz4; keep the backup_manifest beside it")
                );
            }
        };
        let label = label_in_tar(plain).map_err(|error| cannot().because(error))?;
        return Ok(Some((label, written)));
    }
    Ok(None)
}

fn label_in_tar(archive: impl Read) -> io::Result<BackupLabel> {
    let mut archive = tar::Archive::new(archive);
    for member in archive.entries()? {
        let member = member?;
        if member.path()?.as_ref() == Path::new("backup_label") {
            return read_label(member);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "there is none"))
}

fn read_label(file: impl Read) -> io::Result<BackupLabel> {
    let mut content = Vec::new();
    file.take(MAX_LABEL_BYTES).read_to_end(&mut content)?;
    BackupLabel::parse(&content).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
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
