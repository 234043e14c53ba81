//! Restores from a faulty store: they succeed with the right bytes once possible, and report an unknown answer until
//! then. Only the store's own answer about the key means that a file is absent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::time::{Duration, Instant};

use support::{
    data_directory::{SEGMENT, segment},
    push::{HISTORY, HISTORY_CONTENT, succeeds},
    restore::SYSTEM,
    running::outcome_of,
    store::fault::{
        Fault,
        Matching::{Any, Gets, Listings},
    },
    store_scene::{StoreScene, at_once, key},
};

/// Much less than the time limit that applies when nothing is retried.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Page of a proxy or a captive portal.
const PAGE: &str = "<html><body><h1>Please log in</h1></body></html>";

const MISSING: &str = "000000010000000000000009";

fn answer(status: u16, code: &'static str) -> Fault {
    Fault::Answer { status, code, message: "The store's own words." }
}

fn raw(status: u16, body: &'static str) -> Fault {
    Fault::Raw { status, headers: vec![("content-type", "text/html".to_owned())], body }
}

/// Returns faults that break a connection or let it hang, with a word of the message.
fn broken_connections() -> Vec<(Fault, &'static str)> {
    let stalled = "nothing was sent or received for ";
    vec![
        (Fault::ResetBeforeReading, "connection"),
        (Fault::ResetUpload(0), "connection"),
        (Fault::AnswerLost, "connection"),
        (Fault::ResetAfter(0), ""),
        (Fault::ResetAfter(500), "cannot"),
        (Fault::ResetAfter(5000), "cannot"),
        (Fault::CutBody(0), "cannot"),
        (Fault::CutBody(500), "cannot read"),
        (Fault::CutBody(5000), "cannot read"),
        (Fault::Hang, stalled),
        (Fault::HangAfterEffect, stalled),
        (Fault::StopReading(0), stalled),
        (Fault::HangInBody(0), stalled),
        (Fault::HangInBody(500), stalled),
        (Fault::HangInBody(5000), stalled),
    ]
}

/// Returns temporary error responses of the store or a proxy, with words of the message.
fn passing_answers() -> Vec<(Fault, &'static str)> {
    let redirected = vec![("location", "http://127.0.0.1:1/elsewhere".to_owned())];
    vec![
        (answer(500, "InternalError"), "500 Internal Server Error (InternalError: The store's own words.)"),
        (raw(502, PAGE), "502 Bad Gateway"),
        (answer(503, "SlowDown"), "503 Service Unavailable (SlowDown"),
        (raw(504, ""), "504 Gateway Timeout"),
        (answer(429, "TooManyRequests"), "429 Too Many Requests"),
        (answer(408, "RequestTimeout"), "408 Request Timeout"),
        (answer(400, "RequestTimeout"), "400 Bad Request (RequestTimeout"),
        (answer(409, "OperationAborted"), "409 Conflict (OperationAborted"),
        (Fault::Raw { status: 307, headers: redirected, body: "" }, "307 Temporary Redirect"),
        (raw(404, PAGE), "is the endpoint right"),
        (raw(404, ""), "is the endpoint right"),
        (raw(404, "NoSuchKey"), "is the endpoint right"),
        (answer(404, "NoSuchUpload"), "NoSuchUpload"),
        (answer(404, "NoSuchVersion"), "NoSuchVersion"),
        (raw(200, PAGE), "is nothing in between"),
        (raw(204, ""), "is nothing in between"),
    ]
}

/// Asserts that a restore reports an unknown answer with `words`. Once the store works, it succeeds.
fn cannot_tell_until_healed(scene: &mut StoreScene, content: &[u8], words: &[&str]) {
    scene.cannot_tell(SEGMENT, words);
    scene.cannot_tell(MISSING, &[]);
    scene.store.heal();
    scene.relax();
    assert!(scene.restored(SEGMENT, "") == content, "{words:?}");
    assert_eq!(outcome_of(scene.restore(&scene.recovery, MISSING)).status, 1);
}

#[test]
fn a_connection_that_keeps_breaking_proves_nothing() {
    at_once(&broken_connections(), |(fault, words)| {
        let (mut scene, content) = StoreScene::with_segment();
        scene.hurry();
        scene.store.break_with(Any, fault.clone());
        let at = key(SEGMENT);
        scene.cannot_tell(SEGMENT, &["cannot", &at, words]);
        scene.store.heal();
        scene.relax();
        assert!(scene.restored(SEGMENT, "") == content, "{fault:?}");
    });
}

