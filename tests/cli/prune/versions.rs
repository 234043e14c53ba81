//! Buckets that keep versions: a prune says what is still there, and until when.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use support::{
    data_directory::SEGMENT,
    kept::{archived_backup, archived_segment, days_ago, name},
    push::SYSTEM,
    store::{
        fault::{Fault, Matching},
        versions::Keeping,
    },
    store_cluster::CallOutput,
    store_scene::{StoreScene, key},
};

/// Creates nine segments and a backup that needs the last five, in a bucket that keeps versions from now on.
fn scene(keeping: Keeping) -> StoreScene {
    scene_of(9, keeping)
}

/// Creates that many segments and a backup that needs the last five, in a bucket that keeps versions from now on.
fn scene_of(segments: u64, keeping: Keeping) -> StoreScene {
    let scene = StoreScene::new();
    for number in 1..=segments {
        scene.store.put(&key(&name(1, number)), archived_segment(&name(1, number), days_ago(3)));
    }
    let needed = segments - 4;
    let (backup, bytes) = archived_backup(1, needed, needed, "nightly", days_ago(2));
    scene.store.put(&key(&backup), bytes);
    scene.store.keep_versions(keeping);
    scene
}

fn tool(scene: &StoreScene, arguments: &[&str]) -> Command {
    let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
    command.args(arguments);
    command
}

fn prune(scene: &StoreScene, more: &[&str]) -> CallOutput {
    let system = SYSTEM.to_string();
    let arguments =
        ["prune", "--system-identifier", &system, "--keep-backups", "1", "--backup-may-take", "0s"];
    CallOutput::of(tool(scene, &[&arguments, more].concat()))
}

/// Returns the line about versions; empty without one.
fn line(output: &CallOutput) -> String {
    assert_eq!(output.status, 0, "{}", output.stderr);
    output
        .text()
        .lines()
        .find(|line| line.starts_with("the bucket keeps versions"))
        .unwrap_or_default()
        .to_owned()
}

fn check(scene: &StoreScene) -> Value {
    let output = CallOutput::of(tool(scene, &["check", "--json"]));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "versions")
        .cloned()
        .unwrap_or_default()
}

#[test]
fn what_was_deleted_and_is_still_there_is_counted() {
    let scene = scene(Keeping::default());
    let sizes: usize = (1..=4).map(|number| scene.store.get(&key(&name(1, number))).unwrap().len()).sum();
    let dry = line(&prune(&scene, &["--dry-run"]));
    assert!(dry.contains("it still has 0 files, 0 B; what goes will be among them"), "{dry}");
    let said = line(&prune(&scene, &[]));
    assert!(
        said.contains("no rule removes the older ones") && said.contains("it still has 4 files, "),
        "{said}"
    );
    // Later prunes, which delete nothing, say it again: it is still paid for.
    let again: Value = serde_json::from_slice(&prune(&scene, &["--json"]).stdout).unwrap();
    assert_eq!(again["deleted_files"], Value::Array(Vec::new()));
    let retained = &again["retained"];
    assert_eq!((&retained["files"], &retained["bytes"]), (&Value::from(4), &Value::from(sizes)));
    assert_eq!((&retained["locked_until"], &retained["removed_after_days"]), (&Value::Null, &Value::Null));
    let found = check(&scene);
    assert_eq!(found["outcome"], "note", "{found}");
    assert!(found["hint"].as_str().unwrap().contains("guide/stores.md"), "{found}");
}

