//! Meaning of a missing segment for a recovery: the end of the WAL, or a gap.
//!
//! The server takes "not found" for the end of the WAL. A missing segment must therefore be distinguished from one
//! that was never written. Four things prove that it was written: a later segment of its timeline in the archive, a
//! later one in the server's own `pg_wal`, a history file which says that the timeline continued, and the backup
//! history file of a base backup that ended in that segment or later. A segment before the start of its timeline is no
//! gap.

use super::BackupTrace;
use crate::wal::{Lsn, SegmentName, SegmentSize, TimelineHistory, TimelineId, WalName};

/// A segment that is not in the archive, with the facts that decide what its absence means.
#[derive(Debug, Clone)]
pub struct MissingSegment<'a> {
    /// Name of the segment.
    pub name: SegmentName,
    /// Segment size of the cluster.
    pub size: SegmentSize,
    /// Lowest later segment of its timeline in the archive.
    pub later: Option<SegmentName>,
    /// Lowest segment of its timeline in the archive.
    pub lowest: Option<SegmentName>,
    /// Contents of the history file of its timeline.
    pub history: Option<&'a TimelineHistory>,
    /// Lowest later segment of its timeline in the server's own `pg_wal`.
    pub own_later: Option<SegmentName>,
    /// Path of the recovery from the segment's timeline on.
    pub way: Way<'a>,
    /// Archived history files of higher timelines. Needed unless the target timeline of the recovery is known.
    pub higher: Vec<(TimelineId, &'a TimelineHistory)>,
    /// Base backups whose backup history files are archived. Those of other timelines prove nothing.
    pub backups: &'a [BackupTrace],
}

/// The path of a recovery from a segment's timeline on.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// To this timeline, which descends from the segment's.
    To(TimelineId, &'a TimelineHistory),
    /// To the end of the segment's own timeline.
    On,
    /// Unknown.
    Unknown,
}

/// Meaning of a missing segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The end of the WAL: nothing proves that the segment was written.
    End,
    /// The segment lies before the start of its timeline. No recovery needs it.
    Outside,
    /// A gap: the segment was written.
    Gap(Evidence),
}

/// Proof that a missing segment was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The archive has this later segment of the timeline.
    Later(SegmentName),
    /// The server's own `pg_wal` has this later segment of the timeline.
    Own(SegmentName),
    /// The history file of `descendant` says that the timeline continued to `left_at`, in a later segment.
    History {
        /// Timeline of the history file.
        descendant: TimelineId,
        /// Position at which `descendant`, or an ancestor of it, left the segment's timeline.
        left_at: Lsn,
    },
    /// A base backup ended in `last`, which is the segment or a later one of its timeline.
    Backup {
        /// Its backup history file in the archive.
        file: WalName,
        /// Last segment that the backup proves.
        last: SegmentName,
    },
}

