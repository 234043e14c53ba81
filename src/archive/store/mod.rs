//! An archive in an object store.
//!
//! [`options`] and [`profile`] read the settings; [`source`] says where credentials come from; [`provider`] builds the store on top of the [`client`]; [`answer`]
//! and [`failure`] interpret failures. A store confirms only what is durable, so nothing is flushed here.

mod answer;
pub mod canned;
mod client;
mod connection_string;
mod contact;
mod create;
mod credentials;
mod deletion;
mod early;
mod failure;
mod form;
mod given;
mod google;
mod issued;
mod issuer;
mod listing;
pub mod memory;
mod options;
mod plain;
mod process;
mod profile;
mod provider;
mod reach;
mod read_later;
mod reader;
mod setting_names;
mod shown;
mod sockets;
mod source;
mod stall;
mod storage;
mod surroundings;
mod upload;
mod versions;

use std::collections::{BTreeSet, HashMap};
use std::future::ready;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use jiff::SignedDuration;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetResultPayload, ObjectMeta, ObjectStore, PutMode, PutOptions};
use tokio_util::sync::CancellationToken;

use crate::archive::Fetched;
use crate::archive::failure::{Asked, RequestFailure};
use crate::archive::place::StorePlace;
use crate::archive::remove::stopped_deleting;
use crate::archive::url::{Provider, StoreUrl};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;

use client::StoreClient;
pub use given::Objects;
use options::Resolved;
pub use options::{ConditionalPut, StoreOptions};
use provider::Built;
use reader::StreamReader;
pub(crate) use setting_names::is_store_setting;
use storage::Storage;
use upload::Claim;

/// Requests for the deletion of many objects.
enum Requests {
    /// As many objects in each as the store takes.
    Bulk,
    /// One object in each, [`SINGLE_AT_ONCE`] at a time.
    Single,
}

const SINGLE_AT_ONCE: usize = 10;

/// A part of a bucket.
#[derive(Debug, Clone)]
pub(super) struct Store {
    url: StoreUrl,
    objects: Arc<dyn ObjectStore>,
    bulk: Arc<dyn ObjectStore>,
    /// Objects that code keeps need none.
    client: Option<StoreClient>,
    address: String,
    /// URL of the bucket, if it can be asked about itself.
    bucket: Option<String>,
    conditional_put: ConditionalPut,
    storage: Storage,
    known_to_honour_conditions: bool,
    verifies_certificate: bool,
    claim: Claim,
}

impl Store {
    /// Prepares requests without sending one. Reads files: certificates, and the shared files of the AWS tools.
    pub(super) fn open(url: &StoreUrl, options: &StoreOptions) -> Result<Self, Error> {
        if let Some(Objects { objects, .. }) = &options.objects {
            return Self::over(objects, url, options);
        }
        let resolved = resolve(url, options)?;
        let client = StoreClient::new(&resolved.connection)?.keeping(resolved.secrets());
        let built = provider::build(url, &resolved, &client)?;
        Ok(Self { client: Some(client), ..Self::of(url, &resolved, built) })
    }

    fn of(url: &StoreUrl, resolved: &Resolved, built: Built) -> Self {
        Self {
            url: url.clone(),
            objects: Arc::new(PrefixStore::new(built.store, url.prefix.clone())),
            bulk: Arc::new(PrefixStore::new(built.bulk, url.prefix.clone())),
            client: None,
            address: built.address,
            bucket: built.bucket,
            conditional_put: resolved.conditional_put,
            storage: resolved.storage.clone(),
            known_to_honour_conditions: built.known_to_honour_conditions,
            verifies_certificate: !resolved.connection.allow_invalid_certificates,
            claim: built.claim,
        }
    }

    /// A store over objects that code provides. They honour conditions.
    fn over(objects: &Arc<dyn ObjectStore>, url: &StoreUrl, options: &StoreOptions) -> Result<Self, Error> {
        let resolved = settings(url, options)?;
        let objects: Arc<dyn ObjectStore> =
            Arc::new(PrefixStore::new(Arc::clone(objects), url.prefix.clone()));
        Ok(Self {
            url: url.clone(),
            bulk: Arc::clone(&objects),
            objects,
            client: None,
            address: url.to_string(),
            bucket: None,
            conditional_put: resolved.conditional_put,
            storage: resolved.storage,
            known_to_honour_conditions: true,
            verifies_certificate: true,
            claim: Claim::Length,
        })
    }

    /// Limits waits without progress to those of `limit`.
    pub(super) fn heed(&self, limit: &TimeLimit) {
        if let Some(client) = &self.client {
            client.heed(limit);
        }
    }

