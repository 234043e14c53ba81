//! Pushes into a faulty store: they succeed only once the object is stored, never leave a different object, and
//! report cause and advice.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::time::{Duration, Instant};

use support::{
    data_directory::{SEGMENT, segment},
    push::{fails, succeeds},
    restore::SYSTEM,
    running::{Outcome, outcome_of},
    store::fault::{
        Fault,
        Matching::{Any, Gets, Heads, Puts},
    },
    store_scene::{StoreScene, at_once, check_lines, key, warns},
};

/// Much less than the time limit that applies when nothing is retried.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Page of a proxy or a captive portal.
const PAGE: &str = "<html><body><h1>Please log in</h1></body></html>";

/// Content of the archive after a failed push.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    Nothing,
    TheFile,
}
use Leaves::{Nothing, TheFile};

fn answer(status: u16, code: &'static str) -> Fault {
    Fault::Answer { status, code, message: "The store's own words." }
}

fn page(status: u16) -> Fault {
    Fault::Raw { status, headers: vec![("content-type", "text/html".to_owned())], body: PAGE }
}

fn redirect(status: u16) -> Fault {
    let location = ("location", "http://127.0.0.1:1/elsewhere".to_owned());
    Fault::Raw { status, headers: vec![location], body: "" }
}

/// Returns faults that break a connection or let it hang, with the resulting content and a word of the message.
fn broken_connections() -> Vec<(Fault, Leaves, &'static str)> {
    let stalled = "nothing was sent or received for ";
    vec![
        (Fault::ResetBeforeReading, Nothing, "connection"),
        (Fault::ResetUpload(1000), Nothing, "connection"),
        (Fault::AnswerLost, TheFile, "connection"),
        (Fault::Hang, Nothing, stalled),
        (Fault::StopReading(0), Nothing, stalled),
        (Fault::HangAfterEffect, TheFile, stalled),
    ]
}

/// Returns temporary error responses of the store or a proxy, with words of the message.
fn passing_answers() -> Vec<(Fault, &'static str)> {
    vec![
        (answer(500, "InternalError"), "500 Internal Server Error (InternalError: The store's own words.)"),
        (page(502), "502 Bad Gateway"),
        (answer(503, "SlowDown"), "503 Service Unavailable (SlowDown"),
        (page(504), "504 Gateway Timeout"),
        (answer(507, "InsufficientStorage"), "the store is full"),
        (answer(429, "TooManyRequests"), "429 Too Many Requests"),
        (answer(408, "RequestTimeout"), "408 Request Timeout"),
        (answer(400, "RequestTimeout"), "400 Bad Request (RequestTimeout"),
        (answer(409, "ConditionalRequestConflict"), "409 Conflict (ConditionalRequestConflict"),
        (answer(409, "OperationAborted"), "409 Conflict (OperationAborted"),
        (redirect(307), "307 Temporary Redirect"),
        (page(404), "is the endpoint right"),
        (answer(404, "NoSuchKey"), "404 Not Found (NoSuchKey"),
    ]
}

/// Creates a scene with a segment to archive, and returns its content.
fn scene_with(conditional_put: &str) -> (StoreScene, Vec<u8>) {
    let scene = StoreScene::with_conditional_put(conditional_put);
    let content = scene.primary.segment(SEGMENT, 0);
    (scene, content)
}

/// Asserts that a failing push ends with status 1, one line for the error and at most one before it, with `words` in
/// them. Once the store works, the same push succeeds.
fn fails_until_healed(scene: &mut StoreScene, content: &[u8], leaves: Leaves, words: &[&str]) {
    let Outcome { status, stderr } = outcome_of(scene.push(SEGMENT));
    assert_eq!(status, 1, "{stderr}");
    check_lines("walkeep-archive", &stderr, words);
    let found = scene.stored(SEGMENT).is_some();
    assert_eq!(found, leaves == TheFile, "{stderr}");
    scene.store.heal();
    scene.relax();
    if found {
        assert!(scene.original(SEGMENT) == content, "{stderr}");
    }
    succeeds(scene.push(SEGMENT));
    assert!(scene.original(SEGMENT) == content, "{stderr}");
    assert_eq!(scene.store.keys(), [key(SEGMENT)]);
}

