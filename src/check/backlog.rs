//! Checks that the archive keeps up with its server, by what the server's own directory says.
//!
//! How often `archive_command` has failed is known to the running server alone. Without it, a file counts as stuck once it has
//! waited for minutes, and sooner if the archive has later files: the server's calls run, then, and leave it out.

use jiff::{SignedDuration, Timestamp};

use super::CheckFinding;
use super::keeping::{ago, to_the_second};
use super::shell::Shell;
use crate::archive::{Archive, ArchivedFile};
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::status::{ArchiveStatus, Backlog, Unarchived, unarchived};
use crate::wal::{SystemIdentifier, WalName};

/// Time after which a server tries each file again, at the latest (`PGARCH_AUTOWAKE_INTERVAL`).
const AUTOWAKE: SignedDuration = SignedDuration::from_secs(60);

/// What else is known.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    /// State of the archive; `None` if that holds nothing of the cluster.
    pub(super) known: Option<&'a ArchiveStatus>,
    /// `true` if a segment that the server was asked for has arrived.
    pub(super) arrived: bool,
    /// The server's `archive_command`.
    pub(super) command: Option<&'a str>,
}

/// Checks that the server's files reach this archive, as the arrival of a requested one proves, and that no file
/// blocks the others.
pub(super) async fn check(
    archive: &Archive,
    system: SystemIdentifier,
    data: DataDirectory,
    Beside { known, arrived, command }: Beside<'_>,
    shell: &Shell,
) -> CheckFinding {
    let left = known.map(|known| known.unarchived);
    let marks = data.path().join("pg_wal/archive_status");
    let looked = blocking(move || {
        let backlog = Backlog::of(&data)?;
        let left = left.unwrap_or_else(|| unarchived(&data, system, &[]));
        let left = left.filter(|left| !arrived && !Backlog::is_marked(&data, WalName::Segment(left.first)));
        Ok((backlog, left))
    });
    let (backlog, left) = match looked.await {
        Ok(looked) => looked,
        Err(error) => {
            return CheckFinding::failed("backlog", &error).by_typing("to list it", shell.ls(&marks));
        }
    };
    let passed_by = match (backlog.next, known.and_then(|known| later(&backlog, &known.newest))) {
        // Look-ahead has archived it, and the server's own call only finds that.
        (Some(next), Some(_)) if archive.holds(system, next).await.unwrap_or(true) => None,
        (_, later) => later,
    };
    let look = Look { backlog: &backlog, passed_by, newest: known.and_then(ArchiveStatus::newest), left };
    of_backlog(&look, Timestamp::now(), command, shell)
}

/// Returns the newest archived segment of the timeline of the next waiting one, if that is a later one.
fn later<'a>(backlog: &Backlog, newest: &'a [ArchivedFile]) -> Option<&'a ArchivedFile> {
    let next = backlog.next?.segment()?;
    newest.iter().find(|file| {
        file.name.segment().is_some_and(|name| name.timeline() == next.timeline() && name > next)
    })
}

/// What is in the data directory and in the archive.
struct Look<'a> {
    backlog: &'a Backlog,
    /// Later segment that is in the archive, which the next waiting one is not.
    passed_by: Option<&'a ArchivedFile>,
    newest: Option<&'a ArchivedFile>,
    left: Option<Unarchived>,
}

