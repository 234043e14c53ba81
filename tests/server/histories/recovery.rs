//! Model of a PostgreSQL server that recovers a base backup from an archive, as simple as possible: the files that it
//! requests one after the other, and the reason why it stops. It shares no concept with walkeep's own code.
//!
//! Source: `access/transam/timeline.c` and `access/transam/xlogrecovery.c` of PostgreSQL 15. The archive reports
//! missing files as absent, and the server's own `pg_wal` is empty.

use std::collections::{BTreeMap, BTreeSet};

/// A timeline's number.
pub(crate) type Tli = u32;
/// A WAL position, in bytes.
pub(crate) type Position = u64;

/// Files that a restore_command can find.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive {
    pub(crate) segment_bytes: u64,
    /// Segments, by timeline and number.
    pub(crate) segments: BTreeSet<(Tli, u64)>,
    /// Entries of history files: a timeline, and the position at which it was left.
    pub(crate) histories: BTreeMap<Tli, Vec<(Tli, Position)>>,
    /// Contents of a timeline's files, whether these exist or not.
    pub(crate) contents: BTreeMap<Tli, Content>,
}

/// Writers of a timeline's files, each up to a position, oldest first. Nothing follows the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content(pub(crate) Vec<(Tli, Position)>);

impl Content {
    fn writer(&self, position: Position) -> Option<Tli> {
        self.0.iter().find(|(_, end)| position < *end).map(|(tli, _)| *tli)
    }
}

/// Contents of a base backup's backup_label and pg_control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BaseBackup {
    /// Timeline of its checkpoint.
    pub(crate) tli: Tli,
    pub(crate) redo: Position,
    pub(crate) checkpoint: Position,
    /// Position of the record that ends it, or minimum recovery point; and the timeline of that.
    pub(crate) stop: Position,
    pub(crate) stop_tli: Tli,
    pub(crate) from_standby: bool,
}

/// Reason why a recovery ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// "recovery target timeline %u does not exist"
    NoSuchTimeline,
    /// "could not locate required checkpoint record", or "could not find redo location"
    NoCheckpoint,
    /// "requested timeline %u is not a child of this server's history", or "does not contain minimum recovery point"
    NotAChild,
    /// No file has that segment, or it ends there: the server takes it for the end of the WAL.
    EndOfLog,
    /// A file of an ancestor continues with WAL from after the fork. The server reads it and diverges.
    Astray,
}

/// Result of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stop: Stop,
    /// Position up to which it has replayed the target's WAL.
    pub(crate) reached: Position,
    /// Last file that it has replayed to its end, as timeline and number.
    pub(crate) last: Option<(Tli, u64)>,
    /// A later file whose start is on the path: the part shared with the target's own, which is absent.
    pub(crate) in_part: Option<(Tli, u64)>,
    /// `false` for "WAL ends before end of online backup", when the server does not start.
    pub(crate) consistent: bool,
    /// `true` if it could be consistent with all files: the target's history includes the end of the backup.
    pub(crate) may_be: bool,
    /// Requested segments, whether they exist or not.
    pub(crate) asked: Vec<(Tli, u64)>,
}

/// A `TimeLineHistoryEntry`.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tli: Tli,
    begin: Option<Position>,
    end: Option<Position>,
}

impl Archive {
    /// `findNewestTimeLine`: the target of a recovery to the `latest` timeline.
    pub(crate) fn newest_timeline(&self, start: Tli) -> Tli {
        (start + 1..Tli::MAX)
            .find(|probe| !self.histories.contains_key(probe))
            .map_or(start, |absent| absent - 1)
    }

    /// `readTimeLineHistory`: the target and its ancestors, newest first. Without a file it has none.
    fn read_history(&self, target: Tli) -> Vec<Entry> {
        let lines = self.histories.get(&target).filter(|_| target != 1);
        let mut begin = None;
        let mut entries: Vec<Entry> = Vec::new();
        for (tli, left_at) in lines.into_iter().flatten() {
            entries.insert(0, Entry { tli: *tli, begin, end: Some(*left_at) });
            begin = Some(*left_at);
        }
        entries.insert(0, Entry { tli: target, begin, end: None });
        entries
    }

