//! `walkeep-restore`, for `restore_command` and `pg_rewind -c`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser, ValueEnum};

use super::arguments::{self, Common, Spooling};
use super::exit::ExitStatuses;
use super::hang::HangNote;
use super::placeholders::hint_for_restore;
use super::promotion::unless_promoted;
use super::signals::Early;
use super::supervise::supervise;
use super::unread::Question;
use super::{log, prefetch, signals, umask};
use crate::call::unless_stopped;
use crate::cluster::RecoveryMode;
use crate::config::{Bytes, Given, LogFormat, Settings, Timeouts};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::prefetch::PrefetchClient;
use crate::restore::{RestoreRequest, Restored, restore};
use crate::spool::patiently;
use crate::wal::SegmentName;

const PROGRAM: &str = "walkeep-restore";

const TIMEOUT: &str = "Time limit, such as 30s, for a 16 MB segment; more in proportion for larger ones. A transfer that moves may go \
     on beyond it [default: 5m; on a standby 30s]";

/// Restore one WAL file: restore_command = 'walkeep-restore %f %p'
///
/// Exit status: 0 restored and verified; 1 proven absent from the archive, and not a gap; 75 unknown, on a standby,
/// which retries, or in the last step of a promotion; 255 unknown, and recovery must stop rather than end early; 143
/// stopped by SIGTERM. After SIGINT or SIGQUIT: as for unknown.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = super::arguments::WIDTH, mut_arg("timeout", |timeout| timeout.help(TIMEOUT)))]
struct Arguments {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    spooling: Spooling,

    /// Amount of WAL to fetch ahead during recovery, such as 1GB; 0MB turns it off [default: 256MB]
    #[arg(long, value_name = "SIZE", env = "WALKEEP_PREFETCH_SIZE", hide_env_values = true)]
    prefetch_size: Option<Bytes>,

    /// Restore nothing, but prefetch what follows NAME, a segment of this size in bytes
    #[arg(long, value_name = "BYTES", hide = true)]
    prefetch_after: Option<u64>,

    /// Let recovery end at this missing segment although later ones were written; may be repeated
    #[arg(long, value_name = "SEGMENT")]
    accept_gap: Vec<SegmentName>,

    /// Treat an archive without any file of this cluster as a new one, not as the wrong one
    #[arg(long)]
    accept_empty: bool,

    /// What to do if it is unknown whether the file exists [default: depends on the data directory]
    #[arg(long, value_name = "WHAT")]
    on_error: Option<OnError>,

    /// Name of the file: PostgreSQL's %f
    #[arg(value_name = "NAME")]
    name: OsString,

    /// Target path: PostgreSQL's %p
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnError {
    /// Exit with 75: the caller retries, as a standby does
    Retry,
    /// Exit with 255: the caller must stop, as recovery must
    Stop,
}

impl Arguments {
    fn mode(&self, question: &Question) -> RecoveryMode {
        match (question.mode(), self.on_error) {
            // Stopping is no longer allowed: the server would return to its old timeline.
            (RecoveryMode::Ending, _) => RecoveryMode::Ending,
            (_, Some(OnError::Retry)) => RecoveryMode::Standby,
            (_, Some(OnError::Stop)) => RecoveryMode::Recovery,
            (mode, None) => mode,
        }
    }

