//! Deletion of files that need not be kept: the policy is applied to the content of the archive, the result is a
//! plan, and the plan is printed or carried out.
//!
//! Any doubt about files or times is an error, and nothing is deleted. Files unknown to walkeep are never touched.

mod deleted;
mod deletion;
mod needs;
mod plan;
mod replicas;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, MUCH_SKEW, Retained, Versioning, clock_difference};
use crate::blocking::blocking;
use crate::catalog::{Labels, Reading, backups_elsewhere, catalog};
use crate::cluster::DataDirectory;
use crate::error::{Error, ErrorKind};
use crate::reports::PruneReport;
use crate::retention::Policy;
use crate::server::{Need, Server};
use crate::wal::SystemIdentifier;
use crate::work::{LAST_REPORT, Work};

pub use deleted::{AUDIT, Deleted};
pub use plan::PrunePlan;
use plan::doubtful;

/// Time to wait for the result of a deletion in progress after a signal. Together with [`LAST_REPORT`], less than the
/// time that the process has left.
const LAST_DELETION: Duration = Duration::from_secs(1);

/// Maximum time to ask a bucket what it retains.
const MOST_COUNTING: Duration = Duration::from_secs(5);

/// A prune request.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Retention policy, without the needs of servers.
    pub policy: Policy,
    /// Data directory of the server. The server needs WAL from its restart point on.
    pub data: DataDirectory,
    /// Directories that contain base backups.
    pub backup_directories: Vec<PathBuf>,
    /// Labels of the base backups in the archive that count.
    pub labels: Labels,
    /// Running servers that are asked what they and their standbys still need.
    pub servers: Vec<Server>,
    /// Settings for reading the archive.
    pub reading: Reading,
    /// `true` to delete nothing.
    pub dry_run: bool,
}

/// Result of a prune.
#[derive(Debug)]
pub struct Pruned {
    /// Files to delete and files that stay.
    pub plan: PrunePlan,
    /// Deleted files, or in a dry run those that would be deleted.
    pub deleted: Deleted,
    /// What the bucket still has of it; `None` if it keeps no versions, does not say, or was not asked.
    pub retention: Option<Retention>,
    /// Error that stopped the deletion.
    pub error: Option<Error>,
}

/// What a bucket with versions retains.
#[derive(Debug)]
pub struct Retention {
    /// How it keeps versions.
    pub versioning: Versioning,
    /// Older versions of the cluster's files, those of earlier prunes included; `None` if they could not be counted.
    pub retained: Option<Retained>,
}

/// Deletes files that need not be kept, and writes a report to the archive. Returns an error if no deletion was
/// started.
pub async fn prune(archive: &Archive, request: PruneRequest, work: &Work<'_>) -> Result<Pruned, Error> {
    let PruneRequest { system, reading, dry_run, .. } = request;
    // The server runs a cleanup at each restart point, and waits for it. Most delete nothing.
    let is_cleanup = request.policy.before.is_some();
    let planning = async {
        let needs = needs::of(request.servers.clone(), system, work).await?;
        work.unless_stopped(plan(archive, request, needs, work.now()), STOPPED).await
    };
    let plan = match planning.await {
        Ok(plan) => plan,
        Err(error) => {
            if !dry_run {
                let report = PruneReport::failed(work.now(), &error);
                write_report(archive, system, &report, work).await;
            }
            return Err(error);
        }
    };
    if dry_run {
        let deleted = Deleted::all_of(&plan);
        let retention = retention(archive, system, reading, work.stop).await;
        return Ok(Pruned { plan, deleted, retention, error: None });
    }
    let mut deleted = Deleted::nothing_of(&plan);
    work.progress.begin(plan.goes.len());
    let deleting = plan.carry_out(archive, reading, work.stop, &mut deleted, |done| work.progress.add(done));
    let stopped = || Err(work.ended_early(STOPPED));
    let error = work.finish_within(LAST_DELETION, deleting).await.unwrap_or_else(stopped).err();
    let error = error.map(|error| match error.kind() {
        ErrorKind::Stopped => (work.why)().unwrap_or(error),
        _ => error,
    });
    work.progress.end();
    write_report(archive, system, &deleted.report(&plan, work.now(), error.as_ref()), work).await;
    let retention = if is_cleanup && deleted.number() == 0 {
        None
    } else {
        retention(archive, system, reading, work.stop).await
    };
    Ok(Pruned { plan, deleted, retention, error })
}

/// Asks the bucket for what it retains. A failure to find out does not fail the prune, and neither does a bucket that does
/// not answer: that ends well before the whole command does for the same reason.
async fn retention(
    archive: &Archive,
    system: SystemIdentifier,
    reading: Reading,
    stop: &CancellationToken,
) -> Option<Retention> {
    let within = MOST_COUNTING.min(reading.patience / 3);
    let asking = async {
        let versioning = tokio::time::timeout(within, archive.versioning()).await;
        let versioning =
            versioning.inspect_err(|_| tracing::debug!("the bucket does not say how it keeps versions"));
        let versioning = versioning.ok().flatten().filter(|versioning| versioning.keeps)?;
        let counted = archive.retained(system, within).await;
        let counted = counted.inspect_err(|error| tracing::debug!("{}", error.report()));
        Some(Retention { versioning, retained: counted.ok() })
    };
    stop.run_until_cancelled(asking).await.flatten()
}

