//! Stores that are unavailable or do not answer: every call ends within its time limit and says why, signals end it
//! at once, and a server that shuts down is not delayed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    cluster::{Cluster, Shutdown},
    data_directory::SEGMENT,
    files::names_in,
    load::as_busy,
    push::succeeds,
    restore::TARGET,
    running::{Outcome, Running},
    sandbox::Sandbox,
    store::{
        Store,
        dead_end::DeadEnd,
        fault::{Fault, Matching::Any},
    },
    store_scene::{HASTE, StoreScene, URL, at_once, check_lines, key, warns},
    wait_until,
};

/// Time for a call beyond its own limit: much less than any other limit, much more than a busy machine needs.
const SOON: Duration = Duration::from_secs(15);

/// A hasty call's own limit, and the time that it may take to end.
const PROMPTLY: Duration = Duration::from_secs(5);

/// Creates a scene with a segment to archive and restore, and no store behind `endpoint`.
fn without_store(endpoint: &str) -> StoreScene {
    let mut scene = StoreScene::with_conditional_put("yes");
    scene.primary.segment(SEGMENT, 0);
    scene.hurry();
    scene.move_to(endpoint);
    scene
}

/// Asserts that push and restores end within their limit, with `words` in their messages.
fn all_end_in_time(scene: &StoreScene, words: &[&str]) {
    let soon = SOON + as_busy(HASTE);
    let started = Instant::now();
    let push = Running::start(scene.push(SEGMENT));
    scene.cannot_tell(SEGMENT, words);
    let Outcome { status, stderr } = push.end();
    assert!(started.elapsed() < soon, "{:?}", started.elapsed());
    assert_eq!(status, 1, "{stderr}");
    check_lines("walkeep-archive", &stderr, words);
    let started = Instant::now();
    let cat = Running::start(scene.cat(SEGMENT)).end();
    assert!(started.elapsed() < soon, "{:?}", started.elapsed());
    assert_eq!(cat.status, 1, "{}", cat.stderr);
}

#[test]
fn an_endpoint_without_a_listener_is_retried_until_the_limit() {
    let dead_end = DeadEnd::refused();
    let scene = without_store(&dead_end.http());
    let started = Instant::now();
    all_end_in_time(&scene, &["cannot", &key(SEGMENT), "Connection refused", "trying again for up to "]);
    assert!(started.elapsed() >= HASTE / 2, "it was tried again for {:?}", started.elapsed());
}

#[test]
fn an_endpoint_that_never_answers_is_abandoned_at_the_limit() {
    let dead_end = DeadEnd::silent();
    let scene = without_store(&dead_end.http());
    let stalled = "nothing was sent or received for ";
    all_end_in_time(&scene, &["cannot", &key(SEGMENT), stalled]);
}

#[test]
fn an_endpoint_that_never_answers_is_abandoned_at_the_limit_even_during_a_retry() {
    let dead_end = DeadEnd::silent();
    let mut scene = without_store(&dead_end.http());
    scene.set("AWS_READ_TIMEOUT", "1h");
    scene.set("WALKEEP_TIMEOUT", "2s");
    all_end_in_time(&scene, &["gave up after 2s, the time limit", "does the archive answer?"]);
}

#[test]
fn an_endpoint_without_a_tls_handshake_is_abandoned_at_the_limit() {
    let dead_end = DeadEnd::silent();
    let mut scene = without_store(&dead_end.https());
    scene.set("AWS_READ_TIMEOUT", "1h");
    scene.set("AWS_CONNECT_TIMEOUT", "500ms");
    all_end_in_time(&scene, &["cannot", &key(SEGMENT), "timed out"]);
}

#[test]
fn an_endpoint_that_cuts_the_handshake_is_retried_until_the_limit() {
    let dead_end = DeadEnd::cuts_tls();
    let scene = without_store(&dead_end.https());
    all_end_in_time(&scene, &["cannot", &key(SEGMENT), "handshake", "trying again"]);
}

#[test]
fn a_store_that_hangs_or_trickles_blocks_no_call_beyond_its_limit() {
    at_once(&[Fault::Hang, Fault::HangAfterEffect, Fault::HangInBody(500), Fault::Trickle], |fault| {
        let (mut scene, content) = StoreScene::with_segment();
        scene.set("WALKEEP_TIMEOUT", "2s");
        scene.store.break_with(Any, fault.clone());
        // Nothing is stopped for standing still within such a limit.
        all_end_in_time(&scene, &["gave up after 2s, the time limit", "does the archive answer?"]);
        scene.store.heal();
        scene.set("WALKEEP_TIMEOUT", "1m");
        assert!(scene.restored(SEGMENT, "") == content, "{fault:?}");
        succeeds(scene.push(SEGMENT));
    });
}

