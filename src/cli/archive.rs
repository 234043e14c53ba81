//! `walkeep-archive`, for `archive_command`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser};
use jiff::Timestamp;

use super::arguments::{self, Common, Spooling};
use super::exit::{ExitStatuses, exit_on_panic};
use super::owner::become_owner;
use super::placeholders::{hint_for_absent, hint_for_archive};
use super::stopping::hurry_at_shutdown;
use super::supervise::supervise;
use super::{log, signals, umask};
use crate::archive::Created;
use crate::cluster::Caller;
use crate::config::{Compression, Given, LogFormat, NO_ARCHIVE, Settings};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::push::{Earlier, PushRequest, ask, backlog, codec_for_backlog, look_up, push, this_host};
use crate::spool::{Moment, OverflowDirectory, Spool, patiently};
use crate::wal::WalName;

const PROGRAM: &str = "walkeep-archive";

const TIMEOUT: &str = "Time limit, such as 30s, for a 16 MB segment; more in proportion for larger ones. An upload that moves may go on \
     beyond it [default: 1m]";

/// Maximum number of threads. Each takes memory, and more would only wait for each other to read and hash.
const MOST_THREADS: usize = 4;

/// Archive one WAL file: archive_command = 'walkeep-archive %p'
///
/// Exit status: 0 archived durably, or already archived with the same content; 1 failed, a retry may help; 2 wrong
/// usage or configuration; 3 the archive has a different file under this name; 4 not an acceptable WAL file.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = super::arguments::WIDTH, mut_arg("timeout", |timeout| timeout.help(TIMEOUT)))]
struct Arguments {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    spooling: Spooling,

    /// Compression method [default: zstd]
    #[arg(long, value_name = "CODEC", env = "WALKEEP_COMPRESSION", hide_env_values = true)]
    compression: Option<Compression>,

    /// Compression level, from -7 (fast) to 19 (small) [default: 1]
    #[arg(
        long,
        value_name = "LEVEL",
        env = "WALKEEP_COMPRESSION_LEVEL",
        hide_env_values = true,
        allow_negative_numbers = true
    )]
    compression_level: Option<i64>,

    /// File to archive: PostgreSQL's %p
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Name of the file: PostgreSQL's %f [default: the last part of PATH]
    #[arg(value_name = "NAME")]
    name: Option<OsString>,
}

/// Returns the command line definition.
pub(super) fn command() -> clap::Command {
    Arguments::command()
}

/// Archives the file named on the command line.
#[must_use]
pub fn main() -> ExitCode {
    let started = Instant::now();
    let statuses = ExitStatuses::OfArchive;
    signals::hold().exit_as(PROGRAM, statuses);
    exit_on_panic(PROGRAM, statuses);
    let (Ok(status) | Err(status)) = run(started, statuses);
    status
}

fn run(started: Instant, statuses: ExitStatuses) -> Result<ExitCode, ExitCode> {
    let early = |format, error: &Error| statuses.report_early(PROGRAM, format, error);
    let arguments = arguments::parse_servers(std::env::args_os().collect())
        .map_err(|nothing| nothing.end(|error| early(LogFormat::default(), error).into()))?;
    let (settings, request) = prepare(arguments).map_err(|(error, format)| early(format, &error))?;
    umask::keep_others_out();
    let Known { spool, mut earlier, backlog } = look_up_earlier(&settings, &request);
    let name = request.name;
    if earlier == Earlier::Archived {
        return Ok(archived_earlier(spool.as_ref(), name, started));
    }
    let codec = settings.push.codec.unwrap_or_else(|| codec_for_backlog(backlog));
    // Counted only here, because that takes as many system calls as everything before.
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = cores.min(NonZeroUsize::new(MOST_THREADS).unwrap_or(cores));
    let request = PushRequest { codec, threads, host: this_host(), ..request };
    let limit = TimeLimit::new(started, settings.push.timeout);
    let report = supervise(&limit, async |stop| {
        let (caller, system) = (request.caller.clone(), request.system);
        let work = async {
            if let (Earlier::Noted(stored), Some(spool)) = (earlier, &spool) {
                let asking = ask(&settings.archive, spool, name, stored, &limit);
                earlier = stop.run_until_cancelled(asking).await.unwrap_or(Earlier::Unknown);
            }
            if earlier == Earlier::Archived {
                return Ok(None);
            }
            let spool = spool.as_ref().map(|spool| (spool, &settings.push.look_ahead));
            Box::pin(push(&settings.archive, request, spool, &limit, &stop)).await.map(Some)
        };
        Box::pin(hurry_at_shutdown(&settings, &caller, system, &limit, work)).await
    });
    let report = report.map_err(|ended| statuses.report_ended(&ended))?;
    let Some(report) = report else { return Ok(archived_earlier(spool.as_ref(), name, started)) };
    let what = if report.created == Created::New { "archived" } else { "already archived" };
    log::file_done(what, &report.header, report.stored_size, started);
    earlier.warn(name, report.created);
    report.along.log();
    Ok(ExitCode::SUCCESS)
}

