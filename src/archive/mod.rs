//! An archive: one place that keeps the WAL of any number of clusters, each file under the key its name gives it.
//!
//! What is promised here: [`Archive::create`] returns after the file, its name and the directories above it are
//! durable, and never replaces anything; [`Archive::fetch`] says "absent" only when the place itself said so.
//!
//! A place is a directory (`local`) or a part of a bucket (`store`).

mod clock;
mod content;
mod failure;
mod inventory;
mod key;
mod local;
mod name;
mod probe;
mod remove;
mod report;
mod retry;
mod still;
mod store;
mod surroundings;
mod url;

use std::fs::File;
use std::io::Read;

use jiff::SignedDuration;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio_util::sync::DropGuard;

use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::Content;
use crate::limit::TimeLimit;
use crate::wal::SystemIdentifier;

pub use clock::{MUCH_SKEW, clock_difference};
use failure::{Asked, Failure};
pub use inventory::{ArchivedFile, Inventory, OtherFile, SegmentGroups, TextFiles};
use local::Local;
pub use name::{ArchivedName, Mismatch};
pub use probe::{Conditions, Probe};
pub use report::Report;
pub use retry::retry;
pub use still::StoredFile;
use store::Store;
pub use store::{ConditionalPut, StoreOptions};
pub use surroundings::Surroundings;
pub use url::{ArchiveUrl, ArchiveUrlError, Provider, StoreUrl};

/// Where an archive is, and what is demanded of the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// The place.
    pub url: ArchiveUrl,
    /// Insist that a directory is a mount point.
    pub require_mount: bool,
    /// How an object store is reached.
    pub store: StoreOptions,
}

impl ArchiveOptions {
    /// Everything that decides where files go, as a text that changes when any of it does.
    pub fn place(&self) -> Result<String, Error> {
        match &self.url {
            ArchiveUrl::Directory(path) => local::place(path),
            ArchiveUrl::Store(url) => Store::place(url, &self.store),
        }
    }
}

/// An archive that has been found where it should be, or a store that is ready to be asked.
#[derive(Debug, Clone)]
pub struct Archive {
    url: ArchiveUrl,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Local(Local),
    Store(Box<Store>),
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
    /// Its bytes. Not to be read on a thread that runs asynchronous work.
    pub reader: Box<dyn Read + Send>,
    /// How many there are.
    pub stored_size: u64,
    /// Where it is, for messages.
    pub location: String,
    /// Ends the reading when it is dropped, also while it waits. Stays with whoever waits for the reader.
    pub transfer: Option<DropGuard>,
}

impl Archive {
    /// Looks for the directory where the options say, or prepares to ask the store.
    pub async fn open(options: &ArchiveOptions) -> Result<Self, Error> {
        let options = options.clone();
        blocking(move || {
            let place = match &options.url {
                ArchiveUrl::Directory(path) => Place::Local(Local::open(path, options.require_mount)?),
                ArchiveUrl::Store(url) => Place::Store(Box::new(Store::open(url, &options.store)?)),
            };
            Ok(Self { url: options.url, place })
        })
        .await
    }

    /// Waits no longer for something to move than the call of that limit will, which may lose patience at any time. What is
    /// done in a directory cannot be watched from here.
    pub fn heed(&self, limit: &TimeLimit) {
        match &self.place {
            Place::Local(_) => {}
            Place::Store(store) => store.heed(limit),
        }
    }

    /// Whether something has the name `name` already, as far as that shows before a file is created. A directory is looked
    /// at, because one that is full or read-only cannot be told by creating; creating still has the last word. A store is
    /// asked unless creating tells. To be called while the file is being prepared: with a store, it makes the connection.
    pub async fn is_taken(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
    ) -> Result<bool, Error> {
        let key = key::key(system, name.into());
        match &self.place {
            Place::Local(local) => Ok(local.is_taken(&key).await),
            Place::Store(store) => store.is_taken(&key).await,
        }
    }

