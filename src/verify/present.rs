//! Answer to the main question about an archive: whether the WAL written now can be recovered. Reads nothing.
//!
//! The WAL written now is on the newest timeline known to the archive. It can be recovered if a complete base backup
//! leads to the end of all archived WAL of that timeline.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::names::put_back;
use crate::coverage::{BackupState, Chain, Coverage, Reach};
use crate::wal::{TimelineId, WalName};

/// Way out when no base backup leads to the newest WAL. The order matters: a base backup makes a checkpoint, which removes WAL that
/// only the server still has.
const TAKE_ONE: &str = "if a server still has what is missing, archive that first, with \"walkeep backfill\"; then take a base backup";

/// Answer whether the WAL written now can be recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Timeline written now.
    pub timeline: TimelineId,
    /// Other timelines that were written recently and do not lead to that one.
    pub others: Vec<TimelineId>,
    /// The answer.
    pub answer: Answer,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It can be recovered.
    Recoverable {
        /// Start of the recoverable time: the end of the oldest backup from which on there is no gap.
        from: Timestamp,
        /// Time up to which WAL is archived, if known.
        to: Option<Timestamp>,
        /// Name of that backup.
        backup: String,
        /// Last segment on the path from there, as timeline and number: the segment archived last.
        last: Option<(TimelineId, u64)>,
    },
    /// It cannot be recovered.
    Lost {
        /// Reason.
        why: String,
        /// Advice for the user.
        cure: String,
    },
    /// The last WAL of a base backup may still arrive. Nothing else is wrong.
    NotYet(String),
    /// No base backup is known, or the end of none.
    Unknown(String),
}

/// A timeline with the archiving times of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The timeline.
    pub timeline: TimelineId,
    /// Archiving time of its first file, which may be the history file.
    pub first: Timestamp,
    /// Archiving time of its segment with the highest number.
    pub last: Timestamp,
}

/// Facts that decide the answer.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Coverage of the archive.
    pub coverage: &'a Coverage,
    /// Coverage without inaccessible segments.
    pub sound: &'a Coverage,
    /// Timelines with unreadable history files.
    pub unreadable: &'a BTreeSet<TimelineId>,
    /// Base backups, in order of their ends.
    pub backups: &'a [BackupState],
    /// Times when each timeline was written.
    pub written: &'a [Written],
    /// Timelines that nobody needs to recover any more.
    pub given_up: &'a [TimelineId],
    /// Current time.
    pub now: Timestamp,
}

impl Present {
    /// Determines the answer; `None` if the archive knows no timeline.
    #[must_use]
    pub fn of(question: Question<'_>) -> Option<Self> {
        let Question { coverage, unreadable, backups, .. } = question;
        // A base backup of a timeline proves that the timeline existed.
        let of_backups = backups
            .iter()
            .map(|state| state.backup.timeline().max(state.backup.origin(coverage).stop_timeline));
        let known =
            coverage.newest_timeline().into_iter().chain(unreadable.iter().copied()).chain(of_backups);
        let timeline = known.filter(|timeline| !question.given_up.contains(timeline)).max()?;
        Some(Self { timeline, others: question.others(timeline), answer: question.answer(timeline) })
    }

    /// Returns whether the WAL written now can be recovered; `None` if unknown.
    #[must_use]
    pub fn is_recoverable(&self) -> Option<bool> {
        match self.answer {
            Answer::Recoverable { .. } => Some(true),
            Answer::Lost { .. } => Some(false),
            Answer::NotYet(_) | Answer::Unknown(_) => None,
        }
    }
}

