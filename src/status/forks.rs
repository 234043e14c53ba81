//! Problems at forks: holes on the path to the newest timeline, and timelines that are written beside it. Pure: takes a
//! few listings, returns problems.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::coverage::BaseBackup;
use crate::wal::{Lsn, SegmentName, SegmentSize, TimelineHistory, TimelineId, WalName};

/// Missing segments just before a fork on the path to the newest timeline. A failover leaves such a hole if the old
/// primary had streamed these segments but not archived them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// First missing segment.
    pub first: SegmentName,
    /// Last missing segment.
    pub last: SegmentName,
    /// Number of missing segments from the first to the last.
    pub segments: u64,
    /// Timeline that branched off at the fork.
    pub left_by: TimelineId,
    /// Position of the fork.
    pub left_at: Lsn,
    /// `true` if a base backup starts after the hole, which then affects only older backups.
    pub passed: bool,
}

/// A timeline that was still written after a timeline on the path to the newest one had branched off from it, or after
/// the newest one had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parallel {
    /// Its newest segment.
    pub newest: SegmentName,
    /// Archiving time of that segment.
    pub archived_at: Timestamp,
    /// Timeline that branched off from it, or the newest timeline if it is not on the path to that.
    pub beside: TimelineId,
    /// Position of that fork, if it is on the path to the newest timeline.
    pub left_at: Option<Lsn>,
}

/// A server's timeline whose history file is not archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithoutHistory(pub TimelineId);

impl WithoutHistory {
    /// Describes the missing file and the consequence.
    #[must_use]
    pub fn what(&self) -> String {
        let Self(timeline) = self;
        let history = WalName::History(*timeline);
        format!(
            "{history} is not in the archive: no recovery of timeline {timeline}, which the server is on, works"
        )
    }

    /// Returns the advice for the user.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        "run \"walkeep backfill\" on the server, which archives it if it lies in pg_wal there"
    }
}

/// Time after which an inactive server is not expected to archive again.
const MAY_GO_ON: SignedDuration = SignedDuration::from_hours(24);

/// Default time for which a promoted server may still archive its backlog.
pub(super) const QUEUE_OF_PROMOTED: SignedDuration = SignedDuration::from_mins(5);

impl Hole {
    /// Describes the missing segments and the consequence.
    #[must_use]
    pub fn what(&self) -> String {
        let Self { first, last, segments, left_by, left_at, passed } = self;
        let which = match segments {
            1 => format!("{last} is"),
            _ => format!("{first} to {last} ({segments} segments) are"),
        };
        let meaning = if *passed { "no older base backup gets" } else { "no base backup gets" };
        format!(
            "{which} missing before the place at which timeline {left_by} left timeline {}, {left_at}: {meaning} to timeline \
             {left_by}",
            last.timeline()
        )
    }

    /// Returns the advice for the user.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        if self.passed {
            "\"walkeep backfill\" fills it, if a server still has what is missing; what is kept of before is of little use otherwise"
        } else {
            "run \"walkeep backfill\" soon, on each server that may still have what is missing; then take a base backup"
        }
    }
}

impl Parallel {
    /// Describes the evidence.
    #[must_use]
    pub fn what(&self) -> String {
        let Self { newest, archived_at, beside, left_at } = self;
        let timeline = newest.timeline();
        let since = match left_at {
            Some(left_at) => format!("timeline {beside} had left it at {left_at}"),
            None => format!("timeline {beside} had begun"),
        };
        format!("timeline {timeline} was written on after {since}: {newest} was archived at {archived_at}")
    }

    /// Returns the advice for the user.
    #[must_use]
    pub fn remedy(&self, now: Timestamp) -> &'static str {
        if self.may_go_on(now) {
            "two servers archive here: stop the one that is not the primary, and make a standby of it; the timeline of a drill is \
             to be moved out of the archive"
        } else {
            "see that the server that wrote it is down, or has been made a standby"
        }
    }

    /// Returns `true` if the timeline was written so recently that a server may still write it.
    #[must_use]
    pub fn may_go_on(&self, now: Timestamp) -> bool {
        now.duration_since(self.archived_at) < MAY_GO_ON
    }
}

/// An ancestor of the newest timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ancestor {
    pub(super) timeline: TimelineId,
    /// Number of the segment in which it starts.
    begins: u64,
    pub(super) left_at: Lsn,
    pub(super) left_by: TimelineId,
}

impl Ancestor {
    /// Returns the last segment that only this timeline has, if any. The segment of the fork does not count: the next
    /// timeline starts with a copy of it.
    pub(super) fn last(&self, size: SegmentSize) -> Option<SegmentName> {
        let last = (self.left_at.0 / size.bytes()).checked_sub(1).filter(|last| *last >= self.begins)?;
        SegmentName::from_number(self.timeline, last, size)
    }

