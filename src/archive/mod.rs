//! An archive: a directory or a part of a bucket that contains the WAL of any number of clusters, each file under a
//! key derived from its name.
//!
//! [`Archive::create`] returns once the file, its name and the directories above it are durable, and never replaces a
//! file. [`Archive::fetch`] reports a file as absent only if the directory or store itself proved it.
//!
//! The module `local` implements directories, `store` object stores, and [`memory`] and [`canned`] stores for tests.

mod clock;
mod content;
mod failure;
mod held;
mod inventory;
mod key;
mod local;
mod name;
mod place;
mod probe;
mod remove;
mod report;
mod same;
mod still;
mod store;
mod summary;
mod surroundings;
mod url;
mod versioning;
mod which;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::SignedDuration;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio_util::sync::DropGuard;

use crate::blocking::{Steady, blocking, step};
use crate::error::{Error, ErrorKind};
use crate::frame::Content;
use crate::limit::TimeLimit;
use crate::wal::{SystemIdentifier, SystemNames};

pub use clock::{MUCH_SKEW, clock_difference};
pub use failure::Asked;
use failure::RequestFailure;
pub use held::Held;
pub(crate) use held::some_of;
pub use inventory::{ArchivedFile, Inventory, OtherFile, SegmentGroups, TextFiles};
use local::Local;
pub use local::{Abilities, DeniedDirectory, LinkedDirectory, Way};
pub use name::{ArchivedName, Mismatch};
pub use place::StorePlace;
pub use probe::{Conditions, Probe};
pub use report::Report;
pub use same::Sameness;
pub use still::StoredFile;
use store::Store;
pub(crate) use store::is_store_setting;
pub use store::{ConditionalPut, Objects, StoreOptions, canned, memory};
pub use summary::Summary;
pub use surroundings::Surroundings;
pub use url::{ArchiveUrl, ArchiveUrlError, Provider, StoreUrl};
pub use versioning::{Expiry, Lock, Retained, Versioning};

/// Location of an archive, and requirements on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// URL of the archive.
    pub url: ArchiveUrl,
    /// `true` to require that a directory is a mount point.
    pub require_mount: bool,
    /// Options for an object store.
    pub store: StoreOptions,
    /// Names of clusters, for messages. They change nothing else.
    pub names: SystemNames,
}

impl ArchiveOptions {
    /// Returns the options for an archive of which nothing else is required, and whose clusters have no names.
    #[must_use]
    pub fn new(url: ArchiveUrl, store: StoreOptions) -> Self {
        Self { url, require_mount: false, store, names: SystemNames::default() }
    }

    /// Describes whom the requests to a store go to, and with whose credentials, without a secret. `None` for a directory.
    pub fn contact(&self) -> Result<Option<String>, Error> {
        match &self.url {
            ArchiveUrl::Directory(_) => Ok(None),
            ArchiveUrl::Store(url) => Store::contact(url, &self.store),
        }
    }

    /// Returns a text that identifies the location: it changes with everything that determines where files go.
    pub fn identity(&self) -> Result<String, Error> {
        match &self.url {
            ArchiveUrl::Directory(path) => local::identity(path),
            ArchiveUrl::Store(url) => Store::identity(url, &self.store),
        }
    }
}

/// An open archive: a directory that was found, or a store that is ready for requests.
#[derive(Debug, Clone)]
pub struct Archive {
    url: ArchiveUrl,
    names: SystemNames,
    backend: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    Local(Local),
    Store(Box<Store>),
}

/// Result of creating a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The file was created and is durable.
    New,
    /// The name was taken, and its file left unchanged.
    Exists,
}

/// An archived file, open for reading.
pub struct Fetched {
    /// Content of the archived file. Must not be read on a thread that runs asynchronous tasks.
    pub reader: Box<dyn Read + Send>,
    /// Size of the archived file, in bytes.
    pub stored_size: u64,
    /// Location of the file, for messages.
    pub location: String,
    /// Stops the transfer when dropped, even while a read blocks. Keep it with the code that waits for the reader.
    pub transfer: Option<DropGuard>,
}

