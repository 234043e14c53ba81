//! Restoring from a store that fails in every way: "absent" must be proven whatever happens.

use std::time::{Duration, Instant};

use walkeep::{
    archive::{
        Asked::{self, List, Read},
        memory::{Fault, When},
    },
    cluster::{Caller, RecoveryMode},
    error::ErrorKind,
    restore::Restored,
};

use crate::world::{World, key, original, run, system};

const SEGMENTS: [&str; 4] = [
    "000000010000000000000001",
    "000000010000000000000002",
    "000000010000000000000003",
    "000000010000000000000004",
];
const HISTORY: &str = "00000002.history";

/// Time limit that allows one attempt.
const ONCE: Duration = Duration::ZERO;

/// Faults after which nothing is known about the file.
const UNKNOWN: [Fault; 5] =
    [Fault::Busy, Fault::TimedOut, Fault::BrokenOff, Fault::NoStore, Fault::AnswerLost];

fn kind(restored: Result<Restored, walkeep::error::Error>) -> ErrorKind {
    restored.unwrap_err().kind()
}

#[test]
fn a_file_comes_back_whole_by_one_request() {
    let world = World::archived(&[SEGMENTS[0], HISTORY]);
    let before = world.memory.asked().len();
    assert!(matches!(run(world.restore(SEGMENTS[0])).unwrap(), Restored::FromArchive { .. }));
    assert!(world.restored().unwrap() == original(SEGMENTS[0], 0));
    run(world.restore(HISTORY)).unwrap();
    assert_eq!(world.restored().unwrap(), original(HISTORY, 0));
    assert_eq!(world.memory.asked()[before..], [(Read, key(SEGMENTS[0])), (Read, key(HISTORY))]);
}

#[test]
fn the_end_of_the_log_is_proven_by_a_listing() {
    let world = World::archived(&SEGMENTS[..2]);
    assert_eq!(kind(run(world.restore(SEGMENTS[2]))), ErrorKind::Absent);
    assert!(world.memory.times(List) > 0, "a word about one name alone proves no end");
    assert_eq!(world.restored(), None);
}

#[test]
fn a_failed_request_never_proves_absence() {
    for asked in [Read, List] {
        for fault in UNKNOWN {
            let world = World::archived(&SEGMENTS[..2]);
            world.memory.order(When::every(asked), fault.clone());
            let got = kind(run(world.restore_with(SEGMENTS[2], ONCE, |_| ())));
            assert_eq!(got, ErrorKind::Unavailable, "{asked:?} {fault:?}");
        }
        for fault in [Fault::Refused, Fault::NoBucket] {
            let world = World::archived(&SEGMENTS[..2]);
            world.memory.order(When::every(asked), fault.clone());
            assert_eq!(kind(run(world.restore(SEGMENTS[2]))), ErrorKind::Refused, "{asked:?} {fault:?}");
        }
    }
    for names in 0..2 {
        let world = World::archived(&SEGMENTS[..2]);
        world.memory.order(When::every(List), Fault::TornAfter(names));
        let got = kind(run(world.restore_with(SEGMENTS[2], ONCE, |_| ())));
        assert_eq!(got, ErrorKind::Unavailable, "{names}");
    }
}

#[test]
fn one_failed_request_does_not_change_the_final_answer() {
    // The end of the WAL and a gap take different requests.
    for (missing, there, expected) in
        [(SEGMENTS[2], &[0, 1][..], ErrorKind::Absent), (SEGMENTS[2], &[1, 3], ErrorKind::Gap)]
    {
        let there: Vec<_> = there.iter().map(|number| SEGMENTS[*number]).collect();
        let world = World::archived(&there);
        let before = world.memory.asked().len();
        assert_eq!(kind(run(world.restore(missing))), expected);
        let asked: Vec<Asked> = world.memory.asked()[before..].iter().map(|(asked, _)| *asked).collect();
        assert!(asked.len() > 1, "{asked:?}");
        for (number, asked) in (0..).zip(&asked) {
            let nth = 1 + world.memory.asked()[before..before + number]
                .iter()
                .filter(|(of, _)| of == asked)
                .count();
            world.memory.order(When::nth(nth, *asked), Fault::Busy);
            let outcome = kind(run(world.restore_with(missing, ONCE, |_| ())));
            assert_eq!(outcome, ErrorKind::Unavailable, "{number} {asked:?}");
            world.memory.heal();
        }
        // With time left, another attempt finds the answer.
        world.memory.order(When::first(asked[1]), Fault::Busy);
        assert_eq!(kind(run(world.restore(missing))), expected);
    }
}

#[test]
fn an_archive_without_files_of_the_cluster_proves_nothing() {
    let world = World::new();
    world.memory.put("8/wal/0000000100000000/000000010000000000000001", "another's");
    for name in [SEGMENTS[0], HISTORY] {
        assert_eq!(kind(run(world.restore(name))), ErrorKind::Empty, "{name}");
        let accepting = world.restore_with(name, ONCE, |request| request.accept_empty = true);
        assert_eq!(kind(run(accepting)), ErrorKind::Absent, "{name}");
    }
}

