//! Random histories of clusters: `prune` and `verify` compared with a simple model of a server's recovery.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

mod disagreements;
mod events;
mod findings;
mod promises;
mod recovery;
mod server;
mod situations;
mod view;
mod world;

use std::env;

use disagreements::{Disagreements, Purpose, survey};
use events::{Counts, Event, History, histories};
use world::World;

/// Runs a history, and checks every prune in it.
fn live(history: &History, counts: &mut Counts) -> Disagreements {
    let mut found = Disagreements::default();
    let mut world = World::new(history);
    let last = Event::Prune(history.last.clone());
    for event in history.events.iter().chain([&last]) {
        let mut happened = world.happen(event);
        if let Event::Prune(wish) = event {
            situations::count(&world, counts);
            findings::verify(&world, wish.looks_elsewhere, &mut found);
            let left = promises::prune(&world, wish, &mut found);
            let kind = if left.is_some() { "prune that goes ahead" } else { "prune in doubt" };
            *counts.entry(kind).or_default() += 1;
            happened = left.as_ref().is_some_and(|left| left.len() < world.files.len());
            world.files = left.unwrap_or(world.files);
        }
        *counts.entry(event.kind()).or_default() += u64::from(happened);
    }
    found
}

fn setting(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

#[test]
fn prune_keeps_its_promises_and_verify_is_right_in_random_histories() {
    let mut counts = Counts::new();
    let number = setting("WALKEEP_HISTORIES", 1_000);
    let seed = setting("WALKEEP_HISTORIES_SEED", 1);
    let survey = survey(&histories(), number, seed, |history, purpose| {
        let mut unused = Counts::new();
        live(history, if purpose == Purpose::Survey { &mut counts } else { &mut unused })
    });
    for (kind, count) in &counts {
        println!("{count:8} {kind}");
    }
    println!("{survey}");
    assert_eq!(survey.kinds(), 0, "seed {seed}");
    assert!(counts.values().all(|count| *count > 0), "a kind of event never occurred: {counts:?}");
}
