//! An archive directory as the tests see it: its keys, and its absence.

use std::{fs, io::ErrorKind, path::PathBuf};

use super::{postgres::copy_directory, sandbox::Sandbox};

/// The directory that `--archive` names; it can vanish, as a mount does, and come back.
pub struct ArchiveDirectory {
    path: PathBuf,
    away: PathBuf,
}

impl ArchiveDirectory {
    /// An empty archive in `sandbox`.
    pub fn new(sandbox: &Sandbox) -> Self {
        Self { path: sandbox.directory("archive"), away: sandbox.join("archive.away") }
    }

    /// A copy in another sandbox, for work that must not touch the first.
    pub fn copy(&self, sandbox: &Sandbox) -> Self {
        let path = sandbox.join("archive");
        copy_directory(&self.path, &path);
        Self { path, away: sandbox.join("archive.away") }
    }

    /// The names of all files that the archive holds of a system, sorted; not those of reports.
    pub fn all_names(&self, system_identifier: u64) -> Vec<String> {
        let groups = self.names(system_identifier, "wal").into_iter().map(|group| format!("wal/{group}"));
        let directories = groups.chain(["timelines".to_owned(), "backups".to_owned()]);
        let mut names: Vec<_> =
            directories.flat_map(|directory| self.names(system_identifier, &directory)).collect();
        names.sort();
        names
    }

    /// The archive's URL in its short form.
    pub fn url(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Where the archive is while it has vanished.
    pub fn away(&self) -> &str {
        self.away.to_str().unwrap()
    }

    pub fn vanish(&self) {
        fs::rename(&self.path, &self.away).unwrap();
    }

    /// Puts it back. A push that was at work when it vanished may have made directories in its place; it knows that, and
    /// does not answer for what it has put there.
    pub fn come_back(&self) {
        while let Err(error) = fs::rename(&self.away, &self.path) {
            assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    /// Where the archive keeps the WAL file `name` of a system.
    pub fn file(&self, system_identifier: u64, name: &str) -> PathBuf {
        let system = self.path.join(system_identifier.to_string());
        match name.rsplit_once('.') {
            Some((_, "history")) => system.join("timelines").join(name),
            Some((_, "backup")) => system.join("backups").join(name),
            _ => system.join("wal").join(&name[..16]).join(name),
        }
    }

    /// The names of the files in one of a system's directories, sorted; empty when there is no such directory.
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
