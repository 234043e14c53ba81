//! `walkeep verify` of names: what base backups can be recovered to, and what is missing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs::{self, File},
    process::Stdio,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use support::{
    base_backup::manifest,
    data_directory::{SEGMENT_BYTES, control},
    kept::Kept,
    push::SYSTEM,
    store_cluster::CallOutput,
    verified::{
        BACKUP, FORK, HISTORY, LAST, NEEDED, NEWEST, OLD, START, Verified, VerifyOutput, backup_history,
        content, name,
    },
};

/// Returns JSON without values that differ between runs.
fn fixed(json: &Value) -> Value {
    let mut json = json.clone();
    json["archive"] = "ARCHIVE".into();
    json["totals"]["stored_bytes"] = "BYTES".into();
    for moment in ["from", "to"] {
        json["present"][moment] = "TIME".into();
    }
    for backup in json["backups"].as_array_mut().unwrap() {
        backup["ended"] = "TIME".into();
    }
    json
}

#[test]
fn everything_about_an_intact_archive_is_printed() {
    let archive = Verified::new();
    let verdict = archive.verify(&[]);
    verdict.says(&[]);
    let expected: Value = serde_json::from_str(include_str!("../../fixtures/verify.json")).unwrap();
    assert_eq!(fixed(&verdict.json), expected, "{:#}", fixed(&verdict.json));

    let output = archive.output(&["--deep"]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let text = output.text();
    for line in [
        vec!["1", "5", &name(1, 1), LAST, "0"],
        vec!["2", FORK, NEWEST, "0"],
        vec!["timeline 2 left timeline 1 at 0/600100"],
        vec!["nightly", "Z"],
        vec!["  from ", START],
        vec!["  recoverable to ", "the end of timeline 1"],
        vec![NEWEST, "the end of timeline 2"],
        vec!["0 failures and 0 notes in 10 files", "the contents of 10 files decompressed and compared"],
    ] {
        let has_it = |output: &str| line.iter().all(|word| output.contains(word));
        assert!(text.lines().any(has_it), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where no terminal is");
    assert!(verdict.json["content"]["deep"] == false && archive.report()["deep"] == true);
}

#[test]
fn colours_and_a_bar_appear_only_on_terminals() {
    let archive = Verified::new();
    archive.remove(NEEDED);
    let mut line = format!("{:?}", archive.command(&["--deep"]).get_program());
    for argument in archive.command(&["--deep"]).get_args() {
        line = format!("{line} {}", argument.to_str().unwrap());
    }
    let on_a_terminal = |colours: Option<&str>| {
        // Runs the command in a terminal, and prints its output.
        let mut script = archive.pusher.sandbox.command("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        script.envs(colours.map(|value| ("NO_COLOR", value)));
        let output = CallOutput::of(script);
        assert_eq!(output.status, 1, "{}", output.text());
        output.text()
    };
    let failure = format!("failure\u{1b}[0m {NEEDED}");
    assert!(on_a_terminal(None).contains(&failure), "{:?}", on_a_terminal(None));
    assert!(!on_a_terminal(Some("1")).contains(&failure));
    assert!(!archive.output(&["--deep"]).text().contains('\u{1b}'));
}

#[test]
fn a_segment_that_is_missing_after_the_backup_is_a_failure() {
    let archive = Verified::new();
    archive.remove(NEEDED);
    for options in [&["--names-only"][..], &[], &["--deep"]] {
        let verdict = archive.verify(options);
        verdict.says(&[("failure", "gap", NEEDED)]);
        verdict.means(NEEDED, &["\"nightly\"", "up to", START, "and not beyond"]);
        assert_eq!(
            verdict.json["timelines"][0]["gaps"],
            json!([{"first": NEEDED, "last": NEEDED, "segments": 1}])
        );
        let reaches = &verdict.json["backups"][0]["reaches"];
        assert_eq!(reaches[0], json!({"timeline": 1, "last_segment": START, "to_the_end": false}));
        assert_eq!(reaches[1], json!({"timeline": 2, "last_segment": START, "to_the_end": false}));
    }
    let text = archive.output(&["--names-only"]).text();
    assert!(text.lines().any(|line| line.starts_with(&format!("failure {NEEDED}: "))), "{text}");
    assert_eq!(archive.report()["ok"], false);
}

#[test]
fn a_segment_that_is_missing_before_the_backup_is_a_note() {
    let archive = Verified::new();
    archive.remove(OLD);
    archive.verify(&["--names-only"]).says(&[("note", "gap", OLD)]);
    assert_eq!(archive.report()["ok"], true);
}

#[test]
fn the_first_segment_of_a_timeline_is_needed_even_with_nothing_before_it() {
    let archive = Verified::new();
    archive.remove(FORK);
    let verdict = archive.verify(&["--names-only"]);
    verdict.says(&[("failure", "gap", FORK)]);
    verdict.means(FORK, &[LAST, "on the way to timeline 2"]);
}

#[test]
fn without_a_known_backup_the_start_of_the_wal_stands_in() {
    let archive = Verified::new();
    archive.remove(BACKUP);
    archive.remove(OLD);
    let verdict = archive.verify(&["--names-only"]);
    verdict.says(&[("failure", "gap", OLD), ("note", "no_backup", "base backups")]);
    verdict.means(OLD, &["no backup is known", &name(1, 1)]);
    let text = archive.output(&["--names-only"]).text();
    assert!(text.contains("no base backup is known\n"), "{text}");
}

#[test]
fn a_backup_that_lacks_its_own_wal_is_a_failure_unless_a_newer_one_can_be_recovered() {
    let kept = Kept::new();
    kept.segments(1, 1..=1, 5);
    kept.segments(1, 3..=5, 5);
    let (broken, sound) = (kept.backup(1, 1, 2, 5), kept.backup(1, 3, 3, 4));
    let verify = || {
        let mut command = kept.walkeep("verify", &["--names-only"]);
        command.stdout(Stdio::piped());
        VerifyOutput::of(command)
    };
    let verdict = verify();
    verdict.says(&[("note", "gap", OLD), ("note", "backup_incomplete", &broken)]);
    verdict.means(&broken, &["\"5 days ago\"", "cannot be recovered", "older"]);
    assert_eq!(verdict.json["backups"][0]["complete"], false);

    fs::remove_file(kept.archive.file(SYSTEM, START)).unwrap();
    let range = format!("{OLD} to {START}");
    verify().says(&[
        ("failure", "gap", &range),
        ("failure", "backup_incomplete", &sound),
        ("failure", "backup_incomplete", &broken),
    ]);
}

#[test]
fn a_backup_whose_last_wal_may_still_arrive_is_a_note() {
    let archive = Verified::of_one_timeline(5);
    let young = format!("{}.00000028.backup", name(1, 5));
    archive.push(&young, backup_history(5, 6, "young").as_bytes());
    archive.verify(&["--names-only"]).says(&[("note", "backup_incomplete", &young)]);
}

#[test]
fn a_timeline_without_a_history_file_is_a_failure() {
    let archive = Verified::new();
    archive.remove(HISTORY);
    let verdict = archive.verify(&[]);
    verdict.says(&[("failure", "missing_history", HISTORY)]);
    verdict.means(HISTORY, &["\"nightly\"", "to timeline 2"]);

    archive.remove(BACKUP);
    for number in 1..=5 {
        archive.remove(&name(1, number));
    }
    let verdict = archive.verify(&[]);
    verdict.says(&[("failure", "missing_history", HISTORY), ("note", "no_backup", "base backups")]);
    verdict.means(HISTORY, &["\"walkeep backfill\"", "\"walkeep-archive pg_wal/00000002.history\""]);
}

#[test]
fn other_files_are_reported_separately() {
    let archive = Verified::new();
    let url = archive.pusher.archive.url();
    let below = |key: &str| format!("{url}/{SYSTEM}/{key}");
    fs::write(below("README"), "mine").unwrap();
    let staged = |number: u32, days: u64| {
        let file = File::create(below(&format!("wal/0000000100000000/{NEEDED}#{number}"))).unwrap();
        let hours = Duration::from_hours(24 * days + 1);
        file.set_modified(SystemTime::now() - hours).unwrap();
    };
    staged(1, 1);
    staged(2, 0);
    let odd = "000000010000000000001000";
    fs::copy(archive.file(NEEDED), archive.file(odd)).unwrap();
    support::user::hand_over(&archive.file(odd));
    let (readme, left) = (format!("{SYSTEM}/README"), format!("{SYSTEM}/wal/0000000100000000/{NEEDED}#1"));
    archive.verify(&["--names-only"]).says(&[
        ("failure", "odd_name", odd),
        ("note", "unknown_file", &readme),
        ("note", "leftover", &left),
    ]);
}

#[test]
fn backups_in_directories_count_too() {
    let archive = Verified::new();
    archive.remove(BACKUP);
    archive.remove(OLD);
    let backup = archive.pusher.sandbox.directory("backup");
    let label = format!("START WAL LOCATION: 0/300028 (file {START})\nLABEL: plain\n");
    archive.pusher.sandbox.file(backup.join("backup_label"), label);
    archive.pusher.sandbox.directory(backup.join("global"));
    archive.pusher.sandbox.file(backup.join("global/pg_control"), control(SYSTEM, SEGMENT_BYTES as u64));
    archive.pusher.sandbox.file(backup.join("backup_manifest"), manifest(3, 3, None));
    let directory = backup.to_str().unwrap();
    let verdict = archive.verify(&["--names-only", "--backup-dir", directory]);
    verdict.says(&[("note", "gap", OLD)]);
    let found = &verdict.json["backups"][0];
    assert_eq!((&found["place"], &found["name"]), (&json!(directory), &Value::Null));
    assert_eq!(found["reaches"][1], json!({"timeline": 2, "last_segment": NEWEST, "to_the_end": true}));
    archive.remove(NEEDED);
    archive.verify(&["--names-only", "--backup-dir", directory]).means(NEEDED, &["the backup in", directory]);
    let none = archive.pusher.sandbox.directory("none");
    let output = archive.output(&["--names-only", "--backup-dir", none.to_str().unwrap()]);
    output.is_error(1, &["no base backup", none.to_str().unwrap()]);
}

#[test]
fn a_partial_verification_does_not_hide_findings_of_the_last_full_one() {
    let archive = Verified::new();
    let sound = fs::read(archive.file(NEEDED)).unwrap();
    archive.put(NEEDED, "rubbish");
    archive.verify(&["--deep"]).says(&[("failure", "damaged", NEEDED)]);
    archive.put(NEEDED, sound);
    for (options, scope) in
        [(&["--names-only"][..], "names"), (&["--sample", "1%"], "part"), (&["--since", "7d"], "part")]
    {
        let verdict = archive.verify(options);
        verdict.says(&[]);
        assert_eq!(verdict.content("scope"), scope);
        let report = archive.report();
        assert_eq!((&report["scope"], &report["ok"]), (&json!(scope), &json!(true)));
        let full = &report["last_full"];
        assert_eq!(
            (&full["scope"], &full["ok"], &full["deep"]),
            (&json!("all"), &json!(false), &json!(true))
        );
        assert_eq!(full["content_findings"][0]["file"], NEEDED);
        assert_eq!(full.get("last_full"), None);
    }
    archive.verify(&[]).says(&[]);
    assert_eq!(archive.report().get("last_full"), None);
}

#[test]
fn an_unreadable_report_is_a_warning() {
    let archive = Verified::new();
    archive.verify(&["--names-only"]).says(&[]);
    let report = format!("{}/{SYSTEM}/reports/verify.json", archive.pusher.archive.url());
    fs::write(&report, "{").unwrap();
    let output = archive.output(&["--resume"]);
    assert_eq!(output.status, 0, "{}", output.text());
    assert!(
        output.stderr.starts_with("walkeep: warning: ") && output.stderr.lines().count() == 1,
        "{}",
        output.stderr
    );
    assert_eq!(archive.report()["ok"], true, "and the next one is in its place");
    // A report of an older version.
    let old = json!({"at": "2026-01-01T00:00:00Z", "ok": true, "deep": false, "checked_files": 1, "failures": 0, "notes": 0});
    fs::write(&report, old.to_string()).unwrap();
    archive.verify(&["--names-only"]).says(&[]);
    assert_eq!(archive.report()["last_full"]["checked_files"], 1);
}

#[test]
fn wrong_usage_is_reported_as_such() {
    let archive = Verified::of_one_timeline(3);
    for options in [
        &["--sample", "0"][..],
        &["--sample", "101%"],
        &["--since", "yesterday"],
        &["--names-only", "--deep"],
        &["--resume", "--sample", "5%"],
    ] {
        archive.output(options).is_error(2, &[]);
    }
    archive.output(&["--system-identifier", "1"]).is_error(1, &["system 1"]);
    archive.pusher.archive.vanish();
    archive.output(&[]).is_error(1, &[archive.pusher.archive.url()]);
}

#[test]
fn a_label_cannot_add_lines() {
    let archive = Verified::of_one_timeline(3);
    let broken = format!("{}.00000028.backup", name(1, 2));
    archive.push(&broken, backup_history(2, 9, "a\u{1b}[31mb\u{7}").as_bytes());
    archive.push(&name(1, 5), &content(&name(1, 5)));
    let CallOutput { stdout, .. } = archive.output(&["--names-only"]);
    assert!(
        stdout.iter().all(|byte| *byte == b'\n' || *byte >= b' '),
        "{}",
        String::from_utf8_lossy(&stdout)
    );
}
