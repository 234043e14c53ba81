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

/// Returns a scene with a segment in the store, and the call of a standby that fetches it over a slow link beyond its time
/// limit of 2 seconds: in 10 seconds.
fn slow_standby() -> (StoreScene, SlowRelay, Command) {
    let (mut scene, relay) = scene(100_000);
    scene.set("WALKEEP_TIMEOUT", "2s");
    segment_of(&scene.primary, SYSTEM, SEGMENT, BYTES, 1);
    succeeds(scene.push(SEGMENT));
    let mut call = scene.restore(&scene.standby, SEGMENT);
    call.env("AWS_ENDPOINT_URL", relay.endpoint());
    (scene, relay, call)
}

/// Asserts that the call fails so that the standby goes on, long before the segment would be there.
fn gives_way(call: Command) {
    let begun = Instant::now();
    let Outcome { status, stderr } = outcome_of(call);
    assert_eq!(status, 75, "{stderr}");
    assert!(stderr.contains("the time limit; the link is too slow: 0."), "{stderr}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn a_standby_that_is_to_be_promoted_does_not_wait_for_a_slow_transfer() {
    let (scene, _relay, call) = slow_standby();
    scene.standby.file("promote", "");
    gives_way(call);
}

#[test]
fn a_standby_that_has_the_segment_itself_does_not_wait_for_a_slow_transfer() {
    let (scene, _relay, call) = slow_standby();
    segment_of(&scene.standby, SYSTEM, SEGMENT, BYTES, 1);
    gives_way(call);
}
