//! What `walkeep verify --json` prints.

use jiff::Timestamp;
use serde::Serialize;

use super::Verified;
use crate::archive::ArchiveUrl;
use crate::catalog::{Finding, Scope, Totals};
use crate::cli::print::as_json;
use crate::coverage::{Coverage, Gap};
use crate::verify::{BackupState, TimelineState};
use crate::wal::{SystemIdentifier, TimelineId};

#[derive(Serialize)]
struct Printed<'a> {
    archive: String,
    system_identifier: String,
    /// Whether the exit status is 0.
    ok: bool,
    /// Why not all was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    segment_size: u64,
    timelines: Vec<PrintedTimeline>,
    backups: Vec<PrintedBackup<'a>>,
    content: Content<'a>,
    failures: u64,
    notes: u64,
    /// The first ten thousand.
    findings: Vec<&'a Finding>,
    totals: Totals,
}

#[derive(Serialize)]
struct PrintedTimeline {
    timeline: u32,
    parent: Option<u32>,
    left_parent_at: Option<String>,
    ranges: Vec<Range>,
    gaps: Vec<Range>,
    partials: Vec<String>,
}

#[derive(Serialize)]
struct Range {
    first: String,
    last: String,
    segments: u64,
}

#[derive(Serialize)]
struct PrintedBackup<'a> {
    /// Its backup history file.
    name: Option<String>,
    /// The directory it was found in.
    place: Option<String>,
    label: Option<&'a str>,
    start: String,
    ended: Timestamp,
    complete: bool,
    reaches: Vec<PrintedReach>,
}

#[derive(Serialize)]
struct PrintedReach {
    timeline: u32,
    last: Option<String>,
    to_the_end: bool,
}

#[derive(Serialize)]
struct Content<'a> {
    /// Of which files: all, part or names, which stands for text files alone.
    scope: Scope,
    deep: bool,
    checked_files: u64,
    gone_files: u64,
    /// Where it went on with an earlier one.
    resumed_after: Option<String>,
    /// Where it can be gone on with.
    checked_up_to: Option<&'a str>,
}

pub(super) fn told(archive: &ArchiveUrl, system: SystemIdentifier, verified: &Verified) -> String {
    let Verified { survey, run, report, .. } = verified;
    let coverage = survey.coverage();
    as_json(&Printed {
        archive: archive.to_string(),
        system_identifier: system.to_string(),
        ok: report.ok,
        error: report.error.as_deref(),
        segment_size: survey.segment_size().bytes(),
        timelines: survey.names.timelines.iter().map(|timeline| of_timeline(coverage, timeline)).collect(),
        backups: survey.names.backups.iter().map(|backup| of_backup(coverage, backup)).collect(),
        content: Content {
            scope: report.scope,
            deep: report.deep,
            checked_files: report.checked_files,
            gone_files: report.gone_files,
            resumed_after: run.resumed_after.map(|name| name.to_string()),
            checked_up_to: report.checked_up_to.as_deref(),
        },
        failures: report.failures,
        notes: report.notes,
        findings: verified.findings().collect(),
        totals: survey.totals,
    })
}

/// Beyond all positions there are no names, and nothing is there either.
fn name(coverage: &Coverage, timeline: TimelineId, number: u64) -> String {
    coverage.name(timeline, number).map(|name| name.to_string()).unwrap_or_default()
}

fn range(coverage: &Coverage, timeline: TimelineId, first: u64, last: u64) -> Range {
    let name = |number| name(coverage, timeline, number);
    Range { first: name(first), last: name(last), segments: last - first + 1 }
}

fn of_timeline(coverage: &Coverage, state: &TimelineState) -> PrintedTimeline {
    let TimelineState { timeline, parent, held, gaps } = state;
    let timeline = *timeline;
    let ranges =
        held.stretches.iter().map(|stretch| range(coverage, timeline, *stretch.start(), *stretch.end()));
    let gaps = gaps.iter().map(|Gap { first, last, .. }| range(coverage, timeline, *first, *last));
    PrintedTimeline {
        timeline: timeline.get(),
        parent: parent.map(|(parent, _)| parent.get()),
        left_parent_at: parent.map(|(_, position)| position.to_string()),
        ranges: ranges.collect(),
        gaps: gaps.collect(),
        partials: held.partials.iter().map(|number| name(coverage, timeline, *number) + ".partial").collect(),
    }
}

fn of_backup<'a>(coverage: &Coverage, state: &'a BackupState) -> PrintedBackup<'a> {
    let BackupState { backup, complete, reaches, .. } = state;
    let reaches = reaches.iter().map(|reach| PrintedReach {
        timeline: reach.timeline.get(),
        last: reach.last.map(|(of, number)| name(coverage, of, number)),
        to_the_end: reach.to_the_end,
    });
    PrintedBackup {
        name: backup.name.map(|name| name.to_string()),
        place: backup.place.as_ref().map(|place| place.display().to_string()),
        label: backup.label.as_deref(),
        start: backup.start.to_string(),
        ended: backup.ended,
        complete: *complete,
        reaches: reaches.collect(),
    }
}
