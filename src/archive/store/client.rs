//! The HTTP client for `object_store`, with walkeep's own connections and error texts.
//!
//! object_store 0.14.2 would retry a failed request for up to three minutes, whatever the call's time limit, and its
//! errors quote whole responses, in which a store may repeat what was signed, session tokens included. Status and
//! headers of an error response are out of reach: `RetryError` is private (its src/client/retry.rs). This client
//! therefore turns every error response into an [`Answer`], and retries are disabled: callers decide on them.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited};
use jiff::{SignedDuration, Timestamp};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use reqwest::header::{DATE, HeaderMap};

use super::answer::Answer;
use super::deletion::{Deletion, DeletionFailure, MAX_DELETION_BYTES};
use super::early::EarlyConnection;
use super::issued::Form;
use super::listing::{Listing, Listings, MAX_LISTING_BYTES};
use super::options::Connection;
use super::reach::HostAndPort;
use super::shown::shown;
use super::stall::{Movement, Stillness, received};
use super::upload::Upload;
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::limit::{TELLING_BYTES, TimeLimit};
use crate::whole_file::open_regular;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Maximum size of an error response in bytes. No store sends a longer one.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Expectation of the response to a request.
pub(super) struct Expected {
    deletion: Option<Deletion>,
    listing: Option<Listing>,
    /// `true` for credentials of S3 Express One Zone.
    is_session: bool,
    /// A token from any source of credentials, which the response may repeat.
    token: Option<String>,
}

impl Expected {
    pub(super) fn of(request: &HttpRequest) -> Self {
        let token = request.headers().get("x-amz-security-token");
        Self {
            deletion: Deletion::of(request),
            listing: Listing::of(request),
            is_session: request.uri().query() == Some("session"),
            token: token.and_then(|token| token.to_str().ok().map(str::to_owned)),
        }
    }
}

/// A client for one store. Clones share connections.
#[derive(Debug, Clone)]
pub(super) struct StoreClient {
    client: reqwest::Client,
    early: EarlyConnection,
    stillness: Stillness,
    clock_ahead: Arc<Mutex<Option<SignedDuration>>>,
    secrets: Arc<[String]>,
    listings: Listings,
}

impl StoreClient {
    /// Creates a client without connecting. Reads the trusted certificates, which takes milliseconds.
    pub(super) fn new(connection: &Connection) -> Result<Self, Error> {
        let early = EarlyConnection::default();
        let client =
            builder(connection)?.connector_layer(early.clone()).build().map_err(|error| match &connection
                .ca_file
            {
                // The file is parsed only here.
                Some(path) => cannot_use_ca(path).because(error.without_url()),
                None => cannot_start().because(error.without_url()),
            })?;
        Ok(Self {
            client,
            early,
            stillness: Stillness::new(connection.read_timeout),
            clock_ahead: Arc::default(),
            secrets: Arc::default(),
            listings: Listings::default(),
        })
    }

    /// Returns the client, set up to hide these secrets in whatever a store answers.
    pub(super) fn keeping(self, secrets: Vec<String>) -> Self {
        Self { secrets: secrets.into(), ..self }
    }

    /// Limits waits without progress to those of `limit`.
    pub(super) fn heed(&self, limit: &TimeLimit) {
        self.stillness.heed(limit);
    }

    /// Returns how long credentials may be waited for by a call that has lost patience.
    pub(super) fn impatience(&self) -> Stillness {
        self.stillness.of_impatience()
    }

    /// Opens a connection to that host for the next request. A failure recurs in that request.
    pub(super) async fn connect_early(&self, to: &str) {
        self.early.open(self.client.get(to).send()).await;
    }

