//! Status of an archive for monitoring: how well it keeps up with its server, and what can be recovered.
//!
//! Status is requested every minute or so, so it never lists the whole archive, only the newest group of segments of
//! each timeline. Facts that need a full listing come from the reports of the last prune and the last verification.

mod backlog;
mod dangers;
mod demands;
mod forks;
mod gather;
mod left;
mod look;
mod standby;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::archive::{Archive, ArchivedFile};
use crate::blocking::blocking;
use crate::call::out_of_time;
use crate::catalog::{Labels, Reading, Totals};
use crate::cluster::DataDirectory;
use crate::coverage::BaseBackup;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::reports::{PruneReport, VerifyReport};
use crate::wal::{SegmentName, SystemIdentifier, WalName};
use crate::work::Work;

pub use backlog::{Backlog, unarchived};
pub use demands::{Chore, Demands, LagBy, Problem, Why};
pub use forks::{Hole, Parallel, WithoutHistory};
use gather::ask;
pub use gather::ask_if_any;
pub use left::Left;
pub use standby::Standby;

/// The whole status.
#[derive(Debug)]
pub struct Status {
    /// System identifier of the cluster, if known.
    pub system: Option<SystemIdentifier>,
    /// Time of the status.
    pub at: Timestamp,
    /// Backlog of the server; `None` if no data directory was named.
    pub backlog: Option<Result<Backlog, Error>>,
    /// State of the archive, or the error from asking it.
    pub archive: Result<ArchiveStatus, Error>,
}

/// State of an archive for a cluster.
#[derive(Debug, Default)]
pub struct ArchiveStatus {
    /// Newest segment of each timeline, in order of timelines.
    pub newest: Vec<ArchivedFile>,
    /// Time when the archive got the last of the segments that come before the server's next file.
    pub before_next: Option<Timestamp>,
    /// Oldest base backup that can be recovered, as far as its first segment shows.
    pub oldest_backup: Option<BaseBackup>,
    /// Newest base backup that can be recovered.
    pub newest_backup: Option<BaseBackup>,
    /// With which others the oldest and the newest one are recovered, in words, if they are incremental.
    pub together: [Option<String>; 2],
    /// Number of known base backups, and of the oldest ones that lack their first segment.
    pub backups: (usize, usize),
    /// Missing segments on the path to the newest timeline, just before each fork.
    pub holes: Vec<Hole>,
    /// Timelines that were written after the newest one, or one on the path to it, had begun.
    pub parallel: Vec<Parallel>,
    /// Timeline of the server, if its history file is missing from the archive.
    pub without_history: Option<WithoutHistory>,
    /// The fork by which another server has left this one behind, unless its segments show that already.
    pub left: Option<Left>,
    /// WAL that the server needs from the archive, if it is in recovery.
    pub standby: Option<Standby>,
    /// Report of the last prune.
    pub prune: Option<PruneReport>,
    /// Report of the last verification.
    pub verify: Option<VerifyReport>,
    /// Work of which nobody knows how it ended last, because its report cannot be read.
    pub not_known: Vec<Chore>,
    /// Unreadable files, with the errors.
    pub unreadable: Vec<String>,
    /// Finished segments of the server that are missing from the archive.
    pub unarchived: Option<Unarchived>,
}

/// Finished segments of a server that are missing from the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unarchived {
    /// Oldest of them.
    pub first: SegmentName,
    /// Time when it was finished.
    pub since: Timestamp,
    /// Number of segments.
    pub segments: u64,
}

impl Status {
    /// Returns the backlog, if known.
    #[must_use]
    pub fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_ref()?.as_ref().ok()
    }

    /// Returns the time elapsed since `since`, never negative: clocks may differ.
    #[must_use]
    pub fn age(&self, since: Timestamp) -> SignedDuration {
        self.at.duration_since(since).max(SignedDuration::ZERO)
    }

    /// Returns the lag of the archive behind the server: the time span that would be lost with the server.
    ///
    /// If the server's data directory was read, that is the time for which the oldest finished file has been waiting,
    /// and zero without one, so an idle server does not lag, however old its newest segment is. Otherwise it is the
    /// age of the newest segment of the newest timeline.
    #[must_use]
    pub fn lag(&self) -> Option<SignedDuration> {
        let archive = self.archive.as_ref().ok()?;
        if self.backlog.is_none() {
            return archive.newest().map(|newest| self.age(newest.since));
        }
        let waiting = [self.backlog()?.oldest, archive.unarchived.map(|unarchived| unarchived.since)];
        let oldest = waiting.into_iter().flatten().min();
        Some(oldest.map_or(SignedDuration::ZERO, |oldest| self.age(oldest)))
    }
}

