//! Segments too large for memory, sent to an object store: one upload like any other, after one request whether it is
//! needed, and the same guarantees.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, fs::File, path::Path};

use rustix::process::Signal;
use support::{
    data_directory::{DataDirectory, SEGMENT},
    large::{LARGE, same_content, segment_of},
    push::{fails, files_below, succeeds},
    restore::{SYSTEM, TARGET},
    running::{Running, outcome_of},
    store::{
        fault::{Fault, Matching},
        garage::Garage,
        recorder::Recorder,
    },
    store_scene::{StoreScene, at_once, key, warns},
    wait_until,
};
use walkeep::frame::Archived;

/// Position far into an upload.
const MIDDLE: u64 = LARGE / 2;

/// Creates a scene in which a store may be busy for long.
fn patient_scene(conditional_put: &str) -> StoreScene {
    let mut scene = StoreScene::with_conditional_put(conditional_put);
    scene.wait_long();
    scene.recovery.set_segment_bytes(LARGE);
    scene
}

/// Creates a large segment in the primary's `pg_wal`.
fn make_segment(scene: &StoreScene, seed: u64) {
    segment_of(&scene.primary, SYSTEM, SEGMENT, LARGE, seed);
}

/// Asserts that a restore returns the content of `pg_wal`.
fn assert_comes_back(scene: &StoreScene) {
    succeeds(scene.restore(&scene.recovery, SEGMENT));
    let restored = scene.recovery.join(TARGET);
    assert!(same_content(&restored, &scene.primary.join(&format!("pg_wal/{SEGMENT}"))));
    fs::remove_file(restored).unwrap();
}

#[test]
fn a_large_segment_is_sent_as_one_request_and_leaves_only_the_object() {
    at_once(
        &[
            ("yes", &["HEAD", "PUT if new"][..]),
            // Looked at again, because nothing else would show a lost race.
            ("auto", &["HEAD", "PUT if new", "HEAD"]),
            ("no", &["HEAD", "PUT", "HEAD"]),
        ],
        |case| {
            let (mode, expected) = case;
            let scene = patient_scene(mode);
            make_segment(&scene, 1);
            succeeds(scene.push(SEGMENT));
            assert_eq!(scene.asked(SEGMENT), *expected, "{mode}");
            assert_eq!(scene.store.connections(), 1, "{mode}");
            let requests = scene.store.requests();
            let put = requests.iter().rfind(|request| request.method == "PUT");
            let sent = put.unwrap().content_length.unwrap();
            assert_eq!(sent, fs::metadata(scene.store.file(&key(SEGMENT))).unwrap().len(), "{mode}");
            assert!(sent > LARGE, "nothing compresses it");
            assert_eq!(scene.store.keys(), [key(SEGMENT)], "{mode}");
            assert_eq!(files_below(&scene.sandbox.join("spool")), [""; 0], "{mode}");
            assert_comes_back(&scene);
        },
    );
}

#[test]
fn the_store_accepts_every_kind_of_signature() {
    let cases = [
        ("AWS_UNSIGNED_PAYLOAD", "true"),
        ("AWS_CHECKSUM_ALGORITHM", "sha256"),
        ("AWS_CHECKSUM_ALGORITHM", "crc64nvme"),
        ("AWS_REGION", "eu-central-1"),
    ];
    at_once(&cases, |(variable, value)| {
        let mut scene = patient_scene("yes");
        scene.set(variable, value);
        make_segment(&scene, 1);
        succeeds(scene.push(SEGMENT));
        assert_comes_back(&scene);
    });
}

