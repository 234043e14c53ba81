//! `walkeep verify`.

mod json;
mod text;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;

use crate::catalog::LabelPattern;
use crate::cli::exit::ExitStatuses;
use crate::cli::print::print_text;
use crate::cli::progress::Bar;
use crate::cli::systems::{AllSystems, Destination, EachSystem, Form, each_system};
use crate::cli::tool::{Early, Opened, TIMEOUT_OF_LONG_WORK, Tool};
use crate::config::{Given, Settings, Timeline, Timeout};
use crate::error::Error;
use crate::reports::Extent;
use crate::verify::{ContentRequest, Percent, Since, Target, Verified, VerifyRequest, verify};
use crate::wal::SystemIdentifier;

/// Print what base backups can be recovered to, what is missing, and what is damaged
///
/// The first line says whether the WAL written now can be recovered, and from when to when.
///
/// Exit status: 0 nothing endangers a recovery; 1 something does, or the verification is incomplete; 2 wrong usage or
/// configuration, or an archive that refuses; 141 the reader of the output has left.
#[derive(Debug, clap::Args)]
#[command(mut_arg("timeout", |timeout| timeout.help(TIMEOUT_OF_LONG_WORK)))]
pub(super) struct Verify {
    #[command(flatten)]
    tool: Tool,

    #[command(flatten)]
    all: AllSystems,

    /// Decompress every file and verify its original content, not only the stored bytes
    #[arg(long, conflicts_with = "names_only")]
    deep: bool,

    /// Verify the contents of a random sample of the segments, such as 10%
    #[arg(long, value_name = "PERCENT", conflicts_with = "names_only")]
    sample: Option<Percent>,

    /// Verify the contents of segments archived since then: 2026-01-31, 2026-01-31T12:00:00Z, or a duration ago: 7d,
    /// 36h
    #[arg(long, value_name = "WHEN", conflicts_with = "names_only")]
    since: Option<Since>,

    /// Verify names and text files only, no segment's content
    #[arg(long)]
    names_only: bool,

    /// Continue the last interrupted verification of all files, as thoroughly as that one
    #[arg(long, conflicts_with_all = ["names_only", "sample", "since"])]
    resume: bool,

    /// Include base backups that pg_basebackup has written to this directory or below; may be repeated
    #[arg(long, value_name = "DIRECTORY")]
    backup_dir: Vec<PathBuf>,

    /// Count only base backups in the archive with this label, a pattern such as 'nightly*'; may be repeated
    #[arg(long, value_name = "PATTERN")]
    backup_label: Vec<LabelPattern>,

    /// Do not take this timeline, such as a drill's, for the one written now; may be repeated
    #[arg(long, conflicts_with = "wanted", value_name = "TIMELINE")]
    give_up_timeline: Vec<Timeline>,

    /// Acknowledge a permanent failure, which makes it a note: NAME as in the finding, or FIRST..LAST; may be
    /// repeated
    #[arg(long, conflicts_with = "wanted", value_name = "NAME", value_parser = extent)]
    acknowledge: Vec<Extent>,

    /// Reason for the acknowledgement
    #[arg(long, value_name = "TEXT", requires = "acknowledge")]
    reason: Option<String>,

    /// Revoke an acknowledgement, which makes it a failure again; may be repeated
    #[arg(long, conflicts_with = "wanted", value_name = "NAME", value_parser = extent)]
    forget: Vec<Extent>,

    /// Interval between intermediate reports in the archive, from which --resume continues even after a crash
    #[arg(long, value_name = "DURATION", hide = true, default_value = "1m")]
    note_every: Timeout,
}

#[allow(clippy::unnecessary_wraps, reason = "what clap calls may fail")]
fn extent(text: &str) -> Result<Extent, std::convert::Infallible> {
    Ok(Extent::parse(text))
}

impl Verify {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let settings = self.tool.start_to_write(program, |given| Given {
            backup_dirs: self.backup_dir.clone(),
            backup_labels: self.backup_label.clone(),
            given_up_timelines: self.give_up_timeline.clone(),
            ..given
        })?;
        let all = self.all.check(&settings).map_err(|error| self.tool.statuses().report(&error))?;
        let one = OfSystem { verify: &self, settings: &settings };
        if all {
            let form = if self.tool.json { Form::Json } else { Form::Text };
            return Ok(each_system(&self.tool, &settings, &one, form, Destination::Stdout).status.into());
        }
        let (system, verified) = self.tool.work(&settings, async |opened, early| {
            let system = opened.system;
            one.work(opened, &early).await.map(|verified| (system, verified))
        })?;
        print_text(&one.text(system, &verified))?;
        Ok(one.judge(system, &verified).0.into())
    }

    fn request(&self, settings: &Settings, opened: &Opened) -> VerifyRequest {
        VerifyRequest {
            target: Target {
                system: opened.system,
                backup_directories: settings.keep.backup_dirs.clone(),
                labels: settings.keep.backup_labels.clone(),
                given_up: settings.keep.policy.branches.given_up.clone(),
                reading: opened.reading,
            },
            contents: (!self.names_only).then(|| ContentRequest {
                deep: self.deep,
                since: self.since.map(|since| since.before(Timestamp::now())),
                sample: self.sample,
            }),
            resume: self.resume,
            acknowledge: self.acknowledge.clone(),
            reason: self.reason.clone(),
            forget: self.forget.clone(),
            note_every: self.note_every.0,
        }
    }
}

/// The verification of a system.
struct OfSystem<'a> {
    verify: &'a Verify,
    settings: &'a Settings,
}

impl OfSystem<'_> {
    fn text(&self, system: SystemIdentifier, verified: &Verified) -> String {
        if self.verify.tool.json {
            json::render(&self.settings.archive.url, system, verified)
        } else {
            text::render(verified)
        }
    }
}

impl EachSystem for OfSystem<'_> {
    type Done = Verified;

    async fn work(&self, opened: Opened, early: &Early<'_>) -> Result<Verified, Error> {
        let request = self.verify.request(self.settings, &opened);
        let (why, bar) = (|| early.why(), Bar::new("verifying"));
        let work = early.work(&why, &bar);
        Box::pin(verify(&opened.archive, request, &work)).await
    }

    fn said(&self, system: SystemIdentifier, verified: &Verified) -> Vec<u8> {
        self.text(system, verified).into_bytes()
    }

    fn judge<'d>(&self, _: SystemIdentifier, verified: &'d Verified) -> (u8, Option<&'d Error>) {
        if let Some(error) = &verified.error {
            return (ExitStatuses::OfTool.report(error), Some(error));
        }
        // A crontab may throw standard output away. On a terminal it has just been read, and JSON is for programs.
        if !verified.report.ok && !self.verify.tool.json && !io::stdout().is_terminal() {
            tracing::error!("{}", text::in_short(&self.settings.archive.url, verified));
        }
        (u8::from(!verified.report.ok), None)
    }
}
