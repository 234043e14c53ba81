//! A server that does not answer, or was not asked: what its directory says about it.

use super::CheckFinding;
use super::shell::{Shell, of_listening, quoted};
use crate::cluster::DataDirectory;
use crate::error::Error;

/// Reports on a server that could not be asked. May block.
pub(super) fn finding(error: &Error, data: Option<&DataDirectory>, shell: &Shell) -> CheckFinding {
    let open = CheckFinding::failed("server", error);
    let Some(data) = data else {
        return open.by_typing("to see whether it answers at all", shell.is_ready());
    };
    match data.listening().filter(|_| data.seems_served()) {
        Some(listening) => {
            let url = quoted(&of_listening(&listening));
            open.by_typing("a server runs in its directory, and listens there", format!("--pg-url {url}"))
        }
        None => {
            let (purpose, command) = start(data, shell);
            open.by_typing(format!("no server runs in {}; {purpose}", data.path().display()), command)
        }
    }
}

/// Notes that no server runs in a directory, so that nothing is archived from there now. May block.
pub(super) fn no_server(data: &DataDirectory, shell: &Shell) -> Option<CheckFinding> {
    if data.seems_served() || !data.system_identifier().is_ok_and(|system| system.is_some()) {
        return None;
    }
    let what = format!("no server runs in {}", data.path().display());
    let (purpose, command) = start(data, shell);
    Some(CheckFinding::note("server", what).by_typing(purpose, command))
}

/// Returns what to type where no server runs, and what for.
fn start(data: &DataDirectory, shell: &Shell) -> (&'static str, String) {
    // The server's own collector of messages is off by default, and then there is no such directory.
    let log = data.path().join("log");
    if log.is_dir() {
        return ("start it, or see what its log says last", shell.ls(&log));
    }
    let command = format!("pg_ctl -D {} start", quoted(&data.path().display().to_string()));
    let purpose = "its log is where the service keeps it, such as in journalctl or /var/log/postgresql; start it, and it says here \
                   why it cannot";
    (purpose, shell.as_server(&command))
}
