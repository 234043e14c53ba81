//! JSON output of `walkeep verify`.

use jiff::Timestamp;
use serde::Serialize;

use crate::archive::ArchiveUrl;
use crate::catalog::Totals;
use crate::cli::json::Problem;
use crate::cli::print::as_json;
use crate::cli::shape::{ReachShape, TimelineShape};
use crate::coverage::{BackupState, Coverage};
use crate::reports::{Acknowledgement, Finding, Scope};
use crate::verify::{Answer, Present, TimelineState, Verified};
use crate::wal::SystemIdentifier;

#[derive(Serialize)]
struct Printed<'a> {
    archive: String,
    system_identifier: String,
    /// `true` if the exit status is 0.
    ok: bool,
    /// Reason why the verification is incomplete.
    #[serde(flatten)]
    problem: Option<Problem>,
    segment_bytes: u64,
    present: Option<PrintedPresent>,
    timelines: Vec<TimelineShape>,
    backups: Vec<PrintedBackup<'a>>,
    content: Content<'a>,
    failures: u64,
    notes: u64,
    /// The first ten thousand findings.
    findings: Vec<&'a Finding>,
    /// Acknowledged failures.
    acknowledged: &'a [Acknowledgement],
    /// Acknowledgements that were removed, because nothing is wrong any more.
    dropped: &'a [Acknowledgement],
    totals: Totals,
}

/// Answer whether the WAL written now can be recovered.
#[derive(Serialize)]
struct PrintedPresent {
    timeline: u32,
    /// `null` if unknown.
    recoverable: Option<bool>,
    from: Option<Timestamp>,
    /// Time up to which WAL is archived.
    to: Option<Timestamp>,
    /// Base backup from which it can be recovered since then.
    backup: Option<String>,
    /// Reason why it cannot be recovered, or is unknown.
    why: Option<String>,
    /// Other timelines that were written recently.
    others: Vec<u32>,
}

#[derive(Serialize)]
struct PrintedBackup<'a> {
    /// Name of its backup history file.
    name: Option<String>,
    /// Directory in which it was found.
    place: Option<&'a str>,
    label: Option<&'a str>,
    start_segment: String,
    ended: Timestamp,
    complete: bool,
    /// `true` if its label counts.
    counts: bool,
    reaches: Vec<ReachShape>,
}

#[derive(Serialize)]
struct Content<'a> {
    /// Scope: all, part, or names, which includes only the contents of text files.
    scope: Scope,
    deep: bool,
    /// Numbers of files that were compared, and that could not be.
    checked_files: u64,
    uncompared_files: u64,
    gone_files: u64,
    /// File after which a continued verification started.
    resumed_after: Option<String>,
    /// File from which the verification can be continued.
    checked_up_to: Option<&'a str>,
}

pub(super) fn render(archive: &ArchiveUrl, system: SystemIdentifier, verified: &Verified) -> String {
    let Verified { survey, run, report, error, dropped } = verified;
    let coverage = survey.coverage();
    as_json(&Printed {
        archive: archive.to_string(),
        system_identifier: system.to_string(),
        ok: report.ok && error.is_none(),
        problem: error.as_ref().map(Problem::from),
        segment_bytes: survey.segment_size().bytes(),
        present: survey.present.as_ref().map(of_present),
        timelines: survey.names.timelines.iter().map(|timeline| of_timeline(coverage, timeline)).collect(),
        backups: survey.names.backups.iter().map(|backup| of_backup(coverage, backup)).collect(),
        content: Content {
            scope: report.scope,
            deep: report.deep,
            checked_files: report.checked_files,
            uncompared_files: report.uncompared_files,
            gone_files: report.gone_files,
            resumed_after: run.resumed_after.map(|name| name.to_string()),
            checked_up_to: report.checked_up_to.as_deref(),
        },
        failures: report.failures,
        notes: report.notes,
        findings: verified.findings().collect(),
        acknowledged: &survey.acknowledged.acknowledged,
        dropped,
        totals: survey.totals,
    })
}

fn of_present(present: &Present) -> PrintedPresent {
    let Present { timeline, others, answer } = present;
    let (from, to, backup, why) = match answer {
        Answer::Recoverable { from, to, backup, .. } => (Some(*from), *to, Some(backup.clone()), None),
        Answer::Lost { why, .. } | Answer::NotYet(why) | Answer::Unknown(why) => {
            (None, None, None, Some(why.clone()))
        }
    };
    PrintedPresent {
        timeline: timeline.get(),
        recoverable: present.is_recoverable(),
        from,
        to,
        backup,
        why,
        others: others.iter().map(|other| other.get()).collect(),
    }
}

fn of_timeline(coverage: &Coverage, state: &TimelineState) -> TimelineShape {
    let TimelineState { timeline, parent, held, gaps } = state;
    TimelineShape::new(coverage, *timeline, *parent, held, gaps)
}

fn of_backup<'a>(coverage: &Coverage, state: &'a BackupState) -> PrintedBackup<'a> {
    let BackupState { backup, complete, reaches } = state;
    let reaches = reaches.iter().map(|reach| ReachShape::new(coverage, *reach));
    PrintedBackup {
        name: backup.known_from.history().map(|name| name.to_string()),
        place: backup.known_from.directory(),
        label: backup.label.as_deref(),
        start_segment: backup.start().to_string(),
        ended: backup.ended,
        complete: *complete,
        counts: backup.counts,
        reaches: reaches.collect(),
    }
}
