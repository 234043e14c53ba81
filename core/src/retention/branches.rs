//! The branches of the log, and which of their ends a base backup must go on to lead to.
//!
//! A recovery to the past, a promotion, a drill: each begins a timeline, and the old one may end there or go on. Which of
//! them people live on, nobody but they can tell. So the newest timeline counts, and every other end that was written on
//! lately; an older one is given up.

use jiff::{SignedDuration, Timestamp};

use crate::wal::TimelineId;

/// The end of a branch of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The timeline that ends there.
    pub timeline: TimelineId,
    /// Since when its newest file is there; a history file will do.
    pub since: Timestamp,
    /// Whether it is known where the timeline began, and so which backups of older ones lead to it.
    pub way_is_known: bool,
}

/// What people say of branches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BranchPolicy {
    /// Timelines whose ends nobody wants to recover any more.
    pub given_up: Vec<TimelineId>,
    /// Timelines whose ends stay within reach, however old they are.
    pub held: Vec<TimelineId>,
}

/// A branch whose end no base backup that stays leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// The timeline.
    pub timeline: TimelineId,
    /// Since when its newest file is there.
    pub since: Timestamp,
}

/// An end at which nothing was archived for so long is given up, unless it is the newest timeline's.
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The ends of the log's branches, as they are now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Branches<'a> {
    pub(super) policy: &'a BranchPolicy,
    pub(super) tips: &'a [Tip],
    pub(super) now: Timestamp,
    /// What was archived within that time is young.
    pub(super) young: SignedDuration,
}

impl<'a> Branches<'a> {
    /// The ends that a backup must lead to.
    pub(super) fn wanted(self) -> impl Iterator<Item = &'a Tip> {
        let newest = self.newest();
        self.tips.iter().filter(move |tip| {
            let age = self.now.duration_since(tip.since);
            !self.is_given_up(tip)
                && (self.policy.held.contains(&tip.timeline)
                    || newest == Some(tip.timeline)
                    || age <= GIVEN_UP_AFTER)
        })
    }

    /// Those that were to be given up, and that somebody has written on all the same: a new timeline takes the number of one
    /// whose files have been moved away.
    pub(super) fn given_up_and_alive(self) -> impl Iterator<Item = &'a Tip> {
        let said = self.tips.iter().filter(move |tip| self.policy.given_up.contains(&tip.timeline));
        said.filter(move |tip| !self.is_given_up(tip))
    }

    /// The timeline that people live on, as far as anyone can tell.
    fn newest(self) -> Option<TimelineId> {
        self.tips.iter().filter(|tip| !self.is_given_up(tip)).map(|tip| tip.timeline).max()
    }

    fn is_given_up(self, tip: &Tip) -> bool {
        self.policy.given_up.contains(&tip.timeline) && self.now.duration_since(tip.since) >= self.young
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_end_and_those_that_were_written_on_lately_are_wanted() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let id = |number| TimelineId::new(number).unwrap();
        let tip = |number, days: i64| Tip {
            timeline: id(number),
            since: now - SignedDuration::from_hours(24 * days),
            way_is_known: true,
        };
        let tips = [tip(1, 15), tip(2, 14), tip(4, 99)];
        let wanted = |policy: &BranchPolicy| -> Vec<u32> {
            let branches = Branches { policy, tips: &tips, now, young: SignedDuration::from_hours(24) };
            branches.wanted().map(|tip| tip.timeline.get()).collect()
        };
        assert_eq!(wanted(&BranchPolicy::default()), [2, 4]);
        let said = BranchPolicy { given_up: vec![id(4)], held: vec![id(1)] };
        assert_eq!(wanted(&said), [1, 2], "what people say goes first");
        let said = BranchPolicy { given_up: vec![id(4), id(2)], held: vec![id(4)] };
        assert_eq!(wanted(&said), [1], "then the next one is the newest");
        // Unless it is alive.
        let tips = [tip(1, 15), tip(2, 0)];
        let said = BranchPolicy { given_up: vec![id(1), id(2)], held: Vec::new() };
        let branches = Branches { policy: &said, tips: &tips, now, young: SignedDuration::from_hours(24) };
        assert_eq!(branches.wanted().map(|tip| tip.timeline).collect::<Vec<_>>(), [id(2)]);
        assert_eq!(branches.given_up_and_alive().map(|tip| tip.timeline).collect::<Vec<_>>(), [id(2)]);
    }
}
