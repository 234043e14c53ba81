//! One `ObjectStore` for each provider, on top of walkeep's client.
//!
//! Each is built twice: the first one gets credentials with a client of its own and lends them to the second, which
//! sends requests to the store. In object_store 0.14.2, a builder has one `HttpConnector` for both, which cannot tell
//! them apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpConnector;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::client::StoreClient;
use super::credentials::Credentials;
use super::failure::Causes;
use super::form::{is_web_address, without_password};
use super::issuer::{CredentialClient, is_next_door};
use super::options::{Resolved, host, truth};
use super::process::ProcessCredentials;
use super::read_later::{check_files, check_variables, sent_file};
use super::setting_names::is_secret;
use super::shown::quotes_one;
use super::source::Source;
use super::stall::Stillness;
use super::upload::{Claim, Signer};
use crate::archive::url::{Provider, StoreUrl};
use crate::error::{Error, ErrorKind};

/// A store that has received no request so far.
pub(super) struct Built {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The same store, with bulk deletion.
    pub(super) bulk: Arc<dyn ObjectStore>,
    /// Scheme and host.
    pub(super) address: String,
    /// URL of the bucket, if it can be asked about itself: with S3's protocol and signed requests.
    pub(super) bucket: Option<String>,
    /// `true` if the provider is known to support conditional writes.
    pub(super) known_to_honour_conditions: bool,
    pub(super) claim: Claim,
}

/// Builds the store of the bucket.
pub(super) fn build(url: &StoreUrl, resolved: &Resolved, client: &StoreClient) -> Result<Built, Error> {
    check_files(resolved)?;
    build_over(url, resolved, client, CredentialClient::new(resolved), client.impatience())
}

