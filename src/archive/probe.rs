//! Test of an archive's abilities, with a key of its own.

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutMode};
use tokio_util::sync::CancellationToken;

use super::failure::{Asked, RequestFailure};
use super::{Archive, ArchiveUrl, Backend, Created, Provider};
use crate::error::{Error, ErrorKind};
use crate::frame::Content;

/// A key for tests.
pub struct Probe<'a> {
    archive: &'a Archive,
    key: Key,
    content: Bytes,
}

/// Name of the file, below the archive's URL.
const PROBE: &str = "walkeep-check-probe";

/// Reaction of an archive to creating a file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// It refuses.
    Honoured,
    /// It replaces the file.
    Ignored,
    /// It rejects the request as unsupported.
    NotUnderstood,
}

impl Archive {
    /// Creates a probe. All have one name and one content, so that no archive that forbids deletion fills with them.
    #[must_use]
    pub fn probe(&self) -> Probe<'_> {
        let content = format!("{PROBE}: written by \"walkeep check\", which removes it if it may\n");
        Probe { archive: self, key: Key::from(PROBE), content: content.into() }
    }
}

impl Probe<'_> {
    /// Returns the key, below the archive's URL.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.as_ref()
    }

    /// Creates the file, conditionally if the archive supports that. It may be there already, from a check that could not
    /// remove it or that runs at the same time: who may not create files is told so before that. Returns `false` if that cannot be
    /// told, because the file is there and may not be replaced.
    pub async fn create(&self) -> Result<bool, Error> {
        match self.put(PutMode::Create).await {
            Ok(()) | Err(RequestFailure::Taken) => Ok(true),
            Err(RequestFailure::Unconditional) => {
                self.put(PutMode::Overwrite).await.map(|()| true).map_err(RequestFailure::into_error)
            }
            Err(RequestFailure::Error(error)) if self.is_kept_by(&error).await => Ok(false),
            Err(failure) => Err(failure.into_error()),
        }
    }

    /// Returns `true` if a create was denied for a file that is there. Google and Azure deny it to whoever may create files and not
    /// replace them.
    async fn is_kept_by(&self, error: &Error) -> bool {
        let denies = matches!(&self.archive.url, ArchiveUrl::Store(url) if url.provider != Provider::S3);
        denies && error.kind() == ErrorKind::Refused && self.read().await.is_ok()
    }

    /// Creates the file again, which the archive should refuse.
    pub async fn create_again(&self) -> Result<Conditions, Error> {
        match self.try_again().await? {
            // Another check may have removed it just before.
            Conditions::Ignored => self.try_again().await,
            conditions => Ok(conditions),
        }
    }

    async fn try_again(&self) -> Result<Conditions, Error> {
        match self.put(PutMode::Create).await {
            Ok(()) => Ok(Conditions::Ignored),
            Err(RequestFailure::Taken) => Ok(Conditions::Honoured),
            Err(RequestFailure::Unconditional) => Ok(Conditions::NotUnderstood),
            Err(RequestFailure::Error(error)) if self.is_kept_by(&error).await => Ok(Conditions::Honoured),
            Err(RequestFailure::Error(error)) => Err(error),
        }
    }

    async fn put(&self, mode: PutMode) -> Result<(), RequestFailure> {
        if let Backend::Local(local) = &self.archive.backend {
            // As archived files are created: `object_store` would need hard links.
            return match local.create(&self.key, Content::Memory(vec![self.content.clone()])).await {
                Ok(Created::New) => Ok(()),
                Ok(Created::Exists) => Err(RequestFailure::Taken),
                Err(error) => Err(RequestFailure::Error(error)),
            };
        }
        let options = self.archive.put_options(mode);
        let put = self.archive.objects().put_opts(&self.key, self.content.clone().into(), options).await;
        put.map(drop).map_err(|error| self.archive.failure("cannot create", &self.key, Asked::Create, error))
    }

    /// Reads the file and compares it with what was written.
    pub async fn read(&self) -> Result<(), Error> {
        let reading = async { self.archive.objects().get(&self.key).await?.bytes().await };
        let what = "cannot read";
        let content = reading.await.map_err(|error| {
            // A store has to prove it: its other answers of that kind may be anybody's.
            let is_absent = !self.archive.is_store() && matches!(error, object_store::Error::NotFound { .. });
            let failure = self.archive.failure(what, &self.key, Asked::Read, error).into_error();
            if is_absent { failure.of_kind(ErrorKind::Absent) } else { failure }
        })?;
        if content == self.content {
            Ok(())
        } else {
            Err(Error::new(
                ErrorKind::Damaged,
                format!("{} reads differently from what was written", self.key),
            ))
        }
    }

    /// Returns `true` if a listing contains the file.
    pub async fn is_listed(&self) -> Result<bool, Error> {
        let listing = self.archive.list_directory(None).await?;
        Ok(listing.files.iter().any(|file| file.key == self.key.as_ref()))
    }

    /// Removes the file.
    pub async fn remove(&self) -> Result<(), Error> {
        if let Backend::Local(local) = &self.archive.backend {
            // As archived files are deleted: through no link.
            let stop = CancellationToken::new();
            return local.delete(vec![self.key.clone()], &stop, &mut |_| {}).await;
        }
        let removed = match self.archive.objects().delete(&self.key).await {
            // By another check.
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            removed => removed,
        };
        removed.map_err(|e| self.archive.failure("cannot delete", &self.key, Asked::Delete, e).into_error())
    }
}
