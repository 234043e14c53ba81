//! Parts shared by the maintenance commands.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::arguments::Common;
use super::exit::{ExitStatuses, exit_on_panic};
use super::owner::become_owner;
use super::supervise::supervise;
use super::{log, umask};
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::call::unless_stopped;
use crate::catalog::Reading;
use crate::cluster::DataDirectory;
use crate::config::{Given, Settings};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::wal::SystemIdentifier;

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
}

/// An open archive, with the cluster whose files are meant.
pub(super) struct Opened {
    pub(super) archive: Archive,
    pub(super) system: SystemIdentifier,
    pub(super) reading: Reading,
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
        log::start(program, settings.log_format, self.common.verbose);
        Ok(settings)
    }

    /// Does the same as [`Tool::start`] for a command that writes into the archive.
    pub(super) fn start_to_write(
        &self,
        program: &'static str,
        given: impl FnOnce(Given) -> Given,
    ) -> Result<Settings, ExitCode> {
        let mut settings = self.start(program, given)?;
        become_owner(&mut settings, self.pgdata.as_deref(), self.common.system_identifier)
            .map_err(|error| self.statuses().report(&error))?;
        Ok(settings)
    }

    /// Runs long work until it is done or a signal ends it. The time limit applies to each request, not to the whole.
    pub(super) fn work<T>(
        &self,
        settings: &Settings,
        work: impl AsyncFnOnce(Opened, CancellationToken) -> Result<T, Error>,
    ) -> Result<T, ExitCode> {
        let no_limit = TimeLimit::new(Instant::now(), Duration::MAX);
        let done = supervise(&no_limit, async |stop| {
            let opening = self.open(settings);
            let opened = unless_stopped(&stop, opening, "stopped before anything was done").await?;
            work(opened, stop).await
        });
        Ok(done.map_err(|ended| self.statuses().report_ended(&ended))?)
    }

    /// Opens the archive and determines the cluster: as given, from the data directory, or the only one in the
    /// archive.
    pub(super) async fn open(&self, settings: &Settings) -> Result<Opened, Error> {
        let archive = Archive::open(&settings.archive).await?;
        let reading = Reading::of(&archive, settings.tool.connections, settings.tool.timeout);
        let system = match (self.common.system_identifier, self.pgdata.clone()) {
            (Some(system), _) => system,
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
