//! What a server asks `walkeep-restore`, as far as that can be seen without understanding the command line, and what can be
//! answered without an archive.
//!
//! In the last step of a promotion the server asks for one more history file, and has given up being a standby by then:
//! stopped there, it would come up again on its old timeline, writable. So neither a wrong flag nor a configuration that
//! cannot be read, nor a bug, may stop it where the answer is known.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::exit::{Failure, exit_on_panic_unless};
use super::log;
use crate::cluster::{DataDirectory, RecoveryMode};
use crate::config::LogFormat;
use crate::error::Error;
use crate::restore::{cannot_exist, restore_own_history};
use crate::wal::WalName;

/// What `%p` ends in when the server wants a history file.
const RECOVERY_HISTORY: &str = "RECOVERYHISTORY";

/// A file that is wanted, and where.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// `None` where that cannot be seen.
    name: Option<WalName>,
    /// Empty where that cannot be seen.
    path: PathBuf,
}

/// What is known without an archive.
pub(super) struct Known {
    /// The exit status that says so.
    pub(super) status: u8,
    /// What it is, for a message.
    pub(super) what: String,
}

impl Question {
    /// As a command line says that was understood.
    pub(super) fn new(name: &OsString, path: &Path) -> Self {
        Self { name: name.to_str().and_then(|text| text.parse().ok()), path: path.to_owned() }
    }

    /// As the arguments show by themselves, whatever flags are among them: the server's `%p`, and the last name of a WAL
    /// file before it; where there is no such path, the last name, and what follows it.
    pub(super) fn among(arguments: &[OsString]) -> Self {
        let name_of = |argument: &OsString| argument.to_str()?.parse::<WalName>().ok();
        let is_target = |argument: &OsString| Path::new(argument).file_name().is_some_and(is_of_a_server);
        let target = arguments.iter().rposition(is_target);
        let before = arguments.get(..target.unwrap_or(arguments.len())).unwrap_or_default();
        let named = before.iter().rposition(|argument| name_of(argument).is_some());
        let at = |place: usize| arguments.get(place);
        let path = target.or(named.map(|place| place + 1)).and_then(at);
        Self { name: named.and_then(at).and_then(name_of), path: path.map(PathBuf::from).unwrap_or_default() }
    }

    /// What the server does whose question it is.
    pub(super) fn mode(&self) -> RecoveryMode {
        match (DataDirectory::of(&self.path).recovery_mode(), self.name) {
            // At the end it asks for a history file, and somebody has removed the file that says what it does.
            (RecoveryMode::Ending, Some(name)) if !matches!(name, WalName::History(_)) => {
                RecoveryMode::Recovery
            }
            (mode, _) => mode,
        }
    }

    /// Whether it is a server that asks, and not `pg_rewind` or a person, who will not ask again.
    pub(super) fn is_of_a_server(&self) -> bool {
        self.path.file_name().is_some_and(is_of_a_server)
    }

    /// Answers it without an archive, where that can be done for a server. Its own copy of a history file is then in place.
    pub(super) fn known(&self) -> Option<Known> {
        let name =
            self.name.filter(|_| self.path.file_name().is_some_and(|name| name == RECOVERY_HISTORY))?;
        if cannot_exist(name) {
            return Some(Known { status: 1, what: format!("there is no {name}: timeline 1 has no parents") });
        }
        let given = restore_own_history(name, &self.path).is_ok_and(|given| given);
        given.then(|| Known { status: 0, what: format!("the server is given its own copy of {name}") })
    }

    /// Logs a failure from before the archive could be asked, or what is known all the same; and gives the exit status.
    pub(super) fn report_early(
        &self,
        program: &'static str,
        failure: Failure,
        format: LogFormat,
        error: &Error,
    ) -> u8 {
        let Some(known) = self.known() else { return failure.report_early(program, format, error) };
        log::start(program, format, false);
        tracing::warn!("{}; {}", error.report(), known.what);
        known.status
    }

    /// As [`super::exit_on_panic`], unless the answer is known without whatever has panicked.
    pub(super) fn exit_on_panic(&self, program: &'static str, failure: Failure) {
        let question = self.clone();
        exit_on_panic_unless(program, failure, move || {
            question.known().map(|known| (known.status, known.what))
        });
    }
}

/// Makes a panic anywhere in a process with these arguments what it is to `walkeep-restore`.
pub fn exit_on_panic_of_restore(program: &'static str, arguments: &[OsString]) {
    let question = Question::among(arguments);
    question.exit_on_panic(program, Failure::OfRestore(question.mode()));
}

/// Whether a server puts files there that it wants.
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
    fn a_question_is_found_among_flags_that_nobody_understands() {
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
