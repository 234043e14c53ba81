//! A data directory, and an archive in memory.

use std::{
    fs,
    future::Future,
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use support::data_directory::{self, SEGMENT_BYTES, control};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use walkeep::{
    archive::{ArchiveOptions, memory::Memory},
    cluster::{Caller, RecoveryMode},
    error::Error,
    frame::Codec,
    limit::TimeLimit,
    push::{LookAhead, PushReport, PushRequest, push},
    restore::{RestoreRequest, Restored, restore},
    spool::{OverflowDirectory, Spool, SpoolOwner},
    wal::{SystemIdentifier, WalName},
};

pub(crate) const SYSTEM: u64 = 7_381_092_445_103_374_871;

/// Target path of a restore.
const TARGET: &str = "pg_wal/RECOVERYXLOG";

pub(crate) struct World {
    pub(crate) memory: Memory,
    pub(crate) stop: CancellationToken,
    temporary: TempDir,
}

impl World {
    /// Creates an empty archive, and a data directory with an empty `pg_wal`.
    pub(crate) fn new() -> Self {
        let world = Self {
            memory: Memory::new(),
            stop: CancellationToken::new(),
            temporary: tempfile::tempdir().unwrap(),
        };
        for directory in ["data/global", "data/pg_wal/archive_status"] {
            fs::create_dir_all(world.temporary.path().join(directory)).unwrap();
        }
        world.file("global/pg_control", control(SYSTEM, SEGMENT_BYTES as u64));
        world.file("PG_VERSION", "15\n");
        world
    }

    /// Creates a world whose archive got these files long ago. `pg_wal` is empty.
    pub(crate) fn archived(names: &[&str]) -> Self {
        let world = Self::new();
        for name in names {
            world.archive(name);
        }
        world
    }

    /// Archives a file, dates it long ago, and removes it from `pg_wal`.
    pub(crate) fn archive(&self, name: &str) {
        self.make(name, 0);
        run(self.push(name)).unwrap();
        fs::remove_file(self.path(&format!("pg_wal/{name}"))).unwrap();
        self.memory.age(&key(name), Duration::from_hours(1));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join("data").join(name)
    }

    /// Writes a file below the data directory.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Writes a WAL file into `pg_wal`. A segment's content depends on `seed`. Returns the content.
    pub(crate) fn make(&self, name: &str, seed: u8) -> Vec<u8> {
        let content = original(name, seed);
        self.file(&format!("pg_wal/{name}"), &content);
        content
    }

    /// Writes WAL files into `pg_wal`, and marks them as ready to be archived.
    pub(crate) fn make_ready(&self, names: &[&str]) {
        for name in names {
            self.make(name, 0);
            self.file(&format!("pg_wal/archive_status/{name}.ready"), "");
        }
    }

    pub(crate) fn spool(&self) -> Spool {
        let owner = SpoolOwner { system: system(), data: &self.path(""), archive: "memory" };
        Spool::open(&self.temporary.path().join("spool"), &owner).unwrap()
    }

    pub(crate) fn request(&self, name: &str) -> PushRequest {
        PushRequest {
            path: self.path(&format!("pg_wal/{name}")),
            caller: Caller::at(self.path(&format!("pg_wal/{name}"))),
            name: name.parse().unwrap(),
            system: None,
            codec: Codec::default(),
            threads: NonZeroUsize::MIN,
            overflow: OverflowDirectory::new(&self.temporary.path().join("spool")),
            now: Timestamp::now(),
            host: None,
        }
    }

    /// Archives a file of `pg_wal` alone.
    pub(crate) async fn push(&self, name: &str) -> Result<PushReport, Error> {
        self.push_within(name, LONG).await
    }

    pub(crate) async fn push_within(&self, name: &str, limit: Duration) -> Result<PushReport, Error> {
        let limit = TimeLimit::new(Instant::now(), limit);
        push(&self.options(), self.request(name), None, &limit, &self.stop).await
    }

    /// Archives a file of `pg_wal`, and its neighbours, `at_once` at a time.
    pub(crate) async fn push_along(&self, name: &str, at_once: usize) -> Result<PushReport, Error> {
        let (limit, spool) = (TimeLimit::new(Instant::now(), LONG), self.spool());
        let connections = NonZeroUsize::new(at_once).unwrap();
        let bounds = LookAhead { files: 9, time: LONG, memory: 64 << 20, connections };
        push(&self.options(), self.request(name), Some((&spool, &bounds)), &limit, &self.stop).await
    }

    fn options(&self) -> ArchiveOptions {
        self.memory.options()
    }

    /// Restores a file in recovery.
    pub(crate) async fn restore(&self, name: &str) -> Result<Restored, Error> {
        self.restore_with(name, LONG, |_| ()).await
    }

    pub(crate) async fn restore_with(
        &self,
        name: &str,
        limit: Duration,
        change: impl FnOnce(&mut RestoreRequest),
    ) -> Result<Restored, Error> {
        let mut request = RestoreRequest {
            name: name.parse().unwrap(),
            path: self.path(TARGET),
            caller: Caller::at(self.path(TARGET)),
            system: None,
            mode: RecoveryMode::Recovery,
            accept_gaps: Vec::new(),
            accept_empty: false,
        };
        change(&mut request);
        restore(&self.options(), &request, None, &TimeLimit::new(Instant::now(), limit)).await
    }

    /// Returns the restored content, if any. Asserts that `pg_wal` contains nothing else that is new.
    pub(crate) fn restored(&self) -> Option<Vec<u8>> {
        let names = fs::read_dir(self.path("pg_wal")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left = names.filter(|name| {
            let name = name.to_str().unwrap();
            name != "archive_status" && name != "RECOVERYXLOG" && name.parse::<WalName>().is_err()
        });
        assert_eq!(left.next(), None, "nothing else is left");
        fs::read(self.path(TARGET)).ok()
    }
}

/// Time limit that no test reaches.
pub(crate) const LONG: Duration = Duration::from_mins(1);

pub(crate) fn system() -> SystemIdentifier {
    SystemIdentifier::new(SYSTEM).unwrap()
}

/// Returns the content of a WAL file.
pub(crate) fn original(name: &str, seed: u8) -> Vec<u8> {
    match name.parse().unwrap() {
        WalName::Segment(_) | WalName::Partial(_) => {
            data_directory::segment(name, SYSTEM, SEGMENT_BYTES, seed)
        }
        WalName::History(_) => support::push::HISTORY_CONTENT.into(),
        WalName::Backup { .. } => support::push::BACKUP_CONTENT.into(),
    }
}

/// Returns the key of an archived file.
pub(crate) fn key(name: &str) -> String {
    match name.parse().unwrap() {
        WalName::Segment(segment) | WalName::Partial(segment) => {
            format!("{SYSTEM}/wal/{}/{name}", segment.group())
        }
        WalName::History(_) => format!("{SYSTEM}/timelines/{name}"),
        WalName::Backup { .. } => format!("{SYSTEM}/backups/{name}"),
    }
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
