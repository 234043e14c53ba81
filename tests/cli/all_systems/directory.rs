//! All systems of a directory: each gets its turn whatever the others have, its own report, and its part of the output.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, os::unix::fs::PermissionsExt};

use support::{
    kept::name,
    several::{LAST, SECOND, SEGMENTS, SYSTEMS, Several, document, without_all},
    store_cluster::CallOutput,
    user,
};

/// Exit status and standard error of a command where all is well.
const WELL: (i32, &str) = (0, "");

/// Returns how many segments of a cluster the archive has.
fn segments(several: &Several, system: u64) -> u64 {
    let is_there = |number: &u64| several.archive.file(system, &name(1, *number)).exists();
    (1..=SEGMENTS).filter(is_there).count() as u64
}

#[test]
fn every_system_is_verified_and_one_status_speaks_for_all() {
    let several = Several::new();
    let output = several.output("verify", &[]);
    assert_eq!((output.status, output.stderr.as_str()), WELL, "{}", output.text());
    assert_eq!(output.text().lines().last(), Some("3 systems: 3 well"));
    several.damage(SYSTEMS[1], &name(1, 3));
    let output = several.output("verify", &[]);
    let text = output.text();
    assert_eq!(output.status, 1, "{text}");
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words:?} is not in {text}"));
    let headings = SYSTEMS.map(|system| place(&format!("system {system}\n\n")));
    assert!(headings.is_sorted(), "{text}");
    let found = place(&format!("failure {}: ", name(1, 3)));
    assert!(headings[1] < found && found < headings[2], "{text}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.lines().last(), Some(&*format!("3 systems: 2 well, 1 failed: {SECOND}")));
    assert!(output.stderr.starts_with(&format!("walkeep: error: system {SECOND}: 2 failures in ")), "{text}");
    let ok = SYSTEMS.map(|system| several.report(system, "verify").unwrap()["ok"] == true);
    assert_eq!(ok, [true, false, true], "each has its own report");
}

#[test]
fn json_is_one_document_with_that_of_each_system() {
    let several = Several::new();
    several.damage(SYSTEMS[0], &name(1, 3));
    for command in [&["verify"][..], &["prune", "--keep-backups", "1", "--dry-run"], &["status"]] {
        let output = several.output(command[0], &[&command[1..], &["--json"]].concat());
        let json = document(&output);
        // Verify has left its finding for status.
        let failed = command[0] != "prune";
        assert_eq!(output.status, i32::from(failed), "{}", output.text());
        assert_eq!(json["archive"], several.archive.url());
        let systems = json["systems"].as_array().unwrap();
        for (system, of_it) in SYSTEMS.iter().zip(systems) {
            assert_eq!(of_it["system_identifier"], system.to_string());
            assert_eq!(of_it["ok"], !(failed && *system == SYSTEMS[0]), "{of_it:#}");
            let mut alone = without_all(&several.command(command[0], &command[1..]));
            alone.args(["--json", "--system-identifier", &system.to_string()]);
            let alone: serde_json::Value = serde_json::from_slice(&alone.output().unwrap().stdout).unwrap();
            let keys =
                |json: &serde_json::Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(of_it), keys(&alone), "the document of one system is what it is alone");
        }
        assert_eq!(json["well_systems"], if failed { 2 } else { 3 }, "{json:#}");
        assert_eq!(json["untried_systems"], serde_json::json!([]));
        let names = if failed { vec![SYSTEMS[0].to_string()] } else { Vec::new() };
        assert_eq!(json["failed_systems"], serde_json::json!(names));
    }
}

