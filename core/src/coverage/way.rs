//! Paths from a base backup through the timelines that descend from its own.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Coverage, Origin, Timeline};
use crate::wal::{Ancestor, Lsn, TimelineId};

/// Consecutive segments of a timeline, by number.
pub type Stretch = (TimelineId, RangeInclusive<u64>);

/// Range of a base backup's recovery on one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Target timeline of the recovery.
    pub timeline: TimelineId,
    /// Last segment that replay can read, as timeline and number. `None` if even the first one is missing.
    pub last: Option<(TimelineId, u64)>,
    /// `true` if that is the last segment of the timeline.
    pub to_the_end: bool,
}

/// A range of missing segments between others or before them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// Timeline of the segments.
    pub timeline: TimelineId,
    /// First missing number.
    pub first: u64,
    /// Last missing number.
    pub last: u64,
}

impl Coverage {
    /// Returns `true` if all segments that make the backup consistent are present on the path to at least one
    /// timeline.
    #[must_use]
    pub fn is_complete(&self, origin: Origin) -> bool {
        let stop = self.last_needed(origin);
        self.ways(origin).iter().any(|(_, way)| {
            let held = |(of, stretch): &Stretch| {
                self.timeline(*of).missing(*stretch.start()..=stop.min(*stretch.end())).is_empty()
            };
            end_of(way) >= Some(stop)
                && way.iter().take_while(|(_, stretch)| *stretch.start() <= stop).all(held)
        })
    }

    /// Returns the number of the segment in which a backup becomes consistent.
    fn last_needed(&self, origin: Origin) -> u64 {
        self.segment_before(origin.stop).max(origin.start)
    }

    /// Returns how far a backup can be recovered on its own timeline and on each descendant, in ascending order.
    #[must_use]
    pub fn reaches(&self, origin: Origin) -> Vec<Reach> {
        let reach = |(timeline, way): (TimelineId, Vec<Stretch>)| {
            let mut last = None;
            for (of, stretch) in way {
                let missing = self.timeline(of).missing(stretch.clone());
                let end = missing.first().map_or(Some(*stretch.end()), |gap| gap.start().checked_sub(1));
                last = end.filter(|end| stretch.contains(end)).map(|end| (of, end)).or(last);
                if !missing.is_empty() {
                    return Reach { timeline, last, to_the_end: false };
                }
            }
            Reach { timeline, last, to_the_end: last.is_some() }
        };
        self.ways(origin).into_iter().map(reach).collect()
    }

    /// Returns the gaps on the paths from a backup to the ends of all timelines that it can be recovered to.
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

    /// Returns all segments that a recovery of the backup may read, to any timeline.
    #[must_use]
    pub fn stretches(&self, origin: Origin) -> Vec<Stretch> {
        self.ways(origin).into_iter().flat_map(|(_, way)| way).collect()
    }

    /// Returns the paths from a backup to all timelines on which recovery can end, in ascending order. Paths that end
    /// before the backup is consistent are left out, unless all do: a failover may have moved the rest to the next
    /// timeline.
    fn ways(&self, origin: Origin) -> Vec<(TimelineId, Vec<Stretch>)> {
        let mut ends: BTreeSet<TimelineId> = self.ends().collect();
        ends.extend([origin.timeline, origin.stop_timeline]);
        let mut ways: Vec<_> =
            ends.into_iter().filter_map(|end| Some((end, self.way(origin, end)?))).collect();
        let leads_to_stop = ways.iter().any(|(end, _)| *end == origin.stop_timeline);
        ways.retain(|(_, way)| !way.is_empty());
        let stop = self.last_needed(origin);
        if ways.iter().any(|(_, way)| end_of(way) >= Some(stop)) {
            ways.retain(|(_, way)| end_of(way) >= Some(stop));
        } else if ways.is_empty() && leads_to_stop {
            // Not even the first segment is present.
            let first = if origin.stop_timeline == origin.timeline { origin.start } else { stop };
            ways.push((origin.stop_timeline, vec![(origin.stop_timeline, first..=first)]));
        }
        ways
    }

