//! Requests to a store in memory, and the errors that a client makes of a store's responses.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::orders::{Action, Fault};
use super::{Memory, held};
use crate::archive::failure::Asked;
use crate::archive::store::answer::Answer;
use crate::archive::store::stall::Stalled;
use crate::archive::store::upload::Upload;

/// Number of names per page of a listing. Each page is one request.
const PAGE: usize = 1000;

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

/// What remains to be done for a request that has arrived.
struct Arrived {
    after: Vec<Action>,
    answer_lost: bool,
    torn_after: Option<usize>,
}

impl Memory {
    /// Receives a request, unless it fails before it is executed.
    async fn receive(&self, asked: Asked, key: &Key) -> Result<Arrived> {
        let (before, fault, after) = self.hear(asked, key);
        for action in before {
            action(self);
        }
        // The response to a HEAD has no body and therefore no error code.
        let word = |word| (asked != Asked::Look).then_some(word);
        let mut arrived = Arrived { after, answer_lost: false, torn_after: None };
        match fault {
            None => {}
            Some(Fault::Busy) => return Err(answered(503, word("SlowDown"))),
            Some(Fault::Refused) => return Err(answered(403, word("AccessDenied"))),
            Some(Fault::NoBucket) => return Err(answered(404, word("NoSuchBucket"))),
            Some(Fault::NoStore) => return Err(answered(404, None)),
            Some(Fault::Unconditional) => return Err(answered(501, word("NotImplemented"))),
            Some(Fault::TimedOut) => return Err(broken(Stalled(Duration::from_secs(10)))),
            Some(Fault::BrokenOff) => return Err(broken_off()),
            Some(Fault::AnswerLost) => arrived.answer_lost = true,
            Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::TornAfter(number)) => arrived.torn_after = Some(number),
        }
        Ok(arrived)
    }

    /// Responds to the request.
    fn answer<T>(&self, arrived: &Arrived, outcome: Result<T>) -> Result<T> {
        for action in &arrived.after {
            action(self);
        }
        if arrived.answer_lost { Err(broken_off()) } else { outcome }
    }

    fn aged(&self, mut found: ObjectMeta) -> ObjectMeta {
        if let Some(age) = held(&self.inner.ages).get(&found.location) {
            let stored = &mut found.last_modified;
            *stored -= *age;
        }
        found
    }

    /// Returns the next page of a listing, with a continuation if there is more.
    async fn page(&self, prefix: Option<Key>, after: Option<Key>) -> Result<Page> {
        let arrived = self.receive(Asked::List, &prefix.clone().unwrap_or_default()).await?;
        let objects = &self.inner.objects;
        let listing = match &after {
            Some(after) => objects.list_with_offset(prefix.as_ref(), after),
            None => objects.list(prefix.as_ref()),
        };
        let found: Result<Vec<ObjectMeta>> =
            listing.take(PAGE).map_ok(|found| self.aged(found)).try_collect().await;
        let found = self.answer(&arrived, found)?;
        let next = found.get(PAGE - 1).map(|last| last.location.clone());
        let mut names: Vec<Result<ObjectMeta>> = found.into_iter().map(Ok).collect();
        if let Some(number) = arrived.torn_after {
            names.truncate(number);
            names.push(Err(broken_off()));
        }
        Ok((names, next))
    }

    fn pages(&self, prefix: Option<Key>, after: Option<Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let memory = self.clone();
        let pages = stream::try_unfold(Some(after), move |after| {
            let (memory, prefix) = (memory.clone(), prefix.clone());
            async move {
                let Some(after) = after else { return Ok(None) };
                let (names, next) = memory.page(prefix, after).await?;
                Ok::<_, Error>(Some((stream::iter(names), next.map(Some))))
            }
        });
        pages.try_flatten().boxed()
    }
}

/// Names, with the one after which the next page starts.
type Page = (Vec<Result<ObjectMeta>>, Option<Key>);

#[async_trait]
impl ObjectStore for Memory {
    async fn put_opts(&self, key: &Key, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let create = options.mode == PutMode::Create;
        let arrived = self.receive(if create { Asked::Create } else { Asked::Write }, key).await?;
        let payload = match options.extensions.remove::<Upload>() {
            Some(upload) => upload.body().collect().await.map_err(broken)?.to_bytes().into(),
            None => payload,
        };
        let outcome = self.inner.objects.put_opts(key, payload, options).await.map_err(as_answered);
        if outcome.is_ok() {
            held(&self.inner.ages).remove(key);
        }
        self.answer(&arrived, outcome)
    }

    async fn put_multipart_opts(&self, _: &Key, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "put_multipart_opts".to_owned(),
            implementer: self.to_string(),
        })
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let asked = if options.head { Asked::Look } else { Asked::Read };
        let arrived = self.receive(asked, key).await?;
        let found = self.inner.objects.get_opts(key, options).await.map_err(|error| match (error, asked) {
            (Error::NotFound { .. }, Asked::Look) => answered(404, None),
            (error, _) => as_answered(error),
        });
        let mut found = self.answer(&arrived, found)?;
        found.meta = self.aged(found.meta);
        if let (Some(number), GetResultPayload::Stream(body)) = (arrived.torn_after, &mut found.payload) {
            let whole = std::mem::replace(body, stream::empty().boxed());
            let begun = whole.map_ok(move |part| part.slice(..number.min(part.len())));
            *body = begun.chain(stream::once(async { Err(broken_off()) })).boxed();
        }
        Ok(found)
    }

    async fn get_ranges(&self, key: &Key, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let arrived = self.receive(Asked::Read, key).await?;
        let found = self.inner.objects.get_ranges(key, ranges).await.map_err(as_answered);
        self.answer(&arrived, found)
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        let memory = self.clone();
        keys.and_then(move |key| {
            let memory = memory.clone();
            async move {
                let arrived = memory.receive(Asked::Delete, &key).await?;
                memory.remove(key.as_ref());
                memory.answer(&arrived, Ok(key))
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix.cloned(), None)
    }

    fn list_with_offset(&self, prefix: Option<&Key>, offset: &Key) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let directory = prefix.cloned().unwrap_or_default();
        let mut arrived = self.receive(Asked::List, &directory).await?;
        let mut seen = 0;
        loop {
            let found = self.inner.objects.list_with_delimiter(prefix).await;
            let mut found = self.answer(&arrived, found)?;
            let number = found.objects.len() + found.common_prefixes.len();
            seen += PAGE;
            if arrived.torn_after.is_some() {
                return Err(broken_off());
            }
            if number <= seen {
                found.objects = found.objects.into_iter().map(|found| self.aged(found)).collect();
                return Ok(found);
            }
            arrived = self.receive(Asked::List, &directory).await?;
        }
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy_opts".to_owned(), implementer: self.to_string() })
    }
}

/// Creates the error that walkeep's client and `object_store` make of an error response.
fn answered(status: u16, code: Option<&str>) -> Error {
    broken(Answer { status, code: code.map(str::to_owned), ..Answer::default() })
}

fn broken(cause: impl StdError + Send + Sync + 'static) -> Error {
    Error::Generic { store: "memory", source: Box::new(HttpError::new(HttpErrorKind::Unknown, cause)) }
}

fn broken_off() -> Error {
    broken(io::Error::from(io::ErrorKind::ConnectionReset))
}

/// Converts an error to the response of S3.
fn as_answered(error: Error) -> Error {
    match error {
        Error::NotFound { .. } => answered(404, Some("NoSuchKey")),
        Error::AlreadyExists { .. } => answered(412, Some("PreconditionFailed")),
        error => error,
    }
}
