//! Look-ahead: one call also archives the files that the server will pass next, and their own calls find that done.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    data_directory::DataDirectory,
    files::names_in,
    push::{HISTORY, HISTORY_CONTENT, Pusher, SYSTEM, fails, succeeds},
    ready::{archived, is_acknowledged, make_ready, name, names, pusher_with, said},
    running::{Outcome, Running, outcome_of},
    store::{
        Store,
        fault::{Fault, Matching},
    },
    user,
    wrapper::wrapped,
};

#[test]
fn one_call_archives_all_ready_files_and_later_calls_find_them_archived() {
    let pusher = pusher_with(1..=9);
    pusher.data.file("pg_wal/00000002.history", HISTORY_CONTENT);
    pusher.data.file("pg_wal/archive_status/00000002.history.ready", "");
    succeeds(pusher.push(&name(1)));
    assert_eq!(archived(&pusher), names(1..=9));
    assert!(pusher.original(HISTORY) == HISTORY_CONTENT.as_bytes());
    for number in 2..=9 {
        assert!(is_acknowledged(&pusher, number), "{number}");
        assert!(
            pusher.original(&name(number))
                == fs::read(pusher.data.join(&format!("pg_wal/{}", name(number)))).unwrap()
        );
    }
    assert!(said(pusher.push(HISTORY)).contains("archived by an earlier call"));
}

#[test]
fn the_servers_marks_are_left_to_the_server() {
    let pusher = pusher_with(1..=3);
    let before = names_in(&pusher.data.join("pg_wal/archive_status"));
    succeeds(pusher.push(&name(1)));
    assert_eq!(names_in(&pusher.data.join("pg_wal/archive_status")), before);
}

#[test]
fn an_acknowledgement_ends_with_its_first_use_and_with_any_change_of_the_file() {
    let pusher = pusher_with(1..=4);
    succeeds(pusher.push(&name(1)));
    assert!(is_acknowledged(&pusher, 2));
    assert!(said(pusher.push(&name(2))).contains("already archived"), "the second time it is compared");
    let wal = pusher.data.join(&format!("pg_wal/{}", name(3)));
    let content = fs::read(&wal).unwrap();
    pusher.data.file(&format!("pg_wal/{}", name(3)), &content);
    assert!(said(pusher.push(&name(3))).contains("already archived"), "written anew, with the same content");
    pusher.data.segment(&name(4), 77);
    fails(3, pusher.push(&name(4)), &[&name(4), "different content"]);
}

#[test]
fn an_acknowledgement_holds_for_one_data_directory_and_one_archive() {
    let pusher = pusher_with(1..=3);
    succeeds(pusher.push(&name(1)));
    let clone = DataDirectory::new(&pusher.sandbox, "clone", SYSTEM);
    make_ready(&clone, [2]);
    // The clone's file is a different one even if it is a hard link, because its data directory differs.
    let link = clone.join(&format!("pg_wal/{}", name(2)));
    fs::remove_file(&link).unwrap();
    fs::hard_link(pusher.data.join(&format!("pg_wal/{}", name(2))), &link).unwrap();
    let mut push = clone.run(pusher.sandbox.walkeep_archive());
    push.args(["--archive", pusher.archive.url()]).arg(format!("pg_wal/{}", name(2)));
    assert!(said(push).contains("already archived"));
    let other = pusher.sandbox.directory("other");
    let mut push = pusher.program();
    push.arg("--archive").arg(&other).arg(format!("pg_wal/{}", name(3)));
    assert!(!said(push).contains("earlier call"));
    assert!(other.join(SYSTEM.to_string()).join("wal/0000000100000000").join(name(3)).exists());
}

#[test]
fn a_directory_that_replaces_the_archive_is_another_archive() {
    let pusher = pusher_with(1..=2);
    succeeds(pusher.push(&name(1)));
    pusher.archive.vanish();
    fs::create_dir(pusher.archive.url()).unwrap();
    user::hand_over(std::path::Path::new(pusher.archive.url()));
    assert!(!said(pusher.push(&name(2))).contains("earlier call"));
    assert!(archived(&pusher).contains(&name(2)));
}

