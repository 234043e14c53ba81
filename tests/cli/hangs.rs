//! Threads that hang in a file system block no process: each program ends within its time limit, on a signal, and
//! when its work is done.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    data_directory::SEGMENT,
    kept::{archived_backup, archived_segment, days_ago},
    prefetcher::Prefetchers,
    push::{Pusher, succeeds},
    ready::{name, note, pusher_with, unmark_all},
    restore::{SYSTEM, Scene, TARGET},
    running::{Outcome, Running, outcome_of},
    sandbox::Sandbox,
    store::fault::{
        Fault,
        Matching::{Any, Of, PutsOf},
    },
    store_cluster::CallOutput,
    store_scene::{StoreScene, key},
    strace::{end_of_hanging, hanging_at},
    wal_writer::WalWriter,
};

/// Much less than any time limit that must not be reached, and much more than a busy machine needs.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Returns a call of each program that opens the segment and hangs there, as on a network file system whose server failed, with
/// that time limit, and its exit status on failure.
fn calls(scene: &Scene, timeout: &str) -> [(Command, i32); 4] {
    let with = |mut command: Command, rest: &[&str]| {
        command.args(rest).args(["--archive", scene.archive.url(), "--timeout", timeout]);
        let mut command = hanging_at(&scene.file(SEGMENT), &scene.sandbox, &command);
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
    let (scene, _) = Scene::with_segment();
    let started = Instant::now();
    let running = calls(&scene, "1s").map(|(call, status)| (Running::start(call), status));
    for (running, status) in running {
        let Outcome { status: ended, stderr } = end_of_hanging(running);
        assert_eq!((ended, stderr.lines().count()), (status, 1), "{stderr}");
        assert!(stderr.contains("gave up after 1s, the time limit"), "{stderr}");
    }
    let took = started.elapsed();
    assert!(Duration::from_secs(1) <= took && took < PROMPTLY, "{took:?}");
}

#[test]
fn every_program_ends_on_a_signal() {
    let (scene, _) = Scene::with_segment();
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
        let Outcome { status: ended, stderr } = end_of_hanging(running);
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
    let started = Instant::now();
    let push = hanging_at(&note, &pusher.sandbox, &pusher.push(&name(2)));
    let Outcome { status, stderr } = end_of_hanging(Running::start(push));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
}

#[test]
fn a_restore_that_is_done_does_not_wait_for_its_data_directory_to_answer() {
    let (scene, content) = Scene::with_segment();
    let _prefetchers = Prefetchers::of(&scene.sandbox);
    scene.standby.file("postmaster.pid", "1\n");
    let mut restore = scene.standby.run(scene.sandbox.walkeep_restore());
    restore.args(["--archive", scene.archive.url(), "--timeout", "1h", SEGMENT, TARGET]);
    restore.args(["--system-identifier", &SYSTEM.to_string()]);
    let restore = hanging_at(Path::new("postmaster.pid"), &scene.sandbox, &restore);
    let started = Instant::now();
    let Outcome { status, stderr } = end_of_hanging(Running::start(restore));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
    assert!(fs::read(scene.standby.join(TARGET)).unwrap() == content);
}

/// The commands without a time limit for the whole, each with its required arguments.
const LONG: [&[&str]; 3] = [&["list"], &["verify"], &["prune", "--keep-backups", "1"]];

/// Asserts that each of these commands ends with status 1 and this message, in one line, although the archive hangs. A
/// warning may precede it, that the hang could not be noted in the archive.
fn each_ends(words: &str, calls: impl Iterator<Item = Command>) {
    let started = Instant::now();
    let running: Vec<Running> = calls.map(Running::start).collect();
    for running in running {
        let Outcome { status, stderr } = end_of_hanging(running);
        let errors: Vec<_> =
            stderr.lines().filter(|line| !line.contains("will not know of this run")).collect();
        assert_eq!((status, errors.len()), (1, 1), "{stderr}");
        assert!(errors[0].contains(words), "{stderr}");
    }
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
}

#[test]
fn a_command_for_the_archive_ends_once_nothing_has_moved_for_its_time_limit() {
    let system = SYSTEM.to_string();
    let words = "gave up, because nothing has moved for 2s; does ";
    let (scene, _) = Scene::with_segment();
    let call = |tool: &[&str], more: &[&str]| {
        let mut command = scene.sandbox.walkeep();
        command.args(tool).args(["--archive", scene.archive.url(), "--timeout", "2s"]).args(more);
        let control = scene.standby.join("global/pg_control");
        let mut command = hanging_at(&control, &scene.sandbox, &command);
        command.stdout(Stdio::null());
        command
    };
    let data = scene.standby.join("");
    each_ends(words, LONG.iter().map(|tool| call(tool, &["--pgdata", data.to_str().unwrap()])));
    each_ends(words, std::iter::once(call(&["backfill"], &["--pgdata", data.to_str().unwrap()])));
    for tool in ["status", "check"] {
        let started = Instant::now();
        let Outcome { status, stderr } =
            end_of_hanging(Running::start(call(&[tool], &["--pgdata", data.to_str().unwrap()])));
        assert_eq!(status, 1, "{tool}: {stderr}");
        assert!(started.elapsed() < PROMPTLY, "{tool}: {:?}", started.elapsed());
    }
    let (mut store, _) = StoreScene::with_segment();
    store.set("AWS_READ_TIMEOUT", "1h");
    store.store.break_with(Any, Fault::Hang);
    let call = |tool: &&[&str]| {
        let mut command = store.command(&store.primary, store.sandbox.walkeep());
        command.args(*tool).args(["--timeout", "2s", "--system-identifier", &system]);
        command.stdout(Stdio::null());
        command
    };
    each_ends(words, LONG.iter().map(call));
}

#[test]
fn what_a_verify_found_before_the_store_hung_is_printed_and_noted() {
    let mut scene = StoreScene::new();
    scene.set("AWS_READ_TIMEOUT", "1h");
    for number in 1..=8 {
        let mut bytes = archived_segment(&name(number), days_ago(3));
        if number == 2 {
            *bytes.last_mut().unwrap() ^= 1;
        }
        scene.store.put(&key(&name(number)), bytes);
    }
    let (backup, bytes) = archived_backup(1, 1, 1, "nightly", days_ago(2));
    scene.store.put(&key(&backup), bytes);
    scene.store.break_with(Of("000000010000000000000005"), Fault::Hang);
    let mut verify = scene.command(&scene.primary, scene.sandbox.walkeep());
    verify.args(["verify", "--system-identifier", &SYSTEM.to_string(), "--timeout", "4s"]);
    let output = CallOutput::of(verify);
    let hung = "gave up, because nothing has moved for 4s";
    output.is_error(1, &[hung, "--resume"]);
    assert!(output.text().contains(&name(2)), "{}", output.text());
    let report = scene.store.get(&format!("main/{SYSTEM}/reports/verify.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert!(report["error"].as_str().unwrap().contains(hung), "{report:#}");
    assert_eq!(report["content_failures"], 1, "{report:#}");
}

#[test]
fn what_a_backfill_archived_before_the_store_hung_is_printed() {
    let mut scene = StoreScene::with_conditional_put("yes");
    scene.set("AWS_READ_TIMEOUT", "1h");
    let mut wal = WalWriter::new(SYSTEM, 1, 1, 1 << 20);
    (0..4).for_each(|_| wal.fill());
    wal.record(100);
    for (segment, number) in wal.segments().iter().zip(1..) {
        scene.primary.file(&format!("pg_wal/{}", name(number)), segment);
    }
    succeeds(scene.push(&name(1)));
    scene.store.break_with(PutsOf("000000010000000000000004"), Fault::Hang);
    let mut backfill = scene.command(&scene.primary, scene.sandbox.walkeep());
    backfill.args(["backfill", "--timeout", "4s", "--pgdata"]).arg(scene.primary.join(""));
    let output = CallOutput::of(backfill);
    output.is_error(1, &["stopped with 1 file not archived"]);
    assert!(output.stderr.contains("gave up, because nothing has moved for 4s"), "{}", output.stderr);
    for number in 2..=3 {
        assert!(output.text().contains(&format!("archived {}\n", name(number))), "{}", output.text());
    }
}

/// Returns a prune that asks two servers, whose psql takes that many seconds for each answer.
fn prune_with_slow_psql(sandbox: &Sandbox, archive: &str, seconds: &str) -> Command {
    let tools = sandbox.directory(format!("tools-{seconds}"));
    let psql = tools.join("psql");
    let answer = format!("sleep {seconds}\ncase \"$*\" in *system_identifier*) echo {SYSTEM} ;; esac");
    fs::write(&psql, format!("#!/bin/sh\n{answer}\n")).unwrap();
    fs::set_permissions(&psql, fs::Permissions::from_mode(0o755)).unwrap();
    let mut prune = sandbox.walkeep();
    prune.args([
        "prune",
        "--archive",
        archive,
        "--system-identifier",
        &SYSTEM.to_string(),
        "--keep-wal-days",
        "1",
    ]);
    prune.args(["--timeout", "2s", "--pg-url", "host=first", "--pg-url", "host=second"]);
    prune.env("PATH", format!("{}:/usr/bin:/bin", tools.display())).stdout(Stdio::null());
    prune
}

#[test]
fn servers_that_answer_slowly_are_waited_for_and_one_that_does_not_answer_is_named() {
    let (scene, _) = Scene::with_segment();
    let Outcome { status, stderr } =
        outcome_of(prune_with_slow_psql(&scene.sandbox, scene.archive.url(), "0.6"));
    assert_eq!((status, stderr.as_str()), (0, ""));
    let Outcome { status, stderr } =
        outcome_of(prune_with_slow_psql(&scene.sandbox, scene.archive.url(), "5"));
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains("nothing has moved for 2s; does the server at host=first answer?"), "{stderr}");
}

#[test]
fn a_command_ends_at_the_limit_of_the_whole_although_something_moves() {
    let (mut scene, _) = StoreScene::with_segment();
    scene.set("AWS_READ_TIMEOUT", "1h");
    scene.store.break_with(Any, Fault::Trickle);
    let system = SYSTEM.to_string();
    let call = |tool: &&[&str]| {
        let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
        command.args(*tool).args(["--give-up-after", "2s", "--system-identifier", &system]);
        command.stdout(Stdio::null());
        command
    };
    each_ends("gave up after 2s, as --give-up-after says", LONG.iter().map(call));
}

#[test]
fn each_command_says_what_its_time_limit_is_for() {
    let sandbox = Sandbox::new();
    let help = |mut command: Command, of: &[&str]| {
        let output = command.args(of).arg("--help").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let says = |text: String, words: &str| assert!(text.contains(words), "{words}: {text}");
    says(help(sandbox.walkeep_archive(), &[]), "for a 16 MB segment; more in proportion");
    says(help(sandbox.walkeep_restore(), &[]), "[default: 5m; on a standby 30s]");
    says(help(sandbox.walkeep(), &["cat"]), "[default: 5m]");
    for tool in ["check", "status"] {
        says(help(sandbox.walkeep(), &[tool]), "Time limit of the whole command, such as 30s [default: 1m]");
    }
    for tool in ["list", "verify", "prune", "backfill"] {
        let text = help(sandbox.walkeep(), &[tool]);
        assert!(text.contains("--give-up-after <DURATION>"), "{text}");
        says(text, "an archive that hangs ends the command [default: 1m]");
    }
}
