//! Text output.

use std::path::Path;

use jiff::Timestamp;

use super::Overview;
use crate::catalog::Totals;
use crate::cli::print::{bytes, count, duration, plain, ratio, time};
use crate::cli::table::pairs;
use crate::coverage::BaseBackup;
use crate::reports::VerifyReport;
use crate::status::{ArchiveStatus, Backlog, Chore, Standby, Status};
use crate::wal::SystemNames;

pub(super) fn render(overview: &Overview<'_>, names: &SystemNames) -> String {
    let Overview { archive, status, problems, notes } = overview;
    let mut lines = Vec::new();
    let system = status.system.map_or_else(String::new, |system| format!(", system {}", names.shown(system)));
    lines.push(("archive", format!("{archive}{system}")));
    let known = status.archive.as_ref().ok();
    if let Some(known) = known {
        lines.push(("newest segment", newest(status, known)));
    }
    if let Some(text) = backlog(status) {
        lines.push(("backlog", text));
    }
    if let Some(lag) = status.lag() {
        lines.push(("lag", duration(lag)));
    }
    if let Some(known) = known {
        lines.push(("size", size(known)));
        lines.push(("recovery window", window(known)));
        lines.push(("newest backup", newest_backup(status, known)));
        lines.extend(known.standby.map(|standby| ("standby", self::standby(standby))));
        lines.push(("last prune", prune(status, known)));
        lines.push(("last verify", verify(status, known)));
    }
    let notes = notes.iter().map(|what| format!("! {}\n", plain(what)));
    let problems = problems.iter().map(|problem| format!("✗ {}\n", plain(problem)));
    pairs(lines) + &notes.chain(problems).collect::<String>()
}

fn number(number: u64, what: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), what)
}

/// Formats a time with its age: `2026-11-21T12:00:00Z, 3m 12s ago`.
fn ago(status: &Status, moment: Timestamp) -> String {
    format!("{}, {} ago", time(moment), duration(status.age(moment)))
}

/// Lists the newest timeline first, because that is the one in use.
fn newest(status: &Status, known: &ArchiveStatus) -> String {
    if known.newest.is_empty() {
        return "none".to_owned();
    }
    let line = |file: &crate::archive::ArchivedFile| {
        let timeline = file.name.segment().map_or(0, |segment| segment.timeline().get());
        format!("{} on timeline {timeline}, archived {}", file.name, ago(status, file.since))
    };
    known.newest.iter().rev().map(line).collect::<Vec<_>>().join("\n")
}

fn backlog(status: &Status) -> Option<String> {
    let Ok(backlog) = status.backlog.as_ref()? else { return Some("unknown".to_owned()) };
    let waiting = match backlog.oldest {
        None => "nothing waits to be archived".to_owned(),
        Some(oldest) => format!(
            "{}, {}, the oldest ready for {}",
            number(backlog.files, "file"),
            bytes(backlog.bytes),
            duration(status.age(oldest))
        ),
    };
    let unarchived = status.archive.as_ref().ok().and_then(|known| known.unarchived);
    let unarchived = unarchived.filter(|left| left.segments > backlog.files);
    Some(match unarchived {
        None => waiting,
        Some(left) => format!(
            "{waiting}, but {} from {} on, finished {} ago, not in the archive",
            number(left.segments, "segment"),
            left.first,
            duration(status.age(left.since))
        ),
    })
}

/// Describes the consequences of a file that cannot be archived, and the command that shows the reason.
pub(super) fn held_up(status: &Status, archive: &str, data: &Path) -> Option<String> {
    let (next, since) = status.backlog()?.held_up(status.at)?;
    Some(format!(
        "the server's disk fills since {}: it hands over {next} next, and nothing else before that is archived; as the server's \
         user, type: {}",
        time(since),
        Backlog::command_for(next, archive, data)
    ))
}

fn size(known: &ArchiveStatus) -> String {
    let Some((totals, at, from)) = known.totals() else {
        return "unknown until \"walkeep prune\" or \"walkeep verify\" has counted".to_owned();
    };
    let Totals { files, stored_bytes, original_bytes, .. } = totals;
    let ratio = ratio(&totals).map_or_else(String::new, |ratio| format!(", ratio {ratio}"));
    format!(
        "{} of {} in {}{ratio}, as of the last {from}, {}",
        bytes(original_bytes),
        number(files, "file"),
        bytes(stored_bytes),
        time(at)
    )
}

