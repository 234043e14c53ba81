//! `walkeep prune` with every policy: kept files stay, all others go, and a dry run shows both.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{collections::BTreeSet, fs, path::Path};

use jiff::SignedDuration;
use rustix::process::Signal;
use serde_json::json;
use support::{
    data_directory::SEGMENT_BYTES,
    kept::{Kept, archived_segment, days_ago, name, position, put_file, touch},
    push::SYSTEM,
    running::{Running, outcome_of},
    wrapper::wrapped,
};

/// Creates three backups of one timeline, 20, 10 and 3 days ago, and segments 1 to 40 over that time.
fn month() -> Kept {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 25);
    kept.segments(1, 10..=19, 15);
    kept.segments(1, 20..=24, 4);
    kept.segments(1, 25..=39, 2);
    kept.segments(1, 40..=40, 0);
    kept.backup(1, 5, 6, 20);
    kept.backup(1, 15, 15, 10);
    kept.backup(1, 25, 26, 3);
    kept
}

/// Returns the numbers of the segments of a timeline.
fn numbers(kept: &Kept, timeline: u32) -> Vec<u64> {
    (0..100).filter(|number| kept.archive.file(SYSTEM, &name(timeline, *number)).exists()).collect()
}

/// Returns the total size of all files.
fn bytes(kept: &Kept) -> u64 {
    let system = Path::new(kept.archive.url()).join(SYSTEM.to_string());
    kept.files().iter().map(|file| fs::metadata(system.join(file)).unwrap().len()).sum()
}

fn backups(kept: &Kept) -> usize {
    kept.names().iter().filter(|name| name.ends_with(".backup")).count()
}

#[test]
fn each_policy_keeps_the_documented_files() {
    let cases: [(&[&str], u64, usize); 11] = [
        (&["--keep-backups", "1"], 25, 1),
        (&["--keep-backups", "2"], 15, 2),
        (&["--keep-backups", "3"], 5, 3),
        (&["--keep-backups", "99"], 5, 3),
        (&["--keep-days", "1"], 25, 1),
        (&["--keep-days", "7"], 15, 2),
        (&["--keep-days", "12"], 5, 3),
        (&["--keep-backups", "1", "--keep-days", "7"], 15, 2),
        (&["--keep-backups", "3", "--keep-days", "1"], 5, 3),
        (&["--before", "000000010000000000000018"], 24, 1),
        (&["--before", "00000001000000000000001E", "--keep-backups", "2"], 15, 2),
    ];
    for (policy, begins_at, backups_left) in cases {
        let kept = month();
        let would = kept.json("prune", &[policy, &["--dry-run"]].concat());
        assert_eq!(numbers(&kept, 1).len(), 40, "{policy:?}: a dry run deletes nothing");
        assert_eq!(kept.report("prune"), None, "and notes nothing");
        let before: BTreeSet<String> = kept.names().into_iter().collect();
        let did = kept.json("prune", policy);
        let after: BTreeSet<String> = kept.names().into_iter().collect();
        assert_eq!(numbers(&kept, 1), (begins_at..=40).collect::<Vec<_>>(), "{policy:?}");
        assert_eq!(backups(&kept), backups_left, "{policy:?}");
        let deleted: BTreeSet<&str> =
            would["deleted_files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let gone: BTreeSet<&str> = before.difference(&after).map(String::as_str).collect();
        assert_eq!(deleted, gone, "{policy:?}: what a dry run says is what is done");
        for field in ["begins_at", "kept_backups", "deleted_files", "deleted_bytes", "kept", "unknown_files"]
        {
            assert_eq!(would[field], did[field], "{policy:?} {field}");
        }
        assert_eq!(did["begins_at"], json!((begins_at > 1).then(|| name(1, begins_at))));
        let again = kept.json("prune", policy);
        assert_eq!(again["deleted_files"], json!([]), "{policy:?}: nothing is left to do");
    }
}

#[test]
fn the_reason_why_each_backup_stays_is_printed() {
    let kept = month();
    let said = kept.said("prune", &["--keep-backups", "1", "--keep-days", "5", "--dry-run"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "would delete 000000010000000000000005.00000028.backup");
    assert_eq!(lines[1], "would delete 000000010000000000000001");
    assert_eq!(lines[14], "would delete 00000001000000000000000E");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("forgets \"20 days ago\" from 000000010000000000000005, ended 20"))
    );
    let of =
        |start: &str| lines.iter().find(|line| line.starts_with("keeps ") && line.contains(start)).unwrap();
    assert!(of("00000001000000000000000F").ends_with(": the last one before the recovery window"), "{said}");
    assert!(
        of("000000010000000000000019").ends_with(": the newest of 1; within the recovery window"),
        "{said}"
    );
    assert!(of("\"3 days ago\"").contains(", ended 20"), "{said}");
    let last = lines.last().unwrap();
    assert!(last.starts_with("would delete 15 files, ") && last.contains("; 28 files stay, "), "{said}");
    assert!(last.ends_with(", which begins at 00000001000000000000000F"), "{said}");
}