#[test]
fn a_bad_additional_file_is_left_to_its_own_call() {
    let pusher = pusher_with([1, 2, 4, 5]);
    pusher.data.file(&format!("pg_wal/{}", name(2)), "short");
    pusher.data.file(&format!("pg_wal/archive_status/{}.ready", name(3)), "");
    succeeds(pusher.push(&name(1)));
    assert_eq!(archived(&pusher), names([1, 4, 5]));
    fails(4, pusher.push(&name(2)), &[&name(2)]);
    fails(1, pusher.push(&name(3)), &[&name(3)]);
}

#[test]
fn the_number_of_additional_files_can_be_limited() {
    for (files, expected) in [(0, 1..=1), (2, 1..=3)] {
        let pusher = pusher_with(1..=5);
        let configuration = pusher.sandbox.file("walkeep.toml", format!("look_ahead_files = {files}"));
        succeeds(pusher.push_with(&["--config", configuration.to_str().unwrap()], &name(1)));
        assert_eq!(archived(&pusher), names(expected), "{files}");
    }
}

#[test]
fn without_a_private_spool_a_call_archives_only_its_own_file() {
    let pusher = pusher_with(1..=3);
    let spool = pusher.sandbox.directory("spool");
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o755)).unwrap();
    let text = said(pusher.push(&name(1)));
    assert!(text.contains("goes without a spool"), "{text}");
    assert_eq!(archived(&pusher), names([1]));
}

#[test]
fn a_corrupt_or_missing_spool_only_costs_time() {
    let pusher = pusher_with(1..=4);
    succeeds(pusher.push(&name(1)));
    let spool = pusher.sandbox.join("spool");
    let inside = spool.join(&names_in(&spool)[0]);
    let acknowledgement = |number| inside.join(format!("{}.archived", name(number)));
    fs::write(acknowledgement(2), "walkeep acknowledgement 1\n").unwrap();
    assert!(said(pusher.push(&name(2))).contains("already archived"));
    fs::remove_file(acknowledgement(3)).unwrap();
    assert!(said(pusher.push(&name(3))).contains("already archived"));
    fs::remove_dir_all(&spool).unwrap();
    assert!(said(pusher.push(&name(4))).contains("already archived"));
}

#[test]
fn concurrent_calls_archive_the_same_additional_files_and_all_succeed() {
    let pusher = pusher_with(1..=20);
    let calls = [1, 2, 3].map(|number| Running::start(pusher.push(&name(number))));
    for call in calls {
        let Outcome { status, stderr } = call.end();
        assert_eq!((status, stderr.as_str()), (0, ""));
    }
    assert_eq!(archived(&pusher), names(1..=20));
    for number in 1..=20 {
        succeeds(pusher.push(&name(number)));
    }
}

#[test]
fn calls_after_one_that_was_killed_at_any_moment_complete_its_work() {
    let pusher = pusher_with(1..=30);
    for attempt in 0..20u64 {
        let call = Running::start(pusher.push(&name(1)));
        thread::sleep(Duration::from_millis(attempt * 4));
        call.signal(Signal::KILL);
        call.end();
    }
    // It may say that a call was killed.
    assert_eq!(outcome_of(pusher.push(&name(1))).status, 0);
    for number in 1..=30 {
        succeeds(pusher.push(&name(number)));
        let wal = fs::read(pusher.data.join(&format!("pg_wal/{}", name(number)))).unwrap();
        assert!(pusher.original(&name(number)) == wal, "{number}");
    }
}

/// Starts a slow push of the first file, and returns once it has archived another one.
fn looking_ahead(pusher: &Pusher) -> Running {
    let mut push = pusher.push(&name(1));
    push.args(["--compression-level", "19"]);
    let call = Running::start(push);
    support::wait_until("a neighbour is archived", || archived(pusher).len() > 1);
    call
}

#[test]
fn a_call_after_one_that_was_killed_while_it_looked_ahead_archives_its_own_file_only() {
    let pusher = pusher_with(1..=40);
    let call = looking_ahead(&pusher);
    call.signal(Signal::KILL);
    assert_eq!(call.end().status, -9);
    let before = archived(&pusher);
    let Outcome { status, stderr } = outcome_of(pusher.push(&name(1)));
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("a call was killed while it archived other files"), "{stderr}");
    assert_eq!(archived(&pusher), before);
    // Once is enough.
    succeeds(pusher.push(&name(1)));
    // The killed call may have left staging files.
    let complete = archived(&pusher).into_iter().filter(|name| !name.contains('#')).collect::<Vec<_>>();
    assert_eq!(complete, names(1..=40));
}

