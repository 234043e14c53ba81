//! Retention by base backups: a number of backups (redundancy), a recovery window, or both; and always a backup that
//! leads to each wanted end of the WAL.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use jiff::{SignedDuration, Timestamp};

use super::{BranchEnd, Doubt, KeptBackup, Policy, PolicyInput, Why, is_future};
use crate::coverage::BackupState;
use crate::wal::{SegmentName, TimelineId};

/// Which base backups to keep. With both settings, a backup stays if either keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupPolicy {
    /// Redundancy: the number of newest backups to keep.
    pub keep_backups: Option<NonZeroUsize>,
    /// Recovery window: any moment of this many days stays recoverable.
    pub keep_days: Option<u32>,
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Returns the complete backups that count, newest first.
pub(super) fn newest_first(backups: &[BackupState]) -> Vec<&BackupState> {
    let mut complete: Vec<&BackupState> =
        backups.iter().filter(|state| state.complete && state.backup.counts).collect();
    complete.sort_by_key(|state| std::cmp::Reverse(age(state)));
    complete
}

/// Returns the sort key for the age of backups, oldest first.
fn age(state: &BackupState) -> impl Ord + use<> {
    (state.backup.ended, state.backup.start().order())
}

/// Returns the backups that the policy keeps.
///
/// A backup that lacks WAL does not count: it must not take the place of a complete one, and it is not enough on its
/// own.
pub(super) fn by_backups(policy: &Policy, input: PolicyInput<'_>) -> Result<Vec<KeptBackup>, Doubt> {
    let PolicyInput { backups, segments, now, .. } = input;
    if let Some(BackupState { backup, .. }) = backups.iter().find(|state| is_future(state.backup.ended, now))
    {
        return Err(Doubt::FromTheFuture { what: backup.title(), since: backup.ended });
    }
    let newest_first = newest_first(backups);
    let window = policy.backups.keep_days.map(|days| {
        // A window that starts before the earliest timestamp contains everything.
        now.checked_sub(DAY * i32::try_from(days).unwrap_or(i32::MAX)).unwrap_or(Timestamp::MIN)
    });
    let mut covered = window.map(|begin| Covered::new(begin, segments));
    let ways = ways(policy, input, &newest_first)?;
    let of = policy.backups.keep_backups.map_or(0, NonZeroUsize::get);
    let mut kept: Vec<KeptBackup> = Vec::new();
    for (index, state) in newest_first.iter().copied().enumerate() {
        let redundancy = (index < of).then_some(Why::Redundancy { rank: index + 1, of });
        let for_window = covered.as_mut().map_or_else(Vec::new, |covered| covered.by(state));
        let why: Vec<Why> = redundancy.into_iter().chain(for_window).collect();
        if !why.is_empty() {
            kept.push(KeptBackup { state: state.clone(), why });
        }
    }
    for state in backups.iter().filter(|state| is_found(state)) {
        match kept.iter_mut().find(|kept| kept.state == *state) {
            Some(kept) => kept.why.push(Why::StillThere),
            None => kept.push(KeptBackup { state: state.clone(), why: vec![Why::StillThere] }),
        }
    }
    let asked_for = kept.len();
    for (end, state) in ways {
        let why = Why::OnlyWay(end.timeline);
        match kept.iter().position(|kept| kept.state == *state) {
            // A backup that stays for another reason needs none of these.
            Some(index) if index < asked_for => {}
            Some(index) => kept.get_mut(index).into_iter().for_each(|kept| kept.why.push(why)),
            None => kept.push(KeptBackup { state: state.clone(), why: vec![why] }),
        }
    }
    if kept.iter().any(|kept| kept.state.complete && kept.state.backup.counts) {
        return Ok(kept);
    }
    let incomplete = backups.iter().filter(|state| state.backup.counts && !state.complete).count();
    Err(Doubt::NoBackup { incomplete })
}

/// Returns `true` if the files of the backup were found. Its WAL then stays under any policy.
pub(super) fn is_found(state: &BackupState) -> bool {
    state.backup.known_from.directory().is_some()
}