impl MissingSegment<'_> {
    /// Decides the meaning of the absence.
    ///
    /// A later segment always counts: a server that asks for a segment after the fork that its recovery takes has
    /// followed the wrong timeline. The history file of a sibling proves nothing, because it describes another
    /// recovery. If the path is unknown, several branches count only if all of them left the timeline after the
    /// segment. On the path to the end of the timeline any branch counts, because the timeline continued at least
    /// that far. A base backup counts as a later segment does, since its server completed the segment in which it ended.
    #[must_use]
    pub fn judge(&self) -> Absence {
        let Some(number) = self.name.number(self.size) else { return Absence::End };
        let number_of = |position: Lsn| position.0 / self.size.bytes();
        let begins_behind = match self.history.and_then(TimelineHistory::begins_at) {
            Some(begins_at) => number < number_of(begins_at),
            // Without a history file the start is unknown, except that timeline 1 starts with the WAL.
            None if self.name.timeline() == TimelineId::FIRST => false,
            None => self.lowest.and_then(|lowest| lowest.number(self.size)).is_some_and(|low| number < low),
        };
        if begins_behind {
            return Absence::Outside;
        }
        if let Some(later) = self.later {
            return Absence::Gap(Evidence::Later(later));
        }
        if let Some(later) = self.own_later {
            return Absence::Gap(Evidence::Own(later));
        }
        let timeline = self.name.timeline();
        let left = |(descendant, history): &(TimelineId, &TimelineHistory)| {
            history.left(timeline).map(|left_at| (*descendant, left_at))
        };
        let goes_on = |(_, left_at): &(TimelineId, Lsn)| number < number_of(*left_at);
        let mut branches = self.higher.iter().filter_map(left);
        let proof = match self.way {
            Way::To(target, history) => left(&(target, history)).filter(goes_on),
            Way::On => branches.find(goes_on),
            Way::Unknown => {
                branches.next().filter(goes_on).filter(|_| branches.all(|branch| goes_on(&branch)))
            }
        };
        if let Some((descendant, left_at)) = proof {
            return Absence::Gap(Evidence::History { descendant, left_at });
        }
        let proven =
            self.backups.iter().filter_map(|backup| Some((backup, backup.proves(timeline, self.size)?)));
        let furthest = proven.filter(|(_, last)| number <= *last).max_by_key(|(_, last)| *last);
        let evidence = furthest.and_then(|(backup, last)| {
            let last = SegmentName::from_number(timeline, last, self.size)?;
            Some(Evidence::Backup { file: backup.name(), last })
        });
        evidence.map_or(Absence::End, Absence::Gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: SegmentSize = SegmentSize::DEFAULT;

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn segment(of: u32, number: u64) -> SegmentName {
        SegmentName::from_number(timeline(of), number, SIZE).unwrap()
    }

    /// Builds a history file from timelines and the numbers of the segments in which they were left.
    fn history(entries: &[(u32, u64)]) -> TimelineHistory {
        let ancestors = entries.iter().map(|(ancestor, number)| crate::wal::Ancestor {
            timeline: timeline(*ancestor),
            left_at: Lsn(number * SIZE.bytes() + 0x148),
        });
        TimelineHistory { ancestors: ancestors.collect() }
    }

    fn missing<'a>(of: u32, number: u64) -> MissingSegment<'a> {
        MissingSegment {
            name: segment(of, number),
            size: SIZE,
            later: None,
            lowest: None,
            history: None,
            own_later: None,
            way: Way::Unknown,
            higher: Vec::new(),
            backups: &[],
        }
    }

    /// Builds the trace of a backup from the numbers of the segments in which it began and ended.
    fn backup(of: u32, start: u64, end: Option<u64>) -> BackupTrace {
        let end = end.map(|end| (timeline(of), Lsn(end * SIZE.bytes() + 0x138)));
        BackupTrace { segment: segment(of, start), offset: 0x28, end }
    }

    fn is_gap(missing: &MissingSegment<'_>) -> bool {
        matches!(missing.judge(), Absence::Gap(_))
    }

    #[test]
    fn no_later_file_means_the_end() {
        assert_eq!(missing(1, 7).judge(), Absence::End);
        let archive = MissingSegment { lowest: Some(segment(1, 2)), ..missing(1, 7) };
        assert_eq!(archive.judge(), Absence::End);
    }

    #[test]
    fn a_later_segment_proves_a_gap() {
        let later = segment(1, 9);
        let archive = MissingSegment { later: Some(later), lowest: Some(segment(1, 2)), ..missing(1, 7) };
        assert_eq!(archive.judge(), Absence::Gap(Evidence::Later(later)));
        let begins_later = MissingSegment { lowest: Some(later), ..archive };
        assert!(is_gap(&begins_later), "timeline 1 begins with the log");
    }

    #[test]
    fn a_segment_before_its_timeline_is_no_gap() {
        let begins = history(&[(1, 5)]);
        let asked = |number| MissingSegment {
            later: Some(segment(2, 9)),
            lowest: Some(segment(2, 9)),
            history: Some(&begins),
            ..missing(2, number)
        };
        assert_eq!(asked(4).judge(), Absence::Outside);
        assert!(is_gap(&asked(5)), "the first segment of the timeline is a part of it");
        assert!(is_gap(&asked(8)), "the history file decides, not what is archived");
        let without = |number| MissingSegment { history: None, ..asked(number) };
        assert_eq!(without(8).judge(), Absence::Outside);
        let with_two = MissingSegment { lowest: Some(segment(2, 6)), ..without(8) };
        assert!(is_gap(&with_two));
        let arrived = MissingSegment { lowest: Some(segment(2, 8)), ..without(8) };
        assert!(is_gap(&arrived), "it was archived since it was asked for");
    }

    #[test]
    fn the_history_of_the_target_bounds_the_parent() {
        let way = history(&[(1, 7)]);
        let asked = |number| MissingSegment { way: Way::To(timeline(2), &way), ..missing(1, number) };
        assert!(is_gap(&asked(6)));
        assert_eq!(asked(7).judge(), Absence::End, "the segment in which it was left comes from the child");
        assert_eq!(asked(8).judge(), Absence::End);
        // The history file of another recovery must not turn a gap into the end of the WAL.
        let goes_on = MissingSegment { later: Some(segment(1, 12)), ..asked(8) };
        assert!(is_gap(&goes_on));
    }

    #[test]
    fn later_wal_of_the_server_itself_proves_a_gap() {
        let later = segment(1, 9);
        let asked = MissingSegment { own_later: Some(later), ..missing(1, 7) };
        assert_eq!(asked.judge(), Absence::Gap(Evidence::Own(later)));
    }

    #[test]
    fn an_only_descendant_counts_and_a_sibling_does_not() {
        let [near, far, far_copy] = [history(&[(1, 7)]), history(&[(1, 9)]), history(&[(1, 9)])];
        let asked = |way, higher: &[(u32, &TimelineHistory)]| {
            let higher = higher.iter().map(|(of, history)| (timeline(*of), *history)).collect();
            is_gap(&MissingSegment { way, higher, ..missing(1, 8) })
        };
        assert!(asked(Way::Unknown, &[(2, &far)]));
        assert!(!asked(Way::Unknown, &[(2, &near)]));
        assert!(!asked(Way::Unknown, &[(2, &near), (3, &far)]), "it may be the recovery to timeline 2");
        assert!(!asked(Way::Unknown, &[(2, &far), (3, &near)]));
        assert!(asked(Way::Unknown, &[(2, &far_copy), (3, &far)]));
        assert!(asked(Way::On, &[(2, &near), (3, &far)]), "it goes to the end of timeline 1");
        assert!(!asked(Way::On, &[(2, &near)]));
        let to_the_near = Way::To(timeline(2), &near);
        assert!(!asked(to_the_near, &[(3, &far)]), "another branch than the one that is recovered");
    }

    #[test]
    fn a_base_backup_proves_its_timeline_up_to_its_end() {
        let asked = |number, backups| MissingSegment { backups, ..missing(1, number) }.judge();
        let name_alone = [backup(1, 7, None)];
        let evidence =
            |last| Absence::Gap(Evidence::Backup { file: name_alone[0].name(), last: segment(1, last) });
        assert_eq!(asked(2, &name_alone), evidence(7));
        assert_eq!(asked(7, &name_alone), evidence(7), "its server completed the segment in which it began");
        assert_eq!(asked(8, &name_alone), Absence::End);
        let whole = [backup(1, 7, Some(9))];
        assert_eq!(asked(9, &whole), evidence(9));
        assert_eq!(asked(10, &whole), Absence::End);
        // It ended with the last byte of a segment.
        let end = Some((timeline(1), Lsn(9 * SIZE.bytes())));
        let to_the_boundary = [BackupTrace { end, ..whole[0] }];
        assert_eq!((asked(8, &to_the_boundary), asked(9, &to_the_boundary)), (evidence(8), Absence::End));
        // The one that goes furthest is named.
        let several = [backup(1, 3, Some(3)), whole[0], backup(1, 5, Some(6))];
        assert_eq!(asked(2, &several), evidence(9));
        let elsewhere = [BackupTrace { end: Some((timeline(3), Lsn(9 * SIZE.bytes()))), ..whole[0] }];
        assert_eq!(
            asked(8, &elsewhere),
            Absence::End,
            "what it wrote of another timeline proves nothing here"
        );
        assert_eq!(asked(7, &[backup(2, 9, Some(9))]), Absence::End, "another timeline");
    }

    #[test]
    fn a_base_backup_proves_nothing_before_its_timeline_began() {
        let begins = history(&[(1, 5)]);
        let backups = [backup(2, 9, Some(9))];
        let asked =
            |number, history| MissingSegment { history, backups: &backups, ..missing(2, number) }.judge();
        assert_eq!(asked(4, Some(&begins)), Absence::Outside);
        assert!(matches!(asked(5, Some(&begins)), Absence::Gap(Evidence::Backup { .. })));
        assert!(matches!(asked(4, None), Absence::Gap(_)), "where it began is lost with its segments");
    }

    #[test]
    fn a_name_of_another_segment_size_proves_nothing() {
        let name = "0000000100000000000000FF".parse().unwrap();
        let large =
            MissingSegment { name, size: SegmentSize::MAX, later: Some(segment(1, 9)), ..missing(1, 1) };
        assert_eq!(large.judge(), Absence::End);
    }

    proptest! {
        /// Model: a cluster wrote one timeline after the other, and the archive lost some segments. A recovery
        /// follows all timelines.
        #[test]
        fn exactly_what_was_written_and_lost_is_a_gap(
            lengths in prop::collection::vec(0u64..5, 1..5),
            lost in any::<u64>(),
            asked_timeline in 1u32..5,
            asked in 0u64..24,
            backed_up in prop::collection::vec((1u32..5, 0u64..24, 0u64..4), 0..4),
            only_names in any::<bool>(),
        ) {
            let last = u32::try_from(lengths.len()).unwrap();
            prop_assume!(asked_timeline <= last);
            let ends: Vec<u64> = lengths.iter().scan(0, |end, length| { *end += length; Some(*end) }).collect();
            let begin = |of: u32| if of == 1 { 0 } else { ends[of as usize - 2] };
            let entries = |of: u32| (1..of).map(|of| (of, ends[of as usize - 1])).collect::<Vec<_>>();
            let is_lost = |number: u64| lost >> (number % 64) & 1 == 1;
            // The last segment of a parent was not completed on it and is not archived; that of the last timeline is.
            let finished = |of: u32| begin(of)..(if of == last { ends[of as usize - 1] + 1 } else { ends[of as usize - 1] });
            let archived: Vec<u64> = finished(asked_timeline).filter(|number| !is_lost(*number)).collect();
            prop_assume!(!archived.contains(&asked));
            // A backup begins and ends on a timeline. Its server completed the segment in which it ended.
            let taken: Vec<(u32, u64, u64)> = backed_up.into_iter().filter_map(|(of, start, length)| {
                (of <= last && finished(of).contains(&start) && finished(of).contains(&(start + length)))
                    .then_some((of, start, start + length))
            }).collect();
            let traces: Vec<BackupTrace> =
                taken.iter().map(|(of, start, end)| backup(*of, *start, (!only_names).then_some(*end))).collect();
            let own = history(&entries(asked_timeline));
            let way = history(&entries(last));
            let missing = MissingSegment {
                later: archived.iter().copied().find(|number| *number > asked).map(|n| segment(asked_timeline, n)),
                lowest: archived.first().map(|number| segment(asked_timeline, *number)),
                history: (asked_timeline > 1).then_some(&own),
                way: if asked_timeline < last { Way::To(timeline(last), &way) } else { Way::On },
                backups: &traces,
                ..missing(asked_timeline, asked)
            };
            let was_written = finished(asked_timeline).contains(&asked);
            // The end of the last timeline is known only from its archived segments, and from base backups.
            let is_backed_up = taken.iter().any(|(of, start, end)| {
                *of == asked_timeline && asked <= if only_names { *start } else { *end }
            });
            let is_known = asked_timeline < last || archived.last().is_some_and(|newest| *newest > asked) || is_backed_up;
            prop_assert_eq!(is_gap(&missing), was_written && is_known, "{:?} {:?}", missing, archived);
        }
    }
}