/// Builds the store of the bucket over other clients: for the store, and for whatever issues credentials.
pub(super) fn build_over(
    url: &StoreUrl,
    resolved: &Resolved,
    client: &(impl HttpConnector + Clone),
    credentials: impl HttpConnector,
    patience: Stillness,
) -> Result<Built, Error> {
    let settings = &resolved.provider;
    let address = address(url, settings);
    if !is_web_address(&address) {
        let what = format!("the endpoint {:?} is not a URL of a server", without_password(&address));
        return Err(Error::new(ErrorKind::Configuration, what).hint(
            "write it as https://HOST or https://HOST:PORT; http:// also needs allow_http = true in [store]",
        ));
    }
    if address.starts_with("http://") && !resolved.connection.allow_http {
        let what = format!("the endpoint {} is not encrypted", without_password(&address));
        return Err(Error::new(ErrorKind::Configuration, what)
            .hint("use https://, or set allow_http = true in [store] if nobody can listen in between"));
    }
    if let Some((name, issuer)) = unencrypted_issuer(resolved) {
        let what = format!("{name} is {}, which is not encrypted", without_password(issuer));
        return Err(Error::new(ErrorKind::Configuration, what)
            .hint("use https://, or set allow_http = true in [store] if nobody can listen in between"));
    }
    let from = Source::of(url, resolved)?;
    check_variables(from, resolved)?;
    if resolved.no_metadata && from == Source::Machine(Provider::S3) {
        return Err(Error::new(ErrorKind::Configuration, format!("no credentials are configured for {url}"))
            .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_EC2_METADATA_DISABLED is set"));
    }
    let Stores { store, bulk, claim } = stores(url, resolved, client, credentials, (from, patience))
        .map_err(|error| {
            let failure = Error::new(ErrorKind::Configuration, format!("cannot use the archive {url}"));
            let causes = Causes::of(&error);
            // Some causes quote the value that they could not parse.
            let secrets = settings.iter().filter(|(name, _)| is_secret(name));
            let secrets: Vec<&str> = secrets.map(|(_, secret)| secret.as_str()).collect();
            if quotes_one(&causes.to_string(), &secrets) {
                failure.hint("a secret in [store] or the environment has not the form that it should have")
            } else {
                failure.because(causes)
            }
        })?;
    let known_to_honour_conditions = url.provider != Provider::S3
        || is_of(&address, &AMAZON)
        || is_of(&address, &["r2.cloudflarestorage.com"]);
    let bucket = bucket(url, settings, &address);
    Ok(Built { store, bulk, address, bucket, known_to_honour_conditions, claim })
}

/// Returns a server that issues credentials and to which they would cross a network in plain text, with its setting.
fn unencrypted_issuer(resolved: &Resolved) -> Option<(&'static str, &str)> {
    let names = ["aws_endpoint_url_sts", "azure_storage_authority_host", "azure_fabric_token_service_url"];
    let given = names.into_iter().filter_map(|name| Some((name, resolved.provider.get(name)?.as_str())));
    let mut open =
        given.filter(|(_, address)| address.starts_with("http://") && !is_next_door(host(address)));
    open.next().filter(|_| !resolved.connection.allow_http)
}

/// Domains of Amazon's stores.
const AMAZON: [&str; 2] = ["amazonaws.com", "amazonaws.com.cn"];

/// Returns `true` if the address is in one of the domains.
fn is_of(address: &str, domains: &[&str]) -> bool {
    domains.iter().any(|domain| host(address).ends_with(&format!(".{domain}")))
}

/// Clients of one store.
struct Stores {
    /// For everything except bulk deletion.
    store: Arc<dyn ObjectStore>,
    /// For bulk deletion.
    bulk: Arc<dyn ObjectStore>,
    claim: Claim,
}

impl Stores {
    fn same(store: Arc<dyn ObjectStore>) -> Self {
        Self { store: store.clone(), bulk: store, claim: Claim::Length }
    }
}

/// Returns a builder with all settings and its credentials. A macro, because the builders share methods but no trait.
macro_rules! configured {
    ($builder:expr, $resolved:expr, $client:expr, $issuer:expr, $own:expr, $from:expr, $patience:expr) => {{
        let mut builder = $builder.with_retry(never());
        for (name, value) in &$resolved.provider {
            builder = builder.with_config(name.parse()?, value);
        }
        let provider = match $own {
            Some(own) => own,
            None => builder.clone().with_http_connector($issuer).build()?.credentials().clone(),
        };
        let sent_file = sent_file($from, $resolved);
        let credentials = Arc::new(Credentials { provider, from: $from, patience: $patience, sent_file });
        let builder = builder.with_credentials(credentials.clone()).with_http_connector($client.clone());
        (builder, credentials)
    }};
}

fn stores(
    url: &StoreUrl,
    resolved: &Resolved,
    client: &(impl HttpConnector + Clone),
    issuer: impl HttpConnector,
    (from, patience): (Source, Stillness),
) -> object_store::Result<Stores> {
    let settings = &resolved.provider;
    let bucket = &url.bucket;
    Ok(match url.provider {
        Provider::S3 => {
            let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_allow_http(true);
            if is_of(&address(url, settings), &AMAZON) {
                // A bucket with object lock accepts no file without one. The signature needs the digest anyway. Other stores
                // may reject the header.
                builder = builder.with_checksum_algorithm(Checksum::SHA256);
            }
            // Not every store supports it, so only callers with a fallback use it.
            let builder = builder.with_disable_bulk_delete(true);
            let process = resolved.process.clone().filter(|_| from == Source::Process);
            let own = process.map(|process| Arc::new(ProcessCredentials::new(process)) as _);
            let (builder, credentials) = configured!(builder, resolved, client, issuer, own, from, patience);
            let store = Arc::new(builder.clone().build()?);
            let bulk = Arc::new(builder.with_disable_bulk_delete(false).build()?);
            let claim = if is_on(settings, "aws_s3_express") {
                Claim::Session
            } else {
                Claim::Signature(Arc::new(Signer { credentials, region: region(settings).to_owned() }))
            };
            Stores { store, bulk, claim }
        }
        Provider::Google => {
            let builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
            let (builder, _) = configured!(builder, resolved, client, issuer, None, from, patience);
            Stores::same(Arc::new(builder.build()?))
        }
        Provider::Azure => {
            let builder = MicrosoftAzureBuilder::new().with_container_name(bucket).with_allow_http(true);
            let (builder, _) = configured!(builder, resolved, client, issuer, None, from, patience);
            Stores::same(Arc::new(builder.build()?))
        }
    })
}

/// Disables retries: the caller decides on them within the time limit of the call.
fn never() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, ..RetryConfig::default() }
}

