//! Checks of what servers issue as credentials, because `object_store` panics at some of it, and quotes the rest. Pure.
//!
//! In object_store 0.14.2, `retryable_request` (src/client/retry.rs) and `try_authorize` (src/aws/credential.rs) expect texts that
//! fit into headers and addresses, each source of credentials adds a lifetime to the time without a check, and errors of its
//! parsers repeat what they could not read. Errors without that would replace this module.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use object_store::aws::AwsCredential;
use object_store::azure::AzureCredential;
use object_store::client::HttpRequest;
use object_store::gcp::GcpCredential;
use serde::Deserialize;
use serde_json::Value;

use super::form::is_web_address;

/// Error for an answer that holds no credentials, or none that a request can carry. Quotes none of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is something else than credentials: {0}")]
pub(super) struct NotCredentials(&'static str);

/// Latest time that is believed, and longest lifetime, in seconds: some 35,000 years.
const LONGEST: u64 = 1 << 40;

const CANNOT_BE_SENT: NotCredentials =
    NotCredentials("a key or token is empty, or holds a control character");
const ENDS_TOO_LATE: NotCredentials = NotCredentials("its lifetime is longer than any that can be meant");

/// Form of an answer with credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A token and nothing else, for the next request.
    Token,
    /// The name of a role and nothing else, for the address of the next request.
    Role,
    /// JSON of Amazon's metadata services.
    Metadata,
    /// XML of Amazon's security token service.
    WebIdentity,
    /// XML of a session with S3 Express One Zone.
    Session,
    /// JSON of OAuth 2.0.
    OAuth,
    /// JSON of Azure's managed identities.
    Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: String,
    #[serde(rename = "Expiration")]
    _expiration: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    assume_role_with_web_identity_result: WithKeys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WithKeys {
    credentials: Keys,
}

impl Form {
    /// Returns the form of the answer to a request for credentials.
    pub(super) fn of(request: &HttpRequest) -> Self {
        let has = |name: &str| request.headers().contains_key(name);
        let query = request.uri().query().unwrap_or_default();
        match () {
            () if request.method() == http::Method::PUT || has("x-ms-partner-token") => Self::Token,
            () if query.contains("Action=AssumeRoleWithWebIdentity") => Self::WebIdentity,
            () if request.uri().path().ends_with("/security-credentials/") => Self::Role,
            () if has("metadata") => Self::Identity,
            () if has("metadata-flavor") || request.method() == http::Method::POST => Self::OAuth,
            () => Self::Metadata,
        }
    }

    /// Returns a successful answer as the library can read it.
    pub(super) fn readable(self, body: Bytes) -> Result<Bytes, NotCredentials> {
        match self {
            Self::Token | Self::Role => {
                let text = body.trim_ascii();
                let is_fit = match self {
                    Self::Token => HeaderValue::from_bytes(text).is_ok_and(|value| !value.is_empty()),
                    _ => std::str::from_utf8(text)
                        .is_ok_and(|role| !role.is_empty() && is_web_address(&format!("http://host/{role}"))),
                };
                let text = body.slice_ref(text);
                if !is_fit {
                    return Err(NotCredentials("a name or a token in one line was expected"));
                }
                if std::str::from_utf8(&text).is_ok_and(ends_too_late) {
                    Err(ENDS_TOO_LATE)
                } else {
                    Ok(text)
                }
            }
            Self::Metadata => {
                let keys: Option<Keys> = serde_json::from_slice(&body).ok();
                let missing = "JSON with AccessKeyId, SecretAccessKey, Token and Expiration was expected";
                keys.ok_or(NotCredentials(missing))?.check().map(|()| body)
            }
            Self::WebIdentity | Self::Session => {
                let keys = match self {
                    Self::Session => xml::<WithKeys>(&body).map(|session| session.credentials),
                    _ => xml::<Assumed>(&body)
                        .map(|assumed| assumed.assume_role_with_web_identity_result.credentials),
                };
                let missing =
                    "XML with AccessKeyId, SecretAccessKey, SessionToken and Expiration was expected";
                keys.ok_or(NotCredentials(missing))?.check().map(|()| body)
            }
            Self::OAuth => check_token(&body, |json| json.get("expires_in")?.as_u64()).map(|()| body),
            Self::Identity => {
                check_token(&body, |json| json.get("expires_on")?.as_str()?.parse().ok()).map(|()| body)
            }
        }
    }
}

fn xml<T: serde::de::DeserializeOwned>(body: &[u8]) -> Option<T> {
    quick_xml::de::from_reader(body).ok()
}

impl Keys {
    fn check(&self) -> Result<(), NotCredentials> {
        let keys = [&self.access_key_id, &self.secret_access_key];
        let is_fit = keys.into_iter().all(|key| !key.is_empty() && fits_a_header(key));
        // Some servers have keys that last, and send an empty token with them.
        let is_fit = is_fit && fits_a_header(&self.token);
        if is_fit { Ok(()) } else { Err(CANNOT_BE_SENT) }
    }
}

/// Checks a token in JSON, which ends at, or in, this number of seconds.
fn check_token(body: &[u8], end: impl Fn(&Value) -> Option<u64>) -> Result<(), NotCredentials> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let token = json.get("access_token").and_then(Value::as_str);
    let (Some(token), Some(end)) = (token, end(&json)) else {
        return Err(NotCredentials("JSON with access_token and its lifetime in seconds was expected"));
    };
    match () {
        () if token.is_empty() || !fits_a_header(token) => Err(CANNOT_BE_SENT),
        () if end > LONGEST || ends_too_late(token) => Err(ENDS_TOO_LATE),
        () => Ok(()),
    }
}