impl Archive {
    /// Opens the archive. Checks a directory; a store is not asked anything.
    pub async fn open(options: &ArchiveOptions) -> Result<Self, Error> {
        let options = options.clone();
        blocking(move || Self::find(options)).await
    }

    /// The archive that is all of a store in memory, for tests.
    pub fn in_memory(memory: &memory::Memory) -> Result<Self, Error> {
        Self::find(memory.options())
    }

    fn find(options: ArchiveOptions) -> Result<Self, Error> {
        let backend = match &options.url {
            ArchiveUrl::Directory(path) => Backend::Local(Local::open(path, options.require_mount)?),
            ArchiveUrl::Store(url) => Backend::Store(Box::new(Store::open(url, &options.store)?)),
        };
        Ok(Self { url: options.url, names: options.names, backend })
    }

    /// Limits waits without progress to those of `limit`, which may shrink at any time. Has no effect on a directory.
    pub fn heed(&self, limit: &TimeLimit) {
        match &self.backend {
            Backend::Local(_) => {}
            Backend::Store(store) => store.heed(limit),
        }
    }

    /// Returns `true` if the name is known to be taken; `false` proves nothing.
    ///
    /// A directory is looked at, because creating a file in one that is full or read-only does not report that the
    /// name is taken; creating still decides. A store is asked only if creating does not report it. Call this while
    /// the file is being prepared: with a store, it opens the connection.
    pub async fn is_known_taken(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
    ) -> Result<bool, Error> {
        let key = key::key(system, name.into());
        match &self.backend {
            Backend::Local(local) => Ok(local.is_known_taken(&key).await),
            Backend::Store(store) => store.is_known_taken(&key).await,
        }
    }

    /// Creates the file `name` unless it exists.
    pub async fn create(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
        content: Content<File>,
    ) -> Result<Created, Error> {
        let key = key::key(system, name.into());
        match &self.backend {
            Backend::Local(local) => local.create(&key, content).await,
            // Large, as it has several requests.
            Backend::Store(store) => Box::pin(store.create(&key, content)).await,
        }
    }

    /// Makes an existing file as durable as a created one. Returns `false` if it no longer exists.
    pub async fn make_durable(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
    ) -> Result<bool, Error> {
        match &self.backend {
            Backend::Local(local) => local.make_durable(&key::key(system, name.into())).await,
            // A file that a store shows is durable.
            Backend::Store(_) => Ok(true),
        }
    }

    /// Opens the file `name` for reading. An error of the kind [`ErrorKind::Absent`] is proven.
    pub async fn fetch(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
    ) -> Result<Fetched, Error> {
        let name = name.into();
        let key = key::key(system, name);
        let fetched = match &self.backend {
            Backend::Local(local) => local.fetch(system, &key).await,
            Backend::Store(store) => store.fetch(&key).await,
        };
        let fetched = fetched.map(|fetched| Fetched { reader: Box::new(Steady(fetched.reader)), ..fetched });
        let fetched = fetched.map_err(|error| match error.kind() {
            ErrorKind::Absent => {
                let system = self.names.shown(system);
                let what = format!("{name} of system {system} is not in the archive {}", self.url);
                Error::new(ErrorKind::Absent, what)
            }
            _ => error,
        });
        if held::is_empty(&fetched) {
            return Err(self.holds_nothing_of(system, ErrorKind::Empty).await);
        }
        fetched
    }

    /// Returns `true` if the archive contains the file `name`.
    pub async fn holds(
        &self,
        system: SystemIdentifier,
        name: impl Into<ArchivedName>,
    ) -> Result<bool, Error> {
        let key = key::key(system, name.into());
        if let Backend::Local(local) = &self.backend {
            return local.holds(&key).await;
        }
        let found = self.objects().head(&key).await;
        step();
        match found {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => match self.failure("cannot ask for", &key, Asked::Look, error) {
                RequestFailure::Error(error) if error.kind() == ErrorKind::Absent => Ok(false),
                failure => Err(failure.into_error()),
            },
        }
    }