#[test]
fn a_transfer_that_stands_still_is_stopped_and_retried() {
    let faults = [Fault::Hang, Fault::HangAfterEffect, Fault::HangInBody(500), Fault::StopReading(0)];
    at_once(&faults, |fault| {
        let mut scene = StoreScene::with_conditional_put("yes");
        scene.set("AWS_READ_TIMEOUT", "1s");
        let content = scene.primary.segment(SEGMENT, 0);
        if matches!(fault, Fault::HangInBody(_)) {
            succeeds(scene.push(SEGMENT));
        } else {
            scene.store.break_times(1, Any, fault.clone());
            let started = Instant::now();
            warns("walkeep-archive", scene.push(SEGMENT), "nothing was sent or received for 1 seconds");
            assert!(started.elapsed() >= Duration::from_secs(1), "{fault:?}");
        }
        scene.store.heal();
        scene.store.break_times(1, Any, fault.clone());
        let restored = scene.restored(SEGMENT, "nothing was sent or received for 1 seconds");
        assert!(restored == content, "{fault:?}");
    });
}

#[test]
fn a_store_that_returns_is_waited_for() {
    let mut scene = StoreScene::new();
    let content = scene.primary.segment(SEGMENT, 0);
    scene.store.break_with(Any, Fault::ResetBeforeReading);
    scene.set("WALKEEP_TIMEOUT", "1h");
    let mut push = Running::start(scene.push(SEGMENT));
    let warning = push.line().unwrap();
    assert!(
        warning.starts_with("walkeep-archive: warning: ") && warning.contains("trying again"),
        "{warning}"
    );
    scene.store.heal();
    let Outcome { status, stderr } = push.end();
    assert_eq!((status, &*stderr), (0, ""), "one warning is enough");
    assert!(scene.original(SEGMENT) == content);
}

// Signals.

/// Creates a restore or push that a store lets hang, for as long as it takes.
fn hanging(fault: Fault) -> StoreScene {
    let (mut scene, _) = StoreScene::with_segment();
    scene.set("WALKEEP_TIMEOUT", "1h");
    scene.set("AWS_READ_TIMEOUT", "1h");
    scene.store.break_with(Any, fault);
    scene
}

#[test]
fn signals_end_a_call_that_hangs_on_a_store_at_once() {
    let cases = [
        (Fault::Hang, Signal::TERM, "SIGTERM", [143, 143]),
        (Fault::Hang, Signal::INT, "SIGINT", [255, 75]),
        (Fault::HangInBody(500), Signal::TERM, "SIGTERM", [143, 143]),
        (Fault::Trickle, Signal::TERM, "SIGTERM", [143, 143]),
    ];
    at_once(&cases, |(fault, signal, name, of_restore)| {
        let scene = hanging(fault.clone());
        let calls = [
            (scene.push(SEGMENT), 1),
            (scene.restore(&scene.recovery, SEGMENT), of_restore[0]),
            (scene.restore(&scene.standby, SEGMENT), of_restore[1]),
            (scene.cat(SEGMENT), 1),
        ];
        for (command, status) in calls {
            let program = command.get_program().to_owned();
            scene.store.forget_requests();
            let running = Running::start(command);
            wait_until("the store is asked", || !scene.store.requests().is_empty());
            let signalled = Instant::now();
            running.signal(*signal);
            let Outcome { status: ended, stderr } = running.end();
            assert!(signalled.elapsed() < PROMPTLY, "{fault:?}: {:?}", signalled.elapsed());
            assert_eq!(ended, status, "{program:?}: {stderr}");
            assert!(stderr.contains(name) && stderr.lines().count() == 1, "{stderr}");
        }
        assert_eq!(names_in(&scene.recovery.join("pg_wal")), [""; 0]);
        assert_eq!(names_in(&scene.standby.join("pg_wal")), [""; 0]);
    });
}

#[test]
fn sigterm_ends_a_push_with_a_lost_success_and_the_next_one_finds_it() {
    let mut scene = StoreScene::with_conditional_put("yes");
    let content = scene.primary.segment(SEGMENT, 0);
    scene.set("AWS_READ_TIMEOUT", "1h");
    scene.store.break_with(Any, Fault::HangAfterEffect);
    let push = Running::start(scene.push(SEGMENT));
    wait_until("it is archived", || scene.stored(SEGMENT).is_some());
    push.signal(Signal::TERM);
    assert_eq!(push.end().status, 1);
    scene.store.heal();
    succeeds(scene.push(SEGMENT));
    assert!(scene.original(SEGMENT) == content);
}

#[test]
fn sigterm_ends_a_call_that_waits_to_retry_at_once() {
    let dead_end = DeadEnd::refused();
    let mut scene = without_store(&dead_end.http());
    scene.set("WALKEEP_TIMEOUT", "1h");
    for (command, status) in [(scene.push(SEGMENT), 1), (scene.restore(&scene.recovery, SEGMENT), 143)] {
        let mut running = Running::start(command);
        running.line().expect("it warns");
        let signalled = Instant::now();
        running.signal(Signal::TERM);
        assert_eq!(running.end().status, status);
        assert!(signalled.elapsed() < PROMPTLY, "{:?}", signalled.elapsed());
    }
    assert!(!scene.recovery.join(TARGET).exists());
}

