//! Consequences of a file that cannot be archived: the server never skips one, so archiving stops and its disk fills.
//! The error message says so.

use std::path::Path;

use jiff::Timestamp;

use super::PushRequest;
use super::marks::{ready, ready_since};
use crate::archive::{ArchiveOptions, ArchiveUrl};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::wal::{SystemIdentifier, WalName};

/// Returns `true` if the server cannot get past a file with this failure until a person acts.
pub(super) fn is_stuck(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Conflict | ErrorKind::Unacceptable)
}

/// Extends the error of a file that the server has marked as ready with the consequences and the commands to type.
/// The file `at_fault`, which may be another one, is the cause.
pub(super) async fn explained(
    error: Error,
    request: &PushRequest,
    at_fault: WalName,
    options: &ArchiveOptions,
    system: Option<SystemIdentifier>,
) -> Error {
    let (path, name) = (request.path.clone(), request.name);
    let looking = blocking(move || {
        let ready = ready(&path);
        let since = ready.iter().filter_map(|name| ready_since(&path, *name)).min();
        let is_marked = ready.contains(&name);
        let path = if at_fault == name { path } else { path.with_file_name(at_fault.to_string()) };
        is_marked.then(|| (ready.len(), since, std::path::absolute(&path).unwrap_or(path)))
    });
    let Some((files, since, path)) = looking.await else { return error };
    let look = look(error.kind(), &path, at_fault, &options.url, system);
    error.hint_also(format!("{}; to look at it: {look}", waiting(files, since)))
}

fn waiting(files: usize, since: Option<Timestamp>) -> String {
    let since = since.and_then(|since| Timestamp::from_second(since.as_second()).ok());
    let since = since.map_or_else(String::new, |since| format!(", the oldest since {since}"));
    let wait = if files == 1 { "1 file waits" } else { &format!("{files} files wait") };
    format!("the server hands over nothing else before this is mended, and its disk fills: {wait}{since}")
}

/// Returns the command that shows the problem.
fn look(
    kind: ErrorKind,
    path: &Path,
    name: WalName,
    archive: &ArchiveUrl,
    system: Option<SystemIdentifier>,
) -> String {
    let path = path.display();
    match (kind, name) {
        (ErrorKind::Conflict, _) => {
            let system = system.map_or_else(String::new, |system| format!("--system-identifier {system} "));
            format!("walkeep cat --archive {archive} {system}{name} | cmp - {path}")
        }
        (_, WalName::Segment(_) | WalName::Partial(_)) => format!("pg_waldump {path}"),
        (_, WalName::History(_) | WalName::Backup { .. }) => format!("cat {path}"),
    }
}
