//! `--all-systems`: a command for one system of the archive after another, in one process.
//!
//! A system is finished, and what is known of it dropped, before the next one begins. One that fails keeps no other from its
//! turn. Only what concerns all of them ends the command early: a signal, the limit of the whole command, an archive that
//! does not answer at all, or a reader of the output who has left.

mod page;
mod tally;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::archive::{Archive, ArchiveUrl};
use crate::call::{Ended, unless_stopped};
use crate::catalog::Reading;
use crate::cli::exit::{ExitStatuses, worst};
use crate::cli::log;
use crate::cli::print::READER_LEFT;
use crate::cli::supervise::supervise;
use crate::cli::tool::{Early, Opened, STOPPED_BEFORE, Tool, of_whole, unless_it_hangs};
use crate::config::Settings;
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

use page::Page;
pub(super) use page::{Destination, Form};
use tally::Tally;

/// Argument of commands that can work on all systems.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct AllSystems {
    /// Do it for each system in the archive, one after another, and end with the worst exit status: 0, then 1, then 2
    #[arg(long = "all-systems", conflicts_with_all = ["system_identifier", "pgdata"])]
    wanted: bool,
}

impl AllSystems {
    /// Returns `true` if the command is for all systems. Fails if a setting is meant for one: of `timelines`, which are
    /// numbered in each cluster from 1 on, with the name of the setting.
    pub(super) fn check(self, settings: &Settings) -> Result<bool, Error> {
        let branches = &settings.keep.policy.branches;
        let of_one = [
            ("given_up_timelines", "--give-up-timeline", &branches.given_up),
            ("held_timelines", "--hold-timeline", &branches.held),
        ];
        match of_one.into_iter().find(|(_, _, timelines)| self.wanted && !timelines.is_empty()) {
            None => Ok(self.wanted),
            Some((setting, flag, _)) => {
                let what = format!(
                    "{setting} is set, whose timelines are those of one system, and --all-systems is for every system"
                );
                Err(Error::new(ErrorKind::Configuration, what).hint(format!(
                    "take it out of this configuration, and give {flag} where --system-identifier names that system"
                )))
            }
        }
    }

    /// Returns `true` if the command is for all systems.
    pub(super) fn wanted(self) -> bool {
        self.wanted
    }
}

/// A command for each system.
pub(super) trait EachSystem {
    /// What is known of a system in the end.
    type Done;

    /// Works on a system.
    async fn work(&self, opened: Opened, early: &Early<'_>) -> Result<Self::Done, Error>;

    /// Returns what is printed of it: a text, or a JSON document.
    fn said(&self, system: SystemIdentifier, done: &Self::Done) -> Vec<u8>;

    /// Logs what is not printed, and returns the exit status, with the error if there is one.
    fn judge<'d>(&self, system: SystemIdentifier, done: &'d Self::Done) -> (u8, Option<&'d Error>);

    /// Hears of a system of which nothing is known.
    fn unknown(&self, _system: SystemIdentifier) {}
}

/// End of a command for all systems.
pub(super) struct Whole {
    /// Exit status.
    pub(super) status: u8,
    /// Output, if it was to be kept in memory.
    pub(super) held: Vec<u8>,
    /// Number of systems that have a directory; `None` if they could not be listed.
    pub(super) systems: Option<usize>,
    /// How many systems are well, and which failed.
    pub(super) summary: String,
}

/// Runs the command for each system of the archive.
pub(super) fn each_system(
    tool: &Tool,
    settings: &Settings,
    command: &impl EachSystem,
    form: Form,
    destination: Destination,
) -> Whole {
    let limit = tool.whole.limit();
    let (page, tally) = (Page::new(form, destination), Tally::default());
    let mut session = Session { settings, command, page, tally, listed: false, absent: Vec::new() };
    let done = supervise(&limit, async |stop| session.run(&stop).await);
    session.end(done.map_err(|ended| of_whole(ended, &limit)))
}

/// The command at work.
struct Session<'a, C> {
    settings: &'a Settings,
    command: &'a C,
    page: Page,
    tally: Tally,
    listed: bool,
    /// Systems that have a name and no directory.
    absent: Vec<SystemIdentifier>,
}

/// What a command reads of all systems from.
struct Source {
    archive: Archive,
    reading: Reading,
}

