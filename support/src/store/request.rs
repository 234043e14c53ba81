//! A recorded request.

use http::{HeaderMap, header, request::Parts};

const GENERATION_MATCH: header::HeaderName = header::HeaderName::from_static("x-goog-if-generation-match");

/// A request whose head has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Path with the bucket, such as `/wal/some/key`, encoded as sent.
    pub path: String,
    pub query: Option<String>,
    /// `true` if it has `If-None-Match: *`, or Google's `x-goog-if-generation-match: 0`.
    pub conditional: bool,
    pub content_length: Option<u64>,
    pub headers: HeaderMap,
}

impl Request {
    pub(super) fn of(head: &Parts) -> Self {
        Self {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(ToOwned::to_owned),
            conditional: value(&head.headers, &header::IF_NONE_MATCH) == Some("*")
                || value(&head.headers, &GENERATION_MATCH) == Some("0"),
            content_length: value(&head.headers, &header::CONTENT_LENGTH)
                .and_then(|length| length.parse().ok()),
            headers: head.headers.clone(),
        }
    }

    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns `true` for requests about an object, `false` for those about the bucket, such as listings.
    pub(super) fn names_an_object(&self) -> bool {
        self.path.trim_start_matches('/').split_once('/').is_some_and(|(_bucket, key)| !key.is_empty())
    }

    /// Returns the part of its path after the last slash.
    pub(super) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
