//! `backup_manifest`, which `pg_basebackup` writes beside a base backup since version 13: the WAL that the backup needs and,
//! since version 17, its cluster.

use serde::Deserialize;

use super::{Lsn, SystemIdentifier, TimelineId};

/// Contents of a manifest that concern WAL. All else is skipped as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BackupManifest {
    #[serde(rename = "WAL-Ranges")]
    wal_ranges: Vec<Range>,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

impl BackupManifest {
    /// Returns the start of replay, on the oldest timeline, and the position that it must reach, on the newest: a standby may
    /// have followed its primary during the backup. `None` if any range is malformed.
    #[must_use]
    pub fn ends(&self) -> Option<((TimelineId, Lsn), (TimelineId, Lsn))> {
        let of = |range: &Range| -> Option<(TimelineId, Lsn, Lsn)> {
            let (start, end) = (range.start.parse().ok()?, range.end.parse().ok()?);
            (start <= end).then_some((TimelineId::new(range.timeline)?, start, end))
        };
        let mut ranges = self.wal_ranges.iter().map(of).collect::<Option<Vec<_>>>()?;
        ranges.sort_unstable();
        let on_one_way = |pair: &[_]| matches!(pair, [(older, _, end), (newer, start, _)] if older < newer && end <= start);
        let (first, last) = (ranges.first()?, ranges.last()?);
        ranges.windows(2).all(on_one_way).then_some(((first.0, first.1), (last.0, last.2)))
    }

    /// Returns the system identifier of the cluster; `None` if the manifest has none.
    #[must_use]
    pub fn system(&self) -> Option<SystemIdentifier> {
        self.system_identifier.and_then(SystemIdentifier::new)
    }
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
        let ranges = ranges.iter().map(range).collect();
        let number = |(timeline, position): (TimelineId, Lsn)| (timeline.get(), position.0);
        let manifest = BackupManifest { wal_ranges: ranges, system_identifier: None };
        manifest.ends().map(|(start, stop)| (number(start), number(stop)))
    }

    #[test]
    fn it_begins_on_the_oldest_timeline_and_ends_on_the_newest() {
        assert_eq!(ends_of(&[(1, "0/20", "0/40")]), Some(((1, 0x20), (1, 0x40))));
        // The server writes the newest first.
        let followed = [(3, "0/60", "0/90"), (2, "0/40", "0/60"), (1, "0/20", "0/40")];
        assert_eq!(ends_of(&followed), Some(((1, 0x20), (3, 0x90))));
    }

    #[test]
    fn the_system_is_that_of_the_manifest_if_it_has_one() {
        let system =
            |system_identifier| BackupManifest { wal_ranges: Vec::new(), system_identifier }.system();
        assert_eq!(system(Some(7)), SystemIdentifier::new(7));
        assert!(system(Some(7)).is_some());
        assert_eq!([system(None), system(Some(0))], [None, None]);
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
