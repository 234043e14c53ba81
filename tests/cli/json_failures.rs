//! JSON output of failures: every command prints exactly one document, which says whether all is well.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use support::{data_directory::DataDirectory, kept::Kept, push::SYSTEM, store_cluster::CallOutput};

/// All commands that print JSON, with their required arguments.
const COMMANDS: [&[&str]; 10] = [
    &["backfill", "--pgdata", "data"],
    &["check"],
    &["list"],
    &["list", "files"],
    &["list", "backups"],
    &["list", "timelines"],
    &["prune", "--keep-backups", "1"],
    &["prune", "--keep-backups", "1", "--dry-run"],
    &["status"],
    &["verify"],
];

/// Creates an archive, and a data directory of its cluster.
fn archive() -> Kept {
    let kept = Kept::new();
    DataDirectory::new(&kept.sandbox, "data", SYSTEM);
    kept
}

/// Runs a command on that archive and returns its output.
fn output(kept: &Kept, command: &[&str], options: &[&str]) -> CallOutput {
    let mut walkeep = kept.walkeep(command[0], &[&command[1..], options, &["--json"]].concat());
    walkeep.current_dir(kept.sandbox.path()).stdout(Stdio::piped());
    CallOutput::of(walkeep)
}

/// Returns the document of a failing command, whose error is also on standard error.
fn failure(output: &CallOutput, command: &[&str]) -> Value {
    assert!(output.status > 0, "{command:?}: {}", output.text());
    let text = String::from_utf8_lossy(&output.stdout);
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{command:?}: {error}: {text:?}"));
    assert_eq!(json["ok"], false, "{command:?}: {json:#}");
    assert!(json["error"].as_str().is_some_and(|error| !error.is_empty()), "{command:?}: {json:#}");
    json
}

#[test]
fn an_archive_that_is_missing() {
    let kept = archive();
    kept.archive.vanish();
    for command in COMMANDS {
        let output = output(&kept, command, &[]);
        let json = failure(&output, command);
        let error = json["error"].as_str().unwrap();
        assert!(error.contains("does not exist"), "{command:?}: {json:#}");
        assert_eq!(output.status, 1, "{command:?}");
        if command[0] != "check" {
            assert!(output.stderr.contains(error), "{command:?}: {}", output.stderr);
        }
        if !["check", "status"].contains(&command[0]) {
            assert_eq!(json["error_kind"], "unavailable", "{command:?}: {json:#}");
            assert!(json["hint"].as_str().unwrap().starts_with("mount it"), "{json:#}");
        }
    }
    kept.archive.come_back();
}

#[test]
fn an_archive_that_is_empty() {
    let kept = archive();
    for command in COMMANDS.into_iter().filter(|command| command[0] != "check") {
        let output = output(&kept, command, &[]);
        let json = failure(&output, command);
        assert!(json["error"].as_str().unwrap().contains("holds no"), "{command:?}: {json:#}");
        assert_eq!(output.status, 1, "{command:?}");
    }
}

#[test]
fn a_configuration_that_is_damaged() {
    let kept = archive();
    let file = kept.sandbox.file("walkeep.toml", "keep_backups = \"three\"\n");
    for command in COMMANDS {
        let output = output(&kept, command, &["--config", file.to_str().unwrap()]);
        let json = failure(&output, command);
        assert!(json["error"].as_str().unwrap().contains("walkeep.toml, line 1"), "{command:?}: {json:#}");
        assert_eq!((output.status, &json["error_kind"]), (2, &"configuration".into()), "{command:?}");
    }
}

#[test]
fn usage_that_is_found_wrong_after_the_flags_were_read() {
    let kept = archive();
    let cases: [&[&str]; 4] = [
        &["prune"],
        &["list", "backups", "000000010000000000000001"],
        &["list", "files", "000000010000000000000002", "000000010000000000000001"],
        &["check", "--pg-url", "postgres://me:secret@host/db"],
    ];
    for command in cases {
        let output = output(&kept, command, &[]);
        let json = failure(&output, command);
        assert_eq!((output.status, &json["error_kind"]), (2, &"configuration".into()), "{command:?}");
        assert!(!output.text().contains("secret"), "{}", output.text());
    }
    // Errors found by clap are printed as text.
    let output = output(&kept, &["prune", "--keep-backups", "0"], &[]);
    assert_eq!((output.status, output.stdout.as_slice()), (2, &b""[..]));
}

#[test]
fn all_is_well_where_nothing_fails() {
    let kept = archive();
    kept.segments(1, 1..=5, 0);
    kept.backup(1, 2, 3, 1);
    let marks = Path::new("data").join("pg_wal/archive_status");
    fs::create_dir_all(kept.sandbox.join(marks)).unwrap();
    for command in COMMANDS {
        let output = output(&kept, command, &[]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status, &json["ok"]), (0, &Value::Bool(true)), "{command:?}: {}", output.text());
        assert!(json.get("error").is_none_or(Value::is_null), "{command:?}: {json:#}");
    }
}