impl Question<'_> {
    fn answer(&self, timeline: TimelineId) -> Answer {
        let kept: Vec<&BackupState> = self.backups.iter().filter(|state| state.backup.counts).collect();
        let Some(newest) = kept.last() else {
            let known = if self.backups.is_empty() {
                "no base backup is known"
            } else {
                "no base backup is known but such as replicas were made of"
            };
            return Answer::Unknown(known.to_owned());
        };
        let whole = kept.iter().filter_map(|state| Some((*state, self.whole(state, timeline)?)));
        if let Some((state, reach)) = whole.min_by_key(|(state, _)| state.backup.ended) {
            let backup = Chain::title_of(&state.backup, &self.backups.iter().map(|state| &state.backup));
            return Answer::Recoverable { from: state.backup.ended, to: None, backup, last: reach.last };
        }
        if let Some(state) = kept.iter().rev().find(|state| self.arrives(state, timeline)) {
            let why =
                format!("the last WAL of {} is not in the archive so far", state.backup.title_in_words());
            return Answer::NotYet(why);
        }
        if let Some(of) = self.without_history(newest, timeline) {
            let what = if self.unreadable.contains(&of) { "cannot be read" } else { "is missing" };
            let why = format!(
                "{} {what}, and every recovery from the newest base backup asks for it",
                WalName::History(of)
            );
            return Answer::Lost { why, cure: put_back(of) };
        }
        let may_lead = |state: &&&BackupState| {
            state.backup.wal.end.is_none()
                && reach(self.sound, state, timeline).is_some_and(|reach| reach.to_the_end)
        };
        if let Some(state) = kept.iter().rev().find(may_lead) {
            let title = state.backup.title_in_words();
            return Answer::Unknown(format!(
                "no other base backup leads there, and nothing tells where {title} ends"
            ));
        }
        Answer::Lost { why: self.why(&kept, newest, timeline), cure: TAKE_ONE.to_owned() }
    }

    /// Returns the first timeline on the path from the backup to `timeline` whose history file is missing. Segments
    /// of a timeline prove that it was begun.
    fn without_history(&self, state: &BackupState, timeline: TimelineId) -> Option<TimelineId> {
        let asked_for = state.backup.timeline()..=timeline;
        let held = self.coverage.timelines().map(|(id, _)| id);
        let without = |id: &TimelineId| {
            id.get() > 1 && self.coverage.history(*id).is_none() && !self.given_up.contains(id)
        };
        held.chain(self.unreadable.iter().copied()).filter(|id| asked_for.contains(id) && without(id)).min()
    }

    /// Describes why no backup recovers it. `newest` is the backup that ended last.
    fn why(&self, kept: &[&BackupState], newest: &BackupState, timeline: TimelineId) -> String {
        let complete = kept.iter().rev().filter(|state| state.backup.is_complete(self.sound));
        let mut reaches = complete.clone().filter_map(|state| {
            let reach = reach(self.sound, state, timeline)?;
            Some((state.backup.title_in_words(), reach))
        });
        if let Some((title, reach)) = reaches.next() {
            let last = reach.last.and_then(|(of, number)| self.coverage.name(of, number));
            return match last {
                Some(last) => format!("{title} can be recovered up to {last}, and not beyond"),
                None => format!("{title} lacks the first segment on the way there"),
            };
        }
        let Some(complete) = complete.clone().next() else {
            let which = match kept.len() {
                1 => newest.backup.title_in_words(),
                _ => "each of the base backups".to_owned(),
            };
            return format!("{which} lacks WAL that it needs to be consistent");
        };
        let title = complete.backup.title_in_words();
        format!("no base backup leads there; the one that ended last, {title}, was taken elsewhere")
    }

    /// Returns `true` if a backup lacks only its last WAL on the path to the timeline.
    fn arrives(&self, state: &BackupState, timeline: TimelineId) -> bool {
        state.is_arriving(self.coverage, self.now)
            && self.without_history(state, timeline).is_none()
            && reach(self.sound, state, timeline).is_some_and(|reach| reach.to_the_end)
    }

    /// Describes why another timeline that was written recently is in danger: it may be in use, and unrecoverable.
    pub(super) fn danger(&self, other: TimelineId, newest: TimelineId) -> Option<String> {
        let counts = |state: &&BackupState| {
            state.backup.counts && self.sound.is_complete(state.backup.origin(self.sound))
        };
        let last = self.backups.iter().rev().find(counts)?;
        if !self.backups.iter().any(|state| state.backup.counts && self.whole(state, other).is_some()) {
            return Some("no base backup leads to its end".to_owned());
        }
        let is_its_own = last.backup.timeline() == other && reach(self.sound, last, newest).is_none();
        is_its_own.then(|| {
            let title = last.backup.title_in_words();
            format!("{title}, which ended last, was taken there, and does not lead to timeline {newest}")
        })
    }

    /// Returns the recovery of a backup to the end of all WAL of the timeline, if possible.
    fn whole(&self, state: &BackupState, timeline: TimelineId) -> Option<Reach> {
        let all = reach(self.coverage, state, timeline).filter(|reach| reach.to_the_end)?;
        let sound = state.backup.is_complete(self.sound) && self.without_history(state, timeline).is_none();
        // Without inaccessible segments, the end may come too early.
        (sound && reach(self.sound, state, timeline) == Some(all)).then_some(all)
    }

    /// Returns timelines that were written since the newest one began, and are not part of the path to it.
    fn others(&self, newest: TimelineId) -> Vec<TimelineId> {
        let Some(since) = self.written.iter().find(|written| written.timeline == newest) else {
            return Vec::new();
        };
        let left = |timeline| self.coverage.history(newest).and_then(|history| history.left(timeline));
        let is_on_the_way = |timeline: TimelineId| {
            let held = self.coverage.timelines().find(|(id, _)| *id == timeline);
            let last = held.and_then(|(_, held)| held.last()).unwrap_or(0);
            left(timeline).is_some_and(|left_at| last <= self.coverage.segment_of(left_at))
        };
        let lately = self.written.iter().filter(|written| {
            let is_meant = written.timeline != newest && !self.given_up.contains(&written.timeline);
            is_meant && written.last > since.first
        });
        lately.map(|written| written.timeline).filter(|timeline| !is_on_the_way(*timeline)).collect()
    }
}

