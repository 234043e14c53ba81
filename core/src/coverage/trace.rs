//! What a backup history file proves of its timeline: the server wrote WAL from the start of the base backup to its end.
//!
//! The server begins and ends a backup with a switch to a new segment, and writes the file after the second one
//! (`do_pg_backup_stop` in `access/transam/xlog.c`). Once the file is archived, the segment in which the backup ended is
//! therefore complete. A standby writes no such file, so both ends are on one timeline.

use crate::wal::{Lsn, SegmentName, SegmentSize, TimelineId, WalName};

/// A backup history file, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupTrace {
    /// Segment in which the base backup began, by the file's name.
    pub segment: SegmentName,
    /// Offset of the start in the segment, in bytes, by the file's name.
    pub offset: u32,
    /// Timeline and position of its end; `None` unless the content was read and says it.
    pub end: Option<(TimelineId, Lsn)>,
}

/// Maximum number of backups whose ends are worth a read: a later end than that of the newest backup comes from one that was
/// taken at the same time.
const MOST_READ: usize = 2;

impl BackupTrace {
    /// Returns what the name of a file proves; `None` unless it is that of a backup history file.
    #[must_use]
    pub fn of_name(name: WalName) -> Option<Self> {
        match name {
            WalName::Backup { segment, offset } => Some(Self { segment, offset, end: None }),
            WalName::Segment(_) | WalName::Partial(_) | WalName::History(_) => None,
        }
    }

    /// Returns the name of the file.
    #[must_use]
    pub fn name(&self) -> WalName {
        WalName::Backup { segment: self.segment, offset: self.offset }
    }

    /// Returns the number of the last segment of the timeline that the backup proves.
    #[must_use]
    pub fn proves(&self, timeline: TimelineId, size: SegmentSize) -> Option<u64> {
        if self.segment.timeline() != timeline {
            return None;
        }
        let start = self.segment.number(size)?;
        let end = self.end.filter(|(of, _)| *of == timeline);
        Some(end.map_or(start, |(_, end)| start.max(end.0.saturating_sub(1) / size.bytes())))
    }

    /// Selects from the names of files those that can prove that the segment was written. If any began there or later, these
    /// are the first and the last of them, whose names are enough. Otherwise they are the last that began before, whose
    /// contents tell more.
    #[must_use]
    pub fn about(segment: SegmentName, names: impl IntoIterator<Item = WalName>) -> Vec<Self> {
        let of_names = names.into_iter().filter_map(Self::of_name);
        let mut traces: Vec<Self> =
            of_names.filter(|trace| trace.segment.timeline() == segment.timeline()).collect();
        traces.sort_unstable_by_key(Self::name);
        let before = traces.partition_point(|trace| trace.segment < segment);
        if before == traces.len() {
            return traces.split_off(before.saturating_sub(MOST_READ));
        }
        let later = traces.split_off(before);
        let last = later.last().copied();
        later.first().copied().into_iter().chain(last.filter(|_| later.len() > 1)).collect()
    }

    /// Returns `true` if the name alone proves that the segment was written.
    #[must_use]
    pub fn proves_by_name(&self, segment: SegmentName) -> bool {
        self.segment.timeline() == segment.timeline() && self.segment >= segment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<WalName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_is_enough_if_the_backup_began_late_enough_and_else_the_newest_are_read() {
        let all = [
            "000000020000000000000007.00000028.backup",
            "000000010000000000000009.00000028.backup",
            "000000010000000000000003.00000028.backup",
            "000000010000000000000005.00000028.backup",
            "000000010000000000000007.00000028.backup",
            "000000010000000000000007.000000D8.backup",
            "000000010000000000000008",
            "00000002.history",
        ];
        let about = |segment: &str| -> Vec<String> {
            let segment = segment.parse().unwrap();
            let traces = BackupTrace::about(segment, names(&all));
            traces.iter().map(|trace| trace.name().to_string()).collect()
        };
        assert_eq!(about("000000010000000000000006"), [all[4], all[1]]);
        assert_eq!(about("000000010000000000000008"), [all[1]]);
        assert_eq!(about("000000010000000000000009"), [all[1]]);
        assert_eq!(about("00000001000000000000000A"), [all[5], all[1]]);
        assert_eq!(about("000000010000000000000001"), [all[2], all[1]]);
        assert_eq!(about("000000020000000000000009"), [all[0]]);
        assert_eq!(about("000000030000000000000001"), [""; 0]);
        let by_name = |text: &str, segment: &str| {
            let trace = BackupTrace::of_name(text.parse().unwrap()).unwrap();
            trace.proves_by_name(segment.parse().unwrap())
        };
        assert!(by_name(all[1], "000000010000000000000009") && by_name(all[1], "000000010000000000000001"));
        assert!(!by_name(all[1], "00000001000000000000000A") && !by_name(all[1], "000000020000000000000001"));
    }
}
