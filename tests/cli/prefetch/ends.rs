//! Life and end of a prefetcher: separate from its server, never longer than needed, and without leaving anything
//! behind.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs,
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::Stdio,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use support::{
    PATIENCE,
    data_directory::DataDirectory,
    prefetcher::{From, PrefetchScene, content, left_in_spools, name, restored_by},
    restore::{SYSTEM, TARGET},
    running::{Running, outcome_of},
    strace::{hanging_at, let_go},
    wait_until,
    wrapper::in_shell,
};

/// Much longer than a call waits for a prefetcher that does not answer, which is some seconds.
const SOME_SECONDS: Duration = Duration::from_secs(20);

// The server.

#[test]
fn a_new_run_of_the_server_uses_nothing_of_the_old_one() {
    let scene = PrefetchScene::with(1..=4);
    let recovery = &scene.scene.recovery;
    let run = |lock: &str| recovery.file("postmaster.pid", lock);
    run("17\n/data\n1700000000\n5432\n/tmp\n*\nstarting\n");
    let old = scene.prefetched(1, 3);
    // Lines that the server adds later make no difference.
    run("17\n/data\n1700000000\n5432\n/tmp\n*\n  1234  1\nready   \n");
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    // The next run comes so soon that the prefetcher notices it only by the call.
    old.stop();
    run("17\n/data\n1700000001\n5432\n/tmp\n*\nstarting\n");
    let call = Running::start(scene.call(recovery, &name(3)));
    thread::sleep(Duration::from_millis(100));
    old.signal(Signal::CONT);
    let outcome = call.end();
    assert_eq!((outcome.status, From::logged_in(&outcome.stderr)), (0, From::Archive));
    assert!(fs::read(recovery.join(TARGET)).unwrap() == content(&name(3)));
    fs::remove_file(recovery.join(TARGET)).unwrap();
    wait_until("the old one has ended", || !old.lives());
    assert!(matches!(scene.restored(&name(4)), From::Archive | From::Prefetcher));
    scene.nothing_is_left();
}

#[test]
fn it_ends_with_the_run_of_the_server() {
    for lock in [None, Some("18\n/data\n1700000000\n"), Some("17\n/data\n1700000001\n"), Some("")] {
        let scene = PrefetchScene::with(1..=3);
        let pid_file = scene.scene.recovery.file("postmaster.pid", "17\n/data\n1700000000\n");
        scene.prefetched(1, 2);
        match lock {
            None => fs::remove_file(pid_file).unwrap(),
            Some(text) => fs::write(pid_file, text).unwrap(),
        }
        scene.prefetchers.wait_until_none();
        scene.nothing_is_left();
    }
}

#[test]
fn a_data_directory_that_replaces_another_gets_none_of_its_segments() {
    let scene = PrefetchScene::with(1..=4);
    let path = scene.scene.recovery.join("");
    let old = scene.prefetched(1, 3);
    old.stop();
    fs::rename(&path, scene.scene.sandbox.join("old")).unwrap();
    let recovery = DataDirectory::new(&scene.scene.sandbox, "recovery", SYSTEM);
    let call = Running::start(scene.call(&recovery, &name(2)));
    thread::sleep(Duration::from_millis(100));
    old.signal(Signal::CONT);
    let outcome = call.end();
    assert_eq!((outcome.status, From::logged_in(&outcome.stderr)), (0, From::Archive));
    wait_until("the old one has ended", || !old.lives());
}

#[test]
fn it_ends_without_calls_for_a_while() {
    let scene = PrefetchScene::with(1..=5);
    let configuration = scene.configuration("prefetch_idle = \"1s\"");
    let call = |number| {
        let mut call = scene.call(&scene.scene.recovery, &name(number));
        call.env("WALKEEP_CONFIG", &configuration);
        restored_by(call, &scene.scene.recovery, &name(number))
    };
    assert_eq!(call(1), From::Archive);
    let prefetcher = scene.prefetchers.wait_until_held(4);
    // It stays while calls come, three times as long in all.
    for number in 2..=4 {
        thread::sleep(Duration::from_millis(700));
        assert_eq!(call(number), From::Prefetcher, "{number}");
    }
    let asked = Instant::now();
    wait_until("it has ended", || !prefetcher.lives());
    assert!(asked.elapsed() > Duration::from_millis(800), "{:?}", asked.elapsed());
    assert_eq!(call(5), From::Archive);
    scene.nothing_is_left();
}

