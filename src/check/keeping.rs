//! Checks that the archive can recover the cluster.

use jiff::{SignedDuration, Timestamp};

use super::server::{SEND_ONE, SWITCH};
use super::shell::Shell;
use super::{CheckFinding, Open, Outcome};
use crate::status::ArchiveStatus;
use crate::wal::SystemIdentifier;

/// Reports on the newest segment.
pub(super) fn newest(system: SystemIdentifier, known: Option<&ArchiveStatus>, shell: &Shell) -> CheckFinding {
    let name = "newest";
    match known.and_then(ArchiveStatus::newest) {
        Some(newest) => {
            let age = ago(newest.since, Timestamp::now());
            CheckFinding::pass(name, format!("the newest archived segment is {}, {age} old", newest.name))
        }
        None => CheckFinding::note(name, format!("no segment of system {system} has been archived yet"))
            .by_typing(SEND_ONE, shell.psql(&[SWITCH])),
    }
}

/// Checks for the history file of the server's timeline, for holes left by a failover, and for other servers that
/// write.
pub(super) fn timelines(known: &ArchiveStatus, shell: &Shell) -> CheckFinding {
    let now = Timestamp::now();
    let is_missing = !known.holes.is_empty() || known.without_history.is_some();
    let holes = known.holes.iter().map(|hole| (!hole.passed, hole.what(), hole.remedy()));
    let others = known.parallel.iter();
    let others = others.map(|other| (other.may_go_on(now), other.what(), other.remedy(now)));
    let without = known.without_history.iter().map(|without| (true, without.what(), without.remedy()));
    let left = known.left.iter().map(|left| (true, left.what(), left.remedy()));
    let problems: Vec<_> = without.chain(left).chain(holes).chain(others).collect();
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
    let command = if is_missing {
        shell.walkeep("backfill", &shell.pgdata_or_directory())
    } else {
        shell.of_system("list", "")
    };
    Open(CheckFinding::new(name, outcome, what)).by_typing(hints.join("; "), command)
}

/// Checks that the archive can feed a standby.
pub(super) fn standby(known: &ArchiveStatus, shell: &Shell) -> Option<CheckFinding> {
    let (name, standby) = ("standby", known.standby?);
    let wrongs: Vec<(String, &str)> = standby.wrongs().collect();
    Some(if !wrongs.is_empty() {
        let (what, hints): (Vec<String>, Vec<&str>) = wrongs.into_iter().unzip();
        CheckFinding::fail(name, what.join("; "))
            .by_typing(format!("{}; what the archive has", hints.join("; ")), shell.of_system("list", ""))
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
pub(super) fn backup(known: Option<&ArchiveStatus>, before: &[CheckFinding], shell: &Shell) -> CheckFinding {
    let name = "backup";
    let alone = before.iter().all(|finding| finding.outcome != Outcome::Fail);
    let hint = format!(
        "{}of one that was taken from a standby, name the directory in backup_dirs, or by --backup-dir; otherwise take one",
        if alone { "this alone is left to do; " } else { "" }
    );
    let command = shell.base_backup();
    let (newest, number) = known.map_or((None, 0), |known| (known.newest_backup.as_ref(), known.backups.0));
    if let Some(newest) = newest {
        let together = known.and_then(|ArchiveStatus { together: [_, newest], .. }| newest.as_ref());
        let together = together.map_or_else(String::new, |words| format!(" ({words})"));
        let (ended, ago) = (to_the_second(newest.ended), ago(newest.ended, Timestamp::now()));
        let what =
            format!("the newest base backup is {}{together}, ended at {ended}, {ago} ago", newest.title());
        return CheckFinding::pass(name, what);
    }
    if number > 0 {
        let what = format!("of the base backups that are known ({number}), the first segment is missing");
        return CheckFinding::fail(name, what).by_typing(hint, command);
    }
    if known.and_then(ArchiveStatus::newest).is_none() {
        return CheckFinding::note(name, "no base backup is known yet").by_typing(hint, command);
    }
    let unreadable = known.map_or(&[][..], |known| &known.unreadable);
    let unreadable: Vec<String> = unreadable.iter().map(|what| format!("; {what}")).collect();
    let unreadable = unreadable.concat();
    CheckFinding::fail(
        name,
        format!("no base backup is known, and WAL alone brings nothing back{unreadable}"),
    )
    .by_typing(hint, command)
}

/// Reports what the last verification has found.
pub(super) fn verified(known: &ArchiveStatus, shell: &Shell) -> Option<CheckFinding> {
    let name = "verify";
    let report = known.verify.as_ref()?.decisive();
    Some(match known.failed_verification() {
        Some((what, remedy)) => {
            CheckFinding::fail(name, what).by_typing(remedy, shell.of_system("verify", ""))
        }
        None if report.at_work => {
            CheckFinding::note(name, "the first verify is at work, or was ended before it was complete")
                .by_typing("to go on with it", shell.of_system("verify", ""))
        }
        None => CheckFinding::pass(
            name,
            format!("the last verify, at {}, found no failure", to_the_second(report.at)),
        ),
    })
}

/// Reports on what could not be read and may be of importance.
pub(super) fn unreadable(known: &ArchiveStatus, shell: &Shell) -> Option<CheckFinding> {
    let what = known.unreadable.join("; ");
    (!what.is_empty()).then(|| {
        CheckFinding::note("unreadable", what).by_typing(
            "archiving goes on without; what else is wrong",
            shell.of_system("verify", "--names-only"),
        )
    })
}

/// Returns the time since then in words, never negative.
pub(super) fn ago(since: Timestamp, now: Timestamp) -> String {
    let age = now.duration_since(since).max(SignedDuration::ZERO);
    format!("{:#}", SignedDuration::from_secs(age.as_secs()))
}

/// Whole seconds are enough for people.
pub(super) fn to_the_second(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}
