//! `walkeep verify`.

mod acknowledge;
mod json;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use acknowledge::drop_useless;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::catalog::{Acknowledgement, Extent, Finding, LabelPattern, Scope, Severity, VerifyReport};
use crate::cli::arguments;
use crate::cli::exit::Failure;
use crate::cli::print::print_text;
use crate::cli::progress::Bar;
use crate::cli::tool::{Opened, Tool};
use crate::config::{Given, Settings, Timeline};
use crate::error::{Error, ErrorKind};
use crate::verify::{ContentRequest, Interval, Percent, Place, Run, Since, Survey};
use crate::wal::SystemIdentifier;
use crate::work::Progress;

/// Say what base backups can be recovered to, what is missing, and what is damaged
///
/// The first line says whether what is written now can be recovered, and from when to when.
///
/// Exit status: 0 nothing endangers a recovery; 1 something does, or not all could be looked at; 2 wrong usage or
/// configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    tool: Tool,

    /// Decompress every file and compare it with what was archived, instead of with what was stored
    #[arg(long, conflicts_with = "names_only")]
    deep: bool,

    /// Look at the contents of a random part of the segments, such as 10%
    #[arg(long, value_name = "PERCENT", conflicts_with = "names_only")]
    sample: Option<Percent>,

    /// Look at the contents of segments archived since then: 2026-01-31, 2026-01-31T12:00:00Z, or for so long: 7d, 36h
    #[arg(long, value_name = "WHEN", conflicts_with = "names_only")]
    since: Option<Since>,

    /// Look at no segment's content
    #[arg(long)]
    names_only: bool,

    /// Go on where the last verification of all files was interrupted, as closely as that one looked
    #[arg(long, conflicts_with_all = ["names_only", "sample", "since"])]
    resume: bool,

    /// Look for base backups that pg_basebackup has put into this directory, or below it, too; may be repeated
    #[arg(long, value_name = "DIRECTORY")]
    backup_dir: Vec<PathBuf>,

    /// Of the base backups that the archive knows of, show those as counting whose label matches; may be repeated
    #[arg(long, value_name = "PATTERN")]
    backup_label: Vec<LabelPattern>,

    /// What is written now is not this timeline, such as a drill's; may be repeated
    #[arg(long, value_name = "TIMELINE")]
    give_up_timeline: Vec<Timeline>,

    /// Know of a failure that cannot be mended: from now on it is a note. NAME as findings have it, or FIRST..LAST; may be
    /// repeated
    #[arg(long, value_name = "NAME", value_parser = extent)]
    acknowledge: Vec<Extent>,

    /// What to say of what is acknowledged
    #[arg(long, value_name = "TEXT", requires = "acknowledge")]
    reason: Option<String>,

    /// Take back what was acknowledged: from now on it is a failure again; may be repeated
    #[arg(long, value_name = "NAME", value_parser = extent)]
    forget: Vec<Extent>,

    /// How often it is noted in the archive how far it is, so that --resume can go on even after a crash
    #[arg(long, value_name = "DURATION", hide = true, default_value = "1m", value_parser = arguments::timeout)]
    note_every: Duration,
}

#[allow(clippy::unnecessary_wraps, reason = "what clap calls may fail")]
fn extent(text: &str) -> Result<Extent, std::convert::Infallible> {
    Ok(Extent::of(text))
}

/// What is told at the end.
struct Verified {
    survey: Survey,
    run: Run,
    report: VerifyReport,
    error: Option<Error>,
    /// What was acknowledged, and is of no more use.
    dropped: Vec<Acknowledgement>,
}

impl Verified {
    /// Failures first, and what the names tell before what contents do.
    fn findings(&self) -> impl Iterator<Item = &Finding> {
        let all = || self.survey.names.findings.listed.iter().chain(&self.run.so_far.findings.listed);
        let of = move |severity| all().filter(move |finding| finding.severity == severity);
        of(Severity::Failure).chain(of(Severity::Note))
    }
}