#[test]
fn a_connection_that_keeps_breaking_fails_the_push_until_it_recovers() {
    let modes = [("yes", Any), ("auto", Puts), ("no", Puts)];
    let cases: Vec<_> = modes
        .iter()
        .flat_map(|mode| broken_connections().into_iter().map(move |fault| (*mode, fault)))
        // Without conditions, each attempt asks whether the name is taken, and finds the success of the first one.
        .filter(|((mode, _), (_, leaves, _))| *mode == "yes" || *leaves == Nothing)
        .collect();
    at_once(&cases, |((mode, matching), (fault, leaves, words))| {
        let (mut scene, content) = scene_with(mode);
        scene.hurry();
        scene.store.break_with(*matching, fault.clone());
        fails_until_healed(&mut scene, &content, *leaves, &["cannot archive", &key(SEGMENT), words]);
    });
}

#[test]
fn a_store_that_cannot_say_whether_the_name_is_taken_is_not_written_to() {
    let mut cases: Vec<_> =
        broken_connections().into_iter().map(|(fault, _, words)| (fault, words.to_owned())).collect();
    for (fault, words) in passing_answers() {
        // A response to HEAD has no body, so only the status counts. A 404 without a body is an answer.
        match fault {
            Fault::Answer { status: 400, .. } => {}
            Fault::Answer { status, .. } | Fault::Raw { status, .. } if status != 404 => {
                cases.push((fault, words[..3].replace("the", "507")));
            }
            _ => {}
        }
    }
    cases.push((page(200), "is nothing in between".to_owned()));
    at_once(&cases, |(fault, words)| {
        let (mut scene, content) = scene_with("auto");
        scene.hurry();
        scene.store.break_with(Heads, fault.clone());
        fails_until_healed(&mut scene, &content, Nothing, &["cannot ask whether", &key(SEGMENT), words]);
    });
}

#[test]
fn a_temporary_error_response_fails_the_push_until_it_ends() {
    let modes = [("yes", Any), ("auto", Puts), ("no", Puts)];
    let cases: Vec<_> = modes
        .iter()
        .flat_map(|mode| passing_answers().into_iter().map(move |fault| (*mode, fault)))
        .collect();
    at_once(&cases, |((mode, matching), (fault, words))| {
        let (mut scene, content) = scene_with(mode);
        scene.hurry();
        scene.store.break_with(*matching, fault.clone());
        fails_until_healed(&mut scene, &content, Nothing, &["cannot archive", &key(SEGMENT), words]);
    });
}

#[test]
fn a_success_without_an_etag_does_not_count() {
    at_once(&[page(200), page(204)], |fault| {
        for mode in ["yes", "no"] {
            let (mut scene, content) = scene_with(mode);
            scene.hurry();
            scene.store.break_with(Puts, fault.clone());
            fails_until_healed(&mut scene, &content, Nothing, &["cannot archive", &key(SEGMENT)]);
        }
    });
}

#[test]
fn faults_in_an_empty_body_harm_no_push() {
    let faults = [Fault::CutBody(0), Fault::HangInBody(0), Fault::Trickle, Fault::FlipByte(0)];
    at_once(&faults, |fault| {
        let (scene, content) = scene_with("yes");
        scene.store.break_with(Any, fault.clone());
        succeeds(scene.push(SEGMENT));
        assert_eq!(scene.asked(SEGMENT), ["PUT if new"], "{fault:?}");
        scene.store.heal();
        assert!(scene.original(SEGMENT) == content, "{fault:?}");
    });
}

#[test]
fn a_connection_reset_after_the_answer_leaves_only_the_right_file() {
    let (mut scene, content) = scene_with("yes");
    scene.hurry();
    scene.store.break_with(Any, Fault::ResetAfter(0));
    // The kernel may drop data that arrived before the reset.
    let Outcome { status, stderr } = outcome_of(scene.push(SEGMENT));
    assert!(matches!(status, 0 | 1), "{status}: {stderr}");
    scene.store.heal();
    scene.relax();
    assert!(scene.original(SEGMENT) == content);
    succeeds(scene.push(SEGMENT));
}

// Temporary faults within one call.

#[test]
fn a_connection_that_breaks_twice_delays_the_push() {
    let cases: Vec<_> =
        broken_connections().into_iter().filter(|(_, leaves, _)| *leaves == Nothing).collect();
    at_once(&cases, |(fault, _, _)| {
        for (mode, expected) in [
            ("yes", &["PUT if new"; 3][..]),
            ("auto", &["HEAD", "PUT if new", "HEAD", "PUT if new", "HEAD", "PUT if new", "HEAD"]),
        ] {
            let (mut scene, content) = scene_with(mode);
            scene.cut_soon();
            scene.store.break_times(2, Puts, fault.clone());
            warns("walkeep-archive", scene.push(SEGMENT), "trying again");
            assert_eq!(scene.asked(SEGMENT), expected, "{fault:?}");
            scene.store.heal();
            scene.relax();
            assert!(scene.original(SEGMENT) == content, "{fault:?}");
        }
    });
}

