//! `walkeep list` of timelines, base backups and files.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{fs, process::Command};

use serde_json::{Value, json};
use support::{
    aged::set_archived,
    kept::{Kept, archived_of, days_ago, position},
    push::{BACKUP_CONTENT, OTHER_SYSTEM, Pusher, SYSTEM, succeeds},
    store_cluster::CallOutput,
};

/// A backup that ends in a missing segment, with a label that would ring a terminal's bell.
const ODD_BACKUP: &str = "000000010000000000000003.00000028.backup";
const ODD_BACKUP_CONTENT: &str = "START WAL LOCATION: 0/300028 (file 000000010000000000000003)
STOP WAL LOCATION: 0/400138 (file 000000010000000000000004)
LABEL: odd \u{7}one
";
const BACKUP: &str = "000000010000000000000001.00000028.backup";
/// Timeline 2 left its parent at the start of segment 6.
const HISTORY: &str = "1\t0/600000\tno recovery target specified\n";

fn segment(timeline: u32, number: u32) -> String {
    format!("{timeline:08X}00000000{number:08X}")
}

/// Creates two timelines with segments of 1 MB, one with a gap, and two backups.
fn archive() -> Pusher {
    let pusher = Pusher::new();
    let on_1 = [1, 2, 3, 5, 6].map(|number| segment(1, number));
    let on_2 = [6, 7].map(|number| segment(2, number));
    for (seed, name) in (0..).zip(on_1.iter().chain(&on_2)) {
        pusher.data.segment(name, seed);
    }
    let partial = segment(1, 7) + ".partial";
    pusher.data.segment(&partial, 9);
    pusher.data.file("pg_wal/00000002.history", HISTORY);
    pusher.data.file(&format!("pg_wal/{BACKUP}"), BACKUP_CONTENT);
    pusher.data.file(&format!("pg_wal/{ODD_BACKUP}"), ODD_BACKUP_CONTENT);
    let texts = ["00000002.history", BACKUP, ODD_BACKUP].map(str::to_owned);
    for name in on_1.iter().chain(&on_2).chain(&texts).chain([&partial]) {
        succeeds(pusher.push(name));
        set_archived(&pusher.file(name), "2001-02-03T04:05:06Z");
    }
    pusher
}

fn list(pusher: &Pusher, arguments: &[&str]) -> Command {
    let mut list = pusher.sandbox.walkeep();
    list.args(["list", "--archive", pusher.archive.url()]).args(arguments);
    list
}

/// Returns the output of a list that must succeed without messages.
fn listed(pusher: &Pusher, arguments: &[&str]) -> String {
    let output = CallOutput::of(list(pusher, arguments));
    assert_eq!((output.status, &*output.stderr), (0, ""));
    String::from_utf8(output.stdout).unwrap()
}

fn listed_as_json(pusher: &Pusher, arguments: &[&str]) -> Value {
    serde_json::from_str(&listed(pusher, &[arguments, &["--json"]].concat())).unwrap()
}

const TIMELINES: &str = "\
TIMELINE  SEGMENTS  FIRST                     LAST                      NUMBER
       1  archived  000000010000000000000001  000000010000000000000003       3
       1  missing   000000010000000000000004  000000010000000000000004       1
       1  archived  000000010000000000000005  000000010000000000000006       2
       1  partial   000000010000000000000007  -                              -
       2  archived  000000020000000000000006  000000020000000000000007       2
timeline 2 left timeline 1 at 0/600000
";

const BACKUPS: &str = "\
BACKUP                                    ENDED                 COMPLETE
000000010000000000000001.00000028.backup  2001-02-03T04:05:06Z  yes
  \"nightly\", from 000000010000000000000001
  recoverable to 000000010000000000000003, a gap on the way to timeline 1
  recoverable to 000000010000000000000003, a gap on the way to timeline 2
000000010000000000000003.00000028.backup  2001-02-03T04:05:06Z  no
  \"odd  one\", from 000000010000000000000003
  recoverable to 000000010000000000000003, a gap on the way to timeline 1
  recoverable to 000000010000000000000003, a gap on the way to timeline 2
";