/// Returns the address that the builder will use.
pub(super) fn address(url: &StoreUrl, settings: &BTreeMap<String, String>) -> String {
    let setting = |name: &str| settings.get(name).map(|value| value.trim_end_matches('/').to_owned());
    let is_on = |name: &str| is_on(settings, name);
    match url.provider {
        Provider::S3 => {
            setting("aws_endpoint_url_s3").or_else(|| setting("aws_endpoint")).unwrap_or_else(|| {
                let region = region(settings);
                let virtual_hosted = is_on("aws_virtual_hosted_style_request");
                let bucket = if virtual_hosted { format!("{}.", url.bucket) } else { String::new() };
                format!("https://{bucket}s3.{region}.amazonaws.com")
            })
        }
        Provider::Google => {
            setting("google_base_url").unwrap_or_else(|| "https://storage.googleapis.com".to_owned())
        }
        Provider::Azure if is_on("azure_storage_use_emulator") => "http://127.0.0.1:10000".to_owned(),
        Provider::Azure => setting("azure_storage_endpoint").unwrap_or_else(|| {
            let account = setting("azure_storage_account_name").unwrap_or_default();
            let is_fabric = is_on("azure_use_fabric_endpoint");
            let service = if is_fabric { "fabric.microsoft.com" } else { "core.windows.net" };
            format!("https://{account}.blob.{service}")
        }),
    }
}

/// Returns the URL of the bucket, as `AmazonS3` has it.
fn bucket(url: &StoreUrl, settings: &BTreeMap<String, String>, address: &str) -> Option<String> {
    let can_be_asked = url.provider == Provider::S3
        && !is_on(settings, "aws_s3_express")
        && !is_on(settings, "aws_skip_signature");
    let is_in_host = is_on(settings, "aws_virtual_hosted_style_request");
    can_be_asked.then(|| if is_in_host { address.to_owned() } else { format!("{address}/{}", url.bucket) })
}

/// Returns the S3 region that requests are signed for, which `AmazonS3` does not reveal.
fn region(settings: &BTreeMap<String, String>) -> &str {
    ["aws_region", "aws_default_region"]
        .iter()
        .find_map(|name| settings.get(*name))
        .map_or("us-east-1", String::as_str)
}