#[test]
fn an_incomplete_error_about_the_key_proves_nothing() {
    for fault in [Fault::CutBody(20), Fault::ResetAfter(20), Fault::HangInBody(20), Fault::Trickle] {
        let (mut scene, _) = StoreScene::with_segment();
        scene.hurry();
        scene.store.break_with(Any, fault.clone());
        scene.cannot_tell(MISSING, &[]);
        scene.store.heal();
        scene.relax();
        assert_eq!(outcome_of(scene.restore(&scene.standby, MISSING)).status, 1, "{fault:?}");
    }
}

#[test]
fn a_trickling_response_blocks_no_restore_beyond_its_time_limit() {
    let (mut scene, content) = StoreScene::with_segment();
    scene.hurry();
    scene.store.break_with(Any, Fault::Trickle);
    cannot_tell_until_healed(&mut scene, &content, &["time limit", "does the archive answer?"]);
}

#[test]
fn a_temporary_error_response_proves_nothing() {
    at_once(&passing_answers(), |(fault, words)| {
        let (mut scene, content) = StoreScene::with_segment();
        scene.hurry();
        scene.store.break_with(Any, fault.clone());
        cannot_tell_until_healed(&mut scene, &content, &["cannot fetch", &key(SEGMENT), words]);
    });
}

#[test]
fn a_page_in_place_of_an_object_is_not_served() {
    let headers =
        vec![("etag", "\"1\"".to_owned()), ("last-modified", "Sat, 03 Jan 2026 04:05:06 GMT".to_owned())];
    for body in [PAGE, ""] {
        let (mut scene, content) = StoreScene::with_segment();
        scene.store.break_with(Any, Fault::Raw { status: 200, headers: headers.clone(), body });
        cannot_tell_until_healed(&mut scene, &content, &["cannot use", &key(SEGMENT), "damaged"]);
    }
}

// Temporary faults within one call.

#[test]
fn a_connection_that_breaks_twice_delays_the_restore() {
    at_once(&broken_connections(), |(fault, _)| {
        let (mut scene, content) = StoreScene::with_segment();
        scene.cut_soon();
        scene.store.break_times(2, Gets, fault.clone());
        assert!(scene.restored(SEGMENT, "trying again") == content, "{fault:?}");
        assert_eq!(scene.asked(SEGMENT), ["GET"; 3], "{fault:?}");
        scene.store.forget_requests();
        scene.store.heal();
        scene.store.break_times(1, Gets, fault.clone());
        // A missing file has a response with a body as well, which may or may not arrive.
        let outcome = outcome_of(scene.restore(&scene.recovery, MISSING));
        assert_eq!(outcome.status, 1, "{fault:?}: {}", outcome.stderr);
    });
}

#[test]
fn two_temporary_error_responses_delay_the_restore() {
    at_once(&passing_answers(), |(fault, words)| {
        let (scene, content) = StoreScene::with_segment();
        scene.store.break_times(2, Gets, fault.clone());
        assert!(scene.restored(SEGMENT, words) == content, "{fault:?}");
        assert_eq!(scene.asked(SEGMENT), ["GET"; 3], "{fault:?}");
    });
}

#[test]
fn cat_and_check_try_again_as_a_restore_does() {
    at_once(&passing_answers(), |(fault, words)| {
        let (scene, content) = StoreScene::with_segment();
        scene.store.break_times(2, Gets, fault.clone());
        let output = scene.cat(SEGMENT).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == content, "{fault:?}: {stderr}");
        assert!(stderr.starts_with("walkeep: warning: ") && stderr.contains(words), "{stderr}");
    });
    let (scene, _) = StoreScene::with_segment();
    scene.store.break_times(2, Listings, answer(503, "SlowDown"));
    let mut check = scene.command(&scene.primary, scene.sandbox.walkeep());
    check.arg("check");
    let output = check.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("holds the WAL of one system"), "{stdout}");
}

#[test]
fn a_large_segment_whose_transfer_breaks_anywhere_is_fetched_again() {
    let scene = {
        let mut scene = StoreScene::new();
        scene.cut_soon();
        scene
    };
    let content = segment(SEGMENT, SYSTEM, 16 << 20, 0);
    scene.recovery.set_segment_bytes(16 << 20);
    scene.primary.file(&format!("pg_wal/{SEGMENT}"), &content);
    let mut push = scene.push(SEGMENT);
    push.args(["--compression", "none"]);
    succeeds(push);
    for fault in [Fault::CutBody(10 << 20), Fault::ResetAfter(10 << 20), Fault::HangInBody(10 << 20)] {
        scene.store.break_times(1, Gets, fault.clone());
        assert!(scene.restored(SEGMENT, "trying again") == content, "{fault:?}");
    }
}

// Permanent faults.