    /// Returns how far the store's clock was ahead of the local one at its last answer.
    pub(super) fn clock_ahead(&self) -> Option<SignedDuration> {
        *self.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, mut request: HttpRequest) -> Result<HttpResponse, BoxError> {
        let upload = request.extensions_mut().remove::<Upload>();
        if let Some(upload) = &upload {
            upload.describe(&mut request).await?;
        }
        let expected = Expected::of(&request);
        let (parts, body) = request.into_parts();
        let host = HostAndPort::of(&parts.uri);
        let mut request = reqwest::Request::new(parts.method, parts.uri.to_string().parse()?);
        *request.headers_mut() = parts.headers;
        let bytes = upload.as_ref().map_or(body.content_length() as u64, Upload::length);
        let call = self.stillness.call().filter(|_| bytes >= TELLING_BYTES);
        let transfer = call.map(|call| call.transfer_begins(bytes));
        let movement = Movement::new(self.stillness.clone()).sending(self.early.sockets(), transfer.clone());
        let noted = movement.clone();
        // The next part is requested when there is room for it, so the previous ones are on their way.
        let note = move |frame: &Frame<Bytes>| {
            noted.note_sent(frame.data_ref().map_or(0, |data| data.len() as u64));
        };
        *request.body_mut() = Some(match upload {
            Some(upload) => reqwest::Body::wrap(upload.body().inspect_frame(note)),
            None => reqwest::Body::wrap(body.inspect_frame(note)),
        });
        let outcome = movement.watch(self.client.execute(request)).await;
        if let Some(transfer) = transfer {
            let is_complete =
                outcome.as_ref().is_ok_and(|sent| sent.as_ref().is_ok_and(|sent| sent.status().is_success()));
            transfer.ends(is_complete);
        }
        let response = outcome?.map_err(|error| host.failed(error))?;
        let response = http::Response::<reqwest::Body>::from(response);
        let received =
            |body: reqwest::Body| received(body.map_err(reqwest::Error::without_url), self.stillness.clone());
        self.understand(expected, response.map(received)).await
    }

    /// Turns every response but a success into an [`Answer`], and one that is not what was asked for into an error.
    pub(super) async fn understand(
        &self,
        expected: Expected,
        response: http::Response<impl Body<Data = Bytes, Error = HttpError> + Send + Sync + 'static>,
    ) -> Result<HttpResponse, BoxError> {
        let Expected { deletion, listing, is_session, token } = expected;
        let (parts, body) = response.into_parts();
        let clock_ahead = clock_ahead(&parts.headers);
        *self.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner) = clock_ahead;
        let secrets = self.secrets.iter().chain(&token).map(String::as_str);
        let secrets: Vec<&str> = secrets.collect();
        if parts.status.is_success() {
            let body = if let Some(deletion) = deletion {
                let answer = Limited::new(body, MAX_DELETION_BYTES).collect().await?.to_bytes();
                deletion.check(&answer, &secrets).map_err(|failure| match failure {
                    DeletionFailure::Answer(answer) => BoxError::from(answer),
                    other @ DeletionFailure::OtherObject(_) => other.into(),
                })?;
                answer.into()
            } else if let Some(listing) = listing {
                let answer = Limited::new(body, MAX_LISTING_BYTES).collect().await?.to_bytes();
                self.listings.accept(&listing, answer, &secrets)?.into()
            } else if is_session {
                let answer = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
                Form::Session.readable(answer)?.into()
            } else {
                HttpResponseBody::new(body)
            };
            return Ok(HttpResponse::from_parts(parts, body));
        }
        let text = |name: &str| shown(parts.headers.get(name)?.to_str().ok()?, &secrets);
        let mut answer = Answer {
            status: parts.status.as_u16(),
            // Azure's header, also present in responses without a body.
            code: text("x-ms-error-code"),
            message: None,
            region: text("x-amz-bucket-region"),
            clock_ahead,
            is_deleted: text("x-amz-delete-marker").is_some_and(|marker| marker == "true"),
        };
        // A response with an unreadable body is still a response.
        if let Ok(body) = Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            answer.read_body(&String::from_utf8_lossy(&body.to_bytes()), &secrets);
        }
        Err(answer.into())
    }
}

