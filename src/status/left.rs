//! A server that goes on with a timeline which another server, known to the archive, has left: an old primary after a failover.
//! Seen from the server, so that it is found before it has archived anything that shows it. Pure: takes what was read.

use std::collections::BTreeMap;

use crate::wal::{Lsn, TimelineHistory, TimelineId};

/// A server's timeline that was left before the server's own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Timeline of the server.
    pub timeline: TimelineId,
    /// Position of the server's last checkpoint.
    pub at: Lsn,
    /// Timeline that branched off.
    pub left_by: TimelineId,
    /// Position of that fork.
    pub left_at: Lsn,
}

impl Left {
    /// Looks for the first fork of a server's timeline before its last checkpoint.
    pub(super) fn find(
        timeline: TimelineId,
        at: Lsn,
        histories: &BTreeMap<TimelineId, TimelineHistory>,
    ) -> Option<Self> {
        let forks = histories.iter().filter_map(|(child, history)| history.fork_of(timeline, *child));
        let (left_at, left_by) = forks.filter(|(left_at, _)| *left_at < at).min()?;
        Some(Self { timeline, at, left_by, left_at })
    }

    /// Describes the evidence and the consequence.
    #[must_use]
    pub fn what(&self) -> String {
        let Self { timeline, at, left_by, left_at } = self;
        format!(
            "the server has written timeline {timeline} up to {at}, although timeline {left_by} had left it at {left_at}: no \
             recovery to timeline {left_by} has what it writes"
        )
    }

    /// Returns the advice for the user.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        "another server was promoted: stop the one that is not the primary, and make a standby of it; the history file of a drill \
         is to be moved out of the archive"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    #[test]
    fn a_server_is_left_behind_by_a_fork_of_its_timeline_before_its_position() {
        let texts =
            [(2, "1\t0/5000100\tx\n"), (3, "1\t0/5000100\tx\n2\t0/7000000\tx\n"), (4, "1\t0/4000000\tx\n")];
        let histories = texts.map(|(number, text)| {
            (timeline(number), TimelineHistory::parse(timeline(number), text.as_bytes()).unwrap())
        });
        let histories = BTreeMap::from(histories);
        let left = |number, at| {
            let found = Left::find(timeline(number), Lsn(at), &histories)?;
            Some((found.left_by.get(), found.left_at.0))
        };
        assert_eq!(left(1, 0x400_0000), None, "it was promoted there itself, or is to be");
        assert_eq!(left(1, 0x400_0001), Some((4, 0x400_0000)));
        assert_eq!(left(1, 0x900_0000), Some((4, 0x400_0000)), "the first of all");
        assert_eq!(left(2, 0x700_0000), None);
        assert_eq!(left(2, 0x700_0028), Some((3, 0x700_0000)));
        assert_eq!(left(3, u64::MAX), None, "nobody has left it");
        assert_eq!(left(9, u64::MAX), None, "of which nobody knows");
    }
}