    /// Returns `true` if this very file of a directory denies this user to read it, while others may not. Says nothing about a
    /// store.
    pub async fn denies(&self, system: SystemIdentifier, name: impl Into<ArchivedName>) -> bool {
        match &self.backend {
            Backend::Local(local) => local.denies(&key::key(system, name.into())).await,
            Backend::Store(_) => false,
        }
    }

    /// Returns the location of a file, for messages.
    #[must_use]
    pub fn location(&self, system: SystemIdentifier, name: impl Into<ArchivedName>) -> String {
        format!("{}/{}", self.url, key::key(system, name.into()))
    }

    /// Returns the URL of the archive.
    #[must_use]
    pub fn url(&self) -> &ArchiveUrl {
        &self.url
    }

    /// Returns the names of clusters.
    #[must_use]
    pub fn names(&self) -> &SystemNames {
        &self.names
    }

    /// Returns `true` if it is in an object store: a request costs a round trip, and a failure may pass within moments.
    #[must_use]
    pub fn is_store(&self) -> bool {
        matches!(self.backend, Backend::Store(_))
    }

    /// Returns `true` if the archive is on a mount point and the configuration does not require one.
    pub async fn is_unguarded_mount(&self) -> bool {
        match &self.backend {
            Backend::Local(local) => local.is_unguarded_mount().await,
            Backend::Store(_) => false,
        }
    }

    /// Returns the directory without symbolic links; `None` for a store.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.backend {
            Backend::Local(local) => Some(local.root()),
            Backend::Store(_) => None,
        }
    }

    /// Tries out what the file system of a directory can do; `None` for a store.
    pub async fn abilities(&self) -> Option<Result<Abilities, Error>> {
        match &self.backend {
            Backend::Local(local) => Some(local.abilities().await),
            Backend::Store(_) => None,
        }
    }

    /// Returns the directories of a cluster in which this user may not create files, of those that are there; `None` for a store.
    pub async fn denied_directories(&self, system: SystemIdentifier) -> Option<Vec<DeniedDirectory>> {
        match &self.backend {
            Backend::Local(local) => Some(local.denied_directories(system).await),
            Backend::Store(_) => None,
        }
    }

    /// Returns how far the store's clock was ahead of the local one at its last answer.
    #[must_use]
    pub fn clock_ahead(&self) -> Option<SignedDuration> {
        match &self.backend {
            Backend::Local(_) => None,
            Backend::Store(store) => store.clock_ahead(),
        }
    }

    /// Returns scheme and host of a store; `None` for a directory.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match &self.backend {
            Backend::Local(_) => None,
            Backend::Store(store) => Some(store.address()),
        }
    }

    /// Returns `true` if encrypted connections verify the server's certificate.
    #[must_use]
    pub fn verifies_certificate(&self) -> bool {
        match &self.backend {
            Backend::Local(_) => true,
            Backend::Store(store) => store.verifies_certificate(),
        }
    }

    /// Returns the setting for conditional writes, and `true` if the store is known to support them.
    #[must_use]
    pub fn conditional_put(&self) -> (ConditionalPut, bool) {
        match &self.backend {
            Backend::Local(_) => (ConditionalPut::Auto, true),
            Backend::Store(store) => store.conditional_put(),
        }
    }

    /// Returns the options for creating a file.
    fn put_options(&self, mode: PutMode) -> PutOptions {
        match &self.backend {
            Backend::Local(_) => mode.into(),
            Backend::Store(store) => store.put_options(mode),
        }
    }

    fn objects(&self) -> &dyn ObjectStore {
        match &self.backend {
            Backend::Local(local) => local.objects(),
            Backend::Store(store) => store.objects(),
        }
    }

    /// Returns the meaning of a failure; the key's location is appended to `attempted`.
    fn failure(
        &self,
        attempted: &str,
        key: &Key,
        asked: Asked,
        error: object_store::Error,
    ) -> RequestFailure {
        match &self.backend {
            Backend::Local(local) => {
                local.failure(format!("{attempted} {}/{key}", self.url), key, asked, error)
            }
            Backend::Store(store) => {
                store.failure(format!("{attempted} {}", store.location(key)), asked, &error)
            }
        }
    }
}
