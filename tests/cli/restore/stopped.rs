//! A restore that waits or hangs: it waits for an archive that may return, ends within its time limit, and ends at
//! once on a signal.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    data_directory::{DataDirectory, SEGMENT},
    files::names_in,
    restore::{Scene, TARGET},
    running::{Outcome, Running},
    strace::{end_of_hanging, hanging_at},
    wait_until,
};

/// Much less than any time limit that must not be reached, and much more than a busy machine needs.
const PROMPTLY: Duration = Duration::from_secs(5);

/// Returns the command, which hangs when it opens the segment, as on a network file system whose server failed.
fn hanging(scene: &Scene, command: &Command) -> Command {
    hanging_at(&scene.file(SEGMENT), &scene.sandbox, command)
}

/// Returns a restore of the segment with these settings in a configuration file.
fn call_with(scene: &Scene, server: &DataDirectory, settings: &str) -> Command {
    let file = scene.sandbox.join(format!("{}.toml", settings.len()));
    let configuration = format!("archive = '{}'\n{settings}", scene.archive.url());
    scene.sandbox.file(&file, configuration);
    let mut command = server.run(scene.sandbox.walkeep_restore());
    command.arg("--config").arg(file).args([SEGMENT, TARGET]);
    command
}

/// Starts a restore of the segment that hangs.
fn hanging_with(scene: &Scene, server: &DataDirectory, settings: &str) -> Running {
    Running::start(hanging(scene, &call_with(scene, server, settings)))
}

/// Starts a restore of the segment with these settings in a configuration file.
fn restore_with(scene: &Scene, server: &DataDirectory, settings: &str) -> Running {
    Running::start(call_with(scene, server, settings))
}

fn assert_nothing_is_left(server: &DataDirectory) {
    assert_eq!(names_in(&server.join("pg_wal")), [""; 0]);
}

#[test]
fn a_hanging_file_system_blocks_no_restore_beyond_its_time_limit() {
    let (scene, _) = Scene::with_segment();
    let started = Instant::now();
    let calls = [(&scene.recovery, 255), (&scene.standby, 75)];
    let calls = calls.map(|(server, status)| {
        let call = hanging(&scene, &scene.restore(server, SEGMENT));
        (Running::start(call), server, status)
    });
    for (running, server, status) in calls {
        let outcome = end_of_hanging(running);
        assert_eq!((outcome.status, outcome.stderr.lines().count()), (status, 1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("time limit"), "{}", outcome.stderr);
        assert_nothing_is_left(server);
    }
    let took = started.elapsed();
    assert!(Duration::from_secs(1) <= took && took < PROMPTLY, "{took:?}");
}

#[test]
fn recovery_and_standby_have_a_time_limit_each() {
    let (scene, _) = Scene::with_segment();
    let short_for_recovery = "recovery_timeout = '400ms'\nstandby_timeout = '1h'\n";
    let short_for_standby = "recovery_timeout = '24h'\nstandby_timeout = '400ms'\n";
    let started = Instant::now();
    let patient = [
        (hanging_with(&scene, &scene.standby, short_for_recovery), 75),
        (hanging_with(&scene, &scene.recovery, short_for_standby), 255),
    ];
    let hasty = [
        (hanging_with(&scene, &scene.recovery, short_for_recovery), 255),
        (hanging_with(&scene, &scene.standby, short_for_standby), 75),
    ];
    for (running, status) in hasty {
        check_status(running, status);
    }
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
    for (running, _) in &patient {
        running.wait_until_it_heeds_signals();
        running.signal(Signal::INT);
    }
    for (running, status) in patient {
        let Outcome { stderr, .. } = check_status(running, status);
        assert!(stderr.contains("SIGINT"), "it was still at work: {stderr}");
    }
}

fn check_status(running: Running, status: i32) -> Outcome {
    let outcome = end_of_hanging(running);
    assert_eq!(outcome.status, status, "{}", outcome.stderr);
    outcome
}

#[test]
fn signals_end_a_hanging_restore_at_once() {
    let (scene, _) = Scene::with_segment();
    let mut calls = Vec::new();
    for (server, cannot_tell) in [(&scene.recovery, 255), (&scene.standby, 75)] {
        for (signal, name, status) in [
            // With 143, the server takes the end of the restore for a part of its own shutdown.
            (Signal::TERM, "SIGTERM", 143),
            (Signal::INT, "SIGINT", cannot_tell),
            (Signal::QUIT, "SIGQUIT", cannot_tell),
        ] {
            let running = hanging_with(&scene, server, "timeout = '1h'");
            running.wait_until_it_heeds_signals();
            running.signal(signal);
            calls.push((running, name, status));
        }
    }
    let signalled = Instant::now();
    for (running, name, status) in calls {
        let Outcome { stderr, .. } = check_status(running, status);
        assert!(stderr.contains(name) && stderr.lines().count() == 1, "{stderr}");
    }
    assert!(signalled.elapsed() < PROMPTLY, "{:?}", signalled.elapsed());
    assert_nothing_is_left(&scene.recovery);
    assert_nothing_is_left(&scene.standby);
}

#[test]
fn a_restore_waits_for_an_archive_that_returns() {
    for standby in [false, true] {
        let (scene, content) = Scene::with_segment();
        let server = if standby { &scene.standby } else { &scene.recovery };
        scene.archive.vanish();
        let mut restore = restore_with(&scene, server, "timeout = '5m'");
        let warning = restore.line().unwrap_or_default();
        assert!(warning.starts_with("walkeep-restore: warning: ") && warning.contains("exist"), "{warning}");
        assert_nothing_is_left(server);
        scene.archive.come_back();
        let outcome = restore.end();
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "one warning is enough");
        assert!(std::fs::read(server.join(TARGET)).unwrap() == content);
    }
}

