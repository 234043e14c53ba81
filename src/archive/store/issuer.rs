//! The HTTP client for servers that issue credentials: metadata services, security token services.
//!
//! What they refuse is worth reading, so an error keeps their code and message, without what the request had of secrets.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use serde_json::Value;

use super::answer::Answer;
use super::client::builder;
use super::issued::Form;
use super::options::{Connection, Resolved, host};
use super::reach::HostAndPort;
use super::shown::shown;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Maximum size of an error response in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Maximum size of credentials in bytes. All that are known have a few thousand.
const MAX_CREDENTIALS_BYTES: usize = 1 << 20;

/// Limit for connecting to the metadata service of a cloud's machine. On other machines nobody answers.
const NEXT_DOOR: Duration = Duration::from_secs(2);

/// A request that would have sent secrets where others can read them.
#[derive(Debug, thiserror::Error)]
#[error("http://{0} is not encrypted, and credentials would be sent there")]
pub(super) struct NotEncrypted(String);

/// A failed request for credentials, with the address that was asked, without parameters.
#[derive(Debug, thiserror::Error)]
#[error("{address}")]
pub(super) struct Asking {
    address: String,
    source: BoxError,
}

impl Asking {
    fn of(uri: &http::Uri) -> impl FnOnce(BoxError) -> HttpError + use<> {
        let address =
            format!("{}://{}{}", uri.scheme_str().unwrap_or_default(), HostAndPort::of(uri), uri.path());
        |source| HttpError::new(HttpErrorKind::Unknown, Self { address, source })
    }
}

/// A client for servers that issue credentials. They answer as `object_store` expects. Most calls need none of them.
#[derive(Clone)]
pub(super) struct CredentialClient {
    connection: Connection,
    metadata_hosts: Vec<String>,
    far: Arc<OnceLock<reqwest::Client>>,
    near: Arc<OnceLock<reqwest::Client>>,
}

/// Omits the connection, whose proxy may have a password.
impl fmt::Debug for CredentialClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialClient").finish_non_exhaustive()
    }
}

impl CredentialClient {
    pub(super) fn new(resolved: &Resolved) -> Self {
        let connection = &resolved.connection;
        let connect_timeout = connection.connect_timeout.min(NEXT_DOOR);
        let endpoint =
            resolved.provider.get("aws_metadata_endpoint").map(|endpoint| host(endpoint).to_owned());
        Self {
            connection: Connection { connect_timeout, ..connection.clone() },
            metadata_hosts: resolved.metadata_hosts.iter().cloned().chain(endpoint).collect(),
            far: Arc::default(),
            near: Arc::default(),
        }
    }

    /// Returns the client for a host. One next door is asked directly: a proxy would give its own machine's credentials.
    fn client(&self, host: &str, is_plain: bool) -> Result<&reqwest::Client, BoxError> {
        let is_near = is_next_door(host) || self.metadata_hosts.iter().any(|known| known == host);
        if is_plain && !is_near && !self.connection.allow_http {
            return Err(NotEncrypted(host.to_owned()).into());
        }
        let client = if is_near { &self.near } else { &self.far };
        if let Some(client) = client.get() {
            return Ok(client);
        }
        let builder = if is_near {
            let direct = Connection { allow_http: true, proxy_url: None, ..self.connection.clone() };
            builder(&direct)?.no_proxy()
        } else {
            builder(&self.connection)?
        };
        let new = builder.timeout(self.connection.read_timeout).build()?;
        Ok(client.get_or_init(|| new))
    }

    async fn exchange(&self, mut request: HttpRequest) -> Result<HttpResponse, BoxError> {
        trim_tokens(&mut request)?;
        let form = Form::of(&request);
        let (uri, method) = (request.uri().clone(), request.method().clone());
        let is_plain = uri.scheme_str() != Some("https");
        let client = self.client(uri.host().unwrap_or_default(), is_plain)?;
        let secrets = secrets(&request);
        let (parts, body) = request.into_parts();
        let body = body.as_bytes().cloned().unwrap_or_default();
        let request = http::Request::from_parts(parts, body).try_into()?;
        let response: http::Response<reqwest::Body> =
            client.execute(request).await.map_err(|error| HostAndPort::of(&uri).failed(error))?.into();
        let response = response.map(|body| {
            let failed =
                |error: reqwest::Error| HttpError::new(HttpErrorKind::Interrupted, error.without_url());
            object_store::client::HttpResponseBody::new(body.map_err(failed))
        });
        // The library falls back to an older way of asking then.
        if method == http::Method::PUT && response.status() == http::StatusCode::FORBIDDEN {
            return Ok(response.map(|_| bytes::Bytes::new().into()));
        }
        understand(response, &secrets, form).await
    }
}

