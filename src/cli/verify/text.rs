//! Text output of `walkeep verify`.

use std::fmt::Write;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::archive::ArchiveUrl;
use crate::cli::print::{bytes, count, plain, time};
use crate::cli::table::{blocks, left, table};
use crate::coverage::{BackupState, Chain, Coverage, Reach};
use crate::reports::{Acknowledgement, Finding, Scope, Severity};
use crate::verify::{Answer, Names, Present, TimelineState, Verified};

/// Maximum number of printed findings. JSON output has more.
const MOST_FINDINGS: usize = 1000;

/// Maximum number of timelines that are printed for a base backup.
const MOST_REACHES: usize = 20;

pub(super) fn render(verified: &Verified) -> String {
    let coloured = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    let coverage = verified.survey.coverage();
    let Names { timelines, backups, .. } = &verified.survey.names;
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(present) = &verified.survey.present {
        let style = if coloured { style_of(present) } else { Style::new() };
        let _ = writeln!(text, "{style}{}{style:#}\n", plain(&answer(present, verified)));
    }
    if !timelines.is_empty() {
        let rows = timelines.iter().map(|state| of_timeline(coverage, state));
        text += &table(&["TIMELINE", "SEGMENTS", "FIRST", "LAST", "GAPS"], &[0, 1, 4], rows);
        text.extend(timelines.iter().filter_map(|state| {
            let (parent, position) = state.parent?;
            Some(left(state.timeline, parent, position))
        }));
        text.push('\n');
    }
    let of_backups = backups.iter().map(|state| of_backup(coverage, state, backups));
    text += &if backups.is_empty() {
        "no base backup is known\n".to_owned()
    } else {
        blocks(&["BACKUP", "ENDED"], of_backups)
    };
    text.push('\n');
    let findings: Vec<&Finding> = verified.findings().collect();
    for Finding { severity, kind: _, file, what, meaning, acknowledged } in
        findings.iter().take(MOST_FINDINGS)
    {
        let style = if coloured { style(*severity) } else { Style::new() };
        let known = acknowledged.as_ref().map_or_else(String::new, |known| format!("; {known}"));
        let line = plain(&format!("{file}: {what}; {meaning}{known}"));
        let _ = writeln!(text, "{style}{severity}{style:#} {line}");
    }
    for Acknowledgement { file, acknowledged, .. } in &verified.dropped {
        let line =
            format!("{file} is not wrong any more, so that it is forgotten that it was {acknowledged}");
        let _ = writeln!(text, "{}", plain(&line));
    }
    let shown = findings.len().min(MOST_FINDINGS) as u64;
    let all = verified.report.failures + verified.report.notes;
    if all > shown {
        let _ = writeln!(text, "and {} more", all - shown);
    }
    text + &summary(verified) + "\n"
}

/// Formats the answer to the main question.
fn answer(present: &Present, verified: &Verified) -> String {
    let Present { timeline, others, answer } = present;
    let others = match others.as_slice() {
        [] => String::new(),
        [other] => format!("; timeline {other} was written on lately, too, and is not meant"),
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            format!("; timelines {} were written on lately, too, and are not meant", several.join(", "))
        }
    };
    let qualified = match (&verified.error, verified.report.scope) {
        (Some(_), _) | (None, Scope::Part) => ", as far as was looked",
        (None, Scope::Names) => ", as far as names tell",
        (None, Scope::All) => "",
    };
    match answer {
        Answer::Recoverable { from, to, backup, .. } => {
            let to = to.map_or_else(String::new, |to| format!(", to what had been archived by {}", time(to)));
            format!(
                "what is written now, on timeline {timeline}, can be recovered{qualified}: from {}, when {backup} had \
                 ended{to}{others}",
                time(*from)
            )
        }
        Answer::Lost { why, cure } => {
            format!("what is written now, on timeline {timeline}, CANNOT be recovered: {why}; {cure}{others}")
        }
        Answer::NotYet(why) => format!(
            "what is written now, on timeline {timeline}, cannot be recovered yet: {why}; it may be on its way{others}"
        ),
        Answer::Unknown(why) => format!(
            "whether what is written now, on timeline {timeline}, can be recovered cannot be told: {why}; take one, or \
             name the directories where they are kept by --backup-dir{others}"
        ),
    }
}