    /// Iterates over the timelines on which recovery can end: those with complete segments, and those from which none
    /// branched off. A timeline that was left within its first segment has only a `.partial`, whose WAL is also in the
    /// child's segment.
    fn ends(&self) -> impl Iterator<Item = TimelineId> {
        self.known().filter(|id| !self.timeline(*id).stretches.is_empty() || self.left_last(*id).is_none())
    }

    /// Returns all gaps between present segments, on every timeline.
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

    /// Returns the start of the WAL on each timeline that no older WAL leads to. If no base backup is known, these take
    /// the place of base backups.
    #[must_use]
    pub fn roots(&self) -> Vec<Origin> {
        let mut roots: Vec<Origin> = Vec::new();
        for (id, timeline) in &self.timelines {
            let Some(start) = timeline.first() else { continue };
            if !roots.iter().any(|root| self.way(*root, *id).is_some()) {
                let stop = Lsn(start.saturating_mul(self.size.bytes()));
                roots.push(Origin { timeline: *id, start, stop, stop_timeline: *id });
            }
        }
        roots
    }

    /// Returns the segments that a recovery of a backup to the end of timeline `to` reads. `None` unless `to` is the
    /// backup's timeline or a descendant. The last range ends with the last archived segment, or with the last one before a
    /// fork or in a base backup if that is later.
    fn way(&self, origin: Origin, to: TimelineId) -> Option<Vec<Stretch>> {
        let ancestors = match self.histories.get(&to) {
            _ if to == origin.timeline => &[][..],
            history => history?.ancestors.as_slice(),
        };
        let from = ancestors.iter().position(|ancestor| ancestor.timeline == origin.timeline);
        let from = from.or((to == origin.timeline).then_some(0))?;
        let mut passes_end_of_backup = to == origin.stop_timeline;
        let mut way = Vec::new();
        let mut begin = origin.start;
        for ancestor in ancestors.iter().skip(from) {
            let left_in = self.segment_of(ancestor.left_at);
            let too_early = ancestor.timeline == origin.timeline && left_in < origin.start;
            let backup_ends_here = ancestor.timeline == origin.stop_timeline;
            if too_early || backup_ends_here && ancestor.left_at < origin.stop {
                return None;
            }
            passes_end_of_backup |= backup_ends_here;
            if let Some(end) = left_in.checked_sub(1).filter(|end| *end >= begin) {
                way.push((ancestor.timeline, begin..=end));
            }
            begin = begin.max(left_in);
        }
        if !passes_end_of_backup {
            return None;
        }
        let left_in = self.left_last(to).and_then(|left_at| self.segment_of(left_at).checked_sub(1));
        let proven = self.proven.get(&to).copied();
        match self.timeline(to).last().max(left_in).max(proven).filter(|end| *end >= begin) {
            Some(end) => way.push((to, begin..=end)),
            None => way.extend(self.parents_copy(origin, ancestors)),
        }
        Some(way)
    }

    /// Returns the segment of the fork between a timeline without segments and its parent, if the parent's copy is
    /// complete. The server reads that copy in place of the child's, and it contains all WAL that both share.
    ///
    /// If the parent left its own parent in the same segment, the grandparent's copy is enough as well, unless the
    /// backup ends on the parent.
    fn parents_copy(&self, origin: Origin, ancestors: &[Ancestor]) -> Option<Stretch> {
        let number = self.segment_of(ancestors.last()?.left_at);
        let is_common = |ancestor: &&Ancestor| {
            self.segment_of(ancestor.left_at) == number && self.segment_before(ancestor.left_at) == number
        };
        let newest_first = ancestors.iter().rev().take_while(is_common).map(|ancestor| ancestor.timeline);
        let of = newest_first
            .take_while(|timeline| *timeline >= origin.stop_timeline)
            .find(|timeline| self.timeline(*timeline).missing(number..=number).is_empty());
        of.map(|of| (of, number..=number))
    }