#[async_trait]
impl HttpService for StoreClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.exchange(request).await.map_err(|error| HttpError::new_boxed(HttpErrorKind::Unknown, error))
    }
}

impl HttpConnector for StoreClient {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// Returns a builder with the settings of the connection.
pub(super) fn builder(connection: &Connection) -> Result<reqwest::ClientBuilder, Error> {
    // The alternative, aws-lc, spends 25 ms per process, and so per file, to collect randomness from CPU jitter.
    // Fails if a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("walkeep/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .https_only(!connection.allow_http)
        // A redirect may lead to another region or an impostor, and must not receive a signed request.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(connection.connect_timeout)
        .tls_danger_accept_invalid_certs(connection.allow_invalid_certificates);
    if let Some(path) = &connection.ca_file {
        let wrong = || cannot_use_ca(path);
        let mut pem = Vec::new();
        open_regular(path).and_then(|mut file| file.read_to_end(&mut pem)).map_err(|error| {
            let what = format!("cannot use the CA file {}", path.display());
            denied::failed(ErrorKind::Configuration, what, path, Kept::ForSeveral, error)
        })?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong().because(error))?;
        if certificates.is_empty() {
            return Err(wrong().hint("it holds no certificate in PEM"));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(url) = &connection.proxy_url {
        // The URL may contain a password, which the library's message would quote.
        let proxy = reqwest::Proxy::all(url)
            .map_err(|_| Error::new(ErrorKind::Configuration, "proxy_url in [store] is not a URL"))?;
        let excludes = connection.proxy_excludes.as_deref().and_then(reqwest::NoProxy::from_string);
        builder = builder.proxy(proxy.no_proxy(excludes));
    }
    Ok(builder)
}

fn cannot_use_ca(path: &Path) -> Error {
    Error::new(ErrorKind::Configuration, format!("cannot use the CA file {}", path.display()))
}

fn cannot_start() -> Error {
    Error::new(ErrorKind::Configuration, "cannot prepare a connection to the store")
}

/// Compares the Date header with the local clock.
fn clock_ahead(headers: &HeaderMap) -> Option<SignedDuration> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(theirs.duration_since(Timestamp::now()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::store::upload::Claim;

    use object_store::client::HttpRequestBody;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    const BYTES: usize = 16 << 20;

    /// Returns a listener whose connections buffer little, so that its reader sets the pace.
    fn listener() -> TcpListener {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(1).unwrap()
    }

    /// Receives a request of `BYTES` bytes at that pace, and answers it.
    async fn receive_slowly(listener: TcpListener, pace: Duration) -> usize {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.unwrap());
        }
        let (mut received, mut buffer) = (0, vec![0; 64 << 10]);
        while received < BYTES {
            tokio::time::sleep(pace).await;
            match connection.read(&mut buffer).await {
                Ok(0) | Err(_) => return received,
                Ok(bytes) => received += bytes,
            }
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        received
    }

    #[tokio::test]
    async fn an_upload_may_take_longer_than_the_limit_for_standing_still() {
        let limit = Duration::from_secs(1);
        let connection = Connection { allow_http: true, read_timeout: limit, ..Connection::default() };
        let client = StoreClient::new(&connection).unwrap();
        let listener = listener();
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES as u64).unwrap();
        let upload = Upload::new(&Claim::Length, Bytes::new(), Arc::new(file), BYTES as u64);
        let (_, upload) = upload.await.unwrap();
        let request = http::Request::put(format!("http://{}/wal", listener.local_addr().unwrap()))
            .header("content-length", BYTES)
            .extension(upload.unwrap())
            .body(HttpRequestBody::empty())
            .unwrap();
        let begun = std::time::Instant::now();
        let slowly = receive_slowly(listener, Duration::from_millis(10));
        let (response, received) = tokio::join!(client.call(request), slowly);
        assert_eq!((response.unwrap().status().as_u16(), received), (200, BYTES));
        assert!(begun.elapsed() > 2 * limit, "it was not slow");
    }
}
