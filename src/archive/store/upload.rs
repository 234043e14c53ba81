//! Upload of files that are too large for memory, with a single request like any other.
//!
//! `object_store` sends only content in memory. It therefore gets a stand-in of the same length, and the file travels
//! in an extension of the request to walkeep's client, which sends the file in place of the stand-in. The headers
//! that describe the content are then corrected: its length and, for S3, whose signature covers the content, digest
//! and signature, with `object_store`'s own signer.
//!
//! In object_store 0.14.2, `PutPayload` is a list of `Bytes`. A payload from a file would replace this module
//! (<https://github.com/apache/arrow-rs-object-store/issues/281>, proposed in pull request 817). A multipart upload,
//! its way for large files, could replace a file: `PutMultipartOptions` has no mode
//! (<https://github.com/apache/arrow-rs-object-store/issues/289>), and Google does not support conditions there.

use std::fs::File;
use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use object_store::PutPayload;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue};
use sha2::Digest;
use tokio::task::spawn_blocking;

use crate::archive::content::{for_each_part, next_part};
use crate::blocking::blocking;

/// Statement of a provider's requests about their content.
#[derive(Debug, Clone)]
pub(super) enum Claim {
    /// Only its length.
    Length,
    /// Its length, and its digest within the signature.
    Signature(Arc<Signer>),
    /// A signature by a session of S3 Express, whose key `object_store` does not lend. The content must then fit into
    /// memory.
    Session,
}

/// Signer of requests to S3.
pub(super) struct Signer {
    pub(super) credentials: AwsCredentialProvider,
    pub(super) region: String,
}

/// Omits the credentials.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("region", &self.region).finish_non_exhaustive()
    }
}

/// Content sent in place of a stand-in.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    head: Bytes,
    file: Arc<File>,
    /// Number of bytes of the file, which follow the head.
    bytes: u64,
    /// Signer and digest, if the signature covers the content.
    signed: Option<(Arc<Signer>, [u8; 32])>,
}

impl Upload {
    /// Returns the content to send, and its stand-in.
    pub(super) async fn new(
        claim: &Claim,
        head: Bytes,
        file: Arc<File>,
        bytes: u64,
    ) -> io::Result<(PutPayload, Option<Self>)> {
        match claim {
            Claim::Length => {
                let upload = Self { head, file, bytes, signed: None };
                Ok((zeros(upload.length()), Some(upload)))
            }
            Claim::Signature(signer) => {
                let (start, source) = (head.clone(), Arc::clone(&file));
                let digest = blocking(move || digest(&start, &source, bytes)).await?;
                let upload = Self { head, file, bytes, signed: Some((Arc::clone(signer), digest)) };
                // The content of the stand-in would be hashed for nothing.
                Ok((PutPayload::default(), Some(upload)))
            }
            Claim::Session => {
                let rest = blocking(move || {
                    let mut rest = Vec::new();
                    for_each_part(&file, bytes, |part| {
                        rest.push(Bytes::copy_from_slice(part));
                        Ok(())
                    })
                    .map(|()| rest)
                });
                let rest = rest.await?;
                Ok((std::iter::once(head).chain(rest).collect(), None))
            }
        }
    }

    /// Returns the size of the content in bytes.
    pub(super) fn length(&self) -> u64 {
        self.head.len() as u64 + self.bytes
    }

    /// Corrects the headers of the request for its real content.
    pub(super) async fn describe(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        match &self.signed {
            Some((signer, digest)) => {
                request.headers_mut().insert(CONTENT_LENGTH, self.length().into());
                signer.sign(request, digest).await
            }
            // Everything stated about the stand-in, Azure's signature included, is also true of the content.
            None => Ok(()),
        }
    }

    /// Returns the body to send, read while it is sent. It has the length that the request announces.
    pub(super) fn body(self) -> impl Body<Data = Bytes, Error = io::Error> {
        let Self { head, file, bytes, signed: _ } = self;
        let head = stream::iter((!head.is_empty()).then_some(Ok(head)));
        let rest = stream::try_unfold(0, move |read| {
            let file = Arc::clone(&file);
            async move {
                let part = spawn_blocking(move || next_part(&file, bytes, read)).await;
                let part = part.map_err(io::Error::other).flatten()?;
                Ok(part.map(|part| {
                    let read = read + part.len() as u64;
                    (part, read)
                }))
            }
        });
        StreamBody::new(head.chain(rest).map_ok(Frame::data))
    }
}

/// Returns a payload of that length that takes no memory.
fn zeros(length: u64) -> PutPayload {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut left = length;
    std::iter::from_fn(|| {
        let part = ZEROS.get(..usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len()))?;
        left -= part.len() as u64;
        (!part.is_empty()).then(|| Bytes::from_static(part))
    })
    .collect()
}

fn digest(head: &[u8], file: &File, bytes: u64) -> io::Result<[u8; 32]> {
    let mut sha256 = sha2::Sha256::new_with_prefix(head);
    for_each_part(file, bytes, |part| {
        sha256.update(part);
        Ok(())
    })?;
    Ok(sha256.finalize().into())
}

const CONTENT_DIGEST: &str = "x-amz-content-sha256";
const CHECKSUM: &str = "x-amz-checksum-sha256";
const OTHER_CHECKSUM: &str = "x-amz-checksum-crc64nvme";
const TOKEN: &str = "x-amz-security-token";

