//! Plan of a prune, or the doubt that prevents one. Reads nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::replicas::{counted, suspects};
use crate::archive::{ArchivedFile, OtherFile};
use crate::catalog::{Catalog, Labels, OtherSize, Sizes, Totals, known_backups};
use crate::coverage::{BackupState, BaseBackup, Chain, Coverage};
use crate::error::{Error, ErrorKind};
use crate::retention::{
    BranchEnd, Decision, Doubt, GivenUp, KeptBackup, OldestKept, Policy, PolicyInput, Young, decide,
    order_of_deletion,
};
use crate::server::Need;
use crate::wal::{SegmentName, SystemIdentifier, TimelineId, WalName};

/// Plan of a prune.
#[derive(Debug)]
pub struct PrunePlan {
    pub(super) system: SystemIdentifier,
    /// Oldest segment that stays, if any is deleted.
    pub begins_at: Option<SegmentName>,
    /// Files to delete, in order.
    pub goes: Vec<ArchivedFile>,
    /// Staging files of killed pushes, to be deleted.
    pub staged: Vec<OtherFile>,
    pub(super) empty: Vec<OtherFile>,
    /// Base backups that stay, oldest first.
    pub kept: Vec<KeptBackup>,
    /// Base backups whose WAL is deleted or already missing, in order of their ends.
    pub forgotten: Vec<BackupState>,
    /// WAL that stays because a base backup in progress may need it, if that is more than the policy keeps.
    pub young: Option<Young>,
    /// Branches to which no remaining backup leads.
    pub given_up: Vec<GivenUp>,
    /// Branches that were to be given up but stay, because they were written recently.
    pub alive: Vec<GivenUp>,
    /// Timelines named in settings that the archive does not know.
    pub strangers: Vec<TimelineId>,
    /// Reason to delete nothing that the user has overruled.
    pub overruled: Option<Doubt>,
    /// Names of the base backups kept by redundancy from which replicas may have been made.
    pub perhaps_replicas: Vec<String>,
    /// Totals of the files that stay.
    pub stays: Totals,
    /// Number of files unknown to walkeep, which are left alone.
    pub unknown: usize,
    /// The need furthest back, if servers were asked.
    pub needed: Option<Need>,
}

impl PrunePlan {
    /// Returns the number of files to delete, staging files included.
    #[must_use]
    pub fn number(&self) -> usize {
        self.goes.len() + self.staged.len()
    }

