//! Walk through the directory of a cluster. Not `object_store`'s listing, which leaves out staging files and reads
//! more than needed.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;

use jiff::Timestamp;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::Local;
use super::below::Below;
use super::fresh::read_dir;
use super::rights::failed_for_good;
use crate::archive::failure::Asked;
use crate::archive::inventory::OtherFile;
use crate::archive::key::{DIRECTORIES, Kind, classify};
use crate::archive::remove::stopped_deleting;
use crate::archive::summary::Gather;
use crate::blocking::{blocking, step};
use crate::error::Error;
use crate::wal::SystemIdentifier;
use object_store::path::Path as Key;

impl Local {
    /// Lists all files of a cluster. Files that appear or disappear during the walk may be missing. An unreadable
    /// file or directory is an error.
    pub(in crate::archive) async fn gather<G: Gather>(
        &self,
        system: SystemIdentifier,
        gathered: G,
    ) -> Result<G, Error> {
        let directory = self.directory.clone();
        blocking(move || {
            let path = directory.directory_of(system)?;
            let mut walk = Walk { system, gathered };
            match walk.directory(&path, &system.to_string(), 0) {
                Ok(_) => Ok(walk.gathered),
                Err((path, error)) => Err(failed_for_good(
                    format!("cannot look at {}", path.display()),
                    &path,
                    Asked::List,
                    error,
                )),
            }
        })
        .await
    }

    /// Deletes files in the given order until `stop` is cancelled. Calls `gone` with the index of each file right
    /// after its deletion. A file that no longer exists counts as deleted.
    pub(in crate::archive) async fn delete(
        &self,
        keys: Vec<Key>,
        stop: &CancellationToken,
        gone: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        let paths = keys.iter().map(|key| self.path(key)).collect::<Result<Vec<_>, _>>()?;
        delete_paths(self.root(), paths, stop, gone).await
    }

    pub(in crate::archive) async fn delete_files(
        &self,
        files: &[OtherFile],
        stop: &CancellationToken,
        gone: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        delete_paths(self.root(), self.paths_of(files), stop, gone).await
    }

    /// Removes directories that are still empty, and calls `gone` with the index of each one removed.
    pub(in crate::archive) async fn remove_empty(
        &self,
        directories: &[OtherFile],
        gone: &mut impl FnMut(usize),
    ) {
        let paths = self.paths_of(directories);
        let mut opened = Opened::below(self.root());
        // A directory that is no longer empty stays.
        let removed = blocking(move || {
            let mut remove = |path: &Path| opened.change(path, Below::remove_directory).is_ok();
            let removed = paths.iter().enumerate().filter(|(_, path)| remove(path));
            removed.map(|(index, _)| index).collect::<Vec<_>>()
        })
        .await;
        removed.into_iter().for_each(gone);
    }

    /// The keys come from a walk, so they are paths below the root.
    fn paths_of(&self, files: &[OtherFile]) -> Vec<PathBuf> {
        files.iter().map(|file| self.directory.root().join(&file.key)).collect()
    }
}

/// The directory in which a file was changed last.
struct Opened {
    root: PathBuf,
    last: Option<(PathBuf, Below)>,
}

impl Opened {
    fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), last: None }
    }

    /// Runs `change` on the directory and the name of a file.
    fn change(&mut self, path: &Path, change: fn(&Below, &Path) -> io::Result<()>) -> io::Result<()> {
        let (parent, name) = (path.parent().unwrap_or(&self.root), path.file_name().unwrap_or_default());
        let (_, directory) = match self.last.take().filter(|(last, _)| last == parent) {
            Some(last) => self.last.insert(last),
            None => self.last.insert((parent.to_owned(), Below::open(&self.root, parent)?)),
        };
        change(directory, Path::new(name))
    }
}

