//! Acknowledgements of files in a store: recent ones count, and the store is asked about all others.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, process::Command};

use support::{
    data_directory::DataDirectory,
    push::{SYSTEM, fails, succeeds},
    ready::{
        BY_AN_EARLIER_CALL, copy_of_files, date_notes, make_notes_old, make_ready, mark, name, only_spool,
        said, shift, unmark_all,
    },
    running::outcome_of,
    store::fault::{Fault, Matching},
    store_scene::{StoreScene, key},
};

/// Creates a store with three segments, the first of which was archived together with the others. Later calls archive
/// only their own files, unless others are marked. Requests are counted from here on.
fn scene_with_notes() -> StoreScene {
    let scene = StoreScene::new();
    make_ready(&scene.primary, 1..=3);
    succeeds(scene.push(&name(1)));
    assert_eq!(scene.store.keys().len(), 3);
    unmark_all(&scene.primary);
    scene.store.forget_requests();
    scene
}

fn remove(scene: &StoreScene, number: usize) {
    fs::remove_file(scene.store.file(&key(&name(number)))).unwrap();
}

#[test]
fn a_recent_note_counts_without_a_request() {
    let scene = scene_with_notes();
    assert!(said(scene.push(&name(2))).contains(BY_AN_EARLIER_CALL));
    // The only answer that depends on the spool alone.
    remove(&scene, 3);
    assert!(said(scene.push(&name(3))).contains(BY_AN_EARLIER_CALL));
    assert_eq!(scene.store.requests().len(), 0);
}

#[test]
fn an_older_note_costs_one_request() {
    let scene = scene_with_notes();
    make_notes_old(&scene.sandbox);
    assert!(said(scene.push(&name(2))).contains(BY_AN_EARLIER_CALL));
    assert_eq!(scene.asked(&name(2)), ["HEAD"]);
}

/// Change of a note's time.
type Change = fn(&mut [String; 3]);

#[test]
fn disagreeing_clocks_make_a_note_old() {
    let changes: [(&str, Change); 5] = [
        ("older by the clock on the wall", |words| shift(&mut words[0], -3600)),
        ("from after this moment", |words| shift(&mut words[0], 3600)),
        ("another run of the machine", |words| words[1] = words[1].replace(['0', '1', '2', '3'], "f")),
        ("older by the clock of this run", |words| words[2] = "0".to_owned()),
        ("from a later moment of this run", |words| shift(&mut words[2], 3600)),
    ];
    let scene = StoreScene::new();
    make_ready(&scene.primary, 1..=changes.len() + 1);
    succeeds(scene.push(&name(1)));
    unmark_all(&scene.primary);
    let genuine = scene.sandbox.join("genuine");
    copy_of_files(&only_spool(&scene.sandbox), &genuine);
    for (number, (what, change)) in (2..).zip(changes) {
        copy_of_files(&genuine, &only_spool(&scene.sandbox));
        date_notes(&scene.sandbox, change);
        remove(&scene, number);
        scene.store.forget_requests();
        let text = said(scene.push(&name(number)));
        assert!(!text.contains(BY_AN_EARLIER_CALL), "{what}: {text}");
        assert_eq!(scene.asked(&name(number))[0], "HEAD", "{what}");
        assert!(scene.stored(&name(number)).is_some(), "{what}");
    }
}

#[test]
fn a_missing_or_different_object_does_not_count_as_archived() {
    let scene = scene_with_notes();
    make_notes_old(&scene.sandbox);
    remove(&scene, 2);
    let text = said(scene.push(&name(2)));
    assert!(text.contains("no longer in the archive"), "{text}");
    assert!(
        scene.original(&name(2)) == fs::read(scene.primary.join(&format!("pg_wal/{}", name(2)))).unwrap()
    );
    let other = DataDirectory::new(&scene.sandbox, "other", SYSTEM);
    other.segment(&name(3), 99);
    remove(&scene, 3);
    succeeds(scene.push_from(&other, &name(3)));
    fails(3, scene.push(&name(3)), &[&name(3), "different content"]);
}

#[test]
fn if_the_store_does_not_answer_a_note_does_not_count() {
    let mut scene = scene_with_notes();
    make_notes_old(&scene.sandbox);
    for (number, fault) in
        [(2, Fault::Answer { status: 503, code: "SlowDown", message: "Later." }), (3, Fault::Hang)]
    {
        scene.cut_soon();
        scene.store.break_times(1, Matching::Heads, fault);
        let text = said(scene.push(&name(number)));
        assert!(text.contains("already archived"), "{text}");
    }
    // A store that does not answer at all is reported.
    make_ready(&scene.primary, 4..=5);
    scene.relax();
    succeeds(scene.push(&name(4)));
    make_notes_old(&scene.sandbox);
    scene.hurry();
    scene.store.break_with(Matching::Any, Fault::Hang);
    let outcome = outcome_of(scene.push(&name(5)));
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
}

#[test]
fn looking_ahead_asks_again_for_what_was_acknowledged_long_ago() {
    let scene = scene_with_notes();
    scene.primary.file(&format!("pg_wal/{}", name(1)), "short");
    (1..=3).for_each(|number| mark(&scene.primary, &name(number)));
    remove(&scene, 2);
    let push = || -> Command { scene.push(&name(1)) };
    fails(4, push(), &[&name(1)]);
    assert_eq!(scene.store.requests().len(), 0, "notes of this very moment count");
    make_notes_old(&scene.sandbox);
    let output = outcome_of(push());
    assert_eq!(output.status, 4);
    assert!(
        output.stderr.contains(&format!("warning: {} was archived before", name(2))),
        "{}",
        output.stderr
    );
    assert!(scene.stored(&name(2)).is_some());
    let of_third = |request: &support::store::request::Request| request.path.ends_with(&name(3));
    let methods: Vec<_> =
        scene.store.requests().into_iter().filter(of_third).map(|request| request.method).collect();
    assert_eq!(methods, ["HEAD"]);
    scene.store.forget_requests();
    fails(4, push(), &[&name(1)]);
    assert_eq!(scene.store.requests().len(), 0, "both have been noted anew");
}