    /// Returns the total size of the files to delete, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let staged: u64 = self.staged.iter().map(|file| file.size).sum();
        self.goes.iter().map(|file| file.stored_size).sum::<u64>() + staged
    }

    /// Iterates over all base backups that are known before the prune.
    pub fn backups(&self) -> impl Iterator<Item = &BaseBackup> + Clone {
        self.kept.iter().map(|kept| &kept.state).chain(&self.forgotten).map(|state| &state.backup)
    }

    /// Returns `true` if an incremental backup that stays builds on the files of this one, or may: who can tell if the archive
    /// does not know all of its chain?
    #[must_use]
    pub fn files_must_stay(&self, backup: &BaseBackup) -> bool {
        self.files_are_needed(backup) || self.chains().any(|chain| chain.may_hold(backup))
    }

    /// Returns `true` if an incremental backup that stays is known to build on the files of this one.
    #[must_use]
    pub fn files_are_needed(&self, backup: &BaseBackup) -> bool {
        self.chains().any(|chain| chain.known.contains(&backup))
    }

    fn chains(&self) -> impl Iterator<Item = Chain<'_>> {
        self.kept.iter().map(|kept| Chain::below(&kept.state.backup, &self.backups()))
    }

    /// Applies a policy to the content of an archive, and to base backups found elsewhere.
    pub fn of(
        mut catalog: Catalog,
        elsewhere: &[BaseBackup],
        labels: &Labels,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Self, Error> {
        refuse_doubts(&mut catalog)?;
        let known = known_backups(&catalog.backups, elsewhere, labels, &catalog.sizes);
        if labels.match_nothing(&known) {
            return Err(doubtful(&format!("no base backup has a label that counts ({labels})")).hint(
                "\"walkeep list backups\" shows the labels; set backup_labels, or give --backup-label, so that it matches those \
                 of the base backups that are kept",
            ));
        }
        let state = |backup| BackupState::of(backup, &catalog.coverage);
        let backups: Vec<BackupState> = known.into_iter().map(state).collect();
        let suspects = if labels.is_empty() { suspects(&backups) } else { Vec::new() };
        let files = &catalog.inventory.files;
        let segments: Vec<(SegmentName, Timestamp)> =
            files.iter().filter_map(|file| Some((file.name.segment()?, file.since))).collect();
        let newest = files.iter().map(|file| file.since).max();
        let ends = ends(&catalog);
        let facts = PolicyInput {
            backups: &backups,
            segments: &segments,
            ends: &ends,
            newest,
            now,
            size: catalog.coverage.size(),
        };
        let Decision { oldest_kept, kept, young, given_up, alive, overruled } =
            decide(policy, facts).map_err(|doubt| in_doubt(&doubt))?;

        let is_forgotten = |state: &&BackupState| {
            oldest_kept.is_some_and(|oldest_kept| OldestKept::from(state.backup.start()) < oldest_kept)
        };
        let forgotten = backups.iter().filter(is_forgotten).cloned().collect();
        let Division { goes, stays, begins_at } =
            Division::of(catalog.inventory.files, oldest_kept, &catalog.sizes);
        let is_abandoned = |file: &OtherFile| file.is_abandoned(now);
        Ok(Self {
            system: catalog.system,
            begins_at: begins_at.filter(|_| !goes.is_empty()),
            stays,
            goes,
            staged: catalog.inventory.staged.into_iter().filter(is_abandoned).collect(),
            empty: catalog.inventory.empty.into_iter().filter(is_abandoned).collect(),
            perhaps_replicas: counted(&kept, &suspects),
            kept,
            forgotten,
            young,
            given_up,
            alive,
            strangers: strangers(&catalog.coverage, policy),
            overruled,
            unknown: catalog.inventory.unknown.len(),
            needed: None,
        })
    }
}

/// Returns an error if unreadable files or segment sizes leave in doubt which files are needed.
fn refuse_doubts(catalog: &mut Catalog) -> Result<(), Error> {
    if let Some((name, error)) = catalog.unreadable.pop() {
        let what = format!(
            "nothing is deleted, because {name} cannot be read and may speak for files that are needed"
        );
        return Err(Error::new(ErrorKind::Damaged, what).because(error));
    }
    if let Some(other) = catalog.sizes.others().first() {
        return Err(two_sizes(catalog, other));
    }
    if let Some(odd) = catalog.coverage.odd().first() {
        let size = catalog.sizes.current();
        return Err(doubtful(&format!("no segment of {size}, as what is archived now, has the name {odd}")));
    }
    Ok(())
}

/// The archived files, divided at the oldest WAL to keep.
struct Division {
    /// Files to delete, in order.
    goes: Vec<ArchivedFile>,
    /// Totals of the files that stay.
    stays: Totals,
    /// Oldest segment that stays.
    begins_at: Option<SegmentName>,
}

impl Division {
    fn of(files: Vec<ArchivedFile>, oldest_kept: Option<OldestKept>, sizes: &Sizes) -> Self {
        let stays_here = |file: &ArchivedFile| {
            oldest_kept.is_none_or(|oldest_kept| !oldest_kept.is_after(file.name.wal()))
        };
        let staying = || files.iter().filter(|file| stays_here(file));
        let stays = Totals::of(staying(), sizes);
        let segments = staying().filter_map(|file| file.name.segment());
        let begins_at = segments.min_by_key(|segment| segment.order());
        // In place, because there may be millions.
        let mut goes = files;
        goes.retain(|file| !stays_here(file));
        goes.sort_unstable_by_key(|file| order_of_deletion(&file.name.wal()));
        Self { goes, stays, begins_at }
    }
}

/// Creates the error of a prune that deletes nothing, because something is in doubt.
pub(super) fn doubtful(why: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("nothing is deleted, because {why}"))
}

