//! Files in a data directory that wait to be archived.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::Unarchived;
use crate::archive::ArchivedFile;
use crate::cluster::{DataDirectory, holds_segment};
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier, WalName};

/// Files that the server has marked as ready to be archived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Number of files.
    pub files: u64,
    /// Total size in bytes.
    pub bytes: u64,
    /// Time since when the first of them has been ready.
    pub oldest: Option<Timestamp>,
    /// File that the server passes to `archive_command` next. It passes no other before this one is archived.
    pub next: Option<WalName>,
    /// Time since when that file has been ready.
    pub next_since: Option<Timestamp>,
    /// Time when the server last got a file archived: by its own notes, as far as it still has them, or by the archive.
    pub last_done: Option<Timestamp>,
    /// `true` if a server seems to run there.
    pub served: bool,
}

/// Time within which a server that archives gets to a file, unless there are very many.
const HELD_UP_AFTER: SignedDuration = SignedDuration::from_mins(5);

impl Unarchived {
    /// Returns `true` if that is so long ago that a server which archives into this archive would have archived the
    /// segment.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) > HELD_UP_AFTER
    }
}

impl Backlog {
    /// Returns the file that blocks the others, and the time since when the first of them has waited, if that is long
    /// enough for an alarm: the server's disk fills.
    #[must_use]
    pub fn held_up(&self, now: Timestamp) -> Option<(WalName, Timestamp)> {
        let (next, oldest) = (self.next?, self.oldest?);
        (now.duration_since(oldest) > HELD_UP_AFTER).then_some((next, oldest))
    }

    /// Returns the file that a running server cannot get archived, and the time since when the first of them has waited: none was
    /// archived by its own calls for minutes, whatever look-ahead has archived. Of a long backlog that shrinks, it is none, and
    /// neither is one that has just become the next, such as a history file.
    #[must_use]
    pub fn stuck(&self, now: Timestamp) -> Option<(WalName, Timestamp)> {
        let is_long_ago = |moment| now.duration_since(moment) > HELD_UP_AFTER;
        let stands_still = [self.next_since, self.last_done].into_iter().flatten().all(is_long_ago);
        self.held_up(now).filter(|_| self.served && stands_still)
    }

    /// Returns `true` if the server has marked the file as ready.
    #[must_use]
    pub fn is_marked(data: &DataDirectory, name: WalName) -> bool {
        data.path().join(format!("pg_wal/archive_status/{name}.ready")).exists()
    }

    /// Returns the command that shows why a file is not archived, to be typed as the server's user.
    #[must_use]
    pub fn command_for(next: WalName, archive: &str, data: &Path) -> String {
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        format!("cd {} && walkeep-archive --archive {archive} pg_wal/{next}", data.display())
    }

    /// Reads the backlog of a data directory.
    pub fn of(data: &DataDirectory) -> Result<Self, Error> {
        let wal = data.path().join("pg_wal");
        let marks = wal.join("archive_status");
        let cannot_list = |error: io::Error| {
            let what = format!("cannot list {}", marks.display());
            let failure = denied::failed(ErrorKind::Local, what, &marks, Kept::ForOwner, error);
            if failure.advice().is_some() {
                failure
            } else {
                failure.hint("is it the server's data directory?")
            }
        };
        let mut backlog = Self { served: data.seems_served(), ..Self::default() };
        for entry in fs::read_dir(&marks).map_err(cannot_list)? {
            let entry = entry.map_err(cannot_list)?;
            let mark = entry.file_name();
            let Some(mark) = mark.to_str() else { continue };
            if mark.strip_suffix(".done").is_some() {
                // The server renames the mark, which changes only this time of it.
                let changed = entry.metadata().ok().map(|found| found.ctime());
                let changed = changed.and_then(|seconds| Timestamp::from_second(seconds).ok());
                backlog.last_done = backlog.last_done.max(changed);
            }
            let Some(name) = mark.strip_suffix(".ready") else { continue };
            // Other names are not passed to `archive_command` either.
            let Ok(parsed) = name.parse::<WalName>() else { continue };
            // Either file may disappear at any moment, once it is archived.
            let Ok(since) = entry.metadata().and_then(|found| found.modified()) else { continue };
            let since = Timestamp::try_from(since).unwrap_or(Timestamp::MAX);
            backlog.files += 1;
            backlog.bytes += fs::metadata(wal.join(name)).map_or(0, |found| found.len());
            backlog.oldest = Some(backlog.oldest.map_or(since, |oldest| oldest.min(since)));
            if backlog.next.is_none_or(|next| parsed.archiving_order() < next.archiving_order()) {
                (backlog.next, backlog.next_since) = (Some(parsed), Some(since));
            }
        }
        Ok(backlog)
    }
}

/// Returns the finished segments of the server's newest timeline that come after the newest one in the archive. They
/// distinguish a server that archives nothing, or elsewhere, from one that has nothing to archive: neither has a
/// `.ready` file.
///
/// A segment is finished if a later one follows. Files prepared for reuse have the first page of another segment, or
/// none. Unreadable files are ignored: the backlog reports an unreadable data directory.
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
    // The last one is still being written.
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
    fn a_file_that_has_waited_for_minutes_blocks_the_others() {
        let temporary = tempfile::tempdir().unwrap();
        let marks = temporary.path().join("pg_wal/archive_status");
        fs::create_dir_all(&marks).unwrap();
        let data = DataDirectory::named(temporary.path().to_owned());
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

    #[test]
    fn a_file_is_stuck_only_while_a_server_runs_and_gets_nothing_archived() {
        let temporary = tempfile::tempdir().unwrap();
        let marks = temporary.path().join("pg_wal/archive_status");
        fs::create_dir_all(&marks).unwrap();
        let data = DataDirectory::named(temporary.path().to_owned());
        let now = Timestamp::now();
        let mark = |name: &str, minutes: i64| {
            let file = fs::File::create(marks.join(name)).unwrap();
            file.set_modified((now - SignedDuration::from_mins(minutes)).into()).unwrap();
        };
        let stuck = |now| Backlog::of(&data).unwrap().stuck(now).map(|(next, _)| next.to_string());
        mark("000000010000000000000009.ready", 7);
        assert_eq!(stuck(now), None, "no server runs that would archive it");
        let mut server =
            std::process::Command::new("sleep").arg("60").current_dir(temporary.path()).spawn().unwrap();
        fs::write(temporary.path().join("postmaster.pid"), format!("{}\n", server.id())).unwrap();
        assert_eq!(stuck(now).as_deref(), Some("000000010000000000000009"));
        mark("000000010000000000000008.done", 60);
        assert_eq!(stuck(now), None, "a long backlog that shrinks");
        assert!(stuck(now + SignedDuration::from_mins(6)).is_some(), "it does so no more");
        mark("000000010000000000000009.ready", 4);
        assert_eq!(stuck(now), None, "it has not waited for long");
        mark("00000002.history.ready", -3);
        mark("000000010000000000000009.ready", 60);
        let after = |minutes| now + SignedDuration::from_mins(minutes);
        assert_eq!(stuck(after(6)), None, "the history file has not waited for long");
        assert_eq!(stuck(after(9)).as_deref(), Some("00000002.history"));
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(stuck(after(9)), None, "its server has crashed");
    }
}