    /// Returns the hole in its segments just before it was left.
    ///
    /// `neighbours` are the archived segments of this timeline with the same log number as the last one, ascending.
    /// `newest` is its newest archived segment. `oldest` is the oldest segment on any timeline: nothing before it is
    /// kept.
    pub(super) fn hole(
        &self,
        size: SegmentSize,
        neighbours: &[SegmentName],
        newest: Option<SegmentName>,
        oldest: SegmentName,
    ) -> Option<Hole> {
        let number = |segment: &SegmentName| segment.number(size);
        let last = number(&self.last(size)?)?;
        let group = last - last % size.segments_per_log();
        let after_newest = newest.as_ref().and_then(number).map_or(0, |newest| newest + 1);
        let begins = self.begins.max(number(&oldest)?).max(after_newest.min(group));
        // A history file may name any position, so the loop runs only over existing segments.
        let held = || neighbours.iter().filter_map(number).filter(|number| (begins..=last).contains(number));
        let first = held().fold(begins, |next, number| if number == next { next + 1 } else { next });
        if first > last {
            return None;
        }
        let backwards =
            neighbours.iter().rev().filter_map(number).filter(|number| (first..=last).contains(number));
        let end = backwards.fold(last, |next, number| if number == next { next - 1 } else { next });
        let missing = last - begins + 1 - held().count() as u64;
        let name = |number| SegmentName::from_number(self.timeline, number, size);
        Some(Hole {
            first: name(first)?,
            last: name(end)?,
            segments: missing,
            left_by: self.left_by,
            left_at: self.left_at,
            passed: false,
        })
    }

    /// Returns `true` if the whole segment comes after the fork, so that none of it is on the path.
    pub(super) fn is_beyond(&self, segment: SegmentName, size: SegmentSize) -> bool {
        segment.start(size).is_some_and(|start| start >= self.left_at)
    }
}

/// The newest timeline with its ancestors, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) newest: TimelineId,
    pub(super) ancestors: Vec<Ancestor>,
}

impl Line {
    /// Creates the line of the newest timeline that has a history file.
    pub(super) fn of(histories: &BTreeMap<TimelineId, TimelineHistory>, size: SegmentSize) -> Option<Self> {
        let (newest, history) = histories.last_key_value()?;
        let mut ancestors: Vec<Ancestor> = Vec::new();
        let (mut left_by, mut left_at) = (*newest, Lsn(u64::MAX));
        for ancestor in history.ancestors.iter().rev() {
            // A timeline left before it began has no WAL. A recovery to the past can write such a history.
            left_at = left_at.min(ancestor.left_at);
            ancestors.push(Ancestor { timeline: ancestor.timeline, begins: 0, left_at, left_by });
            left_by = ancestor.timeline;
        }
        ancestors.reverse();
        let mut begins = 0;
        for ancestor in &mut ancestors {
            ancestor.begins = begins;
            begins = ancestor.left_at.0 / size.bytes();
        }
        Some(Self { newest: *newest, ancestors })
    }

    /// Returns the index of a timeline, counted from the start of the line; `None` if it is not on the line.
    fn index(&self, timeline: TimelineId) -> Option<usize> {
        if timeline == self.newest {
            return Some(self.ancestors.len());
        }
        self.ancestors.iter().position(|ancestor| ancestor.timeline == timeline)
    }

    /// Returns the hole if the path of a base backup leads through it, or if no backup is known. `oldest` is the oldest
    /// segment on any timeline.
    pub(super) fn matters(&self, hole: Hole, backups: &[BaseBackup], oldest: SegmentName) -> Option<Hole> {
        let index = self.index(hole.last.timeline())?;
        let starts = backups
            .iter()
            .map(BaseBackup::start)
            .filter(|start| start.order() >= oldest.order())
            .filter_map(|start| Some((self.index(start.timeline())?, start.order())));
        let (after, before): (Vec<_>, Vec<_>) =
            starts.partition(|start| start.0 > index || start.0 == index && start.1 > hole.last.order());
        (!before.is_empty() || after.is_empty()).then_some(Hole { passed: !after.is_empty(), ..hole })
    }

    /// Returns the timeline that branched off before the segment was written, with the position of the fork, or the
    /// newest timeline if the segment's is not on the path. `None` if the segment is on the path.
    pub(super) fn beside(
        &self,
        segment: SegmentName,
        size: SegmentSize,
    ) -> Option<(TimelineId, Option<Lsn>)> {
        if segment.timeline() >= self.newest {
            return None;
        }
        match self.ancestors.iter().find(|ancestor| ancestor.timeline == segment.timeline()) {
            None => Some((self.newest, None)),
            Some(ancestor) if ancestor.is_beyond(segment, size) => {
                Some((ancestor.left_by, Some(ancestor.left_at)))
            }
            Some(_) => None,
        }
    }