    /// Returns the URL and the settings that are no secrets, the endpoint included: they determine where files go.
    pub(super) fn identity(url: &StoreUrl, options: &StoreOptions) -> Result<String, Error> {
        if let Some(Objects { identity, .. }) = options.objects {
            return Ok(format!("objects {identity} {url}"));
        }
        let settings = resolve(url, options)?.provider;
        let public = settings.iter().filter(|(name, _)| !setting_names::is_secret(name));
        Ok(public
            .fold(format!("store {url}"), |identity, (name, value)| format!("{identity}\n{name} {value}")))
    }

    /// Returns `true` if the name is known to be taken. Asks only if creating a file would not report that; otherwise it opens
    /// the connection.
    pub(super) async fn is_known_taken(&self, key: &Path) -> Result<bool, Error> {
        if self.create_reports_taken() {
            if let Some(client) = &self.client {
                client.connect_early(&self.address).await;
            }
            return Ok(false);
        }
        self.exists(key).await
    }

    /// Returns `true` if the file exists.
    async fn exists(&self, key: &Path) -> Result<bool, Error> {
        self.size_of(key).await.map(|size| size.is_some())
    }

    /// Returns the size of a file in bytes; `None` if it does not exist.
    pub(super) async fn size_of(&self, key: &Path) -> Result<Option<u64>, Error> {
        Ok(self.look(key).await?.map(|found| found.size))
    }

    /// Returns what a request without content tells about a file; `None` if it does not exist.
    async fn look(&self, key: &Path) -> Result<Option<ObjectMeta>, Error> {
        let what = || format!("cannot ask whether {} exists", self.location(key));
        let head = GetOptions { head: true, ..GetOptions::default() };
        let failure = match self.objects.get_opts(key, head).await {
            Ok(found) => return self.is_of_a_store(&found.meta, what()).map(|()| Some(found.meta)),
            Err(error) if failure::is_without_credentials(&error) => {
                return Err(self.failed(what(), Asked::Look, &error));
            }
            Err(error) => self.failed(what(), Asked::Look, &error),
        };
        match failure.kind() {
            ErrorKind::Absent => Ok(None),
            // The reason is in a body, and a response to HEAD has none.
            ErrorKind::Refused => match self.objects.get_opts(key, GetOptions::default()).await {
                Ok(_) => Err(failure),
                Err(error) => match self.failed(what(), Asked::Read, &error) {
                    failure if failure.kind() == ErrorKind::Absent => Ok(None),
                    failure => Err(failure),
                },
            },
            _ => Err(failure),
        }
    }

    /// Returns `true` if creating a file reports that the name is taken.
    fn create_reports_taken(&self) -> bool {
        match self.conditional_put {
            ConditionalPut::Auto => self.known_to_honour_conditions,
            ConditionalPut::Yes => true,
            ConditionalPut::No => false,
        }
    }

    pub(super) async fn fetch(&self, key: &Path) -> Result<Fetched, Error> {
        let location = self.location(key);
        let what = || format!("cannot fetch {location}");
        let found = self
            .objects
            .get_opts(key, GetOptions::default())
            .await
            .map_err(|error| {
                if failure::is_deleted(&error) {
                    tracing::warn!(
                        "{location} has been deleted, and its older versions are still there: remove the delete marker, \
                         and it can be had again"
                    );
                }
                self.failed(what(), Asked::Read, &error)
            })?;
        self.is_of_a_store(&found.meta, what())?;
        let stored_size = found.meta.size;
        match found.payload {
            GetResultPayload::Stream(stream) => {
                let (reader, transfer) = StreamReader::new(stream);
                Ok(Fetched { reader: Box::new(reader), stored_size, location, transfer: Some(transfer) })
            }
            GetResultPayload::File(..) => Err(Error::new(ErrorKind::Unavailable, what())),
        }
    }

    /// Deletes objects until `stop` is cancelled. An object that does not exist counts as deleted. Calls `gone` with
    /// the index of each deleted one. Those deleted before a failure are the first ones, and perhaps a few more.
    pub(super) async fn delete(
        &self,
        keys: Vec<Path>,
        stop: &CancellationToken,
        gone: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        let indices: HashMap<&Path, usize> = keys.iter().zip(0..).collect();
        let mut left: BTreeSet<usize> = (0..keys.len()).collect();
        let mut went = |key: &Path| {
            if let Some(index) = indices.get(key).filter(|index| left.remove(index)) {
                gone(*index);
            }
        };
        if keys.len() > 1 {
            match self.delete_by(Requests::Bulk, keys.clone(), stop, &mut went).await {
                // Not every store supports bulk deletion, and errors about a single object are clearer.
                Err(error) if error.kind() != ErrorKind::Stopped => {}
                outcome => return outcome,
            }
        }
        let left: Vec<Path> = left.iter().filter_map(|index| keys.get(*index).cloned()).collect();
        let mut went = |key: &Path| {
            if let Some(index) = indices.get(key) {
                gone(*index);
            }
        };
        self.delete_by(Requests::Single, left, stop, &mut went).await
    }

