//! What the archive has under a name, of another size than the server's segments are: `pg_resetwal` has changed that, and the names
//! mean other places in the log. A server is not given it, and its own file is not put beside it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::fs;

use support::{
    data_directory::{SEGMENT, segment},
    kept::{archived, days_ago},
    prefetcher::{From, PrefetchScene, name},
    push::{Pusher, fails, succeeds},
    restore::{SYSTEM, Scene},
};

/// The archived file of a segment of 2 MB; those of the servers are of 1 MB.
fn larger(name: &str) -> Vec<u8> {
    archived(name, &segment(name, SYSTEM, 2 << 20, 0), days_ago(1))
}

#[test]
fn a_server_is_told_that_the_archives_file_is_of_another_size_and_does_not_get_it() {
    let scene = Scene::new();
    scene.put(SEGMENT, larger(SEGMENT));
    scene.cannot_tell(SEGMENT, "is of 2 MB, and the segments of this server are of 1 MB");
}

#[test]
fn what_is_of_another_size_is_not_prefetched() {
    let scene = PrefetchScene::with(1..=2);
    scene.scene.put(&name(3), larger(&name(3)));
    assert_eq!(scene.restored(&name(1)), From::Archive);
    scene.prefetchers.wait_until_held(1);
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    scene.scene.cannot_tell_when(&|server| scene.call(server, &name(3)), "is of 2 MB");
}

#[test]
fn a_conflict_of_two_sizes_says_what_has_changed_them_and_where_to_go_on() {
    let pusher = Pusher::new();
    pusher.data.file(&format!("pg_wal/{SEGMENT}"), segment(SEGMENT, SYSTEM, 2 << 20, 0));
    succeeds(pusher.push(SEGMENT));
    let before = fs::read(pusher.file(SEGMENT)).unwrap();
    pusher.data.segment(SEGMENT, 0);
    let words = ["different content", "is of 2 MB", "of 1 MB", "pg_resetwal", "new archive"];
    fails(3, pusher.push(SEGMENT), &words);
    assert_eq!(fs::read(pusher.file(SEGMENT)).unwrap(), before);
}
