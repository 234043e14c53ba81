//! An archive in a directory of this machine or of a mounted file system.
//!
//! `object_store` stages, flushes and publishes what is in memory, and [`staging`] what is not; what they leave to their
//! caller is in [`directory`].

mod directory;
mod fresh;
mod staging;
mod surroundings;
mod walk;

use std::error::Error as StdError;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetResultPayload, ObjectStore, PutMode, PutPayload};
use rustix::io::Errno;

use crate::archive::failure::Failure;
use crate::archive::{Created, Fetched};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, chain};
use crate::frame::Content;
use crate::wal::SystemIdentifier;
use directory::Directory;

/// An archive directory that has been found where it should be.
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
            Error::new(ErrorKind::Unavailable, what).because(error)
        })?;
        Ok(Self { directory, store: Arc::new(store.with_fsync(true)) })
    }

    /// Where it is, free of symbolic links.
    pub(super) fn root(&self) -> &Path {
        self.directory.root()
    }

    /// Whether there is a file of that name, as far as that shows. If it does not, creating one tells.
    pub(super) async fn is_taken(&self, key: &Key) -> bool {
        let (root, key) = (self.root().to_owned(), key.clone());
        blocking(move || matches!(open_file(&root, &key), Ok(Some(_)))).await
    }

    /// Creates the file durably, and the directories above it.
    pub(super) async fn create(&self, key: &Key, content: Content<File>) -> Result<Created, Error> {
        let path = self.path(key)?;
        let what = format!("cannot archive {}", path.display());
        let directory = self.directory.clone();
        let prepared = blocking(move || directory.prepare(&path).map(|()| path)).await;
        let path = prepared.map_err(|error| failed(what.clone(), error))?;
        let created = match content {
            Content::Memory(chunks) => {
                match self.store.put_opts(key, PutPayload::from_iter(chunks), PutMode::Create.into()).await {
                    Ok(_) => Created::New,
                    Err(object_store::Error::AlreadyExists { .. }) => Created::Exists,
                    Err(error) => return Err(failed(what, error)),
                }
            }
            Content::Overflow { head, file, bytes } => {
                match staging::publish(path, head, file, bytes).await {
                    Ok(()) => Created::New,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Created::Exists,
                    Err(error) => return Err(failed(what, error)),
                }
            }
        };
        // The library makes directories that are missing, the archive's own among them.
        let directory = self.directory.clone();
        blocking(move || directory.check_root()).await.map_err(|error| failed(what, error))?;
        Ok(created)
    }

    pub(super) async fn is_unguarded_mount(&self) -> bool {
        let directory = self.directory.clone();
        blocking(move || directory.is_unguarded_mount()).await
    }

    /// Has the listing that follows show what is there, and not what was seen before.
    pub(super) async fn prepare_listing(&self, directory: Option<&Key>) {
        let root = self.directory.root().to_owned();
        let directory = directory.map_or_else(|| root.clone(), |key| root.join(key.as_ref()));
        blocking(move || fresh::compare_down_to(&root, &directory)).await;
    }

    /// Makes the directory of reports, where there is one of the system: made here, that would pass for an archive which
    /// may be elsewhere, and not be mounted.
    pub(super) async fn prepare_reports(&self, system: SystemIdentifier) -> Result<(), Error> {
        let directory = self.directory.root().join(format!("{system}/reports"));
        let what = format!("cannot make {}", directory.display());
        blocking(move || match std::fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(what, error)),
            _ => Ok(()),
        })
        .await
    }

    /// Flushes a file that another call has put there, as if this one had.
    pub(super) async fn make_durable(&self, key: &Key) -> Result<(), Error> {
        let (directory, path) = (self.directory.clone(), self.path(key)?);
        let what = format!("cannot flush {} to disk", path.display());
        blocking(move || directory.make_durable(&path))
            .await
            .map_err(|error| Error::new(ErrorKind::Unavailable, what).because(error))
    }

    pub(super) async fn fetch(&self, system: SystemIdentifier, key: &Key) -> Result<Fetched, Error> {
        let path = self.path(key)?;
        let what = |failed: &str| format!("{failed} {}", path.display());
        let mut found = self.store.get_opts(key, GetOptions::default()).await;
        if let Err(object_store::Error::NotFound { .. }) = found {
            let (directory, path) = (self.directory.clone(), path.clone());
            if blocking(move || directory.confirm_absent(system, &path)).await? {
                return Err(Error::new(ErrorKind::Absent, what("there is no")));
            }
            found = self.store.get_opts(key, GetOptions::default()).await;
        }
        match found {
            Ok(found) => {
                let stored_size = found.meta.size;
                match found.payload {
                    GetResultPayload::File(file, path) => Ok(Fetched {
                        reader: Box::new(file),
                        stored_size,
                        location: path.display().to_string(),
                        transfer: None,
                    }),
                    GetResultPayload::Stream(_) => {
                        Err(Error::new(ErrorKind::Unavailable, what("not a file:")))
                    }
                }
            }
            Err(error) => Err(Error::new(ErrorKind::Unavailable, what("cannot fetch")).because(error)),
        }
    }

    pub(super) fn objects(&self) -> &dyn ObjectStore {
        &*self.store
    }

    /// What a failure means; `what` says what was attempted.
    pub(super) fn failure(what: String, error: object_store::Error) -> Failure {
        if matches!(error, object_store::Error::AlreadyExists { .. }) {
            return Failure::Taken;
        }
        Failure::Error(looked_in_vain(what, error))
    }

    fn path(&self, key: &Key) -> Result<PathBuf, Error> {
        self.store.path_to_filesystem(key).map_err(|error| {
            let what = format!("the archive {} cannot hold {key}", self.directory.root().display());
            Error::new(ErrorKind::Configuration, what).because(error)
        })
    }
}