#[test]
fn sigterm_during_the_look_ahead_is_no_failure_of_the_file_itself() {
    let pusher = pusher_with(1..=40);
    let call = looking_ahead(&pusher);
    let stopped = Instant::now();
    call.signal(Signal::TERM);
    assert_eq!(call.end().status, 0);
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    assert!(archived(&pusher).len() < 40);
}

#[test]
fn compression_follows_the_backlog_if_configured() {
    let stored = |numbers: std::ops::RangeInclusive<usize>, compression: &[&str]| {
        let pusher = pusher_with(numbers);
        succeeds(pusher.push_with(compression, &name(1)));
        pusher.stored(&name(1)).len()
    };
    let auto = ["--compression=auto"];
    // The header does not contain the level, but the size shows it.
    for (numbers, level) in [(1..=1, "6"), (1..=10, "1"), (1..=70, "-1")] {
        let fixed = stored(1..=1, &["--compression-level", level]);
        assert_eq!(stored(numbers, &auto), fixed, "level {level}");
    }
    assert_ne!(stored(1..=1, &auto), stored(1..=1, &["--compression-level=1"]), "the levels differ in size");
}

#[test]
fn a_hanging_archive_directory_blocks_no_call_beyond_its_time_limit() {
    let pusher = pusher_with(1..=3);
    let mut strace = pusher.sandbox.command("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-P", pusher.archive.url()]);
    strace.args(["-e", "inject=stat,statx,newfstatat:delay_enter=10000000"]);
    let mut push = wrapped(strace, &pusher.push_with(&["--timeout", "3s"], &name(1)));
    push.env_remove("LD_LIBRARY_PATH");
    let started = Instant::now();
    let mut call = Running::start(push);
    // strace delays the end until its own delay is over; the time at which the call gives up counts.
    let line = call.line().unwrap();
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    assert!(line.contains("gave up after 3s, the time limit"), "{line}");
    assert_eq!(call.end().status, 1);
}

/// Returns the push into a bucket of `store`.
fn push_into(store: &Store, pusher: &Pusher, number: usize) -> Command {
    let mut push = pusher.program();
    push.envs(store.environment())
        .args(["--archive", "s3://wal/main"])
        .arg(format!("pg_wal/{}", name(number)));
    push
}

#[test]
fn additional_files_are_sent_over_a_few_connections() {
    let store = Store::new();
    let pusher = pusher_with(1..=30);
    succeeds(push_into(&store, &pusher, 1));
    assert_eq!(store.keys().len(), 30);
    // Each file takes two requests. Twelve run at a time, and the pool may open a connection when one is about to
    // become idle.
    assert!((2..30).contains(&store.connections()), "{}", store.connections());
    store.forget_requests();
    let text = said(push_into(&store, &pusher, 2));
    assert!(text.contains("archived by an earlier call"), "{text}");
    assert_eq!(store.requests().len(), 0);
}

const LATER: Fault = Fault::Answer { status: 503, code: "SlowDown", message: "Later." };

#[test]
fn an_unavailable_store_is_not_asked_for_the_whole_backlog() {
    let store = Store::new();
    let pusher = pusher_with(1..=30);
    store.break_with(Matching::Any, LATER);
    let mut push = push_into(&store, &pusher, 1);
    push.args(["--timeout", "1s"]);
    assert_eq!(outcome_of(push).status, 1);
    assert!(store.requests().iter().all(|request| request.path.ends_with(&name(1))));
}

#[test]
fn a_store_that_fails_after_the_file_itself_fails_only_files_in_progress() {
    let store = Store::new();
    let alone = pusher_with([1]);
    succeeds(push_into(&store, &alone, 1));
    let pusher = pusher_with(1..=30);
    store.break_with(Matching::Puts, LATER);
    store.forget_requests();
    // The call's own file is archived already.
    succeeds(push_into(&store, &pusher, 1));
    let puts = store.requests().iter().filter(|request| request.method == "PUT").count();
    assert!((1..=13).contains(&puts), "{puts}");
    assert_eq!(store.keys().len(), 1);
    store.heal();
    succeeds(push_into(&store, &pusher, 2));
    assert_eq!(store.keys().len(), 30);
}
