//! `walkeep prune`.

mod json;
mod text;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::catalog::LabelPattern;
use crate::cli::exit::ExitStatuses;
use crate::cli::print::{plain, print, time, write_json};
use crate::cli::progress::Bar;
use crate::cli::systems::{AllSystems, Destination, EachSystem, Form, each_system};
use crate::cli::tool::{Early, Opened, TIMEOUT_OF_LONG_WORK, Tool};
use crate::cluster::DataDirectory;
use crate::config::{Given, LongTime, Settings, Timeline};
use crate::error::{Error, ErrorKind};
use crate::prune::{PrunePlan, PruneRequest, Pruned, prune};
use crate::retention::{Before, GivenUp, Policy};
use crate::server::Server;
use crate::wal::{Lsn, SystemIdentifier};

/// Delete archived files that need not be kept
///
/// A file stays if any of the given policies keeps it. In doubt, nothing is deleted.
///
/// Exit status: 0 done, or nothing to do; 1 in doubt, or the work failed; 2 wrong usage or configuration,
/// or an archive that refuses; 141 the reader of the output has left.
#[derive(Debug, clap::Args)]
#[command(mut_arg("timeout", |timeout| timeout.help(TIMEOUT_OF_LONG_WORK)))]
pub(super) struct Prune {
    #[command(flatten)]
    tool: Tool,

    #[command(flatten)]
    all: AllSystems,

    /// Keep the newest N base backups recoverable, and the newest one that leads to the WAL written now
    #[arg(long, value_name = "N")]
    keep_backups: Option<NonZeroUsize>,

    /// Keep any moment of the last N days recoverable: the recovery window
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,

    /// Keep WAL archived in the last N days, for an archive without known base backups
    #[arg(long, value_name = "N")]
    keep_wal_days: Option<u32>,

    /// Delete WAL older than this, as pg_archivecleanup does: a segment, a .partial or .backup file, or PostgreSQL's %r
    #[arg(long, conflicts_with = "wanted", value_name = "NAME")]
    before: Option<Before>,

    /// Keep the WAL needed by base backups that pg_basebackup has written to this directory or below; may be repeated
    #[arg(long, value_name = "DIRECTORY")]
    backup_dir: Vec<PathBuf>,

    /// Keep WAL archived within this time, such as 36h, for a base backup in progress [default: 24h]
    #[arg(long, value_name = "DURATION")]
    backup_may_take: Option<LongTime>,

    /// Keep no base backup for this timeline, such as a drill's; may be repeated
    #[arg(long, conflicts_with = "wanted", value_name = "TIMELINE")]
    give_up_timeline: Vec<Timeline>,

    /// Keep the newest base backup that leads to this timeline, at any age; may be repeated
    #[arg(long, conflicts_with = "wanted", value_name = "TIMELINE")]
    hold_timeline: Vec<Timeline>,

    /// Count only base backups in the archive with this label, a pattern such as 'nightly*'; may be repeated
    #[arg(long, value_name = "PATTERN")]
    backup_label: Vec<LabelPattern>,

    /// With --before, delete even if no complete base backup is left, or none that leads to the newest timeline
    #[arg(long, requires = "before")]
    accept_no_backup: bool,

    /// Keep all WAL from this position on, such as 0/3000028, which a standby or a recovery still needs
    #[arg(long, conflicts_with = "wanted", value_name = "LSN")]
    keep_from: Option<Lsn>,

    /// Keep the WAL that this running server or its replication slots need: a connection URL, without a password; may
    /// be repeated
    #[arg(long, conflicts_with = "wanted", value_name = "URL")]
    pg_url: Vec<String>,