/// Turns every response but a success into an [`Answer`] without these secrets, and a success without credentials into an error.
pub(super) async fn understand(
    response: HttpResponse,
    secrets: &[String],
    form: Form,
) -> Result<HttpResponse, BoxError> {
    if response.status().is_success() {
        let (parts, body) = response.into_parts();
        let whole = Limited::new(body, MAX_CREDENTIALS_BYTES).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                format!("the answer has more than {MAX_CREDENTIALS_BYTES} bytes").into()
            } else {
                error
            }
        })?;
        return Ok(HttpResponse::from_parts(parts, form.readable(whole.to_bytes())?.into()));
    }
    let mut answer = Answer { status: response.status().as_u16(), ..Answer::default() };
    // A response with an unreadable body is still a response.
    if let Ok(body) = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let body = body.to_bytes();
        answer.read_body(&String::from_utf8_lossy(&body), &secrets);
        if let Ok(json) = serde_json::from_slice(&body) {
            read_json(&mut answer, &json, &secrets);
        }
    }
    Err(answer.into())
}

/// Reads code and message: of OAuth 2.0 (RFC 6749, 5.2), as Microsoft and Google answer, and of the hosts of containers.
fn read_json(answer: &mut Answer, json: &Value, secrets: &[&str]) {
    let error = json.get("error");
    let text = |value: Option<&Value>| shown(value?.as_str()?, secrets);
    let inside = |name: &str| error.and_then(|error| error.get(name));
    answer.code = text(error).or_else(|| text(inside("status"))).or_else(|| text(json.get("code")));
    answer.message = text(json.get("error_description"))
        .or_else(|| text(inside("message")))
        .or_else(|| text(json.get("message")));
}

/// Takes white space from the ends of tokens, whose files often end with a line feed. The library sends it, and few servers ignore
/// it.
fn trim_tokens(request: &mut HttpRequest) -> Result<(), BoxError> {
    if let Some(query) = request.uri().query().and_then(with_trimmed_tokens) {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(format!("{}?{query}", request.uri().path()).parse()?);
        *request.uri_mut() = http::Uri::from_parts(parts)?;
    }
    let body = request.body().as_bytes().and_then(|body| std::str::from_utf8(body).ok());
    if let Some(body) = body.and_then(with_trimmed_tokens) {
        *request.body_mut() = body.into();
    }
    Ok(())
}

/// Returns these parameters with trimmed tokens; `None` if they are so already.
fn with_trimmed_tokens(encoded: &str) -> Option<String> {
    const TOKENS: [&str; 2] = ["WebIdentityToken=", "client_assertion="];
    const SPACE: [&str; 5] = ["%0A", "%0D", "%09", "%20", "+"];
    let trimmed = |parameter| {
        let mut left: &str = parameter;
        if TOKENS.iter().any(|token| parameter.starts_with(token)) {
            while let Some(shorter) = SPACE.iter().find_map(|space| left.strip_suffix(space)) {
                left = shorter;
            }
        }
        left
    };
    let trimmed = encoded.split('&').map(trimmed).collect::<Vec<_>>().join("&");
    (trimmed.len() < encoded.len()).then_some(trimmed)
}

/// Parameters of requests for credentials that are no secrets.
const PUBLIC: [&str; 16] = [
    "Action",
    "DurationSeconds",
    "RoleArn",
    "RoleSessionName",
    "Version",
    "api-version",
    "audience",
    "client_assertion_type",
    "client_id",
    "grant_type",
    "mi_res_id",
    "msi_res_id",
    "object_id",
    "requested_token_type",
    "resource",
    "scope",
];

/// Returns what a server must not repeat in an error: parameters and headers that prove who is asking.
fn secrets(request: &HttpRequest) -> Vec<String> {
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let body = request.body().as_bytes().map(|body| &body[..]).unwrap_or_default();
    let parameters = [query, body].into_iter().flat_map(url::form_urlencoded::parse);
    let parameters = parameters.filter(|(name, _)| !PUBLIC.contains(&&**name)).flat_map(|(_, value)| {
        let encoded = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        [value.into_owned(), encoded]
    });
    let headers = request.headers().iter().filter(|(name, _)| {
        ["authorization", "secret", "x-aws-ec2-metadata-token", "x-identity-header"].contains(&name.as_str())
    });
    let headers = headers.filter_map(|(_, value)| value.to_str().ok()).flat_map(|value| {
        let token = value.split_once(' ').map_or(value, |(_scheme, token)| token);
        [value.to_owned(), token.to_owned()]
    });
    parameters.chain(headers).filter(|secret| !secret.is_empty()).collect()
}

/// Returns `true` for this machine itself, and for the addresses at which clouds answer their machines: IPv4 link-local,
/// and Amazon's and Google's own.
pub(super) fn is_next_door(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.segments().starts_with(&[0xfd00, 0xec2])
                || address.segments().starts_with(&[0xfd20, 0xce])
        }
        Err(_) => matches!(&*host, "localhost" | "metadata.google.internal" | "metadata"),
    }
}

