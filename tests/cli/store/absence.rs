//! Proof of absence in an object store: the store's own answer about the key, under a prefix with files of the
//! cluster; and, for a segment, the proof that it is no gap.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use support::{
    aged::set_time,
    data_directory::SEGMENT,
    push::{HISTORY, HISTORY_CONTENT, succeeds},
    running::outcome_of,
    store::fault::{
        Fault,
        Matching::{self, Any, Gets, Method},
    },
    store_scene::{StoreScene, at_once, key},
};

/// A mistake in the configuration.
type Mistake = fn(&mut StoreScene);

const LATER: &str = "000000010000000000000009";
const MISSING: &str = "000000010000000000000005";

/// Creates a store with these segments, which are old.
fn scene(segments: &[&str]) -> StoreScene {
    let scene = StoreScene::new();
    for name in segments {
        scene.primary.segment(name, 0);
        succeeds(scene.push(name));
        set_time(&scene.store.file(&key(name)), "2001-02-03T04:05:06Z");
    }
    scene.store.forget_requests();
    scene
}

/// Returns the numbers of listings and of objects requested, which must be by `GET`.
fn asked(scene: &StoreScene) -> (usize, usize) {
    let requests = scene.store.requests();
    assert!(requests.iter().all(|request| request.method == "GET"), "{requests:?}");
    let listings = requests.iter().filter(|request| request.query.is_some()).count();
    (listings, requests.len() - listings)
}

#[test]
fn the_end_of_an_ordinary_recovery_takes_two_listings_and_that_of_a_standby_one() {
    let scene = scene(&[SEGMENT, "000000010000000000000002"]);
    for server in [&scene.recovery, &scene.standby] {
        scene.store.forget_requests();
        let outcome = outcome_of(scene.restore(server, "000000010000000000000003"));
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        // The segment itself, and in recovery the history file of the next timeline, and the base backups.
        let expected = if server.join("recovery.signal").exists() { (2, 2) } else { (1, 1) };
        assert_eq!(asked(&scene), expected, "{:?}", scene.store.requests());
    }
    scene.store.forget_requests();
    assert_eq!(outcome_of(scene.restore(&scene.recovery, "00000002.history")).status, 1);
    // Two listings: whether the timeline has segments, and whether the archive is available.
    assert_eq!(asked(&scene), (2, 1));
}

#[test]
fn no_answer_takes_more_than_three_listings() {
    let scene = scene(&[SEGMENT, LATER, "000000020000000000000009"]);
    scene.primary.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    succeeds(scene.push(HISTORY));
    for (name, status) in [
        (MISSING, 255),
        ("00000001000000000000000A", 1),
        ("000000010000000100000000", 1),
        ("000000020000000000000001", 1),
        ("000000020000000000000008", 255),
        ("00000002000000000000000A", 1),
        ("000000030000000000000001", 1),
        ("0000000B0000000000000001", 1),
    ] {
        scene.store.forget_requests();
        let outcome = outcome_of(scene.restore(&scene.recovery, name));
        assert_eq!(outcome.status, status, "{name}: {}", outcome.stderr);
        assert!(asked(&scene).0 <= 3, "{name}: {:?}", scene.store.requests());
    }
}

/// Archives the backup history file of a backup that began in one segment and ended in another, long ago.
fn add_backup(scene: &StoreScene, start: u32, end: u32) -> String {
    let name = format!("0000000100000000{start:08X}.00000028.backup");
    let location =
        |number: u32, offset: &str| format!("0/{number:X}{offset} (file 0000000100000000{number:08X})");
    let (began, ended) = (location(start, "00028"), location(end, "00138"));
    let content = format!("START WAL LOCATION: {began}\nSTOP WAL LOCATION: {ended}\nLABEL: nightly\n");
    scene.primary.file(&format!("pg_wal/{name}"), content);
    succeeds(scene.push(&name));
    set_time(&scene.store.file(&key(&name)), "2001-02-03T04:05:06Z");
    name
}

