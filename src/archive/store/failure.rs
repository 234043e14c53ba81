//! Conversion of library errors to walkeep's: kind, causes without secrets, hint.

use std::error::Error as StdError;
use std::fmt;
use std::iter;

use object_store::client::HttpError;
use rustls::CertificateError;

use super::answer::{Answer, AnswerKind, Meaning, judge};
use super::credentials::{NoCredentials, NoneCame};
use super::issuer::{Asking, NotEncrypted};
use super::process::ProcessError;
use super::reach::Unreachable;
use super::stall::Stalled;
use crate::archive::failure::{Asked, RequestFailure, without_library};
use crate::archive::url::Provider;
use crate::error::{Error, ErrorKind, chain, joined};

/// Converts the failure of a request; `what` names the attempted action.
pub(super) fn failure(
    what: String,
    asked: Asked,
    provider: Provider,
    address: &str,
    error: &object_store::Error,
) -> RequestFailure {
    // Before the answer in it, which is not the store's.
    if let Some(missing) = find::<NoCredentials>(error) {
        let failure = Error::new(without_credentials(missing), what).because(Causes::of(error));
        let failure = match find::<NotEncrypted>(error) {
            Some(_) => failure.hint(NOT_ENCRYPTED),
            None => failure.hint(missing.from.hint()),
        };
        return RequestFailure::Error(failure.timed_out(is_timeout(error)));
    }
    if let Some(answer) = find::<Answer>(error) {
        let Meaning { kind, hint } = judge(answer, asked, provider);
        let hint =
            hint.map(
                |hint| {
                    if is_about_the_bucket(answer) { format!("{hint}; {address} was asked") } else { hint }
                },
            );
        return match kind {
            AnswerKind::Taken => RequestFailure::Taken,
            AnswerKind::Unconditional => RequestFailure::Unconditional,
            AnswerKind::Failure(kind) => {
                let failure = Error::new(kind, what).because(answer.clone());
                RequestFailure::Error(if let Some(hint) = hint { failure.hint(hint) } else { failure })
            }
        };
    }
    let causes = Causes::of(error);
    let failure = match hint_for(error) {
        Some((kind, hint)) => Error::new(kind, what).because(causes).hint(hint),
        None => Error::new(ErrorKind::Unavailable, what).because(causes),
    };
    RequestFailure::Error(failure.timed_out(is_timeout(error)))
}

fn is_about_the_bucket(answer: &Answer) -> bool {
    matches!(answer.code.as_deref(), Some("NoSuchBucket" | "ContainerNotFound"))
}

/// Advice for a server that issues credentials in plain text.
const NOT_ENCRYPTED: &str =
    "use https://, or set allow_http = true in [store] if nobody can listen in between";

/// Returns the kind of a failure to get credentials.
fn without_credentials(missing: &NoCredentials) -> ErrorKind {
    if let Some(process) = find::<ProcessError>(missing) {
        return process.kind();
    }
    if find::<NotEncrypted>(missing).is_some() {
        return ErrorKind::Refused;
    }
    match find::<Answer>(missing) {
        Some(answer) if is_for_good(answer) => ErrorKind::Refused,
        _ => ErrorKind::Unavailable,
    }
}

/// Returns `true` if an issuer of credentials will refuse until somebody changes something. A role that a metadata service does
/// not know may be on its way.
fn is_for_good(answer: &Answer) -> bool {
    // Amazon's and OAuth's codes for what may pass, with the status 400.
    const MAY_PASS: [&str; 5] =
        ["Throttl", "RequestLimitExceeded", "IDPCommunicationError", "temporarily_unavailable", "slow_down"];
    let code = answer.code.as_deref().unwrap_or_default();
    matches!(answer.status, 400 | 401 | 403) && !MAY_PASS.iter().any(|may_pass| code.contains(may_pass))
}

/// Returns `true` if nothing answered in the time allowed.
pub(super) fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    find::<Stalled>(error).is_some()
        || find::<NoneCame>(error).is_some()
        || matches!(find::<ProcessError>(error), Some(ProcessError::TooLong { .. }))
        || find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_timeout)
}

