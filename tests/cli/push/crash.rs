//! Crashes of a push: at any moment the archive has the complete file or none under its name, and the next push
//! succeeds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    data_directory::{SEGMENT, segment},
    push::{Pusher, SYSTEM, files_below, succeeds},
    running::{Running, outcome_of},
    strace::{Change, changes_of, trace},
    tmpfs::Tmpfs,
    wait_until,
};

const SIGKILL: i32 = 9;

/// Asserts that the archive is intact and that the next push succeeds, and empties the archive. Returns the duration
/// of the push.
fn assert_sound_after_crash(pusher: &Pusher, content: &[u8], when: &str) -> Duration {
    if pusher.file(SEGMENT).exists() {
        assert!(pusher.original(SEGMENT) == content, "{when}");
    }
    let started = Instant::now();
    succeeds(pusher.push(SEGMENT));
    let took = started.elapsed();
    assert!(pusher.original(SEGMENT) == content, "{when}");
    empty(pusher);
    took
}

fn empty(pusher: &Pusher) {
    fs::remove_dir_all(Path::new(pusher.archive.url()).join(SYSTEM.to_string())).unwrap();
}

/// Runs a push and kills it after that time, unless it has ended.
fn push_killed_after(pusher: &Pusher, delay: Duration) -> ExitStatus {
    let mut child = pusher.push(SEGMENT).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap()
}

#[test]
fn a_push_killed_at_any_moment_leaves_the_complete_file_or_none_and_the_next_succeeds() {
    const RUNS: u32 = 40;
    let pusher = Pusher::new();
    let content = segment(SEGMENT, SYSTEM, 16 << 20, 0);
    pusher.data.file(&format!("pg_wal/{SEGMENT}"), &content);
    let mut whole = assert_sound_after_crash(&pusher, &content, "before any crash");

    let mut killed = 0;
    for run in 0..RUNS {
        let delay = whole * run / RUNS;
        let status = push_killed_after(&pusher, delay);
        assert!(status.success() || status.signal() == Some(SIGKILL), "{status}");
        killed += u32::from(!status.success());
        // Measured each time, because the machine's other load varies.
        whole = assert_sound_after_crash(&pusher, &content, &format!("killed after {delay:?}"));
    }
    assert!(killed > RUNS / 2, "only {killed} of {RUNS} were killed before they had ended");
}

/// Returns the changes in the archive made by a push, from the first directory to the removal of the staging file;
/// empties the archive.
fn changes_of_a_push(pusher: &Pusher) -> Vec<Change> {
    let (outcome, calls) = trace(&pusher.sandbox, &pusher.push(SEGMENT));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let changes = changes_of(&calls, Path::new(pusher.archive.url()));
    empty(pusher);
    changes
}

#[test]
fn a_push_killed_before_any_change_of_the_archive_leaves_the_complete_file_or_none() {
    let pusher = Pusher::new();
    let content = pusher.data.segment(SEGMENT, 0);
    let changes = changes_of_a_push(&pusher);
    let naming = changes.iter().position(|change| change.is("link", &pusher.file(SEGMENT))).unwrap();
    for (step, change) in changes.iter().enumerate() {
        let outcome = outcome_of(change.replaced("signal=KILL", &pusher.sandbox, &pusher.push(SEGMENT)));
        assert_eq!(outcome.status, -SIGKILL, "{change:?}: {}", outcome.stderr);
        assert_eq!(pusher.file(SEGMENT).exists(), step > naming, "{change:?}");
        assert_sound_after_crash(&pusher, &content, &format!("killed before {change:?}"));
    }
}

#[test]
fn a_push_stopped_while_it_publishes_leaves_no_staging_file() {
    let pusher = Pusher::new();
    let content = pusher.data.segment(SEGMENT, 0);
    let changes = changes_of_a_push(&pusher);
    // It has a second to finish, and flushing to a busy disk may take that long.
    let archive = Path::new(pusher.archive.url());
    let tmpfs = Tmpfs::mount(archive, 8 << 20);
    let seen = tmpfs.seen_outside(archive);
    let key = pusher.file(SEGMENT).strip_prefix(archive).unwrap().to_str().unwrap().to_owned();
    let staged = changes.iter().position(|change| change.is("open", &change.path)).unwrap();
    let staging_file = tmpfs.seen_outside(&changes[staged].path);
    let name = tmpfs.seen_outside(&pusher.file(SEGMENT));
    for (signal, call) in [(Signal::TERM, "write"), (Signal::INT, "link"), (Signal::QUIT, "unlink")] {
        let change = changes[staged..].iter().find(|change| change.is(call, &change.path)).unwrap();
        let running = Running::start(tmpfs.run(&change.held(
            Duration::from_millis(500),
            &pusher.sandbox,
            &pusher.push(SEGMENT),
        )));
        wait_until(&format!("{call} is about to happen"), || match call {
            "write" => staging_file.exists(),
            "link" => fs::metadata(&staging_file).is_ok_and(|file| file.len() > 1024),
            _ => name.exists(),
        });
        running.signal(signal);
        let outcome = running.end();
        let files = files_below(&seen);
        match outcome.status {
            0 => assert_eq!(files, [&*key], "{signal:?} before {call}"),
            1 => assert!(files.is_empty() || files == [&*key], "{signal:?} before {call}: {files:?}"),
            status => panic!("{signal:?} before {call}: {status}, {}", outcome.stderr),
        }
        succeeds(tmpfs.run(&pusher.push(SEGMENT)));
        let mut cat = pusher.sandbox.walkeep();
        cat.args(["cat", "--archive", pusher.archive.url(), SEGMENT]);
        assert!(tmpfs.run(&cat).output().unwrap().stdout == content, "{signal:?} before {call}");
        fs::remove_dir_all(seen.join(SYSTEM.to_string())).unwrap();
    }
}
