//! An archive of two timelines with a base backup, and the output of `walkeep verify`.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use super::{
    data_directory::{DataDirectory, SEGMENT_BYTES, segment},
    push::{OTHER_SYSTEM, Pusher, SYSTEM, succeeds},
    store_cluster::CallOutput,
};

/// A segment before the base backup.
pub const OLD: &str = "000000010000000000000002";
/// The segment in which the base backup starts and ends.
pub const START: &str = "000000010000000000000003";
/// A segment after it.
pub const NEEDED: &str = "000000010000000000000004";
/// The last complete segment of timeline 1.
pub const LAST: &str = "000000010000000000000005";
/// The segment in which timeline 2 begins.
pub const FORK: &str = "000000020000000000000006";
pub const NEWEST: &str = "000000020000000000000007";
pub const HISTORY: &str = "00000002.history";
pub const BACKUP: &str = "000000010000000000000003.00000028.backup";

/// Returns the name of a segment of timeline 1 or 2.
pub fn name(timeline: u32, number: u32) -> String {
    format!("{timeline:08X}00000000{number:08X}")
}

/// Returns the backup history file of a base backup that starts in one segment of timeline 1 and ends in another.
pub fn backup_history(first: u32, last: u32, label: &str) -> String {
    let position = |number| format!("0/{number:X}00138 (file {})", name(1, number));
    format!(
        "START WAL LOCATION: {}\nSTOP WAL LOCATION: {}\nSTART TIME: 2026-01-02 03:04:05 UTC\nLABEL: {label}\n\
         START TIMELINE: 1\nSTOP TIME: 2026-01-02 03:04:06 UTC\nSTOP TIMELINE: 1\n",
        position(first),
        position(last)
    )
}

pub struct Verified {
    pub pusher: Pusher,
}

impl Verified {
    /// Creates timeline 1 with segments 1 to 5 and a part of 6, in which timeline 2 begins and continues to 7, and a
    /// base backup from 3.
    pub fn new() -> Self {
        let archive = Self::of_one_timeline(5);
        archive.push(&format!("{}.partial", name(1, 6)), &content(&name(1, 6)));
        archive.push(HISTORY, b"1\t0/600100\tno recovery target specified\n");
        // The part before the fork is copied.
        archive.push(FORK, &content(&name(1, 6)));
        archive.push(NEWEST, &content(NEWEST));
        archive
    }

    /// Creates timeline 1 with segments from 1 on, and a base backup from 3.
    pub fn of_one_timeline(last: u32) -> Self {
        let archive = Self { pusher: Pusher::new() };
        for number in 1..=last {
            archive.push(&name(1, number), &content(&name(1, number)));
        }
        archive.push(BACKUP, backup_history(3, 3, "nightly").as_bytes());
        archive
    }

    /// Archives a file.
    pub fn push(&self, name: &str, content: &[u8]) {
        self.pusher.data.file(&format!("pg_wal/{name}"), content);
        succeeds(self.pusher.push(name));
    }

    /// Returns another cluster's archived file of that name.
    pub fn of_another_system(&self, name: &str) -> Vec<u8> {
        let data = DataDirectory::new(&self.pusher.sandbox, "another", OTHER_SYSTEM);
        data.segment(name, 9);
        let mut push = data.run(self.pusher.sandbox.walkeep_archive());
        push.args(["--archive", self.pusher.archive.url()]).arg(format!("pg_wal/{name}"));
        succeeds(push);
        let file = self.pusher.archive.file(OTHER_SYSTEM, name);
        let archived = fs::read(file).unwrap();
        fs::remove_dir_all(format!("{}/{OTHER_SYSTEM}", self.pusher.archive.url())).unwrap();
        archived
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.pusher.file(name)
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.file(name), bytes).unwrap();
    }

    /// Returns the command.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = self.pusher.sandbox.walkeep();
        command.args(["verify", "--archive", self.pusher.archive.url()]).args(options);
        command.env("WALKEEP_TIMEOUT", "2s");
        command
    }

    /// Returns the JSON output.
    pub fn verify(&self, options: &[&str]) -> VerifyOutput {
        VerifyOutput::of(self.command(options))
    }

    /// Returns the text output.
    pub fn output(&self, options: &[&str]) -> CallOutput {
        CallOutput::of(self.command(options))
    }

    /// Returns the report of the last verification in the archive.
    pub fn report(&self) -> Value {
        let file = format!("{}/{SYSTEM}/reports/verify.json", self.pusher.archive.url());
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }
}

/// Returns the content of a segment.
pub fn content(name: &str) -> Vec<u8> {
    segment(name, SYSTEM, SEGMENT_BYTES, 0)
}

/// JSON output of `walkeep verify`.
#[derive(Debug)]
pub struct VerifyOutput {
    pub status: i32,
    pub stderr: String,
    pub json: Value,
}

impl VerifyOutput {
    pub fn of(mut command: Command) -> Self {
        command.arg("--json");
        let output = CallOutput::of(command);
        let json: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", output.text()));
        assert_eq!(json["ok"], output.status == 0, "{json:#}");
        Self { status: output.status, stderr: output.stderr, json }
    }

    /// Returns severity, kind and file of all findings.
    pub fn findings(&self) -> Vec<(&str, &str, &str)> {
        let findings = self.json["findings"].as_array().unwrap_or_else(|| panic!("{:#}", self.json));
        findings
            .iter()
            .map(|finding| {
                let text = |name: &str| finding[name].as_str().unwrap();
                (text("severity"), text("kind"), text("file"))
            })
            .collect()
    }

    /// Asserts all findings except the one that the present cannot be recovered, which depends on another answer; and
    /// that the exit status agrees with them.
    pub fn says(&self, findings: &[(&str, &str, &str)]) {
        let (mut found, mut expected) = (self.findings(), findings.to_vec());
        let of_present = |finding: &&(&str, &str, &str)| finding.1 == "present";
        let is_lost = self.json["present"]["recoverable"] == false;
        assert_eq!(found.iter().filter(of_present).count(), usize::from(is_lost), "{:#}", self.json);
        found.retain(|finding| !of_present(&finding));
        // Two backups may have ended in the same second.
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{:#}{}", self.json, self.stderr);
        let failed = is_lost || findings.iter().any(|(severity, ..)| *severity == "failure");
        assert_eq!((self.status, self.stderr.as_str()), (i32::from(failed), ""));
    }

    /// Asserts that the meaning of the finding about a file contains these words.
    pub fn means(&self, file: &str, words: &[&str]) {
        let findings = self.json["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["file"] == file).unwrap();
        let text = format!("{} {}", finding["what"].as_str().unwrap(), finding["meaning"].as_str().unwrap());
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
    }

    pub fn content(&self, field: &str) -> &Value {
        &self.json["content"][field]
    }
}
