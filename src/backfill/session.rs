//! A backfill from its request to its result.

use std::num::NonZeroUsize;

use super::{BackfillPlan, BackfillRequest, Backfilled, Missing, Pushing, plan};
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::error::Error;
use crate::frame::Codec;
use crate::push::{codec_for_backlog, this_host};
use crate::spool::OverflowDirectory;
use crate::wal::SegmentSize;
use crate::work::Work;

/// Maximum number of threads. More would only wait for each other to read and hash, and each takes memory.
const MOST_THREADS: usize = 4;

/// Settings for archiving.
#[derive(Debug, Clone)]
pub struct Means {
    /// Compression set by the user.
    pub codec: Option<Codec>,
    /// Number of concurrent threads of this machine.
    pub cores: NonZeroUsize,
    /// Total size of files in progress, in bytes. One file is always allowed.
    pub memory: u64,
    /// Where to spill compressed data that is too large for memory.
    pub overflow: OverflowDirectory,
    /// `true` to archive nothing.
    pub dry_run: bool,
}

/// Archives the files in the server's `pg_wal` that the archive lacks. A file that fails is part of the result, not
/// an error.
pub async fn backfill(
    archive: &Archive,
    request: BackfillRequest,
    means: &Means,
    work: &Work<'_>,
) -> Result<Backfilled, Error> {
    check_data(&request).await?;
    let reading = request.reading;
    let plan = work.unless_stopped(plan(archive, request), "stopped before anything was archived").await?;
    if means.dry_run {
        // As if all were archived.
        let BackfillPlan { goes, left, held, .. } = plan;
        return Ok(Backfilled { archived: goes, left, held, ..Backfilled::default() });
    }
    let largest = plan.goes.iter().map(|file| file.bytes).max().unwrap_or(SegmentSize::DEFAULT.bytes());
    let (at_once, threads) = means.division(reading.at_once, largest);
    let pushing = Pushing {
        codec: means.codec.unwrap_or_else(|| codec_for_backlog(plan.goes.len())),
        threads,
        at_once,
        overflow: means.overflow.clone(),
        patience: reading.patience,
        host: this_host(),
    };
    work.progress.begin(plan.goes.len());
    let outcome = plan.carry_out(archive, &pushing, work.stop, |_| work.progress.add(1)).await;
    work.progress.end();
    Ok(outcome)
}

impl Means {
    /// Returns the number of files in progress, given their maximum size in bytes, and the number of threads per
    /// file.
    fn division(&self, at_once: usize, largest: u64) -> (NonZeroUsize, NonZeroUsize) {
        let room = usize::try_from(self.memory / largest.max(1)).unwrap_or(usize::MAX);
        let at_once = NonZeroUsize::new(at_once.min(room)).unwrap_or(NonZeroUsize::MIN);
        let threads = if at_once.get() > 1 { NonZeroUsize::MIN } else { self.cores };
        (at_once, threads.min(NonZeroUsize::new(MOST_THREADS).unwrap_or(threads)))
    }
}

impl Backfilled {
    /// Returns `true` if no file is missing any more that should be archived.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let Self { left, failed, untried, .. } = self;
        failed.is_empty() && untried.is_empty() && !left.iter().any(|(_, reason)| reason.is_problem())
    }

    /// Returns the uncompressed size of the archived files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.archived.iter().map(|file: &Missing| file.bytes).sum()
    }
}