/// Ends a call whose file an earlier call has archived.
fn archived_earlier(spool: Option<&Spool>, name: WalName, started: Instant) -> ExitCode {
    if let Some(spool) = spool {
        spool.forget(name);
    }
    log::acknowledged(name, started);
    ExitCode::SUCCESS
}

/// Facts collected before the runtime is created.
struct Known {
    spool: Option<Spool>,
    /// Result of earlier calls for the file.
    earlier: Earlier,
    /// Number of files that wait to be archived.
    backlog: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self { spool: None, earlier: Earlier::Unknown, backlog: 0 }
    }
}

/// Looks up results of earlier calls. A file that is already archived needs no runtime.
fn look_up_earlier(settings: &Settings, request: &PushRequest) -> Known {
    let (settings, request) = (settings.clone(), request.clone());
    patiently(move || {
        let spool = open_spool(&settings, &request);
        let earlier = match &spool {
            Some(spool) => look_up(&settings.archive, spool, &request, Moment::now),
            None => Earlier::Unknown,
        };
        let counts_backlog = settings.push.codec.is_none() && earlier != Earlier::Archived;
        let backlog = if counts_backlog { backlog(&request.path) } else { 0 };
        Known { spool, earlier, backlog }
    })
}

/// Opens the spool of the calling server; `None` outside a data directory, or if the look-ahead is turned off.
fn open_spool(settings: &Settings, request: &PushRequest) -> Option<Spool> {
    if settings.push.look_ahead.files == 0 {
        return None;
    }
    let data = request.caller.data();
    let system = data.system_identifier().ok().flatten()?;
    Spool::of_server(&settings.spool, &settings.archive, data.path(), system)
}

fn prepare(arguments: Arguments) -> Result<(Settings, PushRequest), (Error, LogFormat)> {
    let given = Given {
        compression: arguments.compression,
        compression_level: arguments.compression_level,
        spool: arguments.spooling.spool,
        ..arguments.common.given()
    };
    let format = given.log_format.unwrap_or_default();
    let hint = hint_for_archive(&arguments.path, arguments.name.as_deref());
    let mut settings = Settings::load(&given).map_err(|error| match &hint {
        // As with the arguments of cp, of which the second one names the archive.
        Some(hint) if error.to_string() == NO_ARCHIVE => (error.hint(hint), format),
        _ => (error, format),
    })?;
    log::start_with(PROGRAM, &settings, arguments.common.verbose);
    let caller = Caller::at(arguments.path.clone());
    let system = settings.system;
    become_owner(&mut settings, Some(caller.data().path()), system).map_err(|error| (error, format))?;
    let name = arguments.name.or_else(|| arguments.path.file_name().map(OsString::from)).unwrap_or_default();
    let name = arguments::wal_name(&name, ErrorKind::Unacceptable)
        .map_err(|error| (if let Some(hint) = hint { error.hint(hint) } else { error }, format))?;
    if let Some(hint) = hint_for_absent(&arguments.path) {
        let error =
            Error::new(ErrorKind::Configuration, format!("there is no {name} in the working directory"));
        return Err((error.hint(hint), format));
    }
    let request = PushRequest {
        caller,
        path: arguments.path,
        name,
        system,
        codec: settings.push.codec.unwrap_or_default(),
        threads: NonZeroUsize::MIN,
        overflow: OverflowDirectory::new(&settings.spool),
        now: Timestamp::now().round(jiff::Unit::Second).unwrap_or_else(|_| Timestamp::now()),
        host: None,
    };
    Ok((settings, request))
}