/// The directory itself: another one may be mounted over the same path.
pub(super) fn place(path: &Path) -> Result<String, Error> {
    let cannot_look = |error| failed(format!("cannot look at {}", path.display()), error);
    let (device, inode) = directory::identity(path).map_err(cannot_look)?;
    Ok(format!("directory {device} {inode} {}", path.display()))
}

/// The directory in `path`, which has to be there, free of symbolic links.
pub(super) fn root(path: &Path, require_mount: bool) -> Result<PathBuf, Error> {
    Directory::open(path, require_mount).map(|directory| directory.root().to_owned())
}

/// Opens a file; `None` where none can be found. Both are as another machine has left it: a client of NFS 4 opens by what it
/// remembers a file that was moved away.
pub(super) fn open_file(root: &Path, key: &Key) -> io::Result<Option<File>> {
    let path = root.join(key.as_ref());
    if let Some(directory) = path.parent() {
        fresh::compare_down_to(root, directory);
    }
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(what: String, error: impl StdError + Send + Sync + 'static) -> Error {
    let hint = hint_for(&error);
    let failure = Error::new(ErrorKind::Unavailable, what).because(error);
    if let Some(hint) = hint { failure.hint(hint) } else { failure }
}

/// A look that failed. One that is not permitted will not be by itself.
fn looked_in_vain(what: String, error: impl StdError + Send + Sync + 'static) -> Error {
    let cause = chain(&error).find_map(|error| error.downcast_ref::<io::Error>());
    let denied = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
    if denied {
        let hint = "the user that runs the server owns the archive: run this as that user";
        Error::new(ErrorKind::Local, what).because(error).hint(hint)
    } else {
        failed(what, error)
    }
}

/// What a person can do about a file that could not be created.
fn hint_for(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let cause = chain(error).find_map(|error| error.downcast_ref::<io::Error>())?;
    match Errno::from_io_error(cause)? {
        Errno::NOSPC | Errno::DQUOT => Some("free some space there"),
        Errno::ROFS => Some("the file system is mounted read-only"),
        Errno::ACCESS => Some("the user that runs the server must be able to write there"),
        Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS => Some(
            "walkeep publishes a file by a hard link, which never replaces anything; this file system seems to \
             have none, so choose another one",
        ),
        _ => None,
    }
}