#[test]
fn a_running_prefetcher_keeps_its_meeting_point() {
    let scene = PrefetchScene::with(1..=4);
    let prefetcher = scene.prefetched(1, 3);
    // A second prefetcher, as started by a call that did not find the first.
    let another = scene.call_with(&["--prefetch-after=1048576"], &scene.scene.recovery, &name(1));
    assert_eq!(outcome_of(another).status, 0);
    assert_eq!(scene.prefetchers.all(), [prefetcher]);
    assert_eq!(scene.restored_all(2..=4), 3);
}

// Its own death.

#[test]
fn a_killed_prefetcher_only_costs_time() {
    let scene = PrefetchScene::with(1..=6);
    let mut number = 1;
    for _ in 0..2 {
        let prefetcher = scene.prefetched(number, 6 - number);
        assert_eq!(scene.restored(&name(number + 1)), From::Prefetcher);
        prefetcher.kill();
        scene.nothing_is_left();
        number += 2;
    }
    let next = scene.prefetched(number, 1);
    assert_eq!(scene.restored(&name(6)), From::Prefetcher, "another one has come");
    wait_until("it has ended", || !next.lives());
    scene.nothing_is_left();
}

#[test]
fn a_terminated_prefetcher_ends_with_status_0() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let scene = PrefetchScene::with(1..=3);
        let log = scene.scene.sandbox.join("strace.log");
        let mut strace = scene.scene.sandbox.command("strace");
        strace.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", "trace=exit_group", "-e", "signal=none"]);
        let mut call = support::wrapper::wrapped(strace, &scene.call(&scene.scene.recovery, &name(1)));
        call.env_remove("LD_LIBRARY_PATH");
        // strace ends when the last of its processes does.
        let running = Running::start(call);
        let prefetcher = scene.prefetchers.wait_until_held(2);
        prefetcher.signal(signal);
        assert_eq!(running.end().status, 0);
        let log = fs::read_to_string(log).unwrap();
        let pid = prefetcher.pid().as_raw_pid().to_string();
        let end = log.lines().find(|line| line.split(' ').next() == Some(&*pid));
        assert!(end.is_some_and(|line| line.contains("exit_group(0)")), "{signal:?} {log}");
        fs::remove_file(scene.scene.recovery.join(TARGET)).unwrap();
        scene.nothing_is_left();
    }
}

/// Restores a segment from the archive; returns `true` if the call reports that the prefetcher does not answer.
fn complains(scene: &PrefetchScene, number: usize) -> bool {
    let outcome = outcome_of(scene.call(&scene.scene.recovery, &name(number)));
    assert_eq!((outcome.status, From::logged_in(&outcome.stderr)), (0, From::Archive), "{}", outcome.stderr);
    fs::remove_file(scene.scene.recovery.join(TARGET)).unwrap();
    let warning = "walkeep-restore: warning: the prefetcher does not answer, and is left alone";
    outcome.stderr.contains(warning)
}

#[test]
fn a_prefetcher_that_does_not_answer_is_waited_for_once_and_then_ignored() {
    let scene = PrefetchScene::with(1..=7);
    let prefetcher = scene.prefetched(1, 6);
    prefetcher.stop();
    let started = Instant::now();
    assert!(complains(&scene, 2), "one warning");
    assert!(started.elapsed() < SOME_SECONDS, "{:?}", started.elapsed());
    assert!(!complains(&scene, 3), "is enough");
    prefetcher.signal(Signal::CONT);
    assert!(!complains(&scene, 4), "nobody waits for it again");
    assert_eq!(scene.prefetchers.all(), [prefetcher], "and nobody takes its place");
    prefetcher.kill();
    let next = scene.prefetched(5, 2);
    assert_eq!(scene.restored(&name(6)), From::Prefetcher, "the next one is not blamed for it");
    next.kill();
}

#[test]
fn a_prefetcher_that_does_not_answer_leaves_a_call_with_a_short_time_limit_time_for_the_archive() {
    let scene = PrefetchScene::with(1..=3);
    let prefetcher = scene.prefetched(1, 2);
    prefetcher.stop();
    // The call waits for half of its limit at most.
    let call = scene.call_with(&["--timeout=2s"], &scene.scene.recovery, &name(2));
    assert_eq!(restored_by(call, &scene.scene.recovery, &name(2)), From::Archive);
}