/// Creates the error for an archive with two segment sizes. Names of different sizes have no common order, and no
/// base backup leads from one size to the other, so the oldest WAL to keep is undefined.
fn two_sizes(catalog: &Catalog, other: &OtherSize) -> Error {
    let current = catalog.sizes.current();
    let files = catalog.inventory.files.iter().map(|file| file.name);
    let of_current = files.filter(|name| name.segment().is_some() && catalog.sizes.is_current(*name));
    let (range, size) = (other.range(), other.size);
    let now = OtherSize { size: current, segments: of_current.collect(), backups: Vec::new() }.range();
    let old = match (other.segments.len(), other.backups.len()) {
        (0, 1) => format!("{range} is of a base backup that begins with a segment of {size}"),
        (0, _) => format!("{range} are of base backups that begin with segments of {size}"),
        (1, _) => format!("{range} is of {size}"),
        _ => format!("{range} are of {size}"),
    };
    let why = format!(
        "pg_resetwal has changed the size of segments: {old}, what is archived now is of {current} ({now}), and names of two sizes \
         have no common order"
    );
    doubtful(&why).hint(format!(
        "no base backup from before leads to what is written now: point the server at a new archive, take a base backup, and delete \
         this archive as a whole once nothing of it is needed; or move what is of {size} out of it (\"walkeep list files\" shows \
         sizes)"
    ))
}

/// Creates the error for a doubt of the policy, with the advice for the user.
fn in_doubt(doubt: &Doubt) -> Error {
    let hint = match doubt {
        Doubt::NoBackup { .. } => {
            "take one with archiving switched on, or name where they are kept with --backup-dir; \"walkeep verify\" tells \
             what is missing, or of which nobody knows where it ends"
        }
        Doubt::FromTheFuture { .. } => "set the clocks right",
        Doubt::HasBackups(_) => "keep what they need instead: --keep-backups or --keep-days",
        Doubt::NothingNew { .. } => "see why, or give --keep-backups, which does not go by time",
        Doubt::UnknownWay(timeline) => {
            let hint = format!(
                "archive {:08X}.history again (a server of that timeline has it in pg_wal: \"walkeep backfill\"); or, if nobody \
                 wants that timeline any more, --give-up-timeline {timeline}",
                timeline.get()
            );
            return doubtful(&doubt.to_string()).hint(hint);
        }
        Doubt::TakesLastBackup { .. } | Doubt::TakesWay { .. } => {
            "name an older file, or say what is to be kept (--keep-backups, --keep-days); if no base backup is kept any more, \
             --accept-no-backup"
        }
        Doubt::BehindTheEnd { .. } => "see \"walkeep list\" for what there is",
    };
    doubtful(&doubt.to_string()).hint(hint)
}

/// Returns the timelines in settings that the archive does not know: mistyped, or outdated.
fn strangers(coverage: &Coverage, policy: &Policy) -> Vec<TimelineId> {
    let knows = |timeline: TimelineId| {
        coverage.history(timeline).is_some() || coverage.timelines().any(|(id, _)| id == timeline)
    };
    let named = policy.branches.given_up.iter().chain(&policy.branches.held).copied();
    named.filter(|timeline| !knows(*timeline)).collect()
}

/// Returns the ends of the branches, with the times of their newest files.
fn ends(catalog: &Catalog) -> Vec<BranchEnd> {
    let coverage = &catalog.coverage;
    let mut last: BTreeMap<TimelineId, Timestamp> = BTreeMap::new();
    let mut begun: BTreeMap<TimelineId, Timestamp> = BTreeMap::new();
    // Files are sorted by name, so the last segment of a timeline is its newest, even if a copy has lost the times of
    // files. A partial segment was left by a promotion and is no sign of activity.
    for file in &catalog.inventory.files {
        match file.name.wal() {
            WalName::Segment(segment) => drop(last.insert(segment.timeline(), file.since)),
            WalName::History(timeline) => drop(begun.insert(timeline, file.since)),
            WalName::Partial(_) | WalName::Backup { .. } => {}
        }
    }
    let end = |timeline| BranchEnd {
        timeline,
        since: last.get(&timeline).max(begun.get(&timeline)).copied().unwrap_or(Timestamp::MIN),
        way_is_known: timeline == TimelineId::FIRST || coverage.history(timeline).is_some(),
    };
    coverage.branch_ends().into_iter().map(end).collect()
}
