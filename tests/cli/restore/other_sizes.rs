//! An archived file of another size than the server's segments after `pg_resetwal`: the server does not receive it,
//! and its own file does not conflict silently.
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

/// Returns the archived file of a segment of 2 MB; the servers' have 1 MB.
fn larger(name: &str) -> Vec<u8> {
    archived(name, &segment(name, SYSTEM, 2 << 20, 0), days_ago(1))
}

#[test]
fn a_segment_of_another_size_is_not_restored_and_the_error_says_so() {
    let scene = Scene::new();
    scene.put(SEGMENT, larger(SEGMENT));
    scene.cannot_tell(SEGMENT, "is of 2 MB, and the segments of this server are of 1 MB");
}

#[test]
fn segments_of_another_size_are_not_prefetched() {
    let scene = PrefetchScene::with(1..=2);
    scene.scene.put(&name(3), larger(&name(3)));
    assert_eq!(scene.restored(&name(1)), From::Archive);
    scene.prefetchers.wait_until_held(1);
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    scene.scene.cannot_tell_when(&|server| scene.call(server, &name(3)), "is of 2 MB");
}

#[test]
fn a_conflict_of_two_sizes_names_the_cause_and_the_remedy() {
    let pusher = Pusher::new();
    pusher.data.file(&format!("pg_wal/{SEGMENT}"), segment(SEGMENT, SYSTEM, 2 << 20, 0));
    succeeds(pusher.push(SEGMENT));
    let before = fs::read(pusher.file(SEGMENT)).unwrap();
    pusher.data.segment(SEGMENT, 0);
    let words = ["different content", "is of 2 MB", "of 1 MB", "pg_resetwal", "new archive"];
    fails(3, pusher.push(SEGMENT), &words);
    assert_eq!(fs::read(pusher.file(SEGMENT)).unwrap(), before);
}