    /// `XLogFileReadAnyTLI`: the file that contains the segment, on the newest timeline that may have it.
    fn read_any(
        &self,
        number: u64,
        current: Tli,
        tles: &[Entry],
        asked: &mut Vec<(Tli, u64)>,
    ) -> Option<Tli> {
        for entry in tles {
            if entry.tli < current {
                break;
            }
            if entry.begin.is_some_and(|begin| number < begin / self.segment_bytes) {
                continue;
            }
            asked.push((entry.tli, number));
            if self.segments.contains(&(entry.tli, number)) {
                return Some(entry.tli);
            }
        }
        None
    }

    /// Returns the positions in a segment, from `from` on, at which anything can change.
    fn turns(&self, number: u64, from: Position, file: Tli, tles: &[Entry]) -> Vec<Position> {
        let segment = number * self.segment_bytes..(number + 1) * self.segment_bytes;
        let forks = tles.iter().filter_map(|entry| entry.end);
        let written = self.contents[&file].0.iter().map(|(_, end)| *end);
        let mut turns: Vec<Position> = forks.chain(written).chain([from]).collect();
        turns.retain(|turn| segment.contains(turn) && *turn >= from);
        turns.sort_unstable();
        turns
    }

    /// Recovers a base backup to the end of a timeline: `InitWalRecovery`, then `PerformWalRecovery`.
    pub(crate) fn recover(&self, backup: &BaseBackup, target: Tli) -> Outcome {
        let mut outcome = Outcome {
            stop: Stop::NoSuchTimeline,
            reached: 0,
            last: None,
            in_part: None,
            consistent: false,
            may_be: false,
            asked: Vec::new(),
        };
        // The timeline of pg_control needs no history file: it is that of `recovery_target_timeline = current`.
        if target != 1 && target != backup.stop_tli && !self.histories.contains_key(&target) {
            return outcome;
        }
        let tles = self.read_history(target);
        let has = |position, tli| tli_of_point(&tles, position) == Some(tli);
        // `CheckRecoveryConsistency` waits for a position on the timeline where the backup ended.
        let has_its_end = has(backup.stop - 1, backup.stop_tli);
        outcome.may_be = has(backup.checkpoint, backup.tli) && has_its_end;
        let number_of = |position| position / self.segment_bytes;
        let file = self.read_any(number_of(backup.checkpoint), 0, &tles, &mut outcome.asked);
        let holds = |file: Tli| self.contents[&file].writer(backup.checkpoint) == Some(backup.tli);
        if !file.is_some_and(holds) {
            outcome.stop = Stop::NoCheckpoint;
            return outcome;
        }
        if !has(backup.checkpoint, backup.tli) || backup.from_standby && !has_its_end {
            outcome.stop = Stop::NotAChild;
            return outcome;
        }
        outcome.reached = backup.redo;
        let mut current = 0;
        loop {
            let number = number_of(outcome.reached);
            let Some(file) = self.read_any(number, current, &tles, &mut outcome.asked) else {
                outcome.stop = if outcome.last.is_none() { Stop::NoCheckpoint } else { Stop::EndOfLog };
                break;
            };
            current = file;
            let turns = self.turns(number, outcome.reached, file, &tles);
            let content = &self.contents[&file];
            let leaves = turns.iter().find(|turn| content.writer(**turn) != tli_of_point(&tles, **turn));
            if let Some(leaves) = leaves {
                let begin = (number * self.segment_bytes).max(backup.redo);
                outcome.in_part = (*leaves > begin).then_some((file, number));
                outcome.reached = *leaves;
                let ends = content.writer(*leaves).is_none();
                outcome.stop = if ends { Stop::EndOfLog } else { Stop::Astray };
                if ends && file == self.home(target, number) {
                    outcome.last = outcome.in_part.take();
                }
                break;
            }
            outcome.last = Some((file, number));
            outcome.reached = (number + 1) * self.segment_bytes;
        }
        outcome.consistent = outcome.reached >= backup.stop && has_its_end;
        outcome
    }

    /// Returns the position at which the path to a timeline leaves an ancestor; `None` if that begins later.
    pub(crate) fn left(&self, target: Tli, ancestor: Tli) -> Option<Position> {
        let tles = self.read_history(target);
        let at = tles.iter().position(|entry| entry.tli == ancestor)?;
        let upto = tles[..at].iter().filter_map(|entry| entry.begin).min()?;
        tles[at].begin.is_none_or(|begin| begin <= upto).then_some(upto)
    }

    /// Returns the last position at which a timeline was left, according to history files.
    pub(crate) fn last_left(&self, tli: Tli) -> Option<Position> {
        self.histories.keys().filter_map(|target| self.left(*target, tli)).max()
    }