fn reach(coverage: &Coverage, state: &BackupState, timeline: TimelineId) -> Option<Reach> {
    coverage.reaches(state.backup.origin(coverage)).into_iter().find(|reach| reach.timeline == timeline)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::coverage::BaseBackup;
    use crate::scene::base_backup;
    use crate::wal::{Ancestor, Lsn, SegmentName, SegmentSize, TimelineHistory};

    const MB: u64 = 16 << 20;

    fn id(timeline: u32) -> TimelineId {
        TimelineId::new(timeline).unwrap()
    }
    fn name(timeline: u32, number: u64) -> SegmentName {
        SegmentName::from_number(id(timeline), number, SegmentSize::DEFAULT).unwrap()
    }

    fn archive(segments: &[(u32, u64)], left: &[(u32, u32, u64)]) -> Coverage {
        let names: BTreeSet<WalName> =
            segments.iter().map(|(timeline, number)| WalName::Segment(name(*timeline, *number))).collect();
        let histories = left.iter().map(|(child, parent, at)| {
            let ancestors = vec![Ancestor { timeline: id(*parent), left_at: Lsn(*at) }];
            (id(*child), TimelineHistory { ancestors })
        });
        Coverage::new(SegmentSize::DEFAULT, names, histories.collect::<BTreeMap<_, _>>())
    }

    fn backup(label: &str, on: u32, start: u64, last: u64) -> BaseBackup {
        base_backup(label, name(on, start), Lsn(last * MB + 1))
    }

    /// Creates a backup that ended at that second.
    fn ended(second: i64, mut backup: BaseBackup) -> BaseBackup {
        backup.ended = Timestamp::from_second(second).unwrap();
        backup
    }

    struct Scene {
        coverage: Coverage,
        backups: Vec<BaseBackup>,
        bad: Vec<(u32, u64)>,
        unreadable: BTreeSet<TimelineId>,
        written: Vec<Written>,
        given_up: Vec<TimelineId>,
        now: Timestamp,
    }

    impl Scene {
        fn new(coverage: Coverage, backups: Vec<BaseBackup>) -> Self {
            let (unreadable, now) = (BTreeSet::new(), Timestamp::MAX);
            let (bad, written, given_up) = (Vec::new(), Vec::new(), Vec::new());
            Self { coverage, backups, bad, unreadable, written, given_up, now }
        }

        fn present(&self) -> Present {
            self.ask(|question| Present::of(question).unwrap())
        }

        fn danger(&self, other: u32, newest: u32) -> Option<String> {
            self.ask(|question| question.danger(id(other), id(newest)))
        }

        fn ask<T>(&self, ask: impl FnOnce(Question<'_>) -> T) -> T {
            let bad = self.bad.iter().map(|(timeline, number)| name(*timeline, *number)).collect();
            let sound = self.coverage.without(&bad);
            let Self { coverage, unreadable, written, given_up, now, .. } = self;
            let state = |backup: &BaseBackup| BackupState::of(backup.clone(), coverage);
            let backups: Vec<BackupState> = self.backups.iter().map(state).collect();
            let (sound, backups, now) = (&sound, &backups, *now);
            ask(Question { coverage, sound, unreadable, backups, written, given_up, now })
        }

        /// Returns the timeline, and the time since when it can be recovered.
        fn since(&self) -> (u32, Option<i64>) {
            let present = self.present();
            let from = match present.answer {
                Answer::Recoverable { from, .. } => Some(from.as_second()),
                Answer::Lost { .. } | Answer::NotYet(_) | Answer::Unknown(_) => None,
            };
            (present.timeline.get(), from)
        }

        fn cure(&self) -> String {
            match self.present().answer {
                Answer::Lost { cure, .. } => cure,
                answer => panic!("{answer:?}"),
            }
        }

        fn why(&self) -> String {
            match self.present().answer {
                Answer::Lost { why, .. } | Answer::NotYet(why) | Answer::Unknown(why) => why,
                Answer::Recoverable { backup, .. } => panic!("{backup} recovers it"),
            }
        }
    }

    fn wal(timeline: u32, numbers: std::ops::RangeInclusive<u64>) -> Vec<(u32, u64)> {
        numbers.map(|number| (timeline, number)).collect()
    }

    #[test]
    fn the_oldest_backup_without_a_later_gap_starts_the_recoverable_time() {
        let backups = || {
            vec![
                ended(1, backup("a", 1, 1, 1)),
                ended(2, backup("b", 1, 3, 3)),
                ended(3, backup("c", 1, 6, 6)),
            ]
        };
        let mut scene = Scene::new(archive(&wal(1, 1..=9), &[]), backups());
        assert_eq!(scene.since(), (1, Some(1)));
        let Answer::Recoverable { backup, last, .. } = scene.present().answer else { panic!("it can") };
        assert!(backup.contains("\"a\""), "{backup}");
        assert_eq!(last, Some((id(1), 9)));
        scene.bad = vec![(1, 2)];
        assert_eq!(scene.since(), (1, Some(2)));
        scene.bad = vec![(1, 2), (1, 7)];
        assert_eq!(scene.since(), (1, None));
        assert!(
            scene.why().contains("\"c\"") && scene.why().contains("up to 000000010000000000000006, and"),
            "{}",
            scene.why()
        );
    }

    #[test]
    fn an_inaccessible_last_segment_is_a_loss() {
        let mut scene = Scene::new(archive(&wal(1, 1..=5), &[]), vec![backup("a", 1, 2, 2)]);
        scene.bad = vec![(1, 5)];
        assert_eq!(scene.since(), (1, None));
        scene.bad = vec![(1, 1)];
        assert_eq!(scene.since(), (1, Some(0)), "nothing needs it");
        // The only segment of the newest timeline.
        let segments = [wal(1, 1..=4), wal(2, 4..=4)].concat();
        let mut scene = Scene::new(archive(&segments, &[(2, 1, 4 * MB + 5)]), vec![backup("a", 1, 2, 2)]);
        assert_eq!(scene.since(), (2, Some(0)));
        scene.bad = vec![(2, 4)];
        assert_eq!(scene.since(), (2, None));
    }

    #[test]
    fn backups_of_a_given_up_timeline_do_not_recover_the_present() {
        // Recovered to segment 3, before the only backup.
        let segments = [wal(1, 1..=9), wal(2, 3..=6)].concat();
        let mut scene = Scene::new(archive(&segments, &[(2, 1, 3 * MB + 5)]), vec![backup("a", 1, 5, 5)]);
        assert_eq!(scene.since(), (2, None));
        assert!(scene.why().contains("no base backup leads there"), "{}", scene.why());
        scene.backups.push(ended(9, backup("b", 2, 5, 5)));
        assert_eq!(scene.since(), (2, Some(9)));
    }

    #[test]
    fn a_timeline_with_an_unavailable_history_is_still_the_newest() {
        let mut scene =
            Scene::new(archive(&[wal(1, 1..=9), wal(2, 9..=10)].concat(), &[]), vec![backup("a", 1, 5, 5)]);
        assert_eq!(scene.since(), (2, None));
        assert!(scene.why().contains("00000002.history is missing"), "{}", scene.why());
        scene.coverage = archive(&wal(1, 1..=9), &[]);
        scene.unreadable.insert(id(3));
        assert_eq!(scene.since(), (3, None));
        assert!(scene.why().contains("00000003.history cannot be read"), "{}", scene.why());
        // A base backup of a timeline without any files.
        let scene =
            Scene::new(archive(&wal(1, 1..=9), &[]), vec![backup("a", 1, 5, 5), backup("b", 4, 20, 20)]);
        assert_eq!(scene.since(), (4, None));
    }

    #[test]
    fn the_newest_timeline_that_is_not_given_up_is_written_now() {
        // A drill to segment 3, before the only backup, with the archive_command unchanged.
        let segments = [wal(1, 1..=9), wal(2, 3..=6)].concat();
        let mut scene = Scene::new(archive(&segments, &[(2, 1, 3 * MB + 5)]), vec![backup("a", 1, 5, 5)]);
        let written =
            |timeline| Written { timeline: id(timeline), first: Timestamp::UNIX_EPOCH, last: Timestamp::MAX };
        scene.written = vec![written(1), written(2)];
        assert_eq!((scene.since(), scene.present().others), ((2, None), vec![id(1)]));
        scene.given_up = vec![id(2)];
        assert_eq!((scene.since(), scene.present().others), ((1, Some(0)), vec![]));
    }

    #[test]
    fn without_a_history_file_that_a_recovery_requests_nothing_is_recovered() {
        // The archive was started on timeline 2.
        let mut scene = Scene::new(archive(&wal(2, 4..=9), &[]), vec![backup("a", 2, 5, 5)]);
        assert_eq!(scene.since(), (2, None));
        assert!(scene.why().starts_with("00000002.history is missing"), "{}", scene.why());
        assert!(scene.cure().contains("walkeep backfill"), "{}", scene.cure());
        scene.unreadable.insert(id(2));
        assert!(scene.why().starts_with("00000002.history cannot be read"), "{}", scene.why());
        scene.unreadable.clear();
        scene.coverage = archive(&wal(2, 4..=9), &[(2, 1, 4 * MB + 5)]);
        assert_eq!(scene.since(), (2, Some(0)));
        // A recovery from timeline 2 on never requests what is before it; one from before does.
        let segments = [wal(1, 1..=9), wal(2, 6..=7), wal(3, 8..=9)].concat();
        scene.coverage = archive(&segments, &[(3, 1, 8 * MB + 5)]);
        scene.backups = vec![ended(1, backup("a", 1, 5, 5)), ended(2, backup("b", 3, 9, 9))];
        assert_eq!(scene.since(), (3, Some(2)));
        scene.backups.pop();
        assert!(scene.why().starts_with("00000002.history is missing"), "{}", scene.why());
    }

    #[test]
    fn backups_that_lack_wal_or_are_not_kept_do_not_count() {
        let mut scene = Scene::new(archive(&wal(1, 1..=5), &[]), vec![backup("a", 1, 4, 6)]);
        assert_eq!(scene.since(), (1, None));
        assert!(scene.why().contains("\"a\"") && scene.why().contains("consistent"), "{}", scene.why());
        assert_eq!(scene.present().is_recoverable(), Some(false));
        scene.now = Timestamp::UNIX_EPOCH;
        assert_eq!(scene.present().is_recoverable(), None, "its last WAL may be on its way");
        assert!(scene.why().starts_with("the last WAL of ") && scene.since() == (1, None), "{}", scene.why());
        scene.backups[0] = backup("a", 1, 4, 4);
        assert_eq!(scene.since(), (1, Some(0)));
        scene.backups[0].counts = false;
        assert_eq!(scene.present().is_recoverable(), None);
        scene.backups.clear();
        assert_eq!(
            (scene.present().is_recoverable(), scene.why().as_str()),
            (None, "no base backup is known")
        );
    }

    #[test]
    fn another_timeline_that_is_still_written_is_named() {
        let segments = [wal(1, 1..=9), wal(2, 6..=7)].concat();
        let mut scene = Scene::new(archive(&segments, &[(2, 1, 6 * MB + 5)]), vec![backup("a", 1, 2, 2)]);
        let written = |timeline, first, last| {
            let at = |second| Timestamp::from_second(second).unwrap();
            Written { timeline: id(timeline), first: at(first), last: at(last) }
        };
        scene.written = vec![written(1, 0, 50), written(2, 40, 90)];
        assert_eq!(scene.present().others, [id(1)]);
        let danger = |scene: &Scene| scene.danger(1, 2);
        assert_eq!(danger(&scene), None, "the backup leads to both");
        scene.backups.push(ended(9, backup("b", 1, 7, 7)));
        let why = danger(&scene).unwrap();
        assert!(why.contains("\"b\"") && why.contains("does not lead to timeline 2"), "{why}");
        scene.bad = vec![(1, 9)];
        assert_eq!(danger(&scene).unwrap(), "no base backup leads to its end");
        scene.bad.clear();
        scene.backups.push(ended(10, backup("c", 2, 7, 7)));
        assert_eq!(danger(&scene), None, "there is one for either");
        scene.backups.truncate(1);
        scene.written[0] = written(1, 0, 30);
        assert_eq!(scene.present().others, [], "it was given up before");
        // The parent's last segments may be late.
        scene.coverage = archive(&[wal(1, 1..=5), wal(2, 6..=7)].concat(), &[(2, 1, 6 * MB + 5)]);
        scene.written[0] = written(1, 0, 50);
        assert_eq!(scene.present().others, []);
    }
}
