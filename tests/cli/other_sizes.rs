//! An archive with segments of two sizes, as after `pg_resetwal --wal-segsize`: their names have no common order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, ops::RangeInclusive, path::PathBuf, process::Stdio};

use serde_json::Value;
use support::{
    data_directory::segment,
    kept::{Kept, archived, days_ago},
    push::SYSTEM,
    store_cluster::CallOutput,
};

/// Files archived while segments had one size.
struct Epoch {
    megabytes: u64,
    segments: RangeInclusive<u64>,
    /// Segment in which its base backup starts and ends.
    backup: u64,
    days_ago: i64,
}

/// From 2 MB to 1 MB: the names of the smaller segments sort after all others.
const TO_SMALLER: [Epoch; 2] = [
    Epoch { megabytes: 2, segments: 0x01..=0x05, backup: 0x03, days_ago: 9 },
    Epoch { megabytes: 1, segments: 0x10..=0x1A, backup: 0x15, days_ago: 1 },
];

/// From 1 MB to 2 MB: the names of the larger segments sort before all others.
const TO_LARGER: [Epoch; 2] = [
    Epoch { megabytes: 1, segments: 0x20..=0x2A, backup: 0x25, days_ago: 9 },
    Epoch { megabytes: 2, segments: 0x16..=0x1C, backup: 0x18, days_ago: 1 },
];

fn name(number: u64) -> String {
    format!("{:024X}", (1u128 << 64) | u128::from(number))
}

impl Epoch {
    fn names(&self) -> Vec<String> {
        self.segments.clone().map(name).collect()
    }

    fn backup_name(&self) -> String {
        format!("{}.00000028.backup", name(self.backup))
    }

    fn archive(&self, kept: &Kept) {
        let at = days_ago(self.days_ago);
        for name in self.names() {
            let content = segment(&name, SYSTEM, usize::try_from(self.megabytes << 20).unwrap(), 0);
            kept.put(&name, archived(&name, &content, at), at);
        }
        self.archive_backup(kept);
    }

    fn archive_backup(&self, kept: &Kept) {
        let at = days_ago(self.days_ago);
        let start = self.backup * (self.megabytes << 20);
        let location = |offset: u64| format!("0/{:X} (file {})", start + offset, name(self.backup));
        let content = format!(
            "START WAL LOCATION: {}\nSTOP WAL LOCATION: {}\nLABEL: of {} MB\n",
            location(0x28),
            location(0x138),
            self.megabytes
        );
        kept.put(&self.backup_name(), archived(&self.backup_name(), content.as_bytes(), at), at);
    }

    fn files(&self, kept: &Kept) -> Vec<PathBuf> {
        let names = self.names().into_iter().chain([self.backup_name()]);
        names.map(|name| kept.archive.file(SYSTEM, &name)).collect()
    }
}

fn archive_of(epochs: &[Epoch; 2]) -> Kept {
    let kept = Kept::new();
    for epoch in epochs {
        epoch.archive(&kept);
    }
    kept
}

fn output(kept: &Kept, command: &str, options: &[&str]) -> CallOutput {
    let mut command = kept.walkeep(command, options);
    command.stdout(Stdio::piped());
    CallOutput::of(command)
}

fn other_sizes(kept: &Kept, options: &[&str]) -> (i32, Vec<Value>) {
    let output = output(kept, "verify", &[&["--json"], options].concat());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = json["findings"].as_array().unwrap().clone();
    (output.status, findings.into_iter().filter(|finding| finding["kind"] == "other_size").collect())
}

#[test]
fn two_sizes_in_one_archive_delete_nothing_whatever_the_policy() {
    for epochs in [&TO_SMALLER, &TO_LARGER] {
        let kept = archive_of(epochs);
        let before = kept.files();
        let newest = name(*epochs[1].segments.end());
        for policy in [&["--keep-backups", "1"][..], &["--keep-days", "2"], &["--before", &newest]] {
            kept.fails(1, "prune", policy, "of 1 MB");
            kept.fails(1, "prune", policy, "of 2 MB");
            assert_eq!(kept.files(), before, "{policy:?}");
        }
        let error = kept.report("prune").unwrap()["error"].as_str().unwrap().to_owned();
        for words in [&epochs[0].names()[0], &epochs[1].names()[0], "pg_resetwal"] {
            assert!(error.contains(words), "{words} is not in {error}");
        }
    }
}

#[test]
fn two_sizes_in_one_archive_are_a_failure_that_names_the_old_files() {
    for epochs in [&TO_SMALLER, &TO_LARGER] {
        let kept = archive_of(epochs);
        for options in [&["--names-only"][..], &[], &["--deep"]] {
            let (status, found) = other_sizes(&kept, options);
            assert_eq!((status, found.len()), (1, 1), "{options:?} {found:?}");
            let [old, new] = epochs;
            let (first, last) = (name(*old.segments.start()), name(*old.segments.end()));
            assert_eq!(found[0]["severity"], "failure");
            assert_eq!(found[0]["file"], format!("{first} to {last}"));
            let text = format!("{} {}", found[0]["what"], found[0]["meaning"]);
            let words = [
                format!("of {} MB", old.megabytes),
                format!("of {} MB", new.megabytes),
                format!("of {} MB\\\" from {}", old.megabytes, name(old.backup)),
            ];
            assert!(words.iter().all(|words| text.contains(words)), "{words:?} are not in {text}");
        }
    }
}

