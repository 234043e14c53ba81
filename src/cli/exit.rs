//! Exit statuses: the contract with PostgreSQL.
//!
//! | server's command | server's reaction to the status |
//! | --- | --- |
//! | `archive_command` | 0: archived. 1-125: counts as a failure and is retried. 126 and above, or a signal: the archiver exits uncounted |
//! | `restore_command` | 0: restored. 1-125: not found; recovery ends and promotes, a standby retries. 126 and above, or a signal: recovery stops; 143 without an error |

use std::io::Write;

use super::{json, log};
use crate::call::{Caught, Ended};
use crate::cluster::RecoveryMode;
use crate::config::LogFormat;
use crate::error::{Error, ErrorKind};

/// Table of exit statuses that applies to failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatuses {
    /// Table of `walkeep-archive`.
    OfArchive,
    /// Table of `walkeep-restore`, with what the server does when it finds no more WAL.
    OfRestore(RecoveryMode),
    /// Table of `walkeep`.
    OfTool,
    /// Table of `walkeep` with `--json`, which also prints failures to standard output, unless it has printed
    /// something there.
    OfToolInJson,
}

/// Exit status of a restore ended by SIGTERM. The server regards it as part of its own shutdown.
const TERMINATED: u8 = 128 + 15;

impl ExitStatuses {
    /// Returns the table of a command of `walkeep`, with or without `--json`.
    pub(super) fn of_tool(json: bool) -> Self {
        if json { Self::OfToolInJson } else { Self::OfTool }
    }

    /// Returns the exit status of a failure of that kind.
    #[must_use]
    pub fn status(self, kind: ErrorKind) -> u8 {
        match (self, kind) {
            (
                Self::OfArchive | Self::OfTool | Self::OfToolInJson,
                ErrorKind::Configuration | ErrorKind::Refused,
            ) => 2,
            (Self::OfArchive, ErrorKind::Conflict) => 3,
            (Self::OfArchive, ErrorKind::Unacceptable) => 4,
            (Self::OfArchive | Self::OfTool | Self::OfToolInJson, _)
            | (Self::OfRestore(_), ErrorKind::Absent) => 1,
            (Self::OfRestore(RecoveryMode::Standby | RecoveryMode::Ending), _) => 75,
            (Self::OfRestore(RecoveryMode::Recovery), _) => 255,
        }
    }

    /// Returns the exit status after SIGTERM.
    fn status_of_sigterm(self) -> u8 {
        match self {
            Self::OfRestore(_) => TERMINATED,
            Self::OfArchive | Self::OfTool | Self::OfToolInJson => self.status(ErrorKind::Stopped),
        }
    }

    /// Calls [`ExitStatuses::report`] before the log was started.
    pub(super) fn report_early(self, program: &'static str, format: LogFormat, error: &Error) -> u8 {
        log::start(program, format, false);
        self.report(error)
    }

    /// Calls [`ExitStatuses::report`] for a call that ended without a result.
    pub(super) fn report_ended(self, ended: &Ended) -> u8 {
        let status = self.report(&ended.error);
        if ended.by == Some(Caught::Terminate) { self.status_of_sigterm() } else { status }
    }

    /// Logs the failure and returns its exit status. An absent file is routine for a restore. So is a gap for a standby,
    /// which is warned of it once and not every few seconds.
    pub(super) fn report(self, error: &Error) -> u8 {
        let text = error.report();
        match (self, error.kind()) {
            (Self::OfRestore(_), ErrorKind::Absent)
            | (Self::OfRestore(RecoveryMode::Standby), ErrorKind::Gap) => tracing::debug!("{text}"),
            _ => tracing::error!("{text}"),
        }
        if self == Self::OfToolInJson {
            json::print_failure(error);
        }
        self.status(error.kind())
    }
}

/// Returns the worst of several exit statuses of `walkeep`. From the best to the worst: 0, all well; 1, a problem was found or
/// the work failed; 2, nothing is known until somebody changes something; 141, the reader has left, so that nothing was
/// said.
pub(super) fn worst(statuses: impl IntoIterator<Item = u8>) -> u8 {
    statuses.into_iter().max().unwrap_or_default()
}

/// Turns a panic anywhere in the process into one log line and an exit status of the table. A bug in walkeep must not be
/// taken for an answer of the archive.
pub fn exit_on_panic(program: &'static str, statuses: ExitStatuses) {
    exit_on_panic_unless(program, statuses, || None);
}

/// Does the same as [`exit_on_panic`], except that `known` may provide an exit status with a message.
pub(super) fn exit_on_panic_unless(
    program: &'static str,
    statuses: ExitStatuses,
    known: impl Fn() -> Option<(u8, String)> + Send + Sync + 'static,
) {
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map_or_else(String::new, |location| format!(" at {location}"));
        let what = panic.payload_as_str().unwrap_or("no message").replace(char::is_control, " ");
        let (status, known) = known().map_or_else(
            || (statuses.status(ErrorKind::Stopped), String::new()),
            |(status, known)| (status, format!("; {known}")),
        );
        let message =
            format!("internal error{location}: {what}; this is a bug in walkeep, please report it{known}");
        // Not written by the log, which may have panicked. If this fails, nothing can be done.
        let _ = writeln!(std::io::stderr(), "{program}: error: {message}");
        if statuses == ExitStatuses::OfToolInJson {
            json::print_failure(&Error::new(ErrorKind::Stopped, message));
        }
        // Threads that wait for the panicked one would wait forever.
        std::process::exit(i32::from(status));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::{
        Absent, Configuration, Conflict, Damaged, Empty, Gap, Local, Refused, Stopped, Unacceptable,
        Unavailable,
    };

    const ALL: [ErrorKind; 11] = [
        Absent,
        Empty,
        Gap,
        Unavailable,
        Refused,
        Damaged,
        Conflict,
        Unacceptable,
        Local,
        Configuration,
        Stopped,
    ];

    #[test]
    fn only_proven_absence_lets_recovery_end() {
        for kind in ALL {
            let restore = |mode| ExitStatuses::OfRestore(mode).status(kind);
            let expected = if kind == Absent { (1, 1) } else { (75, 255) };
            assert_eq!(
                (restore(RecoveryMode::Standby), restore(RecoveryMode::Recovery)),
                expected,
                "{kind:?}"
            );
            assert_eq!(
                restore(RecoveryMode::Ending),
                expected.0,
                "stopping it there would lead it back: {kind:?}"
            );
        }
        assert_eq!(ExitStatuses::OfRestore(RecoveryMode::Standby).status_of_sigterm(), 143);
    }

    #[test]
    fn of_several_statuses_the_worst_counts() {
        use crate::cli::print::READER_LEFT;
        let from_best_to_worst = [
            0,
            ExitStatuses::OfTool.status(Unavailable),
            ExitStatuses::OfTool.status(Configuration),
            READER_LEFT,
        ];
        assert_eq!(worst([]), 0);
        for (rank, status) in from_best_to_worst.into_iter().enumerate() {
            for better in from_best_to_worst.into_iter().take(rank + 1) {
                assert_eq!((worst([better, status]), worst([status, better])), (status, status));
            }
        }
    }

    #[test]
    fn a_failed_push_is_always_counted_by_the_server() {
        for kind in ALL {
            let expected = match kind {
                Configuration | Refused => 2,
                Conflict => 3,
                Unacceptable => 4,
                _ => 1,
            };
            assert_eq!(ExitStatuses::OfArchive.status(kind), expected, "{kind:?}");
        }
        assert_eq!(ExitStatuses::OfArchive.status_of_sigterm(), 1);
    }
}
