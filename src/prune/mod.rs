//! Deleting what need not be kept: the policy is applied to what the archive holds, the outcome is a plan, and the plan can
//! be printed or carried out.
//!
//! Any doubt about what is there, or about the time, is a failure, and deletes nothing. Files that walkeep knows nothing of
//! are never touched.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::archive::{Archive, ArchivedFile, MUCH_SKEW, OtherFile, clock_difference};
use crate::blocking::blocking;
use crate::catalog::{
    BackupElsewhere, Catalog, KnownBackup, PruneReport, Reading, Totals, backups_elsewhere, catalog,
};
use crate::error::{Error, ErrorKind};
use crate::retention::{Backup, Decision, Doubt, Facts, KeptBackup, Policy, decide, order_of_deletion};
use crate::wal::{SegmentName, SystemIdentifier};

/// What is to be pruned, and how.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// The cluster.
    pub system: SystemIdentifier,
    /// What is to be kept.
    pub policy: Policy,
    /// Where base backups are kept.
    pub backup_directories: Vec<PathBuf>,
    /// This moment.
    pub now: Timestamp,
    /// How the archive is read.
    pub reading: Reading,
}

/// What goes, and what stays.
#[derive(Debug)]
pub struct PrunePlan {
    system: SystemIdentifier,
    /// The oldest segment that stays, if any goes.
    pub begins_at: Option<SegmentName>,
    /// The files that go, in that order.
    pub goes: Vec<ArchivedFile>,
    /// What pushes that were killed have left, and goes.
    pub staged: Vec<OtherFile>,
    empty: Vec<OtherFile>,
    /// The base backups that stay, oldest first.
    pub kept: Vec<KeptBackup>,
    /// All that stays.
    pub stays: Totals,
    /// How many files walkeep knows nothing of, and leaves alone.
    pub unknown: usize,
}

/// How many a store deletes by one request.
const AT_A_TIME: usize = 1_000;

/// Looks at everything and decides.
pub async fn plan(archive: &Archive, request: PruneRequest) -> Result<PrunePlan, Error> {
    let PruneRequest { system, policy, backup_directories, now, reading } = request;
    let mut catalog = catalog(archive, system, reading).await?;
    if let Some((name, error)) = catalog.unreadable.pop() {
        let what = format!(
            "nothing is deleted, because {name} cannot be read and may speak for files that are needed"
        );
        return Err(Error::new(ErrorKind::Damaged, what).because(error));
    }
    if let Some(ahead) = archive.clock_ahead().filter(|ahead| ahead.abs() > MUCH_SKEW) {
        return Err(doubtful(&clock_difference(ahead)));
    }
    if let Some(odd) = catalog.coverage.odd().first() {
        let size = catalog.coverage.size().bytes() >> 20;
        return Err(doubtful(&format!("no segment of {size} MB, as the newest one is, has the name {odd}")));
    }
    let size = catalog.coverage.size();
    let elsewhere =
        blocking(move || backups_elsewhere(&backup_directories, system, size)).await.map_err(|error| {
            Error::new(ErrorKind::Local, "nothing is deleted, because not all base backups can be seen")
                .because(error)
        })?;
    let backups = known_backups(&catalog, &elsewhere);
    let files = &catalog.inventory.files;
    let segments: Vec<(SegmentName, Timestamp)> =
        files.iter().filter_map(|file| Some((file.name.segment()?, file.since))).collect();
    let newest = files.iter().map(|file| file.since).max();
    let facts = Facts { backups: &backups, segments: &segments, newest, now };
    let Decision { boundary, kept } = decide(policy, facts).map_err(|doubt| in_doubt(&doubt))?;

    // In place, because there may be millions.
    let mut goes = catalog.inventory.files;
    let stays_here =
        |file: &ArchivedFile| boundary.is_none_or(|boundary| !boundary.is_after(file.name.wal()));
    let stays = Totals::of(goes.iter().filter(|file| stays_here(file)), size);
    let staying = goes.iter().filter(|file| stays_here(file)).filter_map(|file| file.name.segment());
    let begins_at = staying.min_by_key(|segment| segment.order());
    goes.retain(|file| !stays_here(file));
    goes.sort_unstable_by_key(|file| order_of_deletion(&file.name.wal()));
    let is_left = |file: &OtherFile| file.is_abandoned(now);
    Ok(PrunePlan {
        system,
        begins_at: begins_at.filter(|_| !goes.is_empty()),
        stays,
        goes,
        staged: catalog.inventory.staged.into_iter().filter(is_left).collect(),
        empty: catalog.inventory.empty.into_iter().filter(is_left).collect(),
        kept,
        unknown: catalog.inventory.unknown.len(),
    })
}

fn doubtful(why: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("nothing is deleted, because {why}"))
}

fn in_doubt(doubt: &Doubt) -> Error {
    let hint = match doubt {
        Doubt::NoBackup { .. } => {
            "take one with archiving switched on, or name where they are kept with --backup-dir; \"walkeep verify\" tells \
             what is missing"
        }
        Doubt::FromTheFuture { .. } => "set the clocks right",
        Doubt::HasBackups(_) => "keep what they need instead: --keep-backups or --keep-days",
        Doubt::NothingNew { .. } => "see why, or give --keep-backups, which does not go by time",
    };
    doubtful(&doubt.to_string()).hint(hint)
}

/// All base backups, as the policy sees them.
fn known_backups(catalog: &Catalog, elsewhere: &[BackupElsewhere]) -> Vec<Backup> {
    let coverage = &catalog.coverage;
    let seen = |backup: KnownBackup| Backup {
        start: backup.start,
        ended: backup.ended,
        complete: coverage.is_complete(backup.origin),
        found: backup.place.is_some(),
        leads_to: coverage.reaches(backup.origin).into_iter().map(|reach| reach.timeline).collect(),
        title: backup.title(),
    };
    KnownBackup::all(&catalog.backups, elsewhere, coverage.size()).into_iter().map(seen).collect()
}

impl PrunePlan {
    /// How many bytes the files that go take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let staged: u64 = self.staged.iter().map(|file| file.size).sum();
        self.goes.iter().map(|file| file.stored_size).sum::<u64>() + staged
    }

    /// What is noted of it once it has been carried out.
    #[must_use]
    pub fn report(&self, at: Timestamp) -> PruneReport {
        PruneReport {
            at,
            ok: true,
            error: None,
            deleted_files: (self.goes.len() + self.staged.len()) as u64,
            deleted_bytes: self.bytes(),
            totals: Some(self.stays),
        }
    }

    /// Deletes what goes. `done` hears how many more files are gone.
    pub async fn carry_out(
        &self,
        archive: &Archive,
        reading: Reading,
        mut done: impl FnMut(usize),
    ) -> Result<(), Error> {
        for files in self.goes.chunks(AT_A_TIME) {
            reading.patiently(async || archive.delete(self.system, files).await).await?;
            done(files.len());
        }
        reading.patiently(async || archive.delete_staged(&self.staged).await).await?;
        archive.remove_empty(&self.empty).await;
        Ok(())
    }
}
