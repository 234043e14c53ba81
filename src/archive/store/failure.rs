//! Conversion of library errors to walkeep's: kind, causes without secrets, hint.

use std::error::Error as StdError;
use std::fmt;

use object_store::client::HttpError;
use rustls::CertificateError;

use super::answer::{Answer, AnswerKind, Meaning, judge};
use super::credentials::NoCredentials;
use super::stall::Stalled;
use crate::archive::failure::{Asked, RequestFailure};
use crate::archive::url::Provider;
use crate::error::{Error, ErrorKind, chain, joined};

/// Converts the failure of a request; `what` names the attempted action.
pub(super) fn failure(
    what: String,
    asked: Asked,
    provider: Provider,
    error: &object_store::Error,
) -> RequestFailure {
    if let Some(answer) = find::<Answer>(error) {
        let Meaning { kind, hint } = judge(answer, asked, provider);
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

/// Returns `true` if nothing answered in the time allowed.
pub(super) fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    find::<Stalled>(error).is_some() || find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_timeout)
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
    if let Some(NoCredentials { hint, .. }) = find(error) {
        return Some((ErrorKind::Unavailable, hint));
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
        let below = no_credentials().or_else(|| find::<HttpError>(error)?.source()).unwrap_or(error);
        // An HttpError only repeats its cause.
        let text = joined(chain(below).filter(|cause| !cause.is::<HttpError>()));
        Self(text.chars().take(MAX_TEXT).collect())
    }
}

impl StdError for Causes {}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
