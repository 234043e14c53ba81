//! `walkeep check --pgdata` with archiving that is stuck or goes elsewhere, and without a base backup.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use support::{
    aged::set_time,
    data_directory::{SEGMENT_BYTES, control},
    push::{BACKUP, BACKUP_CONTENT, Pusher, SYSTEM, succeeds},
    status::{DATA, idle, marked, says, status},
    store_cluster::CallOutput,
};

use super::remedies::can_be_typed;

const FIRST: &str = "000000010000000000000001";
const SECOND: &str = "000000010000000000000002";
const THIRD: &str = "000000010000000000000003";

pub(super) fn minutes_ago(minutes: i64) -> String {
    let then = Timestamp::now() - SignedDuration::from_mins(minutes);
    Timestamp::from_second(then.as_second()).unwrap().to_string()
}

/// Creates a server that has archived its first segment and a base backup, and is writing the second segment.
pub(super) fn archived() -> Pusher {
    let pusher = Pusher::new();
    pusher.data.segment(FIRST, 1);
    pusher.data.segment(SECOND, 2);
    pusher.data.file(&format!("pg_wal/{BACKUP}"), BACKUP_CONTENT);
    for name in [FIRST, BACKUP] {
        succeeds(pusher.push(name));
    }
    pusher.data.file("postgresql.conf", "archive_mode = on\narchive_command = 'walkeep-archive %p'\n");
    idle(&pusher);
    pusher
}

pub(super) fn check(pusher: &Pusher, archive: &str) -> Command {
    let mut check = pusher.sandbox.walkeep();
    check.args(["check", "--json", "--archive", archive, "--pgdata"]).arg(pusher.data.join(""));
    check
}