/// Returns a hint for a failure below HTTP, with the kind that says whether a retry may help.
fn hint_for(error: &(dyn StdError + 'static)) -> Option<(ErrorKind, &'static str)> {
    if let Some(tls) = chain(error).find_map(rustls_error) {
        return tls_hint(tls);
    }
    if find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_builder) {
        let hint = "is the endpoint a URL, and if it is an http:// one, is allow_http set in [store]?";
        return Some((ErrorKind::Refused, hint));
    }
    if find::<Stalled>(error).is_some() {
        return Some((
            ErrorKind::Unavailable,
            "read_timeout in [store] is the limit for that; give more to a store that takes longer to answer",
        ));
    }
    // A success status, but a body that does not go with it.
    find::<HttpError>(error).is_none().then_some((
        ErrorKind::Unavailable,
        "no store answers like that; is the endpoint right, and is nothing in between?",
    ))
}

fn tls_hint(error: &rustls::Error) -> Option<(ErrorKind, &'static str)> {
    let refused = |hint| Some((ErrorKind::Refused, hint));
    match error {
        rustls::Error::InvalidCertificate(certificate) => refused(match certificate {
            CertificateError::UnknownIssuer => {
                "the store's certificate was not issued by anyone this machine trusts; give the issuer's certificate \
                 as ca_file in [store]; AWS_CA_BUNDLE goes before that"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the store's certificate has expired, or this machine's clock is wrong"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the store's certificate is not valid yet; is this machine's clock right?"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the store's certificate is for another name than the endpoint's"
            }
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "the store presents a CA's certificate as its own, as self-signed ones often are; make it one \
                 with CA:FALSE, or one that the CA has signed"
            }
            _ => "the store's certificate cannot be trusted",
        }),
        rustls::Error::InvalidMessage(_) => {
            refused("the endpoint does not speak TLS; is it an http:// one, with allow_http in [store]?")
        }
        _ => None,
    }
}

/// The libraries wrap this error in I/O errors, and the chain of an I/O error skips what it wraps.
fn rustls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let inside = || rustls_error(error.downcast_ref::<std::io::Error>()?.get_ref()?);
    error.downcast_ref().or_else(inside)
}

/// Returns `true` if the store was not asked at all, for want of credentials.
pub(super) fn is_without_credentials(error: &object_store::Error) -> bool {
    find::<NoCredentials>(error).is_some()
}

/// Returns `true` if the store has answered with one of these codes.
pub(super) fn has_code(error: &object_store::Error, codes: &[&str]) -> bool {
    find::<Answer>(error).and_then(|answer| answer.code.as_deref()).is_some_and(|code| codes.contains(&code))
}

