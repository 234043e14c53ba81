//! Which archived files to delete, and why the others stay. Pure: takes backups, a policy and a time, returns a plan.
//!
//! A plan is one position, the oldest WAL kept: everything before it goes, on every timeline, and everything after it
//! stays. A base backup needs the segments from its start on, of its own timeline and of all descendants, and a
//! descendant never uses WAL from before its fork. So the oldest start among the kept backups leaves each of them all
//! WAL that it can ever need, without a gap.

mod age;
mod backups;
mod before;
mod branches;
mod doubt;
mod kept;
mod policy;

use jiff::Timestamp;

use crate::wal::{Lsn, SegmentName, SegmentSize, TimelineId, WalName};

pub use age::by_age;
pub use backups::BackupPolicy;
pub use before::{Before, BeforeError};
pub use branches::{BranchEnd, BranchPolicy, GivenUp};
pub use doubt::Doubt;
pub use kept::{KeptBackup, Why};
pub use policy::{Decision, Policy, PolicyInput, Young, decide};

/// The oldest WAL kept: a position at the start of a segment, the same on every timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OldestKept(u64);

impl From<SegmentName> for OldestKept {
    fn from(segment: SegmentName) -> Self {
        Self(segment.order())
    }
}

impl OldestKept {
    /// Returns the start of the segment that contains `position`.
    #[must_use]
    pub fn at(position: Lsn, size: SegmentSize) -> Self {
        let segment = SegmentName::containing(TimelineId::FIRST, position, size);
        segment.map_or(Self(0), Self::from)
    }

    /// Returns `true` if the file concerns only older WAL. A timeline history file concerns all WAL.
    #[must_use]
    pub fn is_after(self, name: WalName) -> bool {
        match name {
            WalName::Segment(segment) | WalName::Partial(segment) | WalName::Backup { segment, .. } => {
                Self::from(segment) < self
            }
            WalName::History(_) => false,
        }
    }
}

/// Returns the sort key for deletion: backup history files first, then segments, oldest first.
///
/// An interruption therefore leaves no backup history file without its WAL, and no gap.
#[must_use]
pub fn order_of_deletion(name: &WalName) -> impl Ord + use<> {
    let position = |segment: SegmentName| (segment.order(), segment.timeline());
    match *name {
        WalName::Backup { segment, offset } => (0, position(segment), u64::from(offset)),
        WalName::Segment(segment) => (1, position(segment), 0),
        WalName::Partial(segment) => (1, position(segment), 1),
        // Never deleted.
        WalName::History(timeline) => (2, (0, timeline), 0),
    }
}

/// Difference between two clocks that is tolerated before times are doubted.
const CLOCKS_MAY_DIFFER: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

fn is_future(since: Timestamp, now: Timestamp) -> bool {
    since.duration_since(now) > CLOCKS_MAY_DIFFER
}

#[cfg(test)]
mod tests {
    mod edges;

    use super::*;
    use crate::coverage::{BackupState, BaseBackup, KnownFrom};
    use crate::wal::BackupWal;

    /// Builds a complete backup that counts, known from its backup history file.
    pub(super) fn backup(segment: SegmentName, ended: Timestamp) -> BackupState {
        let backup = BaseBackup {
            known_from: KnownFrom::History(WalName::Backup { segment, offset: 0x28 }),
            label: None,
            wal: BackupWal { start_segment: segment, start: Lsn(0x28), end: None },
            from_standby: false,
            ended,
            known_since: ended,
            counts: true,
            builds_on: None,
        };
        BackupState { backup, complete: true, reaches: Vec::new() }
    }

    fn name(text: &str) -> WalName {
        text.parse().unwrap()
    }

    fn oldest_kept(text: &str) -> OldestKept {
        OldestKept::from(text.parse::<SegmentName>().unwrap())
    }

    #[test]
    fn the_oldest_wal_kept_is_the_same_on_every_timeline_and_includes_its_own_segment() {
        let oldest_kept = oldest_kept("000000020000000100000000");
        for goes in [
            "0000000100000000000000FF",
            "0000000A00000000000000FF",
            "0000000100000000000000FF.partial",
            "0000000100000000000000FF.00000028.backup",
        ] {
            assert!(oldest_kept.is_after(name(goes)), "{goes}");
        }
        for stays in [
            "000000010000000100000000",
            "000000010000000100000000.partial",
            "000000010000000100000000.00000028.backup",
            "0000000A0000000200000000",
            "00000001.history",
        ] {
            assert!(!oldest_kept.is_after(name(stays)), "{stays}");
        }
    }

    #[test]
    fn the_oldest_segment_is_deleted_first_on_any_timeline() {
        let mut names = [
            "000000010000000000000003",
            "000000020000000000000001",
            "000000010000000000000001.partial",
            "000000010000000000000002.00000028.backup",
            "000000010000000000000001",
        ]
        .map(name);
        names.sort_by_key(order_of_deletion);
        assert_eq!(
            names.map(|name| name.to_string()),
            [
                "000000010000000000000002.00000028.backup",
                "000000010000000000000001",
                "000000010000000000000001.partial",
                "000000020000000000000001",
                "000000010000000000000003",
            ]
        );
    }
}
