//! Contents of a server's own `pg_wal`.
//!
//! Names there prove nothing: the server renames old files to future segments for reuse, without changing their
//! content. A segment counts as present only if its first page belongs to it.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::wal::{
    LONG_HEADER_BYTES, LongPageHeader, RecordWalk, RecordsEnd, SegmentName, SystemIdentifier,
    TimelineHistory, TimelineId, WalName,
};
use crate::whole_file::{open_regular, open_with_metadata};

/// Maximum size of a history file in bytes. A longer file is ignored.
const MAX_HISTORY_BYTES: u64 = 1 << 20;

/// Returns `true` if the file in `wal` contains the start of the segment that it is named after. Unreadable files do
/// not.
#[must_use]
pub fn holds_segment(wal: &Path, system: SystemIdentifier, segment: SegmentName) -> bool {
    let read = || -> io::Result<(Vec<u8>, u64)> {
        let (file, found) = open_with_metadata(&wal.join(segment.to_string()))?;
        let bytes = found.len();
        let mut beginning = Vec::new();
        file.take(LONG_HEADER_BYTES as u64).read_to_end(&mut beginning)?;
        Ok((beginning, bytes))
    };
    read().is_ok_and(|(beginning, bytes)| {
        LongPageHeader::parse(&beginning)
            .is_ok_and(|page| page.check(segment, bytes).is_ok() && page.check_system(system).is_ok())
    })
}

/// Returns the lowest later segment of the same timeline that is present in `wal`.
#[must_use]
pub fn held_after(wal: &Path, system: SystemIdentifier, segment: SegmentName) -> Option<SegmentName> {
    let names = fs::read_dir(wal).ok()?.flatten();
    let mut later: Vec<SegmentName> = names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|name: &SegmentName| name.timeline() == segment.timeline() && *name > segment)
        .collect();
    later.sort_unstable();
    later.into_iter().find(|name| holds_segment(wal, system, *name))
}

/// Returns `true` if the records of a segment in `wal` end in its middle, as in one that was being received. Returns
/// `false` if the layout of its records is unknown.
#[must_use]
pub fn breaks_off(wal: &Path, segment: SegmentName) -> bool {
    let walk = || -> Option<RecordWalk> {
        let mut file = BufReader::with_capacity(1 << 18, open_regular(&wal.join(segment.to_string())).ok()?);
        let mut beginning = Vec::new();
        file.by_ref().take(LONG_HEADER_BYTES as u64).read_to_end(&mut beginning).ok()?;
        let mut walk = RecordWalk::new(&beginning, segment.timeline())?;
        let mut whole = beginning.as_slice().chain(file);
        let mut page = vec![0; walk.page_bytes()];
        while !walk.has_ended() && whole.read_exact(&mut page).is_ok() {
            walk.page(&page);
        }
        Some(walk)
    };
    walk().is_some_and(|walk| matches!(walk.end(), RecordsEnd::Middle(_)))
}

/// Reads the timeline history files in `wal`, in order of timelines. Unreadable and malformed ones are left out.
#[must_use]
pub fn histories(wal: &Path) -> Vec<(TimelineId, TimelineHistory)> {
    let Ok(entries) = fs::read_dir(wal) else { return Vec::new() };
    let mut histories: Vec<_> = entries
        .flatten()
        .filter_map(|entry| match entry.file_name().to_str()?.parse() {
            Ok(WalName::History(timeline)) => Some((timeline, read_history(&entry.path(), timeline)?)),
            _ => None,
        })
        .collect();
    histories.sort_unstable_by_key(|(timeline, _)| *timeline);
    histories
}

fn read_history(path: &Path, timeline: TimelineId) -> Option<TimelineHistory> {
    let mut content = Vec::new();
    open_regular(path).ok()?.take(MAX_HISTORY_BYTES).read_to_end(&mut content).ok()?;
    TimelineHistory::parse(timeline, &content).ok()
}