#[test]
fn the_same_content_is_found_archived_and_different_content_is_a_conflict() {
    at_once(&["yes", "auto", "no"], |mode| {
        let scene = patient_scene(mode);
        make_segment(&scene, 1);
        succeeds(scene.push(SEGMENT));
        let archived = scene.store.file(&key(SEGMENT));
        let before = fs::metadata(&archived).unwrap().modified().unwrap();
        scene.store.forget_requests();
        succeeds(scene.push(SEGMENT));
        make_segment(&scene, 2);
        fails(3, scene.push(SEGMENT), &["different content", &key(SEGMENT)]);
        // In addition, the history files are listed: a timeline may have left this one in that segment.
        let asked = scene.asked_besides_listings(SEGMENT);
        assert_eq!(asked, ["HEAD", "GET", "HEAD", "GET"], "{mode}: nothing is sent in vain");
        assert_eq!(fs::metadata(&archived).unwrap().modified().unwrap(), before, "{mode}: untouched");
        make_segment(&scene, 1);
        assert_comes_back(&scene);
    });
}

#[test]
fn of_two_concurrent_uploads_one_wins() {
    let scene = patient_scene("yes");
    let servers = ["one", "two"].map(|name| DataDirectory::new(&scene.sandbox, name, SYSTEM));
    for (server, seed) in servers.iter().zip(1..) {
        segment_of(server, SYSTEM, SEGMENT, LARGE, seed);
    }
    let running = servers.each_ref().map(|server| Running::start(scene.push_from(server, SEGMENT)));
    let statuses = running.map(|push| push.end().status);
    let winner = statuses.iter().position(|status| *status == 0).unwrap();
    assert_eq!(statuses[1 - winner], 3, "{statuses:?}");
    succeeds(scene.restore(&scene.recovery, SEGMENT));
    let wal = servers[winner].join(&format!("pg_wal/{SEGMENT}"));
    assert!(same_content(&scene.recovery.join(TARGET), &wal));
}

#[test]
fn a_store_that_does_not_understand_conditions_is_asked_without() {
    let scene = patient_scene("auto");
    scene.store.refuse_conditions();
    make_segment(&scene, 1);
    warns("walkeep-archive", scene.push(SEGMENT), "conditional_put = \"no\"");
    assert_eq!(scene.asked(SEGMENT), ["HEAD", "PUT if new", "PUT", "HEAD"]);
    assert_comes_back(&scene);
}

#[test]
fn an_interrupted_upload_is_started_again() {
    let scene = patient_scene("yes");
    make_segment(&scene, 1);
    scene.store.break_times(2, Matching::Puts, Fault::ResetUpload(MIDDLE));
    warns("walkeep-archive", scene.push(SEGMENT), "trying again");
    assert_eq!(scene.asked(SEGMENT), ["HEAD", "PUT if new"].repeat(3));
    assert_comes_back(&scene);
}

#[test]
fn a_store_that_fails_during_an_upload_keeps_nothing_and_receives_it_once_it_works() {
    let mut scene = patient_scene("yes");
    make_segment(&scene, 1);
    scene.store.break_with(Matching::Puts, Fault::ResetUpload(MIDDLE));
    // Eight times as long for a segment of that size.
    scene.set("WALKEEP_TIMEOUT", "2s");
    let outcome = outcome_of(scene.push(SEGMENT));
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&key(SEGMENT)), "{}", outcome.stderr);
    assert_eq!(scene.store.keys(), [""; 0]);
    scene.store.heal();
    scene.set("WALKEEP_TIMEOUT", "1m");
    succeeds(scene.push(SEGMENT));
    assert_comes_back(&scene);
}

#[test]
fn error_responses_are_reported_as_for_any_other_request() {
    let cases = [(403, "AccessDenied", 2, "1m"), (503, "SlowDown", 1, "2s")];
    at_once(&cases, |(status, code, ends, limit)| {
        let mut scene = patient_scene("yes");
        make_segment(&scene, 1);
        scene.set("WALKEEP_TIMEOUT", limit);
        let fault = Fault::Answer { status: *status, code, message: "because" };
        scene.store.break_with(Matching::Puts, fault);
        let outcome = outcome_of(scene.push(SEGMENT));
        assert_eq!(outcome.status, *ends, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(code), "{}", outcome.stderr);
        assert_eq!(scene.store.keys(), [""; 0]);
    });
}