impl Verify {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let settings = self.tool.start(program, |given| Given {
            backup_dirs: self.backup_dir.clone(),
            backup_labels: self.backup_label.clone(),
            given_up_timelines: self.give_up_timeline.clone(),
            ..given
        })?;
        let verified = self.tool.work(&settings, async |opened, stop| {
            let system = opened.system;
            self.verify(&settings, opened, &stop).await.map(|verified| (system, verified))
        });
        let (system, verified) = verified?;
        print_text(&if self.tool.json {
            json::told(&settings.archive.url, system, &verified)
        } else {
            text::told(&verified)
        })?;
        if let Some(error) = &verified.error {
            return Ok(Failure::OfTool.report(error).into());
        }
        Ok(u8::from(!verified.report.ok).into())
    }

    fn scope(&self) -> Scope {
        match (self.names_only, self.sample, self.since) {
            (true, ..) => Scope::Names,
            (false, None, None) => Scope::All,
            (false, ..) => Scope::Part,
        }
    }

    async fn verify(
        &self,
        settings: &Settings,
        opened: Opened,
        stop: &CancellationToken,
    ) -> Result<Verified, Error> {
        let Opened { archive, system, reading } = opened;
        let now = Timestamp::now();
        let last_full = last_full(&archive, system).await;
        let resumed = last_full.as_ref().filter(|report| self.resumes(report));
        let place = Place {
            system,
            backup_directories: settings.backup_dirs.clone(),
            labels: settings.backup_labels.clone(),
            given_up: settings.keep.branches.given_up.clone(),
            reading,
        };
        let acknowledged = self.acknowledged(&archive, system).await?;
        let stopped = || Error::new(ErrorKind::Stopped, "stopped before all was verified");
        let surveying = Survey::of(&archive, place, acknowledged, now);
        let surveyed = stop.run_until_cancelled(surveying).await.ok_or_else(stopped).flatten();
        let mut survey = match surveyed {
            Ok(survey) => survey,
            Err(error) => {
                note(&archive, system, self.failed(resumed, last_full.as_ref(), &error)).await;
                return Err(error);
            }
        };
        let contents = (!self.names_only).then(|| ContentRequest {
            deep: self.deep || resumed.is_some_and(|report| report.deep),
            since: self.since.map(|since| since.before(now)),
            sample: self.sample,
        });
        let mut run = Run::new(&mut survey, contents, resumed, last_full.clone());
        // Contents may take hours: what can be told before is.
        self.check_acknowledged(&survey, &run)?;
        let progress = Bar::new("verifying");
        progress.begin(run.files());
        let mut interval = Interval::new(self.note_every);
        let looking = run.contents(&archive, &survey, async |run| {
            progress.add(1);
            if self.scope() == Scope::All && interval.is_due() {
                let report = run.report_so_far(&survey, Timestamp::now());
                if let Err(error) = report.write(&archive, system).await {
                    tracing::debug!("{}", error.report());
                }
            }
        });
        let mut looked = stop.run_until_cancelled(looking).await.ok_or_else(stopped).flatten();
        drop(progress);
        if looked.is_ok() {
            let looking = run.look_again(&archive, &mut survey, Timestamp::now());
            looked = stop.run_until_cancelled(looking).await.ok_or_else(stopped).flatten();
        }
        if looked.is_ok() {
            let concluding = survey.conclude(Some(&archive), &run.so_far.bad);
            looked = stop.run_until_cancelled(concluding).await.ok_or_else(stopped);
        }
        if looked.is_err() {
            survey.conclude(None, &run.so_far.bad).await;
        }
        let unknown = match &looked {
            Ok(()) => self.acknowledge_now(&archive, system, &mut survey, &mut run).await.err(),
            Err(_) => None,
        };
        let error = looked.err().map(|error| match self.scope() {
            Scope::All => error.hint("\"walkeep verify --resume\" goes on from there"),
            Scope::Part | Scope::Names => error,
        });
        let report = run.report(&survey, Timestamp::now(), error.as_ref().map(Error::report));
        note(&archive, system, report.clone()).await;
        let dropped = drop_useless(&archive, system, &mut survey, &run, &report).await;
        Ok(Verified { survey, run, report, error: error.or(unknown), dropped })
    }

    /// Whether that verification is one to go on with.
    fn resumes(&self, report: &VerifyReport) -> bool {
        if !self.resume {
            return false;
        }
        if self.deep && !report.deep && report.checked_up_to.is_some() {
            tracing::warn!("the last verification was not --deep, so this one starts at the beginning");
            return false;
        }
        report.checked_up_to.is_some()
    }

    /// What is noted where nothing could be looked at. What can be continued still can.
    fn failed(
        &self,
        resumed: Option<&VerifyReport>,
        last_full: Option<&VerifyReport>,
        error: &Error,
    ) -> VerifyReport {
        let (at, scope, error) = (Timestamp::now(), self.scope(), Some(error.report()));
        if let Some(resumed) = resumed {
            return VerifyReport { at, ok: false, error, at_work: false, ..resumed.clone() };
        }
        VerifyReport {
            at,
            ok: false,
            error,
            at_work: false,
            checked_up_to: None,
            scope,
            deep: self.deep,
            checked_files: 0,
            uncompared_files: 0,
            failures: 0,
            notes: 0,
            gone_files: 0,
            went: Vec::new(),
            content_failures: 0,
            content_notes: 0,
            content_findings: Vec::new(),
            totals: None,
            last_full: last_full.filter(|_| scope != Scope::All).cloned().map(Box::new),
        }
    }
}

/// What the last verification of everything has noted. It is a help, and no condition.
async fn last_full(archive: &Archive, system: SystemIdentifier) -> Option<VerifyReport> {
    match VerifyReport::read(archive, system).await {
        Ok(report) => report.and_then(VerifyReport::full),
        Err(error) => {
            tracing::warn!("{}; this run starts at the beginning", error.report());
            None
        }
    }
}

/// Leaves word of it in the archive, for `walkeep status` and `--resume`. That it cannot is no failure of the work.
async fn note(archive: &Archive, system: SystemIdentifier, report: VerifyReport) {
    if let Err(error) = report.write(archive, system).await {
        tracing::warn!("{}; \"walkeep status\" will not know of this run", error.report());
    }
}
