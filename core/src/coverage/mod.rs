//! The ranges of WAL that an archive has on each timeline, and how far they recover a base backup. Pure: takes names
//! and histories, returns ranges.
//!
//! If a timeline left its parent inside a segment, the server copies the start of that segment into a new one under
//! the child's name. A recovery therefore reads each ancestor's segments up to the one in which it was left, and that
//! one from the child (`XLogFileReadAnyTLI` in `access/transam/xlogrecovery.c`).

mod absence;
mod backup;
mod chain;
mod origin;
mod trace;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::wal::{Ancestor, Lsn, SegmentName, SegmentSize, TimelineHistory, TimelineId, WalName};

pub use absence::{Absence, Evidence, MissingSegment, Way};
pub use backup::{BackupState, BaseBackup, KnownFrom};
pub use chain::{Below, Chain};
pub use origin::Origin;
pub use trace::BackupTrace;
pub use way::{Gap, Reach, Stretch};

/// The WAL files of an archive, by timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    size: SegmentSize,
    timelines: BTreeMap<TimelineId, Timeline>,
    histories: BTreeMap<TimelineId, TimelineHistory>,
    /// Position at which the last descendant left each timeline.
    left_last: BTreeMap<TimelineId, Lsn>,
    /// Last segment that base backups prove of each timeline, archived or not: see [`Coverage::knowing`].
    proven: BTreeMap<TimelineId, u64>,
    odd: Vec<SegmentName>,
}

/// The segments of one timeline in an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Ranges of segment numbers, ascending. Each is without a gap, and gaps separate them.
    pub stretches: Vec<RangeInclusive<u64>>,
    /// Numbers of the segments with a `.partial` file, ascending.
    pub partials: Vec<u64>,
}

impl Timeline {
    /// Returns the number of the oldest complete segment.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.stretches.first().map(|stretch| *stretch.start())
    }

    /// Returns the number of the newest complete segment.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.stretches.last().map(|stretch| *stretch.end())
    }

    /// Returns the number of complete segments.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.end() - stretch.start() + 1).sum()
    }

    /// Returns the ranges of `wanted` that are missing, ascending.
    #[must_use]
    pub fn missing(&self, wanted: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let (mut next, end) = wanted.into_inner();
        let mut missing = Vec::new();
        let begin = self.stretches.partition_point(|stretch| *stretch.end() < next);
        for stretch in self.stretches.iter().skip(begin).take_while(|stretch| *stretch.start() <= end) {
            if next < *stretch.start() {
                missing.push(next..=stretch.start() - 1);
            }
            next = next.max(stretch.end() + 1);
        }
        if next <= end {
            missing.push(next..=end);
        }
        missing
    }

    fn add(&mut self, number: u64) {
        match self.stretches.last_mut() {
            Some(last) if last.contains(&number) => {}
            Some(last) if last.end() + 1 == number => *last = *last.start()..=number,
            _ => self.stretches.push(number..=number),
        }
    }
}

impl Coverage {
    /// Creates the coverage of an archive that contains files of these names, in ascending order.
    #[must_use]
    pub fn new(
        size: SegmentSize,
        names: impl IntoIterator<Item = WalName>,
        histories: BTreeMap<TimelineId, TimelineHistory>,
    ) -> Self {
        let mut left_last = BTreeMap::new();
        // An ancestor that begins after the position where its child left it contributes no WAL: a recovery that
        // followed it ended before.
        let is_passed_by = |ancestor: &Ancestor| {
            let begins_at = histories.get(&ancestor.timeline).and_then(TimelineHistory::begins_at);
            begins_at.is_some_and(|begins_at| begins_at > ancestor.left_at)
        };
        let ancestors = histories.values().flat_map(|history| &history.ancestors);
        for ancestor in ancestors.filter(|ancestor| !is_passed_by(ancestor)) {
            let last = left_last.entry(ancestor.timeline).or_insert(ancestor.left_at);
            *last = ancestor.left_at.max(*last);
        }
        let (timelines, proven, odd) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut coverage = Self { size, timelines, histories, left_last, proven, odd };
        for name in names {
            let Some(segment) = name.segment() else { continue };
            let Some(number) = segment.number(size) else {
                coverage.odd.push(segment);
                continue;
            };
            let timeline = coverage.timelines.entry(segment.timeline()).or_default();
            match name {
                // One segment may have two partial files.
                WalName::Partial(_) if timeline.partials.last() == Some(&number) => {}
                WalName::Partial(_) => timeline.partials.push(number),
                _ => timeline.add(number),
            }
        }
        coverage
    }