#[test]
fn each_size_is_listed_separately() {
    for epochs in [&TO_SMALLER, &TO_LARGER] {
        let kept = archive_of(epochs);
        let [old, new] = epochs;
        let listed = output(&kept, "list", &["--json"]);
        assert_eq!(listed.status, 0, "{}", listed.text());
        assert!(listed.stderr.contains(&format!("of {} MB", old.megabytes)), "{}", listed.stderr);
        let json: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(json["segment_bytes"], new.megabytes << 20);
        assert_eq!(json["timelines"][0]["ranges"][0]["first"], name(*new.segments.start()));
        assert_eq!(json["timelines"][0]["gaps"].as_array().unwrap().len(), 0, "{json:#}");
        for epoch in epochs {
            let mut backups = json["backups"].as_array().unwrap().iter();
            let backup = backups.find(|backup| backup["name"] == epoch.backup_name()).unwrap();
            assert_eq!(backup["complete"], true, "{json:#}");
            assert_eq!(backup["reaches"][0]["last_segment"], name(*epoch.segments.end()));
        }
        let listed = output(&kept, "list", &["files", "--json"]);
        let json: Value = serde_json::from_slice(&listed.stdout).unwrap();
        for epoch in epochs {
            let mut files = json["files"].as_array().unwrap().iter();
            let file = files.find(|file| file["name"] == *epoch.names().last().unwrap()).unwrap();
            assert_eq!(file["original_bytes"], epoch.megabytes << 20);
        }
        let bytes: u64 =
            epochs.iter().map(|epoch| epoch.names().len() as u64 * (epoch.megabytes << 20)).sum();
        assert_eq!(json["total"]["original_bytes"], bytes);
    }
}

#[test]
fn an_archive_without_the_old_size_is_pruned_again() {
    for epochs in [&TO_SMALLER, &TO_LARGER] {
        let kept = archive_of(epochs);
        for file in epochs[0].files(&kept) {
            fs::remove_file(file).unwrap();
        }
        assert_eq!(other_sizes(&kept, &[]), (0, vec![]));
        kept.said("prune", &["--keep-backups", "1"]);
        let stays: Vec<String> = (epochs[1].backup..=*epochs[1].segments.end()).map(name).collect();
        let names = kept.names();
        assert_eq!(
            names.iter().filter(|name| name.len() == 24).collect::<Vec<_>>(),
            stays.iter().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_base_backup_of_another_size_is_recognized_by_its_history_file() {
    // With the current size, its position would be in an existing segment.
    let kept = Kept::new();
    let [old, new] = TO_LARGER;
    new.archive(&kept);
    let old = Epoch { backup: 0x34, ..old };
    old.archive_backup(&kept);
    let before = kept.files();
    kept.fails(1, "prune", &["--keep-backups", "2"], &old.backup_name());
    assert_eq!(kept.files(), before);
    let (status, found) = other_sizes(&kept, &["--names-only"]);
    assert_eq!((status, &found[0]["file"]), (1, &Value::from(old.backup_name())));
}

#[test]
fn the_current_size_is_known_although_the_last_files_are_unreadable() {
    for epochs in [&TO_SMALLER, &TO_LARGER] {
        let kept = archive_of(epochs);
        for name in epochs[1].names().iter().rev().take(3) {
            kept.put(name, "", days_ago(0));
        }
        let listed = output(&kept, "list", &["--json"]);
        let json: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(json["segment_bytes"], epochs[1].megabytes << 20);
        kept.fails(1, "prune", &["--keep-backups", "1"], "pg_resetwal");
    }
}

#[test]
fn a_segment_of_another_size_is_found_when_contents_are_verified() {
    let kept = Kept::new();
    let at = days_ago(1);
    // In the middle, and in no sample.
    let stray = name(21);
    for name in (1..=50).map(name) {
        let bytes = if name == stray { 2 << 20 } else { 1 << 20 };
        kept.put(&name, archived(&name, &segment(&name, SYSTEM, bytes, 0), at), at);
    }
    let (status, found) = other_sizes(&kept, &[]);
    assert_eq!((status, found.len()), (1, 1));
    assert_eq!((&found[0]["severity"], &found[0]["file"]), (&Value::from("failure"), &Value::from(stray)));
}

#[test]
fn backup_history_files_alone_determine_the_size() {
    let kept = Kept::new();
    TO_LARGER[1].archive_backup(&kept);
    let listed = output(&kept, "list", &["--json"]);
    let json: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((listed.status, &json["segment_bytes"]), (0, &Value::from(2 << 20)), "{}", listed.text());
}
