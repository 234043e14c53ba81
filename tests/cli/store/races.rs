//! Servers that archive the same name at the same moment, into stores that do not refuse to overwrite.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use support::{
    data_directory::{DataDirectory, SEGMENT},
    restore::SYSTEM,
    running::{Outcome, Running},
    store::fault::Matching,
    store_scene::{StoreScene, at_once, check_lines},
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