#[test]
fn a_push_killed_or_stopped_during_an_upload_leaves_nothing() {
    at_once(&[(Signal::KILL, -9), (Signal::TERM, 1)], |(signal, ends)| {
        let scene = patient_scene("yes");
        make_segment(&scene, 1);
        scene.store.break_times(1, Matching::Puts, Fault::StopReading(MIDDLE));
        let push = Running::start(scene.push(SEGMENT));
        wait_until("it is being sent", || {
            scene.store.requests().iter().any(|request| request.method == "PUT")
        });
        push.signal(*signal);
        assert_eq!(push.end().status, *ends);
        assert_eq!(scene.store.keys(), [""; 0]);
        assert_eq!(files_below(&scene.sandbox.join("spool")), [""; 0]);
        scene.store.heal();
        succeeds(scene.push(SEGMENT));
        assert_comes_back(&scene);
    });
}

#[test]
fn a_large_segment_survives_the_round_trip_through_garage() {
    let mut scene = patient_scene("auto");
    let sandbox = support::sandbox::Sandbox::new();
    let garage = Garage::start(&sandbox);
    for (variable, value) in garage.environment() {
        scene.set(variable, &value);
    }
    make_segment(&scene, 1);
    succeeds(scene.push(SEGMENT));
    assert_comes_back(&scene);
    succeeds(scene.push(SEGMENT));
    make_segment(&scene, 2);
    fails(3, scene.push(SEGMENT), &["different content"]);
}

/// Pushes a large segment to an address that accepts everything, and asserts that it was one request for a new object
/// with the segment.
fn is_sent_as_one_request(url: &'static str, settings: impl Fn(&str) -> String, head: &[&str]) {
    let mut scene = patient_scene("auto");
    let recorder = Recorder::start(&scene.sandbox.join("recorded"));
    let endpoint = recorder.endpoint();
    scene.archive_into(url);
    let file = format!("[store]\nallow_http = true\n{}", settings(&endpoint));
    let file = scene.sandbox.file("walkeep.toml", file);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    scene.set("WALKEEP_CONFIG", file.to_str().unwrap());
    make_segment(&scene, 1);
    succeeds(scene.push(SEGMENT));
    let request = recorder.recorded();
    for word in head {
        assert!(request.head.iter().any(|line| line.contains(word)), "{word} is not in {:#?}", request.head);
    }
    assert!(holds(
        &request.body,
        &scene.primary.join(&format!("pg_wal/{SEGMENT}")),
        &scene.sandbox.join("out")
    ));
}

/// Returns `true` if an archived file contains the original.
fn holds(archived: &Path, original: &Path, scratch: &Path) -> bool {
    let length = fs::metadata(archived).unwrap().len();
    let archived = Archived::open(File::open(archived).unwrap(), length).unwrap();
    archived.decode(File::create(scratch).unwrap()).unwrap();
    same_content(scratch, original)
}

#[test]
fn azure_receives_one_request_with_its_length() {
    let settings = |endpoint: &str| {
        format!("account_name = \"me\"\naccount_key = \"c2VjcmV0\"\nendpoint = \"{endpoint}\"\n")
    };
    let head = ["PUT /wal/main/", "if-none-match: *", "authorization: SharedKey me:"];
    is_sent_as_one_request("az://wal/main", settings, &head);
}

#[test]
fn google_receives_one_request_with_its_length() {
    let settings =
        |endpoint: &str| format!("google_base_url = \"{endpoint}\"\ngoogle_bearer_token = \"secret\"\n");
    let head = ["PUT /wal/main", "x-goog-if-generation-match: 0", "authorization: Bearer secret"];
    is_sent_as_one_request("gs://wal/main", settings, &head);
}