#[test]
fn a_directory_that_cannot_be_read_fails_its_system_only() {
    let several = Several::new();
    several.damage(SYSTEMS[2], &name(1, 3));
    let closed = several.directory(SYSTEMS[1]);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    for command in [&["verify"][..], &["prune", "--keep-backups", "1"], &["status"]] {
        let output = several.output(command[0], &[&command[1..], &["--json"]].concat());
        let json = document(&output);
        assert_eq!(json["systems"].as_array().unwrap().len(), 3, "{json:#}");
        let closed = &json["systems"][1];
        assert!(closed["error"].as_str().unwrap().contains("Permission denied"), "{json:#}");
        assert_eq!(json["error"], closed["error"], "{json:#}");
        assert_eq!(json["systems"][0]["ok"], true, "{json:#}");
        let failed: Vec<&str> =
            json["failed_systems"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        // What verify has found is in the archive, for status.
        assert_eq!(failed, if command[0] == "prune" { vec![SECOND] } else { vec![SECOND, LAST] });
        assert_eq!(output.status, 2, "{}", output.text());
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(SYSTEMS.map(|system| segments(&several, system)), [3, SEGMENTS, 3], "the others are pruned");
}

#[test]
fn a_doubt_about_one_system_deletes_nothing_there_and_the_next_is_pruned() {
    let several = Several::new();
    let backup = format!("{}.00000028.backup", name(1, 2));
    several.damage(SYSTEMS[1], &backup);
    let output = several.output("prune", &["--keep-backups", "1", "--dry-run"]);
    assert_eq!(output.status, 1, "{}", output.text());
    assert_eq!(output.text().matches("would delete 1 file, ").count(), 2, "{}", output.text());
    assert_eq!(SYSTEMS.map(|system| segments(&several, system)), [SEGMENTS; 3]);
    assert!(several.report(SYSTEMS[0], "prune").is_none());
    let output = several.output("prune", &["--keep-backups", "1"]);
    assert_eq!(output.status, 1, "{}", output.text());
    assert_eq!(SYSTEMS.map(|system| segments(&several, system)), [3, SEGMENTS, 3]);
    assert!(output.stderr.contains(&format!("error: system {SECOND}: ")), "{}", output.stderr);
    let summary = format!("3 systems: 2 well, 1 failed: {SECOND}\n");
    assert!(output.text().contains(&summary), "{}", output.text());
    let ok = SYSTEMS.map(|system| several.report(system, "prune").unwrap()["ok"] == true);
    assert_eq!(ok, [true, false, true], "each has its own report");
}

#[test]
fn an_empty_directory_of_a_system_is_reported_and_keeps_no_other_from_its_turn() {
    let several = Several::new();
    fs::remove_dir_all(several.directory(SYSTEMS[0])).unwrap();
    fs::create_dir(several.directory(SYSTEMS[0])).unwrap();
    user::hand_over(&several.directory(SYSTEMS[0]));
    for command in [&["verify"][..], &["prune", "--keep-backups", "1"], &["status"]] {
        let output = several.output(command[0], &command[1..]);
        assert_eq!(output.status, 1, "{}", output.text());
        let (system, text) = (SYSTEMS[0], output.text());
        let summary = format!("3 systems: 2 well, 1 failed: {system}\n");
        assert!(text.contains(&summary), "{text}");
        let directory = several.directory(system);
        let words =
            format!("walkeep: error: system {system}: {} holds no archived file; ", directory.display());
        assert!(output.stderr.contains(&words), "{text}");
    }
}

#[test]
fn an_archive_without_a_system_and_a_missing_one_are_errors_of_the_command() {
    let several = Several::new();
    for system in SYSTEMS {
        fs::remove_dir_all(several.directory(system)).unwrap();
    }
    for missing in [false, true] {
        if missing {
            several.archive.vanish();
        }
        let words = if missing { "does not exist" } else { "holds no system's WAL" };
        for command in [&["verify"][..], &["prune", "--keep-backups", "1"], &["status"]] {
            let output = several.output(command[0], &command[1..]);
            output.is_error(1, &[words]);
            let output = several.output(command[0], &[&command[1..], &["--json"]].concat());
            let json = document(&output);
            assert!(json["error"].as_str().unwrap().contains(words), "{json:#}");
            output.is_error(1, &[words]);
        }
    }
}

#[test]
fn a_system_that_has_a_name_and_no_directory_is_a_failure() {
    let several = Several::new();
    let names = format!("[systems]\nbilling = \"{SECOND}\"\n");
    let config = several.sandbox.file("walkeep.toml", names);
    let with = ["--config", config.to_str().unwrap()];
    fs::rename(several.directory(SYSTEMS[1]), several.sandbox.join("elsewhere")).unwrap();
    let gone = format!("system {SECOND} (billing) has no directory in {}", several.archive.url());
    let advice = "; were its files moved away? If it is gone for good, take its name out of [systems]";
    let counted = format!("3 systems: 2 well, 1 failed: {SECOND} (billing)");
    for command in [&["verify"][..], &["prune", "--keep-backups", "1"], &["status"]] {
        let output = several.output(command[0], &[&command[1..], &with[..]].concat());
        assert_eq!(output.status, 1, "{}", output.text());
        assert!(output.text().contains(&format!("failed: {gone}{advice}\n")), "{}", output.text());
        assert!(output.text().contains(&counted), "{}", output.text());
    }
    let json = document(&several.output("status", &[&with[..], &["--json"]].concat()));
    assert_eq!(json["failed_systems"], serde_json::json!([SECOND]), "{json:#}");
    let metrics = several.output("status", &[&with[..], &["--prometheus"]].concat());
    let up = format!("walkeep_up{{system_identifier=\"{SECOND}\",name=\"billing\"}} 0\n");
    assert!(metrics.text().contains(&up), "{}", metrics.text());
    assert!(metrics.text().contains("walkeep_systems 2\n"), "{}", metrics.text());
    let list = |options: &[&str]| {
        let mut list = several.sandbox.walkeep();
        list.args(["list", "--archive", several.archive.url()]).args(with).args(options);
        list.stdout(std::process::Stdio::piped());
        CallOutput::of(list)
    };
    let listed = list(&[]);
    let line = format!("! system {SECOND} (billing) has no directory here, although [systems] names it\n");
    assert!(listed.status == 0 && listed.text().contains(&line), "{}", listed.text());
    assert_eq!(document(&list(&["--json"]))["absent_systems"], serde_json::json!([SECOND]));
    fs::remove_dir_all(several.directory(SYSTEMS[2])).unwrap();
    let alone = list(&[]);
    assert!(alone.status == 0 && alone.stderr.contains(&format!("warning: {gone}")), "{}", alone.stderr);
    list(&["--all-systems"]).is_error(2, &["leave it out: walkeep list shows all systems by itself"]);
}

#[test]
fn lines_of_a_json_log_have_the_system_in_fields() {
    let several = Several::new();
    let names = format!("log_format = 'json'\n[systems]\nbilling = \"{SECOND}\"\n");
    let config = several.sandbox.file("walkeep.toml", names);
    several.damage(SYSTEMS[1], &name(1, 3));
    let output = several.output("verify", &["--config", config.to_str().unwrap()]);
    let lines = output.stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let of_second: Vec<_> = lines.filter(|line| line["span"]["system_identifier"] == SECOND).collect();
    assert!(!of_second.is_empty(), "{}", output.stderr);
    for line in of_second {
        assert_eq!(line["span"]["system_name"], "billing", "{line}");
        assert!(line["span"]["message"].is_null(), "{line}");
    }
}