#[test]
fn the_shape_of_the_json_stays() {
    let kept = Kept::new();
    kept.segments(1, 1..=3, 5);
    kept.segments(1, 4..=5, 0);
    kept.backup(1, 3, 4, 9);
    kept.backup(1, 5, 9, 2);
    let leftover = kept.archive.file(SYSTEM, &name(1, 1)).with_file_name("000000010000000000000001#1");
    put_file(&leftover, "half", days_ago(2));
    put_file(&leftover.with_file_name("foreign"), "x", days_ago(2));
    let mut output = kept.json("prune", &["--keep-backups", "1", "--keep-days", "1"]);
    for place in ["/deleted_bytes", "/kept/stored_bytes", "/kept_backups/0/ended", "/kept_backups/1/ended"] {
        let value = output.pointer_mut(place).unwrap();
        assert!(value.as_u64().is_some_and(|bytes| bytes > 1_000) || value.as_str().unwrap().ends_with('Z'));
        *value = "SOME".into();
    }
    let key = |name: &str| format!("{SYSTEM}/wal/0000000100000000/{name}");
    let expected = json!({
        "archive": kept.archive.url(),
        "system_identifier": SYSTEM.to_string(),
        "dry_run": false,
        "ok": true,
        "begins_at": name(1, 3),
        "kept_backups": [
            {
                "title": format!("\"9 days ago\" from {}", name(1, 3)), "start_segment": name(1, 3), "ended": "SOME",
                "complete": true, "counts": true, "why": ["the newest of 1", "the last one before the recovery window"]
            },
            {
                "title": format!("\"2 days ago\" from {}", name(1, 5)), "start_segment": name(1, 5), "ended": "SOME",
                "complete": false, "counts": true, "why": ["not asked for, but others need all that it does"]
            },
        ],
        "forgotten_backups": [],
        "given_up_timelines": [],
        "perhaps_replicas": [],
        "deleted_files": [name(1, 1), name(1, 2)],
        "deleted_leftovers": [key("000000010000000000000001#1")],
        "deleted_bytes": "SOME",
        "kept": { "files": 5, "segments": 3, "stored_bytes": "SOME", "original_bytes": 3 * SEGMENT_BYTES },
        "unknown_files": 1,
    });
    assert_eq!(output, expected, "{output:#}");
}

#[test]
fn the_oldest_wal_to_keep_is_named_as_for_pg_archivecleanup() {
    let cases = [
        ("00000001000000000000000A", 10),
        ("00000001000000000000000A.partial", 10),
        ("00000001000000000000000A.00000028.backup", 10),
        ("00000002000000000000000A", 10),
        ("000000000000000000000000", 1),
        ("000000010000000000000001", 1),
    ];
    for (before, begins_at) in cases {
        let kept = Kept::new();
        kept.segments(1, 1..=12, 1);
        let partial = format!("{}.partial", name(1, 10));
        kept.put(&partial, archived_segment(&partial, days_ago(1)), days_ago(1));
        let older = format!("{}.partial", name(1, 9));
        kept.put(&older, archived_segment(&older, days_ago(1)), days_ago(1));
        kept.said("prune", &["--before", before]);
        assert_eq!(numbers(&kept, 1), (begins_at..=12).collect::<Vec<_>>(), "{before}");
        assert!(kept.names().contains(&partial), "{before}");
        assert_eq!(kept.names().contains(&older), begins_at == 1, "{before}");
    }
    let kept = month();
    kept.fails(2, "prune", &["--before", "00000002.history"], "has no place in the log");
    kept.fails(2, "prune", &["--before", "yesterday"], "is not the name of a WAL file");
    assert_eq!(numbers(&kept, 1).len(), 40);
}

