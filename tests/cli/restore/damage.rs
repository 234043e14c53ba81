//! Damaged archived files: no byte reaches the server. `walkeep-restore` reports that the file is unknown, and `%p`
//! stays absent.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use support::{
    data_directory::SEGMENT,
    files::names_in,
    restore::Scene,
    running::{Outcome, outcome_of},
};

#[derive(Debug, Clone)]
enum Damage {
    /// One byte with these bits inverted.
    Flipped { at: usize, bits: u8 },
    /// Zeros in place of some bytes, as after a crash of a file system.
    Zeroed { at: usize, length: usize },
    /// Truncation to this length.
    Cut { length: usize },
    /// Missing bytes in the middle.
    Closed { at: usize, length: usize },
    /// Additional bytes at the end.
    Extended(Vec<u8>),
}

impl Damage {
    fn to(&self, sound: &[u8]) -> Vec<u8> {
        let mut bytes = sound.to_vec();
        let run = |at: usize, length| at..sound.len().min(at + length);
        match self {
            Self::Flipped { at, bits } => bytes[*at] ^= bits,
            Self::Zeroed { at, length } => bytes[run(*at, *length)].fill(0),
            Self::Cut { length } => bytes.truncate(*length),
            Self::Closed { at, length } => drop(bytes.drain(run(*at, *length))),
            Self::Extended(more) => bytes.extend(more),
        }
        bytes
    }
}

/// Generates damage of a file of `bytes` bytes. The header, a small part, is hit as often as the body.
fn damage(bytes: usize) -> impl Strategy<Value = Damage> {
    let place = || prop_oneof![0..1024usize, 1024..bytes];
    let length = || prop_oneof![1usize..9, Just(512), Just(4096), Just(1 << 20)];
    prop_oneof![
        3 => (place(), 1u8..).prop_map(|(at, bits)| Damage::Flipped { at, bits }),
        1 => (place(), length()).prop_map(|(at, length)| Damage::Zeroed { at, length }),
        1 => place().prop_map(|length| Damage::Cut { length }),
        1 => (place(), length()).prop_map(|(at, length)| Damage::Closed { at, length }),
        1 => prop::collection::vec(any::<u8>(), 1..5000).prop_map(Damage::Extended),
    ]
}

fn no_damage_is_served(compression: &str) {
    let scene = Scene::new();
    let content = scene.primary.segment(SEGMENT, 0);
    scene.push_with(&scene.primary, SEGMENT, &["--compression", compression]);
    let sound = scene.archived(SEGMENT);
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&damage(sound.len()), |damage| {
        let damaged = damage.to(&sound);
        prop_assume!(damaged != sound);
        scene.put(SEGMENT, damaged);
        let Outcome { status, stderr } = outcome_of(scene.restore(&scene.recovery, SEGMENT));
        prop_assert_eq!(status, 255, "{}", stderr);
        prop_assert!(stderr.lines().count() == 1 && !stderr.contains("internal error"), "{}", stderr);
        prop_assert_eq!(names_in(&scene.recovery.join("pg_wal")), [""; 0]);
        Ok(())
    });
    outcome.unwrap();
    scene.put(SEGMENT, sound);
    assert!(scene.restored(SEGMENT) == content, "and without the damage it is served");
}

#[test]
fn no_damage_of_a_compressed_segment_is_served() {
    no_damage_is_served("zstd");
}

#[test]
fn no_damage_of_an_uncompressed_segment_is_served() {
    no_damage_is_served("none");
}
