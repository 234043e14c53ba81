//! Branches of the WAL, and the ends to which a base backup must continue to lead.
//!
//! A recovery to the past, a promotion or a drill begins a timeline, and the old one may end there or continue. Only
//! people know which of them is in use. So the newest timeline counts, and every other end that was written recently;
//! an older one is given up.

use jiff::{SignedDuration, Timestamp};

use crate::wal::TimelineId;

/// The end of a branch of the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BranchEnd {
    /// Timeline that ends there.
    pub timeline: TimelineId,
    /// Archiving time of its newest file, which may be a history file.
    pub since: Timestamp,
    /// `true` if the start of the timeline is known, and so which backups of older timelines lead to it.
    pub way_is_known: bool,
}

/// Settings for branches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BranchPolicy {
    /// Timelines whose ends nobody needs to recover any more.
    pub given_up: Vec<TimelineId>,
    /// Timelines whose ends stay recoverable, however old they are.
    pub held: Vec<TimelineId>,
}

/// A branch to whose end no remaining base backup leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// The timeline.
    pub timeline: TimelineId,
    /// Archiving time of its newest file.
    pub since: Timestamp,
}

/// Age of its newest file at which an end is given up, unless it is that of the newest timeline.
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The ends of all branches at this moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Branches<'a> {
    pub(super) policy: &'a BranchPolicy,
    pub(super) ends: &'a [BranchEnd],
    pub(super) now: Timestamp,
    /// Age up to which a file is young.
    pub(super) young: SignedDuration,
}

impl<'a> Branches<'a> {
    /// Iterates over the ends to which a backup must lead.
    pub(super) fn wanted(self) -> impl Iterator<Item = &'a BranchEnd> {
        let newest = self.newest();
        self.ends.iter().filter(move |end| {
            let age = self.now.duration_since(end.since);
            !self.is_given_up(end)
                && (self.policy.held.contains(&end.timeline)
                    || newest == Some(end.timeline)
                    || age <= GIVEN_UP_AFTER)
        })
    }

    /// Iterates over the ends that should be given up but were written recently: a new timeline takes the number of
    /// one whose files were moved away.
    pub(super) fn given_up_and_alive(self) -> impl Iterator<Item = &'a BranchEnd> {
        let said = self.ends.iter().filter(move |end| self.policy.given_up.contains(&end.timeline));
        said.filter(move |end| !self.is_given_up(end))
    }

    /// Returns the newest timeline, which is presumably in use.
    fn newest(self) -> Option<TimelineId> {
        self.ends.iter().filter(|end| !self.is_given_up(end)).map(|end| end.timeline).max()
    }

    fn is_given_up(self, end: &BranchEnd) -> bool {
        self.policy.given_up.contains(&end.timeline) && self.now.duration_since(end.since) >= self.young
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_end_and_recently_written_ones_are_wanted() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let id = |number| TimelineId::new(number).unwrap();
        let end = |number, days: i64| BranchEnd {
            timeline: id(number),
            since: now - SignedDuration::from_hours(24 * days),
            way_is_known: true,
        };
        let ends = [end(1, 15), end(2, 14), end(4, 99)];
        let wanted = |policy: &BranchPolicy| -> Vec<u32> {
            let branches = Branches { policy, ends: &ends, now, young: SignedDuration::from_hours(24) };
            branches.wanted().map(|end| end.timeline.get()).collect()
        };
        assert_eq!(wanted(&BranchPolicy::default()), [2, 4]);
        let said = BranchPolicy { given_up: vec![id(4)], held: vec![id(1)] };
        assert_eq!(wanted(&said), [1, 2], "what people say goes first");
        let said = BranchPolicy { given_up: vec![id(4), id(2)], held: vec![id(4)] };
        assert_eq!(wanted(&said), [1], "then the next one is the newest");
        // Unless it was written recently.
        let ends = [end(1, 15), end(2, 0)];
        let said = BranchPolicy { given_up: vec![id(1), id(2)], held: Vec::new() };
        let branches = Branches { policy: &said, ends: &ends, now, young: SignedDuration::from_hours(24) };
        assert_eq!(branches.wanted().map(|end| end.timeline).collect::<Vec<_>>(), [id(2)]);
        assert_eq!(branches.given_up_and_alive().map(|end| end.timeline).collect::<Vec<_>>(), [id(2)]);
    }
}
