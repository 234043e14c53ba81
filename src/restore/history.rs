//! Timeline history files that need no archive: that of timeline 1 cannot exist, and the server's own are next to the
//! target.
//!
//! This code reads neither flags nor configuration, so that a mistake in them cannot stop a server during a promotion.

use std::io::{Read, Write};
use std::path::Path;

use super::target::{cannot_write, publish, stage};
use crate::error::Error;
use crate::frame::MAX_TEXT_BYTES;
use crate::wal::{TimelineHistory, TimelineId, WalName};
use crate::whole_file::{directory_of, open_regular};

/// Returns `true` for the history file of the first timeline, which has no parents and so no such file.
#[must_use]
pub fn cannot_exist(name: WalName) -> bool {
    name == WalName::History(TimelineId::FIRST)
}

/// Copies the timeline history file that the server has next to `path`, and returns `true` if it exists and is
/// well-formed. A file at `path` itself does not count, because it is the target.
pub fn restore_own_history(name: WalName, path: &Path) -> Result<bool, Error> {
    let WalName::History(timeline) = name else { return Ok(false) };
    let (directory, own) = (directory_of(path), name.to_string());
    if path.file_name().is_some_and(|file_name| *file_name == *own) {
        return Ok(false);
    }
    let Ok(file) = open_regular(&directory.join(own)) else { return Ok(false) };
    let mut content = Vec::new();
    let read = file.take(MAX_TEXT_BYTES).read_to_end(&mut content);
    if read.is_err() || TimelineHistory::parse(timeline, &content).is_err() {
        return Ok(false);
    }
    let mut staged = stage(directory)?;
    staged.write_all(&content).map_err(cannot_write(path))?;
    publish(staged.into_temp_path(), path).map(|()| true)
}
