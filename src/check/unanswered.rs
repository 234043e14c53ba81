//! A server that does not answer: what its directory says about where it listens.

use super::CheckFinding;
use super::shell::{Shell, quoted};
use crate::cluster::{DataDirectory, Listening};
use crate::error::Error;

/// Reports on a server that could not be asked. May block.
pub(super) fn finding(error: &Error, data: Option<&DataDirectory>, shell: &Shell) -> CheckFinding {
    let open = CheckFinding::failed("server", error);
    let Some(data) = data else {
        return open.by_typing("to see whether it answers at all", shell.is_ready());
    };
    let path = data.path().display().to_string();
    match data.listening().filter(|_| data.seems_served()) {
        Some(Listening { port, directory }) => {
            let host = directory.map_or_else(String::new, |directory| format!("host={directory} "));
            let url = quoted(&format!("{host}port={port} dbname=postgres"));
            open.by_typing("a server runs in its directory, and listens there", format!("--pg-url {url}"))
        }
        None => open.by_typing(
            format!("no server runs in {path}; start it, or see what its log says last"),
            shell.ls(&data.path().join("log")),
        ),
    }
}
