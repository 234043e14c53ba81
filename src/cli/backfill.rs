//! `walkeep backfill`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::arguments::Common;
use super::exit::Failure;
use super::json::Problem;
use super::print::{bytes, count, print, write_json};
use super::progress::Bar;
use super::tool::{Opened, Tool};
use crate::archive::{Archive, ArchiveUrl};
use crate::backfill::{BackfillPlan, BackfillRequest, Backfilled, Missing, Pushing, Reason, plan};
use crate::blocking::blocking;
use crate::catalog::Reading;
use crate::cluster::DataDirectory;
use crate::config::Settings;
use crate::error::{Error, ErrorKind};
use crate::push::codec_for_backlog;
use crate::spool::OverflowPlace;
use crate::wal::{SegmentSize, SystemIdentifier, WalName};
use crate::work::Progress;

/// More threads would wait for each other to read and hash, and each costs memory.
const MOST_THREADS: usize = 4;

/// Archive what lies in pg_wal, is complete and missing in the archive, whatever its mark says
///
/// After a failover: what the old primary had streamed and not archived. The server may be running.
///
/// Exit status: 0 nothing is missing any more but what is incomplete; 1 a file could not be archived, or needs to be
/// looked after; 2 wrong usage or configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Backfill {
    #[command(flatten)]
    common: Common,

    /// The server's data directory
    #[arg(long, value_name = "DIRECTORY")]
    pgdata: PathBuf,

    /// Print what would be archived and why the rest stays, and archive nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed {
    archive: String,
    system_identifier: String,
    dry_run: bool,
    /// Whether the exit status is 0.
    ok: bool,
    /// Why files could not be archived that should have been.
    #[serde(flatten)]
    problem: Option<Problem>,
    archived_files: Vec<String>,
    /// Before compression.
    archived_bytes: u64,
    /// How many the archive had already.
    held_files: usize,
    left: Vec<PrintedLeft>,
    failed: Vec<PrintedFailed>,
    untried_files: Vec<String>,
}

#[derive(Serialize)]
struct PrintedLeft {
    name: String,
    why: String,
    /// Whether somebody has to look after it.
    problem: bool,
}

#[derive(Serialize)]
struct PrintedFailed {
    name: String,
    error: String,
}

impl Backfill {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let Self { common, pgdata, dry_run, json } = self;
        let tool = Tool { common, pgdata: Some(pgdata.clone()), json };
        let settings = tool.start(program, |given| given)?;
        let given = tool.common.system_identifier;
        let (system, outcome) = tool.work(&settings, async |opened, stop| {
            let Opened { archive, system, reading } = opened;
            check_place(&settings, &pgdata, given).await?;
            let request = BackfillRequest { data: pgdata.clone(), system, reading };
            let stopped = || Error::new(ErrorKind::Stopped, "stopped before anything was archived");
            let planned = stop.run_until_cancelled(plan(&archive, request)).await.ok_or_else(stopped)??;
            let outcome = if dry_run {
                as_if_done(planned)
            } else {
                carry_out(planned, &archive, &settings, reading, &stop).await
            };
            Ok((system, outcome))
        })?;
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

/// The exit status.
fn status(outcome: &Backfilled) -> u8 {
    let of_failed = |(_, error): &(WalName, Error)| Failure::OfTool.status(error.kind());
    let failed = outcome.failed.iter().map(of_failed).max();
    failed.unwrap_or_else(|| u8::from(!is_well(outcome)))
}

/// Refuses what would put files into the archive that others cannot use.
async fn check_place(
    settings: &Settings,
    pgdata: &Path,
    given: Option<SystemIdentifier>,
) -> Result<(), Error> {
    let data = DataDirectory::named(pgdata.to_owned());
    let found = blocking(move || data.system_identifier()).await?;
    if let (Some(given), Some(found)) = (given, found)
        && given != found
    {
        let what = format!("{} belongs to system {found}, but {given} was given", pgdata.display());
        return Err(Error::new(ErrorKind::Configuration, what).hint("leave --system-identifier out"));
    }
    if let ArchiveUrl::Directory(archive) = &settings.archive.url {
        let path = archive.clone();
        let owner = blocking(move || std::fs::metadata(path).map(|found| found.uid())).await;
        if rustix::process::geteuid().is_root() && owner.is_ok_and(|owner| owner != 0) {
            let what = format!("root would own what is put into {}", archive.display());
            return Err(Error::new(ErrorKind::Configuration, what)
                .hint("run it as the server's user, such as by sudo -u postgres"));
        }
    }
    Ok(())
}

async fn carry_out(
    plan: BackfillPlan,
    archive: &Archive,
    settings: &Settings,
    reading: Reading,
    stop: &CancellationToken,
) -> Backfilled {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let largest = plan.goes.iter().map(|file| file.bytes).max().unwrap_or(SegmentSize::DEFAULT.bytes());
    let room = usize::try_from(settings.look_ahead.memory / largest.max(1)).unwrap_or(usize::MAX);
    let at_once = NonZeroUsize::new(reading.at_once.min(room)).unwrap_or(NonZeroUsize::MIN);
    let threads = if at_once.get() > 1 { NonZeroUsize::MIN } else { cores };
    let pushing = Pushing {
        codec: settings.codec.unwrap_or_else(|| codec_for_backlog(plan.goes.len())),
        threads: threads.min(NonZeroUsize::new(MOST_THREADS).unwrap_or(threads)),
        at_once,
        overflow: OverflowPlace::new(&settings.spool),
        patience: settings.timeouts.push,
    };
    let progress = Bar::new("archiving");
    progress.begin(plan.goes.len());
    plan.carry_out(archive, &pushing, stop, |_| progress.add(1)).await
}

/// What a dry run tells: that all went well.
fn as_if_done(plan: BackfillPlan) -> Backfilled {
    let BackfillPlan { goes, left, held, .. } = plan;
    Backfilled { archived: goes, left, held, ..Backfilled::default() }
}

/// Why files could not be archived.
fn problems(outcome: &Backfilled) -> Vec<Error> {
    let told = |(name, error): &(WalName, Error)| {
        Error::new(error.kind(), format!("cannot archive {name}: {}", error.report()))
    };
    let mut problems: Vec<Error> = outcome.failed.iter().map(told).collect();
    if let Some(first) = outcome.untried.first() {
        let number = count(outcome.untried.len(), "file");
        let what = format!("stopped with {number} not archived, {first} the first of them");
        problems.push(Error::new(ErrorKind::Stopped, what));
    }
    problems
}

fn is_well(outcome: &Backfilled) -> bool {
    let Backfilled { left, failed, untried, .. } = outcome;
    failed.is_empty() && untried.is_empty() && !left.iter().any(|(_, reason)| reason.is_problem())
}

fn all_bytes(files: &[Missing]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
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
        ok: is_well(outcome),
        problem: problems(outcome).first().map(Problem::from),
        archived_files: archived.iter().map(|file| file.name.to_string()).collect(),
        archived_bytes: all_bytes(archived),
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
    let (number, size) = (count(archived.len(), "file"), bytes(all_bytes(archived)));
    writeln!(to, "{verb} {number}, {size}; {held} in the archive already, {} left{rest}", left.len())
}