#[test]
fn a_lock_and_a_rule_say_until_when() {
    let scene = scene(Keeping { locked_days: Some(30), expiry_days: Some(7) });
    let said = line(&prune(&scene, &[]));
    for words in [
        "locked for 30 days each (GOVERNANCE)",
        "7 days after they were deleted",
        "the last of them is locked until ",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let json: Value = serde_json::from_slice(&prune(&scene, &["--json"]).stdout).unwrap();
    let until: Timestamp = json["retained"]["locked_until"].as_str().unwrap().parse().unwrap();
    let in_thirty_days = until.duration_since(Timestamp::now() + SignedDuration::from_hours(30 * 24)).abs();
    assert!(in_thirty_days < SignedDuration::from_mins(5), "{until}");
    assert_eq!(json["retained"]["removed_after_days"], 7);
    let found = check(&scene);
    assert_eq!(found["outcome"], "pass", "{found}");
    assert!(found["detail"].as_str().unwrap().contains("locked for 30 days each"), "{found}");
}

#[test]
fn a_store_that_does_not_say_or_forbids_asking_is_not_mentioned() {
    let scene = scene(Keeping::default());
    // The rights for these requests are nobody's but this count's.
    let refused = Fault::Answer { status: 403, code: "AccessDenied", message: "Not yours." };
    scene.store.break_with(Matching::About("versioning"), refused.clone());
    let output = prune(&scene, &[]);
    assert_eq!((line(&output).as_str(), output.stderr.as_str()), ("", ""));
    assert_eq!(check(&scene), Value::Null);
    let verbose = prune(&scene, &["-v"]);
    assert!(
        verbose.stderr.contains("does not say anything about \"versioning\": the answer was 403"),
        "{}",
        verbose.stderr
    );
    scene.store.heal();
    scene.store.break_with(Matching::About("versions"), refused);
    let output = prune(&scene, &[]);
    assert!(line(&output).ends_with("what was deleted is still there as an older one"), "{}", output.text());
    let json: Value = serde_json::from_slice(&prune(&scene, &["--json"]).stdout).unwrap();
    assert_eq!(json["retained"]["files"], Value::Null);
}

/// Returns the number of requests about the bucket with a query that begins with this word.
fn asked(scene: &StoreScene, about: &str) -> usize {
    let begins = |query: &str| query.split(['&', '=']).next() == Some(about);
    scene.store.requests().iter().filter(|request| request.query.as_deref().is_some_and(begins)).count()
}

#[test]
fn a_list_of_versions_that_never_comes_neither_fails_a_prune_nor_hides_what_it_deleted() {
    for pages in [0, 1] {
        let mut scene = scene(Keeping::default());
        scene.set("AWS_READ_TIMEOUT", "1h");
        scene.store.break_times(pages, Matching::About("versions"), Fault::None);
        scene.store.break_with(Matching::About("versions"), Fault::Hang);
        let output = prune(&scene, &["--json", "--timeout", "6s"]);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{}", output.text());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["deleted_files"], Value::from((1..=4).map(|n| name(1, n)).collect::<Vec<_>>()));
        // The first page of this stand-in has the report, two delete markers, and a file.
        let (files, whole) = if pages == 0 { (Value::Null, Value::Null) } else { (1.into(), false.into()) };
        let retained = &json["retained"];
        assert_eq!((&retained["files"], &retained["whole"]), (&files, &whole), "{json:#}");
    }
}

#[test]
fn many_versions_are_counted_up_to_a_limit() {
    let scene = scene_of(50, Keeping::default());
    let said = line(&prune(&scene, &[]));
    assert!(said.contains("it still has more than 39 files, "), "{said}");
    assert_eq!(asked(&scene, "versions"), 20);
    let json: Value = serde_json::from_slice(&prune(&scene, &["--json"]).stdout).unwrap();
    assert_eq!(json["retained"]["whole"], Value::from(false), "{json:#}");
}

#[test]
fn a_cleanup_that_deletes_nothing_asks_nothing_about_versions() {
    let scene = scene(Keeping::default());
    let system = SYSTEM.to_string();
    let cleanup = |before: u64| {
        let before = name(1, before);
        CallOutput::of(tool(
            &scene,
            &["prune", "--system-identifier", &system, "--before", &before, "--backup-may-take", "0s"],
        ))
    };
    assert_eq!(line(&cleanup(1)), "");
    assert_eq!((asked(&scene, "versioning"), asked(&scene, "versions")), (0, 0));
    assert!(line(&cleanup(3)).contains("it still has 2 files"));
}

#[test]
fn a_deleted_file_is_absent_and_restoring_says_how_to_get_it_back() {
    let scene = scene(Keeping::default());
    assert_eq!(prune(&scene, &[]).status, 0);
    let output = scene.cat(SEGMENT).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("remove the delete marker") && stderr.contains("is not in the archive"),
        "{stderr}"
    );
}
