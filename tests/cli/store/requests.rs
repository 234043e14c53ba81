//! Requests to an object store: no more requests and connections than necessary, under the keys of the format, and
//! with the answers to conditional writes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use rustix::process::Signal;
use support::{
    data_directory::{DataDirectory, SEGMENT, segment},
    push::{BACKUP, BACKUP_CONTENT, HISTORY, HISTORY_CONTENT, fails, succeeds},
    restore::{SYSTEM, TARGET},
    running::{Running, outcome_of},
    store_scene::{StoreScene, at_once, key, warns},
    wait_until,
};

const PARTIAL: &str = "000000010000000000000002.partial";
const MISSING: &str = "000000010000000000000009";

/// Values of `conditional_put`.
const MODES: [&str; 3] = ["yes", "auto", "no"];

/// Creates a scene in which the segment is archived and then replaced in `pg_wal`.
fn with_another_content(conditional_put: &str) -> StoreScene {
    let scene = StoreScene::with_conditional_put(conditional_put);
    scene.primary.segment(SEGMENT, 0);
    succeeds(scene.push(SEGMENT));
    scene.store.forget_requests();
    scene.primary.segment(SEGMENT, 1);
    scene
}

/// Creates a file of each kind in the primary's `pg_wal`, and returns their contents.
fn all_kinds(scene: &StoreScene) -> [(&'static str, Vec<u8>); 4] {
    let files = [
        (SEGMENT, scene.primary.segment(SEGMENT, 0)),
        (PARTIAL, scene.primary.segment(PARTIAL, 0)),
        (HISTORY, HISTORY_CONTENT.into()),
        (BACKUP, BACKUP_CONTENT.into()),
    ];
    for (name, content) in &files {
        scene.primary.file(&format!("pg_wal/{name}"), content);
    }
    files
}

// Pushing.

#[test]
fn a_push_into_a_store_with_conditional_writes_is_one_request() {
    let scene = StoreScene::with_conditional_put("yes");
    let content = scene.primary.segment(SEGMENT, 0);
    succeeds(scene.push(SEGMENT));
    assert_eq!(scene.asked(SEGMENT), ["PUT if new"]);
    assert_eq!(scene.store.connections(), 1);
    let sent = scene.store.requests()[0].content_length.unwrap();
    assert_eq!(sent, scene.stored(SEGMENT).unwrap().len() as u64);
    assert!(scene.original(SEGMENT) == content);
}

#[test]
fn a_push_into_any_other_store_asks_before_and_after_on_the_same_connection() {
    for (mode, expected) in [("auto", ["HEAD", "PUT if new", "HEAD"]), ("no", ["HEAD", "PUT", "HEAD"])] {
        let scene = StoreScene::with_conditional_put(mode);
        let content = scene.primary.segment(SEGMENT, 0);
        succeeds(scene.push(SEGMENT));
        assert_eq!(scene.asked(SEGMENT), expected, "{mode}");
        assert_eq!(scene.store.connections(), 1, "{mode}");
        assert!(scene.original(SEGMENT) == content, "{mode}");
    }
}

#[test]
fn nothing_set_means_auto() {
    let scene = StoreScene::new();
    scene.primary.segment(SEGMENT, 0);
    succeeds(scene.push(SEGMENT));
    assert_eq!(scene.asked(SEGMENT), ["HEAD", "PUT if new", "HEAD"]);
}

#[test]
fn the_connection_is_opened_while_the_segment_is_being_compressed() {
    let scene = StoreScene::with_conditional_put("yes");
    // Compressing this takes many seconds at that level.
    let large = segment(SEGMENT, SYSTEM, 64 << 20, 0);
    scene.primary.file(&format!("pg_wal/{SEGMENT}"), large);
    let mut push = scene.push(SEGMENT);
    push.args(["--compression-level", "19"]);
    let push = Running::start(push);
    wait_until("there is a connection", || scene.store.connections() == 1);
    push.signal(Signal::TERM);
    assert_eq!(push.end().status, 1);
    assert_eq!((scene.store.connections(), scene.store.requests().len()), (1, 0));
    assert_eq!(scene.store.keys(), [""; 0]);
}

#[test]
fn a_push_of_an_unacceptable_file_never_calls_the_store() {
    let scene = StoreScene::with_conditional_put("yes");
    scene.primary.file(&format!("pg_wal/{SEGMENT}"), vec![0; 1 << 20]);
    fails(4, scene.push(SEGMENT), &[SEGMENT]);
    assert_eq!((scene.store.connections(), scene.store.requests().len()), (0, 0));
}

#[test]
fn an_identical_resend_reads_the_object_and_does_not_change_it() {
    for (mode, expected) in
        [("yes", ["PUT if new", "GET"]), ("auto", ["HEAD", "GET"]), ("no", ["HEAD", "GET"])]
    {
        let scene = StoreScene::with_conditional_put(mode);
        let files = all_kinds(&scene);
        for (name, content) in &files {
            succeeds(scene.push(name));
            let before = scene.stored(name);
            scene.store.forget_requests();
            // The compression does not matter.
            let mut push = scene.push(name);
            push.args(["--compression", "none"]);
            succeeds(push);
            assert_eq!(scene.asked(name), expected, "{mode} {name}");
            assert!(scene.stored(name) == before, "{mode} {name}");
            assert!(scene.original(name) == *content, "{mode} {name}");
        }
        assert_eq!(scene.store.keys().len(), files.len(), "{mode}");
    }
}

#[test]
fn different_content_is_a_conflict_and_does_not_change_the_object() {
    for (mode, expected) in
        [("yes", ["PUT if new", "GET"]), ("auto", ["HEAD", "GET"]), ("no", ["HEAD", "GET"])]
    {
        let scene = with_another_content(mode);
        let before = scene.stored(SEGMENT);
        fails(
            3,
            scene.push(SEGMENT),
            &[&format!("s3://wal/{}", key(SEGMENT)), "different content", "BLAKE3"],
        );
        // A conflict also depends on timelines that left this one in that segment, so the history files are listed.
        assert_eq!(scene.asked_besides_listings(SEGMENT), expected, "{mode}");
        assert!(scene.stored(SEGMENT) == before, "{mode}");
    }
}

#[test]
fn an_object_that_is_no_archived_file_is_a_conflict_and_stays() {
    for mode in MODES {
        let scene = StoreScene::with_conditional_put(mode);
        scene.primary.segment(SEGMENT, 0);
        for found in [&b""[..], b"not one of walkeep's"] {
            scene.store.put(&key(SEGMENT), found);
            fails(3, scene.push(SEGMENT), &[&key(SEGMENT), "move the archive's file away"]);
            assert_eq!(scene.stored(SEGMENT).unwrap(), found, "{mode}");
        }
    }
}

// Conditions without effect.

#[test]
fn a_conflict_is_found_in_a_store_that_ignores_conditions() {
    for mode in ["auto", "no"] {
        let scene = StoreScene::with_conditional_put(mode);
        scene.store.ignore_conditions();
        scene.primary.segment(SEGMENT, 0);
        succeeds(scene.push(SEGMENT));
        let before = scene.stored(SEGMENT);
        scene.primary.segment(SEGMENT, 1);
        fails(3, scene.push(SEGMENT), &["different content"]);
        assert!(scene.stored(SEGMENT) == before, "{mode}");
    }
}

#[test]
fn a_store_that_does_not_understand_conditions_is_asked_without_and_the_setting_is_named() {
    let scene = StoreScene::with_conditional_put("auto");
    scene.store.refuse_conditions();
    let content = scene.primary.segment(SEGMENT, 0);
    warns("walkeep-archive", scene.push(SEGMENT), "conditional_put = \"no\"");
    assert_eq!(scene.asked(SEGMENT), ["HEAD", "PUT if new", "PUT", "HEAD"]);
    assert!(scene.original(SEGMENT) == content);
    succeeds(scene.push(SEGMENT));
    let before = scene.stored(SEGMENT);
    scene.primary.segment(SEGMENT, 1);
    fails(3, scene.push(SEGMENT), &["different content"]);
    assert!(scene.stored(SEGMENT) == before);
}

#[test]
fn a_store_wrongly_assumed_to_support_conditions_is_not_written_to() {
    let scene = StoreScene::with_conditional_put("yes");
    scene.store.refuse_conditions();
    scene.primary.segment(SEGMENT, 0);
    fails(2, scene.push(SEGMENT), &[&key(SEGMENT), "501", "conditional_put = \"no\""]);
    assert_eq!(scene.asked(SEGMENT), ["PUT if new"]);
    assert_eq!(scene.store.keys(), [""; 0]);
}

#[test]
fn a_store_that_is_not_asked_for_conditions_need_not_understand_them() {
    let scene = StoreScene::with_conditional_put("no");
    scene.store.refuse_conditions();
    let content = scene.primary.segment(SEGMENT, 0);
    succeeds(scene.push(SEGMENT));
    assert!(scene.original(SEGMENT) == content);
}

// Concurrency.

#[test]
fn of_concurrent_pushes_of_different_content_exactly_one_wins() {
    at_once(&["yes", "auto"], |mode| {
        for round in 0..4 {
            let scene = StoreScene::with_conditional_put(mode);
            let servers =
                ["one", "two", "three"].map(|name| DataDirectory::new(&scene.sandbox, name, SYSTEM));
            let contents: Vec<_> =
                servers.iter().zip(1..).map(|(server, seed)| server.segment(SEGMENT, seed)).collect();
            let running = servers.each_ref().map(|server| Running::start(scene.push_from(server, SEGMENT)));
            let outcomes = running.map(Running::end);
            let mut statuses = outcomes.each_ref().map(|outcome| outcome.status);
            let winner = statuses.iter().position(|status| *status == 0);
            assert!(scene.original(SEGMENT) == contents[winner.unwrap()], "{mode} {round}: {outcomes:?}");
            statuses.sort_unstable();
            assert_eq!(statuses, [0, 3, 3], "{mode} {round}: {outcomes:?}");
        }
    });
}

#[test]
fn concurrent_pushes_of_the_same_content_all_succeed() {
    at_once(&["yes", "auto"], |mode| {
        let scene = StoreScene::with_conditional_put(mode);
        let content = scene.primary.segment(SEGMENT, 0);
        let running = [(); 4].map(|()| Running::start(scene.push(SEGMENT)));
        for outcome in running.map(Running::end) {
            assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{mode}");
        }
        assert!(scene.original(SEGMENT) == content, "{mode}");
    });
}

// Keys.

#[test]
fn all_four_kinds_have_the_keys_of_the_format_and_are_restored_with_one_request_each() {
    let scene = StoreScene::with_conditional_put("yes");
    let files = all_kinds(&scene);
    for (name, content) in &files {
        scene.store.forget_requests();
        succeeds(scene.push(name));
        assert_eq!(scene.asked(name), ["PUT if new"]);
        scene.store.forget_requests();
        assert!(scene.restored(name, "") == *content, "{name}");
        assert_eq!(scene.asked(name), ["GET"]);
        scene.store.forget_requests();
        assert!(scene.original(name) == *content, "{name}");
        assert_eq!(scene.asked(name), ["GET"]);
    }
    let keys = [
        "main/7381092445103374871/backups/000000010000000000000001.00000028.backup",
        "main/7381092445103374871/timelines/00000002.history",
        "main/7381092445103374871/wal/0000000100000000/000000010000000000000001",
        "main/7381092445103374871/wal/0000000100000000/000000010000000000000002.partial",
    ];
    assert_eq!(scene.store.keys(), keys);
}

#[test]
fn an_archive_may_be_a_whole_bucket_or_deep_in_one() {
    for (url, prefix) in [("s3://wal", ""), ("s3://wal/", ""), ("s3://wal/a b/c=d/e", "a b/c=d/e/")] {
        let mut scene = StoreScene::new();
        scene.archive_into(url);
        let content = scene.primary.segment(SEGMENT, 0);
        succeeds(scene.push(SEGMENT));
        assert_eq!(scene.store.keys(), [key(SEGMENT).replacen("main/", prefix, 1)]);
        assert!(scene.restored(SEGMENT, "") == content, "{url}");
    }
}

// Reading.

#[test]
fn a_restore_is_one_request_on_one_connection() {
    let (scene, content) = StoreScene::with_segment();
    let before = scene.store.connections();
    assert!(scene.restored(SEGMENT, "") == content);
    assert_eq!(scene.asked(SEGMENT), ["GET"]);
    assert_eq!(scene.store.connections(), before + 1);
}

#[test]
fn the_first_timelines_history_is_known_not_to_exist_without_asking() {
    let scene = StoreScene::new();
    let outcome = outcome_of(scene.restore(&scene.recovery, "00000001.history"));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (1, ""));
    assert_eq!((scene.store.connections(), scene.store.requests().len()), (0, 0));
}

