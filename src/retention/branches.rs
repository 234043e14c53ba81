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

impl BranchPolicy {
    /// The timeline that people live on, as far as anyone can tell.
    pub(super) fn newest(&self, tips: &[Tip]) -> Option<TimelineId> {
        tips.iter().map(|tip| tip.timeline).filter(|timeline| !self.given_up.contains(timeline)).max()
    }

    /// Whether a backup must lead to the end.
    pub(super) fn wants(&self, tip: &Tip, tips: &[Tip], now: Timestamp) -> bool {
        !self.given_up.contains(&tip.timeline)
            && (self.held.contains(&tip.timeline)
                || self.newest(tips) == Some(tip.timeline)
                || now.duration_since(tip.since) <= GIVEN_UP_AFTER)
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
            let wanted = tips.iter().filter(|tip| policy.wants(tip, &tips, now));
            wanted.map(|tip| tip.timeline.get()).collect()
        };
        assert_eq!(wanted(&BranchPolicy::default()), [2, 4]);
        let said = BranchPolicy { given_up: vec![id(4)], held: vec![id(1)] };
        assert_eq!(wanted(&said), [1, 2], "what people say goes first");
        let said = BranchPolicy { given_up: vec![id(4), id(2)], held: vec![id(4)] };
        assert_eq!(wanted(&said), [1], "then the next one is the newest");
    }
}
