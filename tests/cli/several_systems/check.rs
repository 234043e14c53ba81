//! Which of several clusters a command means, and which one `walkeep check` looks at.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, path::Path};

use serde_json::Value;
use support::{
    push::{OTHER_SYSTEM, Pusher, SYSTEM},
    store_cluster::CallOutput,
};

use super::directory::{two_clusters, walkeep};

/// Runs `walkeep check`, and returns the finding of that name.
fn found(pusher: &Pusher, arguments: &[&str], name: &str) -> Value {
    let output = CallOutput::of(walkeep(pusher, "check", &[&["--json"], arguments].concat()));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|finding| finding["name"] == name).cloned().unwrap_or(Value::Null)
}

#[test]
fn a_directory_and_an_identifier_of_two_clusters_are_refused_everywhere() {
    let pusher = two_clusters();
    let before = pusher.archive.all_names(SYSTEM);
    let data = pusher.data.join("");
    let data = data.to_str().unwrap();
    let (own, other) = (SYSTEM.to_string(), OTHER_SYSTEM.to_string());
    let both = ["--pgdata", data, "--system-identifier", &other];
    let commands: [(&str, &[&str]); 6] = [
        ("verify", &[]),
        ("list", &[]),
        ("prune", &["--keep-days", "1"]),
        ("status", &[]),
        ("backfill", &[]),
        ("check", &[]),
    ];
    for (command, more) in commands {
        let output = CallOutput::of(walkeep(&pusher, command, &[&both, more].concat()));
        let text = output.text();
        assert_ne!(output.status, 0, "{command}: {text}");
        assert!(text.contains(&format!("is of system {own}, not of {other}")), "{command}: {text}");
        assert!(text.contains("leave --system-identifier out"), "{command}: {text}");
    }
    assert_eq!(pusher.archive.all_names(SYSTEM), before);
    let output = CallOutput::of(walkeep(&pusher, "list", &["--pgdata", data, "--system-identifier", &own]));
    assert_eq!(output.status, 0, "{}", output.text());
}

#[test]
fn the_system_that_was_named_is_looked_at() {
    let pusher = two_clusters();
    let unknown = found(&pusher, &["--system-identifier", "999"], "system");
    assert_eq!(unknown["outcome"], "fail", "{unknown:#}");
    assert!(unknown["detail"].as_str().unwrap().contains("no WAL of system 999"), "{unknown:#}");
    let other = OTHER_SYSTEM.to_string();
    for (name, outcome) in [("system", "pass"), ("newest", "pass"), ("backup", "fail")] {
        let finding = found(&pusher, &["--system-identifier", &other], name);
        assert_eq!(finding["outcome"], outcome, "{finding:#}");
    }
    assert_eq!(found(&pusher, &[], "newest"), Value::Null, "nobody knows which one is meant");
}

#[test]
fn a_directory_of_the_system_that_denies_files_fails_though_that_of_the_archive_allows_them() {
    let pusher = two_clusters();
    let own = SYSTEM.to_string();
    let below = |name: &str| Path::new(pusher.archive.url()).join(&own).join(name);
    let finding = |system: &str| found(&pusher, &["--system-identifier", system], "directories");
    assert_eq!(finding(&own)["outcome"], "pass");
    for name in ["wal", "wal/0000000100000000", "timelines", ""] {
        let _closed = support::files::Permissions::set(&below(name), 0o555);
        let denied = finding(&own);
        assert_eq!(denied["outcome"], "fail", "{name}: {denied:#}");
        let path = below(name).display().to_string();
        let path = path.trim_end_matches('/');
        let detail = denied["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("may not write in {path}")) && detail.contains("chmod"), "{detail}");
        assert!(denied["command"].as_str().unwrap().ends_with(&format!("namei -l {path}")), "{denied:#}");
        assert_eq!(finding(&OTHER_SYSTEM.to_string())["outcome"], "pass", "{name} is not its own");
    }
    fs::create_dir(below("reports")).unwrap();
    let _closed = support::files::Permissions::set(&below("reports"), 0o555);
    // It belongs to whoever runs the tests, and denies the unprivileged user all the same.
    assert_eq!(finding(&own)["outcome"], "note");
}

#[test]
fn hints_say_which_system_is_meant() {
    let pusher = two_clusters();
    let system = OTHER_SYSTEM.to_string();
    fs::create_dir_all(Path::new(pusher.archive.url()).join(format!("{system}/reports"))).unwrap();
    let report = Path::new(pusher.archive.url()).join(format!("{system}/reports/verify.json"));
    fs::write(report, "{").unwrap();
    let unreadable = found(&pusher, &["--system-identifier", &system], "unreadable");
    let typed = unreadable["command"].as_str().unwrap_or_default();
    assert!(typed.contains(&format!("--system-identifier {system} --names-only")), "{unreadable:#}");
}