impl ArchiveStatus {
    /// Returns the newest segment of the newest timeline.
    #[must_use]
    pub fn newest(&self) -> Option<&ArchivedFile> {
        self.newest.last()
    }

    /// Returns the recovery window, provided that nothing is missing: its start, and the time when the last segment
    /// was archived. The last commit in that segment is older, and no recovery target after it is ever reached.
    #[must_use]
    pub fn window(&self) -> Option<(Timestamp, Timestamp)> {
        let start = self.oldest_backup.as_ref()?.ended;
        // A backup history file is archived shortly after the segment in which the backup ends.
        Some((start, self.newest()?.since.max(start)))
    }

    /// Returns the totals of the archive, with their time and the command that counted them.
    #[must_use]
    pub fn totals(&self) -> Option<(Totals, Timestamp, &'static str)> {
        let prune = self.prune.as_ref().and_then(|report| Some((report.totals?, report.at, "prune")));
        let verify = self.verify.as_ref().and_then(|report| Some((report.totals?, report.at, "verify")));
        prune.into_iter().chain(verify).max_by_key(|(_, at, _)| *at)
    }
}

/// A status request.
#[derive(Debug, Clone)]
pub struct StatusRequest {
    /// System identifier of the cluster, if given.
    pub system: Option<SystemIdentifier>,
    /// Sources other than the archive.
    pub beside: Beside,
    /// Maximum number of concurrent requests to a store.
    pub connections: NonZeroUsize,
}

/// Collects the status, local facts first, because there may be no others. Failures and the end of the time limit are
/// part of the status: monitoring needs the known facts most when nothing answers.
pub async fn gather(
    opening: impl Future<Output = Result<Archive, Error>>,
    request: StatusRequest,
    limit: &TimeLimit,
    work: &Work<'_>,
) -> Result<Status, Error> {
    let mut status = Status {
        system: request.system,
        at: work.now(),
        backlog: None,
        archive: Err(Error::new(ErrorKind::Stopped, "stopped before the archive was asked")),
    };
    let gathering = gather_into(&mut status, opening, request, limit);
    if work.stop.run_until_cancelled(gathering).await.is_none() {
        if !limit.left().is_zero() {
            return Err(Error::new(ErrorKind::Stopped, "stopped before all was asked"));
        }
        status.archive = Err(out_of_time(limit));
    }
    Ok(status)
}

async fn gather_into(
    status: &mut Status,
    opening: impl Future<Output = Result<Archive, Error>>,
    request: StatusRequest,
    limit: &TimeLimit,
) {
    let StatusRequest { mut beside, connections, .. } = request;
    if let Some(data) = beside.data.clone() {
        match look_at(data, status.system).await {
            Ok((system, backlog)) => {
                status.system = Some(system);
                beside.next = backlog.as_ref().ok().and_then(|backlog| backlog.next);
                status.backlog = Some(backlog);
            }
            Err(error) => {
                status.archive = Err(error);
                return;
            }
        }
    }
    let system = &mut status.system;
    let asking = async {
        let archive = opening.await?;
        // Each request gets half of the time, so that its failure can be reported within the limit.
        let reading = Reading::of(&archive, connections, limit.total() / 2);
        let system = match *system {
            Some(system) => system,
            None => *system.insert(reading.retry(async || archive.only_system().await).await?),
        };
        ask(&archive, system, beside, reading).await
    };
    status.archive = asking.await;
    if let (Ok(archive), Some(Ok(backlog))) = (&status.archive, &mut status.backlog) {
        backlog.last_done = backlog.last_done.max(archive.before_next);
    }
}

