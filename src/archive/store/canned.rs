//! A store that answers with whatever bytes a test or a fuzz target chooses, and never opens a connection.
//!
//! Settings and answers go through the same code as those of a real store: the settings into the signing of requests, and the
//! answers into listings, contents and errors. No URL names it: only code can hand it over.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};

use super::client::{Expected, StoreClient};
use super::issued::Form;
use super::issuer::understand;
use super::options::{Connection, StoreOptions};
use super::provider::build_over;
use super::{Store, profile, settings};
use crate::archive::url::{ArchiveUrl, Provider};
use crate::archive::{Archive, Backend};
use crate::error::{Error, ErrorKind};
use crate::wal::SystemNames;

/// An answer to a request.
#[derive(Debug, Clone)]
pub struct CannedAnswer {
    /// HTTP status.
    pub status: u16,
    /// Headers. Those that HTTP does not allow are left out.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Where the settings of a canned store come from.
#[derive(Debug, Clone, Default)]
pub struct CannedSettings {
    /// Settings from configuration and environment.
    pub options: StoreOptions,
    /// Texts of the shared credentials and config files of the AWS tools.
    pub profiles: [Option<String>; 2],
}

impl Archive {
    /// Opens an archive in a store that gives these answers, one for each request, and then breaks connections.
    pub fn in_canned_store(
        url: &ArchiveUrl,
        CannedSettings { options, profiles }: &CannedSettings,
        answers: Vec<CannedAnswer>,
    ) -> Result<Self, Error> {
        let ArchiveUrl::Store(store_url) = url else {
            return Err(Error::new(ErrorKind::Configuration, format!("{url} is not a store")));
        };
        let mut resolved = settings(store_url, options)?;
        if store_url.provider == Provider::S3 {
            let parsed = |file: usize, name| {
                let text = profiles.get(file).and_then(Option::as_deref);
                text.map(|text| profile::parse(Path::new(name), text)).transpose()
            };
            let (credentials, config) = (parsed(0, "credentials")?, parsed(1, "config")?);
            profile::fill_in_from(&mut resolved, credentials.as_ref(), config.as_ref())?;
            // Runs no program.
            resolved.process = None;
        }
        let client = Canned {
            client: usual_client()?.keeping(resolved.secrets()),
            answers: Arc::new(Mutex::new(answers.into())),
        };
        let patience = client.client.impatience();
        let built = build_over(store_url, &resolved, &client, Issuer(client.clone()), patience)?;
        let store = Box::new(Store::of(store_url, &resolved, built));
        Ok(Self { url: url.clone(), names: SystemNames::default(), backend: Backend::Store(store) })
    }
}

/// Returns the client whose understanding of responses is used. It takes milliseconds to make, and connects to nobody.
fn usual_client() -> Result<StoreClient, Error> {
    static CLIENT: OnceLock<StoreClient> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client.clone());
    }
    let client = StoreClient::new(&Connection::default())?;
    Ok(CLIENT.get_or_init(|| client).clone())
}

/// A client for the store.
#[derive(Debug, Clone)]
struct Canned {
    client: StoreClient,
    answers: Arc<Mutex<VecDeque<CannedAnswer>>>,
}

impl Canned {
    fn next(&self) -> Result<HttpResponse, HttpError> {
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let broken =
            |error: &str| HttpError::new(HttpErrorKind::Connect, std::io::Error::other(error.to_owned()));
        let CannedAnswer { status, headers, body } = answer.ok_or_else(|| broken("no answer is left"))?;
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            let name = http::HeaderName::try_from(name);
            let value = http::HeaderValue::try_from(value);
            if let (Ok(name), Ok(value)) = (name, value) {
                response = response.header(name, value);
            }
        }
        response.body(HttpResponseBody::from(body)).map_err(|error| broken(&error.to_string()))
    }
}

#[async_trait]
impl HttpService for Canned {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let understood = self.client.understand(Expected::of(&request), self.next()?);
        understood.await.map_err(|error| HttpError::new_boxed(HttpErrorKind::Unknown, error))
    }
}

impl HttpConnector for Canned {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// A client for whatever issues credentials.
#[derive(Debug)]
struct Issuer(Canned);

#[async_trait]
impl HttpService for Issuer {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let understood = understand(self.0.next()?, &[], Form::of(&request)).await;
        understood.map_err(|error| HttpError::new_boxed(HttpErrorKind::Unknown, error))
    }
}

impl HttpConnector for Issuer {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self(self.0.clone())))
    }
}
