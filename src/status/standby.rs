//! Check that the archive still has the WAL that a standby, or another server in recovery, will request next.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use jiff::{SignedDuration, Timestamp};

use super::look::Look;
use crate::archive::ArchivedFile;
use crate::blocking::blocking;
use crate::cluster::{DataDirectory, TargetTimeline, holds_segment};
use crate::error::Error;
use crate::wal::{Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId, WalName};

/// WAL that a server in recovery needs from the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standby {
    /// First segment, from the restart point on, that is not in its own `pg_wal`.
    pub needs: SegmentName,
    /// `true` if the archive has that segment.
    pub archived: bool,
    /// Oldest archived segment, if that comes after it.
    pub begins_at: Option<SegmentName>,
    /// `true` if the archive has later segments, so that the missing one will not arrive by itself.
    pub later: bool,
    /// Newest timeline, if that left the standby's before its restart point: a server that looks for the newest
    /// timeline does not start.
    pub barred_by: Option<TimelineId>,
}

impl Standby {
    /// Iterates over all problems, each with advice.
    pub fn wrongs(&self) -> impl Iterator<Item = (String, &'static str)> {
        let stranded = self.is_stranded().then(|| (self.what(), self.remedy()));
        stranded.into_iter().chain(self.barred().map(|what| (what, UNBAR)))
    }

    /// Describes why the server cannot be restarted.
    fn barred(&self) -> Option<String> {
        let history = WalName::History(self.barred_by?);
        Some(format!(
            "the standby cannot be restarted with recovery_target_timeline = 'latest' while {history} is in the archive"
        ))
    }

    /// Describes the missing WAL.
    fn what(&self) -> String {
        match self.begins_at {
            Some(begins_at) => format!("the archive begins at {begins_at}, the standby needs {}", self.needs),
            None => {
                format!("the archive lacks {}, which the standby needs, and has later segments", self.needs)
            }
        }
    }

    /// Returns the advice for the user.
    fn remedy(&self) -> &'static str {
        if self.begins_at.is_some() {
            "unless it streams from a server that has all since: take a new base backup for it, and do not promote this one"
        } else {
            "run \"walkeep backfill\" on each server that may still have it; if none has, take a new base backup for the standby"
        }
    }

    /// Returns `true` if the archive can no longer feed the server.
    #[must_use]
    pub fn is_stranded(&self) -> bool {
        !self.archived && self.later
    }
}

/// Advice for a timeline that prevents the start.
const UNBAR: &str = "name the timeline, or move the drill's timeline out of the archive, see \"A drill has archived\" in guide/drills.md";

/// Time by which concurrent pushes may publish a later segment before an earlier one.
const OUT_OF_ORDER: SignedDuration = SignedDuration::from_mins(1);

/// Path of a recovery: its timelines, each with the range of segment numbers that it may provide, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way(Vec<(TimelineId, u64, u64)>);

impl Way {
    /// Creates the path from a timeline to the target. The latest timeline is the newest that left this one after
    /// `reached`. A target that did not is left to the server to report.
    fn from(
        (timeline, reached): (TimelineId, Lsn),
        target: Option<TargetTimeline>,
        histories: &BTreeMap<TimelineId, TimelineHistory>,
        size: SegmentSize,
    ) -> Self {
        let descends = |history: &TimelineHistory| leaves_after(history, timeline, reached);
        let history = match target {
            Some(TargetTimeline::Current) => None,
            Some(TargetTimeline::Number(number)) => {
                histories.get_key_value(&number).filter(|(_, history)| descends(history))
            }
            Some(TargetTimeline::Latest) | None => {
                histories.iter().rev().find(|(_, history)| descends(history))
            }
        };
        let mut way = Vec::new();
        let mut begins = 0;
        if let Some((newest, history)) = history {
            let mut left_at = Lsn(u64::MAX);
            let mut ancestors = Vec::new();
            for ancestor in history.ancestors.iter().rev() {
                left_at = left_at.min(ancestor.left_at);
                ancestors.push((ancestor.timeline, left_at.0 / size.bytes()));
            }
            for (ancestor, left_in) in ancestors.into_iter().rev() {
                way.push((ancestor, begins, left_in));
                begins = left_in;
            }
            way.push((*newest, begins, u64::MAX));
        } else {
            way.push((timeline, begins, u64::MAX));
        }
        Self(way)
    }

    /// Iterates over the names that a segment with that number may have, in the order in which the server requests
    /// them.
    fn names(&self, number: u64, size: SegmentSize) -> impl Iterator<Item = SegmentName> {
        let has_it = move |(_, first, last): &&(TimelineId, u64, u64)| (*first..=*last).contains(&number);
        let timelines = self.0.iter().rev().filter(has_it);
        timelines.filter_map(move |(timeline, ..)| SegmentName::from_number(*timeline, number, size))
    }

