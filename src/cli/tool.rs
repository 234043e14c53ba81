//! Parts shared by the maintenance commands.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::arguments::Common;
use super::exit::{ExitStatuses, exit_on_panic};
use super::owner::become_owner;
use super::supervise::supervise;
use super::{log, umask};
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::call::{Ended, Hung, unless_hung, unless_stopped};
use crate::catalog::Reading;
use crate::cluster::DataDirectory;
use crate::config::{Given, Settings, Timeout};
use crate::error::{Error, ErrorKind};
use crate::limit::{TimeLimit, as_text};
use crate::wal::SystemIdentifier;
use crate::work::{Progress, Why, Work};

/// Arguments of all maintenance commands.
#[derive(Debug, Args)]
pub(super) struct Tool {
    #[command(flatten)]
    pub(super) common: Common,

    /// Data directory of the cluster, which contains its system identifier
    #[arg(long, value_name = "DIRECTORY")]
    pub(super) pgdata: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) whole: Whole,
}

/// Limit of a whole command.
#[derive(Debug, Args)]
pub(super) struct Whole {
    /// Time after which the command ends, done or not, such as 4h: for what runs unattended
    #[arg(long, value_name = "DURATION")]
    give_up_after: Option<Timeout>,
}

impl Whole {
    /// Returns the limit, which begins now.
    pub(super) fn limit(&self) -> TimeLimit {
        TimeLimit::new(Instant::now(), self.give_up_after.map_or(Duration::MAX, |whole| whole.0))
    }
}

/// Message of a command that was stopped before its archive was open.
pub(super) const STOPPED_BEFORE: &str = "stopped before anything was done";

/// Help text of `--timeout` for commands whose work has no limit as a whole.
pub(super) const TIMEOUT_OF_LONG_WORK: &str = "Time for which what fails is tried again, and for which nothing may move: an archive that hangs ends the command \
     [default: 1m]";

/// Help text of `--timeout` for commands that end within it.
pub(super) const TIMEOUT_OF_ALL: &str = "Time limit of the whole command, such as 30s [default: 1m]";

/// An open archive, with the cluster whose files are meant.
pub(super) struct Opened {
    pub(super) archive: Archive,
    pub(super) system: SystemIdentifier,
    pub(super) reading: Reading,
}

/// End of long work before it is done.
pub(super) struct Early<'a> {
    stop: CancellationToken,
    settings: &'a Settings,
    /// `true` once nothing has moved for as long as it may.
    hung: &'a Cell<bool>,
}

/// Runs a part of long work until it is done, or until nothing has moved for the time limit. Then it may still say what it has
/// done.
pub(super) async fn unless_it_hangs<T>(
    settings: &Settings,
    stop: &CancellationToken,
    work: impl AsyncFnOnce(Early<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let is_hung = Cell::new(false);
    let stop = stop.child_token();
    let working = work(Early { stop: stop.clone(), settings, hung: &is_hung });
    let end = || {
        is_hung.set(true);
        stop.cancel();
    };
    let ended = unless_hung(settings.tool.timeout, end, working).await;
    ended.unwrap_or_else(|Hung| Err(hung(settings))).map_err(|error| {
        if is_hung.get() && error.kind() == ErrorKind::Stopped { hung(settings) } else { error }
    })
}

impl Early<'_> {
    /// Returns the signal to end early.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns the reason to end, if it is no signal.
    pub(super) fn why(&self) -> Option<Error> {
        self.hung.get().then(|| hung(self.settings))
    }

    /// Returns the context of the work.
    pub(super) fn work<'b>(&'b self, why: Why<'b>, progress: &'b dyn Progress) -> Work<'b> {
        Work { stop: &self.stop, why, clock: &Timestamp::now, progress }
    }
}

impl Tool {
    /// Returns the table of exit statuses that applies while nothing has been printed.
    pub(super) fn statuses(&self) -> ExitStatuses {
        ExitStatuses::of_tool(self.json)
    }

    /// Reads the settings and starts the log.
    pub(super) fn start(
        &self,
        program: &'static str,
        given: impl FnOnce(Given) -> Given,
    ) -> Result<Settings, ExitCode> {
        umask::keep_others_out();
        exit_on_panic(program, self.statuses());
        let given = given(self.common.given());
        let format = given.log_format.unwrap_or_default();
        let settings =
            Settings::load(&given).map_err(|error| self.statuses().report_early(program, format, &error))?;
        log::start_with(program, &settings, self.common.verbose);
        Ok(settings)
    }