#[async_trait]
impl HttpService for CredentialClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let failed = Asking::of(request.uri());
        self.exchange(request).await.map_err(failed)
    }
}

impl HttpConnector for CredentialClient {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_and_this_machine_are_next_door() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "fe80::1",
            "metadata.google.internal",
            "metadata.google.internal.",
            "localhost",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(is_next_door(host), "{host}");
        }
        for host in ["sts.amazonaws.com", "10.0.0.1", "[fd00::1]", "metadata.example", "169.253.0.1", ""] {
            assert!(!is_next_door(host), "{host}");
        }
    }

    fn client(allow_http: bool) -> CredentialClient {
        let mut resolved = Resolved::default();
        resolved.connection.allow_http = allow_http;
        resolved.provider.insert("aws_metadata_endpoint".into(), "http://imds.example:81/x".into());
        CredentialClient::new(&resolved)
    }

    #[test]
    fn credentials_cross_no_network_in_plain_text() {
        let plain = |client: &CredentialClient, host| client.client(host, true).is_ok();
        assert!(plain(&client(false), "169.254.169.254"));
        assert!(plain(&client(false), "imds.example"), "it is configured as the metadata service");
        assert!(!plain(&client(false), "sts.example"));
        assert!(plain(&client(true), "sts.example"));
        assert!(client(false).client("sts.example", false).is_ok());
    }

    fn answer(status: u16, body: &str, secrets: &[&str]) -> String {
        let response = http::Response::builder().status(status).body(body.to_owned().into()).unwrap();
        let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(understand(response, &secrets, Form::OAuth)).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_keeps_code_and_message_without_the_secrets_of_the_request() {
        for (status, body, expected) in [
            (
                403,
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform \
                 sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>",
                "403 Forbidden (AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity)",
            ),
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid s3cret secret.\r\nTrace","error_codes":[1]}"#,
                "401 Unauthorized (invalid_client: AADSTS7000215: Invalid *** secret. Trace)",
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}}"#,
                "403 Forbidden (PERMISSION_DENIED: denied)",
            ),
            (
                400,
                r#"{"code":"InvalidToken","message":"s3cret is no token"}"#,
                "400 Bad Request (InvalidToken: *** is no token)",
            ),
            (500, "s3cret, and no reason", "500 Internal Server Error"),
        ] {
            assert_eq!(answer(status, body, &["s3cret"]), format!("the answer was {expected}"));
        }
    }

    #[test]
    fn credentials_without_an_end_are_not_kept() {
        let understood = |bytes: usize| {
            let response = http::Response::new("x".repeat(bytes).into());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let body = understand(response, &[], Form::Token).await?.into_body().collect().await?;
                Ok::<_, BoxError>(body.to_bytes().len())
            })
        };
        assert_eq!(understood(1 << 20).unwrap(), 1 << 20);
        let error = understood((1 << 20) + 1).unwrap_err().to_string();
        assert_eq!(error, "the answer has more than 1048576 bytes");
    }

    #[test]
    fn a_line_feed_after_a_token_is_not_sent() {
        for (given, expected) in [
            ("a=b%0A&WebIdentityToken=to%2Bken%0D%0A", Some("a=b%0A&WebIdentityToken=to%2Bken")),
            ("client_assertion=x+%0A+&scope=y", Some("client_assertion=x&scope=y")),
            ("client_assertion=x&scope=y", None),
            ("", None),
        ] {
            assert_eq!(with_trimmed_tokens(given).as_deref(), expected, "{given}");
        }
        let mut request = http::Request::post("https://sts/p?Version=1&WebIdentityToken=t%0A")
            .body(b"client_assertion=x%0A".to_vec().into())
            .unwrap();
        trim_tokens(&mut request).unwrap();
        assert_eq!(request.uri(), "https://sts/p?Version=1&WebIdentityToken=t");
        assert_eq!(request.body().as_bytes().unwrap(), "client_assertion=x");
    }

    #[test]
    fn what_proves_who_is_asking_is_a_secret() {
        let request = http::Request::post("https://x/?Action=A&WebIdentityToken=to%2Fken&RoleArn=arn")
            .header("authorization", "Bearer bear/er")
            .header("x-identity-header", "own")
            .body(b"client_secret=c%26s&grant_type=client_credentials".to_vec().into())
            .unwrap();
        let found = secrets(&request);
        for secret in ["to/ken", "to%2Fken", "c&s", "c%26s", "Bearer bear/er", "bear/er", "own"] {
            assert!(found.iter().any(|found| found == secret), "{secret}: {found:?}");
        }
        assert!(
            !found.iter().any(|found| ["A", "arn", "client_credentials"].contains(&found.as_str())),
            "{found:?}"
        );
    }
}
