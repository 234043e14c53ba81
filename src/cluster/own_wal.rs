//! What lies in a server's own `pg_wal`.
//!
//! Names there prove nothing: the server prepares files for later use under the names of segments to come, with the content
//! of old ones. A segment is there if its first page says so.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::wal::{
    LONG_HEADER_BYTES, LongPageHeader, RecordWalk, RecordsEnd, SegmentName, SystemIdentifier,
    TimelineHistory, TimelineId, WalName,
};

/// A longer history file is none.
const MAX_HISTORY_BYTES: u64 = 1 << 20;

/// Whether the file in `wal` holds the beginning of the segment that its name says. What cannot be read does not.
#[must_use]
pub fn holds_segment(wal: &Path, system: SystemIdentifier, segment: SegmentName) -> bool {
    let read = || -> io::Result<(Vec<u8>, u64)> {
        let file = File::open(wal.join(segment.to_string()))?;
        let bytes = file.metadata()?.len();
        let mut beginning = Vec::new();
        file.take(LONG_HEADER_BYTES as u64).read_to_end(&mut beginning)?;
        Ok((beginning, bytes))
    };
    read().is_ok_and(|(beginning, bytes)| {
        LongPageHeader::parse(&beginning)
            .is_ok_and(|page| page.check(segment, bytes).is_ok() && page.check_system(system).is_ok())
    })
}

/// The lowest segment of the same timeline that comes after `segment` in `wal`, and is there.
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

/// Whether the records of a segment in `wal` break off in its middle, as in one that was being received. Of what is in a form
/// that is not known here, nobody can tell.
#[must_use]
pub fn breaks_off(wal: &Path, segment: SegmentName) -> bool {
    let walk = || -> Option<RecordWalk> {
        let mut file = BufReader::with_capacity(1 << 18, File::open(wal.join(segment.to_string())).ok()?);
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

/// The timeline history files in `wal`, in the order of timelines. What cannot be read or understood is left out.
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
    // Opening a named pipe would wait for a writer.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    File::open(path).ok()?.take(MAX_HISTORY_BYTES).read_to_end(&mut content).ok()?;
    TimelineHistory::parse(timeline, &content).ok()
}
