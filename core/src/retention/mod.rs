//! Which archived files may go, and why the others stay. Pure: backups, a policy and a moment in, a plan out.
//!
//! Whatever the policy, a plan is one boundary: a place in the log before which everything goes, on every timeline, and
//! after which everything stays. A base backup needs the segments from its start on, of its own timeline and of all that
//! descend from it, and a descendant never goes back before the place where it branched off. So the boundary at the
//! oldest start among the kept backups leaves each of them all that it can ever need, and no hole.

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
pub use backups::{Backup, BackupPolicy};
pub use before::{Before, BeforeError};
pub use branches::{BranchPolicy, GivenUp, Tip};
pub use doubt::Doubt;
pub use kept::{KeptBackup, Why};
pub use policy::{Decision, Facts, Policy, Young, decide};

/// A place in the log, at the start of a segment; the same on every timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boundary(u64);

impl From<SegmentName> for Boundary {
    fn from(segment: SegmentName) -> Self {
        Self(segment.order())
    }
}

impl Boundary {
    /// At the start of the segment that holds a position.
    #[must_use]
    pub fn at(position: Lsn, size: SegmentSize) -> Self {
        let segment = SegmentName::containing(TimelineId::FIRST, position, size);
        segment.map_or(Self(0), Self::from)
    }

    /// Whether a file of that name is about WAL before the boundary only. Timeline history files are about all of it.
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

/// The order to delete files in: first what announces a backup that can no longer be recovered, then the log, oldest
/// first. Interrupted anywhere, it leaves a log without holes.
#[must_use]
pub fn order_of_deletion(name: &WalName) -> impl Ord + use<> {
    let place = |segment: SegmentName| (segment.order(), segment.timeline());
    match *name {
        WalName::Backup { segment, offset } => (0, place(segment), u64::from(offset)),
        WalName::Segment(segment) => (1, place(segment), 0),
        WalName::Partial(segment) => (1, place(segment), 1),
        // Never deleted, and so in no order.
        WalName::History(timeline) => (2, (0, timeline), 0),
    }
}

/// How far two clocks may be apart before nothing is deleted by time.
const CLOCKS_MAY_DIFFER: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

fn is_future(since: Timestamp, now: Timestamp) -> bool {
    since.duration_since(now) > CLOCKS_MAY_DIFFER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WalName {
        text.parse().unwrap()
    }

    fn boundary(text: &str) -> Boundary {
        Boundary::from(text.parse::<SegmentName>().unwrap())
    }

    #[test]
    fn a_boundary_is_the_same_on_every_timeline_and_never_takes_the_file_it_is_named_after() {
        let boundary = boundary("000000020000000100000000");
        for goes in [
            "0000000100000000000000FF",
            "0000000A00000000000000FF",
            "0000000100000000000000FF.partial",
            "0000000100000000000000FF.00000028.backup",
        ] {
            assert!(boundary.is_after(name(goes)), "{goes}");
        }
        for stays in [
            "000000010000000100000000",
            "000000010000000100000000.partial",
            "000000010000000100000000.00000028.backup",
            "0000000A0000000200000000",
            "00000001.history",
        ] {
            assert!(!boundary.is_after(name(stays)), "{stays}");
        }
    }

    #[test]
    fn the_oldest_goes_first_whatever_its_timeline() {
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