    /// Returns `true` if the path includes the segment.
    fn takes(&self, segment: SegmentName, size: SegmentSize) -> bool {
        segment.number(size).is_some_and(|number| self.names(number, size).any(|name| name == segment))
    }

    /// Returns the number of the first segment from `number` on that is not in `own` on any timeline.
    fn first_without(&self, mut number: u64, own: &BTreeSet<SegmentName>, size: SegmentSize) -> u64 {
        while self.names(number, size).any(|name| own.contains(&name)) {
            number += 1;
        }
        number
    }
}

/// Returns `true` if the timeline with this history left `timeline` after a position, so that a server there can
/// follow it.
fn leaves_after(history: &TimelineHistory, timeline: TimelineId, reached: Lsn) -> bool {
    history.left(timeline).is_some_and(|left_at| left_at > reached)
}

/// Returns the newest timeline, as a starting server looks for it, if the server cannot follow it from its restart
/// point.
fn barring(
    (timeline, redo): (TimelineId, Lsn),
    target: Option<TargetTimeline>,
    histories: &BTreeMap<TimelineId, TimelineHistory>,
) -> Option<TimelineId> {
    if !matches!(target, None | Some(TargetTimeline::Latest)) {
        return None;
    }
    // The server requests consecutive numbers, and stops at the first missing one.
    let later = (timeline.get()..).skip(1).map_while(TimelineId::new);
    let (newest, history) = later.map_while(|number| histories.get_key_value(&number)).last()?;
    (!leaves_after(history, timeline, redo)).then_some(*newest)
}

/// Returns the position that a server has certainly reached: its restart point, or the start of the last of its own
/// segments of that timeline. Those may be received and not replayed, and determine what it requests next.
fn reached(
    (timeline, redo): (TimelineId, Lsn),
    own: &BTreeSet<SegmentName>,
    size: SegmentSize,
) -> (TimelineId, Lsn) {
    let of_it = own.iter().filter(|segment| segment.timeline() == timeline);
    let last = of_it.filter_map(|segment| segment.start(size)).max();
    (timeline, last.map_or(redo, |last| redo.max(last)))
}

