//! `walkeep status`.

mod json;
mod limits;
mod prometheus;
mod text;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::archive::Archive;
use crate::blocking::blocking;
use crate::call::unless_stopped;
use crate::cli::exit::{ExitStatuses, worst};
use crate::cli::output::{Output, has_reader};
use crate::cli::print::print;
use crate::cli::supervise::supervise;
use crate::cli::systems::{AllSystems, Destination, EachSystem, Form, Whole, each_system};
use crate::cli::tool::{Early, Opened, Tool};
use crate::cluster::DataDirectory;
use crate::config::{Given, Settings};
use crate::denied::cannot_write;
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::spool::{Spool, SpoolState, patiently};
use crate::status::{self, Backlog, Beside, StatusRequest};
use crate::wal::SystemIdentifier;
use crate::whole_file::{IfTaken, Readers};
use crate::work::Work;
use limits::Limits;
use prometheus::Metrics;

/// Print how well the archive keeps up with its server, and what can be recovered
///
/// Cheap enough for every minute: the archive is not listed.
///
/// Exit status: 0 all well; 1 a limit is exceeded, a recovery is in danger, or the archive cannot be asked; 2 wrong usage or
/// configuration, or an archive that refuses; 141 the reader of the output has left.
#[derive(Debug, clap::Args)]
#[command(mut_arg("timeout", |timeout| timeout.help(TIMEOUT_OF_STATUS)))]
pub(super) struct Status {
    #[command(flatten)]
    tool: Tool,

    #[command(flatten)]
    all: AllSystems,

    #[command(flatten)]
    limits: Limits,

    /// Include base backups that pg_basebackup has written to this directory or below; may be repeated
    #[arg(long, value_name = "DIRECTORY")]
    backup_dir: Vec<PathBuf>,

    /// Print metrics for Prometheus; also on failure, with walkeep_up 0
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,

    /// Write to this file instead of standard output, replaced in one step; a new one is readable for everybody
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Help text of `--timeout`.
const TIMEOUT_OF_STATUS: &str =
    "Time limit of the whole command, such as 30s [default: 1m]; with --all-systems, of each system";

/// The status with its context, for output.
struct Overview<'a> {
    archive: String,
    status: &'a status::Status,
    problems: Vec<String>,
    /// What somebody should know, and no problem.
    notes: Vec<String>,
}

impl Status {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let started = Instant::now();
        let settings =
            self.tool.start(program, |given| Given { backup_dirs: self.backup_dir.clone(), ..given })?;
        if self.all.wanted() {
            return self.of_all(&settings);
        }
        let limit = TimeLimit::new(started, self.tool.within(settings.tool.timeout));
        let status = supervise(&limit, async |stop| {
            let request = self.request(&settings, settings.system);
            let work = Work { stop: &stop, why: &|| None, clock: &Timestamp::now, progress: &() };
            status::gather(Archive::open(&settings.archive), request, &limit, &work).await
        });
        let status = status.map_err(|ended| self.tool.statuses().report_ended(&ended))?;
        let overview = self.overview(&settings, &status);
        let text = match (self.prometheus, self.tool.json) {
            (true, _) => prometheus::render(&overview, &settings.archive.names),
            (_, true) => json::render(&overview),
            _ => text::render(&overview, &settings.archive.names),
        };
        let written = self.write(text.into_bytes(), limit.left())?;
        let failed = written.as_ref().err().map(|error| ExitStatuses::OfTool.report(error));
        Ok(worst([self.judge(&overview).0].into_iter().chain(failed)).into())
    }

    /// Does it for all systems. Metrics come together in the end, because each has the samples of all.
    fn of_all(&self, settings: &Settings) -> Result<ExitCode, ExitCode> {
        let one = OfSystem { status: self, settings, metrics: RefCell::new(Metrics::default()) };
        let form = match (self.prometheus, self.tool.json) {
            (true, _) => Form::None,
            (_, true) => Form::Json,
            _ => Form::Text,
        };
        let destination = if self.output.is_some() { Destination::Memory } else { Destination::Stdout };
        let Whole { mut status, held, systems, summary } =
            each_system(&self.tool, settings, &one, form, destination);
        let mut metrics = one.metrics.into_inner();
        match systems {
            Some(systems) => prometheus::of_systems(&mut metrics, systems),
            None => prometheus::of_unknown(&mut metrics, None, &settings.archive.names),
        }
        let time = self.tool.within(settings.tool.timeout);
        let written = match (self.prometheus, &self.output) {
            (true, _) => self.write(metrics.text().into_bytes(), time)?,
            (false, Some(_)) => self.write(held, time)?,
            (false, None) => Ok(()),
        };
        if self.is_silent() && status != 0 && systems.is_some() {
            tracing::error!("{summary}");
        }
        if let Err(error) = written {
            status = worst([status, ExitStatuses::OfTool.report(&error)]);
        }
        Ok(status.into())
    }

    fn request(&self, settings: &Settings, system: Option<SystemIdentifier>) -> StatusRequest {
        StatusRequest {
            system,
            beside: Beside {
                data: self.tool.pgdata.clone().map(DataDirectory::named),
                backup_directories: settings.keep.backup_dirs.clone(),
                labels: settings.keep.backup_labels.clone(),
                next: None,
            },
            connections: settings.tool.connections,
        }
    }

    fn overview<'s>(&self, settings: &Settings, status: &'s status::Status) -> Overview<'s> {
        let data = self.tool.pgdata.as_deref();
        let archive = settings.archive.url.to_string();
        let command = |next| Backlog::command_for(next, &archive, data.unwrap_or(Path::new(".")));
        let problems = self.limits.demands().problems(status);
        let problems = problems.iter().map(|problem| limits::render(problem, command)).collect();
        let spool = data.and_then(|data| unusable_spool(&settings.spool, data));
        let mut overview = Overview { archive: archive.clone(), status, problems, notes: Vec::new() };
        overview.notes = notes(&overview, data, spool);
        overview
    }

    /// Writes the output. A failure to print it ends the command, and one to write a file does not. A reader of a pipe has that
    /// time, and a moment in any case.
    fn write(&self, content: Vec<u8>, time: Duration) -> Result<Result<(), Error>, ExitCode> {
        let Some(path) = self.output.clone() else { return print(|to| to.write_all(&content)).map(Ok) };
        let write = move || OUTPUT.write(&path, &content[..]).map_err(|error| cannot_write(&path, error));
        if !self.output.as_deref().is_some_and(has_reader) {
            return Ok(write());
        }
        let limit = TimeLimit::new(Instant::now(), time.max(A_MOMENT));
        let written = supervise(&limit, async |stop| {
            unless_stopped(&stop, blocking(write), "stopped before anybody had read the output").await
        });
        Ok(Ok(written.map_err(|ended| ExitStatuses::OfTool.report_ended(&ended))?))
    }

    /// Returns `true` if nobody who reads standard output sees the problems there.
    fn is_silent(&self) -> bool {
        self.prometheus || self.output.is_some()
    }

    /// Logs failures, and problems that nobody sees, and returns the exit status with the first failure.
    fn judge<'s>(&self, overview: &Overview<'s>) -> (u8, Option<&'s Error>) {
        let status: &'s status::Status = overview.status;
        let backlog = status.backlog.as_ref().and_then(|backlog| backlog.as_ref().err());
        let failures = backlog.into_iter().chain(status.archive.as_ref().err());
        let statuses = failures.clone().map(|error| ExitStatuses::OfTool.report(error));
        let failed = worst(statuses);
        if self.is_silent() {
            overview.problems.iter().for_each(|problem| tracing::error!("{problem}"));
        }
        (worst([failed, u8::from(!overview.problems.is_empty())]), failures.clone().next())
    }
}