const STOPPED: &str = "stopped before all was deleted that should be";

/// Collects all facts and makes the plan.
async fn plan(
    archive: &Archive,
    request: PruneRequest,
    asked: Vec<Need>,
    now: Timestamp,
) -> Result<PrunePlan, Error> {
    let PruneRequest { system, policy, data, backup_directories, labels, reading, .. } = request;
    let given = policy.keep_from.map(|from| Need { from, who: "what was given as --keep-from".to_owned() });
    let restart_point = blocking(move || data.restart_segment(system)).await;
    let needed = given.into_iter().chain(asked).min_by_key(|need| need.from);
    let policy = Policy { keep_from: needed.as_ref().map(|need| need.from), restart_point, ..policy };
    let catalog = catalog(archive, system, reading).await?;
    if let Some(ahead) = archive.clock_ahead().filter(|ahead| ahead.abs() > MUCH_SKEW) {
        return Err(doubtful(&clock_difference(ahead)));
    }
    let size = catalog.coverage.size();
    let elsewhere = blocking(move || backups_elsewhere(&backup_directories, system, size))
        .await
        .map_err(|error| error.so("nothing is deleted, because not all base backups can be seen"))?;
    PrunePlan::of(catalog, &elsewhere, &labels, &policy, now).map(|plan| PrunePlan { needed, ..plan })
}

