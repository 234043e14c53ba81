//! Segments too large for memory, archived into a directory: the same guarantees as for others.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, path::Path, time::Duration};

use rustix::process::Signal;
use support::{
    data_directory::{DataDirectory, SEGMENT},
    large::{LARGE, make_ready, name, same_content, segment_of},
    push::{Pusher, SYSTEM, fails, succeeds},
    restore::TARGET,
    running::{Running, outcome_of},
    strace::{changes_of, trace},
    tmpfs::Tmpfs,
    wait_until,
};

/// Longer than a push continues after a stop signal.
const LONGER_THAN_GRACE: Duration = Duration::from_secs(4);

const SEGMENT_KEY: &str = support::push::SEGMENT_KEY;

fn pusher_with_segment() -> Pusher {
    let pusher = Pusher::new();
    segment_of(&pusher.data, SYSTEM, SEGMENT, LARGE, 1);
    pusher
}

/// Asserts that a restore returns the content of `pg_wal`.
fn assert_comes_back(pusher: &Pusher) {
    let mut restore = pusher.data.run(pusher.sandbox.walkeep_restore());
    restore.args(["--archive", pusher.archive.url(), "--prefetch-size", "0MB", SEGMENT, TARGET]);
    succeeds(restore);
    let restored = pusher.data.join(TARGET);
    assert!(same_content(&restored, &pusher.data.join(&format!("pg_wal/{SEGMENT}"))));
    fs::remove_file(restored).unwrap();
}

#[test]
fn a_large_segment_is_archived_once_and_never_overwritten() {
    let pusher = pusher_with_segment();
    succeeds(pusher.push(SEGMENT));
    assert!(fs::metadata(pusher.file(SEGMENT)).unwrap().len() > LARGE, "nothing compresses it");
    assert_comes_back(&pusher);
    succeeds(pusher.push(SEGMENT));
    let before = fs::metadata(pusher.file(SEGMENT)).unwrap().modified().unwrap();
    segment_of(&pusher.data, SYSTEM, SEGMENT, LARGE, 2);
    fails(3, pusher.push(SEGMENT), &["different content"]);
    assert_eq!(fs::metadata(pusher.file(SEGMENT)).unwrap().modified().unwrap(), before);
    assert_eq!(pusher.files(), [SEGMENT_KEY]);
    assert_eq!(support::push::files_below(&pusher.sandbox.join("spool")), [""; 0]);
}

#[test]
fn of_several_concurrent_pushes_one_wins() {
    let pusher = Pusher::new();
    let servers = ["one", "two", "three"].map(|name| DataDirectory::new(&pusher.sandbox, name, SYSTEM));
    for (server, seed) in servers.iter().zip([1, 1, 2]) {
        segment_of(server, SYSTEM, SEGMENT, LARGE, seed);
    }
    let running = servers.each_ref().map(|server| {
        let mut push = server.run(pusher.sandbox.walkeep_archive());
        push.args(["--archive", pusher.archive.url()]).arg(format!("pg_wal/{SEGMENT}"));
        Running::start(push)
    });
    let statuses = running.map(|push| push.end().status);
    assert!(statuses == [0, 0, 3] || statuses == [3, 3, 0], "{statuses:?}");
    assert_eq!(pusher.files(), [SEGMENT_KEY]);
}

#[test]
fn additional_large_files_are_archived() {
    let pusher = Pusher::new();
    make_ready(&pusher.data, SYSTEM, 3, LARGE);
    succeeds(pusher.push(&name(1)));
    for number in 2..=3 {
        let outcome = outcome_of(pusher.push_with(&["-v"], &name(number)));
        assert!(outcome.stderr.contains("archived by an earlier call"), "{}", outcome.stderr);
        let mut restore = pusher.data.run(pusher.sandbox.walkeep_restore());
        restore.args(["--archive", pusher.archive.url(), &name(number), TARGET]);
        succeeds(restore);
        let wal = pusher.data.join(&format!("pg_wal/{}", name(number)));
        assert!(same_content(&pusher.data.join(TARGET), &wal), "{number}");
    }
    assert_eq!(pusher.files().len(), 3);
}

/// Lists the staging files in the archive.
fn staged(pusher: &Pusher) -> Vec<String> {
    pusher.files().into_iter().filter(|file| file.contains('#')).collect()
}

