//! What `walkeep verify` tells people.

use std::fmt::Write;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};

use super::Verified;
use crate::catalog::{Finding, Scope, Severity};
use crate::cli::print::{bytes, count};
use crate::coverage::{Coverage, Reach};
use crate::verify::{BackupState, Names, TimelineState};

/// What is told of so many findings; JSON has more.
const MOST_FINDINGS: usize = 1000;

pub(super) fn told(verified: &Verified) -> String {
    let coloured = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    let coverage = verified.survey.coverage();
    let Names { timelines, backups, .. } = &verified.survey.names;
    let mut text = String::new();
    if !timelines.is_empty() {
        let rows = timelines.iter().map(|state| of_timeline(coverage, state));
        text += &table(["timeline", "parent", "segments", "first", "last", "gaps"], rows);
    }
    let heads = ["backup", "start", "ended", "recoverable up to"];
    let rows = backups.iter().flat_map(|state| of_backup(coverage, state));
    text += &if backups.is_empty() { "no base backup is known\n\n".to_owned() } else { table(heads, rows) };
    let findings: Vec<&Finding> = verified.findings().collect();
    // Writing to a text cannot fail.
    for Finding { severity, kind: _, file, what, meaning } in findings.iter().take(MOST_FINDINGS) {
        let style = if coloured { style(*severity) } else { Style::new() };
        let _ = writeln!(text, "{style}{severity}{style:#} {file}: {what}; {meaning}");
    }
    let told = findings.len().min(MOST_FINDINGS) as u64;
    let all = verified.report.failures + verified.report.notes;
    if all > told {
        let _ = writeln!(text, "and {} more", all - told);
    }
    text + &summary(verified) + "\n"
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Failure => AnsiColor::Red.on_default().bold(),
        Severity::Note => AnsiColor::Yellow.on_default(),
    }
}

/// With an empty line after it.
fn table<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(heads);
    for row in rows {
        table.add_row(row.map(|cell| cell.replace(char::is_control, " ")));
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").chain(["\n".to_owned()]).collect()
}

fn of_timeline(coverage: &Coverage, state: &TimelineState) -> [String; 6] {
    let name = |number: Option<u64>| {
        let name = number.and_then(|number| coverage.name(state.timeline, number));
        name.map_or_else(|| "-".to_owned(), |name| name.to_string())
    };
    let parent = match state.parent {
        Some((parent, position)) => format!("{parent}, left at {position}"),
        None => "-".to_owned(),
    };
    [
        state.timeline.to_string(),
        parent,
        state.held.segments().to_string(),
        name(state.held.first()),
        name(state.held.last()),
        state.gaps.len().to_string(),
    ]
}

/// A row for each timeline that it can be recovered to.
fn of_backup(coverage: &Coverage, state: &BackupState) -> Vec<[String; 4]> {
    let BackupState { backup, complete, reaches, .. } = state;
    let title = backup.label.clone().unwrap_or_else(|| backup.file());
    let up_to = |reach: &Reach| {
        let last = reach.last.and_then(|(of, number)| coverage.name(of, number));
        let last = last.map_or_else(|| "nothing".to_owned(), |last| last.to_string());
        let end = if reach.to_the_end { "the end of" } else { "a gap on the way to" };
        format!("{last}, {end} timeline {}", reach.timeline)
    };
    let mut lines: Vec<String> =
        if *complete { reaches.iter().map(up_to).collect() } else { vec!["not at all".to_owned()] };
    lines.truncate(20);
    let first = [title, backup.start.to_string(), backup.ended.strftime("%Y-%m-%d %H:%M:%SZ").to_string()];
    let mut heads = Some(first);
    let row = |line| {
        let [title, start, ended] = heads.take().unwrap_or_default();
        [title, start, ended, line]
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
    let gone = match report.gone_files {
        0 => String::new(),
        gone => format!(", {} deleted meanwhile", number(gone, "file")),
    };
    let resumed = run.resumed_after.map_or_else(String::new, |after| format!(", going on after {after}"));
    format!(
        "{} and {} in {}, {}{looked_at}{gone}{resumed}",
        number(report.failures, "failure"),
        number(report.notes, "note"),
        number(totals.files, "file"),
        bytes(totals.stored_bytes),
    )
}