/// The status of a system of an archive.
struct OfSystem<'a> {
    status: &'a Status,
    settings: &'a Settings,
    metrics: RefCell<Metrics>,
}

impl EachSystem for OfSystem<'_> {
    type Done = status::Status;

    /// What hangs for one system takes its own time only.
    async fn work(&self, opened: Opened, early: &Early<'_>) -> Result<status::Status, Error> {
        let limit = TimeLimit::new(Instant::now(), self.settings.tool.timeout);
        let (request, stop) =
            (self.status.request(self.settings, Some(opened.system)), early.stop().child_token());
        let why = || early.why();
        let work = Work { stop: &stop, why: &why, clock: &Timestamp::now, progress: &() };
        let opening = std::future::ready(Ok(opened.archive));
        let mut gathering = std::pin::pin!(status::gather(opening, request, &limit, &work));
        tokio::select! {
            biased;
            status = &mut gathering => return status,
            () = tokio::time::sleep(limit.left()) => stop.cancel(),
        }
        gathering.await
    }

    fn said(&self, _: SystemIdentifier, status: &status::Status) -> Vec<u8> {
        let overview = self.status.overview(self.settings, status);
        if self.status.prometheus {
            let names = &self.settings.archive.names;
            prometheus::of_system(&mut self.metrics.borrow_mut(), &overview, names);
            return Vec::new();
        }
        if self.status.tool.json {
            json::render(&overview)
        } else {
            text::render(&overview, &self.settings.archive.names)
        }
        .into_bytes()
    }

    fn judge<'d>(&self, _: SystemIdentifier, status: &'d status::Status) -> (u8, Option<&'d Error>) {
        self.status.judge(&self.status.overview(self.settings, status))
    }

    fn unknown(&self, system: SystemIdentifier) {
        prometheus::of_unknown(&mut self.metrics.borrow_mut(), Some(system), &self.settings.archive.names);
    }
}

/// Returns why the server that owns `data` cannot keep a spool, if so.
fn unusable_spool(base: &Path, data: &Path) -> Option<String> {
    let (base, data) = (base.to_owned(), data.to_owned());
    patiently(move || {
        let user = DataDirectory::named(data).owner()?;
        let of_user = Spool::default_base_of(user);
        let base = if base == Spool::default_base() { of_user } else { base };
        match SpoolState::of(&base, user) {
            SpoolState::Unusable(why) => Some(why),
            SpoolState::Usable | SpoolState::Missing => None,
        }
    })
}

fn notes(overview: &Overview<'_>, data: Option<&Path>, spool: Option<String>) -> Vec<String> {
    let Overview { archive, status, .. } = overview;
    let known = status.archive.as_ref().ok();
    let unreadable = known.map_or_else(Vec::new, |known| known.unreadable.clone());
    let is_stuck = status.backlog().is_some_and(|backlog| backlog.stuck(status.at).is_some());
    let held_up = data.filter(|_| !is_stuck).and_then(|data| text::held_up(status, archive, data));
    let spool = spool.map(|why| {
        format!(
            "look-ahead and prefetching do not work: {why}; each call archives or restores one file alone"
        )
    });
    let dangers = known.map_or_else(Vec::new, |known| known.notes(status.at));
    let undone = known.and_then(text::undone_verification);
    unreadable.into_iter().chain(held_up).chain(undone).chain(spool).chain(dangers).collect()
}

/// Time that a reader of a pipe has in any case.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Output for a collector of metrics, which runs as another user. It need not be durable.
const OUTPUT: Output = Output { readers: Readers::All, durable: false, if_taken: IfTaken::Replace };
