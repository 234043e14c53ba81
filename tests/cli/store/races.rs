//! Servers that archive the same name at the same moment, into stores that do not refuse to overwrite.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use support::{
    data_directory::{DataDirectory, SEGMENT},
    restore::SYSTEM,
    running::{Outcome, Running},
    store::{fault::Matching, versions::Keeping},
    store_scene::{StoreScene, at_once, check_lines, key},
    wait_until,
};

const RACERS: usize = 4;

/// Runs pushes of different content that all find the name free and all send their file before any of them is answered.
/// Returns the winner's number, and asserts that the others report a conflict.
fn winner_of_a_race(scene: &StoreScene) -> usize {
    let names: Vec<String> = (0..RACERS).map(|number| format!("racer{number}")).collect();
    let servers: Vec<_> = names.iter().map(|name| DataDirectory::new(&scene.sandbox, name, SYSTEM)).collect();
    let contents: Vec<_> =
        servers.iter().zip(1..).map(|(server, seed)| server.segment(SEGMENT, seed)).collect();
    scene.store.answer_together(RACERS, Matching::Heads);
    scene.store.answer_together(RACERS, Matching::Puts);
    let running: Vec<_> =
        servers.iter().map(|server| Running::start(scene.push_from(server, SEGMENT))).collect();
    let outcomes: Vec<Outcome> = running.into_iter().map(Running::end).collect();
    let held = scene.original(SEGMENT);
    let winner = contents.iter().position(|content| *content == held).unwrap();
    for (number, Outcome { status, stderr }) in outcomes.iter().enumerate() {
        assert_eq!(*status, if number == winner { 0 } else { 3 }, "{number}, {winner} wins: {stderr}");
        if number != winner {
            check_lines("walkeep-archive", stderr, &["different content", "BLAKE3"]);
        }
    }
    winner
}

#[test]
fn whoever_lost_a_race_that_the_store_did_not_notice_reports_a_conflict() {
    at_once(&["auto", "no"], |mode| {
        let scene = StoreScene::with_conditional_put(mode);
        scene.store.ignore_conditions();
        winner_of_a_race(&scene);
    });
}

#[test]
fn a_bucket_with_versions_shows_the_newest_one_and_keeps_the_others() {
    let scene = StoreScene::new();
    scene.store.ignore_conditions();
    scene.store.keep_versions(Keeping::default());
    winner_of_a_race(&scene);
    assert_eq!(scene.store.versions_of(&key(SEGMENT)), RACERS);
}

/// What no look can find out: the guide says so.
#[test]
fn whoever_has_looked_before_another_one_wrote_does_not_notice() {
    let scene = StoreScene::new();
    scene.store.ignore_conditions();
    scene.store.keep_versions(Keeping::default());
    let [first, second] = ["first", "second"].map(|name| DataDirectory::new(&scene.sandbox, name, SYSTEM));
    first.segment(SEGMENT, 1);
    let content = second.segment(SEGMENT, 2);
    // The second one has found the name free, and learns that only once the first one has looked again.
    scene.store.answer_with(Matching::Heads, 1, 3);
    let waiting = Running::start(scene.push_from(&second, SEGMENT));
    wait_until("the second one has asked", || scene.store.requests().len() == 1);
    for running in [Running::start(scene.push_from(&first, SEGMENT)), waiting] {
        let Outcome { status, stderr } = running.end();
        assert_eq!((status, stderr.as_str()), (0, ""));
    }
    assert!(scene.original(SEGMENT) == content);
    assert_eq!(scene.store.versions_of(&key(SEGMENT)), 2, "the other one can be had back");
}