impl<C: EachSystem> Session<'_, C> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let (source, mut systems) = unless_it_hangs(self.settings, stop, async |early| {
            unless_stopped(early.stop(), self.open(), STOPPED_BEFORE).await
        })
        .await?;
        self.absent = self.settings.archive.names.absent_from(&systems);
        systems.extend(&self.absent);
        systems.sort_unstable();
        (self.tally, self.listed) = (Tally::of(systems), true);
        while !stop.is_cancelled()
            && !self.page.reader_left()
            && let Some(system) = self.tally.begin_next()
        {
            let span = log::of_system(self.settings.log_format, system, &self.settings.archive.names);
            let answers = self.turn(&source, system, stop).instrument(span).await;
            if !answers && self.tally.left().len() > 0 && !stop.is_cancelled() {
                self.look_again(&source, stop).await?;
            }
        }
        let is_done = self.tally.left().len() == 0 && self.tally.at_work().is_none();
        if is_done || self.page.reader_left() {
            return Ok(());
        }
        // The reason is known to whoever has stopped it.
        Err(Error::new(ErrorKind::Stopped, "stopped"))
    }

    async fn open(&self) -> Result<(Source, Vec<SystemIdentifier>), Error> {
        let archive = Archive::open(&self.settings.archive).await?;
        let reading = Reading::of(&archive, self.settings.tool.connections, self.settings.tool.timeout);
        let source = Source { archive, reading };
        let systems = source.systems().await?;
        Ok((source, systems))
    }

    /// Works on a system. Returns `false` if the archive may not answer any more.
    async fn turn(&mut self, source: &Source, system: SystemIdentifier, stop: &CancellationToken) -> bool {
        let place = &self.settings.archive;
        if self.absent.contains(&system) {
            let error = no_directory(&place.names.shown(system), &place.url);
            self.fail(system, &error).await;
            return true;
        }
        let opened = Opened { archive: source.archive.clone(), system, reading: source.reading };
        let work = async |early: Early<'_>| self.command.work(opened, &early).await;
        // On the heap: it has whole commands in it.
        let done = Box::pin(unless_it_hangs(self.settings, stop, work)).await;
        match done {
            Ok(done) => {
                let said = self.command.said(system, &done);
                self.page.add(place, system, said).await;
                let (status, error) = self.command.judge(system, &done);
                self.tally.done(status, error);
                error.is_none_or(|error| concerns_one_system(error.kind()))
            }
            // The end of the whole command is reported once, with its reason.
            Err(error) if stop.is_cancelled() && error.kind() == ErrorKind::Stopped => true,
            Err(error) => {
                self.fail(system, &error).await;
                concerns_one_system(error.kind())
            }
        }
    }

    async fn fail(&mut self, system: SystemIdentifier, error: &Error) {
        self.page.add_failure(&self.settings.archive, system, error).await;
        self.command.unknown(system);
        self.tally.done(ExitStatuses::OfTool.report(error), Some(error));
    }

    /// Looks whether the archive answers at all. If it does not, each further system would take its time in vain.
    async fn look_again(&self, source: &Source, stop: &CancellationToken) -> Result<(), Error> {
        unless_it_hangs(self.settings, stop, async |early| {
            unless_stopped(early.stop(), source.systems(), STOPPED_BEFORE).await.map(drop)
        })
        .await
    }

    fn end(mut self, done: Result<(), Ended>) -> Whole {
        let names = &self.settings.archive.names;
        let title = |system: SystemIdentifier| names.shown(system);
        let mut ended = done.err();
        let interrupted = ended.as_ref().and_then(|_| self.tally.at_work());
        if let Some(Ended { error, .. }) = &ended {
            self.tally.left().chain(self.tally.at_work()).for_each(|system| self.command.unknown(system));
            self.tally.done(ExitStatuses::OfTool.status(error.kind()), Some(error));
        }
        let summary = self.tally.in_words(title);
        if self.listed {
            let said = |Ended { error, by }| Ended { error: error.hint_also(summary.as_str()), by };
            ended = ended.map(said);
        }
        let error = ended.as_ref().map(|ended| &ended.error);
        let of_ended = ended.as_ref().map(|ended| ExitStatuses::OfTool.report_ended(ended));
        let place = &self.settings.archive;
        if !self.page.reader_left() {
            self.page.end(place, &self.tally, interrupted, error, &summary);
        }
        if self.page.reader_left() {
            return Whole { status: READER_LEFT, held: Vec::new(), systems: None, summary };
        }
        let of_page = self.page.failed();
        let status = worst([self.tally.status()].into_iter().chain(of_ended).chain(of_page));
        let systems = self.listed.then(|| self.tally.all().saturating_sub(self.absent.len()));
        Whole { status, held: self.page.into_held(), systems, summary }
    }
}

impl Source {
    /// Lists the systems by one request. That there are none is an error.
    async fn systems(&self) -> Result<Vec<SystemIdentifier>, Error> {
        let systems = self.reading.retry(async || self.archive.systems().await).await?;
        if systems.is_empty() {
            return Ok(vec![self.archive.only_system().await?]);
        }
        Ok(systems)
    }
}

/// Creates the error for a system that the configuration names and the archive has no directory of.
pub(super) fn no_directory(shown: &str, archive: &ArchiveUrl) -> Error {
    Error::new(ErrorKind::Empty, format!("system {shown} has no directory in {archive}"))
        .hint("were its files moved away? If it is gone for good, take its name out of [systems]")
}

/// Returns `false` for failures that the whole archive may have: it does not answer, or is not mounted any more.
fn concerns_one_system(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::Unavailable | ErrorKind::Empty | ErrorKind::Stopped)
}