    /// Returns the first segment of a timeline of the line.
    pub(super) fn first_of(&self, timeline: TimelineId, size: SegmentSize) -> Option<SegmentName> {
        let parent = self.ancestors.iter().find(|ancestor| ancestor.left_by == timeline)?;
        SegmentName::containing(timeline, parent.left_at, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn line(number: u32, text: &str) -> Line {
        let history = TimelineHistory::parse(timeline(number), text.as_bytes()).unwrap();
        Line::of(&BTreeMap::from([(timeline(number), history)]), SIZE).unwrap()
    }

    fn name(of: u32, number: u64) -> SegmentName {
        SegmentName::from_number(timeline(of), number, SIZE).unwrap()
    }

    /// Returns the last segment that only each of the ancestors has.
    fn lasts(line: &Line) -> Vec<Option<SegmentName>> {
        line.ancestors.iter().map(|ancestor| ancestor.last(SIZE)).collect()
    }

    #[test]
    fn the_last_segment_of_an_ancestor_precedes_its_fork() {
        assert_eq!(lasts(&line(2, "1\t0/5000100\tx\n")), [Some(name(1, 4))]);
        assert_eq!(lasts(&line(2, "1\t0/5000000\tx\n")), [Some(name(1, 4))], "at the beginning of a segment");
        assert_eq!(lasts(&line(2, "1\t0/4FFFFFF\tx\n")), [Some(name(1, 3))]);
        assert_eq!(lasts(&line(2, "1\t0/100\tx\n")), [None]);
        let three = line(3, "1\t0/5000100\tx\n2\t0/5000200\tx\n");
        assert_eq!(lasts(&three), [Some(name(1, 4)), None], "within the segment in which it began");
        let three = line(3, "1\t0/5000100\tx\n2\t0/6000000\tx\n");
        assert_eq!(lasts(&three), [Some(name(1, 4)), Some(name(2, 5))]);
    }

    /// Written by the server when a recovery that follows timeline 2 ends before that has begun.
    #[test]
    fn a_timeline_left_before_it_began_has_no_segment() {
        let line = line(3, "1\t0/C000000\tx\n2\t0/80FB60\tx\n");
        assert_eq!(lasts(&line), [None, None]);
        assert_eq!(line.first_of(timeline(3), SIZE), Some(name(3, 0)));
        assert_eq!(line.beside(name(1, 1), SIZE), Some((timeline(2), Some(Lsn(0x80_FB60)))));
    }

    #[test]
    fn only_segments_after_a_fork_are_beside_the_line() {
        let inside = line(3, "1\t0/5000100\tx\n");
        let beside = |line: &Line, of, number| line.beside(name(of, number), SIZE).map(|(beside, _)| beside);
        assert_eq!(beside(&inside, 1, 5), None, "may be archived in full");
        assert_eq!(beside(&inside, 1, 6), Some(timeline(3)));
        assert_eq!(beside(&line(3, "1\t0/5000000\tx\n"), 1, 5), Some(timeline(3)));
        assert_eq!(beside(&inside, 2, 1), Some(timeline(3)), "on no way to it");
        assert_eq!([beside(&inside, 3, 9), beside(&inside, 4, 9)], [None, None]);
    }

    /// Returns the missing segments of timeline 1, left in segment 300: first, last, number.
    fn missing(held: &[u64], newest: Option<u64>, oldest: u64) -> Option<(SegmentName, SegmentName, u64)> {
        let line = line(2, "1\t1/2C000100\tx\n");
        let ancestor = line.ancestors[0];
        let held: Vec<SegmentName> = held.iter().map(|number| name(1, *number)).collect();
        let newest = newest.map(|newest| name(1, newest));
        let hole = ancestor.hole(SIZE, &held, newest, name(2, oldest))?;
        Some((hole.first, hole.last, hole.segments))
    }

    #[test]
    fn a_distant_fork_takes_no_longer_than_any_other() {
        let line = line(2, "1\tFFFFFFFF/0\tx\n");
        let held = [name(1, 3)];
        let hole = line.ancestors[0].hole(SIZE, &held, Some(held[0]), name(1, 1)).unwrap();
        assert_eq!((hole.first, hole.segments), (name(1, 4), (0xFFFF_FFFF << 8) - 4));
    }

    #[test]
    fn a_hole_is_found_in_a_few_listings() {
        let group: Vec<u64> = (256..300).collect();
        assert_eq!(missing(&group, Some(299), 1), None);
        assert_eq!(missing(&group, Some(400), 1), None, "and what was given up after it");
        assert_eq!(missing(&group[..43], Some(298), 1), Some((name(1, 299), name(1, 299), 1)));
        let others: Vec<u64> = (256..300).filter(|number| ![258, 299].contains(number)).collect();
        assert_eq!(missing(&others, Some(298), 1), Some((name(1, 258), name(1, 299), 2)));
        assert_eq!(missing(&others, Some(298), 259), Some((name(1, 299), name(1, 299), 1)));
        assert_eq!(
            missing(&[], Some(250), 1),
            Some((name(1, 251), name(1, 299), 49)),
            "since the group before"
        );
        assert_eq!(missing(&[], None, 290), Some((name(1, 290), name(1, 299), 10)));
        assert_eq!(missing(&[], None, 300), None, "all of it is history");
    }
}