/// Reports on waiting files, and on files that should wait but do not.
fn of_backlog(look: &Look<'_>, now: Timestamp, command: Option<&str>, shell: &Shell) -> CheckFinding {
    let name = "backlog";
    let Look { backlog, passed_by, newest, left } = look;
    let is_long_ago = |moment: Timestamp| now.duration_since(moment) > AUTOWAKE;
    let nobody = if backlog.served { "" } else { "; no server runs there that would archive them" };
    let why = "to see why; how often it has failed is known to the running server alone, which --pg-url asks";
    if let Some((next, since)) = backlog.held_up(now) {
        let since = to_the_second(since);
        let what = format!(
            "files have waited to be archived since {since}; {next} is the next one, and holds up the others{nobody}"
        );
        return CheckFinding::fail(name, what).by_typing(why, shell.archive(command, next));
    }
    // None was archived by the server's own calls for longer than it waits between two attempts.
    let stands_still = [backlog.next_since, backlog.last_done].into_iter().flatten().all(is_long_ago);
    let still = backlog.next.zip(backlog.next_since).filter(|_| backlog.served && stands_still);
    if let (Some((next, since)), Some(later)) = (still, passed_by.filter(|later| is_long_ago(later.since))) {
        let what = format!(
            "{next} has waited to be archived for {}, and the later {} was archived {} ago: the server's calls run, and leave it out",
            ago(since, now),
            later.name,
            ago(later.since, now)
        );
        return CheckFinding::fail(name, what).by_typing(why, shell.archive(command, next));
    }
    if let Some(left) = left.filter(|left| left.is_overdue(now)) {
        let (first, since) = (left.first, to_the_second(left.since));
        let what = format!(
            "{first} was finished at {since} and is not in this archive, and nothing says that the server will archive it"
        );
        return CheckFinding::fail(name, what).by_typing(
            "is the archive of archive_command, its --archive, this one? With --pg-url it is tried out",
            shell.check_with_server(),
        );
    }
    let waits = match (backlog.files, backlog.oldest.map(|oldest| ago(oldest, now))) {
        (0, _) | (_, None) => return CheckFinding::pass(name, "nothing waits to be archived"),
        (1, Some(ago)) => format!("1 file waits to be archived, for {ago}"),
        (files, Some(ago)) => format!("{files} files wait to be archived, the oldest for {ago}"),
    };
    match still {
        Some((next, since)) => {
            let newest = newest.map_or_else(String::new, |newest| {
                format!("; the newest archived segment is {}, {} old", newest.name, ago(newest.since, now))
            });
            let what = format!(
                "{waits}; {next} is the next one, and none was archived by the server's own calls for {}{newest}",
                ago(backlog.last_done.map_or(since, |done| done.max(since)), now)
            );
            CheckFinding::note(name, what).by_typing(why, shell.archive(command, next))
        }
        None => CheckFinding::pass(name, format!("{waits}{nobody}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    fn moment(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn outcome(
        backlog: &Backlog,
        passed_by: Option<&ArchivedFile>,
        left: Option<Unarchived>,
        now: i64,
    ) -> Outcome {
        let look = Look { backlog, passed_by, newest: passed_by, left };
        of_backlog(&look, moment(now), None, &Shell::of_test()).outcome
    }

    #[test]
    fn waiting_and_unmarked_files_are_tolerated_for_minutes() {
        let first = "000000010000000000000003".parse().unwrap();
        let left = Some(Unarchived { first, since: moment(1000), segments: 2 });
        let nothing = Backlog::default();
        assert_eq!(outcome(&nothing, None, None, 9000), Outcome::Pass);
        assert_eq!(outcome(&nothing, None, left, 1300), Outcome::Pass);
        assert_eq!(outcome(&nothing, None, left, 1301), Outcome::Fail);
        let next = Some(WalName::Segment(first));
        let waits = Backlog { files: 1, bytes: 1, oldest: Some(moment(1200)), next, ..Backlog::default() };
        assert_eq!(outcome(&waits, None, None, 1500), Outcome::Pass);
        assert_eq!(outcome(&waits, None, None, 1501), Outcome::Fail);
        assert_eq!(outcome(&waits, None, left, 1301), Outcome::Fail);
    }

    #[test]
    fn a_file_that_a_running_server_passes_by_is_told_within_a_minute() {
        let next = Some("000000010000000000000003".parse().unwrap());
        let name: WalName = "000000010000000000000005".parse().unwrap();
        let later = |since| ArchivedFile { name: name.into(), since: moment(since), stored_size: 1 };
        let waits = Backlog {
            files: 1,
            oldest: Some(moment(1000)),
            next,
            next_since: Some(moment(1000)),
            served: true,
            ..Backlog::default()
        };
        for (backlog, passed_by, now, expected) in [
            (waits, None, 1060, Outcome::Pass),
            (waits, None, 1061, Outcome::Note),
            (waits, Some(1000), 1060, Outcome::Pass),
            (waits, Some(1000), 1061, Outcome::Fail),
            (waits, Some(1010), 1061, Outcome::Note),
            // The server archives others, so it will come to this one.
            (Backlog { last_done: Some(moment(1001)), ..waits }, Some(1000), 1061, Outcome::Pass),
            (Backlog { served: false, ..waits }, Some(1000), 1200, Outcome::Pass),
        ] {
            let passed_by = passed_by.map(later);
            assert_eq!(outcome(&backlog, passed_by.as_ref(), None, now), expected, "{now} {passed_by:?}");
        }
    }
}
