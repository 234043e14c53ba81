//! JSON output of failures: `--json` always prints a document, so that no program has to parse messages.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::print::{as_json, try_print};
use crate::error::Error;

/// Description of a failure, part of every such document next to `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Message, as on standard error.
    error: String,
    error_kind: &'static str,
    /// Hint for the user, contained in the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let plain = |text: &str| text.replace(char::is_control, " ");
        Self { error: error.report(), error_kind: error.kind().name(), hint: error.advice().map(plain) }
    }
}

/// Document of a command without a result.
#[derive(Serialize)]
struct Failed {
    ok: bool,
    #[serde(flatten)]
    problem: Problem,
}

/// `true` once a part of a document was printed.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Notes that a part of a document was printed. Another document must not follow in its middle.
pub(super) fn document_begun() {
    BEGUN.store(true, Ordering::Relaxed);
}

/// Returns that document.
pub(super) fn failure(error: &Error) -> String {
    as_json(&Failed { ok: false, problem: error.into() })
}

/// Prints that document. If that fails, exit status and standard error still show the failure.
pub(super) fn print_failure(error: &Error) {
    if BEGUN.load(Ordering::Relaxed) {
        return;
    }
    let document = failure(error);
    if let Err(error) = try_print(|to| to.write_all(document.as_bytes()))
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        tracing::error!("cannot write to standard output: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_failure_contains_the_log_message_and_its_parts() {
        let error = Error::new(ErrorKind::Refused, "cannot list x").because("no\nway").hint("ask");
        let printed = as_json(&Failed { ok: false, problem: (&error).into() });
        let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let expected = serde_json::json!({
            "ok": false, "error": "cannot list x: no way; ask", "error_kind": "refused", "hint": "ask"
        });
        assert_eq!(printed, expected);
    }
}
