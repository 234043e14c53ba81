//! Archives of several clusters, in a directory and in a store.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    archive::ArchiveDirectory,
    kept::{archived_backup_of, archived_segment_of, days_ago, name, put_file},
    sandbox::Sandbox,
    store_cluster::CallOutput,
    store_scene::StoreScene,
};

/// System identifiers of three clusters.
pub const SYSTEMS: [u64; 3] =
    [7_381_092_445_103_374_871, 7_381_092_445_103_374_872, 7_381_092_445_103_374_873];

/// The second of them, as in a path.
pub const SECOND: &str = "7381092445103374872";

/// The last of them.
pub const LAST: &str = "7381092445103374873";

/// Number of segments of each cluster. A base backup starts and ends in the second one.
pub const SEGMENTS: u64 = 4;

/// Returns name and archived file of all files of a cluster.
pub fn files_of(system: u64) -> Vec<(String, Vec<u8>)> {
    let segments = (1..=SEGMENTS).map(|number| {
        let name = name(1, number);
        let bytes = archived_segment_of(system, &name, days_ago(3));
        (name, bytes)
    });
    segments.chain([archived_backup_of(system, 1, 2, 2, "nightly", days_ago(2))]).collect()
}

/// An archive of clusters in a directory, and `walkeep` to maintain it.
pub struct Several {
    pub archive: ArchiveDirectory,
    pub sandbox: Sandbox,
}

impl Several {
    /// Creates the archive of three clusters.
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let several = Self { archive: ArchiveDirectory::new(&sandbox), sandbox };
        for system in SYSTEMS {
            several.add(system);
        }
        several
    }

    /// Adds a cluster.
    pub fn add(&self, system: u64) {
        for (name, bytes) in files_of(system) {
            self.put(system, &name, bytes, days_ago(3));
        }
    }

    pub fn put(&self, system: u64, name: &str, bytes: impl AsRef<[u8]>, at: Timestamp) {
        put_file(&self.archive.file(system, name), bytes, at);
    }

    /// Inverts the last byte of an archived file.
    pub fn damage(&self, system: u64, name: &str) {
        let file = self.archive.file(system, name);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        self.put(system, name, bytes, days_ago(3));
    }

    /// Returns the directory of a cluster.
    pub fn directory(&self, system: u64) -> PathBuf {
        Path::new(self.archive.url()).join(system.to_string())
    }

    /// Returns what the last prune or verify of a cluster has noted; `None` if there was none.
    pub fn report(&self, system: u64, command: &str) -> Option<Value> {
        let text = fs::read(self.directory(system).join(format!("reports/{command}.json"))).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    /// Returns a command for all systems.
    pub fn command(&self, command: &str, options: &[&str]) -> Command {
        let mut walkeep = self.sandbox.walkeep();
        walkeep.args([command, "--archive", self.archive.url(), "--all-systems"]).args(options);
        walkeep.env("WALKEEP_TIMEOUT", "5s").stdout(Stdio::piped());
        walkeep
    }

    pub fn output(&self, command: &str, options: &[&str]) -> CallOutput {
        CallOutput::of(self.command(command, options))
    }
}

/// Creates a store with three clusters. Requests are counted from here on.
pub fn in_a_store() -> StoreScene {
    let scene = StoreScene::new();
    for system in SYSTEMS {
        for (name, bytes) in files_of(system) {
            scene.store.put(&key_of(system, &name), bytes);
        }
    }
    scene.store.forget_requests();
    scene
}

/// Returns the key of a cluster's file in that store.
pub fn key_of(system: u64, name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, "history")) => format!("main/{system}/timelines/{name}"),
        Some((_, "backup")) => format!("main/{system}/backups/{name}"),
        _ => format!("main/{system}/wal/{}/{name}", &name[..16]),
    }
}

/// Returns a command for that store.
pub fn in_store(scene: &StoreScene, command: &str, options: &[&str]) -> Command {
    let mut walkeep = scene.command(&scene.primary, scene.sandbox.walkeep());
    walkeep.arg(command).args(options).stdout(Stdio::piped());
    walkeep
}

/// Returns the JSON document of a command for all systems, which must agree with the exit status.
pub fn document(output: &CallOutput) -> Value {
    let json: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.text()));
    assert_eq!(json["ok"], output.status == 0, "{json:#}");
    json
}

/// Returns the same command without `--all-systems`.
pub fn without_all(command: &Command) -> Command {
    let mut alone = Command::new(command.get_program());
    alone.args(command.get_args().filter(|argument| *argument != "--all-systems"));
    alone.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    alone.current_dir(command.get_current_dir().unwrap());
    alone
}
