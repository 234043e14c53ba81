//! JSON output. Every field is always present, and null if unknown, except two kinds: the error is present only on
//! failure, and the reports of prune and verify are as they were written. Ages are in seconds, and never negative, even
//! if clocks differ.

use jiff::Timestamp;
use serde::Serialize;

use super::Overview;
use crate::archive::ArchivedFile;
use crate::catalog::Totals;
use crate::cli::json::Problem;
use crate::cli::print::{as_json, time};
use crate::error::Error;
use crate::reports::{PruneReport, VerifyReport};
use crate::status::{self, ArchiveStatus, Status};
use crate::wal::TimelineId;

#[derive(Serialize)]
struct Printed<'a> {
    archive: &'a str,
    system_identifier: Option<String>,
    at: String,
    /// `true` if the exit status is 0, unless the output cannot be written.
    ok: bool,
    /// First of the following errors.
    #[serde(flatten)]
    problem: Option<Problem>,
    /// Errors from asking the archive or the data directory.
    errors: Vec<String>,
    /// Exceeded limits, and dangers to a recovery.
    problems: &'a [String],
    /// What somebody should know, and no problem.
    notes: &'a [String],
    lag_seconds: Option<i64>,
    backlog: Option<Backlog>,
    unarchived: Option<Unarchived>,
    timelines: Option<Vec<Newest>>,
    size: Option<Size>,
    recovery_window: Option<Window>,
    newest_backup: Option<Backup<'a>>,
    /// Missing segments on the path to the newest timeline.
    holes: Option<Vec<Hole>>,
    /// Timelines that were written after the newest one had begun.
    parallel: Option<Vec<Parallel>>,
    /// State of a server in recovery.
    standby: Option<Standby>,
    last_prune: Option<Noted<'a, PruneReport>>,
    last_verify: Option<Noted<'a, VerifyReport>>,
    /// Unreadable files, each with the reason.
    unreadable: &'a [String],
}

#[derive(Serialize)]
struct Backlog {
    files: u64,
    bytes: u64,
    oldest_since: Option<String>,
    oldest_age_seconds: Option<i64>,
    /// File that the server passes to `archive_command` next. It passes no other before this one is archived.
    next_file: Option<String>,
    /// `true` if a running server has got nothing archived for minutes.
    stuck: bool,
}

#[derive(Serialize)]
struct Unarchived {
    first_segment: String,
    segments: u64,
    since: String,
    age_seconds: i64,
}

#[derive(Serialize)]
struct Newest {
    timeline: u32,
    #[serde(rename = "newest_segment")]
    segment: String,
    archived_at: String,
    age_seconds: i64,
}

#[derive(Serialize)]
struct Size {
    as_of: String,
    counted_by: &'static str,
    #[serde(flatten)]
    totals: Totals,
    ratio: Option<f64>,
}

#[derive(Serialize)]
struct Window {
    start: String,
    /// Time when the newest segment was archived. The last commit in it is older.
    end: String,
    end_segment: Option<String>,
    /// Base backup at the start of the window.
    label: Option<String>,
    start_segment: Option<String>,
}

#[derive(Serialize)]
struct Backup<'a> {
    ended: String,
    age_seconds: i64,
    label: Option<&'a str>,
    start_segment: String,
    /// Directory in which it was found.
    directory: Option<&'a str>,
}

#[derive(Serialize)]
struct Hole {
    timeline: u32,
    first_segment: String,
    last_segment: String,
    segments: u64,
    left_by: u32,
    left_at: String,
    /// `true` if it affects only older base backups.
    passed: bool,
}

#[derive(Serialize)]
struct Parallel {
    timeline: u32,
    newest_segment: String,
    archived_at: String,
    age_seconds: i64,
    beside_timeline: u32,
    left_at: Option<String>,
}

#[derive(Serialize)]
struct Standby {
    needs_segment: String,
    archived: bool,
    /// Oldest archived segment, if that comes after the needed one.
    archive_begins_at: Option<String>,
    /// Newest timeline, if the server cannot be restarted while that is in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    barred_by_timeline: Option<u32>,
}

/// A report as in the archive, with its age.
#[derive(Serialize)]
struct Noted<'a, T> {
    age_seconds: i64,
    #[serde(flatten)]
    report: &'a T,
}

