//! An archive directory: its keys, and its absence.

use std::{fs, io::ErrorKind, path::PathBuf};

use super::{postgres::copy_directory, sandbox::Sandbox};

/// Directory for `--archive`, which can vanish, as a mount does, and return.
pub struct ArchiveDirectory {
    path: PathBuf,
    away: PathBuf,
}

impl ArchiveDirectory {
    /// Creates an empty archive in `sandbox`.
    pub fn new(sandbox: &Sandbox) -> Self {
        Self { path: sandbox.directory("archive"), away: sandbox.join("archive.away") }
    }

    /// Copies the archive to another sandbox, for changes that must not affect the first.
    pub fn copy(&self, sandbox: &Sandbox) -> Self {
        let path = sandbox.join("archive");
        copy_directory(&self.path, &path);
        Self { path, away: sandbox.join("archive.away") }
    }

    /// Lists the names of all archived files of a cluster, sorted, without reports.
    pub fn all_names(&self, system_identifier: u64) -> Vec<String> {
        let groups = self.names(system_identifier, "wal").into_iter().map(|group| format!("wal/{group}"));
        let directories = groups.chain(["timelines".to_owned(), "backups".to_owned()]);
        let mut names: Vec<_> =
            directories.flat_map(|directory| self.names(system_identifier, &directory)).collect();
        names.sort();
        names
    }

    /// Returns the archive's URL in its short form.
    pub fn url(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Returns the path of the archive while it has vanished.
    pub fn away(&self) -> &str {
        self.away.to_str().unwrap()
    }

    pub fn vanish(&self) {
        fs::rename(&self.path, &self.away).unwrap();
    }

    /// Puts it back. A push that was running when it vanished may have created directories in its place; it notices,
    /// and does not confirm files created there.
    pub fn come_back(&self) {
        while let Err(error) = fs::rename(&self.away, &self.path) {
            assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    /// Returns the path of the archived file `name` of a cluster.
    pub fn file(&self, system_identifier: u64, name: &str) -> PathBuf {
        let system = self.path.join(system_identifier.to_string());
        match name.rsplit_once('.') {
            Some((_, "history")) => system.join("timelines").join(name),
            Some((_, "backup")) => system.join("backups").join(name),
            _ => system.join("wal").join(&name[..16]).join(name),
        }
    }

    /// Lists the files in one of a cluster's directories, sorted; empty if there is no such directory.
    pub fn names(&self, system_identifier: u64, directory: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path.join(system_identifier.to_string()).join(directory)) else {
            return Vec::new();
        };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