/// Returns `true` if the store says that the object existed and was deleted.
pub(super) fn is_deleted(error: &object_store::Error) -> bool {
    find::<Answer>(error).is_some_and(|answer| answer.is_deleted)
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// Maximum length of a text. Servers that issue credentials may be quoted in full.
const MAX_TEXT: usize = 1_000;

/// Texts of a chain of causes.
///
/// Each of `object_store`'s own errors repeats the text of its cause, down to one with the whole URL and the time that
/// the request took. If a request was made, the chain therefore starts with its outcome.
#[derive(Debug)]
pub(super) struct Causes(String);

impl Causes {
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        let no_credentials = || find::<NoCredentials>(error).map(|error| error as &(dyn StdError + 'static));
        let request = |error| find::<HttpError>(error)?.source();
        let text = match no_credentials() {
            Some(missing) => {
                let below = missing.source().map(|source| request(source).unwrap_or(source));
                joined(iter::once(missing).chain(below.into_iter().flat_map(own)))
            }
            None => joined(own(request(error).unwrap_or(error))),
        };
        Self(text.chars().take(MAX_TEXT).collect())
    }
}

/// Returns the errors of a chain that say something of their own: those of libraries about a request only repeat their causes, or
/// name the library.
fn own<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let is_unreached = find::<Unreachable>(error).is_some();
    without_library(error).filter(move |cause| {
        let is_last = cause.source().is_none();
        let wraps = cause.is::<HttpError>();
        let is_of_the_client =
            is_unreached && !is_last && !cause.is::<Unreachable>() && !cause.is::<Asking>();
        (!wraps || is_last) && !is_of_the_client
    })
}

impl StdError for Causes {}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::store::client::StoreClient;
    use crate::archive::store::options::Connection;
    use crate::archive::store::source::Source;
    use object_store::client::{HttpErrorKind, HttpRequestBody, HttpService};

    fn generic(source: impl Into<Box<dyn StdError + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: source.into() }
    }

    fn report(error: &object_store::Error) -> (ErrorKind, String) {
        let what = "cannot fetch s3://wal/x".to_owned();
        match failure(what, Asked::Read, Provider::S3, "https://minio.example:9000", error) {
            RequestFailure::Error(error) => (error.kind(), error.report()),
            _ => panic!("{error}"),
        }
    }

    fn no_credentials(source: object_store::Error, from: Source) -> object_store::Error {
        generic(NoCredentials { source, from })
    }

    fn answered(status: u16, code: &str) -> object_store::Error {
        let answer = Answer { status, code: Some(code.to_owned()), ..Answer::default() };
        generic(HttpError::new_boxed(HttpErrorKind::Unknown, answer.into()))
    }

    #[test]
    fn a_command_that_gave_no_credentials_in_its_time_hangs() {
        let program = "/x".to_owned();
        let hangs = no_credentials(generic(ProcessError::TooLong { program }), Source::Process);
        assert!(is_timeout(&hangs));
        assert!(!is_timeout(&no_credentials(generic("no room"), Source::Process)));
    }

    #[test]
    fn no_library_is_named_whatever_it_wraps() {
        use object_store::Error as E;
        let io = || std::io::Error::other("no room");
        let errors = [
            generic("no room"),
            generic(io()),
            generic(generic(generic("no room"))),
            no_credentials(generic("no room"), Source::WebIdentity),
            no_credentials(generic(generic("no room")), Source::Machine(Provider::S3)),
            no_credentials(answered(500, "no room"), Source::Machine(Provider::S3)),
            generic(HttpError::new(HttpErrorKind::Unknown, io())),
            E::NotFound { path: "x".into(), source: Box::new(generic("no room")) },
            E::PermissionDenied { path: "x".into(), source: Box::new(generic(io())) },
            E::Precondition { path: "x".into(), source: Box::new(generic("no room")) },
        ];
        for error in errors {
            let (_, text) = report(&error);
            assert!(!text.contains("Generic") && text.contains("no room"), "{error:?}: {text}");
        }
    }

    #[tokio::test]
    async fn an_unreachable_store_is_named_with_its_port_and_the_reason() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Bound, so that nobody else gets the port; not listening, so that it is closed.
        let address = socket.local_addr().unwrap();
        let client = StoreClient::new(&Connection { allow_http: true, ..Connection::default() }).unwrap();
        let request = http::Request::get(format!("http://{address}/x")).body(HttpRequestBody::empty());
        let error = generic(client.call(request.unwrap()).await.unwrap_err());
        let expected = format!("cannot fetch s3://wal/x: cannot reach {address}: Connection refused");
        let (kind, text) = report(&error);
        assert!(kind == ErrorKind::Unavailable && text.starts_with(&expected), "{text}");
        assert!(!text.contains("tcp connect") && !text.contains("client error"), "{text}");
    }

    #[test]
    fn a_missing_bucket_names_the_endpoint_that_was_asked() {
        let (kind, text) = report(&answered(404, "NoSuchBucket"));
        assert_eq!(kind, ErrorKind::Refused);
        assert!(text.ends_with("; https://minio.example:9000 was asked"), "{text}");
    }

    #[test]
    fn an_issuer_that_denies_is_not_taken_for_the_store() {
        for (status, code, kind) in [
            (403, "AccessDenied", ErrorKind::Refused),
            (400, "invalid_client", ErrorKind::Refused),
            (401, "", ErrorKind::Refused),
            (400, "Throttling", ErrorKind::Unavailable),
            (400, "IDPCommunicationError", ErrorKind::Unavailable),
            (404, "NoSuchKey", ErrorKind::Unavailable),
            (412, "PreconditionFailed", ErrorKind::Unavailable),
            (503, "", ErrorKind::Unavailable),
        ] {
            let (found, text) = report(&no_credentials(answered(status, code), Source::WebIdentity));
            assert_eq!(found, kind, "{text}");
            let begin = format!("cannot fetch s3://wal/x: cannot get credentials: the answer was {status}");
            assert!(text.starts_with(&begin) && text.contains(code), "{text}");
            assert!(text.contains("; they were asked for by web identity; see"), "{text}");
        }
    }
}
