//! `walkeep prune`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::exit::Failure;
use super::print::{bytes, count, plain, print, time, write_json};
use super::progress::Progress;
use super::tool::{Opened, Tool};
use crate::archive::{Archive, ArchivedFile};
use crate::blocking::blocking;
use crate::catalog::{LabelPattern, PruneReport, Totals};
use crate::cluster::DataDirectory;
use crate::config::{Given, LongTime, Settings, Timeline};
use crate::error::{Error, ErrorKind};
use crate::prune::{PrunePlan, PruneRequest, plan};
use crate::retention::{Before, KeptBackup, Policy};
use crate::wal::SystemIdentifier;

/// Delete the files that need not be kept
///
/// What any of the given policies keeps stays. Whatever is in doubt deletes nothing.
///
/// Exit status: 0 done, or nothing to do; 1 in doubt, or the work failed; 2 wrong usage or configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    #[command(flatten)]
    tool: Tool,

    /// Keep what the newest N base backups need, and the newest that leads to what is written now
    #[arg(long, value_name = "N")]
    keep_backups: Option<NonZeroUsize>,

    /// Keep what it takes to recover to any moment of the last N days
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,

    /// Where no base backups are known: keep what was archived within the last N days
    #[arg(long, value_name = "N")]
    keep_wal_days: Option<u32>,

    /// Keep all from this file on, as pg_archivecleanup does: a segment, a .partial or .backup file, or PostgreSQL's %r
    #[arg(long, value_name = "NAME")]
    before: Option<Before>,

    /// Keep what the base backups need that pg_basebackup has put into this directory, or below it; may be repeated
    #[arg(long, value_name = "DIRECTORY")]
    backup_dir: Vec<PathBuf>,

    /// Keep what was archived within this time, such as 36h: a base backup that is at work may need it [default: 24h]
    #[arg(long, value_name = "DURATION")]
    backup_may_take: Option<LongTime>,

    /// Keep no base backup for the sake of this timeline, such as a drill's; may be repeated
    #[arg(long, value_name = "TIMELINE")]
    give_up_timeline: Vec<Timeline>,

    /// Keep the newest base backup that leads to this timeline, however old that is; may be repeated
    #[arg(long, value_name = "TIMELINE")]
    hold_timeline: Vec<Timeline>,

    /// With --before: delete although no complete base backup is left, or none that leads to the newest timeline
    #[arg(long, requires = "before")]
    accept_no_backup: bool,
    /// Of the base backups that the archive knows of, count those whose label matches, such as 'nightly*'; may be repeated
    #[arg(long, value_name = "PATTERN")]
    backup_label: Vec<LabelPattern>,

    /// Print what would be deleted and why the rest stays, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    archive: String,
    system_identifier: String,
    dry_run: bool,
    /// The oldest segment that stays; only where any goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    begins_at: Option<String>,
    kept_backups: Vec<PrintedBackup<'a>>,
    /// From which segment on all stays for a base backup that may be at work; only where that keeps more than the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    young_from: Option<String>,
    given_up_timelines: Vec<u32>,
    /// The titles of those that redundancy keeps, and that replicas may have been made of.
    perhaps_replicas: &'a [String],
    #[serde(serialize_with = "names")]
    deleted_files: &'a [ArchivedFile],
    deleted_leftovers: Vec<&'a str>,
    deleted_bytes: u64,
    kept: Totals,
    unknown_files: usize,
}

#[derive(Serialize)]
struct PrintedBackup<'a> {
    title: &'a str,
    start_segment: String,
    ended: Timestamp,
    complete: bool,
    counts: bool,
    why: Vec<String>,
}

/// One after the other: there may be millions.
fn names<S: Serializer>(files: &[ArchivedFile], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(files.iter().map(|file| file.name.to_string()))
}

impl Prune {
    pub(super) fn run(self, program: &'static str) {
        let settings = self.tool.start(program, |given| Given {
            keep_backups: self.keep_backups,
            keep_days: self.keep_days,
            keep_wal_days: self.keep_wal_days,
            backup_dirs: self.backup_dir.clone(),
            backup_may_take: self.backup_may_take,
            given_up_timelines: self.give_up_timeline.clone(),
            held_timelines: self.hold_timeline.clone(),
            backup_labels: self.backup_label.clone(),
            ..given
        });
        let policy =
            Policy { before: self.before, accept_no_backup: self.accept_no_backup, ..settings.keep.clone() };
        if policy.is_empty() && settings.backup_dirs.is_empty() {
            let error = Error::new(ErrorKind::Configuration, "nothing says what is to be kept").hint(
                "give --keep-backups, --keep-days or --backup-dir; --before; or --keep-wal-days where there are no base \
                 backups",
            );
            std::process::exit(Failure::OfTool.report(&error));
        }
        let (system, plan) = self.tool.work(&settings, async |opened, stop| {
            let Opened { archive, system, reading } = opened;
            // The server runs its commands in its data directory.
            let data = self.tool.pgdata.clone().map_or_else(DataDirectory::current, DataDirectory::named);
            let policy =
                Policy { restart_point: blocking(move || data.restart_point(system)).await, ..policy };
            let request = PruneRequest {
                system,
                policy,
                backup_directories: settings.backup_dirs.clone(),
                labels: settings.backup_labels.clone(),
                now: Timestamp::now(),
                reading,
            };
            let stopped = || Error::new(ErrorKind::Stopped, "stopped before all was deleted that should be");
            let pruning = self.prune(&archive, request);
            let pruned = stop.run_until_cancelled(pruning).await.ok_or_else(stopped).flatten();
            if !self.dry_run {
                note(&archive, system, pruned.as_ref()).await;
            }
            pruned.map(|plan| (system, plan))
        });
        if let Some(doubt) = &plan.overruled {
            tracing::warn!("{doubt}; to keep it, set keep_backups or keep_days");
        }
        print(|to| self.tell(&settings, system, &plan, to));
    }