async fn delete_paths(
    root: &Path,
    paths: Vec<PathBuf>,
    stop: &CancellationToken,
    gone: &mut impl FnMut(usize),
) -> Result<(), Error> {
    let (sender, mut heard) = unbounded_channel();
    let stop = stop.child_token();
    // No further file is deleted once nobody receives its index.
    let _ending = stop.clone().drop_guard();
    let mut opened = Opened::below(root);
    let mut deleting = pin!(blocking(move || {
        for (index, path) in paths.into_iter().enumerate() {
            if stop.is_cancelled() {
                return Err(stopped_deleting());
            }
            step();
            match opened.change(&path, Below::remove) {
                Ok(()) => drop(sender.send(index)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!("cannot delete {}", path.display());
                    return Err(failed_for_good(what, &path, Asked::Delete, error));
                }
            }
        }
        Ok(())
    }));
    loop {
        tokio::select! {
            biased;
            Some(index) = heard.recv() => gone(index),
            outcome = &mut deleting => {
                while let Ok(index) = heard.try_recv() {
                    gone(index);
                }
                return outcome;
            }
        }
    }
}

/// An error with the path.
type Failed = (PathBuf, io::Error);

struct Walk<G> {
    system: SystemIdentifier,
    gathered: G,
}

impl<G: Gather> Walk<G> {
    /// Walks through a directory and returns the number of its entries. `depth` counts from the directory of the
    /// cluster.
    fn directory(&mut self, path: &Path, key: &str, depth: usize) -> Result<usize, Failed> {
        let at = |error| (path.to_owned(), error);
        let entries = match read_dir(path) {
            Ok(entries) => entries,
            // Another prune has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return Ok(1),
            Err(error) => return Err(at(error)),
        };
        let mut number = 0;
        for entry in entries {
            step();
            number += 1;
            self.entry(&entry.map_err(at)?, key, depth)?;
        }
        Ok(number)
    }

    fn entry(&mut self, entry: &DirEntry, above: &str, depth: usize) -> Result<(), Failed> {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let key = format!("{above}/{name}");
        let path = entry.path();
        // A symbolic link points to where somebody has moved files.
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(error) => {
                let is_gone = error.kind() == io::ErrorKind::NotFound;
                match fs::symlink_metadata(&path) {
                    Err(_) if is_gone => return Ok(()),
                    // No name of an archive's: it hides nothing.
                    _ if !is_needed(self.system, &name, above, depth) => {
                        let since = Timestamp::MAX;
                        self.gathered.unknown(OtherFile { key, since, size: 0 });
                        return Ok(());
                    }
                    Ok(_) if is_gone => {
                        return Err((path, io::Error::other("it is a symbolic link that leads nowhere")));
                    }
                    _ => return Err((path, error)),
                }
            }
        };
        let since =
            found.modified().ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::MAX);
        if found.is_file() {
            self.gathered.file(self.system, &key, since, found.len());
        } else if found.is_dir() && holds_files(&name, above, depth) {
            let is_empty = match self.directory(&path, &key, depth + 1) {
                // Nothing depends on the reports, and who wants to read one says what is wrong.
                Err((path, error)) if depth == 0 && name == "reports" => {
                    tracing::debug!("passes over {}: {error}", path.display());
                    false
                }
                number => number? == 0,
            };
            if is_empty && depth > 0 {
                self.gathered.empty(OtherFile { key, since, size: 0 });
            }
        } else {
            self.gathered.unknown(OtherFile { key, since, size: found.len() });
        }
        Ok(())
    }
}

/// Returns `true` if walkeep has files in a directory of that name.
fn holds_files(name: &str, above: &str, depth: usize) -> bool {
    match depth {
        0 => DIRECTORIES.contains(&name),
        1 => {
            above.ends_with("/wal") && name.len() == 16 && name.bytes().all(|digit| digit.is_ascii_hexdigit())
        }
        _ => false,
    }
}

/// Returns `true` for a name under which there may be archived files.
fn is_needed(system: SystemIdentifier, name: &str, above: &str, depth: usize) -> bool {
    holds_files(name, above, depth) || classify(system, &format!("{above}/{name}")) != Kind::Unknown
}
