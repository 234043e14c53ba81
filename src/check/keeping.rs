//! Checks that the archive keeps up with its server, and that it can recover the cluster.

use jiff::{SignedDuration, Timestamp};

use super::{CheckFinding, Outcome};
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::status::{ArchiveStatus, Backlog, Unarchived, unarchived};
use crate::wal::{SystemIdentifier, WalName};

/// Reports on the newest segment.
pub(super) fn newest(system: SystemIdentifier, known: Option<&ArchiveStatus>) -> CheckFinding {
    let name = "newest";
    match known.and_then(ArchiveStatus::newest) {
        Some(newest) => {
            let age = ago(newest.since, Timestamp::now());
            CheckFinding::pass(name, format!("the newest archived segment is {}, {age} old", newest.name))
        }
        None => CheckFinding::note(name, format!("no segment of system {system} has been archived yet")),
    }
}

/// Checks that the server's files reach this archive, as the arrival of a requested one proves, and that no file
/// blocks the others.
pub(super) async fn backlog(
    archive: &Archive,
    system: SystemIdentifier,
    data: DataDirectory,
    known: Option<&ArchiveStatus>,
    arrived: bool,
) -> CheckFinding {
    let left = known.map(|known| known.unarchived);
    let url = archive.url().to_string();
    blocking(move || match Backlog::of(&data) {
        Err(error) => CheckFinding::failed("backlog", &error),
        Ok(backlog) => {
            let left = left.unwrap_or_else(|| unarchived(&data, system, &[]));
            let left =
                left.filter(|left| !arrived && !Backlog::is_marked(&data, WalName::Segment(left.first)));
            let command = |next| Backlog::command_for(next, &url, data.path());
            of_backlog(&backlog, left, Timestamp::now(), command)
        }
    })
    .await
}

/// Reports on waiting files, and on files that should wait but do not.
fn of_backlog(
    backlog: &Backlog,
    left: Option<Unarchived>,
    now: Timestamp,
    command: impl Fn(WalName) -> String,
) -> CheckFinding {
    let name = "backlog";
    if let Some((next, since)) = backlog.held_up(now) {
        let since = to_the_second(since);
        let what = format!(
            "files have waited to be archived since {since}; {next} is the next one, and holds up the others"
        );
        let hint = format!("to see why, type as the server's user: {}", command(next));
        return CheckFinding::fail(name, what).hint(hint);
    }
    if let Some(left) = left.filter(|left| left.is_overdue(now)) {
        let (first, since) = (left.first, to_the_second(left.since));
        let what = format!(
            "{first} was finished at {since} and is not in this archive, and nothing says that the server will archive it"
        );
        return CheckFinding::fail(name, what).hint(
            "is the archive of archive_command, its --archive, this one? With --pg-url it is tried out",
        );
    }
    CheckFinding::pass(
        name,
        match (backlog.files, backlog.oldest.map(|oldest| ago(oldest, now))) {
            (0, _) | (_, None) => "nothing waits to be archived".to_owned(),
            (1, Some(ago)) => format!("1 file waits to be archived, for {ago}"),
            (files, Some(ago)) => format!("{files} files wait to be archived, the oldest for {ago}"),
        },
    )
}

/// Checks for the history file of the server's timeline, for holes left by a failover, and for other servers that
/// write.
pub(super) fn timelines(known: &ArchiveStatus) -> CheckFinding {
    let now = Timestamp::now();
    let holes = known.holes.iter().map(|hole| (!hole.passed, hole.what(), hole.remedy()));
    let others = known.parallel.iter();
    let others = others.map(|other| (other.may_go_on(now), other.what(), other.remedy(now)));
    let without = known.without_history.iter().map(|without| (true, without.what(), without.remedy()));
    let problems: Vec<_> = without.chain(holes).chain(others).collect();
    let name = "timelines";
    if problems.is_empty() {
        return CheckFinding::pass(
            name,
            "nothing is missing where a timeline was left, and nobody else writes",
        );
    }
    let what = problems.iter().map(|(_, what, _)| what.as_str()).collect::<Vec<_>>().join("; ");
    let mut hints: Vec<&str> = problems.iter().map(|(_, _, hint)| *hint).collect();
    hints.dedup();
    let outcome = if problems.iter().any(|(urgent, ..)| *urgent) { Outcome::Fail } else { Outcome::Note };
    CheckFinding { outcome, ..CheckFinding::pass(name, what) }.hint(hints.join("; "))
}