    async fn prune(&self, archive: &Archive, request: PruneRequest) -> Result<PrunePlan, Error> {
        let reading = request.reading;
        let plan = plan(archive, request).await?;
        warn_of_replicas(&plan.perhaps_replicas);
        if !self.dry_run {
            let progress = Progress::new("deleting", plan.goes.len());
            plan.carry_out(archive, reading, |gone| progress.add(gone)).await?;
        }
        Ok(plan)
    }

    fn tell(
        &self,
        settings: &Settings,
        system: SystemIdentifier,
        plan: &PrunePlan,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        if self.tool.json {
            let printed = Printed {
                archive: settings.archive.url.to_string(),
                system_identifier: system.to_string(),
                dry_run: self.dry_run,
                begins_at: plan.begins_at.map(|segment| segment.to_string()),
                kept_backups: plan.kept.iter().map(printed).collect(),
                young_from: plan.young.map(|young| young.from.to_string()),
                given_up_timelines: plan.given_up.iter().map(|branch| branch.timeline.get()).collect(),
                perhaps_replicas: &plan.perhaps_replicas,
                deleted_files: &plan.goes,
                deleted_leftovers: plan.staged.iter().map(|file| file.key.as_str()).collect(),
                deleted_bytes: plan.bytes(),
                kept: plan.stays,
                unknown_files: plan.unknown,
            };
            return write_json(to, &printed);
        }
        write_text(to, plan, self.dry_run)
    }
}

/// Leaves word of it in the archive, for `walkeep status`. That it cannot is no failure of the work.
async fn note(archive: &Archive, system: SystemIdentifier, outcome: Result<&PrunePlan, &Error>) {
    let now = Timestamp::now();
    let report = outcome.map_or_else(|error| PruneReport::failed(now, error), |plan| plan.report(now));
    if let Err(error) = report.write(archive, system).await {
        tracing::warn!("{}; \"walkeep status\" will not know of this run", error.report());
    }
}

/// Redundancy cannot tell them from those that somebody keeps.
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

fn printed(kept: &KeptBackup) -> PrintedBackup<'_> {
    PrintedBackup {
        title: &kept.backup.title,
        start_segment: kept.backup.start.to_string(),
        ended: kept.backup.ended,
        complete: kept.backup.complete,
        counts: kept.backup.counts,
        why: kept.why.iter().map(ToString::to_string).collect(),
    }
}

fn write_text(to: &mut dyn Write, plan: &PrunePlan, dry_run: bool) -> io::Result<()> {
    if dry_run {
        for file in &plan.goes {
            writeln!(to, "would delete {}", file.name)?;
        }
        for file in &plan.staged {
            writeln!(to, "would delete {}", file.key)?;
        }
    }
    for kept in &plan.kept {
        let why: Vec<String> = kept.why.iter().map(ToString::to_string).collect();
        let lacks = if kept.backup.complete { "" } else { ", although it lacks WAL" };
        let counts = if kept.backup.counts { "" } else { ", which does not count by its label" };
        // A label is whatever somebody has written.
        let (title, ended) = (plain(&kept.backup.title), time(kept.backup.ended));
        writeln!(to, "keeps {title}, ended {ended}{lacks}{counts}: {}", why.join("; "))?;
    }
    if let Some(young) = plan.young {
        let (from, since) = (young.from, time(young.since));
        writeln!(
            to,
            "keeps {from}, archived {since}, and what follows: a base backup may be at work that needs it"
        )?;
    }
    for branch in &plan.given_up {
        let (timeline, since) = (branch.timeline, time(branch.since));
        writeln!(
            to,
            "gives up timeline {timeline}, last written on {since}: no base backup leads there any more"
        )?;
    }
    let verb = if dry_run { "would delete" } else { "deleted" };
    let number = plan.goes.len() + plan.staged.len();
    let begins = plan.begins_at.map_or_else(String::new, |segment| format!(", which begins at {segment}"));
    let Totals { files, stored_bytes, .. } = plan.stays;
    let files = count(usize::try_from(files).unwrap_or(usize::MAX), "file");
    let (gone, stored) = (bytes(plan.bytes()), bytes(stored_bytes));
    writeln!(to, "{verb} {}, {gone}; {files} stay, {stored}{begins}", count(number, "file"))?;
    if plan.unknown > 0 {
        writeln!(to, "left alone: {} that walkeep knows nothing of", count(plan.unknown, "file"))?;
    }
    Ok(())
}