/// Returns the finding of that name, and the names of the failed checks.
pub(super) fn found(check: Command, name: &str) -> (Value, Vec<String>) {
    let output = CallOutput::of(check);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    can_be_typed(&report);
    let checks = report["checks"].as_array().unwrap();
    let failed: Vec<String> = checks
        .iter()
        .filter(|finding| finding["outcome"] == "fail")
        .map(|finding| finding["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(output.status, i32::from(!failed.is_empty()), "{report:#}");
    let finding = checks.iter().find(|finding| finding["name"] == name);
    (finding.unwrap_or_else(|| panic!("{name} is not in {report:#}")).clone(), failed)
}

/// Asserts the outcome of `name`, that no other check fails, and words in its detail or hint.
pub(super) fn finds(check: Command, outcome: &str, name: &str, words: &[&str]) {
    let (finding, failed) = found(check, name);
    assert_eq!(finding["outcome"], outcome, "{finding:#}");
    assert_eq!(failed, if outcome == "fail" { vec![name] } else { vec![] }, "{finding:#}");
    for word in words {
        assert!(finding.to_string().contains(word), "{word:?} is not in {finding:#}");
    }
}

#[test]
fn a_file_that_has_waited_for_minutes_fails() {
    let pusher = archived();
    let archive = pusher.archive.url();
    finds(check(&pusher, archive), "pass", "backlog", &["nothing waits"]);
    marked(&pusher, SECOND, &minutes_ago(3));
    finds(check(&pusher, archive), "pass", "backlog", &["1 file"]);
    marked(&pusher, SECOND, &minutes_ago(7));
    let words = [SECOND, "have waited", "cd ", "walkeep-archive --archive", archive];
    finds(check(&pusher, archive), "fail", "backlog", &words);
}

#[test]
fn a_server_that_archives_elsewhere_fails_the_check() {
    let pusher = archived();
    let archive = pusher.archive.url();
    pusher.data.segment(THIRD, 3);
    set_time(&pusher.data.join(&format!("pg_wal/{SECOND}")), &minutes_ago(3));
    finds(check(&pusher, archive), "pass", "backlog", &[]);
    set_time(&pusher.data.join(&format!("pg_wal/{SECOND}")), &minutes_ago(7));
    finds(check(&pusher, archive), "fail", "backlog", &[SECOND, "not in this archive", "--archive"]);
    // It may have been marked a moment ago, after a history file.
    marked(&pusher, SECOND, &minutes_ago(1));
    marked(&pusher, "00000002.history", &minutes_ago(1));
    finds(check(&pusher, archive), "pass", "backlog", &["2 files"]);
    for name in [SECOND, "00000002.history"] {
        std::fs::remove_file(pusher.data.join(&format!("pg_wal/archive_status/{name}.ready"))).unwrap();
    }
    succeeds(pusher.push(SECOND));
    finds(check(&pusher, archive), "pass", "backlog", &[]);
}

/// A new archive after a promotion.
#[test]
fn an_archive_without_the_history_of_the_servers_timeline_is_a_problem() {
    const HISTORY: &str = "00000002.history";
    let pusher = archived();
    let archive = pusher.archive.url();
    // The restart point of a primary is its last checkpoint.
    pusher.data.set_restart_point(2, (2 << 20) + 0x28);
    let words = ["00000002.history is not in the archive", "no recovery of timeline 2", "walkeep backfill"];
    finds(check(&pusher, archive), "fail", "timelines", &words);
    let lacking = format!("✗ {}", words[0]);
    says(status(&pusher, &DATA), 1, &[&lacking, words[1], words[2]]);
    let metrics = [&DATA[..], &["--prometheus"]].concat();
    let output = CallOutput::of(status(&pusher, &metrics));
    let missing = format!("walkeep_history_missing{{system_identifier=\"{SYSTEM}\"}} 1\n");
    assert!(output.text().contains(&missing), "{}", output.text());
    // It waits to be archived, and the backlog is reported.
    pusher.data.file(&format!("pg_wal/{HISTORY}"), "1\t0/200028\tno recovery target specified\n");
    marked(&pusher, HISTORY, &minutes_ago(1));
    finds(check(&pusher, archive), "pass", "timelines", &[]);
    succeeds(pusher.push(HISTORY));
    std::fs::remove_file(pusher.data.join(&format!("pg_wal/archive_status/{HISTORY}.ready"))).unwrap();
    finds(check(&pusher, archive), "pass", "timelines", &[]);
    says(status(&pusher, &DATA), 0, &[]);
}

/// An old primary that goes on after a failover, and has archived nothing since.
#[test]
fn a_server_whose_timeline_another_has_left_behind_is_a_problem() {
    const HISTORY: &str = "00000002.history";
    let pusher = archived();
    let archive = pusher.archive.url();
    pusher.data.file(&format!("pg_wal/{HISTORY}"), "1\t0/200100\tno recovery target specified\n");
    succeeds(pusher.push(HISTORY));
    std::fs::remove_file(pusher.data.join(&format!("pg_wal/{HISTORY}"))).unwrap();
    pusher.data.set_state(6);
    pusher.data.set_restart_point(1, 0x20_0028);
    says(status(&pusher, &DATA), 0, &[]);
    pusher.data.set_restart_point(1, 0x30_0028);
    let words = ["timeline 1 up to 0/300028", "timeline 2 had left it at 0/200100", "make a standby of it"];
    says(status(&pusher, &DATA), 1, &words);
    finds(check(&pusher, archive), "fail", "timelines", &words);
    let metrics = [&DATA[..], &["--prometheus"]].concat();
    let output = CallOutput::of(status(&pusher, &metrics));
    let left = format!("walkeep_server_left_behind{{system_identifier=\"{SYSTEM}\"}} 1\n");
    assert!(output.text().contains(&left), "{}", output.text());
    // Stopped, or a standby by now.
    for state in [1, 5] {
        pusher.data.set_state(state);
        let output = CallOutput::of(status(&pusher, &DATA));
        assert!(!output.text().contains("had left it"), "{}", output.text());
    }
}

#[test]
fn an_archive_without_files_of_an_active_server_fails() {
    let pusher = archived();
    let elsewhere = pusher.sandbox.directory("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    // It may have started a moment ago.
    finds(check(&pusher, elsewhere), "pass", "backlog", &[]);
    set_time(&pusher.data.join(&format!("pg_wal/{FIRST}")), &minutes_ago(7));
    finds(check(&pusher, elsewhere), "fail", "backlog", &[FIRST, "not in this archive", "--pg-url"]);
}

#[test]
fn unreadable_marks_fail() {
    let pusher = archived();
    std::fs::remove_dir_all(pusher.data.join("pg_wal/archive_status")).unwrap();
    finds(check(&pusher, pusher.archive.url()), "fail", "backlog", &["cannot list"]);
}

#[test]
fn a_missing_base_backup_is_a_note_and_fails_once_wal_is_archived() {
    let pusher = archived();
    let archive = pusher.archive.url();
    finds(check(&pusher, archive), "pass", "backup", &["nightly", FIRST]);
    let history = pusher.file(BACKUP);
    std::fs::remove_file(&history).unwrap();
    let words = ["no base backup is known", "this alone is left to do", "pg_basebackup -D"];
    finds(check(&pusher, archive), "fail", "backup", &words);
    // The message claims no more than it knows.
    marked(&pusher, SECOND, &minutes_ago(7));
    let (finding, failed) = found(check(&pusher, archive), "backup");
    assert!(!finding.to_string().contains("this alone"), "{finding:#}");
    assert_eq!(failed, ["backlog", "backup"]);
    // Nothing is archived yet, so there can be no base backup.
    let empty = pusher.sandbox.directory("empty");
    finds(check(&archived(), empty.to_str().unwrap()), "note", "backup", &["pg_basebackup -D"]);
}

#[test]
fn a_base_backup_without_its_first_segment_does_not_count() {
    let pusher = archived();
    succeeds(pusher.push(SECOND));
    std::fs::remove_file(pusher.file(FIRST)).unwrap();
    let words = ["the first segment is missing", "pg_basebackup -D"];
    finds(check(&pusher, pusher.archive.url()), "fail", "backup", &words);
}

#[test]
fn a_base_backup_in_a_directory_of_the_configuration_or_of_a_flag_counts() {
    let pusher = archived();
    std::fs::remove_file(pusher.file(BACKUP)).unwrap();
    pusher.sandbox.directory("backups");
    let place = pusher.sandbox.directory("backups/nightly");
    let label = BACKUP_CONTENT.replace("STOP", "OTHER");
    std::fs::write(place.join("backup_label"), label).unwrap();
    std::fs::create_dir(place.join("global")).unwrap();
    std::fs::write(place.join("global/pg_control"), control(SYSTEM, SEGMENT_BYTES as u64)).unwrap();
    let above = place.parent().unwrap().display();
    let file = pusher.sandbox.file("walkeep.toml", format!("backup_dirs = [\"{above}\"]\n"));
    let mut by_file = check(&pusher, pusher.archive.url());
    by_file.arg("--config").arg(file);
    finds(by_file, "pass", "backup", &["nightly"]);
    let mut by_flag = check(&pusher, pusher.archive.url());
    by_flag.arg("--backup-dir").arg(place.parent().unwrap());
    finds(by_flag, "pass", "backup", &["nightly"]);
    // An unreadable directory is named, because it may be mistyped.
    let mut mistyped = check(&pusher, pusher.archive.url());
    mistyped.args(["--backup-dir", "/no/such/place"]);
    finds(mistyped, "fail", "backup", &["no base backup is known", "/no/such/place"]);
}
