//! An archive in a local directory or on a mounted file system.
//!
//! [`staging`] writes and publishes archived files; `object_store` reads, lists and deletes, and replaces reports.
//! [`directory`] contains the checks that both leave to their caller.

mod below;
mod directory;
mod fresh;
mod links;
mod listing;
mod naming;
mod rights;
mod staging;
mod surroundings;
mod walk;
mod ways;
mod writable;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use rustix::io::Errno;

use crate::archive::failure::{Asked, RequestFailure};
use crate::archive::{Created, Fetched};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, chain};
use crate::frame::Content;
use crate::wal::SystemIdentifier;
use crate::whole_file::{is_not_regular, open_regular, open_with_metadata};
use directory::Directory;
pub use links::LinkedDirectory;
pub use naming::Way;
use rights::{failed, failed_for_good, plain};
pub use ways::Abilities;
pub use writable::DeniedDirectory;

/// An archive directory that was found and checked.
#[derive(Debug, Clone)]
pub(super) struct Local {
    directory: Directory,
    store: Arc<LocalFileSystem>,
}

impl Local {
    pub(super) fn open(path: &Path, require_mount: bool) -> Result<Self, Error> {
        let directory = Directory::open(path, require_mount)?;
        let store = LocalFileSystem::new_with_prefix(directory.root()).map_err(|error| {
            let what = format!("cannot open the archive {}", path.display());
            Error::new(ErrorKind::Unavailable, what).because(plain(error))
        })?;
        Ok(Self { directory, store: Arc::new(store.with_fsync(true)) })
    }

    /// Returns the path without symbolic links.
    pub(super) fn root(&self) -> &Path {
        self.directory.root()
    }

    /// Returns `true` if that name is visible; `false` proves nothing, and only creating it gives certainty.
    pub(super) async fn is_known_taken(&self, key: &Key) -> bool {
        let (root, key) = (self.root().to_owned(), key.clone());
        blocking(move || match open_file(&root, &key) {
            Ok(found) => found.is_some(),
            Err(error) => is_not_regular(&error),
        })
        .await
    }

    /// Returns `true` if a file of that name exists.
    pub(super) async fn holds(&self, key: &Key) -> Result<bool, Error> {
        let path = self.path(key)?;
        let found = {
            let path = path.clone();
            blocking(move || std::fs::metadata(path)).await
        };
        match found {
            Ok(found) => Ok(found.is_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let what = format!("cannot ask for {}", path.display());
                Err(failed_for_good(what, &path, Asked::Look, error))
            }
        }
    }

    /// Returns `true` if a file of that name is visible and denies this user to read it.
    pub(super) async fn denies(&self, key: &Key) -> bool {
        let path = self.root().join(key.as_ref());
        blocking(move || {
            let is_file = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
            is_file && open_regular(&path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        })
        .await
    }

    /// Creates the file and the directories above it, durably.
    pub(super) async fn create(&self, key: &Key, content: Content<File>) -> Result<Created, Error> {
        let path = self.path(key)?;
        let cannot = || format!("cannot archive {}", path.display());
        let created = despite_sweepers(async || self.stage_and_publish(&path, content.clone()).await).await?;
        // It may have been unmounted in between.
        let directory = self.directory.clone();
        let checked = blocking(move || directory.check_root()).await;
        checked.map_err(|error| failed(cannot(), &path, Asked::Create, error))?;
        Ok(created)
    }

    async fn stage_and_publish(&self, path: &Path, content: Content<File>) -> Result<Created, Error> {
        let cannot = || format!("cannot archive {}", path.display());
        let (directory, file) = (self.directory.clone(), path.to_owned());
        let prepared = blocking(move || directory.prepare(&file)).await;
        let directory = prepared.map_err(|error| failed(cannot(), path, Asked::Create, error))?;
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        match staging::publish(directory, name, content).await {
            Ok(()) => Ok(Created::New),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Created::Exists),
            Err(error) => Err(failed(cannot(), path, Asked::Create, error)),
        }
    }

    pub(super) async fn is_unguarded_mount(&self) -> bool {
        let directory = self.directory.clone();
        blocking(move || directory.is_unguarded_mount()).await
    }