// A server.

/// Returns an `archive_command` for the store in these variables.
fn archive_command(sandbox: &Sandbox, environment: &[(&str, String)]) -> String {
    let variables: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let program = sandbox.program("walkeep-archive");
    format!("env {} {} --archive {URL} --timeout 1s %p", variables.join(" "), program.display())
}

#[test]
fn a_server_is_shut_down_although_its_store_never_answers_and_archives_later() {
    let sandbox = Sandbox::new();
    let store = Store::new();
    let dead_end = DeadEnd::silent();
    let mut nowhere = store.environment();
    nowhere.iter_mut().find(|(name, _)| *name == "AWS_ENDPOINT_URL").unwrap().1 = dead_end.http();
    let mut cluster = Cluster::initialised_with(&sandbox, "server", &["--wal-segsize=1"]);
    cluster.set("archive_mode", "on");
    cluster.set("archive_command", &archive_command(&sandbox, &nowhere));
    cluster.start();
    cluster.sql("create table t as select generate_series(1, 100) as i");
    let segment = cluster.finish_segment();
    wait_until("the command runs", || is_archiving_in(cluster.data()));
    let stopping = Instant::now();
    cluster.stop(Shutdown::Fast);
    // PostgreSQL tries three times, and three times more before it ends; each ends at its limit.
    assert!(stopping.elapsed() < Duration::from_secs(30), "{:?}", stopping.elapsed());
    let log = cluster.log();
    assert!(log.contains("walkeep-archive: error: gave up after 1s, the time limit"), "{log}");
    assert!(log.contains("database system is shut down"), "{log}");
    assert_eq!(store.keys(), [""; 0]);

    cluster.set("archive_command", &archive_command(&sandbox, &store.environment()));
    cluster.start();
    cluster.wait_until_archived();
    assert!(store.keys().iter().any(|key| key.ends_with(&segment)), "{:?}", store.keys());
    cluster.stop(Shutdown::Fast);
}

#[test]
fn a_fast_shutdown_takes_seconds_although_its_store_never_answers_and_a_call_may_take_hours() {
    let sandbox = Sandbox::new();
    let store = Store::new();
    let dead_end = DeadEnd::silent();
    let mut nowhere = store.environment();
    nowhere.iter_mut().find(|(name, _)| *name == "AWS_ENDPOINT_URL").unwrap().1 = dead_end.http();
    nowhere.push(("AWS_READ_TIMEOUT", "1h".to_owned()));
    let mut cluster = Cluster::initialised_with(&sandbox, "server", &["--wal-segsize=1"]);
    cluster.set("archive_mode", "on");
    let command = archive_command(&sandbox, &nowhere).replace("--timeout 1s", "--timeout 24h");
    cluster.set("archive_command", &command);
    cluster.start();
    cluster.sql("create table t as select generate_series(1, 100) as i");
    cluster.finish_segment();
    wait_until("the command runs", || is_archiving_in(cluster.data()));
    // Waits for a minute; six times the limit would be longer.
    cluster.stop(Shutdown::Fast);
    let log = cluster.log();
    for seconds in [20, 2] {
        let words = format!("nothing was sent or received for {seconds} seconds");
        assert!(log.contains(&words), "{seconds}: {log}");
    }
    assert!(log.contains("database system is shut down"), "{log}");
}

#[test]
fn transfers_that_move_keep_their_time_during_a_shutdown() {
    let (mut scene, content) = StoreScene::with_segment();
    scene.set("WALKEEP_TIMEOUT", "1h");
    scene.primary.file("postmaster.pid", "17\n/data\n1700000000\n5432\n/tmp\n*\n  1 1\nstopping\n");
    // The response takes longer than a call would wait for a hanging store; the comparison then logs it.
    scene.store.break_times(1, Any, Fault::Late(Duration::from_secs(4)));
    succeeds(scene.push(SEGMENT));
    // Brief failures are retried.
    scene.store.break_times(1, Any, Fault::ResetBeforeReading);
    warns("walkeep-archive", scene.push(SEGMENT), "trying again");
    assert!(scene.original(SEGMENT) == content);
}

/// Returns `true` if a process works in this directory and runs walkeep-archive.
fn is_archiving_in(directory: &Path) -> bool {
    fs::read_dir("/proc").unwrap().any(|entry| {
        let process = entry.unwrap().path();
        let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == directory);
        works_there && fs::read_link(process.join("exe")).is_ok_and(|exe| exe.ends_with("walkeep-archive"))
    })
}