fn is_on(settings: &BTreeMap<String, String>, name: &str) -> bool {
    settings.get(name).is_some_and(|value| truth(value) == Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ArchiveUrl;
    use async_trait::async_trait;
    use object_store::client::{
        HttpClient, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    };
    use object_store::{ClientOptions, ObjectStoreExt};
    use std::sync::Mutex;
    use std::time::Duration;

    #[test]
    fn an_endpoint_that_is_not_a_url_is_refused() {
        for endpoint in
            ["127.0.0.1:9000", "localhost:9000", "store", "http://", "https://", "ftp://store", "https://a b"]
        {
            for (url, setting) in [
                ("s3://wal", "aws_endpoint"),
                ("s3://wal", "aws_endpoint_url_s3"),
                ("gs://wal", "google_base_url"),
                ("az://wal", "azure_storage_endpoint"),
            ] {
                let error = built(url, &[(setting, endpoint)]).err().unwrap();
                assert!(
                    error.contains("is not a URL of a server; write it as https://HOST"),
                    "{endpoint}: {error}"
                );
            }
        }
    }

    #[test]
    fn a_password_in_an_endpoint_is_not_shown() {
        let error = built("s3://wal", &[("aws_endpoint", "me:secret@store:9000")]).err().unwrap();
        assert!(
            error.contains("the endpoint \"store:9000\" is not a URL") && !error.contains("secret"),
            "{error}"
        );
    }

    fn built(url: &str, settings: &[(&str, &str)]) -> Result<Built, String> {
        let Ok(ArchiveUrl::Store(url)) = url.parse() else { panic!("{url}") };
        let mut resolved = Resolved::default();
        resolved.connection.allow_http = true;
        resolved.provider =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let client = StoreClient::new(&resolved.connection).unwrap();
        build(&url, &resolved, &client).map_err(|error| error.report())
    }

    const KEYS: [(&str, &str); 2] = [("aws_access_key_id", "AKIA"), ("aws_secret_access_key", "s3cret")];

    #[test]
    fn conditions_are_assumed_only_for_the_big_providers() {
        let s3 = |more: &[(&str, &str)]| built("s3://wal/main", &[&KEYS, more].concat()).unwrap();
        let amazon = s3(&[("aws_region", "eu-west-1")]);
        assert_eq!(amazon.address, "https://s3.eu-west-1.amazonaws.com");
        assert!(amazon.known_to_honour_conditions);
        for (endpoint, known) in [
            ("https://s3.eu-west-1.amazonaws.com:443/", true),
            ("https://abc.r2.cloudflarestorage.com", true),
            ("https://minio.example:9000", false),
            ("https://amazonaws.com.example", false),
            ("https://notamazonaws.com", false),
        ] {
            assert_eq!(s3(&[("aws_endpoint", endpoint)]).known_to_honour_conditions, known, "{endpoint}");
        }
        let account = [("azure_storage_account_name", "me"), ("azure_storage_account_key", "c2VjcmV0")];
        let azure = built("az://wal", &account).unwrap();
        assert_eq!(azure.address, "https://me.blob.core.windows.net");
        assert!(azure.known_to_honour_conditions);
        let google = built("gs://wal", &[("google_bearer_token", "t")]);
        assert!(google.is_ok_and(|google| google.known_to_honour_conditions));
    }

    /// Keeps the headers of requests, and answers that all went well.
    #[derive(Debug, Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<http::HeaderMap>>>);

    #[async_trait]
    impl HttpService for Recorder {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            self.0.lock().unwrap().push(request.headers().clone());
            let response = http::Response::builder().status(200).header("etag", "\"x\"");
            Ok(response.body(HttpResponseBody::from(bytes::Bytes::new())).unwrap())
        }
    }

    impl HttpConnector for Recorder {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            Ok(HttpClient::new(self.clone()))
        }
    }

    #[test]
    fn amazon_gets_a_checksum_with_every_file_and_others_get_one_if_it_is_set() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (endpoint, setting, expected) in [
            ("https://s3.eu-west-1.amazonaws.com", None, Some("x-amz-checksum-sha256")),
            ("https://s3.eu-west-1.amazonaws.com", Some("crc64nvme"), Some("x-amz-checksum-crc64nvme")),
            ("https://minio.example", None, None),
            ("https://minio.example", Some("sha256"), Some("x-amz-checksum-sha256")),
        ] {
            let Ok(ArchiveUrl::Store(url)) = "s3://wal/main".parse() else { panic!("not a store") };
            let mut resolved = Resolved::default();
            let settings = KEYS.into_iter().chain([("aws_endpoint", endpoint)]);
            let settings = settings.chain(setting.map(|kind| ("aws_checksum_algorithm", kind)));
            resolved.provider = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let recorder = Recorder::default();
            let built =
                build_over(&url, &resolved, &recorder, recorder.clone(), Stillness::new(Duration::MAX))
                    .unwrap();
            runtime.block_on(built.store.put(&"main/file".into(), "content".into())).unwrap();
            let sent = recorder.0.lock().unwrap();
            let checksums: Vec<&str> = sent[0]
                .keys()
                .map(http::HeaderName::as_str)
                .filter(|name| name.contains("checksum"))
                .collect();
            assert_eq!(checksums, Vec::from_iter(expected), "{endpoint} {setting:?}");
        }
    }

    #[test]
    fn an_incomplete_configuration_is_an_error_without_secrets() {
        let error = built("s3://wal", &[("aws_secret_access_key", "s3cret")]).err().unwrap();
        assert!(
            error.contains("s3://wal") && error.contains("secret_access_key is set and access_key_id is not"),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
        let error = built("az://wal", &[]).err().unwrap();
        assert!(error.to_lowercase().contains("account"), "{error}");
        let error = built("gs://wal", &[("google_service_account_key", "\"s3cret\"")]).err().unwrap();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn an_issuer_of_credentials_must_be_encrypted_as_the_store() {
        let Ok(ArchiveUrl::Store(url)) = "s3://wal".parse() else { panic!() };
        let with = |issuer: &str, allow_http| {
            let mut resolved = Resolved::default();
            resolved.connection.allow_http = allow_http;
            for (name, value) in [
                ("aws_endpoint_url_sts", issuer),
                ("aws_role_arn", "arn:x"),
                ("aws_web_identity_token_file", "/t"),
            ] {
                resolved.provider.insert(name.to_owned(), value.to_owned());
            }
            let client = StoreClient::new(&resolved.connection).unwrap();
            build(&url, &resolved, &client).map(drop).map_err(|error| error.report())
        };
        let error = with("http://me:s3cret@sts.example", false).unwrap_err();
        assert!(
            error.starts_with("aws_endpoint_url_sts is http://sts.example, which is not encrypted"),
            "{error}"
        );
        for (issuer, allow_http) in
            [("http://sts.example", true), ("https://sts.example", false), ("http://127.0.0.1:1", false)]
        {
            assert_eq!(with(issuer, allow_http), Ok(()), "{issuer}");
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = fifo.to_str().unwrap();
        let account = ("azure_storage_account_name", "me");
        for (url, settings) in [
            ("s3://wal", &[("aws_role_arn", "arn:x"), ("aws_web_identity_token_file", fifo)][..]),
            (
                "s3://wal",
                &[
                    ("aws_container_credentials_full_uri", "http://127.0.0.1:1"),
                    ("aws_container_authorization_token_file", fifo),
                ],
            ),
            ("gs://wal", &[("google_service_account", fifo)]),
            ("gs://wal", &[("google_application_credentials", fifo)]),
            (
                "az://wal",
                &[
                    account,
                    ("azure_storage_client_id", "1"),
                    ("azure_storage_tenant_id", "1"),
                    ("azure_federated_token_file", fifo),
                ],
            ),
        ] {
            let error = built(url, settings).err().unwrap();
            assert!(
                error.starts_with(&format!("cannot read {fifo}: it is a named pipe, not a regular file")),
                "{url}: {error}"
            );
        }
        let connection =
            crate::archive::store::options::Connection { ca_file: Some(fifo.into()), ..Default::default() };
        let error = StoreClient::new(&connection).unwrap_err().report();
        assert!(
            error.starts_with(&format!(
                "cannot use the CA file {fifo}: it is a named pipe, not a regular file"
            )),
            "{error}"
        );
    }

    #[test]
    fn plain_http_must_be_allowed() {
        let Ok(ArchiveUrl::Store(url)) = "s3://wal".parse() else { panic!() };
        let mut resolved = Resolved::default();
        resolved.provider.insert("aws_endpoint".to_owned(), "http://127.0.0.1:1".to_owned());
        let client = StoreClient::new(&resolved.connection).unwrap();
        let error = build(&url, &resolved, &client).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.report().contains("allow_http"), "{}", error.report());
    }
}
