//! The server's `.ready` files in a data directory, which show what waits to be archived. They are read, never
//! changed.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::wal::WalName;

/// File name suffix in `archive_status` of a file that is ready to be archived.
const READY: &str = ".ready";

/// Returns the directory `archive_status` next to the file at `path`; `None` for a path without a directory.
fn marks_beside(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.join("archive_status"))
}

/// Lists the WAL files that are ready next to the one at `path`, itself included; empty if that is unreadable, as
/// outside of a data directory. Other names are ignored.
pub(super) fn ready(path: &Path) -> Vec<WalName> {
    let Some(entries) = marks_beside(path).and_then(|marks| fs::read_dir(marks).ok()) else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|mark| mark.strip_suffix(READY)?.parse().ok()).collect()
}

/// Returns the number of files that are ready next to the one at `path`, itself included if it is marked.
#[must_use]
pub fn backlog(path: &Path) -> usize {
    ready(path).len()
}

/// Returns the path of the `.ready` file of `name` next to `path`; `None` if there is none.
pub(super) fn mark(path: &Path, name: WalName) -> Option<PathBuf> {
    let mark = marks_beside(path)?.join(format!("{name}{READY}"));
    mark.exists().then_some(mark)
}

/// Returns the time since when the file `name` next to `path` is ready; `None` if it is not.
pub(super) fn ready_since(path: &Path, name: WalName) -> Option<Timestamp> {
    Timestamp::try_from(fs::metadata(mark(path, name)?).ok()?.modified().ok()?).ok()
}
