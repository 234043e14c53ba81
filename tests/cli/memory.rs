//! Memory of a call: little for usual segments, and bounded for the largest, whatever their content.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]
#![allow(clippy::print_stdout, reason = "figures for --nocapture")]

use std::{fs, process::Command};

use support::{
    data_directory::SEGMENT,
    large::{LARGEST, assert_space, make_ready, name, same_content, segment_of},
    memory::{peak_of, peak_so_far},
    push::{HISTORY, HISTORY_CONTENT, Pusher},
    restore::{SYSTEM, Scene, TARGET},
    running::Running,
    store::fault::{Fault, Matching},
    store_scene::StoreScene,
    wait_until,
};

/// Usual size of a segment.
const USUAL: u64 = 16 << 20;

/// Maximum memory for one usual segment, for each further one in progress, and for one of the largest, in MiB.
const FOR_ONE: u64 = 64;
const FOR_EACH_MORE: u64 = 32;
const FOR_THE_LARGEST: u64 = 256;

/// Runs the command, which must succeed without messages within `most` MiB.
fn succeeds_within(most: u64, what: &str, command: Command) {
    let (outcome, peak) = peak_of(command);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{what}");
    println!("{what}: {peak} MiB");
    assert!(peak <= most, "{what} took {peak} MiB, and may take {most}");
}

#[test]
fn a_segment_of_the_usual_size_is_archived_and_restored_in_little_memory() {
    let scene = Scene::new();
    scene.recovery.set_segment_bytes(USUAL);
    let original = segment_of(&scene.primary, SYSTEM, SEGMENT, USUAL, 1);
    for compression in ["zstd", "none"] {
        let mut push = scene.primary.run(scene.sandbox.walkeep_archive());
        push.args(["--archive", scene.archive.url(), "--compression", compression]);
        push.arg(format!("pg_wal/{SEGMENT}"));
        succeeds_within(FOR_ONE, &format!("a push, {compression}"), push);
        assert!(fs::metadata(scene.file(SEGMENT)).unwrap().len() >= USUAL, "nothing compresses it");
        let mut restore = scene.recovery.run(scene.sandbox.walkeep_restore());
        restore.args(["--archive", scene.archive.url(), SEGMENT, TARGET]);
        succeeds_within(FOR_ONE, &format!("a restore, {compression}"), restore);
        assert!(same_content(&original, &scene.recovery.join(TARGET)));
        fs::remove_file(scene.file(SEGMENT)).unwrap();
    }
    let store = StoreScene::with_conditional_put("yes");
    store.recovery.set_segment_bytes(USUAL);
    segment_of(&store.primary, SYSTEM, SEGMENT, USUAL, 1);
    succeeds_within(FOR_ONE, "a push into a store", store.push(SEGMENT));
    succeeds_within(FOR_ONE, "a restore from a store", store.restore(&store.recovery, SEGMENT));
    assert!(same_content(&original, &store.recovery.join(TARGET)));
}

/// Returns the number of objects that the store was asked to create.
fn puts(scene: &StoreScene) -> u64 {
    scene.store.requests().iter().filter(|request| request.method == "PUT").count() as u64
}

fn kept(scene: &StoreScene) -> u64 {
    scene.store.keys().len() as u64
}

/// Returns the memory of a push, in MiB, while exactly `expected` additional files are in progress, limited by
/// connections or by memory.
fn peak_of_look_ahead(asked: &str, bytes: u64, settings: &str, expected: u64) -> u64 {
    let mut scene = StoreScene::new();
    let file =
        scene.sandbox.file("walkeep.toml", format!("{settings}\n[store]\nconditional_put = \"yes\"\n"));
    scene.set("WALKEEP_CONFIG", file.to_str().unwrap());
    make_ready(&scene.primary, SYSTEM, expected + 3, bytes);
    scene.primary.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    let push = Running::start(scene.push(asked));
    wait_until("the file itself is archived", || kept(&scene) > 0);
    // They were sent and stay in progress, because no response has come.
    scene.store.break_with(Matching::Puts, Fault::Hang);
    wait_until("its neighbours are on their way", || puts(&scene) >= kept(&scene) + expected);
    let peak = peak_so_far(push.id()).unwrap();
    assert!(puts(&scene) <= kept(&scene) + expected, "no more than that at a time");
    peak
}

#[test]
fn look_ahead_stays_within_its_memory_per_file() {
    let peak = peak_of_look_ahead(&name(1), USUAL, "", 12);
    println!("12 neighbours: {peak} MiB");
    assert!(peak <= FOR_ONE + 12 * FOR_EACH_MORE, "{peak} MiB");
    assert!(peak <= 256 + FOR_ONE, "{peak} MiB, of which look_ahead_memory allows 256 for the neighbours");
}

#[test]
fn look_ahead_stays_within_its_memory_for_any_requested_file() {
    // Nothing is known of the link yet, so the first one goes alone. The others wait, compressed.
    let peak = peak_of_look_ahead(HISTORY, USUAL, "look_ahead_memory = \"64MB\"", 1);
    println!("1 neighbour on its way: {peak} MiB");
    assert!(peak <= 64 + FOR_ONE, "{peak} MiB");
}

#[test]
fn additional_files_reuse_the_memory_of_the_requested_file() {
    // The maximum that is ever kept in memory of one file.
    let peak = peak_of_look_ahead(&name(1), 64 << 20, "look_ahead_memory = \"64MB\"", 1);
    println!("one of 64 MB after another: {peak} MiB");
    assert!(peak < 128, "{peak} MiB");
}

#[test]
fn the_largest_segment_is_archived_into_a_directory_and_restored_within_bounds() {
    let pusher = Pusher::new();
    assert_space(pusher.sandbox.path(), 4 * LARGEST + (64 << 20));
    let original = segment_of(&pusher.data, SYSTEM, SEGMENT, LARGEST, 1);
    succeeds_within(FOR_THE_LARGEST, "a push", pusher.push(SEGMENT));
    assert!(fs::metadata(pusher.file(SEGMENT)).unwrap().len() >= LARGEST, "nothing compresses it");
    let mut restore = pusher.data.run(pusher.sandbox.walkeep_restore());
    restore.args(["--archive", pusher.archive.url(), SEGMENT, TARGET]);
    succeeds_within(FOR_THE_LARGEST, "a restore", restore);
    assert!(same_content(&original, &pusher.data.join(TARGET)));
    fs::remove_file(pusher.data.join(TARGET)).unwrap();
    succeeds_within(FOR_THE_LARGEST, "a push of what is there", pusher.push(SEGMENT));
}

#[test]
fn the_largest_segment_is_archived_into_a_store_and_restored_within_bounds() {
    let mut scene = StoreScene::with_conditional_put("yes");
    scene.wait_long();
    assert_space(scene.sandbox.path(), 4 * LARGEST + (64 << 20));
    scene.recovery.set_segment_bytes(LARGEST);
    let original = segment_of(&scene.primary, SYSTEM, SEGMENT, LARGEST, 1);
    succeeds_within(FOR_THE_LARGEST, "a push into a store", scene.push(SEGMENT));
    assert_eq!(scene.asked(SEGMENT), ["HEAD", "PUT if new"]);
    let restore = scene.restore(&scene.recovery, SEGMENT);
    succeeds_within(FOR_THE_LARGEST, "a restore from a store", restore);
    assert!(same_content(&original, &scene.recovery.join(TARGET)));
}