#[test]
fn a_prefetcher_with_a_full_queue_blocks_no_call() {
    let scene = PrefetchScene::with(1..=3);
    let prefetcher = scene.prefetched(1, 2);
    prefetcher.stop();
    knock_until_nobody_can_any_more(&prefetcher.spool().unwrap());
    let started = Instant::now();
    let mut call = Running::start(scene.call(&scene.scene.recovery, &name(2)));
    assert!(call.line().unwrap().contains("left alone"));
    // Reads only this line, because the call may never end.
    let line = call.line().unwrap();
    assert!(started.elapsed() < SOME_SECONDS, "{:?}", started.elapsed());
    assert_eq!(From::logged_in(&line), From::Archive);
    assert_eq!(call.end().status, 0);
}

/// Fills the queue of connections that have not been accepted.
fn knock_until_nobody_can_any_more(spool: &Path) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let address = SocketAddrUnix::new(spool.join("prefetcher.socket")).unwrap();
    for _ in 0..100_000 {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        // A closed connection stays in the queue.
        if let Err(error) = connect(&socket, &address) {
            assert_eq!(error, rustix::io::Errno::AGAIN);
            return;
        }
    }
    panic!("the queue has no end");
}

#[test]
fn a_prefetcher_that_hangs_on_its_archive_delays_a_call_by_seconds_at_most() {
    let scene = PrefetchScene::with(1..=3);
    let file = scene.scene.file(&name(3));
    // The prefetcher inherits what becomes of the call that starts it.
    let call = scene.call(&scene.scene.recovery, &name(1));
    let mut call = hanging_at(&file, &scene.scene.sandbox, &call);
    assert!(call.stderr(Stdio::null()).status().unwrap().success());
    fs::remove_file(scene.scene.recovery.join(TARGET)).unwrap();
    let prefetcher = scene.prefetchers.wait_until_held(1);
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    let started = Instant::now();
    assert_eq!(scene.restored(&name(3)), From::Archive);
    assert!(started.elapsed() < SOME_SECONDS, "{:?}", started.elapsed());
    // Its thread hangs forever, but not the process.
    wait_until("it has ended", || !prefetcher.lives());
    let_go(prefetcher.id());
    scene.nothing_is_left();
}

#[test]
fn a_segment_in_progress_is_waited_for_while_it_moves() {
    let scene = PrefetchScene::new();
    for name in (1..=2).map(name) {
        scene.scene.primary.file(&format!("pg_wal/{name}"), content(&name));
        scene.scene.push_with(&scene.scene.primary, &name, &["--compression", "none"]);
    }
    // The prefetcher inherits the slowness of the call that starts it.
    let call = scene.call(&scene.scene.recovery, &name(1));
    let mut slowed = scene.scene.slowed("write", "delay_enter=500000", &call);
    assert!(slowed.stderr(Stdio::null()).status().unwrap().success());
    fs::remove_file(scene.scene.recovery.join(TARGET)).unwrap();
    let prefetcher = scene.prefetchers.only();
    let started = Instant::now();
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    let took = started.elapsed();
    assert!(took > Duration::from_secs(2), "it was on its way all the time: {took:?}");
    wait_until("it has ended", || !prefetcher.lives());
}

#[test]
fn a_caller_that_is_killed_while_it_waits_disturbs_nobody() {
    let scene = PrefetchScene::with(1..=4);
    let prefetcher = scene.prefetched(1, 3);
    prefetcher.stop();
    let calls = [2, 3].map(|number| Running::start(scene.call(&scene.scene.recovery, &name(number))));
    thread::sleep(Duration::from_millis(200));
    for call in calls {
        call.signal(Signal::KILL);
        call.end();
    }
    prefetcher.signal(Signal::CONT);
    assert_eq!(scene.restored_all(2..=4), 3, "what was not taken is still in hand");
}

// Separation from its caller.

