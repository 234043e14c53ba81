//! Acknowledgements: exit status 0 because of one means that the archive still has the file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use support::{
    data_directory::DataDirectory,
    files::{Permissions, names_in},
    push::{Pusher, SYSTEM, fails, succeeds},
    ready::{
        BY_AN_EARLIER_CALL, archived, copy_of_files, is_acknowledged, make_notes_old, name, names, note,
        only_spool, pusher_with, said, unmark_all,
    },
    running::{Running, outcome_of},
    strace::calls_of,
    tmpfs::Tmpfs,
    wrapper::wrapped,
};

/// Creates three segments, the first of which has been archived together with the others. Later calls archive only
/// their own files.
fn pusher_with_notes() -> Pusher {
    let pusher = pusher_with(1..=3);
    succeeds(pusher.push(&name(1)));
    unmark_all(&pusher.data);
    pusher
}

/// Asserts that a file that had disappeared is archived again.
fn is_archived_again(pusher: &Pusher, number: usize) {
    let name = name(number);
    let text = said(pusher.push(&name));
    assert!(!text.contains(BY_AN_EARLIER_CALL), "{text}");
    assert!(pusher.original(&name) == fs::read(pusher.data.join(&format!("pg_wal/{name}"))).unwrap());
}

#[test]
fn a_file_that_was_moved_out_of_the_archive_is_archived_by_its_own_call() {
    let pusher = pusher_with_notes();
    for number in [2, 3] {
        fs::rename(pusher.file(&name(number)), pusher.sandbox.join(name(number))).unwrap();
    }
    let text = said(pusher.push(&name(2)));
    assert!(
        text.contains("warning: ")
            && text.contains("no longer in the archive")
            && !text.contains(BY_AN_EARLIER_CALL),
        "{text}"
    );
    is_archived_again(&pusher, 3);
    assert_eq!(archived(&pusher), names(1..=3));
}

#[test]
fn an_archive_that_was_emptied_is_filled_again() {
    let pusher = pusher_with_notes();
    fs::remove_dir_all(Path::new(pusher.archive.url()).join(SYSTEM.to_string())).unwrap();
    for number in [2, 3] {
        is_archived_again(&pusher, number);
    }
    assert_eq!(archived(&pusher), names(2..=3));
}

#[test]
fn another_file_system_mounted_over_the_archive_is_filled_again() {
    let pusher = pusher_with(1..=3);
    let archive = Path::new(pusher.archive.url());
    let mut tmpfs = Tmpfs::mount(archive, 8 << 20);
    succeeds(tmpfs.run(&pusher.push(&name(1))));
    // The device number is often the same, and the inode always.
    tmpfs.mount_anew();
    for number in [2, 3] {
        assert_eq!(outcome_of(tmpfs.run(&pusher.push(&name(number)))).status, 0);
        let file = tmpfs.seen_outside(&pusher.file(&name(number)));
        assert!(file.exists(), "{}", file.display());
    }
}

#[test]
fn a_file_other_than_the_acknowledged_one_is_compared() {
    let pusher = pusher_with_notes();
    let stored = pusher.stored(&name(2));
    fs::write(pusher.file(&name(2)), &stored[..stored.len() - 1]).unwrap();
    fails(3, pusher.push(&name(2)), &[&name(2), "damaged"]);
    fs::write(pusher.file(&name(3)), []).unwrap();
    fails(3, pusher.push(&name(3)), &[&name(3), "damaged"]);
}

#[test]
fn another_servers_file_of_the_same_size_does_not_pass_for_ours() {
    let pusher = pusher_with(1..=2);
    succeeds(pusher.push_with(&["--compression=none"], &name(1)));
    let size = pusher.stored(&name(2)).len();
    fs::remove_file(pusher.file(&name(2))).unwrap();
    let other = DataDirectory::new(&pusher.sandbox, "other", SYSTEM);
    other.segment(&name(2), 99);
    succeeds(other.run(pusher.push_with(&["--compression=none"], &name(2))));
    assert_eq!(pusher.stored(&name(2)).len(), size);
    fails(3, pusher.push(&name(2)), &[&name(2), "different content"]);
}

#[test]
fn a_file_that_cannot_be_opened_in_the_archive_is_not_taken_for_archived() {
    let pusher = pusher_with_notes();
    let closed = Permissions::set(&pusher.file(&name(2)), 0o000);
    fails(1, pusher.push(&name(2)), &[&name(2), "Permission denied"]);
    drop(closed);
    assert!(is_acknowledged(&pusher, 2), "it was only out of reach");
}

