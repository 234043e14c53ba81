//! What waits in a data directory to be archived, by the marks that the server makes. They are read and never touched.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::wal::WalName;

/// How the server marks a file that is ready to be archived, in `archive_status`.
const READY: &str = ".ready";

/// The directory of the marks beside the file at `path`; none where a path has no directory.
fn marks_beside(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.join("archive_status"))
}

/// The WAL files that are ready beside the one at `path`, itself included; none where that cannot be read, as outside a data
/// directory. Names that are not those of WAL files are the server's business.
pub(super) fn ready(path: &Path) -> Vec<WalName> {
    let Some(entries) = marks_beside(path).and_then(|marks| fs::read_dir(marks).ok()) else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|mark| mark.strip_suffix(READY)?.parse().ok()).collect()
}

/// How many files are ready to be archived beside the one at `path`, itself included if the server has marked it.
#[must_use]
pub fn backlog(path: &Path) -> usize {
    ready(path).len()
}

/// Where the server marks the file `name` beside `path`; `None` if it has not.
pub(super) fn mark(path: &Path, name: WalName) -> Option<PathBuf> {
    let mark = marks_beside(path)?.join(format!("{name}{READY}"));
    mark.exists().then_some(mark)
}

/// Since when the file `name` beside `path` has been ready; `None` if the server has not marked it.
pub(super) fn ready_since(path: &Path, name: WalName) -> Option<Timestamp> {
    Timestamp::try_from(fs::metadata(mark(path, name)?).ok()?.modified().ok()?).ok()
}
