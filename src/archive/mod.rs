//! An archive: one place that keeps the WAL of any number of clusters, each file under the key its name gives it.
//!
//! What is promised here: [`Archive::create`] returns after the file, its name and the directories above it are
//! durable, and never replaces anything; [`Archive::fetch`] says "absent" only when the place itself said so.

mod key;
mod local;
mod retry;
mod url;

use std::error::Error as StdError;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::{GetOptions, GetResultPayload, ObjectStore, PutMode, PutPayload};
use rustix::io::Errno;

use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::wal::{SystemIdentifier, WalName};

pub use retry::retry;
pub use url::{ArchiveUrl, ArchiveUrlError};

/// Where an archive is, and what is demanded of the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// The place.
    pub url: ArchiveUrl,
    /// Insist that a directory is a mount point.
    pub require_mount: bool,
}

/// An archive that has been found where it should be.
#[derive(Debug, Clone)]
pub struct Archive {
    url: ArchiveUrl,
    directory: local::Directory,
    store: Arc<LocalFileSystem>,
}

/// What became of a file that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there, durably.
    New,
    /// Something was there under that name, and was left as it is.
    Exists,
}

/// An archived file that is being read.
pub struct Fetched {
    /// Its bytes.
    pub reader: Box<dyn Read + Send>,
    /// How many there are.
    pub stored_size: u64,
    /// Where it is, for messages.
    pub location: String,
}

impl Archive {
    /// Looks for the archive where the options say.
    pub async fn open(options: &ArchiveOptions) -> Result<Self, Error> {
        let ArchiveOptions { url, require_mount } = options.clone();
        blocking(move || {
            let ArchiveUrl::Directory(path) = &url;
            let directory = local::Directory::open(path, require_mount)?;
            let store = LocalFileSystem::new_with_prefix(directory.root()).map_err(|error| {
                Error::new(ErrorKind::Unavailable, format!("cannot open the archive {url}")).because(error)
            })?;
            Ok(Self { url, directory, store: Arc::new(store.with_fsync(true)) })
        })
        .await
    }

    /// Creates the file `name` of `chunks`, unless something has that name already.
    pub async fn create(
        &self,
        system: SystemIdentifier,
        name: WalName,
        chunks: Vec<Bytes>,
    ) -> Result<Created, Error> {
        let failed = |error: Box<dyn StdError + Send + Sync>| {
            let hint = hint_for(&*error);
            let failure =
                Error::new(ErrorKind::Unavailable, format!("cannot archive {name} in {}", self.url));
            let failure = failure.because(error);
            if let Some(hint) = hint { failure.hint(hint) } else { failure }
        };
        let (directory, path) = (self.directory.clone(), self.path(system, name)?);
        blocking(move || directory.prepare(&path)).await.map_err(|error| failed(error.into()))?;
        let payload = PutPayload::from_iter(chunks);
        match self.store.put_opts(&key::key(system, name), payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Exists),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Makes sure that a file which is there already would survive a power cut, as one that was created would.
    pub async fn make_durable(&self, system: SystemIdentifier, name: WalName) -> Result<(), Error> {
        let (directory, path) = (self.directory.clone(), self.path(system, name)?);
        blocking(move || directory.make_durable(&path)).await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("cannot flush {name} in {} to disk", self.url))
                .because(error)
        })
    }

    /// Opens the file `name` for reading; an error of the kind [`ErrorKind::Absent`] is proven.
    pub async fn fetch(&self, system: SystemIdentifier, name: WalName) -> Result<Fetched, Error> {
        let path = self.path(system, name)?;
        match self.store.get_opts(&key::key(system, name), GetOptions::default()).await {
            Ok(found) => {
                let stored_size = found.meta.size;
                let GetResultPayload::File(file, path) = found.payload else {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        format!("{} is not a file", path.display()),
                    ));
                };
                Ok(Fetched { reader: Box::new(file), stored_size, location: path.display().to_string() })
            }
            Err(object_store::Error::NotFound { .. }) => {
                let directory = self.directory.clone();
                blocking(move || directory.confirm_absent(system, &path)).await?;
                let what = format!("{name} of system {system} is not in the archive {}", self.url);
                Err(Error::new(ErrorKind::Absent, what))
            }
            Err(error) => {
                let what = format!("cannot fetch {name} from the archive {}", self.url);
                Err(Error::new(ErrorKind::Unavailable, what).because(error))
            }
        }
    }

    /// The systems whose files the archive holds, in ascending order.
    pub async fn systems(&self) -> Result<Vec<SystemIdentifier>, Error> {
        let listing = self.store.list_with_delimiter(None).await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("cannot list the archive {}", self.url)).because(error)
        })?;
        let names = listing.common_prefixes.iter().filter_map(|prefix| prefix.filename()?.parse().ok());
        let mut systems: Vec<SystemIdentifier> = names.collect();
        systems.sort_unstable();
        Ok(systems)
    }

    /// Where the archive is.
    #[must_use]
    pub fn url(&self) -> &ArchiveUrl {
        &self.url
    }

    fn path(&self, system: SystemIdentifier, name: WalName) -> Result<PathBuf, Error> {
        self.store.path_to_filesystem(&key::key(system, name)).map_err(|error| {
            Error::new(ErrorKind::Configuration, format!("the archive {} cannot hold {name}", self.url))
                .because(error)
        })
    }
}

/// What a person can do about a file that could not be created.
fn hint_for(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    let cause = causes.find_map(|error| error.downcast_ref::<io::Error>())?;
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
