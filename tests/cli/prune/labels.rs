//! Labels: base backups taken for replicas do not count if labels exclude them, and are reported otherwise.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use support::{
    base_backup::{backup, labelled, manifest},
    data_directory::{SEGMENT_BYTES, control},
    forged::resealed,
    kept::{Kept, archived_backup, days_ago, name},
    push::SYSTEM,
    running::outcome_of,
};

const REPLICA: &str = "pg_basebackup base backup";

/// Adds a backup with that label, start and end time.
fn add(kept: &Kept, start: u64, label: &str, at: Timestamp) -> String {
    let (name, bytes) = archived_backup(1, start, start, label, at);
    kept.put(&name, bytes, at);
    name
}

/// Creates three nightly backups, and three replicas made on the following morning.
fn scene() -> Kept {
    let kept = Kept::new();
    kept.segments(1, 1..=12, 2);
    for (start, days) in [(3, 4), (5, 3), (7, 2)] {
        add(&kept, start, &format!("nightly {start}"), days_ago(days));
    }
    for start in [9, 10, 11] {
        add(
            &kept,
            start,
            REPLICA,
            days_ago(1) + SignedDuration::from_mins(9 * i64::try_from(start).unwrap()),
        );
    }
    kept
}

fn begins_at(kept: &Kept, options: &[&str]) -> String {
    kept.json("prune", &[&["--dry-run"], options].concat())["begins_at"].as_str().unwrap().to_owned()
}

