//! `walkeep status` and `walkeep check` find a hole left by a failover, and a second server that still writes,
//! without listing the whole archive.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{fs, ops::RangeInclusive, process::Command, process::Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{
    kept::{Kept, archived_history, archived_segment, name, position},
    push::SYSTEM,
    status::{json_of, metrics, quiet_output, says},
    store_cluster::CallOutput,
};

fn status(kept: &Kept, arguments: &[&str]) -> Command {
    let mut status = kept.walkeep("status", arguments);
    status.stdout(Stdio::piped());
    status
}

/// Returns the check with this name.
fn finding(kept: &Kept, name: &str) -> Value {
    let mut check = kept.walkeep("check", &["--json"]);
    check.stdout(Stdio::piped());
    let report: Value = serde_json::from_slice(&CallOutput::of(check).stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {report:#}")).clone()
}

/// Asserts the outcome of the check of timelines.
fn checked(kept: &Kept, outcome: &str, words: &[&str]) {
    let finding = finding(kept, "timelines");
    assert_eq!(finding["outcome"], outcome, "{finding:#}");
    for word in words {
        assert!(finding.to_string().contains(word), "{word:?} is not in {finding:#}");
    }
}

fn minutes_ago(minutes: i64) -> Timestamp {
    let now = Timestamp::now().round(jiff::Unit::Second).unwrap();
    now - SignedDuration::from_mins(minutes)
}

const HOURS: i64 = 60;

fn segments(kept: &Kept, timeline: u32, numbers: RangeInclusive<u64>, at: Timestamp) {
    for number in numbers {
        let name = name(timeline, number);
        kept.put(&name, archived_segment(&name, at), at);
    }
}

fn history(kept: &Kept, timeline: u32, ancestors: &[(u32, String)], at: Timestamp) {
    let (name, bytes) = archived_history(timeline, ancestors, at);
    kept.put(&name, bytes, at);
}

fn remove(kept: &Kept, name: &str) -> Vec<u8> {
    let file = kept.archive.file(SYSTEM, name);
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(file).unwrap();
    bytes
}

/// Creates a server that was promoted 50 hours ago at `left_at`, in or at the start of segment 10, and a base backup
/// from before.
fn promoted_at(left_at: String) -> Kept {
    let kept = Kept::new();
    segments(&kept, 1, 1..=9, minutes_ago(60 * HOURS));
    kept.backup(1, 2, 2, 3);
    history(&kept, 2, &[(1, left_at)], minutes_ago(50 * HOURS));
    segments(&kept, 2, 10..=12, minutes_ago(49 * HOURS));
    kept
}

#[test]
fn a_hole_left_by_a_failover_is_a_problem_until_it_is_filled() {
    for left_at in [position(10, 0x90), position(10, 0)] {
        let kept = promoted_at(left_at.clone());
        quiet_output(status(&kept, &[]));
        checked(&kept, "pass", &[]);
        let last = remove(&kept, &name(1, 9));
        let words = ["✗ ", &name(1, 9), &left_at, "\"walkeep backfill\"", "then take a base backup"]
            .map(str::to_owned);
        says(status(&kept, &[]), 1, &words.each_ref().map(String::as_str));
        let before = remove(&kept, &name(1, 8));
        says(status(&kept, &[]), 1, &[&format!("{} to {}", name(1, 8), name(1, 9))]);
        checked(&kept, "fail", &[&name(1, 8), "walkeep backfill"]);
        let json = json_of(status(&kept, &["--json"]), 1);
        let hole = json!([{
            "timeline": 1, "first_segment": name(1, 8), "last_segment": name(1, 9), "segments": 2,
            "left_by": 2, "left_at": left_at, "passed": false,
        }]);
        assert_eq!((&json["holes"], json["problems"].as_array().unwrap().len()), (&hole, 1));
        let output = CallOutput::of(status(&kept, &["--prometheus"]));
        assert_eq!((output.status, output.stderr.lines().count()), (1, 1), "{}", output.stderr);
        let found = metrics(std::str::from_utf8(&output.stdout).unwrap());
        assert_eq!((&*found["walkeep_hole_segments"], &*found["walkeep_up"]), ("2", "1"));
        // One of the two segments is not enough.
        kept.put(&name(1, 9), &last, minutes_ago(0));
        says(status(&kept, &[]), 1, &[&name(1, 8)]);
        kept.put(&name(1, 8), &before, minutes_ago(0));
        quiet_output(status(&kept, &[]));
        checked(&kept, "pass", &[]);
    }
}

#[test]
fn a_hole_is_ignored_once_wal_before_it_is_deleted_and_a_note_once_a_base_backup_follows() {
    let kept = promoted_at(position(10, 0x90));
    remove(&kept, &name(1, 9));
    kept.backup(2, 11, 11, 0);
    let sentence = "no older base backup gets to timeline 2";
    says(status(&kept, &[]), 0, &["! ", &name(1, 9), sentence]);
    checked(&kept, "note", &[&name(1, 9), sentence]);
    for number in 1..=8 {
        remove(&kept, &name(1, number));
    }
    assert!(!quiet_output(status(&kept, &[])).contains('!'));
    checked(&kept, "pass", &[]);
}

#[test]
fn missing_segments_that_no_base_backup_needs_are_no_hole() {
    let kept = promoted_at(position(10, 0x90));
    remove(&kept, &name(1, 9));
    for file in kept.names().iter().filter(|name| name.ends_with(".backup")) {
        remove(&kept, file);
    }
    // While no base backup is known, everything is needed.
    says(status(&kept, &[]), 1, &[&name(1, 9)]);
    kept.backup(2, 11, 11, 0);
    assert!(!quiet_output(status(&kept, &[])).contains('!'));
}

#[test]
fn only_ancestors_of_the_newest_timeline_are_checked() {
    let kept = promoted_at(position(10, 0x90));
    history(&kept, 4, &[(1, position(10, 0x90)), (2, position(13, 0x28))], minutes_ago(40 * HOURS));
    segments(&kept, 4, 13..=14, minutes_ago(40 * HOURS));
    // An earlier attempt, which nobody follows.
    history(&kept, 3, &[(1, position(10, 0x90)), (2, position(20, 0x28))], minutes_ago(41 * HOURS));
    quiet_output(status(&kept, &[]));
    let last = remove(&kept, &name(2, 12));
    says(status(&kept, &[]), 1, &[&name(2, 12), "timeline 4"]);
    kept.put(&name(2, 12), last, minutes_ago(0));
    remove(&kept, &name(1, 9));
    says(status(&kept, &[]), 1, &[&name(1, 9), "timeline 2"]);
}

#[test]
fn a_timeline_left_within_its_first_segment_needs_no_segment() {
    let kept = promoted_at(position(10, 0x90));
    for number in 10..=12 {
        remove(&kept, &name(2, number));
    }
    history(&kept, 3, &[(1, position(10, 0x90)), (2, position(10, 0x9000))], minutes_ago(40 * HOURS));
    segments(&kept, 3, 10..=12, minutes_ago(40 * HOURS));
    quiet_output(status(&kept, &[]));
}

#[test]
fn a_timeline_written_after_its_fork_is_a_problem_and_a_note_a_day_later() {
    let kept = promoted_at(position(10, 0x90));
    segments(&kept, 1, 10..=11, minutes_ago(30 * HOURS));
    says(status(&kept, &[]), 0, &["! ", &name(1, 11), "timeline 2"]);
    checked(&kept, "note", &[&name(1, 11)]);
    segments(&kept, 1, 12..=12, minutes_ago(3));
    says(status(&kept, &[]), 1, &["✗ ", &name(1, 12), "timeline 2", "two servers", "make a standby"]);
    checked(&kept, "fail", &[&name(1, 12), "two servers"]);
    let json = json_of(status(&kept, &["--json"]), 1);
    assert_eq!(json["parallel"][0]["newest_segment"], name(1, 12), "{json:#}");
    assert_eq!(json["parallel"][0]["beside_timeline"], 2, "{json:#}");
    let output = CallOutput::of(status(&kept, &["--prometheus"]));
    let found = metrics(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(found["walkeep_parallel_timelines"], "1");
}

#[test]
fn a_timeline_left_at_the_start_of_a_segment_needs_no_segment_of_that_number() {
    let kept = promoted_at(position(10, 0));
    segments(&kept, 1, 10..=10, minutes_ago(3));
    says(status(&kept, &[]), 1, &[&name(1, 10), "two servers"]);
}

#[test]
fn wal_abandoned_by_a_recovery_to_the_past_is_no_second_server() {
    let kept = promoted_at(position(10, 0x90));
    segments(&kept, 1, 10..=20, minutes_ago(51 * HOURS));
    assert!(!quiet_output(status(&kept, &[])).contains('!'));
    // Copied without file times.
    for name in kept.names() {
        let file = kept.archive.file(SYSTEM, &name);
        let at = if name.starts_with("00000001") { 1 } else { 2 };
        support::kept::touch(&file, minutes_ago(at));
    }
    assert!(!quiet_output(status(&kept, &[])).contains('!'));
    checked(&kept, "pass", &[]);
}

#[test]
fn the_segment_of_the_fork_may_be_archived_completely_at_any_time() {
    let kept = promoted_at(position(10, 0x90));
    segments(&kept, 1, 10..=10, minutes_ago(3));
    assert!(!quiet_output(status(&kept, &[])).contains('!'));
}

#[test]
fn the_backlog_of_a_new_primary_is_no_second_server() {
    let kept = Kept::new();
    segments(&kept, 1, 1..=9, minutes_ago(60));
    kept.backup(1, 2, 2, 1);
    history(&kept, 2, &[(1, position(10, 0x90))], minutes_ago(50));
    segments(&kept, 1, 10..=12, minutes_ago(49));
    segments(&kept, 2, 10..=10, minutes_ago(48));
    assert!(!quiet_output(status(&kept, &[])).contains('!'));
    // The same holds while the timeline has no segment of its own.
    remove(&kept, &name(2, 10));
    assert!(!quiet_output(status(&kept, &[])).contains('!'));
    segments(&kept, 1, 13..=13, minutes_ago(30));
    says(status(&kept, &[]), 1, &[&name(1, 13), "two servers"]);
}

#[test]
fn another_active_branch_is_a_second_server_and_an_ended_one_is_not() {
    let kept = promoted_at(position(10, 0x90));
    // The server continued on timeline 1, and timeline 2 was a drill that archived.
    segments(&kept, 1, 10..=29, minutes_ago(45 * HOURS));
    history(&kept, 3, &[(1, position(30, 0x90))], minutes_ago(40 * HOURS));
    segments(&kept, 3, 30..=31, minutes_ago(39 * HOURS));
    assert!(!quiet_output(status(&kept, &[])).contains('!'));
    segments(&kept, 2, 13..=13, minutes_ago(5));
    says(status(&kept, &[]), 1, &[&name(2, 13), "timeline 3", "two servers"]);
}
