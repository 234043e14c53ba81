//! Crashes of a restore: killed or stopped at any moment, it leaves `%p` absent or complete, and the next one
//! succeeds.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    cluster::{Cluster, Shutdown},
    data_directory::{SEGMENT, segment},
    files::names_in,
    recovery::has_recovery_conf,
    restore::{SYSTEM, Scene, TARGET},
    running::{Running, outcome_of},
    sandbox::Sandbox,
};

/// Prefix of the server's own unfinished segments; see the last test.
const TEMPORARY: &str = "xlogtemp.";

/// An archive with one segment of 16 MB.
struct Large {
    scene: Scene,
    content: Vec<u8>,
}

impl Large {
    fn new() -> Self {
        let scene = Scene::new();
        let content = segment(SEGMENT, SYSTEM, 16 << 20, 0);
        scene.recovery.set_segment_bytes(16 << 20);
        scene.primary.file(&format!("pg_wal/{SEGMENT}"), &content);
        scene.push(&scene.primary, SEGMENT);
        Self { scene, content }
    }

    /// Restores the segment, which must succeed; returns the duration.
    fn restore(&self) -> Duration {
        let started = Instant::now();
        let outcome = outcome_of(self.scene.restore(&self.scene.recovery, SEGMENT));
        let took = started.elapsed();
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        self.take_restored();
        took
    }

    /// Removes the restored file, which must be complete.
    fn take_restored(&self) {
        let path = self.scene.recovery.join(TARGET);
        assert!(fs::read(&path).unwrap() == self.content);
        fs::remove_file(path).unwrap();
    }

    /// Signals one restore after another, each a little later. Returns the statuses, and the files that each left
    /// next to `%p`. After each one, another must succeed.
    fn interrupt(&self, signal: Signal, runs: u32) -> Vec<(i32, Vec<String>)> {
        let directory = self.scene.recovery.join("pg_wal");
        let mut duration = self.restore();
        (0..runs)
            .map(|run| {
                let restore = Running::start(self.scene.restore(&self.scene.recovery, SEGMENT));
                // Not a condition that could be awaited: any moment is meant.
                thread::sleep(duration * run / runs);
                restore.signal(signal);
                let status = restore.end().status;
                let mut left = names_in(&directory);
                if let Some(at) = left.iter().position(|name| name == "RECOVERYXLOG") {
                    left.remove(at);
                    self.take_restored();
                }
                duration = self.restore();
                for name in &left {
                    fs::remove_file(directory.join(name)).unwrap();
                }
                (status, left)
            })
            .collect()
    }
}

#[test]
fn a_killed_restore_leaves_the_file_absent_or_complete() {
    let endings = Large::new().interrupt(Signal::KILL, 60);
    let killed = endings.iter().filter(|(status, _)| *status == -9).count();
    assert!(endings.iter().all(|(status, _)| [-9, 0].contains(status)), "{endings:?}");
    assert!(killed > 20, "only {killed} were killed at work");
    let left: Vec<_> = endings.iter().flat_map(|(_, left)| left).collect();
    assert!(left.iter().all(|name| name.starts_with(TEMPORARY)), "{left:?}");
    assert!(left.len() > 2, "only {} were killed while they were writing", left.len());
}

#[test]
fn a_stopped_restore_leaves_nothing_but_a_complete_file() {
    let endings = Large::new().interrupt(Signal::TERM, 30);
    let stopped = endings.iter().filter(|(status, _)| *status == 143).count();
    assert!(endings.iter().all(|(status, _)| [143, -15, 0].contains(status)), "{endings:?}");
    assert!(stopped > 5, "only {stopped} were stopped at work");
    assert!(endings.iter().all(|(_, left)| left.is_empty()), "{endings:?}");
}

#[test]
fn the_server_removes_the_leftovers_of_a_killed_restore_from_version_12_on() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::new(&sandbox, "cluster");
    cluster.start();
    cluster.stop(Shutdown::Immediate);
    let left = sandbox.file(cluster.wal("xlogtemp.walkeep.AbCdEf"), "half a segment");
    cluster.start();
    assert_eq!(left.exists(), has_recovery_conf());
}