#[test]
fn one_or_two_temporary_error_responses_delay_the_push() {
    at_once(&passing_answers(), |(fault, words)| {
        for (times, mode) in [(2, "yes"), (1, "auto"), (1, "no")] {
            let (scene, content) = scene_with(mode);
            scene.store.break_times(times, Puts, fault.clone());
            let push = scene.push(SEGMENT);
            warns("walkeep-archive", push, words);
            let puts = scene.asked(SEGMENT).iter().filter(|asked| asked.starts_with("PUT")).count();
            assert_eq!(puts, times + 1, "{mode} {fault:?}");
            assert!(scene.original(SEGMENT) == content, "{mode} {fault:?}");
        }
    });
}

#[test]
fn a_push_with_a_lost_success_finds_it_and_archives_once() {
    at_once(&[Fault::AnswerLost, Fault::HangAfterEffect], |fault| {
        for (mode, expected) in [
            ("yes", &["PUT if new", "PUT if new", "GET"][..]),
            ("auto", &["HEAD", "PUT if new", "HEAD", "GET"]),
            ("no", &["HEAD", "PUT", "HEAD", "GET"]),
        ] {
            let (mut scene, content) = scene_with(mode);
            scene.cut_soon();
            scene.store.break_times(1, Puts, fault.clone());
            warns("walkeep-archive", scene.push(SEGMENT), "trying again");
            assert_eq!(scene.asked(SEGMENT), expected, "{fault:?}");
            assert!(scene.original(SEGMENT) == content, "{mode} {fault:?}");
            assert_eq!(scene.store.keys(), [key(SEGMENT)]);
        }
    });
}

#[test]
fn a_large_upload_that_stands_still_is_stopped_and_sent_again() {
    at_once(&[Fault::StopReading(1 << 20), Fault::ResetUpload(1 << 20)], |fault| {
        let mut scene = StoreScene::with_conditional_put("yes");
        scene.cut_soon();
        let content = segment(SEGMENT, SYSTEM, 16 << 20, 0);
        scene.primary.file(&format!("pg_wal/{SEGMENT}"), &content);
        scene.store.break_times(1, Puts, fault.clone());
        let mut push = scene.push(SEGMENT);
        push.args(["--compression", "none"]);
        warns("walkeep-archive", push, "trying again");
        scene.store.heal();
        assert!(scene.original(SEGMENT) == content, "{fault:?}");
    });
}

// Comparison with an existing object.

#[test]
fn an_object_that_cannot_be_read_for_comparison_is_not_taken_for_the_same() {
    let cases = [
        Fault::Hang,
        Fault::HangInBody(1000),
        Fault::HangInBody(5000),
        Fault::Trickle,
        Fault::CutBody(5000),
        Fault::ResetAfter(5000),
        answer(503, "SlowDown"),
        answer(404, "NoSuchKey"),
        page(404),
        page(200),
    ];
    at_once(&cases, |fault| {
        for mode in ["yes", "auto"] {
            let (mut scene, content) = scene_with(mode);
            succeeds(scene.push(SEGMENT));
            let before = scene.stored(SEGMENT);
            scene.hurry();
            scene.store.break_with(Gets, fault.clone());
            fails_until_healed(&mut scene, &content, TheFile, &[]);
            assert!(scene.stored(SEGMENT) == before, "{mode} {fault:?}");
            scene.cut_soon();
            // The next attempt of the server handles a deleted object.
            if !matches!(fault, Fault::Trickle | Fault::Answer { status: 404, .. }) {
                scene.store.break_times(1, Gets, fault.clone());
                warns("walkeep-archive", scene.push(SEGMENT), "trying again");
            }
        }
    });
}

#[test]
fn an_object_that_arrives_damaged_for_comparison_is_not_taken_for_the_same() {
    for at in [0, 500, 5000] {
        let (scene, content) = scene_with("yes");
        succeeds(scene.push(SEGMENT));
        let before = scene.stored(SEGMENT);
        scene.store.break_times(1, Gets, Fault::FlipByte(at));
        fails(3, scene.push(SEGMENT), &[&key(SEGMENT)]);
        assert!(scene.stored(SEGMENT) == before);
        succeeds(scene.push(SEGMENT));
        assert!(scene.original(SEGMENT) == content);
    }
}

// Permanent faults.

