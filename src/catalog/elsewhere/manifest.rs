//! `backup_manifest`, which version 13 and later write: the WAL that a base backup needs and, from version 17 on, its
//! cluster.

use std::fs::File;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::{failed, open};
use crate::error::Error;
use crate::wal::{Lsn, SystemIdentifier, TimelineId};

/// Maximum size in bytes. A manifest has a line of some 200 bytes per file of the cluster.
const MAX_BYTES: u64 = 4 << 30;

/// Contents of a manifest that concern WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Start of replay.
    pub(super) start: (TimelineId, Lsn),
    /// Position that replay must reach. A standby may have followed its primary to a later timeline during the
    /// backup.
    pub(super) stop: (TimelineId, Lsn),
    /// System identifier of the cluster.
    pub(super) system: Option<SystemIdentifier>,
    /// Modification time of the manifest, which is the end of the backup.
    pub(super) written: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Text {
    #[serde(rename = "WAL-Ranges")]
    wal_ranges: Vec<Range>,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

impl Manifest {
    /// Reads the manifest in a directory; `None` if there is none.
    pub(super) fn of(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join("backup_manifest");
        let Some((file, written)) = open(&path)? else { return Ok(None) };
        let text = read(file).map_err(|error| failed(&path, "cannot read").because(error))?;
        let (start, stop) =
            ends(&text.wal_ranges).ok_or_else(|| failed(&path, "cannot make sense of the WAL-Ranges in"))?;
        let system = text.system_identifier.and_then(SystemIdentifier::new);
        Ok(Some(Self { start, stop, system, written }))
    }
}

fn read(file: File) -> serde_json::Result<Text> {
    serde_json::from_reader(io::BufReader::new(io::Read::take(file, MAX_BYTES)))
}

/// Returns the start, on the oldest timeline, and the end, on the newest. `None` if any range is malformed.
fn ends(ranges: &[Range]) -> Option<((TimelineId, Lsn), (TimelineId, Lsn))> {
    let of = |range: &Range| -> Option<(TimelineId, Lsn, Lsn)> {
        let (start, end) = (range.start.parse().ok()?, range.end.parse().ok()?);
        (start <= end).then_some((TimelineId::new(range.timeline)?, start, end))
    };
    let mut ranges = ranges.iter().map(of).collect::<Option<Vec<_>>>()?;
    ranges.sort_unstable();
    let on_one_way =
        |pair: &[_]| matches!(pair, [(older, _, end), (newer, start, _)] if older < newer && end <= start);
    let (first, last) = (ranges.first()?, ranges.last()?);
    ranges.windows(2).all(on_one_way).then_some(((first.0, first.1), (last.0, last.2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_of(ranges: &[(u32, &str, &str)]) -> Option<((u32, u64), (u32, u64))> {
        let range = |(timeline, start, end): &(u32, &str, &str)| Range {
            timeline: *timeline,
            start: (*start).to_owned(),
            end: (*end).to_owned(),
        };
        let ranges: Vec<Range> = ranges.iter().map(range).collect();
        let number = |(timeline, position): (TimelineId, Lsn)| (timeline.get(), position.0);
        ends(&ranges).map(|(start, stop)| (number(start), number(stop)))
    }

    #[test]
    fn it_begins_on_the_oldest_timeline_and_ends_on_the_newest() {
        assert_eq!(ends_of(&[(1, "0/20", "0/40")]), Some(((1, 0x20), (1, 0x40))));
        // The server writes the newest first.
        let followed = [(3, "0/60", "0/90"), (2, "0/40", "0/60"), (1, "0/20", "0/40")];
        assert_eq!(ends_of(&followed), Some(((1, 0x20), (3, 0x90))));
    }

    #[test]
    fn malformed_ranges_have_no_ends() {
        for odd in [
            &[][..],
            &[(0, "0/20", "0/40")],
            &[(1, "0/20", "x")],
            &[(1, "", "0/40")],
            &[(1, "0/40", "0/20")],
            &[(1, "0/20", "0/40"), (2, "0/40", "x")],
            &[(1, "0/20", "0/40"), (1, "0/40", "0/60")],
            // The range on the newer timeline starts before that on the older one ends.
            &[(1, "0/20", "0/40"), (2, "0/30", "0/60")],
        ] {
            assert_eq!(ends_of(odd), None, "{odd:?}");
        }
    }
}
