//! A restore as the client of its server's prefetcher.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf, absolute};
use std::time::SystemTime;

use super::ask::{ask, report_restored};
use super::{PrefetchBounds, PrefetchJob};
use crate::archive::ArchiveOptions;
use crate::cluster::{Caller, DataDirectory};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::restore::{RestoreRequest, Verified};
use crate::spool::Spool;
use crate::wal::{
    SegmentName, SegmentSize, SystemIdentifier, WalName, segment_size_of_control_file,
    system_identifier_of_control_file,
};

/// Settings with which a restore prefetches.
#[derive(Debug, Clone)]
pub struct Prefetching {
    /// Archive to fetch from.
    pub archive: ArchiveOptions,
    /// Directory in which spools are created.
    pub spool: PathBuf,
    /// Limits of the prefetcher.
    pub bounds: PrefetchBounds,
}

/// The server that requests a segment, with the meeting point of its prefetcher.
#[derive(Debug, Clone)]
pub struct PrefetchClient {
    data: DataDirectory,
    system: SystemIdentifier,
    /// Identity of the server's run.
    run: String,
    spool: Spool,
    segment: SegmentName,
    /// Segment size of the server, if its `pg_control` contains it.
    size: Option<SegmentSize>,
}

impl Prefetching {
    /// Returns the client; `None` outside a data directory, for files that are not segments, and if prefetching is
    /// turned off. May block.
    #[must_use]
    pub fn client(&self, request: &RestoreRequest) -> Option<PrefetchClient> {
        let WalName::Segment(segment) = request.name else { return None };
        if self.bounds.bytes == 0 {
            return None;
        }
        let data = request.caller.data().clone();
        let control = data.control().ok()??;
        let own_system = system_identifier_of_control_file(&control).ok()?;
        let size = segment_size_of_control_file(&control);
        let system = request.system.unwrap_or(own_system);
        let run = data.run().ok()?;
        let spool = Spool::of_server(&self.spool, &self.archive, data.path(), system)?;
        Some(PrefetchClient { data, system, run, spool, segment, size })
    }

    /// Returns the task of the prefetcher that continues after the requested segment, which has `size` bytes. `None` if
    /// the request has no client. The task does not depend on the working directory.
    pub fn job_after(self, request: &RestoreRequest, size: u64) -> Result<Option<PrefetchJob>, Error> {
        let absolute = |path: &Path| {
            absolute(path).map_err(|error| Error::new(ErrorKind::Local, "cannot prefetch").because(error))
        };
        let own = Self { spool: absolute(&self.spool)?, ..self };
        let path = absolute(&request.path)?;
        let request = RestoreRequest { caller: Caller::at(path.clone()), path, ..request.clone() };
        let Some(client) = own.client(&request) else { return Ok(None) };
        let data = absolute(&client.data.path().join("."))?;
        Ok(Some(PrefetchJob {
            archive: own.archive,
            system: client.system,
            data: DataDirectory::named(data),
            spool: client.spool,
            last: client.segment,
            size: SegmentSize::new(size)
                .map_err(|error| Error::new(ErrorKind::Configuration, error.to_string()))?,
            bounds: own.bounds,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        }))
    }
}

impl PrefetchClient {
    /// Requests the segment from the prefetcher. A file that cannot be this segment is refused.
    #[must_use]
    pub fn ask(&self, limit: &TimeLimit) -> Option<Verified> {
        let check = |verified: &Verified| verified.check(self.segment, self.system, self.size);
        ask(&self.spool, &self.run, self.segment, limit, check).ok()
    }

    /// Notes that `subject` is logged for this segment in this run of the server. Returns `false` if that was noted
    /// before.
    #[must_use]
    pub fn note_once(&self, subject: &str) -> bool {
        let segment = self.segment.to_string();
        let noted = self.spool.noted(subject, &self.run, SystemTime::now());
        if noted.is_some_and(|noted| noted.text == segment) {
            return false;
        }
        if let Err(error) = self.spool.note(subject, &self.run, &segment) {
            tracing::debug!("cannot note in the spool what has been said: {error}");
        }
        true
    }