/// Asserts that a push with plenty of time gives up at once, after at most the requests in `asked`, and archives
/// nothing.
fn is_given_up_at_once(scene: &mut StoreScene, asked: &[&str], words: &[&str]) {
    scene.set("WALKEEP_TIMEOUT", "1h");
    let started = Instant::now();
    fails(2, scene.push(SEGMENT), &[&[&*key(SEGMENT)], words].concat());
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
    assert_eq!(scene.asked(SEGMENT), asked);
    assert_eq!(scene.store.keys(), [""; 0]);
}

/// Requests to a store that refuses everything. The response to a HEAD cannot say why.
const REFUSED: [(&str, &[&str]); 3] =
    [("yes", &["PUT if new"]), ("auto", &["HEAD", "GET"]), ("no", &["HEAD", "GET"])];

#[test]
fn permanent_faults_fail_at_once_with_a_hint() {
    let moved = |status, body| {
        let region = ("x-amz-bucket-region", "eu-central-1".to_owned());
        Fault::Raw { status, headers: vec![region], body }
    };
    let redirected = "<Error><Code>PermanentRedirect</Code><Message>Elsewhere.</Message></Error>";
    let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>";
    let cases = [
        (answer(403, "AccessDenied"), ["AccessDenied: The store's own words.", "credentials do not allow"]),
        (answer(403, "InvalidAccessKeyId"), ["InvalidAccessKeyId", "are the credentials this store's?"]),
        (answer(403, "SignatureDoesNotMatch"), ["SignatureDoesNotMatch", "secret key"]),
        (answer(403, "AccountProblem"), ["AccountProblem", "has suspended the account"]),
        (answer(401, "Unauthorized"), ["401", "credentials do not allow"]),
        (answer(400, "ExpiredToken"), ["ExpiredToken", "renew them"]),
        (answer(400, "InvalidToken"), ["InvalidToken", "renew them"]),
        (answer(404, "NoSuchBucket"), ["NoSuchBucket", "bucket does not exist"]),
        (moved(301, redirected), ["301", "eu-central-1; set region"]),
        (moved(301, ""), ["301", "eu-central-1; set region"]),
        (Fault::Raw { status: 400, headers: vec![], body: malformed }, ["400", "eu-central-1; set region"]),
        (redirect(302), ["302", "set region or endpoint"]),
        (answer(405, "MethodNotAllowed"), ["MethodNotAllowed", "walkeep check"]),
        (answer(400, "InvalidRequest"), ["InvalidRequest", "walkeep check"]),
    ];
    at_once(&cases, |(fault, words)| {
        for (mode, asked) in REFUSED {
            let (mut scene, content) = scene_with(mode);
            scene.store.break_with(Any, fault.clone());
            let is_no_answer_to_head = matches!(fault, Fault::Answer { status: 404, .. });
            if mode == "yes" || !is_no_answer_to_head {
                is_given_up_at_once(&mut scene, asked, words);
            }
            scene.store.heal();
            succeeds(scene.push(SEGMENT));
            assert!(scene.original(SEGMENT) == content, "{mode} {fault:?}");
        }
    });
}

#[test]
fn unknown_credentials_are_named() {
    for (variable, code, hint) in [
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch", "secret key does not belong to the access key"),
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId", "does not know this access key"),
    ] {
        for (mode, asked) in REFUSED {
            let (mut scene, _) = scene_with(mode);
            scene.set(variable, "WRONG");
            is_given_up_at_once(&mut scene, asked, &[code, hint]);
        }
    }
}

#[test]
fn a_bucket_that_does_not_exist_is_named() {
    for mode in ["yes", "auto", "no"] {
        let (mut scene, _) = scene_with(mode);
        scene.archive_into("s3://other/main");
        scene.set("WALKEEP_TIMEOUT", "1h");
        fails(2, scene.push(SEGMENT), &["s3://other/main/", "NoSuchBucket", "the bucket does not exist"]);
        assert_eq!(scene.store.keys(), [""; 0]);
    }
}

#[test]
fn a_wrong_clock_is_named_with_the_difference() {
    for (offset, words) in [(3600, "behind the store's"), (-7200, "ahead of the store's")] {
        for (mode, asked) in REFUSED {
            let (mut scene, _) = scene_with(mode);
            scene.store.set_clock_offset(offset);
            scene.store.break_with(Any, answer(403, "RequestTimeTooSkewed"));
            is_given_up_at_once(&mut scene, asked, &["this machine's clock is", words, "NTP"]);
        }
    }
}
