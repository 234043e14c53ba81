//! The way from a base backup through the timelines that descend from its own.

use std::ops::RangeInclusive;

use super::{Coverage, Timeline};
use crate::wal::{Lsn, TimelineHistory, TimelineId};

/// Where replay of a base backup begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// On which timeline.
    pub timeline: TimelineId,
    /// The number of the first segment.
    pub start: u64,
    /// What must be replayed before the data is consistent; as much as the start where it is not known.
    pub stop: Lsn,
    /// The timeline on which that is: its own, or one that a standby followed while the backup was taken.
    pub stop_timeline: TimelineId,
}

/// How far a base backup can be recovered on one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The timeline.
    pub timeline: TimelineId,
    /// The last segment that replay can have: the timeline it is of, and its number. None: not even the first.
    pub last: Option<(TimelineId, u64)>,
    /// Whether that is the last one of the timeline that there is.
    pub to_the_end: bool,
}

/// Segments that are missing between others, or before them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// Of which timeline.
    pub timeline: TimelineId,
    /// The first number that is missing.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl Coverage {
    /// Whether everything is there that makes a backup consistent.
    #[must_use]
    pub fn is_complete(&self, origin: Origin) -> bool {
        let end = self.segment_before(origin.stop).max(origin.start);
        self.timeline(origin.timeline).missing(origin.start..=end).is_empty()
    }

    /// How far a backup can be recovered, on its own timeline and on all that descend from it, in ascending order.
    #[must_use]
    pub fn reaches(&self, origin: Origin) -> Vec<Reach> {
        let reach = |timeline| {
            let mut last = None;
            for (of, stretch) in self.way(origin, timeline)? {
                let missing = self.timeline(of).missing(stretch.clone());
                let end = missing.first().map_or(Some(*stretch.end()), |gap| gap.start().checked_sub(1));
                last = end.filter(|end| stretch.contains(end)).map(|end| (of, end)).or(last);
                if !missing.is_empty() {
                    return Some(Reach { timeline, last, to_the_end: false });
                }
            }
            let to_the_end = last.is_some_and(|(of, _)| of == timeline);
            Some(Reach { timeline, last, to_the_end })
        };
        self.ends(origin).filter_map(reach).collect()
    }

    /// What is missing on the ways from a backup to the ends of all timelines that it can be recovered to.
    #[must_use]
    pub fn missing(&self, origin: Origin) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = self
            .stretches(origin)
            .into_iter()
            .flat_map(|(timeline, stretch)| {
                let missing = self.timeline(timeline).missing(stretch);
                missing.into_iter().map(move |gap| Gap { timeline, first: *gap.start(), last: *gap.end() })
            })
            .collect();
        gaps.sort_unstable();
        gaps.dedup();
        gaps
    }

    /// All that recovery of a backup may read, whichever timeline it goes to.
    #[must_use]
    pub fn stretches(&self, origin: Origin) -> Vec<(TimelineId, RangeInclusive<u64>)> {
        self.ends(origin).filter_map(|timeline| self.way(origin, timeline)).flatten().collect()
    }

    /// The timelines that recovery can end on: those with complete segments. Of one that was left within its first segment,
    /// there is only a partial one; what it holds is in the child's.
    fn ends(&self, origin: Origin) -> impl Iterator<Item = TimelineId> {
        let is_end = move |(id, held): &(&TimelineId, &Timeline)| {
            **id == origin.timeline || !held.stretches.is_empty()
        };
        self.timelines.iter().filter(is_end).map(|(id, _)| *id)
    }

    /// All gaps between the segments that are there, on every timeline.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let between = |(timeline, held): (&TimelineId, &Timeline)| {
            let missing = held.first().zip(held.last()).map(|(first, last)| held.missing(first..=last));
            let timeline = *timeline;
            let gaps = missing.unwrap_or_default();
            gaps.into_iter().map(move |gap| Gap { timeline, first: *gap.start(), last: *gap.end() })
        };
        self.timelines.iter().flat_map(between).collect()
    }

    /// Where the log begins on timelines that have no ancestor in the archive: what stands for base backups where none is
    /// known.
    #[must_use]
    pub fn roots(&self) -> Vec<Origin> {
        let begins = |(id, timeline): (&TimelineId, &Timeline)| {
            let start = timeline.first()?;
            let ancestors = self.histories.get(id).map_or(&[][..], |history| &history.ancestors);
            let is_root = !ancestors.iter().any(|ancestor| self.timelines.contains_key(&ancestor.timeline));
            is_root.then(|| Origin {
                timeline: *id,
                start,
                stop: Lsn(start.saturating_mul(self.size.bytes())),
                stop_timeline: *id,
            })
        };
        self.timelines.iter().filter_map(begins).collect()
    }

    /// The stretches that recovery of a backup to the end of a timeline reads, if that one is the backup's own or descends
    /// from it; the last one ends where the archive does.
    fn way(&self, origin: Origin, to: TimelineId) -> Option<Vec<(TimelineId, RangeInclusive<u64>)>> {
        let last = self.timeline(to).last();
        if to == origin.timeline {
            // Without any, its first segment is what is missing.
            return Some(vec![(to, origin.start..=last.unwrap_or(0).max(origin.start))]);
        }
        let TimelineHistory { ancestors } = self.histories.get(&to)?;
        let from = ancestors.iter().position(|ancestor| ancestor.timeline == origin.timeline)?;
        let mut way = Vec::new();
        let mut begin = origin.start;
        for ancestor in ancestors.iter().skip(from) {
            let left_in = self.segment_of(ancestor.left_at);
            if ancestor.timeline == origin.timeline
                && (ancestor.left_at < origin.stop || left_in < origin.start)
            {
                return None;
            }
            if let Some(end) = left_in.checked_sub(1).filter(|end| *end >= begin) {
                way.push((ancestor.timeline, begin..=end));
            }
            begin = begin.max(left_in);
        }
        way.push((to, begin..=last.unwrap_or(0).max(begin)));
        Some(way)
    }

    fn timeline(&self, timeline: TimelineId) -> &Timeline {
        static NOTHING: Timeline = Timeline { stretches: Vec::new(), partials: Vec::new() };
        self.timelines.get(&timeline).unwrap_or(&NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::wal::{Ancestor, SegmentName, SegmentSize, WalName};

    const MB: u64 = 16 << 20;

    fn id(timeline: u32) -> TimelineId {
        TimelineId::new(timeline).unwrap()
    }

    /// An archive of these segments, and of timelines that left their ancestors there.
    fn archive(segments: &[(u32, RangeInclusive<u64>)], left: &[(u32, &[(u32, u64)])]) -> Coverage {
        let name =
            |timeline, number| SegmentName::from_number(id(timeline), number, SegmentSize::DEFAULT).unwrap();
        let names = segments.iter().flat_map(|(timeline, numbers)| {
            numbers.clone().map(|number| WalName::Segment(name(*timeline, number))).collect::<Vec<_>>()
        });
        let history = |ancestors: &[(u32, u64)]| TimelineHistory {
            ancestors: ancestors
                .iter()
                .map(|(of, at)| Ancestor { timeline: id(*of), left_at: Lsn(*at) })
                .collect(),
        };
        let histories: BTreeMap<_, _> =
            left.iter().map(|(of, ancestors)| (id(*of), history(ancestors))).collect();
        Coverage::new(SegmentSize::DEFAULT, names, histories)
    }

    fn origin(timeline: u32, start: u64, stop: u64) -> Origin {
        Origin { timeline: id(timeline), start, stop: Lsn(stop), stop_timeline: id(timeline) }
    }

    /// A timeline, the last segment for it, and whether that is its end.
    type Reached = (u32, Option<(u32, u64)>, bool);

    fn reaches(coverage: &Coverage, origin: Origin) -> Vec<Reached> {
        let reaches = coverage.reaches(origin).into_iter();
        reaches.map(|r| (r.timeline.get(), r.last.map(|(of, n)| (of.get(), n)), r.to_the_end)).collect()
    }

    fn missing(coverage: &Coverage, origin: Origin) -> Vec<(u32, u64, u64)> {
        coverage.missing(origin).into_iter().map(|gap| (gap.timeline.get(), gap.first, gap.last)).collect()
    }

    #[test]
    fn a_backup_is_recovered_to_the_end_of_its_timeline() {
        let log = archive(&[(1, 2..=9)], &[]);
        let backup = origin(1, 3, 3 * MB + 5);
        assert!(log.is_complete(backup));
        assert_eq!(reaches(&log, backup), [(1, Some((1, 9)), true)]);
        assert_eq!(missing(&log, backup), []);
        assert!(!log.is_complete(origin(1, 9, 10 * MB + 1)));
        assert!(log.is_complete(origin(1, 9, 10 * MB)), "ends with its segment");
        assert_eq!(reaches(&log, origin(1, 1, 0)), [(1, None, false)], "its first segment is not there");
    }

    #[test]
    fn a_gap_ends_it_there() {
        let log = archive(&[(1, 2..=4), (1, 7..=9)], &[]);
        assert_eq!(reaches(&log, origin(1, 3, 0)), [(1, Some((1, 4)), false)]);
        assert_eq!(missing(&log, origin(1, 3, 0)), [(1, 5, 6)]);
        assert_eq!(missing(&log, origin(1, 7, 0)), [], "lies before it");
        assert_eq!(log.gaps(), [Gap { timeline: id(1), first: 5, last: 6 }]);
    }

    #[test]
    fn the_segment_of_a_promotion_is_the_childs() {
        // Timeline 2 left 1 inside segment 5, of which timeline 1 has nothing.
        let log = archive(&[(1, 2..=4), (2, 5..=8)], &[(2, &[(1, 5 * MB + 7)])]);
        assert_eq!(reaches(&log, origin(1, 3, 0)), [(1, Some((1, 4)), true), (2, Some((2, 8)), true)]);
        assert_eq!(missing(&log, origin(1, 3, 0)), []);
        let log = archive(&[(1, 2..=5), (2, 6..=8)], &[(2, &[(1, 5 * MB + 7)])]);
        assert_eq!(missing(&log, origin(1, 3, 0)), [(2, 5, 5)]);
        assert_eq!(reaches(&log, origin(1, 3, 0))[1], (2, Some((1, 4)), false));
        // At the boundary of two segments.
        let log = archive(&[(1, 2..=4), (2, 5..=8)], &[(2, &[(1, 5 * MB)])]);
        assert_eq!(missing(&log, origin(1, 3, 0)), []);
    }

    #[test]
    fn timelines_that_were_left_before_the_backup_are_none_of_its() {
        let history: (u32, &[(u32, u64)]) = (2, &[(1, 5 * MB + 7)]);
        let log = archive(&[(1, 2..=9), (2, 7..=8)], &[history]);
        assert_eq!(reaches(&log, origin(1, 6, 0)), [(1, Some((1, 9)), true)]);
        assert_eq!(reaches(&log, origin(1, 5, 5 * MB + 8)).len(), 1, "left before it was consistent");
        assert_eq!(reaches(&log, origin(1, 5, 5 * MB + 7)).len(), 2);
        assert_eq!(missing(&log, origin(1, 6, 0)), []);
        assert_eq!(missing(&log, origin(1, 5, 0)), [(2, 5, 6)]);
        assert_eq!(reaches(&log, origin(2, 7, 0)), [(2, Some((2, 8)), true)]);
    }

    #[test]
    fn a_way_leads_through_all_ancestors() {
        let histories: [(u32, &[(u32, u64)]); 2] =
            [(2, &[(1, 5 * MB + 1)]), (3, &[(1, 5 * MB + 1), (2, 5 * MB + 9)])];
        // Two promotions within one segment: timeline 2 has no segment of its own on the way.
        let log = archive(&[(1, 2..=4), (2, 5..=5), (3, 5..=7)], &histories);
        assert_eq!(reaches(&log, origin(1, 2, 0))[2], (3, Some((3, 7)), true));
        let log = archive(&[(1, 2..=4), (3, 5..=7)], &histories);
        assert_eq!(reaches(&log, origin(1, 2, 0))[1], (3, Some((3, 7)), true));
        // Timeline 3 has not archived anything.
        let log = archive(&[(1, 2..=4)], &histories);
        assert_eq!(reaches(&log, origin(1, 2, 0)), [(1, Some((1, 4)), true)]);
    }

    #[test]
    fn a_timeline_that_was_left_within_its_first_segment_lacks_nothing() {
        let partial = SegmentName::from_number(id(2), 5, SegmentSize::DEFAULT).unwrap();
        let whole = [(1, 3), (1, 4), (3, 5), (3, 6)];
        let whole = whole.map(|(timeline, number)| {
            WalName::Segment(SegmentName::from_number(id(timeline), number, SegmentSize::DEFAULT).unwrap())
        });
        let left = |of: u32, at| Ancestor { timeline: id(of), left_at: Lsn(at) };
        let histories = BTreeMap::from([
            (id(2), TimelineHistory { ancestors: vec![left(1, 5 * MB + 1)] }),
            (id(3), TimelineHistory { ancestors: vec![left(1, 5 * MB + 1), left(2, 5 * MB + 9)] }),
        ]);
        let names = whole.into_iter().chain([WalName::Partial(partial)]);
        let log = Coverage::new(SegmentSize::DEFAULT, names, histories);
        assert_eq!(missing(&log, origin(1, 3, 0)), []);
        assert_eq!(reaches(&log, origin(1, 3, 0)), [(1, Some((1, 4)), true), (3, Some((3, 6)), true)]);
    }

    #[test]
    fn a_page_is_its_writers() {
        let log = archive(&[], &[(3, &[(1, 5 * MB + 7), (2, 8 * MB)])]);
        let writer = |timeline, position| log.writer(id(timeline), Lsn(position)).get();
        assert_eq!(
            [writer(3, 5 * MB), writer(3, 6 * MB), writer(3, 8 * MB), writer(1, 99 * MB)],
            [1, 2, 3, 1]
        );
    }

    #[test]
    fn where_no_backup_is_known_the_beginnings_stand_for_them() {
        let log = archive(&[(1, 2..=4), (2, 5..=8), (4, 9..=9)], &[(2, &[(1, 5 * MB + 7)])]);
        assert_eq!(
            log.roots().iter().map(|root| (root.timeline.get(), root.start)).collect::<Vec<_>>(),
            [(1, 2), (4, 9)]
        );
    }
}
