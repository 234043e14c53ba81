//! Pruning of an object store: bulk deletion, no unnecessary listings, and a store that fails half-way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::process::{Command, Stdio};

use serde_json::Value;
use support::{
    kept::{archived_backup, archived_segment, days_ago, name},
    push::SYSTEM,
    running::{Outcome, outcome_of},
    store::fault::{Fault, Matching},
    store_cluster::CallOutput,
    store_scene::{StoreScene, key},
};

/// Enough segments for three listings and three deletions, all empty except the newest, and a backup near their end.
const SEGMENTS: u64 = 2_500;

fn crowded() -> StoreScene {
    let scene = StoreScene::new();
    for number in 1..SEGMENTS {
        scene.store.put(&key(&name(1, number)), "");
    }
    let newest = name(1, SEGMENTS);
    scene.store.put(&key(&newest), archived_segment(&newest, days_ago(0)));
    let (backup, bytes) = archived_backup(1, 2_400, 2_400, "nightly", days_ago(1));
    scene.store.put(&key(&backup), bytes);
    scene.store.forget_requests();
    scene
}

fn prune(scene: &StoreScene, options: &[&str]) -> Command {
    let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
    command.args(["prune", "--system-identifier", &SYSTEM.to_string(), "--keep-backups", "1"]);
    // Everything was created just now.
    command.args(["--backup-may-take", "0s"]).args(options);
    command.stdout(Stdio::null());
    command
}

/// Returns the numbers of the segments.
fn numbers(scene: &StoreScene) -> Vec<u64> {
    (1..=SEGMENTS).filter(|number| scene.store.file(&key(&name(1, *number))).exists()).collect()
}

/// Returns the numbers of listings, bulk deletions and single deletions.
fn requests(scene: &StoreScene) -> (usize, usize, usize) {
    let requests = scene.store.requests();
    let count = |method: &str, query: &str| {
        let matches = |asked: &str| if query.is_empty() { asked.is_empty() } else { asked.contains(query) };
        requests.iter().filter(|r| r.method == method && matches(r.query.as_deref().unwrap_or(""))).count()
    };
    (count("GET", "list-type=2"), count("POST", "delete"), count("DELETE", ""))
}

#[test]
fn a_thousand_names_are_listed_and_deleted_with_one_request() {
    let scene = crowded();
    let outcome = outcome_of(prune(&scene, &[]));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert_eq!(numbers(&scene), (2_400..=SEGMENTS).collect::<Vec<_>>());
    assert_eq!(requests(&scene), (3, 3, 0));
    let asked = scene.store.requests();
    let of_segments =
        asked.iter().filter(|request| request.method == "GET" && request.path.contains("/wal/0"));
    assert!(of_segments.count() <= 10, "a few segments tell the size of all: {asked:?}");
    let report: Value = serde_json::from_slice(&scene.store.get(&reports()).unwrap()).unwrap();
    assert_eq!((&report["ok"], &report["deleted_files"]), (&Value::from(true), &Value::from(2_399)));
    scene.store.forget_requests();
    let outcome = outcome_of(prune(&scene, &["--dry-run"]));
    assert_eq!((outcome.status, requests(&scene)), (0, (1, 0, 0)), "a report is no file");
}

fn reports() -> String {
    format!("main/{SYSTEM}/reports/prune.json")
}

#[test]
fn a_store_without_bulk_deletion_gets_single_deletions() {
    for fault in [
        Fault::Answer { status: 501, code: "NotImplemented", message: "No." },
        Fault::Answer { status: 400, code: "MalformedXML", message: "What?" },
        // An answer about an object that was not requested, which would crash the library.
        Fault::Raw {
            status: 200,
            headers: vec![("content-type", "application/xml".to_owned())],
            body: "<DeleteResult><Error><Key>other</Key><Code>AccessDenied</Code><Message>x</Message></Error></DeleteResult>",
        },
        Fault::Raw { status: 200, headers: Vec::new(), body: "<html>Welcome</html>" },
    ] {
        let scene = StoreScene::new();
        for number in 1..=20 {
            let name = name(1, number);
            scene.store.put(&key(&name), archived_segment(&name, days_ago(0)));
        }
        let (backup, bytes) = archived_backup(1, 15, 15, "nightly", days_ago(1));
        scene.store.put(&key(&backup), bytes);
        scene.store.break_with(Matching::Method("POST"), fault.clone());
        let outcome = outcome_of(prune(&scene, &[]));
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{fault:?}");
        assert_eq!(scene.store.keys().len(), 6 + 2, "{fault:?}");
        assert_eq!(requests(&scene), (1, 1, 14), "{fault:?}");
    }
}

#[test]
fn a_listing_that_fails_half_way_deletes_nothing() {
    let mut scene = crowded();
    scene.hurry();
    // The first page is returned.
    scene.store.break_times(1, Matching::Method("GET"), Fault::None);
    scene.store.break_with(
        Matching::Method("GET"),
        Fault::Answer { status: 503, code: "SlowDown", message: "Later." },
    );
    let Outcome { status, stderr } = outcome_of(prune(&scene, &[]));
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains("cannot list") && stderr.contains("503"), "{stderr}");
    assert_eq!(requests(&scene).1, 0);
    assert_eq!(numbers(&scene).len() as u64, SEGMENTS);
    // After a temporary failure, it is asked again.
    let mut scene = crowded();
    scene.cut_soon();
    scene.store.break_times(1, Matching::Method("GET"), Fault::None);
    scene.store.break_times(1, Matching::Method("GET"), Fault::ResetBeforeReading);
    let Outcome { status, stderr } = outcome_of(prune(&scene, &[]));
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("trying again"), "{stderr}");
    assert_eq!(numbers(&scene), (2_400..=SEGMENTS).collect::<Vec<_>>());
}

