//! JSON output of `walkeep prune`.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::archive::{ArchiveUrl, Expiry};
use crate::catalog::Totals;
use crate::cli::json::Problem;
use crate::coverage::BackupState;
use crate::prune::{PrunePlan, Pruned, Retention};
use crate::retention::Why;
use crate::server::Need;
use crate::wal::SystemIdentifier;

#[derive(Serialize)]
pub(super) struct Printed<'a> {
    archive: String,
    system_identifier: String,
    dry_run: bool,
    /// `true` if the exit status is 0.
    ok: bool,
    /// Reason for another exit status.
    #[serde(flatten)]
    problem: Option<Problem>,
    /// Oldest segment that stays, if any is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    begins_at: Option<String>,
    /// The need furthest back, if servers were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    needed: Option<Needed<'a>>,
    kept_backups: Vec<PrintedBackup>,
    /// Base backups whose WAL is deleted or already missing.
    forgotten_backups: Vec<PrintedBackup>,
    /// Segment from which all stays for a base backup that may be in progress, if that keeps more than the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    young_from: Option<String>,
    given_up_timelines: Vec<u32>,
    /// Names of base backups kept by redundancy from which replicas may have been made.
    perhaps_replicas: &'a [String],
    deleted_files: Files<'a>,
    deleted_leftovers: Vec<&'a str>,
    deleted_bytes: u64,
    /// What a bucket with versions still has.
    #[serde(skip_serializing_if = "Option::is_none")]
    retained: Option<PrintedRetention>,
    /// Totals of the files that stay.
    kept: Totals,
    unknown_files: usize,
}

#[derive(Serialize)]
struct Needed<'a> {
    from: String,
    by: &'a str,
}

#[derive(Serialize)]
struct PrintedRetention {
    files: Option<u64>,
    bytes: Option<u64>,
    /// `false` if there are more than were counted.
    whole: Option<bool>,
    locked_until: Option<Timestamp>,
    removed_after_days: Option<u32>,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a key of its own")]
#[derive(Serialize)]
struct PrintedBackup {
    title: String,
    start_segment: String,
    ended: Timestamp,
    complete: bool,
    counts: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    why: Vec<String>,
    /// `true` if the files of another one are needed, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incremental: bool,
    /// `true` if a backup that is kept needs its files.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    files_must_stay: bool,
}

/// Names of deleted files, serialized one by one, because there may be millions.
struct Files<'a>(&'a Pruned);

impl Serialize for Files<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self(Pruned { plan, deleted, .. }) = self;
        to.collect_seq(deleted.files(plan).map(|file| file.name.to_string()))
    }
}

pub(super) fn of<'a>(
    archive: &ArchiveUrl,
    system: SystemIdentifier,
    pruned: &'a Pruned,
    dry_run: bool,
) -> Printed<'a> {
    let Pruned { plan, deleted, retention, error } = pruned;
    let PrunePlan { begins_at, kept, stays, unknown, needed, .. } = plan;
    Printed {
        archive: archive.to_string(),
        system_identifier: system.to_string(),
        dry_run,
        ok: error.is_none(),
        problem: error.as_ref().map(Problem::from),
        begins_at: begins_at.map(|segment| segment.to_string()),
        needed: needed.as_ref().map(|Need { from, who }| Needed { from: from.to_string(), by: who }),
        kept_backups: kept.iter().map(|kept| of_backup(plan, &kept.state, &kept.why)).collect(),
        forgotten_backups: plan.forgotten.iter().map(|state| of_backup(plan, state, &[])).collect(),
        young_from: plan.young.map(|young| young.from.to_string()),
        given_up_timelines: plan.given_up.iter().map(|branch| branch.timeline.get()).collect(),
        perhaps_replicas: &plan.perhaps_replicas,
        deleted_files: Files(pruned),
        deleted_leftovers: deleted.leftovers(plan).map(|file| file.key.as_str()).collect(),
        deleted_bytes: deleted.bytes(),
        retained: retention.as_ref().map(of_retention),
        kept: *stays,
        unknown_files: *unknown,
    }
}

fn of_retention(Retention { versioning, retained }: &Retention) -> PrintedRetention {
    PrintedRetention {
        files: retained.map(|retained| retained.files),
        bytes: retained.map(|retained| retained.bytes),
        whole: retained.map(|retained| retained.whole),
        locked_until: retained.and_then(|retained| versioning.locked_until(&retained)),
        removed_after_days: match versioning.expiry {
            Expiry::AfterDays(days) => Some(days),
            Expiry::Never | Expiry::AllButNewest(_) | Expiry::Unknown => None,
        },
    }
}

fn of_backup(plan: &PrunePlan, state: &BackupState, why: &[Why]) -> PrintedBackup {
    let BackupState { backup, complete, .. } = state;
    PrintedBackup {
        title: backup.title(),
        start_segment: backup.start().to_string(),
        ended: backup.ended,
        complete: *complete,
        counts: backup.counts,
        why: why.iter().map(ToString::to_string).collect(),
        incremental: backup.builds_on.is_some(),
        files_must_stay: plan.files_must_stay(backup),
    }
}