    /// Print what would be deleted and why the rest stays; delete nothing
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let settings = self.tool.start_to_write(program, |given| Given {
            keep_backups: self.keep_backups,
            keep_days: self.keep_days,
            keep_wal_days: self.keep_wal_days,
            backup_dirs: self.backup_dir.clone(),
            backup_may_take: self.backup_may_take,
            given_up_timelines: self.give_up_timeline.clone(),
            held_timelines: self.hold_timeline.clone(),
            backup_labels: self.backup_label.clone(),
            ..given
        })?;
        let servers = self.servers(&settings).map_err(|error| self.tool.statuses().report(&error))?;
        let all = self.all.check(&settings).map_err(|error| self.tool.statuses().report(&error))?;
        let one = OfSystem { prune: &self, settings: &settings, servers };
        if all {
            let form = if self.tool.json { Form::Json } else { Form::Text };
            return Ok(each_system(&self.tool, &settings, &one, form, Destination::Stdout).status.into());
        }
        let (system, pruned) = self.tool.work(&settings, async |opened, early| {
            let system = opened.system;
            one.work(opened, &early).await.map(|pruned| (system, pruned))
        })?;
        warn(&pruned.plan);
        print(|to| one.write(to, system, &pruned))?;
        Ok(failed(&pruned).0.into())
    }

    /// Checks the arguments, and returns the servers to ask.
    fn servers(&self, settings: &Settings) -> Result<Vec<Server>, Error> {
        let says_what_may_go = !settings.keep.policy.is_empty() || self.before.is_some();
        if !says_what_may_go && settings.keep.backup_dirs.is_empty() {
            return Err(Error::new(ErrorKind::Configuration, "nothing says what is to be kept").hint(
                "give --keep-backups, --keep-days or --backup-dir; --before; or --keep-wal-days where there are no base \
                 backups",
            ));
        }
        self.pg_url.iter().map(|url| Server::new(url)).collect()
    }

    fn request(&self, settings: &Settings, opened: &Opened, servers: Vec<Server>) -> PruneRequest {
        let policy = Policy {
            before: self.before,
            keep_from: self.keep_from,
            accept_no_backup: self.accept_no_backup,
            ..settings.keep.policy.clone()
        };
        PruneRequest {
            system: opened.system,
            policy,
            // The server runs its commands in its data directory.
            data: self.tool.pgdata.clone().map_or_else(DataDirectory::current, DataDirectory::named),
            backup_directories: settings.keep.backup_dirs.clone(),
            labels: settings.keep.backup_labels.clone(),
            servers,
            reading: opened.reading,
            dry_run: self.dry_run,
        }
    }
}

/// The prune of a system.
struct OfSystem<'a> {
    prune: &'a Prune,
    settings: &'a Settings,
    servers: Vec<Server>,
}

impl OfSystem<'_> {
    fn write(&self, to: &mut dyn Write, system: SystemIdentifier, pruned: &Pruned) -> io::Result<()> {
        let Prune { tool, dry_run, .. } = self.prune;
        if tool.json {
            write_json(to, &json::of(&self.settings.archive.url, system, pruned, *dry_run))
        } else {
            text::write(to, pruned, *dry_run)
        }
    }
}

impl EachSystem for OfSystem<'_> {
    type Done = Pruned;

    async fn work(&self, opened: Opened, early: &Early<'_>) -> Result<Pruned, Error> {
        let request = self.prune.request(self.settings, &opened, self.servers.clone());
        let (why, bar) = (|| early.why(), Bar::new("deleting"));
        let work = early.work(&why, &bar);
        prune(&opened.archive, request, &work).await
    }

    fn said(&self, system: SystemIdentifier, pruned: &Pruned) -> Vec<u8> {
        let mut said = Vec::new();
        // Writing to memory cannot fail.
        let _ = self.write(&mut said, system, pruned);
        said
    }

    fn judge<'d>(&self, _: SystemIdentifier, pruned: &'d Pruned) -> (u8, Option<&'d Error>) {
        warn(&pruned.plan);
        failed(pruned)
    }
}

/// Reports the error that stopped the deletion, and returns the exit status with it.
fn failed(pruned: &Pruned) -> (u8, Option<&Error>) {
    let error = pruned.error.as_ref();
    (error.map(|error| ExitStatuses::OfTool.report(error)).unwrap_or_default(), error)
}

/// Warns of what was asked for and is not done.
fn warn(plan: &PrunePlan) {
    if let Some(doubt) = &plan.overruled {
        tracing::warn!("{doubt}; to keep it, set keep_backups or keep_days");
    }
    for GivenUp { timeline, since } in &plan.alive {
        tracing::warn!(
            "timeline {timeline} is not given up, because something was archived of it at {}; if it is another one than was \
             meant, take the number out of given_up_timelines",
            time(*since)
        );
    }
    for timeline in &plan.strangers {
        tracing::warn!("the archive knows nothing of timeline {timeline}, which is to be held or given up");
    }
    warn_of_replicas(&plan.perhaps_replicas);
}

/// Warns of base backups that redundancy cannot distinguish from those that somebody keeps.
fn warn_of_replicas(titles: &[String]) {
    const NAMED: usize = 3;
    if titles.is_empty() {
        return;
    }
    let named: Vec<String> = titles.iter().take(NAMED).map(|title| plain(title)).collect();
    let more = match titles.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    tracing::warn!(
        "replicas may have been made of {}{more}, which count as base backups that are kept; say with backup_labels, or \
         --backup-label, which labels count",
        named.join(", ")
    );
}