    /// Reads a report, and `most` bytes of it at most; `None` if it does not exist.
    pub(super) async fn read_report(&self, key: &Key, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(key)?;
        let what = format!("cannot read {}", path.display());
        let file = path.clone();
        let read = blocking(move || {
            let mut bytes = Vec::new();
            open_regular(&file)?.take(most).read_to_end(&mut bytes).map(|_| bytes)
        });
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Another attempt would find the same, as of a link in a circle.
            Err(error) if is_not_regular(&error) || Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                Err(Error::new(ErrorKind::Damaged, what).because(error))
            }
            Err(error) => Err(failed_for_good(what, &path, Asked::Read, error)),
        }
    }

    /// Replaces a report. Creates the directory of reports if the cluster has a directory.
    pub(super) async fn write_report(
        &self,
        system: SystemIdentifier,
        key: &Key,
        text: String,
    ) -> Result<(), Error> {
        let (directory, path) = (self.directory.clone(), self.path(key)?);
        let what = format!("cannot write {}", path.display());
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        let written =
            blocking(move || staging::replace(&directory.prepare_reports(system)?, &name, text.as_bytes()));
        written.await.map_err(|error| failed_for_good(what, &path, Asked::Write, error))
    }

    /// Flushes a file that another call created. Returns `false` if it no longer exists.
    pub(super) async fn make_durable(&self, key: &Key) -> Result<bool, Error> {
        let (directory, path) = (self.directory.clone(), self.path(key)?);
        let what = format!("cannot flush {} to disk", path.display());
        let file = path.clone();
        match blocking(move || directory.make_durable(&file)).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(what, &path, Asked::Read, error)),
        }
    }

    pub(super) async fn fetch(&self, system: SystemIdentifier, key: &Key) -> Result<Fetched, Error> {
        let path = self.path(key)?;
        let what = |failed: &str| format!("{failed} {}", path.display());
        // Not `object_store`'s, which waits for somebody who writes into a pipe.
        let open = async || {
            let path = path.clone();
            blocking(move || open_with_metadata(&path)).await
        };
        let mut opened = open().await;
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let (directory, path) = (self.directory.clone(), path.clone());
            if blocking(move || directory.confirm_absent(system, &path)).await? {
                return Err(Error::new(ErrorKind::Absent, what("there is no")));
            }
            opened = open().await;
        }
        match opened {
            Ok((file, found)) => Ok(Fetched {
                reader: Box::new(file),
                stored_size: found.len(),
                location: path.display().to_string(),
                transfer: None,
            }),
            Err(error) if is_not_regular(&error) => {
                Err(Error::new(ErrorKind::Damaged, what("cannot use")).because(error).hint(MOVE_IT_AWAY))
            }
            Err(error) => Err(failed(what("cannot fetch"), &path, Asked::Read, error)),
        }
    }

    pub(super) fn objects(&self) -> &dyn ObjectStore {
        &*self.store
    }

    /// Returns the meaning of a failure; `what` names the attempted action.
    pub(super) fn failure(
        &self,
        what: String,
        key: &Key,
        asked: Asked,
        error: object_store::Error,
    ) -> RequestFailure {
        if matches!(error, object_store::Error::AlreadyExists { .. }) {
            return RequestFailure::Taken;
        }
        let path = self.root().join(key.as_ref());
        RequestFailure::Error(failed_for_good(what, &path, asked, error))
    }

    fn path(&self, key: &Key) -> Result<PathBuf, Error> {
        self.store.path_to_filesystem(key).map_err(|error| {
            let what = format!("the archive {} cannot hold {key}", self.directory.root().display());
            Error::new(ErrorKind::Configuration, what).because(plain(error))
        })
    }
}

/// Advice for what is under a file's name and is none.
const MOVE_IT_AWAY: &str = "move it away, and put the file back: see \"A damaged file\" in guide/damage.md";

/// Maximum number of attempts to stage a file.
const TRIES: usize = 3;

/// Retries staging and publishing a file if its staging file or directory disappears in between: with a wrong clock,
/// a prune may take either for a leftover of the day before.
pub(super) async fn despite_sweepers<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    for _ in 1..TRIES {
        match attempt().await {
            Err(error) if is_about_nothing(&error) => {
                tracing::debug!("{}; trying again, as somebody may have swept it away", error.report());
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

fn is_about_nothing(error: &Error) -> bool {
    let mut causes = chain(error).filter_map(|error| error.downcast_ref::<io::Error>());
    // On NFS, a handle may outlive its file.
    let about_nothing = [io::ErrorKind::NotFound, io::ErrorKind::StaleNetworkFileHandle];
    causes.any(|cause| about_nothing.contains(&cause.kind()))
}

/// Returns an identity of the directory, because another file system may be mounted on the same path.
pub(super) fn identity(path: &Path) -> Result<String, Error> {
    let cannot_look = |error| failed(format!("cannot look at {}", path.display()), path, Asked::Look, error);
    let (device, inode) = directory::identity(path).map_err(cannot_look)?;
    Ok(format!("directory {device} {inode} {}", path.display()))
}

/// Returns the existing directory `path` without symbolic links.
pub(super) fn root(path: &Path, require_mount: bool) -> Result<PathBuf, Error> {
    Directory::open(path, require_mount).map(|directory| directory.root().to_owned())
}

/// Opens a file; `None` if it does not exist. Bypasses caches: an NFS 4 client can open a file from memory that was
/// moved away.
pub(super) fn open_file(root: &Path, key: &Key) -> io::Result<Option<(File, Metadata)>> {
    let path = root.join(key.as_ref());
    if let Some(directory) = path.parent() {
        fresh::compare_down_to(root, directory);
    }
    match open_with_metadata(&path) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes with a staging file or directory that disappears `times` times; returns success and the number of
    /// attempts.
    fn swept(times: usize, kind: io::ErrorKind) -> (bool, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut tries = 0;
        let outcome = runtime.block_on(despite_sweepers(async || {
            tries += 1;
            if tries > times {
                return Ok(());
            }
            // Wrapped as `object_store` does it.
            let source = Box::new(io::Error::from(kind));
            let error = object_store::Error::Generic { store: "LocalFileSystem", source };
            Err(failed("cannot archive x".to_owned(), Path::new("x"), Asked::Create, error))
        }));
        (outcome.is_ok(), tries)
    }

    #[test]
    fn a_name_that_no_directory_can_hold_is_refused_without_the_librarys_words() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::open(directory.path(), false).unwrap();
        let error = local.path(&Key::parse("a/x#1").unwrap()).unwrap_err().report();
        assert!(error.contains("cannot hold a/x") && !error.contains("Generic"), "{error}");
    }

    #[test]
    fn only_a_vanished_staging_file_is_staged_again() {
        assert_eq!(swept(0, io::ErrorKind::NotFound), (true, 1));
        assert_eq!(swept(1, io::ErrorKind::NotFound), (true, 2));
        assert_eq!(swept(9, io::ErrorKind::NotFound), (false, TRIES));
        for other in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied] {
            assert_eq!(swept(9, other), (false, 1), "{other:?}");
        }
    }
}