#[test]
fn it_keeps_no_open_files_and_no_directory_of_its_caller() {
    let scene = PrefetchScene::with(1..=3);
    let (mut out, out_of_call) = std::io::pipe().unwrap();
    let (mut err, err_of_call) = std::io::pipe().unwrap();
    let (mut third, third_of_call) = std::io::pipe().unwrap();
    // The third pipe arrives as standard input and becomes descriptor 7.
    let script = "exec 7>&0 0</dev/null; exec \"$@\"";
    let mut call = in_shell(&scene.scene.sandbox, script, &scene.call(&scene.scene.recovery, &name(1)));
    call.stdin(third_of_call).stdout(out_of_call).stderr(err_of_call);
    let mut child = call.spawn().unwrap();
    // The command also has the writing ends.
    drop(call);
    let prefetcher = scene.prefetchers.wait_until_held(2);
    assert!(child.wait().unwrap().success());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        for pipe in [&mut out, &mut err, &mut third] {
            pipe.read_to_string(&mut text).unwrap();
        }
        let _ = sender.send(text);
    });
    let text = ended.recv_timeout(PATIENCE).expect("all three end");
    assert_eq!(From::logged_in(&text), From::Archive);
    assert!(prefetcher.lives());

    assert_eq!(fs::read_link(prefetcher.proc("cwd")).unwrap(), Path::new("/"));
    let pid = prefetcher.pid().as_raw_pid().to_string();
    assert_eq!((prefetcher.field(5), prefetcher.field(6)), (pid.clone(), pid), "its own group and session");
    let spool = prefetcher.spool().unwrap();
    for (path, link) in prefetcher.open_files() {
        let path = path.to_str().unwrap();
        let is_its_own = ["socket:[", "anon_inode:", "pipe:["].iter().any(|kind| path.starts_with(kind))
            || path == "/dev/null"
            || path.starts_with(spool.to_str().unwrap());
        assert!(is_its_own, "{} is {path}", link.display());
    }
    for number in 0..3 {
        assert_eq!(
            fs::read_link(prefetcher.proc(&format!("fd/{number}"))).unwrap(),
            Path::new("/dev/null"),
            "{number}"
        );
    }
}

#[test]
fn signals_to_its_callers_group_do_not_reach_it() {
    let scene = PrefetchScene::with(1..=3);
    // The group's leader waits for the call, as the server's startup process does.
    let script = "\"$@\" || exit; while :; do sleep 1; done";
    let mut call = in_shell(&scene.scene.sandbox, script, &scene.call(&scene.scene.recovery, &name(1)));
    call.process_group(0).stderr(Stdio::null());
    let mut leader = call.spawn().unwrap();
    let prefetcher = scene.prefetchers.wait_until_held(2);
    for signal in [Signal::INT, Signal::TERM, Signal::QUIT, Signal::KILL] {
        let _ = kill_process_group(Pid::from_child(&leader), signal);
    }
    leader.wait().unwrap();
    fs::remove_file(scene.scene.recovery.join(TARGET)).unwrap();
    assert!(prefetcher.lives());
    assert_eq!(scene.restored_all(2..=3), 2);
}

#[test]
fn relative_paths_mean_the_same_for_it() {
    let scene = PrefetchScene::with(1..=3);
    let sandbox = &scene.scene.sandbox;
    sandbox.file("relative.toml", "prefetch_size = \"1MB\"");
    let call = |number| {
        let mut call = scene.scene.recovery.run(sandbox.walkeep_restore());
        call.args(["--archive", scene.scene.archive.url(), "--config", "../relative.toml"]);
        call.args(["--spool", &sandbox.join("relative").display().to_string()]);
        call.args(["-v", &name(number), TARGET]);
        restored_by(call, &scene.scene.recovery, &name(number))
    };
    assert_eq!(call(1), From::Archive);
    scene.prefetchers.wait_until_held(1);
    assert_eq!(call(2), From::Prefetcher);
    scene.prefetchers.wait_until_held(1);
    assert_eq!(call(3), From::Prefetcher);
    scene.prefetchers.wait_until_none();
    assert_eq!(left_in_spools(&sandbox.join("relative")), [""; 0]);
}

#[test]
fn invalid_arguments_end_it_at_once() {
    let scene = PrefetchScene::with(1..=3);
    for bytes in ["0", "17", "1048577", "x", ""] {
        let option = format!("--prefetch-after={bytes}");
        let outcome = outcome_of(scene.call_with(&[&option], &scene.scene.recovery, &name(1)));
        assert_ne!(outcome.status, 0, "{bytes}");
        assert!(!scene.scene.recovery.join(TARGET).exists(), "{bytes}");
    }
    assert!(scene.prefetchers.all().is_empty());
}