#[test]
fn replicas_do_not_count_if_labels_exclude_them() {
    let kept = scene();
    let three = ["--keep-backups", "3", "--backup-label", "nightly*"];
    assert_eq!(begins_at(&kept, &three), name(1, 3));
    assert_eq!(begins_at(&kept, &["--keep-backups", "1", "--backup-label", "nightly*"]), name(1, 7));
    assert_eq!(begins_at(&kept, &["--keep-days", "0", "--backup-label", "nightly*"]), name(1, 7));
    let two = ["--keep-backups", "1", "--backup-label", "nightly 3", "--backup-label", "nightly [45]"];
    assert_eq!(begins_at(&kept, &two), name(1, 5));
    let config = kept.sandbox.file("walkeep.toml", "keep_backups = 2\nbackup_labels = ['nightly*']\n");
    assert_eq!(begins_at(&kept, &["--config", config.to_str().unwrap()]), name(1, 5));

    let told = kept.json("prune", &three);
    let backups = told["kept_backups"].as_array().unwrap();
    let counts: Vec<bool> = backups.iter().map(|backup| backup["counts"].as_bool().unwrap()).collect();
    assert_eq!(counts, [true, true, true, false, false, false], "{told:#}");
    assert_eq!(backups[3]["why"], json!(["not asked for, but others need all that it does"]));
    assert_eq!(told["perhaps_replicas"], json!([]));
    let said = kept.said("prune", &three);
    let replica = said.lines().find(|line| line.contains(&name(1, 9))).unwrap();
    assert!(replica.contains(", which does not count by its label: not asked for"), "{said}");
    let said = kept.said("list", &["backups", "--config", config.to_str().unwrap()]);
    let of = |start: u64| said.lines().find(|line| line.contains(&name(1, start))).unwrap();
    assert!(said.lines().next().unwrap().contains("COMPLETE  COUNTS"), "{said}");
    assert!(of(3).ends_with("yes       yes") && of(9).ends_with("yes       no"), "{said}");
    let listed = kept.json("list", &["backups", "--config", config.to_str().unwrap()]);
    assert_eq!(
        (&listed["backups"][0]["counts"], &listed["backups"][3]["counts"]),
        (&json!(true), &json!(false))
    );
    let said = kept.said("verify", &["--names-only", "--backup-label", "nightly*"]);
    assert_eq!(said.matches("pg_basebackup base backup (does not count)").count(), 3, "{said}");
    let verified = kept.json("verify", &["--names-only", "--backup-label", "nightly*"]);
    assert_eq!(
        (&verified["backups"][0]["counts"], &verified["backups"][5]["counts"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn without_labels_suspected_replicas_are_reported() {
    let kept = scene();
    let told =
        |options: &[&str]| outcome_of(kept.walkeep("prune", &[&["--dry-run"], options].concat())).stderr;
    let warning = told(&["--keep-backups", "3"]);
    assert!(warning.starts_with("walkeep: warning: replicas may have been made of "), "{warning}");
    assert_eq!((warning.lines().count(), warning.matches(REPLICA).count()), (1, 3), "{warning}");
    assert!(warning.contains(&name(1, 11)) && warning.contains("backup_labels"), "{warning}");
    assert_eq!(told(&["--keep-days", "1"]), "", "a window has room for all");
    assert_eq!(told(&["--keep-backups", "3", "--backup-label", "*"]), "", "all of them count");
    let mut json = kept.walkeep("prune", &["--dry-run", "--json", "--keep-backups", "1"]);
    let output = json.stdout(std::process::Stdio::piped()).output().unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["perhaps_replicas"], json!([format!("\"{REPLICA}\" from {}", name(1, 11))]));

    // The same label every night.
    let kept = Kept::new();
    kept.segments(1, 1..=12, 2);
    for (start, days) in [(3, 3), (5, 2), (7, 1)] {
        add(&kept, start, "nightly", days_ago(days));
    }
    kept.said("prune", &["--keep-backups", "2"]);
}

#[test]
fn label_patterns_without_a_match_delete_nothing() {
    let kept = scene();
    let options = ["--keep-backups", "3", "--backup-label", "nightly", "--backup-label", "Nightly*"];
    kept.fails(1, "prune", &options, "no base backup has a label that counts (nightly, Nightly*)");
    kept.fails(1, "prune", &["--before", &name(1, 9), "--backup-label", "x"], "list backups");
    assert!(kept.archive.file(SYSTEM, &name(1, 1)).exists());
    kept.fails(2, "prune", &["--keep-backups", "1", "--backup-label", "night[ly"], "--backup-label");
}

#[test]
fn backups_in_directories_count_under_any_label() {
    let kept = scene();
    let place = kept.sandbox.directory("backups");
    let files = |start, label| {
        [
            ("backup_label", labelled(start, label)),
            ("global/pg_control", control(SYSTEM, SEGMENT_BYTES as u64)),
            ("backup_manifest", manifest(start, start, None)),
        ]
    };
    backup(&place, "one", &files(8, "weekly"), 1);
    let options =
        |pattern| ["--keep-backups", "1", "--backup-dir", place.to_str().unwrap(), "--backup-label", pattern];
    assert_eq!(begins_at(&kept, &options("nightly*")), name(1, 8));
    assert_eq!(
        begins_at(&kept, &options("weekly")),
        name(1, 8),
        "where only replicas are taken from the primary"
    );
    assert_eq!(begins_at(&kept, &options("monthly")), name(1, 8), "one that is found counts as it is");
    let archive_alone = ["--keep-backups", "1", "--backup-label", "monthly"];
    kept.fails(1, "prune", &archive_alone, "no base backup has a label that counts (monthly)");
}

#[test]
fn the_newest_is_the_one_that_ended_last_although_another_was_archived_later() {
    let kept = Kept::new();
    kept.segments(1, 1..=12, 2);
    // The archive was away when the first one ended.
    let ended = days_ago(3);
    let (first, bytes) = archived_backup(1, 3, 3, "nightly", ended);
    let late = |at: Timestamp| resealed(&bytes, &ended.to_string(), &at.to_string());
    kept.put(&first, late(days_ago(1)), days_ago(1));
    add(&kept, 5, "nightly", days_ago(2));
    let told = kept.json("prune", &["--dry-run", "--keep-backups", "1"]);
    assert_eq!(told["begins_at"], name(1, 5), "{told:#}");
    // If one clock was ahead, archiving times are compared.
    kept.put(&first, late(days_ago(4)), days_ago(4));
    let (second, bytes) = archived_backup(1, 5, 5, "nightly", days_ago(2));
    kept.put(&second, resealed(&bytes, &days_ago(2).to_string(), &days_ago(5).to_string()), days_ago(5));
    assert_eq!(begins_at(&kept, &["--keep-backups", "1"]), name(1, 3));
}
