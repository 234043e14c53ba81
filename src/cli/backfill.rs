//! `walkeep backfill`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::arguments::Common;
use super::exit::ExitStatuses;
use super::json::Problem;
use super::print::{bytes, count, print, write_json};
use super::progress::Bar;
use super::tool::{Opened, TIMEOUT_OF_LONG_WORK, Tool, Whole};
use crate::archive::ArchiveUrl;
use crate::backfill::{BackfillRequest, Backfilled, Means, Reason, backfill};
use crate::error::{Error, ErrorKind};
use crate::spool::OverflowDirectory;
use crate::wal::{SystemIdentifier, WalName};

/// Archive complete files in pg_wal that the archive lacks, even if they are marked as done
///
/// For use after a failover: the old primary may have streamed segments without archiving them. The server may be
/// running.
///
/// Exit status: 0 only incomplete files are missing; 1 a file could not be archived, or needs attention; 2 wrong usage or
/// configuration, or an archive that refuses; 141 the reader of the output has left.
#[derive(Debug, clap::Args)]
#[command(mut_arg("timeout", |timeout| timeout.help(TIMEOUT_OF_LONG_WORK)))]
pub(super) struct Backfill {
    #[command(flatten)]
    common: Common,

    /// Data directory of the server
    #[arg(long, value_name = "DIRECTORY")]
    pgdata: PathBuf,

    /// Print which files would be archived and why the others stay; archive nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    whole: Whole,
}

/// JSON output.
#[derive(Serialize)]
struct Printed {
    archive: String,
    system_identifier: String,
    dry_run: bool,
    /// `true` if the exit status is 0.
    ok: bool,
    /// Failure to archive files.
    #[serde(flatten)]
    problem: Option<Problem>,
    archived_files: Vec<String>,
    /// Size before compression.
    archived_bytes: u64,
    /// Number of files that the archive already had.
    held_files: usize,
    left: Vec<PrintedLeft>,
    failed: Vec<PrintedFailed>,
    untried_files: Vec<String>,
}

#[derive(Serialize)]
struct PrintedLeft {
    name: String,
    why: String,
    /// `true` if somebody must act.
    problem: bool,
}

#[derive(Serialize)]
struct PrintedFailed {
    name: String,
    error: String,
}

impl Backfill {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let Self { common, pgdata, dry_run, json, whole } = self;
        let tool = Tool { common, pgdata: Some(pgdata.clone()), json, whole };
        let settings = tool.start_to_write(program, |given| given)?;
        let (system, outcome, hung) = tool.work(&settings, async |opened, early| {
            let Opened { archive, system, reading } = opened;
            let request = BackfillRequest { data: pgdata, system, reading };
            let means = Means {
                codec: settings.push.codec,
                cores: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
                memory: settings.push.look_ahead.memory,
                overflow: OverflowDirectory::new(&settings.spool),
                dry_run,
            };
            let (why, bar) = (|| early.why(), Bar::new("archiving"));
            let work = early.work(&why, &bar);
            backfill(&archive, request, &means, &work).await.map(|outcome| (system, outcome, early.why()))
        })?;
        // Without any file left to try, what hung was no longer needed.
        if let Some(error) = hung.filter(|_| !outcome.untried.is_empty()) {
            tracing::error!("{}", error.report());
        }
        for error in problems(&outcome) {
            tracing::error!("{}", error.report());
        }
        print(|to| {
            if json {
                write_json(to, &printed(&settings.archive.url, system, dry_run, &outcome))
            } else {
                write_text(to, &outcome, dry_run)
            }
        })?;
        Ok(status(&outcome).into())
    }
}

/// Returns the exit status.
fn status(outcome: &Backfilled) -> u8 {
    let of_failed = |(_, error): &(WalName, Error)| ExitStatuses::OfTool.status(error.kind());
    let failed = outcome.failed.iter().map(of_failed).max();
    failed.unwrap_or_else(|| u8::from(!outcome.is_well()))
}

/// Returns the errors of files that could not be archived.
fn problems(outcome: &Backfilled) -> Vec<Error> {
    let with_name = |(name, error): &(WalName, Error)| {
        Error::new(error.kind(), format!("cannot archive {name}: {}", error.report()))
    };
    let mut problems: Vec<Error> = outcome.failed.iter().map(with_name).collect();
    if let Some(first) = outcome.untried.first() {
        let number = count(outcome.untried.len(), "file");
        let what = format!("stopped with {number} not archived, {first} the first of them");
        problems.push(Error::new(ErrorKind::Stopped, what));
    }
    problems
}

fn printed(archive: &ArchiveUrl, system: SystemIdentifier, dry_run: bool, outcome: &Backfilled) -> Printed {
    let Backfilled { archived, left, held, failed, untried } = outcome;
    let of_left = |(name, reason): &(WalName, Reason)| PrintedLeft {
        name: name.to_string(),
        why: reason.to_string(),
        problem: reason.is_problem(),
    };
    let of_failed =
        |(name, error): &(WalName, Error)| PrintedFailed { name: name.to_string(), error: error.report() };
    Printed {
        archive: archive.to_string(),
        system_identifier: system.to_string(),
        dry_run,
        ok: outcome.is_well(),
        problem: problems(outcome).first().map(Problem::from),
        archived_files: archived.iter().map(|file| file.name.to_string()).collect(),
        archived_bytes: outcome.bytes(),
        held_files: *held,
        left: left.iter().map(of_left).collect(),
        failed: failed.iter().map(of_failed).collect(),
        untried_files: untried.iter().map(ToString::to_string).collect(),
    }
}

fn write_text(to: &mut dyn Write, outcome: &Backfilled, dry_run: bool) -> io::Result<()> {
    let Backfilled { archived, left, held, failed, untried } = outcome;
    let verb = if dry_run { "would archive" } else { "archived" };
    for file in archived {
        writeln!(to, "{verb} {}", file.name)?;
    }
    for (name, reason) in left {
        writeln!(to, "left {name}: {reason}")?;
    }
    let rest = match failed.len() + untried.len() {
        0 => String::new(),
        not => format!(", {not} not archived"),
    };
    let (number, size) = (count(archived.len(), "file"), bytes(outcome.bytes()));
    writeln!(to, "{verb} {number}, {size}; {held} in the archive already, by name, {} left{rest}", left.len())
}