    /// Returns the position at which the last descendant left a timeline, according to the history files.
    fn left_last(&self, timeline: TimelineId) -> Option<Lsn> {
        self.left_last.get(&timeline).copied()
    }

    /// Iterates over the timelines with WAL or a history file, in ascending order.
    pub fn known(&self) -> impl Iterator<Item = TimelineId> + use<> {
        let known: BTreeSet<TimelineId> =
            self.timelines.keys().chain(self.histories.keys()).copied().collect();
        known.into_iter()
    }

    /// Returns the ends of all branches, in ascending order: timelines that no other left, and those that continued
    /// after the last fork.
    #[must_use]
    pub fn branch_ends(&self) -> Vec<TimelineId> {
        let continues = |id: &TimelineId| {
            let Some(left_at) = self.left_last(*id) else { return true };
            self.timeline(*id).last().is_some_and(|last| last > self.segment_before(left_at))
        };
        self.known().filter(continues).collect()
    }

    fn timeline(&self, timeline: TimelineId) -> &Timeline {
        static NOTHING: Timeline = Timeline { stretches: Vec::new(), partials: Vec::new() };
        self.timelines.get(&timeline).unwrap_or(&NOTHING)
    }
}

/// Returns the number of the last segment on a path.
fn end_of(way: &[Stretch]) -> Option<u64> {
    way.last().map(|(_, stretch)| *stretch.end())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::wal::{SegmentName, SegmentSize, TimelineHistory, WalName};

    const MB: u64 = 16 << 20;

    fn id(timeline: u32) -> TimelineId {
        TimelineId::new(timeline).unwrap()
    }

    /// Builds an archive from segments and from timelines with the positions at which they left their ancestors.
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

    /// Timeline, last segment of its recovery, and whether that is its end.
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
        let wal = archive(&[(1, 2..=9)], &[]);
        let backup = origin(1, 3, 3 * MB + 5);
        assert!(wal.is_complete(backup));
        assert_eq!(reaches(&wal, backup), [(1, Some((1, 9)), true)]);
        assert_eq!(missing(&wal, backup), []);
        let unfinished = origin(1, 9, 10 * MB + 1);
        assert!(!wal.is_complete(unfinished));
        assert_eq!(reaches(&wal, unfinished), [(1, Some((1, 9)), true)], "short of being consistent");
        assert!(wal.is_complete(origin(1, 9, 10 * MB)), "ends with its segment");
        assert_eq!(reaches(&wal, origin(1, 1, 0)), [(1, None, false)], "its first segment is not there");
    }

    #[test]
    fn a_recovery_ends_at_a_gap() {
        let wal = archive(&[(1, 2..=4), (1, 7..=9)], &[]);
        assert_eq!(reaches(&wal, origin(1, 3, 0)), [(1, Some((1, 4)), false)]);
        assert_eq!(missing(&wal, origin(1, 3, 0)), [(1, 5, 6)]);
        assert_eq!(missing(&wal, origin(1, 7, 0)), [], "lies before it");
        assert_eq!(wal.gaps(), [Gap { timeline: id(1), first: 5, last: 6 }]);
    }

    #[test]
    fn the_segment_of_a_promotion_is_read_from_the_child() {
        // Timeline 2 left 1 inside segment 5, of which timeline 1 has nothing.
        let wal = archive(&[(1, 2..=4), (2, 5..=8)], &[(2, &[(1, 5 * MB + 7)])]);
        assert_eq!(reaches(&wal, origin(1, 3, 0)), [(1, Some((1, 4)), true), (2, Some((2, 8)), true)]);
        assert_eq!(missing(&wal, origin(1, 3, 0)), []);
        let wal = archive(&[(1, 2..=5), (2, 6..=8)], &[(2, &[(1, 5 * MB + 7)])]);
        assert_eq!(missing(&wal, origin(1, 3, 0)), [(2, 5, 5)]);
        assert_eq!(reaches(&wal, origin(1, 3, 0))[1], (2, Some((1, 4)), false));
        // A fork between two segments.
        let wal = archive(&[(1, 2..=4), (2, 5..=8)], &[(2, &[(1, 5 * MB)])]);
        assert_eq!(missing(&wal, origin(1, 3, 0)), []);
        // What timeline 1 then wrote is not timeline 2's.
        let wal = archive(&[(1, 2..=6)], &[(2, &[(1, 5 * MB)])]);
        assert_eq!(reaches(&wal, origin(1, 3, 0)), [(1, Some((1, 6)), true), (2, Some((1, 4)), true)]);
    }

    #[test]
    fn timelines_left_before_the_backup_are_out_of_its_reach() {
        let history: (u32, &[(u32, u64)]) = (2, &[(1, 5 * MB + 7)]);
        let wal = archive(&[(1, 2..=9), (2, 7..=8)], &[history]);
        assert_eq!(reaches(&wal, origin(1, 6, 0)), [(1, Some((1, 9)), true)]);
        assert_eq!(reaches(&wal, origin(1, 5, 5 * MB + 8)).len(), 1, "left before it was consistent");
        assert_eq!(reaches(&wal, origin(1, 5, 5 * MB + 7)).len(), 2);
        assert_eq!(missing(&wal, origin(1, 6, 0)), []);
        assert_eq!(missing(&wal, origin(1, 5, 0)), [(2, 5, 6)]);
        assert_eq!(reaches(&wal, origin(2, 7, 0)), [(2, Some((2, 8)), true)]);
    }

    #[test]
    fn a_path_goes_through_all_ancestors() {
        let histories: [(u32, &[(u32, u64)]); 2] =
            [(2, &[(1, 5 * MB + 1)]), (3, &[(1, 5 * MB + 1), (2, 5 * MB + 9)])];
        // Two promotions within one segment: timeline 2 has no segment of its own on the path.
        let wal = archive(&[(1, 2..=4), (2, 5..=5), (3, 5..=7)], &histories);
        assert_eq!(reaches(&wal, origin(1, 2, 0))[2], (3, Some((3, 7)), true));
        let wal = archive(&[(1, 2..=4), (3, 5..=7)], &histories);
        assert_eq!(reaches(&wal, origin(1, 2, 0))[1], (3, Some((3, 7)), true));
        // Timeline 3 has archived nothing, and timeline 2 only what matters.
        let wal = archive(&[(1, 2..=4)], &histories);
        assert_eq!(reaches(&wal, origin(1, 2, 0)), [(1, Some((1, 4)), true), (3, Some((1, 4)), true)]);
    }

    #[test]
    fn a_timeline_left_within_its_first_segment_lacks_nothing() {
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
        let wal = Coverage::new(SegmentSize::DEFAULT, names, histories);
        assert_eq!(missing(&wal, origin(1, 3, 0)), []);
        assert_eq!(reaches(&wal, origin(1, 3, 0)), [(1, Some((1, 4)), true), (3, Some((3, 6)), true)]);
    }

    #[test]
    fn a_history_file_proves_that_the_parent_continued() {
        let wal = archive(&[(1, 2..=4)], &[(2, &[(1, 7 * MB + 7)])]);
        assert_eq!(missing(&wal, origin(1, 3, 0)), [(1, 5, 6)]);
        assert_eq!(reaches(&wal, origin(1, 3, 0)), [(1, Some((1, 4)), false), (2, Some((1, 4)), false)]);
        let wal = archive(&[(1, 2..=4)], &[(2, &[(1, 5 * MB)])]);
        assert_eq!(missing(&wal, origin(1, 3, 0)), [], "it went on at the boundary of a segment");
        // WAL before the backup is irrelevant, and so is a branch that left before it.
        let wal = archive(&[(1, 5..=8)], &[(2, &[(1, 3 * MB + 7)])]);
        assert_eq!(reaches(&wal, origin(1, 5, 0)), [(1, Some((1, 8)), true)]);
    }

    #[test]
    fn a_backup_is_complete_if_the_next_timeline_has_the_rest() {
        // A standby promoted in the segment in which the backup ended.
        let left: [(u32, &[(u32, u64)]); 1] = [(2, &[(1, 3 * MB + 9)])];
        let wal = archive(&[(1, 1..=2), (2, 3..=4)], &left);
        let backup = origin(1, 2, 3 * MB + 5);
        assert!(wal.is_complete(backup));
        assert_eq!(reaches(&wal, backup), [(2, Some((2, 4)), true)], "timeline 1 ends before that");
        assert_eq!(missing(&wal, backup), []);
        assert!(!wal.is_complete(origin(1, 2, 3 * MB + 10)), "left before it had ended");
        // The whole backup in the segment of the fork.
        assert!(wal.is_complete(origin(1, 3, 3 * MB + 5)));
        assert_eq!(missing(&wal, origin(1, 3, 3 * MB + 5)), []);
        let wal = archive(&[(1, 1..=2)], &left);
        assert!(!wal.is_complete(backup), "timeline 2 has not archived it yet");
        assert_eq!(missing(&wal, backup), []);
        // With archive_mode = always, timeline 1 has that segment, too.
        let wal = archive(&[(1, 1..=3)], &left);
        assert!(wal.is_complete(backup));
        assert_eq!(reaches(&wal, backup), [(1, Some((1, 3)), true), (2, Some((1, 3)), true)]);
        // Two promotions in that segment, neither timeline with a segment so far.
        let twice: [(u32, &[(u32, u64)]); 2] = [left[0], (3, &[(1, 3 * MB + 9), (2, 3 * MB + 20)])];
        let wal = archive(&[(1, 1..=3)], &twice);
        assert_eq!(reaches(&wal, backup)[1], (3, Some((1, 3)), true));
        // On the path to 2, a recovery ended where 2 begins: the server reads that segment from 2.
        let at_once: [(u32, &[(u32, u64)]); 2] = [left[0], (3, &[(1, 3 * MB + 9), (2, 3 * MB + 9)])];
        assert_eq!(reaches(&archive(&[(1, 1..=2), (2, 3..=3)], &at_once), backup)[1].1, Some((2, 3)));
        // Or it ended earlier and skipped 2, which is still an end.
        let passed_by: [(u32, &[(u32, u64)]); 2] =
            [(2, &[(1, 9 * MB)]), (3, &[(1, 3 * MB + 9), (2, 3 * MB + 9)])];
        let wal_of_1 = archive(&[(1, 1..=8)], &passed_by);
        assert_eq!(wal_of_1.branch_ends(), [id(2), id(3)]);
        assert_eq!(reaches(&wal_of_1, backup)[2], (3, Some((1, 3)), true));
        let ends_on_2 = Origin { stop_timeline: id(2), ..backup };
        assert!(!wal.is_complete(ends_on_2), "what timeline 2 wrote is not in it");
    }

    #[test]
    fn a_backup_that_ends_on_another_timeline_needs_that_timeline() {
        let left: [(u32, &[(u32, u64)]); 2] =
            [(2, &[(1, 4 * MB + 9)]), (3, &[(1, 4 * MB + 9), (2, 5 * MB + 9)])];
        let backup = |stop| Origin { stop_timeline: id(2), ..origin(1, 2, stop) };
        let wal = archive(&[(1, 1..=9), (2, 4..=7), (3, 5..=8)], &left);
        assert_eq!(
            reaches(&wal, backup(6 * MB)),
            [(2, Some((2, 7)), true)],
            "not to 1, and 3 left before its end"
        );
        assert_eq!(reaches(&wal, backup(5 * MB + 9)), [(2, Some((2, 7)), true), (3, Some((3, 8)), true)]);
        let wal = archive(&[(1, 1..=9), (2, 5..=7)], &left);
        assert!(!wal.is_complete(backup(6 * MB)));
        assert_eq!(missing(&wal, backup(6 * MB)), [(2, 4, 4)]);
        // Neither timeline 2 nor its child has a segment, and timeline 1 continued with WAL that the backup does not
        // need.
        let wal = archive(&[(1, 4..=9)], &left);
        let short = Origin { stop_timeline: id(2), ..origin(1, 4, 4 * MB + 20) };
        assert!(!wal.is_complete(short));
        assert_eq!(missing(&wal, short), [(2, 4, 4)]);
        let unknown = archive(&[(1, 4..=9)], &[]);
        assert!(!unknown.is_complete(short) && unknown.reaches(short).is_empty());
    }

    #[test]
    fn a_backup_without_any_wal_lacks_its_first_segment() {
        let nothing = archive(&[], &[]);
        assert_eq!(missing(&nothing, origin(1, 3, 5 * MB + 5)), [(1, 3, 3)]);
        let unknown = Origin { stop_timeline: id(2), ..origin(1, 3, 4 * MB + 5) };
        assert_eq!(missing(&nothing, unknown), [], "no way leads there that could lack something");
    }

    #[test]
    fn the_ends_of_branches_are_leaves_and_timelines_that_continue_after_a_fork() {
        let branch_ends = |segments: &[(u32, RangeInclusive<u64>)], left| -> Vec<u32> {
            archive(segments, left).branch_ends().into_iter().map(TimelineId::get).collect()
        };
        assert_eq!(branch_ends(&[(1, 1..=4)], &[(2, &[(1, 5 * MB + 7)])]), [2], "without a segment");
        assert_eq!(branch_ends(&[(1, 1..=5)], &[(2, &[(1, 5 * MB + 7)])]), [2], "5 was archived by both");
        assert_eq!(branch_ends(&[(1, 1..=6)], &[(2, &[(1, 5 * MB + 7)])]), [1, 2]);
        assert_eq!(branch_ends(&[(1, 1..=5)], &[(2, &[(1, 5 * MB)])]), [1, 2], "behind the boundary");
        assert_eq!(branch_ends(&[(1, 1..=4), (2, 4..=5), (3, 4..=4)], &[(3, &[(1, 3 * MB + 1)])]), [1, 2, 3]);
    }

    #[test]
    fn a_position_belongs_to_the_timeline_that_wrote_it() {
        let wal = archive(&[], &[(3, &[(1, 5 * MB + 7), (2, 8 * MB)])]);
        let writer = |timeline, position| wal.writer(id(timeline), Lsn(position)).get();
        assert_eq!(
            [writer(3, 5 * MB), writer(3, 6 * MB), writer(3, 8 * MB), writer(1, 99 * MB)],
            [1, 2, 3, 1]
        );
    }

    #[test]
    fn without_known_backups_the_starts_of_the_wal_stand_in() {
        let wal = archive(&[(1, 2..=4), (2, 5..=8), (4, 9..=9)], &[(2, &[(1, 5 * MB + 7)])]);
        assert_eq!(
            wal.roots().iter().map(|root| (root.timeline.get(), root.start)).collect::<Vec<_>>(),
            [(1, 2), (4, 9)]
        );
        // Timeline 2 left its parent before the parent's remaining WAL.
        let wal = archive(&[(1, 10..=12), (2, 10..=12), (2, 14..=15)], &[(2, &[(1, 5 * MB + 7)])]);
        let roots = wal.roots();
        assert_eq!(roots.iter().map(|root| root.timeline.get()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(wal.missing(roots[1]), [Gap { timeline: id(2), first: 13, last: 13 }]);
    }
}