/// Returns for each wanted end of the WAL the newest backup that leads there, preferably without a gap. If no backup
/// that counts does, another one is taken: its files may be gone, but without its WAL it is lost for certain.
fn ways<'a>(
    policy: &'a Policy,
    input: PolicyInput<'a>,
    newest_first: &[&'a BackupState],
) -> Result<Vec<(&'a BranchEnd, &'a BackupState)>, Doubt> {
    let others = input.backups.iter().filter(|state| state.complete && !state.backup.counts);
    let other = |end: &BranchEnd| {
        let leading = others.clone().filter(|state| state.leads_to(end.timeline));
        leading.max_by_key(|state| age(state))
    };
    let mut ways = Vec::new();
    for end in policy.branches(input).wanted() {
        let reaches = newest_first.iter().find(|state| state.reaches_end_of(end.timeline));
        let leads = || newest_first.iter().find(|state| state.leads_to(end.timeline));
        match reaches.or_else(leads).copied().or_else(|| other(end)) {
            Some(way) => ways.push((end, way)),
            // Any backup of an older timeline may lead there.
            None if !end.way_is_known
                && newest_first.iter().any(|state| state.backup.timeline() < end.timeline) =>
            {
                return Err(Doubt::UnknownWay(end.timeline));
            }
            None => {}
        }
    }
    Ok(ways)
}

/// Returns the timelines with segments archived after `moment`.
fn written_after(moment: Timestamp, segments: &[(SegmentName, Timestamp)]) -> BTreeSet<TimelineId> {
    let after = segments.iter().filter(|(_, since)| *since > moment);
    after.map(|(segment, _)| segment.timeline()).collect()
}

/// Parts of the start of the recovery window that the backups seen so far cover, newest backup first.
struct Covered {
    begin: Timestamp,
    /// `true` if a backup from before the window was seen.
    any: bool,
    /// Timelines written within the window that no backup from before the window leads to so far.
    uncovered: BTreeSet<TimelineId>,
}

impl Covered {
    fn new(begin: Timestamp, segments: &[(SegmentName, Timestamp)]) -> Self {
        Self { begin, any: false, uncovered: written_after(begin, segments) }
    }

