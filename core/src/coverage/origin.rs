//! Start of recoveries: the WAL position of a base backup.

use crate::wal::{BackupWal, Lsn, SegmentSize, TimelineId};

/// Start of replay of a base backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Timeline of the backup.
    pub timeline: TimelineId,
    /// Number of the first segment.
    pub start: u64,
    /// Position that replay must reach before the data is consistent; the start position if unknown.
    pub stop: Lsn,
    /// Timeline of `stop`: that of the backup, or one that a standby followed while the backup was taken.
    pub stop_timeline: TimelineId,
}

impl Origin {
    /// Returns the origin of a base backup that needs this WAL, in segments of that size.
    #[must_use]
    pub fn of(wal: BackupWal, size: SegmentSize) -> Self {
        let timeline = wal.start_segment.timeline();
        let (stop_timeline, stop) = wal.end.unwrap_or((timeline, wal.start));
        Self { timeline, start: wal.start.0 / size.bytes(), stop, stop_timeline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_known_end_replay_need_reach_no_more_than_the_start() {
        let (own, other) = (TimelineId::new(2).unwrap(), TimelineId::new(4).unwrap());
        let wal = BackupWal {
            start_segment: "000000020000000000000003".parse().unwrap(),
            start: Lsn(0x300_0028),
            end: Some((other, Lsn(0x500_0000))),
        };
        let known = Origin { timeline: own, start: 3, stop: Lsn(0x500_0000), stop_timeline: other };
        assert_eq!(Origin::of(wal, SegmentSize::DEFAULT), known);
        let unknown = Origin { stop: wal.start, stop_timeline: own, ..known };
        assert_eq!(Origin::of(BackupWal { end: None, ..wal }, SegmentSize::DEFAULT), unknown);
    }
}