#[test]
fn a_file_absent_from_an_archive_that_returned_is_absent() {
    let (scene, _) = Scene::with_segment();
    let before = "000000010000000000000000";
    scene.primary.segment(before, 0);
    scene.push(&scene.primary, before);
    std::fs::remove_file(scene.file(SEGMENT)).unwrap();
    scene.archive.vanish();
    let mut restore = restore_with(&scene, &scene.recovery, "timeout = '5m'");
    restore.line().expect("it warns");
    scene.archive.come_back();
    check_status(restore, 1);
    assert_nothing_is_left(&scene.recovery);
}

#[test]
fn signals_end_a_waiting_restore_at_once() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 255), (Signal::QUIT, 255)] {
        let (scene, _) = Scene::with_segment();
        scene.archive.vanish();
        let mut restore = restore_with(&scene, &scene.recovery, "timeout = '1h'");
        restore.line().expect("it warns");
        let signalled = Instant::now();
        restore.signal(signal);
        check_status(restore, status);
        assert!(signalled.elapsed() < PROMPTLY, "{:?}", signalled.elapsed());
        assert_nothing_is_left(&scene.recovery);
    }
}

#[test]
fn signals_at_any_step_leave_nothing() {
    let (scene, content) = Scene::with_segment();
    let path = scene.recovery.join(TARGET);
    // The file next to %p was just created; it is complete and about to get its name.
    for (system_calls, delay) in
        [("openat", "delay_exit=100000"), ("rename,renameat,renameat2", "delay_enter=500000")]
    {
        for (signal, stopped) in [(Signal::TERM, 143), (Signal::INT, 255)] {
            // Looking for a prefetcher opens files as well, and there is none.
            let restore = scene.restore_with(&["--prefetch-size", "0MB"], &scene.recovery, SEGMENT);
            let running = Running::start(scene.slowed(system_calls, delay, &restore));
            wait_until("there is a file", || !names_in(&scene.recovery.join("pg_wal")).is_empty());
            running.signal(signal);
            let Outcome { status, stderr } = running.end();
            match status {
                // A write that must not be interrupted may finish.
                0 => assert!(std::fs::read(&path).unwrap() == content),
                _ => assert_eq!(status, stopped, "{stderr}"),
            }
            let left = names_in(&scene.recovery.join("pg_wal"));
            assert!(left.is_empty() || left == ["RECOVERYXLOG"], "{left:?} during {system_calls}");
            let _ = std::fs::remove_file(&path);
        }
    }
}