#[test]
fn wal_without_backups_is_kept_for_the_given_days_without_a_hole() {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 25);
    kept.segments(1, 10..=10, 3);
    kept.segments(1, 11..=15, 20);
    kept.segments(1, 16..=20, 2);
    kept.said("prune", &["--keep-wal-days", "7"]);
    assert_eq!(numbers(&kept, 1), (10..=20).collect::<Vec<_>>(), "what came late keeps all that is after it");
}

#[test]
fn every_timeline_that_descends_from_a_kept_backup_stays_complete() {
    let kept = Kept::new();
    kept.segments(1, 1..=20, 9);
    kept.segments(2, 12..=30, 5);
    kept.segments(3, 8..=25, 2);
    kept.history(2, &[(1, position(12, 0x100))]);
    kept.history(3, &[(1, position(8, 0x100))]);
    kept.backup(1, 3, 3, 9);
    kept.backup(1, 10, 10, 8);
    // The newest one starts before an older one, after a recovery to the past.
    kept.backup(3, 9, 9, 1);
    kept.said("prune", &["--keep-backups", "1"]);
    assert_eq!(numbers(&kept, 1), (9..=20).collect::<Vec<_>>());
    assert_eq!(numbers(&kept, 2), (12..=30).collect::<Vec<_>>());
    assert_eq!(numbers(&kept, 3), (9..=25).collect::<Vec<_>>());
    assert_eq!(backups(&kept), 2);
    assert!(kept.names().contains(&"00000002.history".to_owned()));
}

#[test]
fn a_backup_that_lacks_wal_takes_nobodys_place() {
    let kept = month();
    fs::remove_file(kept.archive.file(SYSTEM, &name(1, 26))).unwrap();
    let output = kept.json("prune", &["--keep-backups", "1"]);
    assert_eq!(numbers(&kept, 1).first(), Some(&15));
    assert_eq!(output["kept_backups"][1]["complete"], false, "{output}");
}

#[test]
fn only_walkeeps_own_files_are_touched() {
    let kept = month();
    let wal = Path::new(kept.archive.url()).join(format!("{SYSTEM}/wal/0000000100000000"));
    let foreign = [
        wal.join("000000010000000000000002.gz"),
        wal.join("notes.txt"),
        wal.join(".000000010000000000000002.swp"),
        wal.join("000000010000000000000002#x"),
        wal.join("00000001000000010000000A"),
        wal.with_file_name("README"),
        wal.with_file_name("000000010000000G").join("000000010000000000000003"),
        wal.join("sub/000000010000000000000003"),
        wal.with_file_name("mine").join("000000010000000000000003"),
        Path::new(kept.archive.url()).join("000000010000000000000002"),
        Path::new(kept.archive.url())
            .join(format!("{}/wal/0000000100000000/000000010000000000000002", SYSTEM + 1)),
    ];
    for file in &foreign {
        put_file(file, "mine", days_ago(99));
    }
    let system = SYSTEM.to_string();
    let output = kept.json("prune", &["--system-identifier", &system, "--keep-backups", "1"]);
    assert_eq!(numbers(&kept, 1).len(), 16);
    for file in &foreign {
        assert_eq!(fs::read(file).unwrap(), b"mine", "{}", file.display());
    }
    assert_eq!(output["unknown_files"], 9, "a directory counts as one");
    let said = kept.said("prune", &["--system-identifier", &system, "--keep-backups", "1"]);
    assert!(said.contains("left alone: 9 files that walkeep knows nothing of"), "{said}");
}

#[test]
fn staging_files_of_killed_pushes_are_deleted_after_a_day() {
    let kept = month();
    let staged = |name: &str| kept.archive.file(SYSTEM, name).with_file_name(format!("{name}#17"));
    let (old, new, old_text) = (staged(&name(1, 30)), staged(&name(1, 31)), staged("00000002.history"));
    put_file(&old, "half", days_ago(2));
    put_file(&new, "half", days_ago(1) + SignedDuration::from_hours(1));
    put_file(&old_text, "half", days_ago(2));
    let before = bytes(&kept);
    let output = kept.json("prune", &["--keep-backups", "3"]);
    assert_eq!((old.exists(), new.exists(), old_text.exists()), (false, true, false));
    assert_eq!(output["deleted_leftovers"].as_array().unwrap().len(), 2, "{output}");
    assert_eq!(output["deleted_bytes"].as_u64().unwrap(), before - bytes(&kept));
}

