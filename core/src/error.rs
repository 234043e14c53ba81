//! What a failure tells the person who reads the server's log, and what it means for the exit status.

use std::error::Error as StdError;
use std::fmt;

/// A failure: of which kind, what was attempted on what, why it failed, and what a person can do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    timed_out: bool,
}

/// The distinctions that exit statuses and retries are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The archive has no such file, and said so. The only kind that lets recovery end.
    Absent,
    /// The archive answers, and holds nothing of this cluster: it is not mounted, or is not this cluster's. It proves nothing.
    Empty,
    /// The archive has no such segment, although it was written: recovery must not end there.
    Gap,
    /// The archive could not be asked, or did not answer: trying again may help.
    Unavailable,
    /// The archive will not do it until a person has changed something: rights, credentials, its address.
    Refused,
    /// The archive answered, but not with what was archived.
    Damaged,
    /// The archive has another file under this name.
    Conflict,
    /// What was to be archived is not an acceptable WAL file.
    Unacceptable,
    /// This machine's own files could not be read or written.
    Local,
    /// Wrong usage or configuration.
    Configuration,
    /// A signal or the time limit ended the work.
    Stopped,
}

impl ErrorKind {
    /// What programs call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Empty => "empty",
            Self::Gap => "gap",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
            Self::Conflict => "conflict",
            Self::Unacceptable => "unacceptable",
            Self::Local => "local",
            Self::Configuration => "configuration",
            Self::Stopped => "stopped",
        }
    }
}

impl Error {
    /// A failure of that kind; `what` says what was attempted, on which file and where, or what was found.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, source: None, timed_out: false }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure as one of another kind, for whoever makes more or less of it.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Adds to what a person can do about it.
    #[must_use]
    pub fn hint_also(self, hint: impl Into<String>) -> Self {
        let more = hint.into();
        let hint = match &self.hint {
            Some(hint) => format!("{hint}; {more}"),
            None => more,
        };
        self.hint(hint)
    }

    /// What follows from it, with it as the cause. What a person can do about it stays.
    #[must_use]
    pub fn so(mut self, what: impl Into<String>) -> Self {
        let hint = self.hint.take();
        Self {
            kind: self.kind,
            what: what.into(),
            hint,
            timed_out: self.timed_out,
            source: Some(Box::new(self)),
        }
    }

    /// Adds that it is no answer at all: nothing moved, for as long as that was waited for.
    #[must_use]
    pub fn timed_out(mut self, timed_out: bool) -> Self {
        self.timed_out = timed_out;
        self
    }

    /// Whether it is no answer at all.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.timed_out
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Everything on one line: what, the chain of causes, the hint.
    ///
    /// A cause that the text before it already contains is left out, because some libraries repeat theirs. Line
    /// feeds and other control characters become spaces, so that one failure is one line of the server's log.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = joined(chain(self));
        if let Some(hint) = &self.hint {
            text.push_str("; ");
            text.push_str(hint);
        }
        text.replace(char::is_control, " ")
    }
}

/// An error and its causes, the deepest one last.
#[must_use]
pub fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The texts of errors, each after a colon. One that the text before it already contains is left out.
#[must_use]
pub fn joined<'a>(errors: impl Iterator<Item = &'a (dyn StdError + 'static)>) -> String {
    let mut text = String::new();
    for (place, next) in errors.map(ToString::to_string).enumerate() {
        if place == 0 {
            text = next;
        } else if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open /a: {source}")]
    struct Chatty {
        source: io::Error,
    }

    #[test]
    fn a_report_is_one_line_that_says_each_fact_once() {
        let source = io::Error::other("odd\nthing");
        let error = Error::new(ErrorKind::Unavailable, "cannot fetch x from /a\u{1b}[1m")
            .because(Chatty { source })
            .hint("look at it");
        assert_eq!(error.report(), "cannot fetch x from /a [1m: cannot open /a: odd thing; look at it");
        let error = error.hint_also("type x");
        assert_eq!(
            error.report(),
            "cannot fetch x from /a [1m: cannot open /a: odd thing; look at it; type x"
        );
        assert_eq!(error.to_string(), "cannot fetch x from /a\u{1b}[1m");
        let error = Error::new(ErrorKind::Local, "cannot read /b").hint("look at it").so("nothing is done");
        assert_eq!(error.report(), "nothing is done: cannot read /b; look at it");
    }
}