/// `true` if a text can be the value of a header.
pub(super) fn fits_a_header(text: &str) -> bool {
    HeaderValue::from_str(text).is_ok()
}

/// `true` for a JSON Web Token that ends later than the library can count.
pub(super) fn ends_too_late(token: &str) -> bool {
    let end = || {
        let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        serde_json::from_slice::<Value>(&payload).ok()?.get("exp")?.as_u64()
    };
    end().is_some_and(|end| end > LONGEST)
}

/// Credentials of any source, which become headers of requests to the store.
pub(super) trait Sendable {
    /// Checks that a request can carry them.
    fn check(&self) -> Result<(), NotCredentials> {
        if self.texts().into_iter().flatten().all(fits_a_header) { Ok(()) } else { Err(CANNOT_BE_SENT) }
    }

    /// Returns what becomes a part of a header.
    fn texts(&self) -> [Option<&str>; 2];
}

impl Sendable for AwsCredential {
    fn texts(&self) -> [Option<&str>; 2] {
        [Some(&self.key_id), self.token.as_deref()]
    }
}

impl Sendable for GcpCredential {
    fn texts(&self) -> [Option<&str>; 2] {
        [Some(&self.bearer), None]
    }
}

impl Sendable for AzureCredential {
    fn texts(&self) -> [Option<&str>; 2] {
        match self {
            Self::BearerToken(token) => [Some(token), None],
            _ => [None, None],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key: &str, secret: &str, token: &str) -> String {
        serde_json::json!({
            "AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": "2030-01-01T00:00:00Z",
        })
        .to_string()
    }

    fn assumed(key: &str, token: &str) -> String {
        let credentials = credentials(key, token);
        let result =
            format!("<AssumeRoleWithWebIdentityResult>{credentials}</AssumeRoleWithWebIdentityResult>");
        format!("<AssumeRoleWithWebIdentityResponse>{result}</AssumeRoleWithWebIdentityResponse>")
    }

    fn credentials(key: &str, token: &str) -> String {
        format!(
            "<Credentials><SessionToken>{token}</SessionToken><SecretAccessKey>s3cret</SecretAccessKey>\
             <Expiration>2030-01-01T00:00:00Z</Expiration><AccessKeyId>{key}</AccessKeyId></Credentials>"
        )
    }

    fn session(key: &str, token: &str) -> String {
        format!("<CreateSessionResult>{}</CreateSessionResult>", credentials(key, token))
    }

    fn token(name: &str, end: &str) -> String {
        format!(r#"{{"access_token":"s3cret","{name}":{end}}}"#)
    }

    fn jwt(end: &str) -> String {
        format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{end}}}"#)))
    }

    #[test]
    fn what_real_servers_issue_is_handed_on() {
        for (form, body) in [
            (Form::Metadata, keys("AKIA", "s", "to/ken+=")),
            (Form::Metadata, keys("AKIA", "s", "\u{e9}")),
            (Form::WebIdentity, assumed("AKIA", "to/ken+=")),
            (Form::Session, session("AKIA", "to/ken+=")),
            (Form::OAuth, token("expires_in", "3600")),
            (
                Form::OAuth,
                r#"{"access_token":"s","expires_in":1,"expires_on":"x","id_token":"y"}"#.to_owned(),
            ),
            (Form::Identity, token("expires_on", "\"4102444800\"")),
            (Form::Token, "AQAAAA==".to_owned()),
            (Form::Token, jwt("4102444800")),
            (Form::Role, "wal-archive_role+=,.@-".to_owned()),
        ] {
            assert_eq!(form.readable(body.clone().into()).unwrap(), body, "{form:?}");
        }
        for form in [Form::Token, Form::Role] {
            assert_eq!(form.readable("name\r\n".into()).unwrap(), "name");
        }
    }