fn style_of(present: &Present) -> Style {
    match present.is_recoverable() {
        Some(true) => AnsiColor::Green.on_default(),
        Some(false) => style(Severity::Failure),
        None => style(Severity::Note),
    }
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Failure => AnsiColor::Red.on_default().bold(),
        Severity::Note => AnsiColor::Yellow.on_default(),
    }
}

fn of_timeline(coverage: &Coverage, state: &TimelineState) -> Vec<String> {
    let name = |number: Option<u64>| {
        let name = number.and_then(|number| coverage.name(state.timeline, number));
        name.map_or_else(|| "-".to_owned(), |name| name.to_string())
    };
    vec![
        state.timeline.to_string(),
        state.held.segments().to_string(),
        name(state.held.first()),
        name(state.held.last()),
        state.gaps.len().to_string(),
    ]
}

/// Returns a row for the backup, with a line for its start and one for each timeline that it can be recovered to.
fn of_backup(coverage: &Coverage, state: &BackupState, all: &[BackupState]) -> (Vec<String>, Vec<String>) {
    let BackupState { backup, complete, reaches } = state;
    let mut title = plain(&backup.label.clone().unwrap_or_else(|| backup.file()));
    if !backup.counts {
        title += " (does not count)";
    }
    let up_to = |reach: &Reach| {
        let last = reach.last.and_then(|(of, number)| coverage.name(of, number));
        let last = last.map_or_else(|| "nothing".to_owned(), |last| last.to_string());
        let end = if reach.to_the_end { "the end of" } else { "a gap on the way to" };
        format!("recoverable to {last}, {end} timeline {}", reach.timeline)
    };
    let mut lines = vec![format!("from {}", backup.start())];
    if *complete {
        lines.extend(reaches.iter().take(MOST_REACHES).map(up_to));
    } else {
        lines.push("not recoverable".to_owned());
    }
    // A label may contain anything.
    let chain = Chain::below(backup, &all.iter().map(|state| &state.backup));
    lines.extend(chain.together().map(|words| plain(&words)));
    (vec![title, time(backup.ended)], lines)
}

/// Says in one line that a verification has failed: how much is wrong, and the first of it.
pub(super) fn in_short(archive: &ArchiveUrl, verified: &Verified) -> String {
    let failure =
        |finding: &&Finding| finding.severity == Severity::Failure && finding.acknowledged.is_none();
    let first = verified.findings().find(failure);
    let first = first.map_or_else(String::new, |Finding { file, what, meaning, .. }| {
        format!(": {file}: {what}; {meaning}")
    });
    let failures = count(usize::try_from(verified.report.failures).unwrap_or(usize::MAX), "failure");
    plain(&format!("{failures} in {archive}{first}; standard output has all of it"))
}

fn summary(verified: &Verified) -> String {
    let Verified { survey, run, report, .. } = verified;
    let number = |number: u64, what| count(usize::try_from(number).unwrap_or(usize::MAX), what);
    let totals = survey.totals;
    let looked_at = match report.scope {
        Scope::Names => String::new(),
        Scope::All | Scope::Part => {
            let how = if report.deep { "decompressed and compared" } else { "compared with what was stored" };
            format!(", the contents of {} {how}", number(report.checked_files, "file"))
        }
    };
    let uncompared = match report.uncompared_files {
        0 => String::new(),
        some => format!(", {} that could not be compared", number(some, "file")),
    };
    let known = verified.findings().filter(|finding| finding.acknowledged.is_some()).count();
    let known = if known == 0 { String::new() } else { format!(" ({known} acknowledged)") };
    let gone = match report.gone_files {
        0 => String::new(),
        gone => format!(", {} deleted meanwhile", number(gone, "file")),
    };
    let resumed = run.resumed_after.map_or_else(String::new, |after| format!(", going on after {after}"));
    format!(
        "{} and {}{known} in {}, {}{looked_at}{uncompared}{gone}{resumed}",
        number(report.failures, "failure"),
        number(report.notes, "note"),
        number(totals.files, "file"),
        bytes(totals.stored_bytes),
    )
}