pub(super) fn render(overview: &Overview<'_>) -> String {
    let Overview { archive, status, problems, notes } = overview;
    let age = |since: Timestamp| status.age(since).as_secs();
    let known = status.archive.as_ref().ok();
    let backlog_error = status.backlog.as_ref().and_then(|backlog| backlog.as_ref().err());
    let failed = || backlog_error.into_iter().chain(status.archive.as_ref().err());
    let errors: Vec<String> = failed().map(Error::report).collect();
    as_json(&Printed {
        archive,
        system_identifier: status.system.map(|system| system.to_string()),
        at: time(status.at),
        ok: errors.is_empty() && problems.is_empty(),
        problem: failed().next().map(Problem::from),
        errors,
        problems,
        notes,
        lag_seconds: status.lag().map(|lag| lag.as_secs()),
        backlog: status.backlog().map(|backlog| Backlog {
            files: backlog.files,
            bytes: backlog.bytes,
            oldest_since: backlog.oldest.map(time),
            oldest_age_seconds: backlog.oldest.map(age),
            next_file: backlog.next.map(|name| name.to_string()),
            stuck: backlog.stuck(status.at).is_some(),
        }),
        unarchived: known.and_then(|known| known.unarchived).map(|left| Unarchived {
            first_segment: left.first.to_string(),
            segments: left.segments,
            since: time(left.since),
            age_seconds: age(left.since),
        }),
        timelines: known.map(|known| timelines(status, known)),
        size: known.and_then(size),
        recovery_window: known.and_then(window),
        newest_backup: known.and_then(|known| known.newest_backup.as_ref()).map(|newest| Backup {
            ended: time(newest.ended),
            age_seconds: age(newest.ended),
            label: newest.label.as_deref(),
            start_segment: newest.start().to_string(),
            directory: newest.known_from.directory(),
        }),
        holes: known.map(|known| known.holes.iter().map(hole).collect()),
        parallel: known.map(|known| known.parallel.iter().map(|other| parallel(status, other)).collect()),
        standby: known.and_then(|known| known.standby).map(|standby| Standby {
            needs_segment: standby.needs.to_string(),
            archived: standby.archived,
            archive_begins_at: standby.begins_at.map(|begins_at| begins_at.to_string()),
            barred_by_timeline: standby.barred_by.map(TimelineId::get),
        }),
        last_prune: known
            .and_then(|known| known.prune.as_ref())
            .map(|report| Noted { age_seconds: age(report.at), report }),
        last_verify: known
            .and_then(|known| known.verify.as_ref())
            .map(|report| Noted { age_seconds: age(report.at), report }),
        unreadable: known.map_or(&[], |known| &known.unreadable),
    })
}

fn timelines(status: &Status, known: &ArchiveStatus) -> Vec<Newest> {
    let newest = |file: &ArchivedFile| {
        let timeline = file.name.segment()?.timeline().get();
        Some(Newest {
            timeline,
            segment: file.name.to_string(),
            archived_at: time(file.since),
            age_seconds: status.age(file.since).as_secs(),
        })
    };
    known.newest.iter().filter_map(newest).collect()
}

fn size(known: &ArchiveStatus) -> Option<Size> {
    let (totals, at, counted_by) = known.totals()?;
    Some(Size { as_of: time(at), counted_by, totals, ratio: totals.ratio() })
}

fn window(known: &ArchiveStatus) -> Option<Window> {
    let (start, end) = known.window()?;
    let oldest = known.oldest_backup.as_ref();
    Some(Window {
        start: time(start),
        end: time(end),
        end_segment: known.newest().map(|newest| newest.name.to_string()),
        label: oldest.and_then(|backup| backup.label.clone()),
        start_segment: oldest.map(|backup| backup.start().to_string()),
    })
}

fn hole(hole: &status::Hole) -> Hole {
    Hole {
        timeline: hole.last.timeline().get(),
        first_segment: hole.first.to_string(),
        last_segment: hole.last.to_string(),
        segments: hole.segments,
        left_by: hole.left_by.get(),
        left_at: hole.left_at.to_string(),
        passed: hole.passed,
    }
}

fn parallel(status: &Status, parallel: &status::Parallel) -> Parallel {
    Parallel {
        timeline: parallel.newest.timeline().get(),
        newest_segment: parallel.newest.to_string(),
        archived_at: time(parallel.archived_at),
        age_seconds: status.age(parallel.archived_at).as_secs(),
        beside_timeline: parallel.beside.get(),
        left_at: parallel.left_at.map(|left_at| left_at.to_string()),
    }
}
