//! Fetching ahead over a slow link: what is fetched for later takes nothing from what a server waits for.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    data_directory::{DataDirectory, SEGMENT_BYTES},
    large::{name, segment_of},
    prefetcher::Prefetchers,
    push::succeeds,
    restore::{SYSTEM, TARGET},
    running::{Outcome, outcome_of},
    store::slow_relay::SlowRelay,
    store_scene::StoreScene,
};

const BYTES: u64 = SEGMENT_BYTES as u64;

/// Number of segments: enough for several fetches at a time.
const SEGMENTS: u64 = 6;

/// What the link carries: a segment in five seconds, and not one more beside it at the least pace of a transfer.
const BYTES_PER_SECOND: u32 = 200_000;

/// A time limit of a call, half of which is longer than a segment takes by itself, and shorter than two take together.
const LIMIT: &str = "13s";

/// A time limit of a call, half of which is shorter than a segment takes.
const SHORT: &str = "6s";

/// A store with incompressible segments behind a slow link.
struct Slow {
    // Ends before the directory is removed: fields are dropped in this order.
    _prefetchers: Prefetchers,
    scene: StoreScene,
    relay: SlowRelay,
}

impl Slow {
    fn new(limit: &str) -> Self {
        let mut scene = StoreScene::with_conditional_put("yes");
        scene.set("WALKEEP_PREFETCH_SIZE", "256MB");
        scene.set("WALKEEP_TIMEOUT", limit);
        for number in 1..=SEGMENTS {
            segment_of(&scene.primary, SYSTEM, &name(number), BYTES, number);
            succeeds(scene.push(&name(number)));
        }
        let relay = SlowRelay::start(scene.store.address(), BYTES_PER_SECOND);
        scene.move_to(&relay.endpoint());
        Self { _prefetchers: Prefetchers::of(&scene.sandbox), scene, relay }
    }

    /// Restores a segment, in as many calls as a server would make; returns their number.
    fn restored(&self, server: &DataDirectory, number: u64, calls: usize) -> usize {
        let name = name(number);
        for call in 1..=calls {
            let mut restore = self.scene.restore(server, &name);
            restore.env("AWS_ENDPOINT_URL", self.relay.endpoint()).arg("-v");
            let Outcome { status, stderr } = outcome_of(restore);
            if status == 0 {
                let original = self.scene.primary.join(&format!("pg_wal/{name}"));
                assert!(fs::read(server.join(TARGET)).unwrap() == fs::read(original).unwrap(), "{name}");
                fs::remove_file(server.join(TARGET)).unwrap();
                return call;
            }
            assert!(call < calls, "segment {number}: status {status}: {stderr}");
        }
        calls
    }
}

#[test]
fn a_recovery_is_not_stopped_by_what_is_fetched_ahead_of_it() {
    let slow = Slow::new(LIMIT);
    for number in 1..=SEGMENTS {
        slow.restored(&slow.scene.recovery, number, 1);
    }
    // A segment that a call gives up waiting for is sent again. Fetched all together, most would be.
    let sent = slow.relay.carried();
    assert!(sent < SEGMENTS * BYTES * 3 / 2, "{sent} bytes");
}

#[test]
fn a_call_that_gives_up_waiting_for_what_is_fetched_ahead_has_the_link_to_itself() {
    let slow = Slow::new(SHORT);
    for number in 1..=SEGMENTS {
        slow.restored(&slow.scene.recovery, number, 1);
    }
    // What was fetched in half of the limit is sent again.
    let sent = slow.relay.carried();
    assert!(sent < SEGMENTS * BYTES * 9 / 5, "{sent} bytes");
}

#[test]
fn a_standby_gets_each_segment_in_a_call_or_two() {
    let slow = Slow::new(LIMIT);
    let calls: Vec<_> = (1..=SEGMENTS).map(|number| slow.restored(&slow.scene.standby, number, 2)).collect();
    assert!(calls.iter().sum::<usize>() <= calls.len() + 1, "{calls:?}");
}