/// Returns the segments that are present in `pg_wal`.
fn own_segments(data: &DataDirectory, system: SystemIdentifier) -> BTreeSet<SegmentName> {
    let wal = data.path().join("pg_wal");
    let Ok(entries) = fs::read_dir(&wal) else { return BTreeSet::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.filter(|segment| holds_segment(&wal, system, *segment)).collect()
}

/// Returns the needs of the server; `None` if it is not in recovery.
pub(super) async fn needs(
    look: &mut Look<'_>,
    data: DataDirectory,
    size: SegmentSize,
    histories: &BTreeMap<TimelineId, TimelineHistory>,
    newest: &[ArchivedFile],
    oldest: Option<SegmentName>,
) -> Result<Option<Standby>, Error> {
    let system = look.system;
    let own = blocking(move || {
        data.restart_point().map(|point| (point, data.target_timeline(), own_segments(&data, system)))
    });
    let Some((point, target, own)) = own.await else { return Ok(None) };
    let way = Way::from(reached(point, &own, size), target, histories, size);
    let number = way.first_without(point.1.0 / size.bytes(), &own, size);
    let names: Vec<SegmentName> = way.names(number, size).collect();
    let Some(needs) = names.first().copied() else { return Ok(None) };
    let mut archived = false;
    for name in names {
        archived = archived || look.holds(WalName::Segment(name)).await?;
    }
    let begins_at = oldest.filter(|oldest| oldest.order() > needs.order());
    let mut later = begins_at.is_some();
    if !archived && !later {
        let on_the_way = |file: &SegmentName| way.takes(*file, size);
        let comes_later = |segment: &SegmentName| on_the_way(segment) && segment.order() > needs.order();
        let mut latest = newest.iter().filter_map(|file| file.name.segment()).filter(comes_later);
        if let Some(latest) = latest.next() {
            let ripe = Timestamp::now().checked_sub(OUT_OF_ORDER).unwrap_or(Timestamp::MIN);
            let group = look.group(&latest.group()).await?;
            let mut ripe =
                group.iter().filter(|file| file.since < ripe).filter_map(|file| file.name.segment());
            later = ripe.any(|segment| comes_later(&segment));
        }
    }
    let barred_by = barring(point, target, histories);
    Ok(Some(Standby { needs, archived, begins_at, later, barred_by }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn histories(texts: &[(u32, &str)]) -> BTreeMap<TimelineId, TimelineHistory> {
        let parsed = texts.iter().map(|(number, text)| {
            let timeline = timeline(*number);
            (timeline, TimelineHistory::parse(timeline, text.as_bytes()).unwrap())
        });
        parsed.collect()
    }

    /// Returns the names that a segment of 16 MB may have.
    fn names(way: &Way, number: u64) -> Vec<String> {
        way.names(number, SegmentSize::DEFAULT).map(|name| name.to_string()).collect()
    }

    #[test]
    fn the_path_goes_to_the_newest_descendant_across_each_fork() {
        let histories = histories(&[(2, "1\t0/5000100\tx\n"), (3, "1\t0/5000100\tx\n2\t0/8000000\ty\n")]);
        let way =
            Way::from((timeline(1), Lsn(0)), Some(TargetTimeline::Latest), &histories, SegmentSize::DEFAULT);
        assert_eq!(names(&way, 4), ["000000010000000000000004"]);
        assert_eq!(names(&way, 5), ["000000020000000000000005", "000000010000000000000005"]);
        assert_eq!(names(&way, 9), ["000000030000000000000009"]);
        let way = Way::from(
            (timeline(1), Lsn(0)),
            Some(TargetTimeline::Number(timeline(2))),
            &histories,
            SegmentSize::DEFAULT,
        );
        assert_eq!(names(&way, 9), ["000000020000000000000009"]);
        for (begin, target) in [(1, TargetTimeline::Current), (4, TargetTimeline::Latest)] {
            let way = Way::from((timeline(begin), Lsn(0)), Some(target), &histories, SegmentSize::DEFAULT);
            assert_eq!(names(&way, 9), [format!("{begin:08X}0000000000000009")]);
        }
    }

    #[test]
    fn the_newest_timeline_prevents_a_start_from_after_its_fork() {
        let histories =
            histories(&[(2, "1\t0/5000100\tx\n"), (3, "1\t0/8000000\tx\n"), (5, "1\t0/100\tx\n")]);
        let latest = Some(TargetTimeline::Latest);
        let barring = |of, redo, target| barring((timeline(of), Lsn(redo)), target, &histories);
        assert_eq!(
            barring(1, 0x7FF_FFFF, latest),
            None,
            "the fourth is not there, so that the third is the newest"
        );
        assert_eq!(barring(1, 0x800_0000, latest), Some(timeline(3)));
        assert_eq!(barring(1, 0x800_0000, None), Some(timeline(3)));
        assert_eq!(barring(2, 0x500_0200, latest), Some(timeline(3)), "no child of the second");
        assert_eq!(barring(3, 0x900_0000, latest), None);
        for target in [TargetTimeline::Current, TargetTimeline::Number(timeline(3))] {
            assert_eq!(barring(1, 0x800_0000, Some(target)), None);
        }
    }

    #[test]
    fn the_path_follows_no_timeline_that_left_before_the_servers_own_wal() {
        let histories = histories(&[(2, "1\t0/5000100\tx\n"), (3, "1\t0/5000100\tx\n2\t0/8000000\ty\n")]);
        let latest = Some(TargetTimeline::Latest);
        let names_from = |redo, own: &[&str]| {
            let own = own.iter().map(|name| name.parse().unwrap()).collect();
            let reached = reached((timeline(1), Lsn(redo)), &own, SegmentSize::DEFAULT);
            names(&Way::from(reached, latest, &histories, SegmentSize::DEFAULT), 9)
        };
        let [own, third] = ["000000010000000000000009", "000000030000000000000009"];
        assert_eq!(names_from(0x500_00FF, &[]), [third]);
        assert_eq!(names_from(0x500_0100, &[]), [own]);
        assert_eq!(
            names_from(0x400_0028, &["000000010000000000000005", "000000020000000000000006"]),
            [third]
        );
        assert_eq!(names_from(0x400_0028, &["000000010000000000000006"]), [own]);
    }

    #[test]
    fn segments_in_pg_wal_are_skipped_across_forks() {
        let histories = histories(&[(2, "1\t0/5000100\tx\n")]);
        let way = Way::from((timeline(1), Lsn(0)), None, &histories, SegmentSize::DEFAULT);
        let own = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let first = |own: &BTreeSet<SegmentName>| way.first_without(4, own, SegmentSize::DEFAULT);
        assert_eq!(first(&own(&[])), 4);
        assert_eq!(first(&own(&["000000010000000000000005"])), 4);
        let all = own(&["000000010000000000000004", "000000020000000000000005", "000000020000000000000006"]);
        assert_eq!(first(&all), 7);
        assert_eq!(first(&own(&["000000010000000000000004", "000000010000000000000006"])), 5);
    }
}
