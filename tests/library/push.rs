//! Archiving into a store that fails in every way.

use std::time::{Duration, Instant};

use walkeep::{
    archive::{
        Asked::{self, Create, Look, Read},
        Created,
        memory::{Fault, When},
    },
    error::ErrorKind,
    push::{Earlier, TakenAlong, look_up},
    spool::Moment,
};

use crate::world::{World, key, run};

const SEGMENT: &str = "000000010000000000000001";
const SEGMENTS: [&str; 4] =
    [SEGMENT, "000000010000000000000002", "000000010000000000000003", "000000010000000000000004"];
const PARTIAL: &str = "000000010000000000000001.partial";
const HISTORY: &str = "00000002.history";

/// Lists the kinds of all requests, in order.
fn asked(world: &World) -> Vec<Asked> {
    world.memory.asked().into_iter().map(|(asked, _)| asked).collect()
}

/// Creates a world with a segment in `pg_wal`.
fn with_segment() -> World {
    let world = World::new();
    world.make(SEGMENT, 0);
    world
}

#[test]
fn a_new_file_takes_one_request_and_one_that_is_there_is_compared() {
    let world = with_segment();
    let report = run(world.push(SEGMENT)).unwrap();
    assert_eq!((report.created, asked(&world)), (Created::New, vec![Create]));
    assert_eq!(world.memory.get(&key(SEGMENT)).unwrap().len() as u64, report.stored_size);
    assert_eq!(run(world.push(SEGMENT)).unwrap().created, Created::Exists);
    assert_eq!(asked(&world), [Create, Create, Read]);
}

#[test]
fn a_create_whose_answer_is_lost_is_found_by_the_next_attempt() {
    let world = with_segment();
    world.memory.order(When::first(Create), Fault::AnswerLost);
    assert_eq!(run(world.push(SEGMENT)).unwrap().created, Created::Exists);
    assert_eq!(asked(&world), [Create, Create, Read]);
    assert_eq!(world.memory.keys(), [key(SEGMENT)]);
}

#[test]
fn temporary_failures_are_retried_and_those_that_need_a_person_are_not() {
    for fault in [Fault::Busy, Fault::TimedOut, Fault::BrokenOff, Fault::NoStore] {
        let world = with_segment();
        world.memory.order(When::first(Create), fault.clone());
        let report = run(world.push(SEGMENT));
        assert_eq!(report.unwrap().created, Created::New, "{fault:?}");
        assert_eq!(asked(&world), [Create, Create], "{fault:?}");
    }
    for fault in [Fault::Refused, Fault::NoBucket] {
        let world = with_segment();
        world.memory.order(When::first(Create), fault.clone());
        assert_eq!(run(world.push(SEGMENT)).unwrap_err().kind(), ErrorKind::Refused, "{fault:?}");
        assert_eq!((asked(&world), world.memory.keys()), (vec![Create], vec![]), "{fault:?}");
    }
}

