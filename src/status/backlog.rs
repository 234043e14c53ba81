//! What waits in a data directory to be archived.

use std::fs;
use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

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
    /// The one that the server hands over next. It hands over no other before that is archived.
    pub next: Option<WalName>,
}

/// A server that archives has come to a file by then, unless there are very many.
const HELD_UP_AFTER: SignedDuration = SignedDuration::from_mins(5);

impl Unarchived {
    /// Whether that is so long ago that a server which archives into this archive would have come to it.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) > HELD_UP_AFTER
    }
}

impl Backlog {
    /// Which file holds the others up, and since when the first of them has waited, if that is so long that a person should
    /// look: the server's disk fills.
    #[must_use]
    pub fn held_up(&self, now: Timestamp) -> Option<(WalName, Timestamp)> {
        let (next, oldest) = (self.next?, self.oldest?);
        (now.duration_since(oldest) > HELD_UP_AFTER).then_some((next, oldest))
    }

    /// Whether the server has marked that file as ready.
    #[must_use]
    pub fn is_marked(data: &DataDirectory, name: WalName) -> bool {
        data.path().join(format!("pg_wal/archive_status/{name}.ready")).exists()
    }

    /// What shows why a file is not archived, typed as the server's user.
    #[must_use]
    pub fn command_for(next: WalName, archive: &str, data: &Path) -> String {
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        format!("cd {} && walkeep-archive --archive {archive} pg_wal/{next}", data.display())
    }

    /// What waits in that data directory.
    pub fn of(data: &DataDirectory) -> Result<Self, Error> {
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
            let Ok(parsed) = name.parse::<WalName>() else { continue };
            // Both may go at any moment, which is what they are for.
            let Ok(since) = entry.metadata().and_then(|found| found.modified()) else { continue };
            let since = Timestamp::try_from(since).unwrap_or(Timestamp::MAX);
            backlog.files += 1;
            backlog.bytes += fs::metadata(wal.join(name)).map_or(0, |found| found.len());
            backlog.oldest = Some(backlog.oldest.map_or(since, |oldest| oldest.min(since)));
            let before = |next: &WalName| next.archiving_order() < parsed.archiving_order();
            backlog.next = backlog.next.filter(before).or(Some(parsed));
        }
        Ok(backlog)
    }
}

/// The segments of the server's newest timeline that it has finished, and that come after the newest one in the archive. So
/// a server that archives nothing, or elsewhere, is told from one that has nothing to archive: neither has a mark that says so.
///
/// Finished is what a later one follows. Files that the server has prepared for later use have the first page of another
/// segment, or none. What cannot be read is none: the marks speak of a data directory that cannot be.
#[must_use]
pub fn unarchived(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_waited_for_minutes_holds_the_others_up() {
        let place = tempfile::tempdir().unwrap();
        let marks = place.path().join("pg_wal/archive_status");
        fs::create_dir_all(&marks).unwrap();
        let data = DataDirectory::named(place.path().to_owned());
        let none = Backlog::of(&data).unwrap();
        assert_eq!((none, none.held_up(Timestamp::MAX)), (Backlog::default(), None));
        let times = [
            ("000000020000000000000003.ready", 300),
            ("000000010000000000000009.ready", 200),
            ("00000002.history.ready", 400),
            ("000000010000000000000001.done", 100),
            ("0readme.ready", 100),
        ];
        let moment = |seconds| Timestamp::from_second(seconds).unwrap();
        for (name, seconds) in times {
            let file = fs::File::create(marks.join(name)).unwrap();
            file.set_modified(moment(seconds).into()).unwrap();
        }
        let backlog = Backlog::of(&data).unwrap();
        assert_eq!((backlog.files, backlog.oldest), (3, Some(moment(200))));
        let history: WalName = "00000002.history".parse().unwrap();
        assert_eq!(backlog.held_up(moment(200 + 301)), Some((history, moment(200))));
        assert_eq!(backlog.held_up(moment(200 + 300)), None);
        fs::remove_file(marks.join("00000002.history.ready")).unwrap();
        let next = Backlog::of(&data).unwrap().next.unwrap();
        assert_eq!(next.to_string(), "000000010000000000000009");
    }
}