/// Reads the backlog of a data directory, and returns it with the system identifier, which must be `system` if that
/// is given.
async fn look_at(
    data: DataDirectory,
    system: Option<SystemIdentifier>,
) -> Result<(SystemIdentifier, Result<Backlog, Error>), Error> {
    blocking(move || {
        let whose = data.system_identifier_if(system)?.ok_or_else(|| {
            let path = data.path().display();
            Error::new(ErrorKind::Local, format!("there is no global/pg_control in {path}"))
                .hint("is it the server's data directory, and mounted?")
        })?;
        Ok((whose, Backlog::of(&data)))
    })
    .await
}

/// Sources other than the archive.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Data directory of a server.
    pub data: Option<DataDirectory>,
    /// Directories that contain base backups.
    pub backup_directories: Vec<PathBuf>,
    /// Labels of the base backups in the archive that count.
    pub labels: Labels,
    /// File that the server archives next.
    pub next: Option<WalName>,
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::scene::{
        IN_PRODUCTION, IN_RECOVERY, NOW, Scene, days_ago, position, segment, timeline, write,
    };

    fn limit(seconds: u64) -> TimeLimit {
        TimeLimit::new(Instant::now(), Duration::from_secs(seconds))
    }

    fn request(data: Option<DataDirectory>) -> StatusRequest {
        let beside = Beside { data, ..Beside::default() };
        StatusRequest { system: None, beside, connections: NonZeroUsize::MIN }
    }

    async fn gathered(scene: &Scene, data: Option<DataDirectory>) -> Status {
        let opening = ready(Ok(scene.archive.clone()));
        gather(opening, request(data), &limit(1), &scene.work()).await.unwrap()
    }

    /// Creates a server with five finished segments, three of them archived, whose fourth waits to be archived.
    async fn behind() -> Scene {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 4);
        scene.control(IN_PRODUCTION, 1, position(5, 0x28));
        scene.finish(1, 1..=6, 3);
        let mark = format!("data/pg_wal/archive_status/{}.ready", segment(1, 4));
        write(&scene.path(&mark), b"", days_ago(2));
        scene
    }

    #[tokio::test]
    async fn an_archive_lags_behind_by_what_its_server_has_finished_and_it_does_not_have() {
        let scene = behind().await;
        let status = gathered(&scene, Some(scene.data())).await;
        assert_eq!((status.system, status.at), (Some(scene.system), NOW));
        let backlog = status.backlog().unwrap();
        let waits = (backlog.files, backlog.bytes, backlog.oldest);
        assert_eq!(waits, (1, 1 << 20, Some(days_ago(2))));
        let archive = status.archive.as_ref().unwrap();
        assert_eq!(archive.newest().unwrap().name.segment(), Some(segment(1, 3)));
        let unarchived = Unarchived { first: segment(1, 4), since: days_ago(3), segments: 2 };
        assert_eq!(archive.unarchived, Some(unarchived));
        assert_eq!(status.lag(), Some(SignedDuration::from_hours(72)));
        assert_eq!(archive.dangers(NOW), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_server_whose_segments_arrive_is_not_stuck_although_its_checkpoints_remove_their_marks() {
        let stuck_after = async |minutes: i64| {
            let scene = behind().await;
            write(&scene.path("data/postmaster.pid"), b"", days_ago(2));
            let before = scene.archived(&segment(1, 3).to_string());
            write(&before, &std::fs::read(&before).unwrap(), NOW - SignedDuration::from_mins(minutes));
            // Look-ahead tells nothing of the file before.
            scene.segments(1, 5..=5, 0);
            let status = gathered(&scene, Some(scene.data())).await;
            status.backlog().unwrap().stuck(NOW).map(|(next, _)| next)
        };
        assert_eq!(stuck_after(4).await, None);
        assert_eq!(stuck_after(6).await, Some(WalName::Segment(segment(1, 4))));
    }

    #[tokio::test]
    async fn without_a_data_directory_the_newest_segment_tells_and_whose_it_is_the_archive() {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 4);
        let status = gathered(&scene, None).await;
        assert_eq!((status.system, status.backlog.is_none()), (Some(scene.system), true));
        assert_eq!(status.lag(), Some(SignedDuration::from_hours(96)));
    }

    #[tokio::test]
    async fn a_data_directory_of_another_cluster_is_reason_enough_not_to_open_the_archive() {
        let scene = behind().await;
        let opening = async { panic!("nothing is to be asked of it") };
        let other = StatusRequest { system: "7".parse().ok(), ..request(Some(scene.data())) };
        let status = gather(opening, other, &limit(1), &scene.work()).await.unwrap();
        assert_eq!(status.archive.unwrap_err().kind(), ErrorKind::Configuration);
        assert!(status.backlog.is_none());
    }

    #[tokio::test]
    async fn what_this_machine_knows_is_told_although_the_archive_does_not_answer_in_time() {
        let scene = behind().await;
        let never = |limit: TimeLimit| {
            let (stop, data) = (scene.stop.child_token(), scene.data());
            let opening = {
                let stop = stop.clone();
                async move {
                    stop.cancel();
                    pending().await
                }
            };
            async move {
                let work = Work { stop: &stop, why: &|| None, clock: &|| NOW, progress: &() };
                gather(opening, request(Some(data)), &limit, &work).await
            }
        };
        let status = never(limit(0)).await.unwrap();
        assert_eq!(status.backlog().unwrap().files, 1);
        assert!(status.archive.unwrap_err().report().starts_with("gave up after "));
        let error = never(limit(60)).await.unwrap_err();
        assert_eq!(error.report(), "stopped before all was asked", "somebody has stopped it");
    }

    #[tokio::test]
    async fn a_hole_before_the_newest_timeline_is_a_danger_until_a_base_backup_comes_after_it() {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 4);
        scene.backup(1, 1, 2, 4);
        scene.history(2, 1, 6, 3);
        scene.segments(2, 6..=8, 3);
        let status = gathered(&scene, None).await;
        let archive = status.archive.unwrap();
        let hole = Hole {
            first: segment(1, 4),
            last: segment(1, 5),
            segments: 2,
            left_by: timeline(2),
            left_at: position(6, 0x100),
            passed: false,
        };
        assert_eq!(archive.holes, [hole]);
        assert_eq!((archive.dangers(NOW).len(), archive.notes(NOW).len()), (1, 0));
        let label = archive.newest_backup.unwrap().label;
        assert_eq!((label.as_deref(), archive.backups), (Some("4 days ago"), (1, 0)));
        scene.backup(2, 7, 8, 2);
        let archive = gathered(&scene, None).await.archive.unwrap();
        assert_eq!(archive.holes, [Hole { passed: true, ..hole }]);
        assert_eq!((archive.dangers(NOW).len(), archive.notes(NOW).len()), (0, 1));
    }

    #[tokio::test]
    async fn a_standby_that_needs_what_was_pruned_is_stranded() {
        let scene = Scene::new().await;
        scene.segments(1, 5..=7, 1);
        scene.control(IN_RECOVERY, 1, position(3, 0x28));
        let archive = gathered(&scene, Some(scene.data())).await.archive.unwrap();
        let standby = archive.standby.unwrap();
        assert_eq!((standby.needs, standby.begins_at), (segment(1, 3), Some(segment(1, 5))));
        assert!(standby.is_stranded());
        assert_eq!(archive.dangers(NOW).len(), 1);
        scene.finish(1, 3..=4, 1);
        let archive = gathered(&scene, Some(scene.data())).await.archive.unwrap();
        assert_eq!(archive.standby.unwrap().needs, segment(1, 5), "it has those before itself");
        assert_eq!(archive.dangers(NOW), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named_and_the_rest_is_told() {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 4);
        let reports = scene.path("archive").join(scene.system.to_string()).join("reports");
        write(&reports.join("prune.json"), b"{", NOW);
        let archive = gathered(&scene, None).await.archive.unwrap();
        assert_eq!((archive.newest.len(), archive.unreadable.len()), (1, 1));
        assert!(archive.unreadable[0].contains("the last prune"), "{:?}", archive.unreadable);
        std::fs::remove_dir_all(scene.path("archive")).unwrap();
        std::fs::create_dir(scene.path("archive")).unwrap();
        let named = StatusRequest { system: Some(scene.system), ..request(None) };
        let opening = ready(Ok(scene.archive.clone()));
        let status = gather(opening, named, &limit(1), &scene.work()).await.unwrap();
        assert_eq!(status.archive.unwrap_err().kind(), ErrorKind::Unavailable, "it may be the wrong place");
    }
}