    /// Sends no more requests after a failure, but receives the outcomes of those already sent.
    async fn delete_by(
        &self,
        requests: Requests,
        keys: Vec<Path>,
        stop: &CancellationToken,
        went: &mut impl FnMut(&Path),
    ) -> Result<(), Error> {
        let (ending, number) = (stop.child_token(), keys.len());
        let ended = ending.clone();
        let goes_on = move |_: &Path| ready(!ended.is_cancelled());
        let mut asked = keys.clone().into_iter();
        let locations = stream::iter(keys).take_while(goes_on);
        let mut answers = match requests {
            Requests::Bulk => self.bulk.delete_stream(locations.map(Ok).boxed()),
            // Azure's client deletes by batches only, so each file gets a batch of its own.
            Requests::Single => {
                let objects = Arc::clone(&self.objects);
                let deletion = move |key| {
                    let mut answer = objects.delete_stream(stream::once(ready(Ok(key))).boxed());
                    async move { answer.next().await }
                };
                locations.map(deletion).buffered(SINGLE_AT_ONCE).filter_map(ready).boxed()
            }
        };
        let (mut failed, mut answered) = (None, 0);
        while let Some(answer) = answers.next().await {
            let key = asked.next().unwrap_or_default();
            answered += 1;
            match answer {
                Ok(key) => went(&key),
                // It is gone already, as with the answers below.
                Err(object_store::Error::NotFound { .. }) => went(&key),
                Err(error) => {
                    let what = format!("cannot delete {}", self.location(&key));
                    let failure = self.failed(what, Asked::Delete, &error);
                    // Unlike S3, Google and Azure say so if there is no such object: another call, or an attempt whose
                    // answer was lost, has deleted it.
                    if failure.kind() == ErrorKind::Absent {
                        went(&key);
                    } else {
                        ending.cancel();
                        failed.get_or_insert(failure);
                    }
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None if answered < number => Err(stopped_deleting()),
            None => Ok(()),
        }
    }

    /// Every store returns an ETag for each object; a login page has none. object_store 0.14.2 insists on it for Google
    /// and Azure only (`etag_required` in its src/aws/client.rs).
    fn is_of_a_store(&self, meta: &ObjectMeta, what: String) -> Result<(), Error> {
        if meta.e_tag.is_some() {
            return Ok(());
        }
        let error = object_store::Error::Generic { store: "", source: "the answer has no ETag".into() };
        Err(self.failed(what, Asked::Read, &error))
    }

    /// Returns the options for creating a file.
    pub(super) fn put_options(&self, mode: PutMode) -> PutOptions {
        self.storage.options(mode)
    }

    pub(super) fn objects(&self) -> &dyn ObjectStore {
        &*self.objects
    }

    /// Returns scheme and host.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the setting for conditional writes, and `true` if the store is known to support them.
    pub(super) fn conditional_put(&self) -> (ConditionalPut, bool) {
        (self.conditional_put, self.known_to_honour_conditions)
    }

    /// Returns `true` if the store's certificate is verified.
    pub(super) fn verifies_certificate(&self) -> bool {
        self.verifies_certificate
    }

    /// Returns how far the store's clock was ahead of the local one at its last answer.
    pub(super) fn clock_ahead(&self) -> Option<SignedDuration> {
        self.client.as_ref()?.clock_ahead()
    }

    pub(super) fn location(&self, key: &Path) -> String {
        format!("{}/{key}", self.url)
    }

    /// Returns the meaning of a failure; `what` names the attempted action.
    pub(super) fn failure(&self, what: String, asked: Asked, error: &object_store::Error) -> RequestFailure {
        failure::failure(what, asked, self.url.provider, &self.address, error)
    }

    fn failed(&self, what: String, asked: Asked, error: &object_store::Error) -> Error {
        self.failure(what, asked, error).into_error()
    }
}

/// Returns the effective settings from all sources.
fn resolve(url: &StoreUrl, options: &StoreOptions) -> Result<Resolved, Error> {
    let mut resolved = settings(url, options)?;
    if url.provider == Provider::S3 {
        profile::fill_in(&mut resolved, &options.environment)?;
    }
    Ok(resolved)
}

/// Returns what a policy has to name. Reads no profile.
pub(super) fn place(url: &StoreUrl, options: &StoreOptions) -> Result<StorePlace, Error> {
    let resolved = settings(url, options)?;
    let setting = |name: &str| resolved.provider.get(name).cloned();
    Ok(StorePlace {
        provider: url.provider,
        bucket: url.bucket.clone(),
        prefix: url.prefix.to_string(),
        region: setting("aws_region").or_else(|| setting("aws_default_region")),
        account: setting("azure_storage_account_name"),
        encryption_key: setting("aws_sse_kms_key_id"),
        tags: resolved.storage.has_tags(),
    })
}

fn settings(url: &StoreUrl, options: &StoreOptions) -> Result<Resolved, Error> {
    options.resolve(url.provider).map_err(|why| Error::new(ErrorKind::Configuration, why))
}