#[test]
fn every_table_fits_a_terminal_of_80_columns() {
    let pusher = archive();
    let mut verify = pusher.sandbox.walkeep();
    verify.args(["verify", "--archive", pusher.archive.url()]);
    let verified = String::from_utf8(CallOutput::of(verify).stdout).unwrap();
    // The first line, and findings, are sentences: each is one line for grep.
    let tables = verified.split("\n\n").skip(1).take(1).chain(verified.split("\n\n").skip(2).take(1));
    let tables: Vec<&str> = tables.collect();
    assert!(tables[0].starts_with("TIMELINE") && tables[1].starts_with("BACKUP"), "{verified}");
    let listed = [&[][..], &["timelines"], &["backups"], &["files"]].map(|what| listed(&pusher, what));
    for line in tables.iter().copied().chain(listed.iter().map(String::as_str)).flat_map(str::lines) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn timelines_and_backups_are_shown_with_what_is_missing() {
    let pusher = archive();
    assert_eq!(listed(&pusher, &["timelines"]), TIMELINES);
    assert_eq!(listed(&pusher, &["backups"]), BACKUPS);
    assert_eq!(listed(&pusher, &[]), format!("{TIMELINES}\n{BACKUPS}"));

    // Once the gap is closed, everything can be recovered.
    let missing = segment(1, 4);
    pusher.data.segment(&missing, 0);
    succeeds(pusher.push(&missing));
    let backups = listed_as_json(&pusher, &["backups"]);
    assert_eq!(backups["backups"][1]["complete"], true);
    let reaches = json!([
        { "timeline": 1, "last_segment": segment(1, 6), "to_the_end": true },
        { "timeline": 2, "last_segment": segment(2, 7), "to_the_end": true },
    ]);
    assert_eq!(backups["backups"][0]["reaches"], reaches);
    assert!(!listed(&pusher, &[]).contains("missing"));
}

#[test]
fn the_shape_of_the_json_stays() {
    let pusher = archive();
    let expected = json!({
        "archive": pusher.archive.url(),
        "system_identifier": SYSTEM.to_string(),
        "ok": true,
        "segment_bytes": 1 << 20,
        "timelines": [
            {
                "timeline": 1, "parent": null, "left_at": null,
                "ranges": [
                    { "first": segment(1, 1), "last": segment(1, 3), "segments": 3 },
                    { "first": segment(1, 5), "last": segment(1, 6), "segments": 2 },
                ],
                "gaps": [{ "first": segment(1, 4), "last": segment(1, 4), "segments": 1 }],
                "partials": [segment(1, 7) + ".partial"],
            },
            {
                "timeline": 2, "parent": 1, "left_at": "0/600000",
                "ranges": [{ "first": segment(2, 6), "last": segment(2, 7), "segments": 2 }],
                "gaps": [], "partials": [],
            },
        ],
        "backups": [
            {
                "name": BACKUP, "label": "nightly", "start_segment": segment(1, 1),
                "ended": "2001-02-03T04:05:06Z", "complete": true, "counts": true,
                "reaches": [
                    { "timeline": 1, "last_segment": segment(1, 3), "to_the_end": false },
                    { "timeline": 2, "last_segment": segment(1, 3), "to_the_end": false },
                ],
            },
            {
                "name": ODD_BACKUP, "label": "odd \u{7}one", "start_segment": segment(1, 3),
                "ended": "2001-02-03T04:05:06Z", "complete": false, "counts": true,
                "reaches": [
                    { "timeline": 1, "last_segment": segment(1, 3), "to_the_end": false },
                    { "timeline": 2, "last_segment": segment(1, 3), "to_the_end": false },
                ],
            },
        ],
        "unreadable": [],
    });
    assert_eq!(listed_as_json(&pusher, &[]), expected);
    let keys = |arguments: &[&str]| -> Vec<String> {
        let keys =
            listed_as_json(&pusher, arguments).as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        keys.into_iter()
            .filter(|key| expected.get(key).is_none() || key == "timelines" || key == "backups")
            .collect()
    };
    assert_eq!(
        (keys(&["timelines"]), keys(&["backups"])),
        (vec!["timelines".into()], vec!["backups".into()])
    );
    assert_eq!(keys(&["files"]), ["files", "total"]);
}

#[test]
fn files_are_listed_with_both_sizes_and_their_sum() {
    let pusher = archive();
    let files = listed_as_json(&pusher, &["files"]);
    let stored = |name: &str| fs::metadata(pusher.file(name)).unwrap().len();
    let entries = files["files"].as_array().unwrap();
    assert_eq!(entries.len(), 11);
    let file = |name: &str, original: Value| {
        let since = "2001-02-03T04:05:06Z";
        json!({ "name": name, "archived_at": since, "original_bytes": original, "stored_bytes": stored(name) })
    };
    assert_eq!(entries[0], file(&segment(1, 1), json!(1 << 20)));
    assert!(entries.contains(&file("00000002.history", Value::Null)), "{files:#}");
    let sum: u64 = entries.iter().map(|file| stored(file["name"].as_str().unwrap())).sum();
    let total = &files["total"];
    assert_eq!(
        [&total["files"], &total["segments"], &total["stored_bytes"]],
        [&json!(11), &json!(7), &json!(sum)]
    );
    assert_eq!(total["original_bytes"], 8 << 20);
    #[allow(clippy::cast_precision_loss, reason = "far from what a float cannot hold")]
    let ratio = f64::from(8 << 20) / sum as f64;
    assert!((total["ratio"].as_f64().unwrap() - ratio).abs() < 1e-9, "{total}");

    let text = listed(&pusher, &["files"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 13);
    assert_eq!(lines[0], "NAME                                      ARCHIVED                 SIZE   STORED");
    assert!(
        lines[1].starts_with(&format!("{:40}  2001-02-03T04:05:06Z     1 MB ", segment(1, 1))),
        "{}",
        lines[1]
    );
    assert!(lines.iter().any(|line| line.starts_with("00000002.history  ") && line.contains("Z        - ")));
    assert!(lines[12].starts_with("11 files: 8 MB of segments, "), "{}", lines[12]);
    assert!(lines[12].ends_with(&format!(" stored, ratio {ratio:.1}")), "{}", lines[12]);
}

#[test]
fn a_range_of_files_covers_all_timelines() {
    let pusher = archive();
    let names = |arguments: &[&str]| -> Vec<String> {
        let files = listed_as_json(&pusher, &[&["files"], arguments].concat());
        files["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let (third, sixth) = (segment(1, 3), segment(2, 6));
    let expected = [third.clone(), segment(1, 5), segment(1, 6), sixth.clone(), ODD_BACKUP.to_owned()];
    assert_eq!(names(&[&third, &sixth]), expected);
    let expected = [segment(1, 6), segment(2, 6), segment(2, 7), segment(1, 7) + ".partial"];
    assert_eq!(names(&[&sixth]), expected);
    assert_eq!(names(&[&segment(7, 9)]), [""; 0]);
    CallOutput::of(list(&pusher, &["files", &sixth, &third])).is_error(2, &["FROM comes after TO"]);
    CallOutput::of(list(&pusher, &["backups", &third])).is_error(2, &["only files"]);
    CallOutput::of(list(&pusher, &["files", "3"])).is_error(2, &["\"3\" is not the name"]);
    CallOutput::of(list(&pusher, &["everything"])).is_error(2, &["everything"]);
}

#[test]
fn unreadable_files_are_reported_and_the_rest_is_listed() {
    let pusher = archive();
    fs::write(pusher.file("00000002.history"), "damage").unwrap();
    let output = CallOutput::of(list(&pusher, &[]));
    output.is_error(1, &["00000002.history"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("nightly"));
    assert_eq!(CallOutput::of(list(&pusher, &["files"])).status, 0, "they are there");
    let output = CallOutput::of(list(&pusher, &["--json"]));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status, json["unreadable"][0]["name"].as_str()), (1, Some("00000002.history")));
}

#[test]
fn an_archive_without_files_of_the_cluster_is_a_failure() {
    let pusher = Pusher::new();
    CallOutput::of(list(&pusher, &["--timeout", "1s"]))
        .is_error(1, &[pusher.archive.url(), "holds no system"]);
    let pusher = archive();
    let other = OTHER_SYSTEM.to_string();
    let other_one = list(&pusher, &["--timeout", "1s", "--system-identifier", &other]);
    CallOutput::of(other_one).is_error(1, &["holds nothing of system", &other]);
    let data = pusher.data.join("");
    assert_eq!(listed(&pusher, &["timelines", "--pgdata", data.to_str().unwrap()]), TIMELINES);
    pusher.archive.vanish();
    CallOutput::of(list(&pusher, &[])).is_error(1, &[pusher.archive.url()]);
}

#[test]
fn a_backup_that_may_be_below_an_incremental_one_is_said_to_be_needed() {
    let kept = Kept::new();
    kept.segments(1, 1..=30, 2);
    kept.backup(1, 5, 5, 3);
    let content = format!(
        "START WAL LOCATION: {} (file {})\nSTOP WAL LOCATION: {} (file {})\nLABEL: orphan\nSTART TIMELINE: 1\n\
         STOP TIMELINE: 1\nINCREMENTAL FROM LSN: {}\nINCREMENTAL FROM TLI: 1\n",
        position(20, 0x28),
        segment(1, 20),
        position(20, 0x138),
        segment(1, 20),
        position(10, 0x28)
    );
    let name = format!("{}.00000028.backup", segment(1, 20));
    kept.put(&name, archived_of(SYSTEM, &name, content.as_bytes(), days_ago(2)), days_ago(2));
    kept.backup(1, 25, 25, 1);
    let listed = kept.said("list", &["backups"]);
    let needed = "its files may still be needed by the backup \"orphan\" from 000000010000000000000014";
    assert_eq!(listed.matches(needed).count(), 1, "{listed}");
    assert!(listed.find("3 days ago") < listed.find(needed), "{listed}");
    assert!(listed.find(needed) < listed.find("which the archive does not know"), "{listed}");
}
