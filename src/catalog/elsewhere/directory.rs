//! One directory of a base backup taken by `pg_basebackup`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::manifest::Manifest;
use super::owner;
use super::packed::Packed;
use super::{control, failed, open};
use crate::coverage::{BaseBackup, Below, KnownFrom};
use crate::error::Error;
use crate::wal::{
    BackupLabel, BackupWal, Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineId,
    recovery_end_of_control_file,
};

/// Maximum size of a label in bytes.
const MAX_LABEL_BYTES: u64 = 64 << 10;

/// Content of a directory.
pub(super) enum Content {
    /// No base backup.
    NoBackup,
    /// A base backup of another cluster.
    AnotherClusters,
    /// A base backup of the cluster.
    Backup(BaseBackup),
}

/// Files in a directory that describe a base backup.
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) manifest: Option<Manifest>,
    /// Contents of `backup_label`, as a file or in a tar archive.
    pub(super) label: Option<BackupLabel>,
    /// Tar archives with a `backup_label`, and a `pg_control` at the end.
    pub(super) tars: Vec<Packed>,
    /// A tar archive that cannot be read, if there is no other.
    pub(super) opaque: Option<PathBuf>,
    /// Modification time of the file with the label.
    written: Timestamp,
}

/// Reads a directory. A backup is taken to have ended at the latest modification time of the files that describe it. Contents that are unclear or contradictory are an error: they may be a backup that needs WAL.
pub(super) fn look_into(
    directory: &Path,
    system: SystemIdentifier,
    size: SegmentSize,
) -> Result<Content, Error> {
    let Some(files) = Files::of(directory)? else { return Ok(Content::NoBackup) };
    if owner::of(&files)? != system {
        return Ok(Content::AnotherClusters);
    }
    let end = end(&files);
    let Files { manifest, label, written, .. } = files;
    let named = label.as_ref().map(|label| (label.start_segment, label.start));
    let computed = || {
        let (timeline, start) = manifest.as_ref()?.start;
        Some((SegmentName::containing(timeline, start, size)?, start))
    };
    let (start_segment, start) = named.or_else(computed).ok_or_else(|| {
        failed(directory, "there is no place in the log for the start of the base backup in")
    })?;
    let ended = manifest.as_ref().map_or(written, |manifest| manifest.written.max(written));
    Ok(Content::Backup(BaseBackup {
        known_from: KnownFrom::Directory(directory.display().to_string()),
        label: None,
        wal: BackupWal { start_segment, start, end },
        from_standby: label.as_ref().is_some_and(|label| label.from_standby),
        ended,
        known_since: ended,
        counts: true,
        builds_on: builds_on(label.as_ref(), manifest.as_ref()),
    }))
}

/// Returns what the backup builds on. Where the label cannot be read, the manifest still tells whether it builds on any.
fn builds_on(label: Option<&BackupLabel>, manifest: Option<&Manifest>) -> Option<Below> {
    match label {
        Some(label) => label.builds_on.map(Below::from),
        None => manifest.filter(|manifest| manifest.incremental).map(|_| Below::Unknown),
    }
}

/// Returns the end of the backup, if its own files contain it. For a backup of a primary, only the manifest does. An
/// unreadable `pg_control` is ignored.
fn end(files: &Files) -> Option<(TimelineId, Lsn)> {
    if let Some(manifest) = &files.manifest {
        return Some(manifest.stop);
    }
    let label = files.label.as_ref().filter(|label| label.from_standby)?;
    let plain = control(&files.directory).ok().flatten();
    let packed = || files.tars.iter().find_map(|tar| tar.find(owner::control_in).ok().flatten());
    let end = recovery_end_of_control_file(&plain.or_else(packed)?);
    end.filter(|(timeline, end)| *timeline >= label.start_segment.timeline() && *end >= label.start)
}

impl Files {
    /// Reads the files of a directory; `None` if it contains no base backup.
    fn of(directory: &Path) -> Result<Option<Self>, Error> {
        let manifest = Manifest::of(directory)?;
        let tars = Packed::all(directory, "base.tar")?;
        let mut labels = Vec::from_iter(plain_label(directory)?);
        for tar in &tars {
            labels.push((packed_label(tar)?, tar.written));
        }
        let starts = labels.iter().map(|(label, _)| (label.start_segment.timeline(), label.start));
        let starts: Vec<(TimelineId, Lsn)> =
            starts.chain(manifest.as_ref().map(|manifest| manifest.start)).collect();
        if starts.windows(2).any(|pair| matches!(pair, [one, other] if one != other)) {
            return Err(failed(directory, "the files speak of different base backups in")
                .hint("let each have a directory of its own"));
        }
        let opaque = if labels.is_empty() { opaque_tar(directory)? } else { None };
        match (&opaque, starts.is_empty()) {
            (Some(tar), true) => {
                return Err(failed(tar, "cannot read the backup_label in").hint(
                    "walkeep can read tar archives that are not compressed, or with gzip or zstd; of any other, keep the \
                     backup_manifest beside it",
                ));
            }
            (None, true) => return Ok(None),
            (_, false) => {}
        }
        let (label, written) = labels
            .into_iter()
            .next()
            .map_or((None, Timestamp::MIN), |(label, written)| (Some(label), written));
        Ok(Some(Self { directory: directory.to_owned(), manifest, label, tars, opaque, written }))
    }
}

fn plain_label(directory: &Path) -> Result<Option<(BackupLabel, Timestamp)>, Error> {
    let path = directory.join("backup_label");
    let Some((file, written)) = open(&path)? else { return Ok(None) };
    let label = read_label(file).map_err(|error| failed(&path, "cannot read").because(error))?;
    Ok(Some((label, written)))
}

/// Reads the label in a tar archive, where it is one of the first members.
fn packed_label(tar: &Packed) -> Result<BackupLabel, Error> {
    let label = tar.find(|member| {
        if member.path == b"backup_label" { read_label(member.content).map(Some) } else { Ok(None) }
    });
    let none = || io::Error::new(io::ErrorKind::NotFound, "there is none");
    label
        .and_then(|label| label.ok_or_else(none))
        .map_err(|error| failed(&tar.path, "cannot read the backup_label in").because(error))
}

fn read_label(file: impl Read) -> io::Result<BackupLabel> {
    let mut content = Vec::new();
    file.take(MAX_LABEL_BYTES).read_to_end(&mut content)?;
    BackupLabel::parse(&content).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Returns a file whose name starts like that of a base backup's tar archive.
fn opaque_tar(directory: &Path) -> Result<Option<PathBuf>, Error> {
    let is_tar = |name: &OsStr| name.as_bytes().starts_with(b"base.tar");
    let look = || -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if is_tar(&entry.file_name()) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    };
    look().map_err(|error| failed(directory, "cannot look into").because(error))
}