    /// Returns the reasons for which the window needs the next backup.
    fn by(&mut self, state: &BackupState) -> Vec<Why> {
        if state.backup.ended > self.begin {
            return vec![Why::InWindow];
        }
        let mut leads_to: Vec<TimelineId> = state.reaches.iter().map(|reach| reach.timeline).collect();
        leads_to.retain(|timeline| self.uncovered.remove(timeline));
        if std::mem::replace(&mut self.any, true) {
            leads_to.into_iter().map(Why::LeadsTo).collect()
        } else {
            vec![Why::BeforeWindow]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{OldestKept, decide};
    use super::*;
    use crate::coverage::{KnownFrom, Reach};
    use crate::wal::{SegmentSize, WalName};
    use proptest::prelude::*;

    fn name(timeline: u32, segment: u64) -> SegmentName {
        format!("{timeline:08X}{:08X}{:08X}", segment / 256, segment % 256).parse().unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    /// Builds a backup that ended that many days ago.
    fn backup(timeline: u32, segment: u64, days_ago: i32) -> BackupState {
        let segment = name(timeline, segment);
        let mut state = super::super::tests::backup(segment, now() - DAY * days_ago);
        state.backup.label = Some(format!("{days_ago} days ago"));
        state.reaches = vec![reach(segment.timeline(), true)];
        state
    }

    fn reach(timeline: TimelineId, to_the_end: bool) -> Reach {
        Reach { timeline, last: None, to_the_end }
    }

    fn policy(keep_backups: usize, keep_days: Option<u32>) -> BackupPolicy {
        BackupPolicy { keep_backups: NonZeroUsize::new(keep_backups), keep_days }
    }

    fn decided(
        backups: &[BackupState],
        policy: BackupPolicy,
        segments: &[(SegmentName, Timestamp)],
        ends: &[BranchEnd],
    ) -> Result<(OldestKept, Vec<KeptBackup>), Doubt> {
        let policy = Policy { backups: policy, ..Policy::default() };
        let decision = decide(
            &policy,
            PolicyInput { backups, segments, ends, newest: None, now: now(), size: SegmentSize::DEFAULT },
        )?;
        Ok((decision.oldest_kept.unwrap(), decision.kept))
    }

    /// Returns the oldest segment kept, and the ages of the kept backups in days with the reasons.
    fn kept(backups: &[BackupState], policy: BackupPolicy) -> (SegmentName, Vec<(String, Vec<Why>)>) {
        let (oldest_kept, kept) = decided(backups, policy, &[], &[]).unwrap();
        let first = kept[0].state.backup.start();
        assert_eq!(OldestKept::from(first), oldest_kept);
        (first, kept.into_iter().map(|kept| (kept.state.backup.label.unwrap(), kept.why)).collect())
    }

    #[test]
    fn redundancy_keeps_the_newest_by_time_on_whatever_timeline() {
        // After a recovery to the past, the server continued at a lower position: the newest backup starts before
        // others.
        let backups = [backup(1, 10, 9), backup(1, 20, 8), backup(1, 90, 7), backup(2, 40, 1)];
        let (first, kept) = kept(&backups, policy(1, None));
        assert_eq!(first, name(2, 40));
        let newest = vec![Why::Redundancy { rank: 1, of: 1 }];
        let expected =
            [("1 days ago".to_owned(), newest), ("7 days ago".to_owned(), vec![Why::AfterOldestKept])];
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_window_keeps_the_last_backup_before_it() {
        let backups = [backup(1, 10, 9), backup(1, 20, 8), backup(1, 30, 3), backup(1, 40, 1)];
        let window = policy(0, Some(7));
        let expected = [
            ("8 days ago".to_owned(), vec![Why::BeforeWindow]),
            ("3 days ago".to_owned(), vec![Why::InWindow]),
            ("1 days ago".to_owned(), vec![Why::InWindow]),
        ];
        assert_eq!(kept(&backups, window), (name(1, 20), expected.to_vec()));
        assert_eq!(kept(&backups, policy(0, Some(8))).0, name(1, 20), "ended as the window begins");
        assert_eq!(kept(&backups, policy(0, Some(0))).0, name(1, 40));
        assert_eq!(kept(&backups, policy(0, Some(u32::MAX))).0, name(1, 10));
        assert_eq!(kept(&backups, policy(4, Some(7))).0, name(1, 10), "whatever either of them keeps");
        assert_eq!(kept(&backups, policy(9, None)).0, name(1, 10), "fewer than wanted");
    }

    #[test]
    fn a_window_keeps_a_backup_for_every_timeline_written_within_it() {
        // After a recovery to a time before the second backup, the server continued on timeline 2.
        let mut backups = [backup(1, 10, 20), backup(1, 50, 9), backup(2, 40, 5)];
        let second = name(2, 35).timeline();
        backups[0].reaches.push(reach(second, false));
        let oldest_kept = |days_ago| {
            let segments = [(name(1, 60), now() - DAY * 8), (name(2, 45), now() - DAY * days_ago)];
            decided(&backups, policy(0, Some(7)), &segments, &[]).unwrap()
        };
        let (first, kept) = oldest_kept(0);
        assert_eq!(first, OldestKept::from(name(1, 10)));
        assert_eq!(kept[0].why, [Why::LeadsTo(second)]);
        assert_eq!(kept[2].why, [Why::BeforeWindow]);
        assert_eq!(oldest_kept(8).0, OldestKept::from(name(2, 40)), "nothing was written on it since");
    }

    #[test]
    fn a_backup_that_leads_to_the_current_timeline_stays_despite_a_newer_one_that_does_not() {
        let mut backups = [backup(1, 10, 9), backup(1, 20, 8), backup(1, 50, 7)];
        let second = name(2, 35).timeline();
        backups[0].reaches.push(reach(second, false));
        backups[1].reaches.push(reach(second, false));
        let segments = [(name(1, 60), now() - DAY * 7)];
        // Only its history file exists so far.
        let ends = [BranchEnd { timeline: second, since: now(), way_is_known: true }];
        for policy in [policy(1, None), policy(0, Some(1))] {
            let (oldest_kept, kept) = decided(&backups, policy, &segments, &ends).unwrap();
            assert_eq!((oldest_kept, kept.len()), (OldestKept::from(name(1, 20)), 2));
            assert_eq!(kept[0].why, [Why::OnlyWay(second)]);
        }
        let (_, kept) = decided(&backups, policy(2, None), &segments, &ends).unwrap();
        assert_eq!(kept[0].why, [Why::Redundancy { rank: 2, of: 2 }]);
        backups[0].reaches[1].to_the_end = true;
        let (oldest_kept, _) = decided(&backups, policy(1, None), &segments, &ends).unwrap();
        assert_eq!(oldest_kept, OldestKept::from(name(1, 10)), "the one that gets there without a gap");
    }

    #[test]
    fn a_timeline_of_unknown_start_is_a_doubt_while_older_backups_may_lead_there() {
        let end =
            |number| BranchEnd { timeline: name(number, 0).timeline(), since: now(), way_is_known: false };
        let doubt =
            |backups: &[BackupState], number| decided(backups, policy(1, None), &[], &[end(number)]).err();
        let old = [backup(1, 10, 9)];
        assert_eq!(doubt(&old, 2), Some(Doubt::UnknownWay(end(2).timeline)));
        assert_eq!(doubt(&[backup(1, 10, 9), backup(2, 20, 1)], 2), None, "it has one of its own");
        assert_eq!(doubt(&[backup(3, 10, 9)], 2), None, "nor do younger ones lead to older timelines");
    }

    #[test]
    fn a_backup_that_lacks_wal_does_not_count() {
        let mut backups = [backup(1, 10, 9), backup(1, 20, 8), backup(1, 30, 3)];
        backups[2].complete = false;
        let (first, kept) = kept(&backups, policy(1, None));
        assert_eq!((first, kept.len()), (name(1, 20), 2));
        assert_eq!(kept[1].1, [Why::AfterOldestKept]);
        for backup in &mut backups {
            backup.complete = false;
        }
        assert_eq!(decided(&backups, policy(1, None), &[], &[]), Err(Doubt::NoBackup { incomplete: 3 }));
    }

    #[test]
    fn a_backup_that_does_not_count_is_kept_only_if_no_other_leads_to_an_end() {
        let mut backups = [backup(1, 10, 9), backup(1, 20, 8), backup(1, 30, 3)];
        backups[2].backup.counts = false;
        backups[2].reaches.push(reach(name(2, 35).timeline(), false));
        let segments = [(name(1, 40), now()), (name(2, 45), now())];
        let (oldest_kept, kept) = decided(&backups, policy(1, Some(5)), &segments, &[]).unwrap();
        assert_eq!(
            (oldest_kept, &kept[1].why[..]),
            (OldestKept::from(name(1, 20)), &[Why::AfterOldestKept][..])
        );
        backups[0].backup.counts = false;
        backups[0].reaches.push(reach(name(3, 15).timeline(), false));
        let ends = [BranchEnd { timeline: name(3, 15).timeline(), since: now(), way_is_known: true }];
        let (oldest_kept, kept) = decided(&backups, policy(1, None), &[], &ends).unwrap();
        assert_eq!(
            (oldest_kept, &kept[0].why),
            (OldestKept::from(name(1, 10)), &vec![Why::OnlyWay(ends[0].timeline)])
        );
        for state in &mut backups {
            state.backup.counts = false;
        }
        assert_eq!(decided(&backups, policy(1, None), &[], &[]), Err(Doubt::NoBackup { incomplete: 0 }));
    }

    #[test]
    fn a_backup_whose_files_exist_stays_under_any_policy() {
        let found = |state: &mut BackupState| state.backup.known_from = KnownFrom::Directory("/mnt".into());
        let mut backups = [backup(1, 10, 9), backup(1, 20, 8), backup(1, 30, 3)];
        found(&mut backups[1]);
        let (first, with_redundancy) = kept(&backups, policy(1, None));
        assert_eq!((first, with_redundancy.len()), (name(1, 20), 2));
        assert_eq!(with_redundancy[0].1, [Why::StillThere]);
        assert_eq!(kept(&backups, policy(0, None)).0, name(1, 20), "without any policy, too");
        backups[1].complete = false;
        assert_eq!(kept(&backups, policy(1, None)).0, name(1, 20), "it may have WAL of its own");
        found(&mut backups[2]);
        assert_eq!(
            kept(&backups, policy(1, None)).1[1].1,
            [Why::Redundancy { rank: 1, of: 1 }, Why::StillThere]
        );
    }

    #[test]
    fn a_doubt_prevents_any_plan() {
        assert_eq!(decided(&[], policy(1, None), &[], &[]), Err(Doubt::NoBackup { incomplete: 0 }));
        let backups = [backup(1, 10, 9), backup(1, 20, -1)];
        let doubt = decided(&backups, policy(1, None), &[], &[]).unwrap_err();
        assert!(matches!(doubt, Doubt::FromTheFuture { .. }), "{doubt}");
    }

    /// A timeline of a generated cluster: where it left its parent, and where it ends.
    #[derive(Debug, Clone)]
    struct Branch {
        parent: Option<usize>,
        from: u64,
        to: u64,
    }

    /// Generates a cluster with a few promotions, anywhere in its past, and its backups.
    fn clusters() -> impl Strategy<Value = (Vec<Branch>, Vec<(usize, u64, i32)>)> {
        let promotions = prop::collection::vec((any::<prop::sample::Index>(), 0..1_000u64, 1..400u64), 0..5);
        let backups = prop::collection::vec((any::<prop::sample::Index>(), 0..1_000u64, 0..30i32), 1..8);
        (1..400u64, promotions, backups).prop_map(|(length, promotions, backups)| {
            let mut branches = vec![Branch { parent: None, from: 1, to: length }];
            let within = |branch: &Branch, part: u64| branch.from + (branch.to - branch.from) * part / 1_000;
            for (parent, part, length) in promotions {
                let parent = parent.index(branches.len());
                let from = within(&branches[parent], part);
                branches.push(Branch { parent: Some(parent), from, to: from + length });
            }
            let backups = backups.into_iter().map(|(on, part, age)| {
                let on = on.index(branches.len());
                (on, within(&branches[on], part), age)
            });
            let backups = backups.collect();
            (branches, backups)
        })
    }

    fn timeline(index: usize) -> u32 {
        u32::try_from(index).unwrap() + 1
    }

    /// Walks the branches to find every segment that recovers a backup to the end of every descendant timeline.
    fn needed(branches: &[Branch], (on, start, _): (usize, u64, i32)) -> Vec<WalName> {
        let mut needed = Vec::new();
        for end in 0..branches.len() {
            // From the end back to the backup, if it is on the path.
            let (mut at, mut upto, mut path) = (end, branches[end].to, Vec::new());
            loop {
                let from = if at == on { start } else { branches[at].from };
                path.extend((from..=upto).map(|segment| WalName::Segment(name(timeline(at), segment))));
                if at == on {
                    needed.append(&mut path);
                    break;
                }
                let Some(parent) = branches[at].parent else { break };
                upto = branches[at].from;
                at = parent;
                if at == on && upto < start {
                    break;
                }
            }
        }
        needed
    }

    proptest! {
        #[test]
        fn every_kept_backup_can_be_recovered_to_the_end_of_all_its_descendants(
            (branches, backups) in clusters(),
            keep_backups in 0..5usize,
            keep_days in prop::option::of(0..20u32),
        ) {
            prop_assume!(keep_backups > 0 || keep_days.is_some());
            let all: Vec<BackupState> = backups.iter().map(|(on, at, age)| backup(timeline(*on), *at, *age)).collect();
            let (oldest_kept, kept) = decided(&all, policy(keep_backups, keep_days), &[], &[]).unwrap();
            let mut ages: Vec<i32> = backups.iter().map(|(_, _, age)| *age).collect();
            ages.sort_unstable();
            for (made, raw) in all.iter().zip(&backups) {
                let age = raw.2;
                // The two policies, implemented a second time.
                let newer = ages.iter().filter(|other| **other < age).count();
                let among_newest = newer + ages.iter().filter(|other| **other == age).count() <= keep_backups;
                let in_window = keep_days.is_some_and(|days| age < i32::try_from(days).unwrap());
                let stays = kept.iter().any(|kept| kept.state == *made);
                prop_assert!(stays || !(among_newest || in_window));
                if stays {
                    for name in needed(&branches, *raw) {
                        prop_assert!(!oldest_kept.is_after(name), "{name} is needed by {made:?}");
                    }
                }
            }
            if let Some(days) = keep_days {
                let begin = i32::try_from(days).unwrap();
                let before = ages.iter().filter(|age| **age >= begin).min();
                let covered = |age: &i32| kept.iter().any(|kept| kept.state.backup.ended == now() - DAY * *age);
                prop_assert!(before.is_none_or(covered), "the window's first moments can be recovered");
            }
        }
    }

    #[test]
    fn the_model_itself_finds_what_is_needed() {
        let branches = [Branch { parent: None, from: 1, to: 9 }, Branch { parent: Some(0), from: 4, to: 6 }];
        let texts = |names: Vec<WalName>| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
        let segments = |timeline, range: std::ops::RangeInclusive<u64>| -> Vec<String> {
            range.map(|segment| name(timeline, segment).to_string()).collect()
        };
        let both = texts(needed(&branches, (0, 3, 0)));
        assert_eq!(both, [segments(1, 3..=9), segments(2, 4..=6), segments(1, 3..=4)].concat());
        assert_eq!(texts(needed(&branches, (0, 5, 0))), segments(1, 5..=9), "the second one left before it");
    }
}
