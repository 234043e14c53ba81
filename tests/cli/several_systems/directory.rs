//! `walkeep list` of the clusters in a directory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::{Value, json};
use support::{
    aged::set_archived,
    data_directory::DataDirectory,
    memory::peak_of,
    push::{HISTORY, HISTORY_CONTENT, OTHER_SYSTEM, Pusher, SYSTEM, succeeds},
    store_cluster::CallOutput,
};

const SEGMENTS: [&str; 3] =
    ["000000010000000000000001", "000000010000000000000002", "000000020000000000000002"];

/// Creates an archive of two clusters. The second segment of the first came last, the drill's timeline 2 before.
pub(super) fn two_clusters() -> Pusher {
    let pusher = Pusher::new();
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    succeeds(pusher.push(HISTORY));
    for (name, day) in SEGMENTS.iter().zip(["03", "05", "04"]) {
        pusher.data.segment(name, 0);
        succeeds(pusher.push(name));
        set_archived(&pusher.file(name), &format!("2001-02-{day}T04:05:06Z"));
    }
    let other = DataDirectory::new(&pusher.sandbox, "other", OTHER_SYSTEM);
    other.segment(SEGMENTS[0], 7);
    let mut push = other.run(pusher.sandbox.walkeep_archive());
    push.args(["--archive", pusher.archive.url()]).arg(format!("pg_wal/{}", SEGMENTS[0]));
    succeeds(push);
    set_archived(&pusher.archive.file(OTHER_SYSTEM, SEGMENTS[0]), "2002-02-03T04:05:06Z");
    pusher
}

pub(super) fn walkeep(pusher: &Pusher, command: &str, arguments: &[&str]) -> Command {
    let mut walkeep = pusher.sandbox.walkeep();
    walkeep.args([command, "--archive", pusher.archive.url()]).args(arguments);
    walkeep
}