/// Writes the report for `walkeep status` to the archive. A failure to write it does not fail the prune.
async fn write_report(archive: &Archive, system: SystemIdentifier, report: &PruneReport, work: &Work<'_>) {
    let written = work.finish_within(LAST_REPORT, report.write(archive, system)).await;
    let written =
        written.unwrap_or_else(|| Err(Error::new(ErrorKind::Stopped, "stopped before this was noted")));
    if let Err(error) = written {
        tracing::warn!("{}; \"walkeep status\" will not know of this run", error.report());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::{BackupPolicy, Before};
    use crate::scene::{IN_RECOVERY, NOW, READING, Scene, days_ago, position, segment};

    /// Creates eight segments and two base backups. The older backup needs WAL from the second segment on, the newer
    /// one from the sixth.
    async fn scene() -> (Scene, [String; 2]) {
        let scene = Scene::new().await;
        scene.segments(1, 1..=5, 10);
        scene.segments(1, 6..=8, 2);
        let backups = [scene.backup(1, 2, 3, 9), scene.backup(1, 6, 7, 2)];
        (scene, backups)
    }

    fn request(scene: &Scene, policy: Policy) -> PruneRequest {
        PruneRequest {
            system: scene.system,
            policy,
            data: scene.data(),
            backup_directories: Vec::new(),
            labels: Labels::default(),
            servers: Vec::new(),
            reading: READING,
            dry_run: false,
        }
    }

    fn newest_backup() -> Policy {
        let backups = BackupPolicy { keep_backups: std::num::NonZeroUsize::new(1), keep_days: None };
        Policy { backups, ..Policy::default() }
    }

    fn segments(numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
        numbers.map(|number| segment(1, number).to_string()).collect()
    }

    #[tokio::test]
    async fn wal_that_the_newest_base_backup_does_not_need_is_deleted_and_reported() {
        let (scene, [_, newer]) = scene().await;
        let bytes = |names: &[String]| names.iter().map(|name| size(&scene, name)).sum::<u64>();
        let all = bytes(&scene.names());
        let pruned = prune(&scene.archive, request(&scene, newest_backup()), &scene.work()).await.unwrap();
        let mut stays = segments(6..=8);
        stays.insert(1, newer);
        assert_eq!(scene.names(), stays);
        assert!(pruned.error.is_none());
        assert_eq!(pruned.plan.begins_at, Some(segment(1, 6)));
        let [kept] = &pruned.plan.kept[..] else { panic!("{:?}", pruned.plan.kept) };
        assert_eq!(kept.state.backup.title(), "\"2 days ago\" from 000000010000000000000006");
        assert_eq!(kept.why.len(), 1);
        let noted = PruneReport::read(&scene.archive, scene.system).await.unwrap().unwrap();
        let deleted = (noted.at, noted.ok, noted.deleted_files, noted.deleted_bytes);
        assert_eq!(deleted, (NOW, true, 6, all - bytes(&stays)));
        assert_eq!(noted.totals.unwrap().files, 4);
        let heard = &scene.heard;
        assert_eq!((heard.begun.get(), heard.done.get(), heard.ended.get()), (6, 6, true));
    }

    fn size(scene: &Scene, name: &str) -> u64 {
        std::fs::metadata(scene.archived(name)).unwrap().len()
    }

    #[tokio::test]
    async fn a_dry_run_deletes_nothing_and_writes_no_report() {
        let (scene, [older, _]) = scene().await;
        let before = scene.names();
        let dry = PruneRequest { dry_run: true, ..request(&scene, newest_backup()) };
        let pruned = prune(&scene.archive, dry, &scene.work()).await.unwrap();
        assert_eq!((pruned.deleted.number(), pruned.deleted.bytes()), (6, pruned.plan.bytes()));
        let doubtful = PruneRequest { dry_run: true, ..request(&scene, newest_backup()) };
        std::fs::write(scene.archived(&older), "damaged").unwrap();
        prune(&scene.archive, doubtful, &scene.work()).await.unwrap_err();
        assert_eq!(scene.names(), before);
        assert_eq!(PruneReport::read(&scene.archive, scene.system).await.unwrap(), None);
    }

    #[tokio::test]
    async fn in_doubt_nothing_is_deleted_and_the_doubt_is_reported() {
        let (scene, [older, _]) = scene().await;
        let before = scene.names();
        std::fs::write(scene.archived(&older), "damaged").unwrap();
        let error = prune(&scene.archive, request(&scene, newest_backup()), &scene.work()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert_eq!(scene.names(), before);
        let noted = PruneReport::read(&scene.archive, scene.system).await.unwrap().unwrap();
        assert_eq!(noted, PruneReport::failed(NOW, &error));
    }

    #[tokio::test]
    async fn a_stopped_prune_reports_its_progress_and_the_next_one_does_the_rest() {
        let (mut scene, _) = scene().await;
        let before = scene.names();
        scene.heard.when(0, {
            let stop = scene.stop.clone();
            move || stop.cancel()
        });
        let pruned = prune(&scene.archive, request(&scene, newest_backup()), &scene.work()).await.unwrap();
        assert_eq!(pruned.error.unwrap().kind(), ErrorKind::Stopped);
        let went = before.len() - scene.names().len();
        assert_eq!((pruned.deleted.number(), pruned.plan.number()), (went, 6));
        assert!(went < 6, "it was stopped as soon as it was to begin");
        let noted = PruneReport::read(&scene.archive, scene.system).await.unwrap().unwrap();
        assert_eq!((noted.ok, noted.deleted_files, noted.totals), (false, went as u64, None));
        assert!(noted.error.unwrap().starts_with("stopped before all was deleted"));
        assert!(scene.heard.ended.get(), "nothing more is to be heard of it");
        scene.stop = CancellationToken::new();
        let pruned = prune(&scene.archive, request(&scene, newest_backup()), &scene.work()).await.unwrap();
        assert_eq!((pruned.deleted.number(), scene.names().len()), (6 - went, 4));
    }

    #[tokio::test]
    async fn a_report_that_cannot_be_written_is_no_failure() {
        let (scene, _) = scene().await;
        let reports = scene.path("archive").join(scene.system.to_string()).join("reports");
        std::fs::write(reports, "in the way").unwrap();
        let pruned = prune(&scene.archive, request(&scene, newest_backup()), &scene.work()).await.unwrap();
        assert!(pruned.error.is_none());
        assert_eq!(pruned.deleted.number(), 6);
    }

    #[tokio::test]
    async fn a_standby_may_delete_everything_before_its_restart_point_although_the_archive_lags() {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 10);
        let before = Before::Segment(segment(1, 5));
        let policy = Policy { before: Some(before), accept_no_backup: true, ..Policy::default() };
        let error = prune(&scene.archive, request(&scene, policy.clone()), &scene.work()).await.unwrap_err();
        assert!(error.report().contains("000000010000000000000003"), "{}", error.report());
        scene.control(IN_RECOVERY, 1, position(5, 0x28));
        prune(&scene.archive, request(&scene, policy), &scene.work()).await.unwrap();
        assert_eq!(scene.names(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn needed_wal_and_young_wal_stay_under_any_policy() {
        let (scene, _) = scene().await;
        let needed = Policy { keep_from: Some(position(5, 0x28)), ..newest_backup() };
        let dry = PruneRequest { dry_run: true, ..request(&scene, needed) };
        let pruned = prune(&scene.archive, dry, &scene.work()).await.unwrap();
        assert_eq!(pruned.plan.begins_at, Some(segment(1, 5)));
        assert_eq!(pruned.plan.needed.unwrap().who, "what was given as --keep-from");
        let may_take = NOW.duration_since(days_ago(11));
        let young = Policy { backup_may_take: may_take, ..newest_backup() };
        let dry = PruneRequest { dry_run: true, ..request(&scene, young) };
        let pruned = prune(&scene.archive, dry, &scene.work()).await.unwrap();
        assert_eq!((pruned.plan.number(), pruned.plan.young.unwrap().from), (0, segment(1, 1)));
    }
}
