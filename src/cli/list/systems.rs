//! The clusters in an archive, as `walkeep list` prints them.

use serde::Serialize;

use crate::archive::ArchivedFile;
use crate::cli::json::Problem;
use crate::cli::print::{bytes, count, time};
use crate::cli::table::blocks;
use crate::error::Error;
use crate::list::{HeldOfSystem, ListedSystem};
use crate::wal::{SegmentSize, SystemIdentifier, SystemNames};

/// JSON output.
#[derive(Serialize)]
pub(super) struct PrintedSystems<'a> {
    archive: String,
    /// `true` if the exit status is 0.
    ok: bool,
    #[serde(flatten)]
    problem: Option<Problem>,
    systems: Vec<PrintedSystem<'a>>,
    /// Systems that have a name and no directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent_systems: Vec<String>,
}

#[derive(Serialize)]
struct PrintedSystem<'a> {
    system_identifier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    ok: bool,
    #[serde(flatten)]
    problem: Option<Problem>,
    #[serde(flatten)]
    held: Option<PrintedHeld>,
}

#[derive(Serialize)]
struct PrintedHeld {
    files: u64,
    segments: u64,
    oldest_segment: Option<String>,
    newest_segment: Option<String>,
    /// Time when the newest segment was archived.
    archived_at: Option<String>,
    timelines: Vec<u32>,
    stored_bytes: u64,
    original_bytes: Option<u64>,
    segment_bytes: Option<u64>,
}

/// Returns the errors of clusters whose files could not be listed.
pub(super) fn problems(systems: &[ListedSystem], names: &SystemNames) -> Vec<Error> {
    let of = |listed: &ListedSystem| {
        let error = listed.held.as_ref().err()?;
        let what = format!("cannot list system {}: {}", names.shown(listed.system), error.report());
        Some(Error::new(error.kind(), what))
    };
    systems.iter().filter_map(of).collect()
}

pub(super) fn printed<'a>(
    archive: String,
    systems: &[ListedSystem],
    absent: &[SystemIdentifier],
    names: &'a SystemNames,
) -> PrintedSystems<'a> {
    let problem = problems(systems, names).first().map(Problem::from);
    let systems = systems.iter().map(|ListedSystem { system, held }| PrintedSystem {
        system_identifier: system.to_string(),
        name: names.name(*system),
        ok: held.is_ok(),
        problem: held.as_ref().err().map(Problem::from),
        held: held.as_ref().ok().map(printed_held),
    });
    let absent_systems = absent.iter().map(ToString::to_string).collect();
    PrintedSystems { archive, ok: problem.is_none(), problem, systems: systems.collect(), absent_systems }
}

fn printed_held(held: &HeldOfSystem) -> PrintedHeld {
    let summary = &held.summary;
    let name = |file: &ArchivedFile| file.name.to_string();
    PrintedHeld {
        files: summary.files,
        segments: summary.segments,
        oldest_segment: summary.oldest.as_ref().map(name),
        newest_segment: summary.newest.as_ref().map(name),
        archived_at: summary.newest.map(|file| time(file.since)),
        timelines: summary.timelines.iter().map(|timeline| timeline.get()).collect(),
        stored_bytes: summary.stored_bytes,
        original_bytes: held.original_bytes(),
        segment_bytes: held.size.map(SegmentSize::bytes),
    }
}

/// Formats a block for each cluster, and how to see one.
pub(super) fn as_text(systems: &[ListedSystem], absent: &[SystemIdentifier], names: &SystemNames) -> String {
    let rows = systems.iter().map(|ListedSystem { system, held }| {
        let newest = held.as_ref().ok().and_then(|held| held.summary.newest);
        let archived = newest.map_or_else(|| "-".to_owned(), |file| time(file.since));
        let name = names.name(*system).unwrap_or("-");
        let details = match held {
            Ok(held) => details(held),
            Err(_) => vec!["could not be listed".to_owned()],
        };
        (vec![system.to_string(), name.to_owned(), archived], details)
    });
    let hint = "--system-identifier, with an identifier or a name, lists what is archived of one\n";
    let absent = absent.iter().map(|system| {
        format!("! system {} has no directory here, although [systems] names it\n", names.shown(*system))
    });
    blocks(&["SYSTEM", "NAME", "LAST ARCHIVED"], rows) + &absent.collect::<String>() + hint
}

fn details(held: &HeldOfSystem) -> Vec<String> {
    let summary = &held.summary;
    let number = |number: u64, what| count(usize::try_from(number).unwrap_or(usize::MAX), what);
    let mut lines = Vec::new();
    if let (Some(oldest), Some(newest)) = (summary.oldest, summary.newest) {
        let timelines = count(summary.timelines.len(), "timeline");
        lines.push(format!("{} to {}, {timelines}", oldest.name, newest.name));
    }
    lines.push(match (summary.files, held.original_bytes()) {
        (0, _) => "nothing archived".to_owned(),
        (files, None) => format!(
            "{} in {}, {} stored",
            number(summary.segments, "segment"),
            number(files, "file"),
            bytes(summary.stored_bytes)
        ),
        (files, Some(original)) => format!(
            "{} in {}, {} stored of {}",
            number(summary.segments, "segment"),
            number(files, "file"),
            bytes(summary.stored_bytes),
            bytes(original)
        ),
    });
    lines
}
