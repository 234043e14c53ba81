//! What is known of timeline history files without the archive: that of timeline 1 cannot exist, and those that the server
//! knows lie beside the place where it wants them.
//!
//! Needs neither flags nor configuration, so that a mistake in them cannot stop a server in the middle of a promotion.

use std::io::{Read, Write};
use std::path::Path;

use super::place::{cannot_write, directory_of, publish, stage};
use crate::error::Error;
use crate::frame::MAX_TEXT_BYTES;
use crate::wal::{TimelineHistory, TimelineId, WalName};

/// Whether there can be no such file: the first timeline has no parents.
#[must_use]
pub fn cannot_exist(name: WalName) -> bool {
    name == WalName::History(TimelineId::FIRST)
}

/// Copies a timeline history file that the server keeps beside `path`, if there is one and it is sound. A file at `path`
/// itself is none: it is what is to be restored.
pub fn restore_own_history(name: WalName, path: &Path) -> Result<bool, Error> {
    let WalName::History(timeline) = name else { return Ok(false) };
    let (directory, own) = (directory_of(path), name.to_string());
    if path.file_name().is_some_and(|file_name| *file_name == *own) {
        return Ok(false);
    }
    let Ok(file) = std::fs::File::open(directory.join(own)) else { return Ok(false) };
    let mut content = Vec::new();
    let read = file.take(MAX_TEXT_BYTES).read_to_end(&mut content);
    if read.is_err() || TimelineHistory::parse(timeline, &content).is_err() {
        return Ok(false);
    }
    let mut staged = stage(&directory)?;
    staged.write_all(&content).map_err(cannot_write(path))?;
    publish(staged.into_temp_path(), path).map(|()| true)
}
