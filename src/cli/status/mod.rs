//! `walkeep status`.

mod json;
mod limits;
mod prometheus;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use jiff::Timestamp;

use crate::archive::Archive;
use crate::cli::exit::ExitStatuses;
use crate::cli::output::Output;
use crate::cli::print::print_text;
use crate::cli::supervise::supervise;
use crate::cli::tool::{TIMEOUT_OF_ALL, Tool};
use crate::cluster::DataDirectory;
use crate::config::Given;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::spool::{Spool, SpoolState, patiently};
use crate::status::{self, Backlog, Beside, StatusRequest};
use crate::whole_file::{IfTaken, Readers};
use crate::work::Work;
use limits::Limits;

/// Print how well the archive keeps up with its server, and what can be recovered
///
/// Cheap enough for every minute: the archive is not listed.
///
/// Exit status: 0 all well; 1 a limit is exceeded, a recovery is in danger, or the archive cannot be asked; 2 wrong
/// usage or configuration.
#[derive(Debug, clap::Args)]
#[command(mut_arg("timeout", |timeout| timeout.help(TIMEOUT_OF_ALL)))]
pub(super) struct Status {
    #[command(flatten)]
    tool: Tool,

    #[command(flatten)]
    limits: Limits,

    /// Include base backups that pg_basebackup has written to this directory or below; may be repeated
    #[arg(long, value_name = "DIRECTORY")]
    backup_dir: Vec<PathBuf>,

    /// Print metrics for Prometheus; also on failure, with walkeep_up 0
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,

    /// Write to this file instead of standard output, readable for everybody and replaced in one step
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

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
        let limit = TimeLimit::new(started, self.tool.within(settings.tool.timeout));
        let status = supervise(&limit, async |stop| {
            let request = StatusRequest {
                system: settings.system,
                beside: Beside {
                    data: self.tool.pgdata.clone().map(DataDirectory::named),
                    backup_directories: settings.keep.backup_dirs.clone(),
                    labels: settings.keep.backup_labels.clone(),
                    next: None,
                },
                connections: settings.tool.connections,
            };
            let work = Work { stop: &stop, why: &|| None, clock: &Timestamp::now, progress: &() };
            status::gather(Archive::open(&settings.archive), request, &limit, &work).await
        });
        let status = status.map_err(|ended| self.tool.statuses().report_ended(&ended))?;
        let data = self.tool.pgdata.as_deref();
        let archive = settings.archive.url.to_string();
        let command = |next| Backlog::command_for(next, &archive, data.unwrap_or(Path::new(".")));
        let problems = self.limits.demands().problems(&status);
        let problems = problems.iter().map(|problem| limits::render(problem, command)).collect();
        let spool = data.and_then(|data| unusable_spool(&settings.spool, data));
        let mut overview =
            Overview { archive: archive.clone(), status: &status, problems, notes: Vec::new() };
        overview.notes = notes(&overview, data, spool);
        let text = match (self.prometheus, self.tool.json) {
            (true, _) => prometheus::render(&overview),
            (_, true) => json::render(&overview),
            _ => text::render(&overview),
        };
        let written = match &self.output {
            None => {
                print_text(&text)?;
                Ok(())
            }
            Some(path) => OUTPUT.write(path, text.as_bytes()).map_err(|error| {
                Error::new(ErrorKind::Local, format!("cannot write {}", path.display())).because(error)
            }),
        };
        Ok(self.exit_status(&overview, &written).into())
    }

    /// Logs failures that were not printed, and returns the exit status.
    fn exit_status(&self, overview: &Overview<'_>, written: &Result<(), Error>) -> u8 {
        let backlog = overview.status.backlog.as_ref().and_then(|backlog| backlog.as_ref().err());
        let failures = [backlog, overview.status.archive.as_ref().err(), written.as_ref().err()];
        let statuses = failures.into_iter().flatten().map(|error| ExitStatuses::OfTool.report(error));
        let failed = statuses.max().unwrap_or_default();
        if self.prometheus || self.output.is_some() {
            overview.problems.iter().for_each(|problem| tracing::error!("{problem}"));
        }
        failed.max(u8::from(!overview.problems.is_empty()))
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
    unreadable.into_iter().chain(held_up).chain(spool).chain(dangers).collect()
}

/// Output for a collector of metrics, which runs as another user. It need not be durable.
const OUTPUT: Output = Output { readers: Readers::All, durable: false, if_taken: IfTaken::Replace };
