//! Faults, and the requests to which they apply.

use std::{sync::Arc, time::Duration};

use tokio::sync::Barrier;

use super::request::Request;

/// Requests to which a fault applies.
#[derive(Clone, Copy, Debug)]
pub enum Matching {
    Any,
    Method(&'static str),
    /// PUTs of objects.
    Puts,
    /// PUTs of objects with this name after the last slash.
    PutsOf(&'static str),
    /// GETs of objects; listings are not among them.
    Gets,
    /// GETs of objects whose names, after the last slash, do not sort before this one.
    GetsFrom(&'static str),
    /// HEADs of objects.
    Heads,
    /// Requests for listings, and others about the bucket.
    Listings,
    /// Requests about the bucket with a query that begins with this word.
    About(&'static str),
    /// GETs of objects whose names, after the last slash, sort before this one.
    GetsBefore(&'static str),
    /// GETs and HEADs of objects with this name after the last slash.
    Of(&'static str),
    /// HEADs of objects with this name after the last slash.
    HeadsOf(&'static str),
    /// Requests with this in the path or the query.
    Naming(&'static str),
    /// Requests that need this right, in the words of Amazon's policies.
    Needing(Right),
}

/// A right to make requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    PutObject,
    GetObject,
    ListBucket,
    DeleteObject,
}

impl Right {
    pub const ALL: [Self; 4] = [Self::PutObject, Self::GetObject, Self::ListBucket, Self::DeleteObject];

    fn is_needed(self, request: &Request) -> bool {
        let of_object = request.names_an_object();
        match self {
            Self::PutObject => request.method == "PUT",
            Self::GetObject => of_object && matches!(&*request.method, "GET" | "HEAD"),
            Self::ListBucket => !of_object && request.method == "GET",
            // A POST to the bucket deletes several.
            Self::DeleteObject => matches!(&*request.method, "DELETE" | "POST"),
        }
    }
}

impl Matching {
    fn matches(self, request: &Request) -> bool {
        let of_object = |method: &str| request.method == method && request.names_an_object();
        match self {
            Self::Any => true,
            Self::Method(method) => request.method == method,
            Self::Puts => of_object("PUT"),
            Self::PutsOf(name) => of_object("PUT") && request.file_name() == name,
            Self::Gets => of_object("GET"),
            Self::GetsFrom(first) => of_object("GET") && request.file_name() >= first,
            Self::Heads => of_object("HEAD"),
            Self::About(subject) => {
                let query = request.query.as_deref().unwrap_or_default();
                !request.names_an_object() && query.split(['&', '=']).next() == Some(subject)
            }
            Self::Listings => request.method == "GET" && !request.names_an_object(),
            Self::GetsBefore(end) => of_object("GET") && request.file_name() < end,
            Self::Of(name) => (of_object("GET") || of_object("HEAD")) && request.file_name() == name,
            Self::HeadsOf(name) => of_object("HEAD") && request.file_name() == name,
            Self::Naming(text) => {
                [Some(&request.path), request.query.as_ref()].iter().flatten().any(|part| part.contains(text))
            }
            Self::Needing(right) => right.is_needed(request),
        }
    }
}

/// A fault of a request. "Executed" means that the request has taken effect before the fault. Bytes of the response
/// are counted from the start of its body; a number beyond its end means the end.
#[derive(Clone, Debug)]
pub enum Fault {
    /// No fault: the request is answered normally. For requests before others with a fault.
    None,
    /// The request is read, not executed, and answered with S3's error document; after HEAD without it.
    Answer { status: u16, code: &'static str, message: &'static str },
    /// The request is read, not executed, and answered with this.
    Raw { status: u16, headers: Vec<(&'static str, String)>, body: &'static str },
    /// The connection is reset once the head has arrived. Not executed.
    ResetBeforeReading,
    /// Executed; the connection is reset after this many bytes of the response body.
    ResetAfter(u64),
    /// Executed; the connection is closed without a response.
    AnswerLost,
    /// Executed; the connection is closed after this many bytes of the response body, whose full length was announced
    /// in the head.
    CutBody(u64),
    /// The request is read, not executed, and never answered.
    Hang,
    /// Executed, and answered after this time.
    Late(Duration),
    /// Executed, and answered once as many such requests have been executed as the barrier waits for.
    Together(Arc<Barrier>),
    /// Executed, and never answered.
    HangAfterEffect,
    /// Executed; nothing follows this many bytes of the response body.
    HangInBody(u64),
    /// Executed; the response body arrives at one byte per 200 ms.
    Trickle,
    /// Not executed: after this many bytes of the request body, or a few kB more, nothing is read or answered. A
    /// client that connects later can write only what its own kernel buffers, about 3 MB.
    StopReading(u64),
    /// The connection is reset after this many bytes of the request body, or a few kB more. Not executed.
    ResetUpload(u64),
    /// Executed; this byte of the response body is inverted.
    FlipByte(u64),
}

/// Active faults.
#[derive(Default)]
pub(super) struct Faults(Vec<Expected>);

struct Expected {
    matching: Matching,
    fault: Fault,
    /// Remaining number of times; `None` for no limit.
    times: Option<usize>,
}

impl Faults {
    pub(super) fn add(&mut self, matching: Matching, fault: Fault, times: Option<usize>) {
        self.0.push(Expected { matching, fault, times });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the fault of `request`, and counts it.
    pub(super) fn take(&mut self, request: &Request) -> Option<Fault> {
        let expected = self
            .0
            .iter_mut()
            .find(|expected| expected.times != Some(0) && expected.matching.matches(request))?;
        expected.times = expected.times.map(|times| times - 1);
        Some(expected.fault.clone())
    }
}