#[test]
fn a_spool_restored_from_a_snapshot_acknowledges_no_missing_file() {
    let pusher = pusher_with_notes();
    let snapshot = pusher.sandbox.directory("snapshot");
    copy_of_files(&only_spool(&pusher.sandbox), &snapshot);
    assert!(is_acknowledged(&pusher, 2));
    copy_of_files(&snapshot, &only_spool(&pusher.sandbox));
    assert!(is_acknowledged(&pusher, 2), "it is there");
    copy_of_files(&snapshot, &only_spool(&pusher.sandbox));
    fs::remove_file(pusher.file(&name(2))).unwrap();
    is_archived_again(&pusher, 2);
}

#[test]
fn a_note_of_the_first_version_is_ignored() {
    let pusher = pusher_with_notes();
    let found = fs::metadata(pusher.data.join(&format!("pg_wal/{}", name(2)))).unwrap();
    let text = format!(
        "walkeep acknowledgement 1\n{}\n{} {} {}\n{}.{:09} {}.{:09}\n",
        name(2),
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec()
    );
    fs::write(note(&pusher.sandbox, 2), text).unwrap();
    assert!(said(pusher.push(&name(2))).contains("already archived"));
}

#[test]
fn in_a_directory_the_age_of_a_note_does_not_matter() {
    let pusher = pusher_with_notes();
    make_notes_old(&pusher.sandbox);
    assert!(is_acknowledged(&pusher, 2));
    fs::remove_file(pusher.file(&name(3))).unwrap();
    is_archived_again(&pusher, 3);
}

#[test]
fn an_archive_that_hangs_on_open_blocks_no_call_beyond_its_time_limit() {
    let pusher = pusher_with_notes();
    let mut strace = pusher.sandbox.command("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-P"]).arg(pusher.file(&name(2)));
    strace.args(["-e", "inject=openat:delay_enter=10000000"]);
    let mut push = wrapped(strace, &pusher.push_with(&["--timeout", "3s"], &name(2)));
    push.env_remove("LD_LIBRARY_PATH");
    let started = Instant::now();
    let mut call = Running::start(push);
    // strace delays the end until its own delay is over; the time at which the call gives up counts.
    let line = call.line().unwrap();
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    assert!(line.contains("gave up after 3s, the time limit"), "{line}");
    assert_eq!(call.end().status, 1);
}

/// Asserts that a call with additional files fails because of its own file.
fn fails_with_its_own_file(push: Command) {
    assert_eq!(outcome_of(push).status, 4);
}

#[test]
fn looking_ahead_asks_again_for_what_was_acknowledged_long_ago() {
    let pusher = pusher_with(1..=4);
    succeeds(pusher.push(&name(1)));
    pusher.data.file(&format!("pg_wal/{}", name(2)), "short");
    fs::remove_file(pusher.file(&name(3))).unwrap();
    let untouched = fs::metadata(pusher.file(&name(4))).unwrap().ino();
    fails_with_its_own_file(pusher.push(&name(2)));
    assert!(!pusher.file(&name(3)).exists(), "notes of this very moment count");
    make_notes_old(&pusher.sandbox);
    fails_with_its_own_file(pusher.push(&name(2)));
    assert!(pusher.file(&name(3)).exists());
    assert_eq!(fs::metadata(pusher.file(&name(4))).unwrap().ino(), untouched);
    // The call has recorded the file again.
    fs::remove_file(pusher.file(&name(4))).unwrap();
    fails_with_its_own_file(pusher.push(&name(2)));
    assert!(!pusher.file(&name(4)).exists());
}

#[test]
fn a_call_that_finds_its_file_acknowledged_opens_it_in_the_archive_and_starts_no_runtime() {
    let pusher = pusher_with(1..=3);
    let archive = fs::canonicalize(pusher.file(&name(2)).ancestors().nth(4).unwrap()).unwrap();
    let calls = ["openat", "?epoll_create", "epoll_create1", "eventfd2", "socket"];
    let first = calls_of(&pusher.sandbox, &calls, &pusher.push(&name(1)));
    assert!(first.iter().any(|call| call.name == "epoll_create1"), "what is looked for is there to be found");
    let acknowledged = calls_of(&pusher.sandbox, &calls, &pusher.push(&name(2)));
    let others: Vec<_> = acknowledged.iter().filter(|call| call.name != "openat").collect();
    assert!(others.iter().all(|call| call.name == "exit_group"), "{others:?}");
    let opened: Vec<_> = acknowledged
        .iter()
        .filter_map(|call| call.path())
        .filter(|path| path.starts_with(&archive))
        .collect();
    assert_eq!(opened, [archive.join(pusher.file(&name(2)).strip_prefix(&archive).unwrap())]);
}

#[test]
fn a_note_is_used_once() {
    let pusher = pusher_with_notes();
    fs::remove_file(pusher.file(&name(2))).unwrap();
    is_archived_again(&pusher, 2);
    assert_eq!(names_in(&only_spool(&pusher.sandbox)), [format!("{}.archived", name(3))]);
    assert!(is_acknowledged(&pusher, 3));
    assert_eq!(names_in(&only_spool(&pusher.sandbox)), [""; 0]);
}