/// Starts a push that pauses before it links the final name, when everything is written.
fn push_held_before_naming(pusher: &Pusher, pause: Duration) -> Running {
    let (outcome, calls) = trace(&pusher.sandbox, &pusher.push(SEGMENT));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    fs::remove_file(pusher.file(SEGMENT)).unwrap();
    let changes = changes_of(&calls, Path::new(pusher.archive.url()));
    let naming = changes.iter().find(|change| change.is("link", &pusher.file(SEGMENT))).unwrap();
    let running = Running::start(naming.held(pause, &pusher.sandbox, &pusher.push(SEGMENT)));
    let is_whole = |file: &String| {
        fs::metadata(Path::new(pusher.archive.url()).join(file)).is_ok_and(|found| found.len() > LARGE)
    };
    wait_until("all is written", || staged(pusher).iter().any(is_whole));
    running
}

#[test]
fn a_killed_push_has_published_nothing_and_the_next_one_succeeds() {
    let pusher = pusher_with_segment();
    let push = push_held_before_naming(&pusher, LONGER_THAN_GRACE);
    push.signal(Signal::KILL);
    assert_eq!(push.end().status, -9);
    assert!(!pusher.file(SEGMENT).exists());
    assert_eq!(staged(&pusher).len(), 1, "nobody could remove it");
    succeeds(pusher.push(SEGMENT));
    assert_comes_back(&pusher);
    let mut cat = pusher.sandbox.walkeep();
    cat.args(["cat", "--archive", pusher.archive.url(), "000000010000000000000002"]);
    assert_eq!(cat.output().unwrap().status.code(), Some(1), "what is left is in nobody's way");
}

#[test]
fn a_stopped_push_leaves_no_staging_file() {
    for signal in [Signal::TERM, Signal::INT] {
        let pusher = pusher_with_segment();
        let push = push_held_before_naming(&pusher, LONGER_THAN_GRACE);
        push.signal(signal);
        assert_eq!(push.end().status, 1);
        assert_eq!(pusher.files(), [""; 0]);
        succeeds(pusher.push(SEGMENT));
        assert_comes_back(&pusher);
    }
}

#[test]
fn a_full_archive_stays_unchanged() {
    let pusher = pusher_with_segment();
    let archive = Path::new(pusher.archive.url());
    let tmpfs = Tmpfs::mount(archive, LARGE + (16 << 20));
    tmpfs.fill(1 << 20);
    let words = [SEGMENT, pusher.archive.url(), "No space left on device", "free some space there"];
    fails(1, tmpfs.run(&pusher.push(SEGMENT)), &words);
    assert_eq!(support::push::files_below(&tmpfs.seen_outside(archive)), ["ballast"]);
    tmpfs.free();
    succeeds(tmpfs.run(&pusher.push(SEGMENT)));
    assert_eq!(support::push::files_below(&tmpfs.seen_outside(archive)), [SEGMENT_KEY]);
}

#[test]
fn a_full_spool_is_named_and_nothing_is_archived_until_it_has_space() {
    let pusher = pusher_with_segment();
    let spool = pusher.sandbox.directory("spool");
    let tmpfs = Tmpfs::mount(&spool, LARGE + (16 << 20));
    tmpfs.fill(64 << 20);
    let words = [SEGMENT, spool.to_str().unwrap(), "No space left on device", "set spool to"];
    fails(1, tmpfs.run(&pusher.push(SEGMENT)), &words);
    assert_eq!(pusher.files(), [""; 0]);
    assert_eq!(support::push::files_below(&tmpfs.seen_outside(&spool)), ["ballast"]);
    tmpfs.free();
    succeeds(tmpfs.run(&pusher.push(SEGMENT)));
    assert_comes_back(&pusher);
}

#[test]
fn an_unusable_spool_does_not_prevent_archiving() {
    let pusher = pusher_with_segment();
    pusher.sandbox.file("spool", "not a directory");
    succeeds(pusher.push(SEGMENT));
    assert_comes_back(&pusher);
}

#[test]
fn a_failing_disk_is_a_failure_and_leaves_nothing() {
    let pusher = pusher_with_segment();
    let next = "000000010000000000000002";
    segment_of(&pusher.data, SYSTEM, next, LARGE, 2);
    let (outcome, calls) = trace(&pusher.sandbox, &pusher.push(SEGMENT));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let archive = Path::new(pusher.archive.url());
    let changes = changes_of(&calls, archive);
    let directory = pusher.file(SEGMENT).parent().unwrap().to_owned();
    // With a file in it, the directory is flushed once: when it contains the new name.
    let named = changes.iter().find(|change| change.is("fsync", &directory)).unwrap();
    let flush = named.replaced("error=EIO", &pusher.sandbox, &pusher.push(next));
    fails(1, flush, &[next, "Input/output error"]);
    fs::remove_file(pusher.file(next)).unwrap();
    assert_eq!(pusher.files(), [SEGMENT_KEY], "no staging file");
}