#[test]
fn base_backups_cost_the_end_of_a_recovery_one_listing_and_at_most_two_reads() {
    let scene = scene(&[SEGMENT, "000000010000000000000002"]);
    for number in [1, 2, 3, 4] {
        add_backup(&scene, number, number);
    }
    let newest = add_backup(&scene, 5, 7);
    let missing = |number: u32| format!("0000000100000000{number:08X}");
    // In any case the segment and the next history file are asked for. If the segment before is absent, too, another
    // listing shows that the archive is available.
    let expected = [(3, 255, (2, 2)), (5, 255, (3, 2)), (6, 255, (3, 4)), (8, 1, (3, 4))];
    for (number, status, requests) in expected {
        scene.store.forget_requests();
        let outcome = outcome_of(scene.restore(&scene.recovery, &missing(number)));
        assert_eq!(outcome.status, status, "{number}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.contains(&newest), status == 255, "{}", outcome.stderr);
        assert_eq!(asked(&scene), requests, "{number}: {:?}", scene.store.requests());
    }
    // A standby asks again every five seconds, whatever the answer.
    scene.store.forget_requests();
    assert_eq!(outcome_of(scene.restore(&scene.standby, &missing(8))).status, 1);
    assert_eq!(asked(&scene), (2, 1));
    // A later segment is proof enough.
    scene.primary.segment(LATER, 0);
    succeeds(scene.push(LATER));
    set_time(&scene.store.file(&key(LATER)), "2001-02-03T04:05:06Z");
    scene.store.forget_requests();
    assert_eq!(outcome_of(scene.restore(&scene.recovery, &missing(8))).status, 255);
    assert_eq!(asked(&scene), (2, 1), "{:?}", scene.store.requests());
}

#[test]
fn base_backups_that_cannot_be_listed_or_read_prove_nothing() {
    let mut scene = scene(&[SEGMENT]);
    scene.hurry();
    let denied = || Fault::Answer { status: 403, code: "AccessDenied", message: "No." };
    add_backup(&scene, 2, 2);
    let end = "000000010000000000000003";
    assert_eq!(outcome_of(scene.restore(&scene.recovery, end)).status, 1);
    // After the segment, two listings around it and the next history file: the base backups, then one of them.
    for before in [4, 5] {
        scene.store.break_times(before, Method("GET"), Fault::None);
        scene.store.break_with(Method("GET"), denied());
        let outcome = outcome_of(scene.restore(&scene.recovery, end));
        assert_eq!(outcome.status, 255, "{before}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains("AccessDenied") && outcome.stderr.contains("backups"),
            "{}",
            outcome.stderr
        );
        scene.store.heal();
    }
}

#[test]
fn history_files_without_any_segment_prove_no_end() {
    let scene = scene(&[]);
    scene.primary.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    succeeds(scene.push(HISTORY));
    let name = "000000030000000000000001";
    scene.cannot_tell(name, &["but no segment at all"]);
    let mut accepting = scene.restore(&scene.recovery, name);
    accepting.arg("--accept-empty");
    assert_eq!(outcome_of(accepting).status, 1);
}

#[test]
fn a_gap_never_ends_recovery() {
    let scene = scene(&[SEGMENT, LATER]);
    let outcome = outcome_of(scene.restore(&scene.recovery, MISSING));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("a gap") && outcome.stderr.contains(LATER), "{}", outcome.stderr);
    assert_eq!(outcome_of(scene.restore(&scene.standby, MISSING)).status, 75);
}

