//! Threads that hang in a file system block no process: each program ends within its time limit, on a signal, and
//! when its work is done.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    data_directory::SEGMENT,
    files::make_fifo,
    prefetcher::Prefetchers,
    push::{Pusher, succeeds},
    ready::{name, note, pusher_with, unmark_all},
    restore::{SYSTEM, Scene, TARGET},
    running::{Outcome, Running, outcome_of},
};

/// Much less than any time limit that must not be reached, and much more than a busy machine needs.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Creates an archive in which the segment is a named pipe: opening it blocks forever, as on a network file system
/// whose server failed.
fn scene() -> Scene {
    let (scene, _) = Scene::with_segment();
    fs::remove_file(scene.file(SEGMENT)).unwrap();
    make_fifo(&scene.file(SEGMENT));
    scene
}

/// Returns a call of each program that opens the segment, with that time limit, and its exit status on failure.
fn calls(scene: &Scene, timeout: &str) -> [(Command, i32); 4] {
    let with = |mut command: Command, rest: &[&str]| {
        command.args(rest).args(["--archive", scene.archive.url(), "--timeout", timeout]);
        command.stdout(Stdio::null());
        command
    };
    let push = scene.primary.run(scene.sandbox.walkeep_archive());
    let recovery = scene.recovery.run(scene.sandbox.walkeep_restore());
    let standby = scene.standby.run(scene.sandbox.walkeep_restore());
    [
        (with(push, &[&format!("pg_wal/{SEGMENT}")]), 1),
        (with(recovery, &[SEGMENT, TARGET]), 255),
        (with(standby, &[SEGMENT, TARGET]), 75),
        (with(scene.sandbox.walkeep(), &["cat", SEGMENT]), 1),
    ]
}

#[test]
fn every_program_ends_within_its_time_limit() {
    let scene = scene();
    let started = Instant::now();
    let running = calls(&scene, "1s").map(|(call, status)| (Running::start(call), status));
    for (running, status) in running {
        let Outcome { status: ended, stderr } = running.end();
        assert_eq!((ended, stderr.lines().count()), (status, 1), "{stderr}");
        assert!(stderr.contains("gave up after 1s, the time limit"), "{stderr}");
    }
    let took = started.elapsed();
    assert!(Duration::from_secs(1) <= took && took < PROMPTLY, "{took:?}");
}

#[test]
fn every_program_ends_on_a_signal() {
    let scene = scene();
    let running = calls(&scene, "1h").map(|(call, status)| {
        let running = Running::start(call);
        running.wait_until_it_heeds_signals();
        (running, status)
    });
    let signalled = Instant::now();
    for (running, _) in &running {
        running.signal(Signal::INT);
    }
    for (running, status) in running {
        let Outcome { status: ended, stderr } = running.end();
        assert_eq!(ended, status, "{stderr}");
        assert!(stderr.contains("stopped by SIGINT"), "{stderr}");
    }
    assert!(signalled.elapsed() < PROMPTLY, "{:?}", signalled.elapsed());
}

#[test]
fn a_push_that_is_done_does_not_wait_for_its_spool_to_answer() {
    let pusher: Pusher = pusher_with(1..=2);
    succeeds(pusher.push(&name(1)));
    unmark_all(&pusher.data);
    let note = note(&pusher.sandbox, 2);
    fs::remove_file(&note).unwrap();
    make_fifo(&note);
    let started = Instant::now();
    succeeds(pusher.push(&name(2)));
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
}

#[test]
fn a_restore_that_is_done_does_not_wait_for_its_data_directory_to_answer() {
    let (scene, content) = Scene::with_segment();
    let _prefetchers = Prefetchers::of(&scene.sandbox);
    make_fifo(&scene.standby.join("postmaster.pid"));
    let mut restore = scene.standby.run(scene.sandbox.walkeep_restore());
    restore.args(["--archive", scene.archive.url(), "--timeout", "1h", SEGMENT, TARGET]);
    restore.args(["--system-identifier", &SYSTEM.to_string()]);
    let started = Instant::now();
    let Outcome { status, stderr } = outcome_of(restore);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
    assert!(fs::read(scene.standby.join(TARGET)).unwrap() == content);
}
