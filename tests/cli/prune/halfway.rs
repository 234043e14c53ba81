//! Output of a prune that is interrupted: every deleted file, up to the point where it ended.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{
    files::Permissions,
    kept::{Kept, days_ago, name, put_file},
    push::SYSTEM,
    running::Running,
    store_cluster::CallOutput,
    wrapper::wrapped,
};

const ONE: [&str; 2] = ["--keep-backups", "1"];

/// Creates two backups of one timeline, and the WAL before and after the second one. Six files can be deleted.
fn fortnight() -> Kept {
    let kept = Kept::new();
    kept.segments(1, 1..=4, 9);
    kept.segments(1, 5..=10, 0);
    kept.backup(1, 2, 2, 9);
    kept.backup(1, 5, 6, 1);
    let leftover = kept.archive.file(SYSTEM, &name(1, 7)).with_file_name(format!("{}#3", name(1, 7)));
    put_file(&leftover, "half", days_ago(2));
    kept
}

/// Returns a prune whose deletions are slow.
fn slow(kept: &Kept) -> Command {
    let mut strace = kept.sandbox.command("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlink,unlinkat"]);
    strace.args(["-e", "inject=unlink,unlinkat:delay_enter=300000"]);
    let mut prune = wrapped(strace, &kept.walkeep("prune", &[&ONE[..], &["--json"]].concat()));
    prune.env_remove("LD_LIBRARY_PATH");
    prune
}

/// Returns the sizes of all files in the archive, by name.
fn sizes(kept: &Kept) -> Vec<(String, u64)> {
    let system = Path::new(kept.archive.url()).join(SYSTEM.to_string());
    let size = |file: &String| fs::metadata(system.join(file)).unwrap().len();
    kept.files().iter().map(|file| (file.rsplit('/').next().unwrap().to_owned(), size(file))).collect()
}

/// Returns the names of deleted files, and their total size.
fn gone(before: &[(String, u64)], kept: &Kept) -> (BTreeSet<String>, u64) {
    let left: BTreeSet<String> = kept.names().into_iter().collect();
    let gone: Vec<_> = before.iter().filter(|(name, _)| !left.contains(name)).collect();
    (gone.iter().map(|(name, _)| name.clone()).collect(), gone.iter().map(|(_, size)| size).sum())
}

fn names(list: &Value) -> BTreeSet<String> {
    serde_json::from_value(list.clone()).unwrap()
}

/// Runs a prune that reaches a directory without permission to delete; asserts its output and report, and returns its
/// document.
fn stopped_by_a_directory(options: &[&str]) -> (CallOutput, BTreeSet<String>, u64) {
    let kept = Kept::new();
    // The last two of one directory, and the first of the next one.
    kept.segments(1, 4094..=4103, 2);
    kept.backup(1, 4095, 4095, 9);
    kept.backup(1, 4098, 4099, 1);
    let before = sizes(&kept);
    let closed = Permissions::set(kept.archive.file(SYSTEM, &name(1, 4096)).parent().unwrap(), 0o500);
    let mut prune = kept.walkeep("prune", &[&ONE[..], options].concat());
    prune.stdout(Stdio::piped());
    let told = CallOutput::of(prune);
    drop(closed);
    told.is_error(1, &["cannot delete", &name(1, 4096), "Permission denied", "may not delete in"]);
    let (gone, bytes) = gone(&before, &kept);
    assert_eq!(gone.len(), 3, "{gone:?}");
    let report = kept.report("prune").unwrap();
    assert_eq!((&report["deleted_files"], &report["deleted_bytes"]), (&json!(3), &json!(bytes)), "{report}");
    assert_eq!((&report["ok"], &report["totals"]), (&json!(false), &Value::Null));
    // Deleted files stay deleted.
    assert_eq!(kept.json("prune", &ONE)["deleted_files"], json!([name(1, 4096), name(1, 4097)]));
    (told, gone, bytes)
}

#[test]
fn deletions_before_a_failure_are_printed_and_reported() {
    let (told, gone, bytes) = stopped_by_a_directory(&["--json"]);
    let json: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(names(&json["deleted_files"]), gone, "{json:#}");
    assert_eq!((&json["ok"], &json["deleted_bytes"]), (&json!(false), &json!(bytes)));
    assert!(json["error"].as_str().unwrap().contains("cannot delete"), "{json:#}");
    assert!(json["hint"].as_str().unwrap().contains("may not delete in"), "{json:#}");
    let (told, ..) = stopped_by_a_directory(&[]);
    let text = told.text();
    assert!(text.contains("deleted 3 of 5 files, "), "{text}");
}

#[test]
fn deletions_before_a_signal_are_printed_and_reported_exactly() {
    [Signal::TERM, Signal::HUP].into_iter().for_each(ended_by);
}

fn ended_by(signal: Signal) {
    let kept = fortnight();
    let before = sizes(&kept);
    let mut slow = slow(&kept);
    let output = kept.sandbox.join("output");
    slow.stdout(fs::File::create(&output).unwrap());
    let prune = Running::start(slow);
    support::wait_until("something is deleted", || !gone(&before, &kept).0.is_empty());
    prune.signal(signal);
    let outcome = prune.end();
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    let (gone, bytes) = gone(&before, &kept);
    assert!((1..6).contains(&gone.len()), "{gone:?}");
    let json: Value = serde_json::from_str(&fs::read_to_string(output).unwrap()).unwrap();
    assert_eq!(names(&json["deleted_files"]), gone, "{json:#}");
    let report = kept.report("prune").unwrap();
    let noted = (&report["deleted_files"], &report["deleted_bytes"]);
    assert_eq!(noted, (&json!(gone.len()), &json!(bytes)), "{report}");
}

#[test]
fn every_deletion_is_an_audit_line() {
    let lines = |options: &[&str]| {
        let kept = fortnight();
        let size = sizes(&kept).into_iter().find(|(file, _)| *file == name(1, 1)).unwrap().1;
        let told = CallOutput::of(kept.walkeep("prune", &[&ONE[..], options].concat()));
        assert_eq!(told.status, 0, "{}", told.stderr);
        let deleted = |line: &&str| line.contains("deleted");
        (size, told.stderr.lines().filter(deleted).map(str::to_owned).collect::<Vec<_>>())
    };
    let (size, said) = lines(&["-v"]);
    assert_eq!(said.len(), 6, "{said:#?}");
    let why = format!("before the boundary at {}", name(1, 5));
    assert!(said[1].contains(&name(1, 1)) && said[1].contains(&size.to_string()), "{said:#?}");
    assert!(said[1].contains(&why), "{said:#?}");
    assert!(said[5].contains(&format!("{}#3", name(1, 7))) && said[5].contains("killed"), "{said:#?}");
    // A log for programs contains them by default; one for people does not.
    let (size, said) = lines(&["--log-format", "json"]);
    assert_eq!(said.len(), 6, "{said:#?}");
    let line: Value = serde_json::from_str(&said[1]).unwrap();
    let facts = (&line["name"], &line["size"], &line["why"]);
    assert_eq!(facts, (&json!(name(1, 1)), &json!(size), &json!(why)), "{line:#}");
    assert_eq!(lines(&[]).1, [""; 0]);
    // Files that stay are not in the audit.
    let kept = fortnight();
    let told = CallOutput::of(kept.walkeep("prune", &[&ONE[..], &["-v", "--dry-run"]].concat()));
    assert!(!told.stderr.contains("deleted"), "{}", told.stderr);
}
