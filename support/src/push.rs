//! Calls of `walkeep-archive`, in a data directory without a server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    archive::ArchiveDirectory,
    data_directory::{DataDirectory, SEGMENT},
    running::{Outcome, outcome_of},
    sandbox::Sandbox,
};

/// System identifier of the data directory.
pub const SYSTEM: u64 = 7_381_092_445_103_374_871;

/// Another system identifier.
pub const OTHER_SYSTEM: u64 = SYSTEM + 1;

/// Key of the segment [`SEGMENT`].
pub const SEGMENT_KEY: &str = "7381092445103374871/wal/0000000100000000/000000010000000000000001";

/// A timeline history file.
pub const HISTORY: &str = "00000002.history";
pub const HISTORY_CONTENT: &str = "1\t0/200000\tno recovery target specified\n";

/// A backup history file.
pub const BACKUP: &str = "000000010000000000000001.00000028.backup";
pub const BACKUP_CONTENT: &str = "START WAL LOCATION: 0/100028 (file 000000010000000000000001)
STOP WAL LOCATION: 0/100138 (file 000000010000000000000001)
CHECKPOINT LOCATION: 0/100060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-01-02 03:04:05 UTC
LABEL: nightly
START TIMELINE: 1
STOP TIME: 2026-01-02 03:04:06 UTC
STOP TIMELINE: 1
";

/// A data directory whose WAL is archived.
pub struct Pusher {
    pub archive: ArchiveDirectory,
    pub data: DataDirectory,
    pub sandbox: Sandbox,
}

impl Pusher {
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let archive = ArchiveDirectory::new(&sandbox);
        let data = DataDirectory::new(&sandbox, "data", SYSTEM);
        Self { archive, data, sandbox }
    }

    /// Returns the program without arguments, in the directory in which the server starts it.
    pub fn program(&self) -> Command {
        self.data.run(self.sandbox.walkeep_archive())
    }

    /// Returns the command as run by the server for a file of `pg_wal`.
    pub fn push(&self, name: &str) -> Command {
        self.push_with(&[], name)
    }

    /// Does the same as [`Pusher::push`] with additional options.
    pub fn push_with(&self, options: &[&str], name: &str) -> Command {
        let mut command = self.program();
        command.args(["--archive", self.archive.url()]).args(options).arg(format!("pg_wal/{name}"));
        command
    }

    /// Returns the path of an archived file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.archive.file(SYSTEM, name)
    }

    /// Returns the stored bytes of an archived file.
    pub fn stored(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    /// Returns the original bytes of an archived file, from `walkeep cat`.
    pub fn original(&self, name: &str) -> Vec<u8> {
        let mut cat = self.sandbox.walkeep();
        let output = cat.args(["cat", "--archive", self.archive.url(), name]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Lists all files in the archive, as sorted paths below it.
    pub fn files(&self) -> Vec<String> {
        files_below(Path::new(self.archive.url()))
    }
}

/// Lists everything below `root` except directories, as sorted relative paths.
pub fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Runs a push, which must succeed without messages.
pub fn succeeds(command: Command) {
    let Outcome { status, stderr } = outcome_of(command);
    assert_eq!((status, stderr.as_str()), (0, ""));
}

/// Runs a push, which must end with `status` and one line of error that contains all of `words`; returns the line.
pub fn fails(status: i32, command: Command, words: &[&str]) -> String {
    let description = format!("{command:?}");
    let outcome = outcome_of(command);
    assert_eq!(outcome.status, status, "{description}: {}", outcome.stderr);
    let is_one_line = outcome.stderr.lines().count() == 1;
    assert!(is_one_line && outcome.stderr.starts_with("walkeep-archive: error: "), "{}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "{description}: {word:?} is not in {}", outcome.stderr);
    }
    outcome.stderr
}

/// Creates a data directory with an archived segment; returns its content.
pub fn pusher_with_archived_segment() -> (Pusher, Vec<u8>) {
    let pusher = Pusher::new();
    let content = pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    (pusher, content)
}
