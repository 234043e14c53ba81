//! What waits in a data directory to be archived.

use std::fs;
use std::io;

use jiff::Timestamp;

use super::Unarchived;
use crate::archive::ArchivedFile;
use crate::cluster::{DataDirectory, holds_segment};
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier, WalName};

/// The files that the server has marked as ready to be archived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when the one that has waited longest has been ready.
    pub oldest: Option<Timestamp>,
}

impl Backlog {
    /// What waits in that data directory.
    pub(super) fn of(data: &DataDirectory) -> Result<Self, Error> {
        let wal = data.path().join("pg_wal");
        let marks = wal.join("archive_status");
        let cannot_list = |error: io::Error| {
            Error::new(ErrorKind::Local, format!("cannot list {}", marks.display()))
                .because(error)
                .hint("is it the server's data directory, and may this user read it?")
        };
        let mut backlog = Self::default();
        for entry in fs::read_dir(&marks).map_err(cannot_list)? {
            let entry = entry.map_err(cannot_list)?;
            let mark = entry.file_name();
            let Some(name) = mark.to_str().and_then(|mark| mark.strip_suffix(".ready")) else { continue };
            // Others are not the archiver's business either.
            if name.parse::<WalName>().is_err() {
                continue;
            }
            // Both may go at any moment, which is what they are for.
            let Ok(since) = entry.metadata().and_then(|found| found.modified()) else { continue };
            let since = Timestamp::try_from(since).unwrap_or(Timestamp::MAX);
            backlog.files += 1;
            backlog.bytes += fs::metadata(wal.join(name)).map_or(0, |found| found.len());
            backlog.oldest = Some(backlog.oldest.map_or(since, |oldest| oldest.min(since)));
        }
        Ok(backlog)
    }
}

/// The segments of the server's newest timeline that it has finished, and that come after the newest one in the archive. So
/// a server that archives nothing, or elsewhere, is told from one that has nothing to archive: neither has a mark that says so.
///
/// Finished is what a later one follows. Files that the server has prepared for later use have the first page of another
/// segment, or none. What cannot be read is none: the marks speak of a data directory that cannot be.
pub(super) fn unarchived(
    data: &DataDirectory,
    system: SystemIdentifier,
    archived: &[ArchivedFile],
) -> Option<Unarchived> {
    let wal = data.path().join("pg_wal");
    let names = fs::read_dir(&wal).ok()?.flatten();
    let mut segments: Vec<SegmentName> =
        names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    segments.sort_unstable();
    let timeline = segments.iter().rev().find(|segment| holds_segment(&wal, system, **segment))?.timeline();
    let of_timeline = |segment: &SegmentName| segment.timeline() == timeline;
    let newest = archived.iter().filter_map(|file| file.name.segment()).rfind(of_timeline);
    segments.retain(|segment| {
        of_timeline(segment)
            && newest.is_none_or(|newest| *segment > newest)
            && holds_segment(&wal, system, *segment)
    });
    // The last one is the one that is being written.
    segments.pop()?;
    let first = *segments.first()?;
    let since = fs::metadata(wal.join(first.to_string())).and_then(|found| found.modified()).ok()?;
    let since = Timestamp::try_from(since).unwrap_or(Timestamp::MAX);
    Some(Unarchived { first, since, segments: segments.len() as u64 })
}
