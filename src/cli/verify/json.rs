//! What `walkeep verify --json` prints.

use jiff::Timestamp;
use serde::Serialize;

use super::Verified;
use crate::archive::ArchiveUrl;
use crate::catalog::{Finding, Scope, Totals};
use crate::cli::json::Problem;
use crate::cli::print::as_json;
use crate::cli::shape::{ReachShape, TimelineShape};
use crate::coverage::Coverage;
use crate::verify::{BackupState, TimelineState};
use crate::wal::SystemIdentifier;

#[derive(Serialize)]
struct Printed<'a> {
    archive: String,
    system_identifier: String,
    /// Whether the exit status is 0.
    ok: bool,
    /// Why not all was looked at.
    #[serde(flatten)]
    problem: Option<Problem>,
    segment_bytes: u64,
    timelines: Vec<TimelineShape>,
    backups: Vec<PrintedBackup<'a>>,
    content: Content<'a>,
    failures: u64,
    notes: u64,
    /// The first ten thousand.
    findings: Vec<&'a Finding>,
    totals: Totals,
}

#[derive(Serialize)]
struct PrintedBackup<'a> {
    /// Its backup history file.
    name: Option<String>,
    /// The directory it was found in.
    place: Option<String>,
    label: Option<&'a str>,
    start_segment: String,
    ended: Timestamp,
    complete: bool,
    /// Whether its label counts.
    counts: bool,
    reaches: Vec<ReachShape>,
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
    let Verified { survey, run, report, error } = verified;
    let coverage = survey.coverage();
    as_json(&Printed {
        archive: archive.to_string(),
        system_identifier: system.to_string(),
        ok: report.ok,
        problem: error.as_ref().map(Problem::from),
        segment_bytes: survey.segment_size().bytes(),
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

fn of_timeline(coverage: &Coverage, state: &TimelineState) -> TimelineShape {
    let TimelineState { timeline, parent, held, gaps } = state;
    TimelineShape::new(coverage, *timeline, *parent, held, gaps)
}

fn of_backup<'a>(coverage: &Coverage, state: &'a BackupState) -> PrintedBackup<'a> {
    let BackupState { backup, complete, reaches, .. } = state;
    let reaches = reaches.iter().map(|reach| ReachShape::new(coverage, *reach));
    PrintedBackup {
        name: backup.name.map(|name| name.to_string()),
        place: backup.place.as_ref().map(|place| place.display().to_string()),
        label: backup.label.as_deref(),
        start_segment: backup.start.to_string(),
        ended: backup.ended,
        complete: *complete,
        counts: backup.counts,
        reaches: reaches.collect(),
    }
}