fn window(known: &ArchiveStatus) -> String {
    let (number_of_backups, gone) = known.backups;
    let Some((start, end)) = known.window() else {
        return match (number_of_backups, gone) {
            (0, _) => "no base backup is known".to_owned(),
            (all, gone) if all == gone => {
                let backups = number(all as u64, "base backup");
                format!("none: of {backups} known, the first segment is missing")
            }
            _ => "none: there is no segment".to_owned(),
        };
    };
    let [together, _] = &known.together;
    let title =
        known.oldest_backup.as_ref().map_or_else(String::new, |backup| titled(backup, together.as_ref()));
    let verified = match known.verify.as_ref().map(VerifyReport::decisive) {
        None if known.not_known.contains(&Chore::Verify) => "not known".to_owned(),
        None => "never run".to_owned(),
        Some(report) if report.ok => format!("well at {}", time(report.at)),
        Some(report) => format!("failed at {}", time(report.at)),
    };
    let newest = known.newest().map_or_else(String::new, |newest| newest.name.to_string());
    // Only the WAL itself contains the times of commits.
    format!(
        "{}, the end of {title}, to the last commit in {newest}, archived {}; gaps are found by \"walkeep verify\" ({verified})",
        time(start),
        time(end)
    )
}

fn newest_backup(status: &Status, known: &ArchiveStatus) -> String {
    match &known.newest_backup {
        None => "none that can be recovered is known".to_owned(),
        Some(newest) => {
            let [_, together] = &known.together;
            format!("{}, ended {}", titled(newest, together.as_ref()), ago(status, newest.ended))
        }
    }
}

/// Returns the title of a backup, and with which others it is recovered. A label may contain anything.
fn titled(backup: &BaseBackup, together: Option<&String>) -> String {
    let together = together.map_or_else(String::new, |words| format!(" ({words})"));
    plain(&(backup.title() + &together))
}

fn standby(standby: Standby) -> String {
    let archived = if standby.archived { "which is in the archive" } else { "which is not in the archive" };
    format!("needs {} next, {archived}", standby.needs)
}

/// Describes work without a report.
fn without_report(known: &ArchiveStatus, work: Chore) -> String {
    let is_unknown = known.not_known.contains(&work);
    if is_unknown { "not known, because its report cannot be read" } else { "none is known of" }.to_owned()
}

fn prune(status: &Status, known: &ArchiveStatus) -> String {
    let Some(report) = &known.prune else { return without_report(known, Chore::Prune) };
    let when = ago(status, report.at);
    if report.ok {
        let deleted = number(report.deleted_files, "file");
        return format!("{when}: deleted {deleted}, {}", bytes(report.deleted_bytes));
    }
    format!("{when}: failed: {}", report.error.as_deref().map_or_else(|| "no reason noted".to_owned(), plain))
}

/// Returns why a verification has found out nothing, if so.
fn undone(report: &VerifyReport) -> Option<&str> {
    report.error.as_deref().filter(|_| report.failures == 0 && report.checked_files == 0)
}

/// Describes a last verification that could not be done.
pub(super) fn undone_verification(known: &ArchiveStatus) -> Option<String> {
    let report = known.verify.as_ref().map(VerifyReport::decisive)?;
    Some(format!("the last verify, at {}, could not be done: {}", time(report.at), undone(report)?))
}

fn verify(status: &Status, known: &ArchiveStatus) -> String {
    let Some(report) = known.verify.as_ref().map(VerifyReport::decisive) else {
        return without_report(known, Chore::Verify);
    };
    if let Some(error) = undone(report) {
        return format!("{}: could not be done: {}", ago(status, report.at), plain(error));
    }
    let failures = match report.failures {
        0 => "no failure".to_owned(),
        failures => number(failures, "failure"),
    };
    let found = format!(
        "{failures}, {}, {} checked",
        number(report.notes, "note"),
        number(report.checked_files, "file")
    );
    let ended = match &report.error {
        Some(error) => format!(", failed: {}", plain(error)),
        None => String::new(),
    };
    format!("{}: {found}{ended}", ago(status, report.at))
}