    /// Returns the time limit for a server in that mode, and `true` if the server must not be delayed. Such a server
    /// retries by itself or must continue.
    fn time_limit(&self, question: &Question, mode: RecoveryMode, timeouts: Timeouts) -> (Duration, bool) {
        match (mode, self.on_error) {
            (RecoveryMode::Recovery, _) | (RecoveryMode::Ending, Some(OnError::Stop)) => {
                (timeouts.recovery, false)
            }
            (RecoveryMode::Standby | RecoveryMode::Ending, _) => {
                (timeouts.standby, question.is_of_a_server())
            }
        }
    }
}

/// Returns the command line definition.
pub(super) fn command() -> clap::Command {
    Arguments::command()
}

/// Restores the file named on the command line.
#[must_use]
pub fn main() -> ExitCode {
    let started = Instant::now();
    let held = signals::hold();
    let line: Vec<_> = std::env::args_os().collect();
    let unread = Question::among(line.get(1..).unwrap_or_default());
    let statuses = ExitStatuses::OfRestore(unread.mode());
    let early = held.exit_as(PROGRAM, statuses);
    unread.exit_on_panic(PROGRAM, statuses);
    let (Ok(status) | Err(status)) = arguments::parse_servers(line)
        .map_err(|nothing| {
            nothing.end(|error| unread.report_early(PROGRAM, statuses, LogFormat::default(), error).into())
        })
        .and_then(|arguments| run(&arguments, &unread, &early, started));
    status
}

fn run(
    arguments: &Arguments,
    unread: &Question,
    early: &Early,
    started: Instant,
) -> Result<ExitCode, ExitCode> {
    let question = unread.understood(&arguments.name, &arguments.path);
    let mode = arguments.mode(&question);
    let prepare = || prepare(arguments, &question, mode);
    if let Some(size) = arguments.prefetch_after {
        early.set(ExitStatuses::OfTool);
        return Ok(prefetch::main(PROGRAM, size, || prepare().map_err(|(error, _)| error)));
    }
    let statuses = ExitStatuses::OfRestore(mode);
    early.set(statuses);
    question.exit_on_panic(PROGRAM, statuses);
    let (settings, request) =
        prepare().map_err(|(error, format)| question.report_early(PROGRAM, statuses, format, &error))?;
    let (timeout, must_not_delay) = arguments.time_limit(&question, mode, settings.restore.timeouts);
    umask::keep_others_out();
    let limit = TimeLimit::new(started, timeout);
    let hang_note = must_not_delay.then(|| HangNote::read(&settings, &request.caller, request.system));
    if let Some(hang_note) = &hang_note {
        hang_note.hurry(&limit);
    }
    if must_not_delay && mode == RecoveryMode::Ending {
        limit.extend_no_more();
    }
    let server = {
        let (prefetching, request) = (settings.prefetching(), request.clone());
        patiently(move || prefetching.client(&request))
    };
    let prefetched = server.as_ref().and_then(|server| server.ask(&limit));
    if let Some(verified) = &prefetched
        && verified.link(&request.path).is_ok()
    {
        log::restored_prefetched(request.name, verified.size, started);
        return Ok(ExitCode::SUCCESS);
    }
    let restored = supervise(&limit, async |stop| {
        let restoring = restore(&settings.archive, &request, prefetched, &limit);
        let restoring: Pin<Box<dyn Future<Output = _>>> = if must_not_delay {
            Box::pin(unless_promoted(&request, &limit, restoring))
        } else {
            Box::pin(restoring)
        };
        let outcome = unless_stopped(&stop, restoring, "stopped before the file was restored").await;
        if let (Err(error), RecoveryMode::Standby) = (&outcome, mode) {
            warn_of_gap(server.clone(), error);
        }
        if let Some(hang_note) = &hang_note {
            hang_note.remember(outcome.as_ref().err(), &limit);
        }
        outcome
    });
    match restored.map_err(|ended| statuses.report_ended(&ended))? {
        Restored::FromArchive { header, stored_size } => {
            log::restored(&header, stored_size, started);
            if let Some(server) = server {
                server.ensure_prefetcher(header.original_size, prefetch::start);
            }
        }
        Restored::Prefetched { size } => log::restored_prefetched(request.name, size, started),
        Restored::OwnCopy => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Warns of a gap that stops a standby. The server retries every few seconds, so it is warned once per run.
fn warn_of_gap(server: Option<PrefetchClient>, error: &Error) {
    // If the spool hangs, a second warning is better than none.
    let is_first = move || patiently(move || server.map(|server| server.note_once("gap"))).unwrap_or(true);
    if error.kind() == ErrorKind::Gap && is_first() {
        tracing::warn!("{}", error.report());
    }
}

fn prepare(
    arguments: &Arguments,
    question: &Question,
    mode: RecoveryMode,
) -> Result<(Settings, RestoreRequest), (Error, LogFormat)> {
    let given = Given {
        spool: arguments.spooling.spool.clone(),
        prefetch_size: arguments.prefetch_size,
        ..arguments.common.given()
    };
    let format = given.log_format.unwrap_or_default();
    let settings = Settings::load(&given).map_err(|error| (error, format))?;
    log::start_with(PROGRAM, &settings, arguments.common.verbose);
    let name = arguments::wal_name(&arguments.name, ErrorKind::Configuration).map_err(|error| {
        let hint = hint_for_restore(&arguments.name, &arguments.path);
        (if let Some(hint) = hint { error.hint(hint) } else { error }, format)
    })?;
    let request = RestoreRequest {
        name,
        path: arguments.path.clone(),
        caller: question.caller(),
        system: settings.system,
        mode,
        accept_gaps: arguments.accept_gap.clone(),
        accept_empty: arguments.accept_empty,
    };
    Ok((settings, request))
}