fn listed(pusher: &Pusher, arguments: &[&str]) -> String {
    let output = CallOutput::of(walkeep(pusher, "list", arguments));
    assert_eq!((output.status, &*output.stderr), (0, ""), "{}", output.text());
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(output: &CallOutput) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn each_system_has_its_row_and_the_last_line_says_how_to_see_one() {
    let pusher = two_clusters();
    let text = listed(&pusher, &[]);
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "SYSTEM               NAME  LAST ARCHIVED",
        "7381092445103374871  -     2001-02-05T04:05:06Z",
        "  000000010000000000000001 to 000000010000000000000002, 2 timelines",
        "  3 segments in 4 files, ",
        "7381092445103374872  -     2002-02-03T04:05:06Z",
        "  000000010000000000000001 to 000000010000000000000001, 1 timeline",
        "  1 segment in 1 file, ",
        "--system-identifier, with an identifier or a name, lists what is archived of one",
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
    assert!(lines[3].ends_with(" stored of 3 MB") && lines[6].ends_with(" stored of 1 MB"), "{text}");
    let one = listed(&pusher, &["--system-identifier", &OTHER_SYSTEM.to_string()]);
    assert!(one.starts_with("TIMELINE"), "{one}");
}

#[test]
fn every_table_of_systems_fits_a_terminal_of_80_columns() {
    let pusher = two_clusters();
    fs::create_dir(Path::new(pusher.archive.url()).join("18446744073709551615")).unwrap();
    let mut list = walkeep(&pusher, "list", &[]);
    list.env("WALKEEP_SYSTEMS", format!("{}={SYSTEM},b=18446744073709551615", "x".repeat(32)));
    let output = CallOutput::of(list);
    assert_eq!(output.status, 0, "{}", output.text());
    let text = output.text();
    assert!(text.contains(&"x".repeat(32)) && text.contains("\n  nothing archived\n"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_json_has_the_same_of_each_system() {
    let pusher = two_clusters();
    let stored = |system: u64| -> u64 {
        let names = pusher.archive.all_names(system);
        names.iter().map(|name| fs::metadata(pusher.archive.file(system, name)).unwrap().len()).sum()
    };
    let mut list = walkeep(&pusher, "list", &["--json"]);
    list.env("WALKEEP_SYSTEMS", format!("main={SYSTEM}"));
    let expected = json!({
        "archive": pusher.archive.url(),
        "ok": true,
        "systems": [
            {
                "system_identifier": SYSTEM.to_string(),
                "name": "main",
                "ok": true,
                "files": 4,
                "segments": 3,
                "oldest_segment": SEGMENTS[0],
                "newest_segment": SEGMENTS[1],
                "archived_at": "2001-02-05T04:05:06Z",
                "timelines": [1, 2],
                "stored_bytes": stored(SYSTEM),
                "original_bytes": 3 << 20,
                "segment_bytes": 1 << 20,
            },
            {
                "system_identifier": OTHER_SYSTEM.to_string(),
                "ok": true,
                "files": 1,
                "segments": 1,
                "oldest_segment": SEGMENTS[0],
                "newest_segment": SEGMENTS[0],
                "archived_at": "2002-02-03T04:05:06Z",
                "timelines": [1],
                "stored_bytes": stored(OTHER_SYSTEM),
                "original_bytes": 1 << 20,
                "segment_bytes": 1 << 20,
            },
        ],
    });
    assert_eq!(json_of(&CallOutput::of(list)), expected);
}

#[test]
fn an_archive_of_one_system_lists_that_and_its_row_when_asked() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENTS[0], 0);
    succeeds(pusher.push(SEGMENTS[0]));
    assert!(listed(&pusher, &[]).starts_with("TIMELINE"));
    assert!(listed(&pusher, &["systems"]).starts_with("SYSTEM"));
    for arguments in [&["systems", SEGMENTS[0]][..], &["systems", "--system-identifier", "7"]] {
        CallOutput::of(walkeep(&pusher, "list", arguments)).is_error(2, &[]);
    }
}

#[test]
fn a_system_that_cannot_be_listed_hides_no_other() {
    let pusher = two_clusters();
    let root = Path::new(pusher.archive.url());
    let closed = root.join(format!("{SYSTEM}/wal/0000000100000000"));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", root.join("9")).unwrap();
    fs::write(root.join("8"), "no directory").unwrap();
    for odd in ["lost+found", "007", "a\nb"] {
        fs::create_dir(root.join(odd)).unwrap();
    }
    fs::create_dir_all(root.join(format!("{OTHER_SYSTEM}/wal/odd\u{1b}[31m"))).unwrap();
    let output = CallOutput::of(walkeep(&pusher, "list", &["--json"]));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let document = json_of(&output);
    assert_eq!(output.status, 2, "{}", output.text());
    let systems = document["systems"].as_array().unwrap();
    let well: Vec<_> =
        systems.iter().map(|of| (of["system_identifier"].as_str().unwrap(), of["ok"] == true)).collect();
    let (own, other) = (SYSTEM.to_string(), OTHER_SYSTEM.to_string());
    assert_eq!(well, [("9", false), (&own, false), (&other, true)], "{document:#}");
    assert_eq!(systems[2]["segments"], 1);
    let said: Vec<&str> = output.stderr.lines().collect();
    assert!(said[0].contains("error: cannot list system 9: "), "{said:?}");
    assert!(said[1].contains(&format!("error: cannot list system {SYSTEM}: ")), "{said:?}");
    assert!(said[1].contains("0000000100000000") && said.len() == 2, "{said:?}");
    assert_eq!((&document["ok"], &document["error_kind"]), (&json!(false), &json!("empty")), "{document:#}");
}

/// Number of names of the larger cluster: a megabyte holds those of some ten thousand.
const MANY: u32 = 60_000;

#[test]
fn memory_does_not_grow_with_the_number_of_names() {
    let pusher = two_clusters();
    let peak = || {
        let mut list = walkeep(&pusher, "list", &[]);
        list.stdout(std::process::Stdio::null());
        let (outcome, peak) = peak_of(list);
        assert_eq!((outcome.status, &*outcome.stderr), (0, ""));
        peak
    };
    let few = peak();
    let wal = Path::new(pusher.archive.url()).join(format!("{OTHER_SYSTEM}/wal"));
    let original = wal.join(format!("0000000100000000/{}", SEGMENTS[0]));
    for number in 0..MANY {
        let group = wal.join(format!("00000001{:08X}", 1 + number / 256));
        if number % 256 == 0 {
            fs::create_dir(&group).unwrap();
        }
        // Links to one file, as many as a file system allows, cost no space.
        let name = format!("00000001{:08X}{:08X}", 1 + number / 256, number % 256);
        fs::hard_link(&original, group.join(name)).unwrap();
    }
    let many = peak();
    assert!(listed(&pusher, &[]).contains("\n  60001 segments in "));
    assert!(many <= few + 2, "{few} MiB for a few names, {many} MiB for {MANY} more");
}
