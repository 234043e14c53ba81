//! Text output of `walkeep verify`.

use std::fmt::Write;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::cli::print::{bytes, count, plain, time};
use crate::cli::table::table;
use crate::coverage::{BackupState, Coverage, Reach};
use crate::reports::{Acknowledgement, Finding, Scope, Severity};
use crate::verify::{Answer, Names, Present, TimelineState, Verified};

/// Maximum number of printed findings. JSON output has more.
const MOST_FINDINGS: usize = 1000;

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
        let heads = ["TIMELINE", "PARENT", "SEGMENTS", "FIRST", "LAST", "GAPS"];
        text += &(table(&heads, &[0, 2, 5], rows) + "\n");
    }
    let heads = ["BACKUP", "START", "ENDED", "RECOVERABLE TO"];
    let rows = backups.iter().flat_map(|state| of_backup(coverage, state));
    text +=
        &if backups.is_empty() { "no base backup is known\n".to_owned() } else { table(&heads, &[], rows) };
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
    let parent = match state.parent {
        Some((parent, position)) => format!("{parent}, left at {position}"),
        None => "-".to_owned(),
    };
    vec![
        state.timeline.to_string(),
        parent,
        state.held.segments().to_string(),
        name(state.held.first()),
        name(state.held.last()),
        state.gaps.len().to_string(),
    ]
}

/// Returns a row for each timeline that the backup can be recovered to.
fn of_backup(coverage: &Coverage, state: &BackupState) -> Vec<Vec<String>> {
    let BackupState { backup, complete, reaches } = state;
    let mut title = plain(&backup.label.clone().unwrap_or_else(|| backup.file()));
    if !backup.counts {
        title += " (does not count)";
    }
    let up_to = |reach: &Reach| {
        let last = reach.last.and_then(|(of, number)| coverage.name(of, number));
        let last = last.map_or_else(|| "nothing".to_owned(), |last| last.to_string());
        let end = if reach.to_the_end { "the end of" } else { "a gap on the way to" };
        format!("{last}, {end} timeline {}", reach.timeline)
    };
    let mut lines: Vec<String> =
        if *complete { reaches.iter().map(up_to).collect() } else { vec!["not at all".to_owned()] };
    lines.truncate(20);
    let first = [title, backup.start().to_string(), time(backup.ended)];
    let mut heads = Some(first);
    let row = |line| {
        let [title, start, ended] = heads.take().unwrap_or_default();
        vec![title, start, ended, line]
    };
    lines.into_iter().map(row).collect()
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
