//! Errors, as the server's log shows them and exit statuses distinguish them.

use std::error::Error as StdError;
use std::fmt;

/// An error: its kind, the attempted action and its object, the cause, and a hint.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    timed_out: bool,
    denied: bool,
}

/// Kind of an error, which determines the exit status and whether a retry makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The archive proved that it does not contain the file. Only this kind ends a recovery.
    Absent,
    /// The archive contains nothing of this cluster: it is not mounted, or belongs to another cluster. This proves no
    /// absence.
    Empty,
    /// The archive lacks a segment that was written. Recovery must not end here.
    Gap,
    /// The archive did not answer. A retry may succeed.
    Unavailable,
    /// The archive refused the request until somebody changes something: rights, credentials, the address.
    Refused,
    /// The archived file is not what was archived.
    Damaged,
    /// The archive has a different file under this name.
    Conflict,
    /// The file to archive is not an acceptable WAL file.
    Unacceptable,
    /// A local file could not be read or written.
    Local,
    /// The command line or the configuration is wrong.
    Configuration,
    /// A signal or the time limit stopped the work.
    Stopped,
}

impl ErrorKind {
    /// Returns the name that JSON output uses.
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
    /// Creates an error. `what` names the attempted action and its object, or the finding.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, source: None, timed_out: false, denied: false }
    }

    /// Sets the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// Sets the hint: an action for the user.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Changes the kind, for a caller to whom the same failure means more or less.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Appends to the hint.
    #[must_use]
    pub fn hint_also(self, hint: impl Into<String>) -> Self {
        let more = hint.into();
        let hint = match &self.hint {
            Some(hint) => format!("{hint}; {more}"),
            None => more,
        };
        self.hint(hint)
    }

    /// Wraps this error as the cause of an error with the text `what`. The hint moves to the new error.
    #[must_use]
    pub fn so(mut self, what: impl Into<String>) -> Self {
        let hint = self.hint.take();
        Self {
            kind: self.kind,
            what: what.into(),
            hint,
            timed_out: self.timed_out,
            denied: self.denied,
            source: Some(Box::new(self)),
        }
    }

    /// Sets whether the error is a timeout: nothing moved for the time allowed.
    #[must_use]
    pub fn timed_out(mut self, timed_out: bool) -> Self {
        self.timed_out = timed_out;
        self
    }

    /// Returns `true` if the error is a timeout.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.timed_out
    }

    /// Marks the error as a denied permission. Only a server that recovers waits until it is granted.
    #[must_use]
    pub fn denied(mut self) -> Self {
        self.denied = true;
        self
    }

    /// Returns `true` if the error is a denied permission.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.denied
    }

    /// Returns the error for a person, for whom nobody else grants a permission meanwhile: a denial becomes
    /// [`ErrorKind::Refused`].
    #[must_use]
    pub fn for_a_person(self) -> Self {
        if self.denied && self.kind == ErrorKind::Unavailable {
            self.of_kind(ErrorKind::Refused)
        } else {
            self
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the hint.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Formats the whole error as one line: text, chain of causes, hint.
    ///
    /// Some libraries repeat the text of a cause, so a cause that the text already contains is left out. Line feeds
    /// and other control characters become spaces.
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

/// Iterates over an error and its causes, the deepest cause last.
pub fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Joins the texts of errors with colons, leaving out each one that the text already contains.
#[must_use]
pub fn joined<'a>(errors: impl Iterator<Item = &'a (dyn StdError + 'static)>) -> String {
    let mut text = String::new();
    for (index, next) in errors.map(ToString::to_string).enumerate() {
        if index == 0 {
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
    fn a_report_is_one_line_without_repetition() {
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

    #[test]
    fn what_wraps_an_error_keeps_its_kind_its_hint_and_that_it_timed_out() {
        let inner = Error::new(ErrorKind::Unavailable, "cannot fetch x").timed_out(true).hint("look at it");
        let outer = inner.so("nothing is done");
        assert_eq!((outer.kind(), outer.is_timeout()), (ErrorKind::Unavailable, true));
        assert_eq!(outer.advice(), Some("look at it"));
        assert_eq!(joined(chain(&outer)), "nothing is done: cannot fetch x");
        let other = outer.of_kind(ErrorKind::Gap).timed_out(false);
        assert_eq!((other.kind(), other.is_timeout()), (ErrorKind::Gap, false));
        let denied = Error::new(ErrorKind::Unavailable, "cannot read /b").denied().so("nothing is done");
        assert_eq!(denied.for_a_person().kind(), ErrorKind::Refused);
        let of_another_kind = Error::new(ErrorKind::Local, "cannot read /b").denied().for_a_person();
        assert_eq!(of_another_kind.kind(), ErrorKind::Local);
        let hung = Error::new(ErrorKind::Unavailable, "cannot read /b").for_a_person();
        assert_eq!(hung.kind(), ErrorKind::Unavailable);
        let plain = Error::new(ErrorKind::Local, "cannot read /b");
        assert_eq!((plain.is_timeout(), plain.advice()), (false, None));
    }

    #[test]
    fn every_kind_has_its_name_in_json() {
        let names = [
            (ErrorKind::Absent, "absent"),
            (ErrorKind::Empty, "empty"),
            (ErrorKind::Gap, "gap"),
            (ErrorKind::Unavailable, "unavailable"),
            (ErrorKind::Refused, "refused"),
            (ErrorKind::Damaged, "damaged"),
            (ErrorKind::Conflict, "conflict"),
            (ErrorKind::Unacceptable, "unacceptable"),
            (ErrorKind::Local, "local"),
            (ErrorKind::Configuration, "configuration"),
            (ErrorKind::Stopped, "stopped"),
        ];
        for (kind, name) in names {
            assert_eq!(kind.name(), name);
        }
    }
}