    /// Creates the file `name`, unless something has that name already.
    pub async fn create(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
        content: Content<File>,
    ) -> Result<Created, Error> {
        let key = key::key(system, name.into());
        match &self.place {
            Place::Local(local) => local.create(&key, content).await,
            Place::Store(store) => store.create(&key, content).await,
        }
    }

    /// Makes sure that a file which is there already would survive a power cut, as one that was created would. Whether it is
    /// there still.
    pub async fn make_durable(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
    ) -> Result<bool, Error> {
        match &self.place {
            Place::Local(local) => local.make_durable(&key::key(system, name.into())).await,
            // What a store shows, it has made durable.
            Place::Store(_) => Ok(true),
        }
    }

    /// Opens the file `name` for reading; an error of the kind [`ErrorKind::Absent`] is proven.
    pub async fn fetch(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
    ) -> Result<Fetched, Error> {
        let name = name.into();
        let key = key::key(system, name);
        let fetched = match &self.place {
            Place::Local(local) => local.fetch(system, &key).await,
            Place::Store(store) => store.fetch(&key).await,
        };
        fetched.map_err(|error| match error.kind() {
            ErrorKind::Absent => {
                let what = format!("{name} of system {system} is not in the archive {}", self.url);
                Error::new(ErrorKind::Absent, what)
            }
            _ => error,
        })
    }

    /// Whether the archive holds the file `name`.
    pub async fn holds(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
    ) -> Result<bool, Error> {
        let key = key::key(system, name.into());
        match self.objects().head(&key).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => match self.failure("cannot ask for", &key, Asked::Look, error) {
                Failure::Error(error) if error.kind() == ErrorKind::Absent => Ok(false),
                failure => Err(failure.into_error()),
            },
        }
    }

    /// Where the archive keeps a file of that name, for messages.
    #[must_use]
    pub fn location(&self, system: SystemIdentifier, name: impl Into<ArchivedName>) -> String {
        format!("{}/{}", self.url, key::key(system, name.into()))
    }

    /// Where the archive is.
    #[must_use]
    pub fn url(&self) -> &ArchiveUrl {
        &self.url
    }

    /// Whether a failure to write may pass by itself within moments, as those of a network do.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Store(_))
    }

    /// Whether a directory is a mount point, while nothing insists that it is one.
    pub async fn is_unguarded_mount(&self) -> bool {
        match &self.place {
            Place::Local(local) => local.is_unguarded_mount().await,
            Place::Store(_) => false,
        }
    }

    /// By how much the clock of a store was ahead of this machine's when it answered last.
    #[must_use]
    pub fn clock_ahead(&self) -> Option<SignedDuration> {
        match &self.place {
            Place::Local(_) => None,
            Place::Store(store) => store.clock_ahead(),
        }
    }

    /// Scheme and host of a store; `None` for a directory.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match &self.place {
            Place::Local(_) => None,
            Place::Store(store) => Some(store.address()),
        }
    }

    /// Whether an encrypted connection is one to a server that has proven who it is.
    #[must_use]
    pub fn verifies_certificate(&self) -> bool {
        match &self.place {
            Place::Local(_) => true,
            Place::Store(store) => store.verifies_certificate(),
        }
    }

    /// What is set about conditional writes, and whether the place is known to honour them.
    #[must_use]
    pub fn conditional_put(&self) -> (ConditionalPut, bool) {
        match &self.place {
            Place::Local(_) => (ConditionalPut::Auto, true),
            Place::Store(store) => store.conditional_put(),
        }
    }

    fn objects(&self) -> &dyn ObjectStore {
        match &self.place {
            Place::Local(local) => local.objects(),
            Place::Store(store) => store.objects(),
        }
    }

    /// What a failure means; `attempted` is followed by the key's place.
    fn failure(&self, attempted: &str, key: &Key, asked: Asked, error: object_store::Error) -> Failure {
        match &self.place {
            Place::Local(_) => Local::failure(format!("{attempted} {}/{key}", self.url), asked, error),
            Place::Store(store) => {
                store.failure(format!("{attempted} {}", store.location(key)), asked, &error)
            }
        }
    }
}