#[test]
fn a_segment_that_is_missing_before_another_is_a_gap_unless_that_is_accepted() {
    let world = World::archived(&[SEGMENTS[0], SEGMENTS[1], SEGMENTS[3]]);
    assert_eq!(kind(run(world.restore(SEGMENTS[2]))), ErrorKind::Gap);
    let missing = SEGMENTS[2].parse().unwrap();
    let accepting = world.restore_with(SEGMENTS[2], ONCE, |request| request.accept_gaps.push(missing));
    assert_eq!(kind(run(accepting)), ErrorKind::Absent);
}

#[test]
fn a_segment_that_may_still_arrive_is_waited_for() {
    let world = World::archived(&[SEGMENTS[0], SEGMENTS[1], SEGMENTS[3]]);
    let late = World::archived(&[SEGMENTS[2]]).memory.get(&key(SEGMENTS[2])).unwrap();
    // The later segment has just arrived.
    world.memory.age(&key(SEGMENTS[3]), Duration::ZERO);
    world.memory.after(When::first(List), move |memory| memory.put(&key(SEGMENTS[2]), late.clone()));
    run(world.restore(SEGMENTS[2])).unwrap();
    assert!(world.restored().unwrap() == original(SEGMENTS[2], 0));
}

#[test]
fn a_file_that_arrives_between_two_requests_is_fetched() {
    let world = World::archived(&SEGMENTS[..2]);
    let new = World::archived(&[SEGMENTS[2]]).memory.get(&key(SEGMENTS[2])).unwrap();
    world.memory.after(When::first(Read), move |memory| memory.put(&key(SEGMENTS[2]), new.clone()));
    run(world.restore(SEGMENTS[2])).unwrap();
    assert!(world.restored().unwrap() == original(SEGMENTS[2], 0));
}

#[test]
fn a_file_deleted_between_a_listing_and_its_read_proves_no_end() {
    let world = World::archived(&[SEGMENTS[0], SEGMENTS[1], SEGMENTS[3]]);
    // Outside a data directory, the lowest segment is read for the segment size. A prune deletes it first.
    world.memory.before(When::first(Read).on(SEGMENTS[0]), |memory| memory.remove(&key(SEGMENTS[0])));
    let elsewhere = tempfile::tempdir().unwrap();
    let restored = run(world.restore_with(SEGMENTS[2], Duration::from_secs(2), |request| {
        request.system = Some(system());
        request.path = elsewhere.path().join("target");
        request.caller = Caller::at(request.path.clone());
    }));
    assert_eq!(kind(restored), ErrorKind::Gap);
}

#[test]
fn a_body_that_breaks_off_leaves_nothing_and_is_fetched_again() {
    for bytes in [0, 50, 1000] {
        let world = World::archived(&SEGMENTS[..1]);
        world.memory.order(When::first(Read), Fault::TornAfter(bytes));
        assert_eq!(
            kind(run(world.restore_with(SEGMENTS[0], ONCE, |_| ()))),
            ErrorKind::Unavailable,
            "{bytes}"
        );
        assert_eq!(world.restored(), None, "{bytes}");
        world.memory.order(When::first(Read), Fault::TornAfter(bytes));
        run(world.restore(SEGMENTS[0])).unwrap();
        assert!(world.restored().unwrap() == original(SEGMENTS[0], 0), "{bytes}");
    }
}

#[test]
fn a_damaged_file_is_neither_restored_nor_reported_absent() {
    let world = World::archived(&SEGMENTS[..1]);
    let whole = world.memory.get(&key(SEGMENTS[0])).unwrap();
    let changed = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let end = whole.len() - 1;
    for bytes in [changed(end / 2), changed(end), whole[..end].to_vec(), whole[..100].to_vec(), Vec::new()] {
        world.memory.put(&key(SEGMENTS[0]), bytes.clone());
        assert_eq!(kind(run(world.restore(SEGMENTS[0]))), ErrorKind::Damaged, "{} bytes", bytes.len());
        assert_eq!(world.restored(), None);
    }
    // An intact file under another name.
    world.memory.put(&key(SEGMENTS[1]), whole);
    assert_eq!(kind(run(world.restore(SEGMENTS[1]))), ErrorKind::Damaged);
}

#[test]
fn the_servers_own_history_file_is_used_if_the_archive_cannot_tell() {
    for fault in [Fault::Busy, Fault::Refused, Fault::TimedOut] {
        let world = World::archived(&SEGMENTS[..1]);
        world.memory.order(When::every(Read), fault.clone());
        let content = world.make(HISTORY, 0);
        assert!(matches!(run(world.restore(HISTORY)).unwrap(), Restored::OwnCopy), "{fault:?}");
        assert_eq!(world.restored().unwrap(), content);
    }
    // An archive that proves the absence is believed: the server is looking for a free timeline number.
    let world = World::archived(&SEGMENTS[..1]);
    world.make(HISTORY, 0);
    assert_eq!(kind(run(world.restore(HISTORY))), ErrorKind::Absent);
}

#[test]
fn a_standby_is_told_of_the_end_without_waiting() {
    let world = World::archived(&[SEGMENTS[0], SEGMENTS[1], SEGMENTS[3]]);
    let begun = Instant::now();
    let standby = world.restore_with("000000010000000000000005", Duration::from_mins(1), |request| {
        request.mode = RecoveryMode::Standby;
    });
    assert_eq!(kind(run(standby)), ErrorKind::Absent);
    assert!(begun.elapsed() < Duration::from_secs(20));
}