/// Refuses the data directory of another cluster.
async fn check_data(request: &BackfillRequest) -> Result<(), Error> {
    let directory = DataDirectory::named(request.data.clone());
    let system = request.system;
    blocking(move || directory.system_identifier_if(Some(system))).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backfill::Reason;
    use crate::error::ErrorKind;
    use crate::scene::{IN_PRODUCTION, NOW, READING, Scene, position, segment, write};

    const HISTORY: &str = "00000002.history";

    /// Creates a server with the history of its timeline and an unfinished segment, and an archive with the earlier
    /// files.
    async fn scene() -> Scene {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 4);
        scene.control(IN_PRODUCTION, 2, position(4, 0x28));
        let history = format!("1\t{}\tno recovery target specified\n", position(4, 0x28));
        write(&scene.path(&format!("data/pg_wal/{HISTORY}")), history.as_bytes(), NOW);
        scene.finish(2, 4..=4, 0);
        scene
    }

    fn request(scene: &Scene) -> BackfillRequest {
        BackfillRequest { data: scene.path("data"), system: scene.system, reading: READING }
    }

    fn means(scene: &Scene) -> Means {
        let overflow = OverflowDirectory::new(&scene.path("spool"));
        Means { codec: None, cores: NonZeroUsize::MIN, memory: 1 << 30, overflow, dry_run: false }
    }

    fn archived(outcome: &Backfilled) -> Vec<String> {
        outcome.archived.iter().map(|file| file.name.to_string()).collect()
    }

    #[tokio::test]
    async fn complete_files_are_archived_once_and_the_current_one_stays() {
        let scene = scene().await;
        let outcome = backfill(&scene.archive, request(&scene), &means(&scene), &scene.work()).await.unwrap();
        assert_eq!((archived(&outcome), outcome.bytes()), (vec![HISTORY.to_owned()], 40));
        let [(left, reason)] = &outcome.left[..] else { panic!("{:?}", outcome.left) };
        assert_eq!(left.segment(), Some(segment(2, 4)));
        assert!(matches!(reason, Reason::Records(_)) && outcome.is_well(), "{reason:?}");
        let heard = &scene.heard;
        assert_eq!((heard.begun.get(), heard.done.get(), heard.ended.get()), (1, 1, true));
        assert!(scene.archived(HISTORY).exists());
        let again = backfill(&scene.archive, request(&scene), &means(&scene), &scene.work()).await.unwrap();
        assert_eq!((archived(&again), again.held), (Vec::new(), 1));
    }

    #[tokio::test]
    async fn a_dry_run_has_the_same_result_and_archives_nothing() {
        let scene = scene().await;
        let (before, dry) = (scene.names(), Means { dry_run: true, ..means(&scene) });
        let outcome = backfill(&scene.archive, request(&scene), &dry, &scene.work()).await.unwrap();
        assert_eq!((archived(&outcome), outcome.left.len()), (vec![HISTORY.to_owned()], 1));
        assert_eq!(scene.names(), before);
    }

    #[tokio::test]
    async fn failed_and_untried_files_are_listed_and_make_it_fail() {
        let scene = scene().await;
        // Nothing can be created where its directory should be.
        write(scene.archived(HISTORY).parent().unwrap(), b"in the way", NOW);
        let outcome = backfill(&scene.archive, request(&scene), &means(&scene), &scene.work()).await.unwrap();
        assert_eq!(outcome.failed[0].0.to_string(), HISTORY);
        assert!(outcome.archived.is_empty() && !outcome.is_well());
        let scene = self::scene().await;
        scene.heard.when(0, {
            let stop = scene.stop.clone();
            move || stop.cancel()
        });
        let outcome = backfill(&scene.archive, request(&scene), &means(&scene), &scene.work()).await.unwrap();
        assert_eq!(outcome.untried.iter().map(ToString::to_string).collect::<Vec<_>>(), [HISTORY]);
        assert!(!outcome.is_well() && !scene.archived(HISTORY).exists());
    }

    #[tokio::test]
    async fn another_clusters_data_directory_and_an_archive_without_the_cluster_are_refused() {
        let scene = scene().await;
        let other = BackfillRequest { system: "7".parse().unwrap(), ..request(&scene) };
        let error = backfill(&scene.archive, other, &means(&scene), &scene.work()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        std::fs::remove_dir_all(scene.path("archive").join(scene.system.to_string())).unwrap();
        let error =
            backfill(&scene.archive, request(&scene), &means(&scene), &scene.work()).await.unwrap_err();
        assert_eq!((error.kind(), scene.names()), (ErrorKind::Unavailable, Vec::new()));
    }

    #[tokio::test]
    async fn memory_limits_the_files_in_progress_and_a_single_file_gets_all_threads() {
        let scene = scene().await;
        let means = Means { cores: NonZeroUsize::new(8).unwrap(), memory: 64 << 20, ..means(&scene) };
        let division = |at_once, megabytes: u64| {
            let (at_once, threads) = means.division(at_once, megabytes << 20);
            (at_once.get(), threads.get())
        };
        assert_eq!([division(8, 16), division(2, 16)], [(4, 1), (2, 1)]);
        assert_eq!([division(1, 16), division(8, 1024), division(8, 0)], [(1, 4), (1, 4), (8, 1)]);
    }
}