#[test]
fn a_refused_deletion_is_reported() {
    let mut scene = crowded();
    scene.hurry();
    let refused = Fault::Answer { status: 403, code: "AccessDenied", message: "Not yours." };
    scene.store.break_with(Matching::Method("POST"), refused.clone());
    scene.store.break_with(Matching::Method("DELETE"), refused);
    let Outcome { status, stderr } = outcome_of(prune(&scene, &[]));
    assert_eq!(status, 2, "{stderr}");
    assert!(stderr.contains("cannot delete s3://wal/main/") && stderr.contains("Not yours."), "{stderr}");
    assert_eq!(numbers(&scene).len() as u64, SEGMENTS);
}

#[test]
fn a_partly_successful_deletion_counts_the_deleted_objects() {
    let (scene, refused) = (StoreScene::new(), "<Code>AccessDenied</Code><Message>Held.</Message>");
    for number in 1..=20 {
        scene.store.put(&key(&name(1, number)), archived_segment(&name(1, number), days_ago(0)));
    }
    let (backup, bytes) = archived_backup(1, 15, 15, "nightly", days_ago(1));
    scene.store.put(&key(&backup), bytes);
    // Fourteen deletions are requested. According to the store, the third and the ninth object stay.
    let stay = [3, 9].map(|number| name(1, number));
    let errors = stay
        .each_ref()
        .map(|name| format!("<Error><Key>main/{SYSTEM}/wal/0000000100000000/{name}</Key>{refused}</Error>"));
    let body = format!("<DeleteResult>{}</DeleteResult>", errors.concat());
    let headers = vec![("content-type", "application/xml".to_owned())];
    scene.store.break_with(Matching::Method("POST"), Fault::Raw { status: 200, headers, body: body.leak() });
    let denied = Fault::Answer { status: 403, code: "AccessDenied", message: "Held." };
    scene.store.break_with(Matching::Method("DELETE"), denied);
    let mut prune = prune(&scene, &["--json"]);
    let output = CallOutput::of({
        prune.stdout(Stdio::piped());
        prune
    });
    output.is_error(2, &["cannot delete", &stay[0], "Held.", "the right to delete (s3:DeleteObject)"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let gone: Vec<String> =
        (1..15).map(|number| name(1, number)).filter(|name| !stay.contains(name)).collect();
    assert_eq!(json["deleted_files"], Value::from(gone), "{json:#}");
    assert_eq!((&json["ok"], &json["error_kind"]), (&Value::from(false), &Value::from("refused")));
    let report: Value = serde_json::from_slice(&scene.store.get(&reports()).unwrap()).unwrap();
    assert_eq!(report["deleted_files"], 12, "{report}");
    // The failed deletion is repeated by itself, and no later one is requested.
    let asked = scene.store.requests().into_iter().filter(|request| request.method == "DELETE").count();
    assert!(asked <= 2, "{asked}");
}

#[test]
fn a_store_that_fails_between_deletions_leaves_no_hole() {
    let mut scene = crowded();
    scene.hurry();
    // The thousand deletions that succeed may take a busy machine longer than a hasty call waits.
    scene.wait_long();
    let later = Fault::Answer { status: 503, code: "SlowDown", message: "Later." };
    scene.store.break_times(1, Matching::Method("POST"), Fault::None);
    scene.store.break_with(Matching::Method("POST"), later.clone());
    scene.store.break_with(Matching::Method("DELETE"), later);
    let Outcome { status, stderr } = outcome_of(prune(&scene, &[]));
    assert_eq!(status, 1, "{stderr}");
    assert_eq!(numbers(&scene), (1_001..=SEGMENTS).collect::<Vec<_>>(), "the oldest thousand has gone");
    let report: Value = serde_json::from_slice(&scene.store.get(&reports()).unwrap()).unwrap();
    assert_eq!((&report["ok"], &report["deleted_files"]), (&Value::from(false), &Value::from(1_000)));
    scene.store.heal();
    scene.relax();
    assert_eq!(outcome_of(prune(&scene, &[])).status, 0);
    assert_eq!(numbers(&scene), (2_400..=SEGMENTS).collect::<Vec<_>>());
}

#[test]
fn what_was_deleted_before_the_store_hung_is_printed_and_noted() {
    let mut scene = crowded();
    scene.set("AWS_READ_TIMEOUT", "1h");
    scene.store.break_times(1, Matching::Method("POST"), Fault::None);
    scene.store.break_with(Matching::Method("POST"), Fault::Hang);
    let mut prune = prune(&scene, &["--json", "--timeout", "6s"]);
    prune.stdout(Stdio::piped());
    let output = CallOutput::of(prune);
    let hung = "gave up, because nothing has moved for 6s";
    output.is_error(1, &[hung, "does s3://wal/main answer"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["deleted_files"].as_array().map(Vec::len), Some(1_000), "{:?}", json["error"]);
    assert_eq!((&json["ok"], &json["error_kind"]), (&Value::from(false), &Value::from("unavailable")));
    let report: Value = serde_json::from_slice(&scene.store.get(&reports()).unwrap()).unwrap();
    assert_eq!((&report["ok"], &report["deleted_files"]), (&Value::from(false), &Value::from(1_000)));
    assert!(report["error"].as_str().unwrap().contains(hung), "{report}");
}

#[test]
fn a_clock_that_differs_much_from_the_stores_prevents_deletion() {
    let scene = crowded();
    scene.store.set_clock_offset(-3_600);
    let Outcome { status, stderr } = outcome_of(prune(&scene, &[]));
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains("clock is"), "{stderr}");
    assert_eq!(numbers(&scene).len() as u64, SEGMENTS);
}