    #[test]
    fn what_the_library_would_panic_at_or_quote_is_refused_and_not_quoted() {
        let control = ["s3cret\n", "s3cret\0", "\r", "\x1b[31m"];
        let mut bad = Vec::new();
        for text in control.into_iter().chain([""]) {
            bad.extend([
                (Form::Metadata, keys(text, "s", "t")),
                (Form::Metadata, keys("k", text, "t")),
                (Form::Metadata, keys("k", "s", &format!("t{text}\n"))),
                (Form::OAuth, serde_json::json!({"access_token": text, "expires_in": 1}).to_string()),
                (Form::Identity, serde_json::json!({"access_token": text, "expires_on": "1"}).to_string()),
                (Form::WebIdentity, assumed(text, "t")),
                (Form::Session, session("k", &format!("&#0;{text}"))),
                (Form::Role, format!("a{text}\nb")),
                (Form::Token, format!("a{text}\nb")),
            ]);
        }
        for end in ["9223372036854775808", "18446744073709551615", "-1", "\"s3cret\"", "1.5", "null"] {
            bad.push((Form::OAuth, token("expires_in", end)));
            bad.push((Form::Identity, token("expires_on", &format!("\"{end}\"").replace("\"\"", "\""))));
        }
        bad.push((Form::WebIdentity, assumed("k", "s3cret&#10;")));
        bad.push((Form::Session, session("s3cret&#10;", "t")));
        bad.push((Form::Token, jwt("18446744073709551615")));
        bad.push((Form::Role, "s3cret role".to_owned()));
        let all = [
            Form::Token,
            Form::Role,
            Form::Metadata,
            Form::WebIdentity,
            Form::Session,
            Form::OAuth,
            Form::Identity,
        ];
        for form in all {
            bad.extend(["", " \n", "s3cret\nand more"].map(|body| (form, body.to_owned())));
        }
        for form in &all[2..] {
            let bodies = ["s3cret", "{\"s3cret\": 1}", "<s3cret>", "[[[[", "\"s3cret\""];
            bad.extend(bodies.map(|body| (*form, body.to_owned())));
        }
        for (form, body) in bad {
            let error = form.readable(body.clone().into()).unwrap_err().to_string();
            assert!(
                !error.contains("s3cret") && error.contains("something else than credentials"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_form_follows_from_the_request() {
        let of = |method: &str, uri: &str, header: &'static str| {
            let request = http::Request::builder().method(method).uri(format!("http://h{uri}"));
            let body = object_store::client::HttpRequestBody::empty();
            Form::of(&request.header(header, "x").body(body).unwrap())
        };
        let iam = "/latest/meta-data/iam/security-credentials/";
        assert_eq!(of("PUT", "/latest/api/token", "x"), Form::Token);
        assert_eq!(of("GET", iam, "x-aws-ec2-metadata-token"), Form::Role);
        assert_eq!(of("GET", &format!("{iam}role"), "x-aws-ec2-metadata-token"), Form::Metadata);
        assert_eq!(of("GET", "/v1/credentials", "authorization"), Form::Metadata);
        assert_eq!(of("POST", "/?Action=AssumeRoleWithWebIdentity&Version=x", "x"), Form::WebIdentity);
        assert_eq!(of("POST", "/tenant/oauth2/v2.0/token", "accept"), Form::OAuth);
        assert_eq!(of("GET", "/metadata/identity/oauth2/token?resource=x", "metadata"), Form::Identity);
        assert_eq!(
            of("GET", "/computeMetadata/v1/instance/service-accounts/default/token", "metadata-flavor"),
            Form::OAuth
        );
        assert_eq!(of("GET", "/fabric?resource=x", "x-ms-partner-token"), Form::Token);
    }

    #[test]
    fn credentials_of_any_source_are_checked_before_they_are_sent() {
        let aws = |token: &str| AwsCredential {
            key_id: "k".to_owned(),
            secret_key: "s".to_owned(),
            token: Some(token.to_owned()),
        };
        assert_eq!((aws("t").check(), aws("t\n").check()), (Ok(()), Err(CANNOT_BE_SENT)));
        let google = |bearer: &str| GcpCredential { bearer: bearer.to_owned() };
        assert_eq!((google("").check(), google("t\r").check()), (Ok(()), Err(CANNOT_BE_SENT)));
        let azure = |token: &str| AzureCredential::BearerToken(token.to_owned());
        assert_eq!((azure("t").check(), azure("t\0").check()), (Ok(()), Err(CANNOT_BE_SENT)));
    }
}