impl Signer {
    /// Signs a request again for content with that digest. Unsigned requests and unsigned content stay unsigned.
    async fn sign(&self, request: &mut HttpRequest, digest: &[u8; 32]) -> object_store::Result<()> {
        let headers = request.headers_mut();
        // The stand-in's checksum, if checksums are enabled. This one replaces either kind.
        let other = headers.remove(OTHER_CHECKSUM);
        let asked_for = other.is_some() || headers.contains_key(CHECKSUM);
        if let Ok(checksum) = HeaderValue::from_str(&BASE64_STANDARD.encode(digest))
            && asked_for
        {
            headers.insert(CHECKSUM, checksum);
        }
        if !headers.contains_key(AUTHORIZATION) {
            return Ok(());
        }
        let signs_content = headers.get(CONTENT_DIGEST).is_none_or(|digest| digest != "UNSIGNED-PAYLOAD");
        headers.remove(TOKEN);
        let credential = self.credentials.get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(signs_content)
            .try_authorize(request, Some(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    use http_body_util::BodyExt;
    use object_store::StaticCredentialProvider;
    use object_store::aws::AwsCredential;
    use object_store::client::HttpRequestBody;

    const BYTES: u64 = 2_500_000;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn file() -> (Arc<File>, Vec<u8>) {
        let content: Vec<u8> = (0..BYTES).map(|number| number.to_le_bytes()[0] ^ 0x5A).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        (Arc::new(file), content)
    }

    fn signer() -> Arc<Signer> {
        let credential =
            AwsCredential { key_id: "AKIA".to_owned(), secret_key: "s3cret".to_owned(), token: None };
        let credentials = Arc::new(StaticCredentialProvider::new(credential));
        Arc::new(Signer { credentials, region: "eu-central-1".to_owned() })
    }

    fn prepared(claim: &Claim) -> (PutPayload, Option<Upload>, Vec<u8>) {
        let (file, content) = file();
        let (payload, upload) = run(Upload::new(claim, Bytes::from_static(b"head"), file, BYTES)).unwrap();
        (payload, upload, [&b"head"[..], &content].concat())
    }

    #[test]
    fn the_body_is_the_head_and_the_file_with_the_announced_length() {
        let (stand_in, upload, whole) = prepared(&Claim::Length);
        assert_eq!(stand_in.content_length(), whole.len());
        for _ in 0..2 {
            let sent = run(upload.clone().unwrap().body().collect()).unwrap();
            assert!(sent.to_bytes() == whole);
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_and_no_short_body() {
        let (file, _) = file();
        let head = Bytes::new();
        let (_, upload) =
            run(Upload::new(&Claim::Length, head.clone(), Arc::clone(&file), BYTES + 1)).unwrap();
        let body = upload.unwrap().body();
        assert_eq!(run(body.collect()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let signed = run(Upload::new(&Claim::Signature(signer()), head, file, BYTES + 1));
        assert_eq!(signed.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn content_that_cannot_be_signed_in_advance_is_sent_from_memory() {
        let (payload, upload, whole) = prepared(&Claim::Session);
        assert!(upload.is_none());
        assert!(Bytes::from(payload) == whole);
    }

    /// Returns the headers of a request that was signed for its stand-in, after signing it for the content.
    fn described(claim: &Claim, headers: &[(&'static str, &str)]) -> (http::HeaderMap, [u8; 32]) {
        let (_, upload, whole) = prepared(claim);
        let mut request =
            http::Request::put("https://store.example/wal/key").body(HttpRequestBody::empty()).unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        run(upload.unwrap().describe(&mut request)).unwrap();
        (request.into_parts().0.headers, sha2::Sha256::digest(&whole).into())
    }

    #[test]
    fn a_request_to_s3_is_signed_for_its_content() {
        let signed = [
            ("content-length", "0"),
            ("if-none-match", "*"),
            ("authorization", "AWS4-HMAC-SHA256 of the stand-in"),
            ("x-amz-content-sha256", "that of the stand-in"),
            ("x-amz-security-token", "an older one"),
            ("x-amz-checksum-crc64nvme", "that of the stand-in"),
        ];
        let (headers, digest) = described(&Claim::Signature(signer()), &signed);
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        let hex = crate::frame::Digest::from(digest).to_string();
        assert_eq!(header("x-amz-content-sha256"), Some(&*hex));
        assert_eq!(header("x-amz-checksum-sha256"), Some(&*BASE64_STANDARD.encode(digest)));
        assert_eq!(header("x-amz-checksum-crc64nvme"), None);
        assert_eq!(header("x-amz-security-token"), None);
        assert_eq!(header("content-length"), Some("2500004"));
        let authorization = header("authorization").unwrap();
        for word in
            ["Credential=AKIA/", "/eu-central-1/s3/aws4_request", "if-none-match", "x-amz-checksum-sha256"]
        {
            assert!(authorization.contains(word), "{authorization}");
        }
    }

    #[test]
    fn unsigned_requests_and_unsigned_content_stay_unsigned() {
        let claim = Claim::Signature(signer());
        let (headers, _) = described(&claim, &[("content-length", "0")]);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["content-length"], "2500004");
        let unsigned = [("authorization", "AWS4-HMAC-SHA256"), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")];
        let (headers, _) = described(&claim, &unsigned);
        assert_eq!(headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
    }

    #[test]
    fn a_signature_that_does_not_cover_the_content_stays() {
        let (headers, _) =
            described(&Claim::Length, &[("authorization", "SharedKey"), ("content-length", "7")]);
        assert_eq!((headers.len(), &headers["authorization"]), (2, &HeaderValue::from_static("SharedKey")));
        assert_eq!(headers["content-length"], "7");
    }
}