    /// Returns the timeline whose file contains all of the target's WAL in a segment. A server requests it first.
    pub(crate) fn home(&self, target: Tli, number: u64) -> Tli {
        let tles = self.read_history(target);
        let begins = |entry: &&Entry| entry.begin.is_none_or(|begin| begin / self.segment_bytes <= number);
        tles.iter().find(begins).map_or(target, |entry| entry.tli)
    }
}

/// `tliOfPointInHistory`: the timeline on which the WAL was written there.
fn tli_of_point(tles: &[Entry], position: Position) -> Option<Tli> {
    let holds = |entry: &&Entry| {
        entry.begin.is_none_or(|begin| begin <= position) && entry.end.is_none_or(|end| position < end)
    };
    tles.iter().find(holds).map(|entry| entry.tli)
}

#[cfg(test)]
mod scenarios {
    use super::*;

    const BYTES: u64 = 100;

    /// Builds an archive with segments of 100 bytes; with timelines that were left, their parents and positions; and
    /// with their ends.
    fn archive(segments: &[(Tli, u64)], forks: &[(Tli, &[(Tli, Position)])], ends: &[Position]) -> Archive {
        let history = |tli: Tli| forks.iter().find(|(of, _)| *of == tli).map_or(&[][..], |(_, lines)| *lines);
        let content = |(index, end): (usize, &Position)| {
            let tli = Tli::try_from(index).unwrap() + 1;
            (tli, Content(history(tli).iter().copied().chain([(tli, *end)]).collect()))
        };
        Archive {
            segment_bytes: BYTES,
            segments: segments.iter().copied().collect(),
            histories: forks.iter().map(|(tli, lines)| (*tli, lines.to_vec())).collect(),
            contents: ends.iter().enumerate().map(content).collect(),
        }
    }

    fn primary(tli: Tli, redo: Position, stop: Position) -> BaseBackup {
        BaseBackup { tli, redo, checkpoint: redo, stop, stop_tli: tli, from_standby: false }
    }

    /// Reason, position, last file, and whether the server starts.
    type End = (Stop, Position, Option<(Tli, u64)>, bool);

    fn end(archive: &Archive, backup: BaseBackup, target: Tli) -> End {
        let Outcome { stop, reached, last, consistent, .. } = archive.recover(&backup, target);
        (stop, reached, last, consistent)
    }

    #[test]
    fn wal_is_replayed_to_its_end_or_to_a_gap() {
        let whole = archive(&[(1, 3), (1, 4), (1, 5)], &[], &[600]);
        assert_eq!(end(&whole, primary(1, 310, 330), 1), (Stop::EndOfLog, 600, Some((1, 5)), true));
        let gap = archive(&[(1, 3), (1, 5)], &[], &[600]);
        assert_eq!(end(&gap, primary(1, 310, 330), 1), (Stop::EndOfLog, 400, Some((1, 3)), true));
        assert_eq!(end(&gap, primary(1, 310, 401), 1), (Stop::EndOfLog, 400, Some((1, 3)), false));
        assert_eq!(end(&gap, primary(1, 410, 420), 1), (Stop::NoCheckpoint, 0, None, false));
    }

    #[test]
    fn the_segment_of_a_fork_is_read_from_the_newest_timeline_that_has_it() {
        // Timeline 2 left 1 at 450. Both have that segment, and timeline 1 continued.
        let fork: (Tli, &[_]) = (2, &[(1, 450)]);
        let both = archive(&[(1, 3), (1, 4), (1, 5), (2, 4), (2, 5)], &[fork], &[600, 600]);
        assert_eq!(end(&both, primary(1, 310, 330), 2), (Stop::EndOfLog, 600, Some((2, 5)), true));
        assert_eq!(end(&both, primary(1, 310, 330), 1), (Stop::EndOfLog, 600, Some((1, 5)), true));
        let asked = both.recover(&primary(1, 310, 330), 2).asked;
        assert_eq!(asked, [(1, 3), (1, 3), (2, 4), (2, 5), (2, 6)], "never back to a lower timeline");
        let only_parents = archive(&[(1, 3), (1, 4), (1, 5), (2, 5)], &[fork], &[600, 600]);
        assert_eq!(end(&only_parents, primary(1, 310, 330), 2), (Stop::Astray, 450, Some((1, 3)), true));
        let ends_there = archive(&[(1, 3), (1, 4), (2, 5)], &[fork], &[450, 600]);
        assert_eq!(end(&ends_there, primary(1, 310, 330), 2), (Stop::EndOfLog, 450, Some((1, 3)), true));
    }

