//! What can be made to go wrong, and with which requests it does.

use std::time::Duration;

use super::request::Request;

/// Which requests meet with a fault.
#[derive(Clone, Copy, Debug)]
pub enum Matching {
    Any,
    Method(&'static str),
    /// PUTs of objects.
    Puts,
    /// GETs of objects; listings are not among them.
    Gets,
    /// Those of objects whose names, without what is before the last slash, are not before this one.
    GetsFrom(&'static str),
    /// HEADs of objects.
    Heads,
    /// Requests for listings.
    Listings,
    /// GETs of objects whose names, without what is before the last slash, are before this one.
    GetsBefore(&'static str),
    /// GETs and HEADs of objects of this name, whatever is before the last slash.
    Of(&'static str),
    /// HEADs of objects of this name, whatever is before the last slash.
    HeadsOf(&'static str),
}

impl Matching {
    fn matches(self, request: &Request) -> bool {
        let of_object = |method: &str| request.method == method && request.names_an_object();
        match self {
            Self::Any => true,
            Self::Method(method) => request.method == method,
            Self::Puts => of_object("PUT"),
            Self::Gets => of_object("GET"),
            Self::GetsFrom(first) => of_object("GET") && request.file_name() >= first,
            Self::Heads => of_object("HEAD"),
            Self::Listings => request.method == "GET" && !request.names_an_object(),
            Self::GetsBefore(end) => of_object("GET") && request.file_name() < end,
            Self::Of(name) => (of_object("GET") || of_object("HEAD")) && request.file_name() == name,
            Self::HeadsOf(name) => of_object("HEAD") && request.file_name() == name,
        }
    }
}

/// What becomes of a request. "Performed" means that it has taken effect before anything goes wrong. Bytes of the
/// answer are counted from the start of its body, and stand for its end when there are fewer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// None: it is answered as it should be. For those that come before others that meet with one.
    None,
    /// It is read, not performed, and answered with S3's error document; after HEAD without it.
    Answer { status: u16, code: &'static str, message: &'static str },
    /// It is read, not performed, and answered with this.
    Raw { status: u16, headers: Vec<(&'static str, String)>, body: &'static str },
    /// The connection is reset as soon as the head has arrived. Not performed.
    ResetBeforeReading,
    /// Performed; the connection is reset after so many bytes of the answer's body.
    ResetAfter(u64),
    /// Performed; the connection is closed without a byte of an answer.
    AnswerLost,
    /// Performed; the connection is closed after so many bytes of the answer's body, whose full length the head has
    /// announced.
    CutBody(u64),
    /// It is read, not performed, and never answered.
    Hang,
    /// Performed, and answered after so long.
    Late(Duration),
    /// Performed, and never answered.
    HangAfterEffect,
    /// Performed; after so many bytes of the answer's body nothing more comes.
    HangInBody(u64),
    /// Performed; the answer's body comes one byte each 200 ms.
    Trickle,
    /// Not performed: after so many bytes of its body, or a few kB more, nothing is read or answered. A client that
    /// connects later than this comes into force can write what its own kernel takes, about 3 MB, and no more.
    StopReading(u64),
    /// The connection is reset after so many bytes of the request's body, or a few kB more. Not performed.
    ResetUpload(u64),
    /// Performed; this byte of the answer's body is inverted.
    FlipByte(u64),
}

/// The faults that are in force.
#[derive(Default)]
pub(super) struct Faults(Vec<Expected>);

struct Expected {
    matching: Matching,
    fault: Fault,
    /// How often it is still to happen; `None` without a limit.
    times: Option<usize>,
}

impl Faults {
    pub(super) fn add(&mut self, matching: Matching, fault: Fault, times: Option<usize>) {
        self.0.push(Expected { matching, fault, times });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that `request` meets with, which has thereby happened once more.
    pub(super) fn take(&mut self, request: &Request) -> Option<Fault> {
        let expected = self
            .0
            .iter_mut()
            .find(|expected| expected.times != Some(0) && expected.matching.matches(request))?;
        expected.times = expected.times.map(|times| times - 1);
        Some(expected.fault.clone())
    }
}
