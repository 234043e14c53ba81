//! What a policy has to name: a part of a bucket, as a provider of rights names it. Asks nobody.

use super::url::{ArchiveUrl, Provider};
use super::{ArchiveOptions, store};
use crate::error::Error;

/// A part of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePlace {
    /// Kind of store.
    pub provider: Provider,
    /// Name of the bucket or container.
    pub bucket: String,
    /// Prefix of all keys, without slashes at its ends. May be empty.
    pub prefix: String,
    /// Region, if it is set.
    pub region: Option<String>,
    /// Name of the storage account, if it is set.
    pub account: Option<String>,
    /// Key by which the store encrypts, if it is set.
    pub encryption_key: Option<String>,
    /// `true` if archived files get tags.
    pub tags: bool,
}

impl ArchiveOptions {
    /// Returns the part of a bucket; `None` for a directory.
    pub fn store_place(&self) -> Result<Option<StorePlace>, Error> {
        match &self.url {
            ArchiveUrl::Directory(_) => Ok(None),
            ArchiveUrl::Store(url) => store::place(url, &self.store).map(Some),
        }
    }
}