#[test]
fn a_store_that_stays_away_is_given_up_within_the_limit() {
    let world = with_segment();
    world.memory.order(When::every(Create), Fault::Busy);
    let (limit, begun) = (Duration::from_millis(400), Instant::now());
    let error = run(world.push_within(SEGMENT, limit)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    assert!(error.report().contains("503"), "{}", error.report());
    assert!(world.memory.times(Create) > 1);
    assert!(begun.elapsed() < Duration::from_secs(30));
    world.memory.heal();
    assert_eq!(run(world.push(SEGMENT)).unwrap().created, Created::New);
}

#[test]
fn a_push_to_a_silent_store_can_be_stopped() {
    let world = with_segment();
    world.memory.order(When::every(Create), Fault::Silent);
    let stop = world.stop.clone();
    world.memory.before(When::first(Create), move |_| stop.cancel());
    assert_eq!(run(world.push(SEGMENT)).unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(world.memory.keys(), [""; 0]);
}

#[test]
fn another_file_of_that_name_is_a_conflict_and_stays_as_it_is() {
    let world = with_segment();
    run(world.push(SEGMENT)).unwrap();
    let theirs = world.memory.get(&key(SEGMENT));
    world.make(SEGMENT, 1);
    assert_eq!(run(world.push(SEGMENT)).unwrap_err().kind(), ErrorKind::Conflict);
    for garbage in ["", "not archived by walkeep"] {
        world.memory.put(&key(SEGMENT), garbage);
        assert_eq!(run(world.push(SEGMENT)).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(world.memory.get(&key(SEGMENT)).unwrap(), garbage);
    }
    // Another server creates the file just before this one.
    let world = with_segment();
    let other = theirs.clone().unwrap();
    world.make(SEGMENT, 1);
    world.memory.before(When::first(Create), move |memory| memory.put(&key(SEGMENT), other.clone()));
    assert_eq!(run(world.push(SEGMENT)).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.memory.get(&key(SEGMENT)), theirs);
}

#[test]
fn of_two_partial_files_both_are_kept() {
    let world = World::new();
    world.make(PARTIAL, 0);
    run(world.push(PARTIAL)).unwrap();
    world.make(PARTIAL, 1);
    for created in [Created::New, Created::Exists] {
        let report = run(world.push(PARTIAL)).unwrap();
        assert_eq!(report.created, created);
        let second = format!("{}.{}", key(PARTIAL), report.header.blake3);
        assert_eq!(world.memory.keys(), [key(PARTIAL), second]);
    }
}

#[test]
fn a_file_deleted_before_its_comparison_is_archived_by_the_same_call() {
    let world = with_segment();
    run(world.push(SEGMENT)).unwrap();
    world.memory.before(When::first(Read), |memory| memory.remove(&key(SEGMENT)));
    assert_eq!(run(world.push(SEGMENT)).unwrap().created, Created::New);
    assert_eq!(world.memory.keys(), [key(SEGMENT)]);
}

#[test]
fn an_interrupted_comparison_proves_nothing_and_is_repeated() {
    let world = with_segment();
    run(world.push(SEGMENT)).unwrap();
    for bytes in [0, 100, 1000] {
        world.memory.order(When::first(Read), Fault::TornAfter(bytes));
        assert_eq!(run(world.push(SEGMENT)).unwrap().created, Created::Exists, "{bytes}");
    }
    assert_eq!(world.memory.times(Read), 6);
}

#[test]
fn neighbours_are_taken_along_and_noted() {
    let world = World::new();
    world.make_ready(&SEGMENTS);
    let report = run(world.push_along(SEGMENT, 2)).unwrap();
    assert_eq!((report.along.files, report.along.bytes), (3, 3 << 20));
    assert_eq!(world.memory.keys(), SEGMENTS.map(key));
    assert_eq!(asked(&world), [Create; 4]);
    let options = world.memory.options();
    let earlier = |name: &str| look_up(&options, &world.spool(), &world.request(name), Moment::now);
    for name in &SEGMENTS[1..] {
        assert_eq!(earlier(name), Earlier::Archived, "{name}");
    }
    assert_eq!(earlier(SEGMENT), Earlier::Unknown, "its own call answers for it");
    assert_eq!(run(world.push_along(SEGMENT, 2)).unwrap().along, TakenAlong::default());
}

#[test]
fn a_neighbour_that_fails_is_left_to_its_own_call_and_does_not_fail_this_one() {
    for fault in [Fault::Busy, Fault::Refused, Fault::BrokenOff, Fault::AnswerLost] {
        let world = World::new();
        world.make_ready(&SEGMENTS);
        world.memory.order(When::first(Create).on(SEGMENTS[2]), fault.clone());
        let report = run(world.push_along(SEGMENT, 1)).unwrap();
        // An unavailable archive ends the look-ahead.
        assert_eq!((report.created, report.along.files), (Created::New, 1), "{fault:?}");
        let is_there = matches!(fault, Fault::AnswerLost);
        assert_eq!(world.memory.keys().len(), if is_there { 3 } else { 2 }, "{fault:?}");
        let own = run(world.push_along(SEGMENTS[2], 1)).unwrap();
        assert_eq!(own.created, if is_there { Created::Exists } else { Created::New }, "{fault:?}");
        assert_eq!(world.memory.keys(), SEGMENTS.map(key), "{fault:?}");
    }
}

#[test]
fn behind_a_conflict_nothing_of_the_timeline_is_taken_along() {
    let world = World::archived(&[SEGMENT]);
    world.make_ready(&SEGMENTS);
    let other = "000000090000000000000001";
    world.make_ready(&[other]);
    world.make(SEGMENT, 1);
    assert_eq!(run(world.push_along(SEGMENT, 2)).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(
        world.memory.keys(),
        [key(SEGMENT)],
        "a timeline of which nothing is known may descend from it"
    );
    // A conflict of a neighbour excludes the segments after it.
    let world = World::archived(&[SEGMENTS[1]]);
    world.make_ready(&SEGMENTS);
    world.make(SEGMENTS[1], 1);
    run(world.push(SEGMENT)).unwrap();
    let report = run(world.push_along(SEGMENT, 2)).unwrap();
    assert_eq!((report.created, report.along.files), (Created::Exists, 0));
    assert_eq!(world.memory.keys(), [key(SEGMENT), key(SEGMENTS[1])]);
    assert!(world.memory.times(Look) >= 3, "what may be there is asked for before anything is created");
}

#[test]
fn a_history_file_does_not_go_before_a_segment_that_differs() {
    let world = World::archived(&[SEGMENT]);
    world.make_ready(&[SEGMENT, HISTORY]);
    world.make(SEGMENT, 1);
    let error = run(world.push(HISTORY)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.report());
    assert_eq!(world.memory.keys(), [key(SEGMENT)]);
    // A failed comparison is retried: the file is neither published without it nor given up.
    world.make(SEGMENT, 0);
    world.memory.order(When::first(Look), Fault::Busy);
    world.memory.order(When::first(Read), Fault::TornAfter(50));
    assert_eq!(run(world.push(HISTORY)).unwrap().created, Created::New);
}