    #[test]
    fn a_fork_after_the_end_of_a_backup_is_harmless() {
        let child_only = archive(&[(2, 4), (2, 5)], &[(2, &[(1, 450)])], &[450, 600]);
        assert_eq!(end(&child_only, primary(1, 410, 440), 2), (Stop::EndOfLog, 600, Some((2, 5)), true));
        assert_eq!(end(&child_only, primary(1, 410, 440), 1), (Stop::NoCheckpoint, 0, None, false));
        assert!(!end(&child_only, primary(1, 410, 460), 2).3, "left before it had ended");
        // The child's file has no checkpoint of timeline 1 there.
        assert_eq!(end(&child_only, primary(1, 460, 480), 2).0, Stop::NoCheckpoint);
        let went_on = archive(&[(1, 5)], &[(2, &[(1, 450)])], &[600, 600]);
        assert_eq!(end(&went_on, primary(1, 510, 530), 2).0, Stop::NotAChild);
    }

    #[test]
    fn after_two_promotions_within_one_segment_the_last_timeline_provides_it() {
        let forks: [(Tli, &[_]); 2] = [(2, &[(1, 430)]), (3, &[(1, 430), (2, 460)])];
        let last = archive(&[(1, 3), (3, 4)], &forks, &[430, 460, 500]);
        assert_eq!(end(&last, primary(1, 310, 330), 3), (Stop::EndOfLog, 500, Some((3, 4)), true));
        assert_eq!(end(&last, primary(1, 310, 330), 2), (Stop::EndOfLog, 400, Some((1, 3)), true));
    }

    #[test]
    fn latest_is_found_by_probing_history_files_and_a_number_needs_one() {
        let forks: [(Tli, &[_]); 2] = [(2, &[(1, 430)]), (4, &[(1, 430), (2, 460)])];
        let probed = archive(&[(1, 3)], &forks, &[430, 460, 0, 500]);
        assert_eq!([probed.newest_timeline(1), probed.newest_timeline(3)], [2, 4]);
        assert_eq!(end(&probed, primary(1, 310, 330), 3).0, Stop::NoSuchTimeline);
        // On its own timeline, a backup needs none.
        let own = archive(&[(2, 5)], &[], &[0, 600]);
        assert_eq!(end(&own, primary(2, 510, 520), 2), (Stop::EndOfLog, 600, Some((2, 5)), true));
    }

    #[test]
    fn a_standbys_backup_over_a_failover_leads_to_the_timeline_on_which_it_ended() {
        let backup = BaseBackup { stop: 480, stop_tli: 2, from_standby: true, ..primary(1, 310, 0) };
        let fork: (Tli, &[_]) = (2, &[(1, 450)]);
        let whole = archive(&[(1, 3), (1, 4), (2, 4)], &[fork], &[500, 500]);
        assert_eq!(end(&whole, backup, 2), (Stop::EndOfLog, 500, Some((2, 4)), true));
        assert_eq!(end(&whole, backup, 1).0, Stop::NotAChild, "does not contain the minimum recovery point");
        let parents = archive(&[(1, 3), (1, 4)], &[fork], &[500, 500]);
        assert_eq!(end(&parents, backup, 2), (Stop::Astray, 450, Some((1, 3)), false));
    }

    #[test]
    fn descending_positions_skip_a_timeline() {
        // Measured: on the path to timeline 2, which had left 1 at 700, a recovery ended at 430.
        let forks: [(Tli, &[_]); 2] = [(2, &[(1, 700)]), (3, &[(1, 700), (2, 430)])];
        let mut passed = archive(&[(1, 3), (1, 4), (1, 5), (3, 4)], &forks, &[700, 750, 500]);
        passed.contents.insert(3, Content(vec![(1, 430), (3, 500)]));
        assert_eq!(end(&passed, primary(1, 310, 330), 3), (Stop::EndOfLog, 500, Some((3, 4)), true));
        assert_eq!(end(&passed, primary(1, 510, 530), 3).0, Stop::NotAChild);
        assert_eq!([3, 4, 9].map(|number| passed.home(3, number)), [1, 3, 3]);
    }
}
