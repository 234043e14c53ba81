//! Requests of a server to `walkeep-restore` that are recognized without parsing the command line, and answers that
//! need no archive.
//!
//! In the last step of a promotion the server requests one more history file. It is no longer a standby then: if
//! stopped there, it would come up again on its old timeline, writable. So neither a wrong flag, nor an unreadable
//! configuration, nor a bug may stop it if the answer is known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::exit::{ExitStatuses, exit_on_panic_unless};
use super::log;
use crate::cluster::{Caller, RecoveryMode};
use crate::config::LogFormat;
use crate::error::Error;
use crate::restore::{cannot_exist, restore_own_history};
use crate::wal::WalName;

/// Last part of `%p` when the server requests a history file.
const RECOVERY_HISTORY: &str = "RECOVERYHISTORY";

/// A request, as far as it can be recognized.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// `None` if unrecognized.
    name: Option<WalName>,
    /// Empty if unrecognized.
    path: PathBuf,
    caller: Caller,
}

/// An answer that needs no archive.
pub(super) struct Known {
    /// Exit status of the answer.
    pub(super) status: u8,
    /// Description for a message.
    pub(super) what: String,
}

impl Question {
    /// Creates the same question from the parsed command line.
    pub(super) fn understood(&self, name: &OsString, path: &Path) -> Self {
        let caller = if path == self.path { self.caller.clone() } else { Caller::at(path.to_owned()) };
        Self { name: name.to_str().and_then(|text| text.parse().ok()), path: path.to_owned(), caller }
    }

    /// Finds the request among the arguments, whatever flags they contain: the server's `%p`, and the last name of a WAL
    /// file before it. Without such a path, it is the last name and the argument after it.
    pub(super) fn among(arguments: &[OsString]) -> Self {
        let name_of = |argument: &OsString| argument.to_str()?.parse::<WalName>().ok();
        let is_target = |argument: &OsString| Path::new(argument).file_name().is_some_and(is_of_a_server);
        let target = arguments.iter().rposition(is_target);
        let before = arguments.get(..target.unwrap_or(arguments.len())).unwrap_or_default();
        let named = before.iter().rposition(|argument| name_of(argument).is_some());
        let at = |index: usize| arguments.get(index);
        let path = target.or(named.map(|index| index + 1)).and_then(at);
        let path = path.map(PathBuf::from).unwrap_or_default();
        Self { name: named.and_then(at).and_then(name_of), caller: Caller::at(path.clone()), path }
    }

    /// Returns the requesting server.
    pub(super) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Returns what the requesting server does when it finds no more WAL.
    pub(super) fn mode(&self) -> RecoveryMode {
        match (self.caller.data().recovery_mode(), self.name) {
            // The end of recovery requests only history files. If the server requests another file, somebody has
            // removed the file that selects recovery.
            (RecoveryMode::Ending, Some(name)) if !matches!(name, WalName::History(_)) => {
                RecoveryMode::Recovery
            }
            (mode, _) => mode,
        }
    }

    /// Returns `true` if a server requests the file. `pg_rewind` and people do not retry.
    pub(super) fn is_of_a_server(&self) -> bool {
        self.path.file_name().is_some_and(is_of_a_server)
    }

    /// Answers a server's request without an archive, if possible. Its own copy of a history file is then in place.
    pub(super) fn known(&self) -> Option<Known> {
        let name =
            self.name.filter(|_| self.path.file_name().is_some_and(|name| name == RECOVERY_HISTORY))?;
        if cannot_exist(name) {
            return Some(Known { status: 1, what: format!("there is no {name}: timeline 1 has no parents") });
        }
        let given = restore_own_history(name, &self.path).is_ok_and(|given| given);
        given.then(|| Known { status: 0, what: format!("the server is given its own copy of {name}") })
    }

    /// Logs a failure from before the archive could be asked, or the known answer. Returns the exit status.
    pub(super) fn report_early(
        &self,
        program: &'static str,
        statuses: ExitStatuses,
        format: LogFormat,
        error: &Error,
    ) -> u8 {
        let Some(known) = self.known() else { return statuses.report_early(program, format, error) };
        log::start(program, format, false);
        tracing::warn!("{}; {}", error.report(), known.what);
        known.status
    }

    /// Calls [`super::exit_on_panic`], unless the answer is known without the part that panicked.
    pub(super) fn exit_on_panic(&self, program: &'static str, statuses: ExitStatuses) {
        let question = self.clone();
        exit_on_panic_unless(program, statuses, move || {
            question.known().map(|known| (known.status, known.what))
        });
    }
}

/// Turns a panic anywhere in a process with these arguments into a log line and an exit status of `walkeep-restore`.
pub fn exit_on_panic_of_restore(program: &'static str, arguments: &[OsString]) {
    let question = Question::among(arguments);
    question.exit_on_panic(program, ExitStatuses::OfRestore(question.mode()));
}

/// Returns `true` for the names under which a server requests files.
fn is_of_a_server(name: &std::ffi::OsStr) -> bool {
    name == RECOVERY_HISTORY || name == "RECOVERYXLOG"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(line: &str) -> (Option<String>, String) {
        let arguments: Vec<_> = line.split(' ').map(OsString::from).collect();
        let found = Question::among(&arguments);
        (found.name.map(|name| name.to_string()), found.path.display().to_string())
    }

    #[test]
    fn a_request_is_recognized_among_unknown_flags() {
        let asked = (Some("00000002.history".to_owned()), "pg_wal/RECOVERYHISTORY".to_owned());
        for line in [
            "00000002.history pg_wal/RECOVERYHISTORY",
            "--no-such-flag 00000002.history pg_wal/RECOVERYHISTORY",
            "--archive 00000002.history pg_wal/RECOVERYHISTORY",
            "00000002.history pg_wal/RECOVERYHISTORY --no-such-flag x",
            "00000002.history --archiv /mnt/archive pg_wal/RECOVERYHISTORY 000000000000000000000000",
            "-- 00000002.history -v pg_wal/RECOVERYHISTORY -v",
            "--accept-gap 000000010000000000000003 00000002.history pg_wal/RECOVERYHISTORY",
            "00000002.history pg_wal/RECOVERYHISTORY --accept-gap 000000010000000000000003",
        ] {
            assert_eq!(among(line), asked, "{line}");
        }
        let segment = "000000010000000000000003";
        assert_eq!(
            among(&format!("--x {segment} pg_wal/RECOVERYXLOG")),
            (Some(segment.to_owned()), "pg_wal/RECOVERYXLOG".to_owned())
        );
        assert_eq!(among("00000002.history here"), (asked.0.clone(), "here".to_owned()));
        assert_eq!(among("00000002.history"), (asked.0, String::new()));
        assert_eq!(among("--archive pg_wal/RECOVERYHISTORY"), (None, "pg_wal/RECOVERYHISTORY".to_owned()));
        assert_eq!(among(""), (None, String::new()));
    }
}