    /// Makes sure that a prefetcher fetches what follows the restored segment, which has `size` bytes. Calls `start` if
    /// there is no prefetcher.
    pub fn ensure_prefetcher(&self, size: u64, start: impl FnOnce(SegmentSize) -> io::Result<()>) {
        let Ok(size) = SegmentSize::new(size) else { return };
        match report_restored(&self.spool, &self.run, self.segment, size) {
            Ok(()) => return,
            // A prefetcher that does not answer keeps the meeting point while it lives.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {}
        }
        if let Err(error) = start(size) {
            tracing::debug!("cannot prefetch: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cluster::RecoveryMode;
    use crate::prefetch::prefetch;
    use crate::scene::{IN_RECOVERY, SIZE, Scene, position, segment};

    /// Creates an archive with these segments, and a server in recovery.
    async fn scene(numbers: std::ops::RangeInclusive<u64>) -> Scene {
        let scene = Scene::new().await;
        scene.segments(1, numbers, 1);
        scene.control(IN_RECOVERY, 1, position(1, 0x28));
        scene
    }

    fn prefetching(scene: &Scene) -> Prefetching {
        let connections = NonZeroUsize::MIN;
        let bounds = PrefetchBounds { bytes: SIZE.bytes() * 8, idle: Duration::from_hours(1), connections };
        Prefetching { archive: scene.options(), spool: scene.path("spool"), bounds }
    }

    fn request(scene: &Scene, name: &str) -> RestoreRequest {
        let path = scene.path("data/pg_wal/RECOVERYXLOG");
        RestoreRequest {
            name: name.parse().unwrap(),
            caller: Caller::at(path.clone()),
            path,
            system: None,
            mode: RecoveryMode::Recovery,
            accept_gaps: Vec::new(),
            accept_empty: false,
        }
    }

    fn client(scene: &Scene, number: u64) -> PrefetchClient {
        prefetching(scene).client(&request(scene, &segment(1, number).to_string())).unwrap()
    }

    /// Returns the size with which the restore of a segment starts a prefetcher.
    fn started_by(client: &PrefetchClient) -> Option<SegmentSize> {
        let mut started = None;
        client.ensure_prefetcher(SIZE.bytes(), |size| {
            started = Some(size);
            Ok(())
        });
        started
    }

    fn content(mut verified: Verified) -> Vec<u8> {
        let mut content = Vec::new();
        verified.file.rewind().unwrap();
        verified.file.read_to_end(&mut content).unwrap();
        content
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_prefetcher_is_started_and_passes_on_what_follows() {
        let scene = scene(1..=3).await;
        let first = client(&scene, 1);
        assert_eq!(started_by(&first), Some(SIZE));
        let job = prefetching(&scene)
            .job_after(&request(&scene, &segment(1, 1).to_string()), SIZE.bytes())
            .unwrap()
            .unwrap();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let prefetcher = tokio::spawn(prefetch(job, move || {
            let _ = ready.send(());
            Ok(())
        }));
        is_ready.await.unwrap();

        assert_eq!(started_by(&first), None, "there is one");
        let limit = TimeLimit::new(Instant::now(), Duration::from_mins(1));
        assert!(first.ask(&limit).is_none(), "it has only what follows");
        for number in 2..=3 {
            scene.finish(1, number..=number, 1);
            let expected = fs::read(scene.path(&format!("data/pg_wal/{}", segment(1, number)))).unwrap();
            let verified = client(&scene, number).ask(&limit).unwrap();
            assert!(content(verified) == expected, "{number}");
        }
        prefetcher.await.unwrap().unwrap();
        assert_eq!(started_by(&client(&scene, 3)), Some(SIZE), "it has ended with the archive");
    }

    #[tokio::test]
    async fn only_a_server_that_asks_for_a_segment_has_a_prefetcher() {
        let scene = scene(1..=1).await;
        let name = segment(1, 1).to_string();
        assert!(prefetching(&scene).client(&request(&scene, &name)).is_some());
        for other in ["00000002.history".to_owned(), format!("{name}.partial")] {
            assert!(prefetching(&scene).client(&request(&scene, &other)).is_none(), "{other}");
        }
        let mut off = prefetching(&scene);
        off.bounds.bytes = 0;
        assert!(off.client(&request(&scene, &name)).is_none());
        fs::remove_dir_all(scene.path("data/global")).unwrap();
        assert!(prefetching(&scene).client(&request(&scene, &name)).is_none());
        let job = prefetching(&scene).job_after(&request(&scene, &name), SIZE.bytes());
        assert!(job.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_subject_is_noted_once_for_each_segment_and_run() {
        let scene = scene(1..=2).await;
        let note = |number| client(&scene, number).note_once("gap");
        assert_eq!([note(1), note(1), note(2), note(2)], [true, false, true, false]);
        fs::write(scene.path("data/postmaster.pid"), "17\n/data\n1790000000\n").unwrap();
        assert_eq!([note(2), note(2)], [true, false]);
    }
}
