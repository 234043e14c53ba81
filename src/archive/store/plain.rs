//! Requests about the bucket itself that `object_store` has no methods for, with S3's protocol.
//!
//! object_store 0.14.2 knows objects only. Its `AwsAuthorizer` signs any request, and walkeep's client sends it, so answers
//! and failures are understood like all others.

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpError, HttpErrorKind, HttpRequestBody, HttpService};
use url::form_urlencoded::byte_serialize;

use super::Store;
use super::upload::Claim;

/// Maximum size of an answer in bytes: a page has up to a thousand names.
const MAX_BYTES: usize = 8 << 20;

/// Returns a value for a query.
pub(super) fn encoded(value: &str) -> String {
    // A space becomes "+", which is no space for every server, and a "+" is encoded already.
    byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Store {
    /// Asks the bucket, by a query such as `versioning`. `None` if it cannot be asked.
    pub(super) async fn ask_bucket(&self, query: &str) -> Option<object_store::Result<Bytes>> {
        let (Some(bucket), Some(client), Claim::Signature(signer)) =
            (&self.bucket, &self.client, &self.claim)
        else {
            return None;
        };
        let asking = async {
            let failed = |source| object_store::Error::Generic { store: "", source: Box::new(source) };
            let mut request = http::Request::get(format!("{bucket}?{query}"))
                .body(HttpRequestBody::empty())
                .map_err(|error| failed(HttpError::new(HttpErrorKind::Request, error)))?;
            let credential = signer.credentials.get_credential().await?;
            AwsAuthorizer::new(&credential, "s3", &signer.region).try_authorize(&mut request, None)?;
            let answer = client.call(request).await.map_err(failed)?;
            let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
            body.map(Collected::to_bytes)
                .map_err(|error| failed(HttpError::new_boxed(HttpErrorKind::Unknown, error)))
        };
        Some(asking.await)
    }
}
