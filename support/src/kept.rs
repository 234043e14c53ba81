//! An archive that has been used for long: archived files as walkeep would have left them at any time.

use std::{
    fs::{self, File},
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use walkeep::{
    frame::{Codec, Content, HeaderFields, Level, Overflow, encode},
    wal::{SystemIdentifier, WalMagic, WalName},
};

use super::{
    archive::ArchiveDirectory,
    data_directory::{SEGMENT_BYTES, segment},
    push::{SYSTEM, files_below},
    running::{Outcome, outcome_of},
    sandbox::Sandbox,
    user,
};

/// Number of segments of 1 MiB that share the middle third of a name.
const PER_LOG: u64 = 4096;

/// Returns the name of a segment of 1 MiB.
pub fn name(timeline: u32, number: u64) -> String {
    format!("{timeline:08X}{:08X}{:08X}", number / PER_LOG, number % PER_LOG)
}

/// Returns the position at that offset in a segment of 1 MiB.
pub fn position(number: u64, offset: u64) -> String {
    let position = (number << 20) + offset;
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}

/// Returns the time that many days ago, in whole seconds.
pub fn days_ago(days: i64) -> Timestamp {
    // Never rounded up: a file that should be a day old must not be younger when a program looks at it.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    now - SignedDuration::from_hours(24 * days)
}

/// Returns the archived file with that content, as written by a push at that time.
pub fn archived(name: &str, content: &[u8], at: Timestamp) -> Vec<u8> {
    archived_of(SYSTEM, name, content, at)
}

/// Does the same as [`archived`] for another cluster.
pub fn archived_of(system: u64, name: &str, content: &[u8], at: Timestamp) -> Vec<u8> {
    let wal: WalName = name.parse().unwrap();
    let fields = HeaderFields {
        name: wal,
        system: SystemIdentifier::new(system).unwrap(),
        wal_magic: wal.segment().map(|_| WalMagic(0xD110)),
        archived_at: at,
        host: None,
    };
    let codec = Codec::Zstd(Level::default());
    let encoded = encode(content, &fields, codec, NonZeroUsize::MIN, Overflow::never()).unwrap();
    match encoded.content {
        Content::Memory(chunks) => chunks.concat(),
        Content::Overflow { .. } => panic!("it was to be kept in memory"),
    }
}

/// Returns the archived file of a segment.
pub fn archived_segment(name: &str, at: Timestamp) -> Vec<u8> {
    archived_segment_of(SYSTEM, name, at)
}

/// Does the same as [`archived_segment`] for another cluster.
pub fn archived_segment_of(system: u64, name: &str, at: Timestamp) -> Vec<u8> {
    archived_of(system, name, &segment(&name[..24], system, SEGMENT_BYTES, 0), at)
}

/// Returns name and archived file of the backup history file of a backup that starts in one segment and stops in
/// another.
pub fn archived_backup(
    timeline: u32,
    start: u64,
    stop: u64,
    label: &str,
    at: Timestamp,
) -> (String, Vec<u8>) {
    archived_backup_of(SYSTEM, timeline, start, stop, label, at)
}

/// Does the same as [`archived_backup`] for another cluster.
pub fn archived_backup_of(
    system: u64,
    timeline: u32,
    start: u64,
    stop: u64,
    label: &str,
    at: Timestamp,
) -> (String, Vec<u8>) {
    let ended = at.strftime("%Y-%m-%d %H:%M:%S UTC");
    let content = format!(
        "START WAL LOCATION: {} (file {})\nSTOP WAL LOCATION: {} (file {})\nCHECKPOINT LOCATION: {}\n\
         BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-01-02 03:04:05 UTC\nLABEL: {label}\n\
         START TIMELINE: {timeline}\nSTOP TIME: {ended}\nSTOP TIMELINE: {timeline}\n",
        position(start, 0x28),
        name(timeline, start),
        position(stop, 0x138),
        name(timeline, stop),
        position(start, 0x60),
    );
    let name = format!("{}.00000028.backup", name(timeline, start));
    let bytes = archived_of(system, &name, content.as_bytes(), at);
    (name, bytes)
}

/// Returns name and archived file of a timeline's history: the ancestors, and the positions at which each was left.
pub fn archived_history(timeline: u32, ancestors: &[(u32, String)], at: Timestamp) -> (String, Vec<u8>) {
    let line = |(of, left_at): &(u32, String)| format!("{of}\t{left_at}\tno recovery target specified\n");
    let content: String = ancestors.iter().map(line).collect();
    let name = format!("{timeline:08X}.history");
    let bytes = archived(&name, content.as_bytes(), at);
    (name, bytes)
}

/// Writes bytes to a file with that modification time, and creates the directories above it.
pub fn put_file(file: &Path, bytes: impl AsRef<[u8]>, at: Timestamp) {
    let above: Vec<&Path> = file.ancestors().skip(1).take_while(|dir| !dir.exists()).collect();
    for directory in above.into_iter().rev() {
        fs::create_dir(directory).unwrap();
        user::hand_over(directory);
    }
    fs::write(file, bytes).unwrap();
    user::hand_over(file);
    touch(file, at);
}

/// Sets the modification time of a file.
pub fn touch(path: &Path, at: Timestamp) {
    File::open(path).unwrap().set_modified(at.into()).unwrap();
}

/// An archive in a directory, and `walkeep` to maintain it.
pub struct Kept {
    pub archive: ArchiveDirectory,
    pub sandbox: Sandbox,
}

impl Kept {
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let archive = ArchiveDirectory::new(&sandbox);
        Self { archive, sandbox }
    }

    /// Writes bytes under a name, with that modification time.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>, at: Timestamp) {
        put_file(&self.archive.file(SYSTEM, name), bytes, at);
    }

    /// Archives segments that many days ago.
    pub fn segments(&self, timeline: u32, numbers: RangeInclusive<u64>, days: i64) {
        for number in numbers {
            let name = name(timeline, number);
            self.put(&name, archived_segment(&name, days_ago(days)), days_ago(days));
        }
    }

    /// Archives a backup that ended that many days ago; returns the name of its backup history file.
    pub fn backup(&self, timeline: u32, start: u64, stop: u64, days: i64) -> String {
        let (name, bytes) =
            archived_backup(timeline, start, stop, &format!("{days} days ago"), days_ago(days));
        self.put(&name, bytes, days_ago(days));
        name
    }

    /// Archives the history of a timeline that left its ancestors at these positions.
    pub fn history(&self, timeline: u32, ancestors: &[(u32, String)]) {
        let (name, bytes) = archived_history(timeline, ancestors, days_ago(1));
        self.put(&name, bytes, days_ago(1));
    }

    /// Lists all files of the cluster except reports: paths below the cluster's directory.
    pub fn files(&self) -> Vec<String> {
        let mut files = files_below(&Path::new(self.archive.url()).join(SYSTEM.to_string()));
        files.retain(|file| !file.starts_with("reports/"));
        files
    }

    /// Lists the names of the cluster's files.
    pub fn names(&self) -> Vec<String> {
        let files = self.files();
        files.iter().map(|file| file.rsplit('/').next().unwrap().to_owned()).collect()
    }

    pub fn report(&self, command: &str) -> Option<Value> {
        let text = fs::read_to_string(self.report_file(command)).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    pub fn report_file(&self, command: &str) -> PathBuf {
        Path::new(self.archive.url()).join(format!("{SYSTEM}/reports/{command}.json"))
    }

    /// Returns a command of `walkeep` on this archive.
    pub fn walkeep(&self, command: &str, options: &[&str]) -> Command {
        let mut walkeep = self.sandbox.walkeep();
        walkeep.args([command, "--archive", self.archive.url(), "--timeout", "1s"]).args(options);
        walkeep.stdout(Stdio::null());
        walkeep
    }

    /// Returns the output of a command that must succeed without messages.
    pub fn said(&self, command: &str, options: &[&str]) -> String {
        let output = self.walkeep(command, options).stdout(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{options:?}");
        assert!(output.status.success(), "{options:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Does the same as [`Kept::said`] with `--json`.
    pub fn json(&self, command: &str, options: &[&str]) -> Value {
        let said = self.said(command, &[&["--json"], options].concat());
        serde_json::from_str(&said).unwrap()
    }

    /// Asserts that a command fails with that status and one error that contains `words`.
    pub fn fails(&self, status: i32, command: &str, options: &[&str], words: &str) {
        let Outcome { status: ended, stderr } = outcome_of(self.walkeep(command, options));
        assert_eq!(ended, status, "{options:?}: {stderr}");
        let error = stderr.lines().last().unwrap_or_default();
        assert!(
            error.starts_with("walkeep: error: ") && error.contains(words),
            "{options:?}: {words:?} is not in {stderr}"
        );
    }
}