#[test]
fn an_object_that_arrives_damaged_is_not_served() {
    let (mut scene, content) = StoreScene::with_segment();
    scene.set("WALKEEP_TIMEOUT", "1h");
    let stored = scene.stored(SEGMENT).unwrap().len() as u64;
    for at in [0, 7, 500, 1023, 1024, 5000, stored - 1] {
        scene.store.break_with(Gets, Fault::FlipByte(at));
        scene.cannot_tell(SEGMENT, &["cannot use", &key(SEGMENT), "damaged"]);
        scene.store.heal();
        assert!(scene.restored(SEGMENT, "") == content, "{at}");
    }
}

#[test]
fn permanent_faults_fail_at_once_with_a_hint_and_prove_nothing() {
    let moved = Fault::Raw {
        status: 301,
        headers: vec![("x-amz-bucket-region", "eu-central-1".to_owned())],
        body: "<Error><Code>PermanentRedirect</Code><Message>Elsewhere.</Message></Error>",
    };
    let cases = [
        (
            answer(403, "AccessDenied"),
            ["AccessDenied: The store's own words.", "unless they allow ListBucket"],
        ),
        (answer(403, "InvalidAccessKeyId"), ["InvalidAccessKeyId", "are the credentials this store's?"]),
        (answer(403, "SignatureDoesNotMatch"), ["SignatureDoesNotMatch", "secret key"]),
        (answer(403, "InvalidObjectState"), ["InvalidObjectState", "cold storage"]),
        (raw(403, PAGE), ["403 Forbidden", "credentials do not allow it"]),
        (raw(401, PAGE), ["401 Unauthorized", "credentials do not allow it"]),
        (answer(400, "ExpiredToken"), ["ExpiredToken", "renew them"]),
        (answer(404, "NoSuchBucket"), ["NoSuchBucket", "bucket does not exist"]),
        (moved, ["301", "eu-central-1; set region"]),
        (answer(405, "MethodNotAllowed"), ["405", "walkeep check"]),
        (raw(410, ""), ["410 Gone", "walkeep check"]),
        (raw(416, ""), ["416", "walkeep check"]),
    ];
    at_once(&cases, |(fault, words)| {
        let (mut scene, content) = StoreScene::with_segment();
        scene.set("WALKEEP_TIMEOUT", "1h");
        scene.store.break_with(Any, fault.clone());
        let started = Instant::now();
        cannot_tell_until_healed(
            &mut scene,
            &content,
            &[&["cannot fetch", &*key(SEGMENT)], &words[..]].concat(),
        );
        assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
        // Two servers requested two files each; then one of each was requested, and neighbours of the missing one
        // were looked up: near it, in the whole archive, for a next timeline, and among the base backups.
        assert_eq!(scene.store.requests().len(), 6 + 4);
    });
}

#[test]
fn unknown_credentials_prove_nothing() {
    for (variable, code, hint) in [
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch", "secret key does not belong to the access key"),
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId", "does not know this access key"),
    ] {
        let (mut scene, _) = StoreScene::with_segment();
        scene.set("WALKEEP_TIMEOUT", "1h");
        scene.set(variable, "WRONG");
        for name in [SEGMENT, MISSING] {
            scene.cannot_tell(name, &[&key(name), code, hint]);
        }
    }
}

#[test]
fn a_bucket_that_does_not_exist_proves_nothing() {
    let (mut scene, _) = StoreScene::with_segment();
    scene.archive_into("s3://other/main");
    scene.set("WALKEEP_TIMEOUT", "1h");
    for name in [SEGMENT, MISSING] {
        scene.cannot_tell(name, &["s3://other/main/", "NoSuchBucket", "the bucket does not exist"]);
    }
}

#[test]
fn a_wrong_clock_is_named_with_the_difference() {
    for (offset, words) in [(3600, "behind the store's"), (-7200, "ahead of the store's")] {
        let (mut scene, _) = StoreScene::with_segment();
        scene.set("WALKEEP_TIMEOUT", "1h");
        scene.store.set_clock_offset(offset);
        scene.store.break_with(Any, answer(403, "RequestTimeTooSkewed"));
        scene.cannot_tell(SEGMENT, &["this machine's clock is", words, "NTP"]);
    }
}

#[test]
fn a_wrong_clock_is_harmless_while_the_store_accepts_it() {
    let (scene, content) = StoreScene::with_segment();
    scene.store.set_clock_offset(3600);
    assert!(scene.restored(SEGMENT, "") == content);
}

#[test]
fn a_timeline_history_that_the_store_cannot_provide_comes_from_the_server() {
    let (mut scene, _) = StoreScene::with_segment();
    scene.set("WALKEEP_TIMEOUT", "1h");
    scene.standby.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    for fault in [answer(503, "SlowDown"), answer(403, "AccessDenied"), Fault::AnswerLost] {
        scene.store.break_with(Any, fault);
        let outcome = outcome_of(scene.restore(&scene.standby, HISTORY));
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("own copy"), "{}", outcome.stderr);
        scene.store.heal();
    }
}