#[test]
fn cat_finds_the_only_system_by_a_listing_and_says_what_is_missing() {
    let (scene, content) = StoreScene::with_segment();
    let elsewhere = scene.sandbox.directory("elsewhere");
    let cat = |name: &str| {
        let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
        command.args(["cat", name]).current_dir(&elsewhere);
        command.output().unwrap()
    };
    assert!(cat(SEGMENT).stdout == content);
    let requests = scene.store.requests();
    let methods: Vec<_> =
        requests.iter().map(|request| (&*request.method, request.query.is_some())).collect();
    assert_eq!(methods, [("GET", true), ("GET", false)]);
    let missing = cat(MISSING);
    let stderr = String::from_utf8(missing.stderr).unwrap();
    assert_eq!((missing.status.code(), missing.stdout.len()), (Some(1), 0));
    assert!(stderr.contains(MISSING) && stderr.contains("s3://wal/main"), "{stderr}");
}

#[test]
fn a_restore_replaces_what_is_at_its_target_only_with_the_whole_file() {
    let (scene, content) = StoreScene::with_segment();
    scene.recovery.file(TARGET, "an older one");
    succeeds(scene.restore(&scene.recovery, SEGMENT));
    assert!(fs::read(scene.recovery.join(TARGET)).unwrap() == content);
    scene.recovery.file(TARGET, "an older one");
    assert_eq!(outcome_of(scene.restore(&scene.recovery, MISSING)).status, 1);
    assert_eq!(fs::read(scene.recovery.join(TARGET)).unwrap(), b"an older one");
}