    /// Returns a copy that knows from archived backup history files how far timelines went. What such a backup proves and the
    /// archive lacks is a gap, and not the end of the timeline; but the last WAL of a backup may still arrive at `now`.
    #[must_use]
    pub fn knowing<'a>(&self, backups: impl IntoIterator<Item = &'a BaseBackup>, now: Timestamp) -> Self {
        let held = Self { proven: BTreeMap::new(), ..self.clone() };
        let mut proven = BTreeMap::new();
        for backup in backups {
            let of_name = backup.known_from.history().and_then(BackupTrace::of_name);
            let Some(trace) = of_name.map(|trace| BackupTrace { end: backup.wal.end, ..trace }) else {
                continue;
            };
            let timeline = trace.segment.timeline();
            let Some(last) = trace.proves(timeline, held.size) else { continue };
            let is_held = held.timelines.get(&timeline).and_then(Timeline::last) >= Some(last);
            if is_held || BackupState::of(backup.clone(), &held).is_arriving(&held, now) {
                continue;
            }
            let furthest = proven.entry(timeline).or_insert(last);
            *furthest = last.max(*furthest);
        }
        Self { proven, ..held }
    }

    /// Returns a copy without the segments `missing`.
    #[must_use]
    pub fn without(&self, missing: &BTreeSet<SegmentName>) -> Self {
        let mut rest = self.clone();
        for (id, held) in rest.timelines.iter_mut().filter(|_| !missing.is_empty()) {
            let numbers = std::mem::take(&mut held.stretches).into_iter().flatten();
            let is_there = |number: &u64| self.name(*id, *number).is_none_or(|name| !missing.contains(&name));
            numbers.filter(is_there).for_each(|number| held.add(number));
        }
        rest
    }

    /// Returns the segment size.
    #[must_use]
    pub fn size(&self) -> SegmentSize {
        self.size
    }

    /// Iterates over the timelines that have WAL, in ascending order.
    pub fn timelines(&self) -> impl Iterator<Item = (TimelineId, &Timeline)> {
        self.timelines.iter().map(|(id, timeline)| (*id, timeline))
    }

    /// Returns the newest timeline with WAL or a history file. The server writes on this timeline, unless somebody
    /// continued an older one.
    #[must_use]
    pub fn newest_timeline(&self) -> Option<TimelineId> {
        self.known().max()
    }

    /// Returns segments whose names do not exist in this segment size: those of a cluster with another size, or
    /// misnamed files.
    #[must_use]
    pub fn odd(&self) -> &[SegmentName] {
        &self.odd
    }

    /// Returns the history of a timeline; `None` if the archive has no history file of it.
    #[must_use]
    pub fn history(&self, timeline: TimelineId) -> Option<&TimelineHistory> {
        self.histories.get(&timeline)
    }

    /// Iterates over the histories of all timelines that have one.
    pub fn histories(&self) -> impl Iterator<Item = &TimelineHistory> {
        self.histories.values()
    }

    /// Returns the name of a segment; `None` if its positions exceed 64 bits.
    #[must_use]
    pub fn name(&self, timeline: TimelineId, number: u64) -> Option<SegmentName> {
        SegmentName::from_number(timeline, number, self.size)
    }

    /// Returns the number of the segment that contains `position`.
    #[must_use]
    pub fn segment_of(&self, position: Lsn) -> u64 {
        position.0 / self.size.bytes()
    }

    /// Returns the number of the segment that contains the byte before `position`, for a `position` that is an end.
    #[must_use]
    pub fn segment_before(&self, position: Lsn) -> u64 {
        position.0.saturating_sub(1) / self.size.bytes()
    }

    /// Returns the timeline that wrote the WAL at `position`, for a server on `timeline`: `timeline` itself, or the
    /// ancestor that it had not yet left.
    #[must_use]
    pub fn writer(&self, timeline: TimelineId, position: Lsn) -> TimelineId {
        let ancestors = self.histories.get(&timeline).map_or(&[][..], |history| &history.ancestors);
        ancestors
            .iter()
            .find(|ancestor| position < ancestor.left_at)
            .map_or(timeline, |ancestor| ancestor.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(numbers: &[u64]) -> Timeline {
        let mut timeline = Timeline::default();
        for number in numbers {
            timeline.add(*number);
        }
        timeline
    }

    #[test]
    fn consecutive_numbers_are_one_stretch() {
        let timeline = stretches(&[1, 2, 3, 7, 7, 9, 10]);
        assert_eq!(timeline.stretches, [1..=3, 7..=7, 9..=10]);
        assert_eq!((timeline.first(), timeline.last(), timeline.segments()), (Some(1), Some(10), 6));
        assert_eq!(stretches(&[]).first(), None);
    }

    #[test]
    fn missing_ranges_stay_within_the_wanted_one() {
        let timeline = stretches(&[3, 4, 7, 9]);
        assert_eq!(timeline.missing(3..=9), [5..=6, 8..=8]);
        assert_eq!(timeline.missing(1..=12), [1..=2, 5..=6, 8..=8, 10..=12]);
        assert_eq!(timeline.missing(4..=4), []);
        assert_eq!(timeline.missing(5..=5), [5..=5]);
        assert_eq!(timeline.missing(20..=21), [20..=21]);
        assert_eq!(stretches(&[]).missing(1..=2), [1..=2]);
    }

    #[test]
    fn names_of_another_size_are_listed_apart() {
        let names = ["0000000100000000000000FF", "000000010000000000000100", "000000010000000100000000"];
        let names = names.map(|name| name.parse::<WalName>().unwrap());
        let coverage = Coverage::new(SegmentSize::DEFAULT, names, BTreeMap::new());
        assert_eq!(coverage.odd(), [names[1].segment().unwrap()]);
        assert_eq!(coverage.timelines().next().unwrap().1.stretches, [255..=256]);
    }

    #[test]
    fn without_a_segment_a_stretch_falls_apart_and_the_others_stay() {
        let names: Vec<WalName> = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2)]
            .map(|(timeline, number)| WalName::Segment(name(timeline, number)))
            .into();
        let coverage = Coverage::new(SegmentSize::DEFAULT, names, BTreeMap::new());
        let stretches = |coverage: &Coverage| -> Vec<Vec<RangeInclusive<u64>>> {
            coverage.timelines().map(|(_, timeline)| timeline.stretches.clone()).collect()
        };
        assert_eq!(stretches(&coverage.without(&[name(1, 2)].into())), [vec![1..=1, 3..=4], vec![2..=2]]);
        assert_eq!(stretches(&coverage.without(&[name(1, 1), name(2, 2)].into())), [vec![2..=4], vec![]]);
        assert_eq!(stretches(&coverage.without(&BTreeSet::new())), stretches(&coverage));
        assert_eq!(stretches(&coverage), [vec![1..=4], vec![2..=2]], "it is a copy");
    }

    #[test]
    fn the_newest_timeline_has_wal_or_a_history_file() {
        let [one, three] = [1, 3].map(|number| TimelineId::new(number).unwrap());
        let history = TimelineHistory::parse(three, b"1\t0/2000000\tx\n").unwrap();
        let of = |histories| {
            Coverage::new(
                SegmentSize::DEFAULT,
                [WalName::Segment(name(1, 1))],
                BTreeMap::from_iter(histories),
            )
        };
        let without_history = of(None);
        assert_eq!((without_history.newest_timeline(), without_history.history(three)), (Some(one), None));
        let with_history = of(Some((three, history.clone())));
        assert_eq!(
            (with_history.newest_timeline(), with_history.history(three)),
            (Some(three), Some(&history))
        );
        assert_eq!(with_history.name(three, 0x1_02), Some(name(3, 0x1_02)));
        assert_eq!(with_history.name(three, u64::MAX), None);
    }

    fn name(timeline: u32, number: u64) -> SegmentName {
        SegmentName::from_number(TimelineId::new(timeline).unwrap(), number, SegmentSize::DEFAULT).unwrap()
    }
}
