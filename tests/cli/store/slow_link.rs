//! Slow links: what moves goes on, what cannot be done in time says so, and nothing is sent in vain.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the point")]

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use support::{
    data_directory::{SEGMENT, SEGMENT_BYTES},
    large::{make_ready, name, segment_of},
    push::succeeds,
    restore::{SYSTEM, TARGET},
    running::{Outcome, outcome_of},
    store::slow_relay::SlowRelay,
    store_scene::{StoreScene, at_once},
};

const BYTES: u64 = SEGMENT_BYTES as u64;

/// Time that a transfer may stand still: much less than a segment takes over any of these links.
const STILL: &str = "1s";

/// A store behind a link of that many bytes per second, whose limits are all shorter than a segment takes.
fn scene(bytes_per_second: u32) -> (StoreScene, SlowRelay) {
    let mut scene = StoreScene::with_conditional_put("yes");
    let relay = SlowRelay::start(scene.store.address(), bytes_per_second);
    scene.set("AWS_READ_TIMEOUT", STILL);
    (scene, relay)
}

#[test]
fn what_moves_at_100_kb_a_second_goes_on_beyond_every_limit() {
    let mut scene = StoreScene::with_conditional_put("yes");
    scene.set("AWS_READ_TIMEOUT", STILL);
    scene.set("WALKEEP_TIMEOUT", "3s");
    segment_of(&scene.primary, SYSTEM, SEGMENT, BYTES, 1);
    let (there, content) = (name(2), segment_of(&scene.primary, SYSTEM, &name(2), BYTES, 2));
    succeeds(scene.push(&there));
    let push = || scene.push(SEGMENT);
    let restore = || scene.restore(&scene.recovery, &there);
    let standby = || scene.restore(&scene.standby, &there);
    let calls: [&(dyn Fn() -> Command + Sync); 3] = [&push, &restore, &standby];
    at_once(&calls, |call| {
        let relay = SlowRelay::start(scene.store.address(), 100_000);
        let mut call = call();
        call.env("AWS_ENDPOINT_URL", relay.endpoint());
        let begun = Instant::now();
        succeeds(call);
        assert!(begun.elapsed() > Duration::from_secs(8), "it was not slow: {:?}", begun.elapsed());
    });
    for server in [&scene.recovery, &scene.standby] {
        assert!(fs::read(server.join(TARGET)).unwrap() == fs::read(&content).unwrap());
    }
    let puts = scene.store.requests().iter().filter(|request| request.method == "PUT").count();
    assert_eq!(puts, 2, "each was sent once");
}

#[test]
fn a_link_that_is_too_slow_is_called_so_with_what_it_carried() {
    let (mut scene, relay) = scene(40_000);
    scene.set("WALKEEP_TIMEOUT", "4s");
    segment_of(&scene.primary, SYSTEM, SEGMENT, BYTES, 1);
    scene.move_to(&relay.endpoint());
    let Outcome { status, stderr } = outcome_of(scene.push(SEGMENT));
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains("the time limit; the link is too slow: 0."), "{stderr}");
    assert!(stderr.contains(" of 1.0 MB in ") && stderr.contains("--timeout"), "{stderr}");
}

#[test]
fn over_a_slow_link_files_are_taken_along_and_none_is_sent_in_vain() {
    let (mut scene, relay) = scene(400_000);
    scene.set("WALKEEP_TIMEOUT", "10s");
    make_ready(&scene.primary, SYSTEM, 5, BYTES);
    scene.move_to(&relay.endpoint());
    let mut said = String::new();
    for number in 1..=5 {
        let mut push = scene.push(&name(number));
        push.arg("-v");
        let Outcome { status, stderr } = outcome_of(push);
        assert_eq!(status, 0, "{stderr}");
        said += &stderr;
        fs::remove_file(scene.primary.join(&format!("pg_wal/archive_status/{}.ready", name(number))))
            .unwrap();
    }
    assert!(said.contains("taken along files=1"), "{said}");
    let puts = scene.store.requests().iter().filter(|request| request.method == "PUT").count();
    assert_eq!(puts, 5, "each was sent once, and none cut off: {said}");
    assert_eq!(scene.store.keys().len(), 5);
}
