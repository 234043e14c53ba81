//! A segment that two servers have completed differently after a fork: the conflict error says so, with advice.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    data_directory::DataDirectory,
    push::{Pusher, SYSTEM, fails, succeeds},
    store_scene::StoreScene,
    user,
};

/// Segment in which timeline 2 left timeline 1, and its copy on timeline 2.
const FORKED: &str = "000000010000000000000002";
const CHILD: &str = "000000020000000000000002";
const HISTORY: &str = "00000002.history";
const FORK: usize = 0x4128;
const FORK_CONTENT: &str = "1\t0/204128\tno recovery target specified\n";

const ORDINARY: &str = "whether two servers share the archive";

/// Creates an archive with the files of timeline 2's server at the fork, and another server with the same segment of
/// timeline 1, which differs from `differs` on.
fn forked(differs: usize) -> (Pusher, DataDirectory) {
    let pusher = Pusher::new();
    let mut content = pusher.data.segment(FORKED, 0);
    pusher.data.file(&format!("pg_wal/{CHILD}"), &content);
    pusher.data.file(&format!("pg_wal/{HISTORY}"), FORK_CONTENT);
    for name in [FORKED, CHILD, HISTORY] {
        succeeds(pusher.push(name));
    }
    let other = DataDirectory::new(&pusher.sandbox, "other", SYSTEM);
    content[differs] ^= 1;
    other.file(&format!("pg_wal/{FORKED}"), content);
    (pusher, other)
}

fn with_history(server: &DataDirectory, content: &str) {
    server.file(&format!("pg_wal/{HISTORY}"), content);
}

#[test]
fn a_server_that_knows_the_fork_is_advised_to_give_up_its_file() {
    let (pusher, other) = forked(FORK);
    with_history(&other, FORK_CONTENT);
    let words = [
        "with different content",
        "timeline 2 left timeline 1 at 0/204128, inside this segment, and up to there both are the same",
        "leave the archive as it is",
    ];
    let line = fails(3, other.run(pusher.push(FORKED)), &words);
    assert!(!line.contains(ORDINARY) && !line.contains("mv "), "{line}");

    let status = other.join("pg_wal/archive_status");
    fs::create_dir(&status).unwrap();
    user::hand_over(&status);
    let mark = other.file(&format!("pg_wal/archive_status/{FORKED}.ready"), "");
    let done = mark.with_extension("done");
    let typed = format!("mv {} {}", mark.display(), done.display());
    fails(3, other.run(pusher.push(FORKED)), &[words[1], &typed]);
}

#[test]
fn a_server_that_does_not_know_the_fork_is_advised_to_become_a_standby() {
    let (pusher, other) = forked(FORK);
    let words = [
        "this server knows nothing of timeline 2",
        "stop it",
        "pg_rewind -c --target-pgdata",
        "leave the archive",
    ];
    let line = fails(3, other.run(pusher.push(FORKED)), &words);
    assert!(!line.contains("mv "), "{line}");
}

#[test]
fn a_difference_before_the_fork_or_without_one_is_an_ordinary_conflict() {
    let (pusher, other) = forked(FORK - 1);
    for history in [FORK_CONTENT, "1\t0/200000\tx\n", "1\t0/300000\tx\n", "1\t0/104128\tx\n", "rubbish"] {
        with_history(&other, history);
        let line = fails(3, other.run(pusher.push(FORKED)), &["with different content", ORDINARY]);
        assert!(!line.contains("left timeline"), "{line}");
    }
    // Of two forks, the later one counts: WAL before it is needed.
    let (pusher, other) = forked(FORK);
    with_history(&other, FORK_CONTENT);
    other.file("pg_wal/00000003.history", "1\t0/204130\tx\n");
    fails(3, other.run(pusher.push(FORKED)), &[ORDINARY]);
    // A descendant's history contains the fork, too.
    other.file("pg_wal/00000003.history", "1\t0/204128\tx\n2\t0/500000\tx\n");
    fails(3, other.run(pusher.push(FORKED)), &["timeline 2 left timeline 1 at 0/204128"]);
}

#[test]
fn a_fork_in_a_store_is_reported_in_the_same_way() {
    let scene = StoreScene::new();
    let mut content = scene.primary.segment(FORKED, 0);
    scene.primary.file(&format!("pg_wal/{CHILD}"), &content);
    scene.primary.file(&format!("pg_wal/{HISTORY}"), FORK_CONTENT);
    for name in [FORKED, CHILD, HISTORY] {
        succeeds(scene.push(name));
    }
    content[FORK] ^= 1;
    scene.standby.file(&format!("pg_wal/{FORKED}"), content);
    with_history(&scene.standby, FORK_CONTENT);
    let words = ["timeline 2 left timeline 1 at 0/204128", "s3://wal/main/", "leave the archive as it is"];
    fails(3, scene.push_from(&scene.standby, FORKED), &words);
}