/// Checks that the archive can feed a standby.
pub(super) fn standby(known: &ArchiveStatus) -> Option<CheckFinding> {
    let (name, standby) = ("standby", known.standby?);
    let wrongs: Vec<(String, &str)> = standby.wrongs().collect();
    Some(if !wrongs.is_empty() {
        let (what, hints): (Vec<String>, Vec<&str>) = wrongs.into_iter().unzip();
        CheckFinding::fail(name, what.join("; ")).hint(hints.join("; "))
    } else if standby.archived {
        CheckFinding::pass(name, format!("{}, which it needs next, is in the archive", standby.needs))
    } else {
        CheckFinding::pass(
            name,
            format!("it has all that is in the archive, and needs {} next", standby.needs),
        )
    })
}

/// Checks that there is a base backup, without which WAL recovers nothing. `before` are the findings of all other
/// checks.
pub(super) fn backup(known: Option<&ArchiveStatus>, before: &[CheckFinding]) -> CheckFinding {
    let name = "backup";
    let alone = before.iter().all(|finding| finding.outcome != Outcome::Fail);
    let hint = format!(
        "{}pg_basebackup -D DIRECTORY -X none; of one that was taken from a standby, name the directory in backup_dirs, or by --backup-dir",
        if alone { "this alone is left to do: " } else { "" }
    );
    let (newest, number) = known.map_or((None, 0), |known| (known.newest_backup.as_ref(), known.backups.0));
    if let Some(newest) = newest {
        let (ended, ago) = (to_the_second(newest.ended), ago(newest.ended, Timestamp::now()));
        let what = format!("the newest base backup is {}, ended at {ended}, {ago} ago", newest.title());
        return CheckFinding::pass(name, what);
    }
    if number > 0 {
        let what = format!("of the base backups that are known ({number}), the first segment is missing");
        return CheckFinding::fail(name, what).hint(hint);
    }
    if known.and_then(ArchiveStatus::newest).is_none() {
        return CheckFinding::note(name, "no base backup is known yet").hint(hint);
    }
    let unreadable = known.map_or(&[][..], |known| &known.unreadable);
    let unreadable: Vec<String> = unreadable.iter().map(|what| format!("; {what}")).collect();
    let unreadable = unreadable.concat();
    CheckFinding::fail(
        name,
        format!("no base backup is known, and WAL alone brings nothing back{unreadable}"),
    )
    .hint(hint)
}

/// Reports what the last verification has found.
pub(super) fn verified(known: &ArchiveStatus) -> Option<CheckFinding> {
    let name = "verify";
    let report = known.verify.as_ref()?.decisive();
    Some(match known.failed_verification() {
        Some((what, remedy)) => CheckFinding::fail(name, what).hint(remedy),
        None if report.at_work => {
            CheckFinding::note(name, "the first verify is at work, or was ended before it was complete")
        }
        None => CheckFinding::pass(
            name,
            format!("the last verify, at {}, found no failure", to_the_second(report.at)),
        ),
    })
}

/// Reports on what could not be read and may be of importance.
pub(super) fn unreadable(known: &ArchiveStatus) -> impl Iterator<Item = CheckFinding> {
    known.unreadable.iter().map(|what| CheckFinding::note("unreadable", what.clone()))
}

/// Returns the time since then in words, never negative.
fn ago(since: Timestamp, now: Timestamp) -> String {
    let age = now.duration_since(since).max(SignedDuration::ZERO);
    format!("{:#}", SignedDuration::from_secs(age.as_secs()))
}

/// Whole seconds are enough for people.
fn to_the_second(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_unmarked_files_are_tolerated_for_minutes() {
        let moment = |seconds| Timestamp::from_second(seconds).unwrap();
        let first = "000000010000000000000003".parse().unwrap();
        let left = Some(Unarchived { first, since: moment(1000), segments: 2 });
        let outcome = |backlog: &Backlog, left, now| {
            of_backlog(backlog, left, moment(now), |next| format!("try {next}")).outcome
        };
        let nothing = Backlog::default();
        assert_eq!(outcome(&nothing, None, 9000), Outcome::Pass);
        assert_eq!(outcome(&nothing, left, 1300), Outcome::Pass);
        assert_eq!(outcome(&nothing, left, 1301), Outcome::Fail);
        let next = Some(WalName::Segment(first));
        let waits = Backlog { files: 1, bytes: 1, oldest: Some(moment(1200)), next, ..Backlog::default() };
        assert_eq!(outcome(&waits, None, 1500), Outcome::Pass);
        assert_eq!(outcome(&waits, None, 1501), Outcome::Fail);
        assert_eq!(outcome(&waits, left, 1301), Outcome::Fail);
    }
}