#[test]
fn directories_empty_for_a_day_are_removed() {
    let kept = month();
    let wal = Path::new(kept.archive.url()).join(format!("{SYSTEM}/wal"));
    let [old, new] = ["0000000100000007", "0000000100000008"].map(|group| wal.join(group));
    for (directory, at) in [(&old, days_ago(2)), (&new, days_ago(0))] {
        fs::create_dir(directory).unwrap();
        support::user::hand_over(directory);
        touch(directory, at);
    }
    kept.said("prune", &["--keep-backups", "3"]);
    assert_eq!((old.exists(), new.exists()), (false, true));
}

#[test]
fn a_killed_prune_leaves_no_hole() {
    for when in [1, 2, 3, 9, 14] {
        let kept = month();
        kept.segments(2, 3..=8, 9);
        kept.history(2, &[(1, position(3, 0x900))]);
        let mut strace = kept.sandbox.command("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=unlink,unlinkat"]);
        strace.args(["-e", &format!("inject=unlink,unlinkat:signal=KILL:when={when}")]);
        let mut killed = wrapped(strace, &kept.walkeep("prune", &["--keep-backups", "1"]));
        killed.env_remove("LD_LIBRARY_PATH");
        assert_eq!(outcome_of(killed).status, -9);
        let left = numbers(&kept, 1);
        let first = *left.first().unwrap();
        assert_eq!(left, (first..=40).collect::<Vec<_>>(), "{when}");
        assert!(when < 3 || backups(&kept) == 1, "what announces a backup goes before its WAL");
        let left = numbers(&kept, 2);
        assert!(left.is_empty() || left == (left[0]..=8).collect::<Vec<_>>(), "{when}: {left:?}");
        kept.said("prune", &["--keep-backups", "1"]);
        assert_eq!(numbers(&kept, 1).first(), Some(&25), "{when}");
    }
}

#[test]
fn concurrent_prunes_do_not_disturb_each_other() {
    let kept = month();
    let policy = ["--keep-backups", "1"];
    let prunes: Vec<Running> = (0..4).map(|_| Running::start(kept.walkeep("prune", &policy))).collect();
    for prune in prunes {
        let outcome = prune.end();
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    }
    assert_eq!(numbers(&kept, 1), (25..=40).collect::<Vec<_>>());
}

#[test]
fn a_signal_ends_it_and_the_report_says_so() {
    let kept = month();
    let mut strace = kept.sandbox.command("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlink,unlinkat"]);
    strace.args(["-e", "inject=unlink,unlinkat:delay_enter=300000"]);
    let mut slow = wrapped(strace, &kept.walkeep("prune", &["--keep-backups", "1"]));
    slow.env_remove("LD_LIBRARY_PATH");
    let prune = Running::start(slow);
    support::wait_until("something is deleted", || numbers(&kept, 1).len() < 40);
    prune.signal(Signal::TERM);
    let outcome = prune.end();
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("SIGTERM") || outcome.stderr.contains("stopped"), "{}", outcome.stderr);
    let left = numbers(&kept, 1);
    assert_eq!(left, (left[0]..=40).collect::<Vec<_>>());
    let report = kept.report("prune").unwrap();
    assert_eq!(report["ok"], false, "{report}");
}

#[test]
fn deletions_are_reported_and_a_failure_to_report_is_a_warning() {
    let kept = month();
    kept.said("prune", &["--keep-backups", "1"]);
    let report = kept.report("prune").unwrap();
    let stays = 16 + 1;
    assert_eq!(
        (&report["ok"], &report["deleted_files"], &report["error"]),
        (&json!(true), &json!(26), &json!(null))
    );
    assert_eq!(report["totals"]["files"], stays);
    assert_eq!(report["totals"]["segments"], 16);
    assert_eq!(report["totals"]["original_bytes"], 16 * SEGMENT_BYTES);
    let reports = kept.report_file("prune").parent().unwrap().to_owned();
    let closed = support::files::Permissions::set(&reports, 0o500);
    let outcome = outcome_of(kept.walkeep("prune", &["--keep-backups", "1"]));
    drop(closed);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("walkeep: warning: cannot write "), "{}", outcome.stderr);
}