#[test]
fn a_prefix_without_files_of_the_cluster_proves_nothing() {
    // A mistyped prefix; a part of the bucket used by others; an endpoint that already contains the bucket.
    let cases: [(Mistake, &str); 3] = [
        (|scene| scene.archive_into("s3://wal/mian"), "--accept-empty"),
        (|scene| scene.archive_into("s3://wal"), "holds nothing of system"),
        (|scene| scene.move_to(&format!("{}/wal", scene.store.endpoint())), "in the endpoint already"),
    ];
    at_once(&cases, |(misconfigure, word)| {
        let mut scene = scene(&[SEGMENT]);
        misconfigure(&mut scene);
        for name in [SEGMENT, MISSING, "00000002.history"] {
            scene.cannot_tell(name, &[word]);
        }
    });
    let empty = scene(&[]);
    empty.cannot_tell(SEGMENT, &["holds nothing of system"]);
    empty.store.put(&format!("{}#1", key(SEGMENT)), "what a push has left");
    empty.store.put(&key(SEGMENT).replace("wal/", "reports/"), "of no system");
    empty.cannot_tell(SEGMENT, &["holds no archived file"]);
    let mut accepting = empty.restore(&empty.recovery, SEGMENT);
    accepting.arg("--accept-empty");
    let outcome = outcome_of(accepting);
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--accept-empty"), "{}", outcome.stderr);
}

#[test]
fn a_prefix_without_files_of_the_cluster_is_not_waited_for() {
    let scene = scene(&[]);
    let begun = std::time::Instant::now();
    assert_eq!(outcome_of(scene.restore(&scene.recovery, SEGMENT)).status, 255);
    assert!(begun.elapsed().as_secs() < 60, "the time limit of a recovery is five minutes");
}

#[test]
fn a_store_that_cannot_be_listed_proves_nothing() {
    for (fault, word) in [
        (Fault::Answer { status: 403, code: "AccessDenied", message: "No." }, "AccessDenied"),
        (Fault::Answer { status: 503, code: "SlowDown", message: "No." }, "SlowDown"),
    ] {
        let mut scene = scene(&[SEGMENT]);
        scene.hurry();
        scene.store.break_times(1, Gets, Fault::None);
        scene.store.break_with(Method("GET"), fault);
        scene.cannot_tell(MISSING, &[word]);
    }
}

#[test]
fn a_malformed_or_partial_listing_proves_nothing() {
    let page = |body| Fault::Raw {
        status: 200,
        headers: vec![("content-type", "application/xml".to_owned())],
        body,
    };
    for (body, word) in [
        ("<html><body>Please log in</body></html>", "no listing"),
        ("<Error><Code>InternalError</Code></Error>", "no listing"),
        ("", "no listing"),
        ("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "a part of a listing"),
    ] {
        let mut scene = scene(&[SEGMENT]);
        scene.hurry();
        scene.set("WALKEEP_PREFETCH_SIZE", "0MB");
        scene.store.break_with(Matching::Listings, page(body));
        scene.cannot_tell(MISSING, &[word]);
        let mut restore = scene.restore(&scene.recovery, MISSING);
        restore.arg("--accept-empty");
        assert_eq!(outcome_of(restore).status, 255, "{body}");
    }
}

#[test]
fn only_the_stores_own_error_code_proves_a_missing_key() {
    let mut scene = scene(&[SEGMENT]);
    scene.hurry();
    scene.store.break_with(Any, Fault::Raw { status: 404, headers: Vec::new(), body: "" });
    scene.cannot_tell(MISSING, &["404"]);
    scene.store.heal();
    let elsewhere = "<Error><Code>NoSuchKey</Code></Error>";
    scene.store.break_with(Any, Fault::Raw { status: 410, headers: Vec::new(), body: elsewhere });
    scene.cannot_tell(MISSING, &["410"]);
}

#[test]
fn a_delete_marker_is_absence_with_a_warning() {
    let scene = scene(&[SEGMENT]);
    let deleted = Fault::Raw {
        status: 404,
        headers: vec![("x-amz-delete-marker", "true".to_owned())],
        body: "<Error><Code>NoSuchKey</Code></Error>",
    };
    scene.store.break_with(Gets, deleted);
    let next = "000000010000000000000002";
    let outcome = outcome_of(scene.restore(&scene.recovery, next));
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    let warning = outcome.stderr.lines().find(|line| line.contains("warning")).unwrap_or_default();
    assert!(warning.contains("delete marker") && warning.contains(next), "{}", outcome.stderr);
}
