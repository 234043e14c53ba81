//! A server with a `pg_wal` written by the test, and runs of `walkeep backfill`.

use std::{fs, path::PathBuf, process::Command};

use super::{
    files::names_in,
    kept::{name, position},
    push::{Pusher, SYSTEM, succeeds},
    store_cluster::CallOutput,
    wal_writer::WalWriter,
};

pub const MIB: usize = 1 << 20;

/// A server whose first segment is archived.
pub struct Server {
    pub pusher: Pusher,
}

impl Server {
    pub fn new() -> Self {
        let server = Self { pusher: Pusher::new() };
        fs::create_dir(server.pusher.data.join("pg_wal/archive_status")).unwrap();
        let mut wal = wal(1, 1);
        wal.fill();
        server.has(&wal, 1);
        succeeds(server.pusher.push(&name(1, 1)));
        server
    }

    /// Returns the path of a file in `pg_wal`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.pusher.data.join("pg_wal").join(name)
    }

    /// Writes a file into `pg_wal`, and marks it as archived.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        self.pusher.data.file(&format!("pg_wal/{name}"), content);
        self.pusher.data.file(&format!("pg_wal/archive_status/{name}.done"), "");
    }

    /// Writes the segments of `wal` into `pg_wal`, from segment `number` on.
    pub fn has(&self, wal: &WalWriter, number: u64) {
        for (segment, number) in wal.segments().iter().zip(number..) {
            self.put(&name(wal.timeline, number), segment);
        }
    }

    /// Writes the history of a timeline into `pg_wal`, whose ancestors were left inside segment 3.
    pub fn history(&self, timeline: u32, ancestors: &[u32]) {
        let lines = ancestors
            .iter()
            .map(|of| format!("{of}\t{}\tno recovery target specified\n", position(3, 0x100)));
        self.put(&format!("{timeline:08X}.history"), lines.collect::<String>());
    }

    /// Moves a file of `pg_wal` into the archive, as if another server had archived it.
    pub fn is_archived_elsewhere(&self, name: &str, content: impl AsRef<[u8]>) {
        self.put(name, content);
        succeeds(self.pusher.push(name));
        self.remove(name);
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
        fs::remove_file(self.file(&format!("archive_status/{name}.done"))).unwrap();
    }

    pub fn backfill(&self, options: &[&str]) -> Command {
        let mut command = self.pusher.sandbox.walkeep();
        command.args(["backfill", "--archive", self.pusher.archive.url(), "--timeout", "1s"]);
        command.arg("--pgdata").arg(self.pusher.data.join("")).args(options);
        command
    }

    /// Runs it, and returns status and output, which must be those announced by a dry run.
    pub fn backfilled(&self) -> (i32, Vec<String>) {
        let archived = self.pusher.files();
        let would = CallOutput::of(self.backfill(&["--dry-run"]));
        assert_eq!(self.pusher.files(), archived, "a dry run archives nothing");
        let marks = names_in(&self.pusher.data.join("pg_wal/archive_status"));
        let done = CallOutput::of(self.backfill(&[]));
        assert_eq!(
            names_in(&self.pusher.data.join("pg_wal/archive_status")),
            marks,
            "marks are the server's"
        );
        assert_eq!(would.text().replace("would archive", "archived"), done.text());
        assert_eq!(would.status, done.status);
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.stderr, "");
        (done.status, text.lines().map(str::to_owned).collect())
    }

    /// Lists the archived files.
    pub fn archived(&self) -> Vec<String> {
        self.pusher.archive.all_names(SYSTEM)
    }
}

pub fn wal(timeline: u32, number: u64) -> WalWriter {
    WalWriter::new(SYSTEM, timeline, number, MIB as u64)
}

/// Creates WAL with `full` full segments, and one that has begun.
pub fn wal_of(timeline: u32, number: u64, full: u64) -> WalWriter {
    let mut wal = wal(timeline, number);
    (0..full).for_each(|_| wal.fill());
    wal.record(100);
    wal
}