    /// Does the same as [`Tool::start`] for a command that writes into the archive.
    pub(super) fn start_to_write(
        &self,
        program: &'static str,
        given: impl FnOnce(Given) -> Given,
    ) -> Result<Settings, ExitCode> {
        let mut settings = self.start(program, given)?;
        let system = settings.system;
        become_owner(&mut settings, self.pgdata.as_deref(), system)
            .map_err(|error| self.statuses().report(&error))?;
        Ok(settings)
    }

    /// Runs long work until it is done, until nothing has moved for the time limit, or until a signal or the limit of the
    /// whole command ends it. Either way the work may still say what it has done.
    pub(super) fn work<T>(
        &self,
        settings: &Settings,
        work: impl AsyncFnOnce(Opened, Early<'_>) -> Result<T, Error>,
    ) -> Result<T, ExitCode> {
        self.work_on(settings, self.open(settings), work)
    }

    /// Does the same as [`Tool::work`] on what is opened otherwise.
    pub(super) fn work_on<O, T>(
        &self,
        settings: &Settings,
        opening: impl Future<Output = Result<O, Error>>,
        work: impl AsyncFnOnce(O, Early<'_>) -> Result<T, Error>,
    ) -> Result<T, ExitCode> {
        let limit = self.whole.limit();
        let done = supervise(&limit, async |stop| {
            unless_it_hangs(settings, &stop, async |early| {
                let opened = unless_stopped(&early.stop, opening, STOPPED_BEFORE).await?;
                work(opened, early).await
            })
            .await
        });
        Ok(done.map_err(|ended| self.statuses().report_ended(&of_whole(ended, &limit)))?)
    }

    /// Returns the limit of a command that ends within `timeout` by itself.
    pub(super) fn within(&self, timeout: Duration) -> Duration {
        self.whole.give_up_after.map_or(timeout, |whole| whole.0.min(timeout))
    }

    /// Opens the archive and determines the cluster: as given, from the data directory, or the only one in the
    /// archive.
    pub(super) async fn open(&self, settings: &Settings) -> Result<Opened, Error> {
        let (archive, reading) = open_archive(settings).await?;
        let system = match (settings.system, self.pgdata.clone()) {
            (Some(system), None) => system,
            (Some(system), Some(directory)) => {
                let data = DataDirectory::named(directory);
                blocking(move || data.system_identifier_if(Some(system))).await?;
                system
            }
            (None, Some(directory)) => {
                let data = DataDirectory::named(directory.clone());
                blocking(move || data.system_identifier()).await?.ok_or_else(|| {
                    let what = format!("there is no global/pg_control in {}", directory.display());
                    Error::new(ErrorKind::Configuration, what).hint("name the server's data directory")
                })?
            }
            (None, None) => reading.retry(async || archive.only_system().await).await?,
        };
        Ok(Opened { archive, system, reading })
    }
}

/// Opens the archive, without a look at which cluster is meant.
pub(super) async fn open_archive(settings: &Settings) -> Result<(Archive, Reading), Error> {
    let archive = Archive::open(&settings.archive).await?;
    let reading = Reading::of(&archive, settings.tool.connections, settings.tool.timeout);
    Ok((archive, reading))
}

/// Creates the error of a command that has waited for nothing.
fn hung(settings: &Settings) -> Error {
    let (archive, patience) = (&settings.archive.url, settings.tool.timeout);
    let what = format!("gave up, because nothing has moved for {}", as_text(patience));
    Error::new(ErrorKind::Unavailable, what)
        .hint(format!("does {archive} answer, or does its mount hang? --timeout is the limit for that"))
        .timed_out(true)
}

/// Names the flag in the error of a command that has reached the limit of the whole.
pub(super) fn of_whole(ended: Ended, limit: &TimeLimit) -> Ended {
    if ended.by.is_some() || !limit.left().is_zero() || ended.error.kind() != ErrorKind::Stopped {
        return ended;
    }
    let what = format!("gave up after {}, as --give-up-after says", limit.total_as_text());
    Error::new(ErrorKind::Stopped, what).into()
}
