//! The retention policies and their combination: a file stays if any policy keeps it.

use jiff::{SignedDuration, Timestamp};

use super::backups::{by_backups, is_found, newest_first};
use super::branches::Branches;
use super::{
    BackupPolicy, Before, BranchEnd, BranchPolicy, Doubt, GivenUp, KeptBackup, OldestKept, Why, by_age,
    is_future,
};
use crate::coverage::BackupState;
use crate::wal::{Lsn, SegmentName, SegmentSize};

/// A retention policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Retention by base backups.
    pub backups: BackupPolicy,
    /// Retention by age in days, for archives whose base backups are unknown.
    pub wal_days: Option<u32>,
    /// Retention from a named segment on.
    pub before: Option<Before>,
    /// Maximum duration of a base backup. Files archived within that time stay, because a backup that has not ended
    /// may need them, and nothing is known of it before its end.
    pub backup_may_take: SignedDuration,
    /// Settings for branches.
    pub branches: BranchPolicy,
    /// Segment from which a standby restarts, if the standby asks for the deletion.
    pub restart_point: Option<SegmentName>,
    /// `true` if the last complete backup may go, and the last one that leads to the newest timeline.
    pub accept_no_backup: bool,
    /// Position that somebody still needs. The segment that contains it and everything after it stay under any
    /// policy.
    pub keep_from: Option<Lsn>,
}

/// Facts that a policy is applied to.
#[derive(Debug, Clone, Copy)]
pub struct PolicyInput<'a> {
    /// Known base backups, with their states.
    pub backups: &'a [BackupState],
    /// Archived segments with the times of archiving.
    pub segments: &'a [(SegmentName, Timestamp)],
    /// Ends of the branches.
    pub ends: &'a [BranchEnd],
    /// Archiving time of the newest file.
    pub newest: Option<Timestamp>,
    /// Current time.
    pub now: Timestamp,
    /// Segment size of the cluster.
    pub size: SegmentSize,
}

/// Result of applying a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Oldest WAL kept; `None` keeps all.
    pub oldest_kept: Option<OldestKept>,
    /// Base backups that stay, oldest start first.
    pub kept: Vec<KeptBackup>,
    /// Young WAL that stays although no known backup needs it.
    pub young: Option<Young>,
    /// Branches to which no remaining backup leads.
    pub given_up: Vec<GivenUp>,
    /// Branches that were to be given up but stay, because they were written recently.
    pub alive: Vec<GivenUp>,
    /// Reason to delete nothing that the user has overruled.
    pub overruled: Option<Doubt>,
}

/// WAL too young to delete: a base backup in progress may need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Young {
    /// Its first segment.
    pub from: SegmentName,
    /// Archiving time of that segment.
    pub since: Timestamp,
}

impl Policy {
    /// Returns `true` if the policy does not say what to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backups == BackupPolicy::default() && self.wal_days.is_none() && self.before.is_none()
    }
}

/// Applies a policy.
pub fn decide(policy: &Policy, input: PolicyInput<'_>) -> Result<Decision, Doubt> {
    let PolicyInput { backups, segments, ends, newest, now, size } = input;
    if let Some(since) = newest.filter(|newest| is_future(*newest, now)) {
        return Err(Doubt::FromTheFuture { what: "the newest file".to_owned(), since });
    }
    // Redundancy does not depend on time, and keeps the window as well.
    let goes_by_time = policy.backups.keep_backups.is_none();
    let days = policy.backups.keep_days.or(policy.wal_days).filter(|_| goes_by_time);
    if let (Some(newest), Some(days)) = (newest, days) {
        let window = SignedDuration::from_hours(24) * i32::try_from(days.max(1)).unwrap_or(i32::MAX);
        if now.duration_since(newest) > window {
            return Err(Doubt::NothingNew { newest, days });
        }
    }
    let mut candidates = Vec::new();
    let mut kept = Vec::new();
    if policy.backups != BackupPolicy::default() || backups.iter().any(is_found) {
        kept = by_backups(policy, input)?;
        candidates.push(kept.iter().map(|kept| OldestKept::from(kept.state.backup.start())).min());
    }
    if let Some(days) = policy.wal_days {
        let counting = backups.iter().filter(|state| state.backup.counts).count();
        if counting > 0 {
            return Err(Doubt::HasBackups(counting));
        }
        candidates.push(by_age(segments.iter().copied(), days, now)?);
    }
    let mut young = None;
    if let Some(oldest_kept) = candidates.iter().copied().min().flatten() {
        young = youngest_part(segments, policy.backup_may_take, now)
            .filter(|young| OldestKept::from(young.from) < oldest_kept);
        candidates.extend(young.map(|young| Some(OldestKept::from(young.from))));
    }
    look_at_before(policy, segments)?;
    match policy.before {
        Some(Before::Segment(segment)) => candidates.push(Some(OldestKept::from(segment))),
        Some(Before::Nothing) => candidates.push(None),
        None => {}
    }
    // The minimum keeps most; `None` keeps all and sorts first.
    let oldest_kept = candidates.into_iter().min().flatten();
    let needed = policy.keep_from.map(|from| OldestKept::at(from, size));
    let oldest_kept =
        oldest_kept.map(|oldest_kept| needed.map_or(oldest_kept, |needed| needed.min(oldest_kept)));
    let mut decision = Decision { oldest_kept, kept, young, ..Decision::default() };
    let Some(oldest_kept) = oldest_kept else { return Ok(decision) };
    if let Some(doubt) = taken(policy, input, oldest_kept) {
        if !policy.accept_no_backup && !policy.is_of_a_standby() {
            return Err(doubt);
        }
        decision.overruled = Some(doubt);
    }
    if !decision.kept.is_empty() {
        add_others(&mut decision.kept, backups, oldest_kept);
    }
    let remaining = |state: &BackupState| OldestKept::from(state.backup.start()) >= oldest_kept;
    let complete = newest_first(backups);
    // Applies to every branch, whatever its settings.
    let is_cut_off = |end: &&BranchEnd| {
        let leading = || complete.iter().filter(|state| state.leads_to(end.timeline));
        leading().next().is_some() && !leading().any(|state| remaining(state))
    };
    let given_up = ends.iter().filter(is_cut_off);
    decision.given_up = given_up.map(|end| GivenUp { timeline: end.timeline, since: end.since }).collect();
    let alive = policy.branches(input).given_up_and_alive();
    decision.alive = alive.map(|end| GivenUp { timeline: end.timeline, since: end.since }).collect();
    Ok(decision)
}

impl Policy {
    /// Returns the ends of the branches, with the settings that decide which are wanted.
    pub(super) fn branches<'a>(&'a self, input: PolicyInput<'a>) -> Branches<'a> {
        let PolicyInput { ends, now, .. } = input;
        Branches { policy: &self.branches, ends, now, young: self.backup_may_take }
    }

    /// Returns `true` if only WAL goes that the standby which asks no longer needs.
    fn is_of_a_standby(&self) -> bool {
        match (self.before, self.restart_point) {
            (Some(Before::Segment(before)), Some(restart)) => {
                OldestKept::from(before) <= OldestKept::from(restart)
            }
            _ => false,
        }
    }
}

/// Refuses a name after the end of the WAL: it is probably mistyped. A standby may be ahead of the archive.
fn look_at_before(policy: &Policy, segments: &[(SegmentName, Timestamp)]) -> Result<(), Doubt> {
    let Some(Before::Segment(before)) = policy.before else { return Ok(()) };
    let last = segments.iter().map(|(segment, _)| *segment).max_by_key(|segment| segment.order());
    match last {
        Some(last) if OldestKept::from(before) > OldestKept::from(last) && !policy.is_of_a_standby() => {
            Err(Doubt::BehindTheEnd { before, last })
        }
        _ => Ok(()),
    }
}

/// Returns the oldest segment archived within `age`. It stays with everything after it.
fn youngest_part(
    segments: &[(SegmentName, Timestamp)],
    age: SignedDuration,
    now: Timestamp,
) -> Option<Young> {
    if age.is_zero() {
        return None;
    }
    let begin = now.checked_sub(age).unwrap_or(Timestamp::MIN);
    let young = segments.iter().filter(|(_, since)| *since > begin);
    let first = young.min_by_key(|(segment, since)| (segment.order(), *since));
    first.map(|(from, since)| Young { from: *from, since: *since })
}

/// Returns the doubt if `oldest_kept` deletes the last complete backup's WAL, or the last that leads to a wanted end.
fn taken(policy: &Policy, input: PolicyInput<'_>, oldest_kept: OldestKept) -> Option<Doubt> {
    let complete = newest_first(input.backups);
    let stays = |state: &BackupState| OldestKept::from(state.backup.start()) >= oldest_kept;
    let newest = complete.first()?;
    if !complete.iter().any(|state| stays(state)) {
        return Some(Doubt::TakesLastBackup { title: newest.backup.title() });
    }
    policy.branches(input).wanted().find_map(|end| {
        let mut leading = complete.iter().filter(|state| state.leads_to(end.timeline));
        let newest = leading.clone().next()?;
        (!leading.any(|state| stays(state)))
            .then(|| Doubt::TakesWay { title: newest.backup.title(), to: end.timeline })
    })
}

/// Adds the backups that can stay because all WAL that they need stays.
fn add_others(kept: &mut Vec<KeptBackup>, backups: &[BackupState], oldest_kept: OldestKept) {
    for state in backups {
        let stays = OldestKept::from(state.backup.start()) >= oldest_kept;
        if stays && !kept.iter().any(|kept| kept.state == *state) {
            kept.push(KeptBackup { state: state.clone(), why: vec![Why::AfterOldestKept] });
        }
    }
    kept.sort_by_key(|kept| (kept.state.backup.start().order(), kept.state.backup.ended));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Reach;
    use crate::wal::TimelineId;
    use std::num::NonZeroUsize;

    fn name(text: &str) -> SegmentName {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn days_ago(days: i32) -> Timestamp {
        now() - SignedDuration::from_hours(24) * days
    }

    fn backup(start: &str, ago: i32) -> BackupState {
        super::super::tests::backup(name(start), days_ago(ago))
    }

    fn decided(policy: &Policy, backups: &[BackupState], newest: i32) -> Result<Option<OldestKept>, Doubt> {
        let segments = [
            (name("000000010000000000000001"), days_ago(9)),
            (name("000000010000000000000009"), days_ago(1)),
        ];
        let newest = Some(days_ago(newest));
        let input = PolicyInput {
            backups,
            segments: &segments,
            ends: &[],
            newest,
            now: now(),
            size: SegmentSize::DEFAULT,
        };
        decide(policy, input).map(|decision| decision.oldest_kept)
    }

    #[test]
    fn a_file_stays_if_any_policy_keeps_it() {
        let backups = [backup("000000010000000000000003", 5), backup("000000010000000000000006", 2)];
        let one = BackupPolicy { keep_backups: NonZeroUsize::new(1), keep_days: None };
        let before = |text: &str| Some(text.parse::<Before>().unwrap());
        let oldest_kept = |text| Ok(Some(OldestKept::from(name(text))));
        let policy = Policy { backups: one, before: before("000000010000000000000009"), ..Policy::default() };
        assert_eq!(decided(&policy, &backups, 0), oldest_kept("000000010000000000000006"));
        let policy = Policy { before: before("000000010000000000000004"), ..policy };
        assert_eq!(decided(&policy, &backups, 0), oldest_kept("000000010000000000000004"));
        let policy = Policy { before: Some(Before::Nothing), ..policy };
        assert_eq!(decided(&policy, &backups, 0), Ok(None));
        let alone = Policy { before: before("000000010000000000000006"), ..Policy::default() };
        assert_eq!(
            decided(&alone, &backups, 99),
            oldest_kept("000000010000000000000006"),
            "whatever the time"
        );
        assert_eq!(decided(&Policy::default(), &[], 0), Ok(None));
        assert!(Policy::default().is_empty() && !alone.is_empty());
    }

    /// Builds a backup that leads to these timelines, to their ends.
    fn leading(start: &str, ago: i32, to: &[u32]) -> BackupState {
        let timelines = to.iter().map(|number| TimelineId::new(*number).unwrap());
        let reaches = timelines.map(|timeline| Reach { timeline, last: None, to_the_end: true }).collect();
        BackupState { reaches, ..backup(start, ago) }
    }

    fn end(timeline: u32, ago: i32) -> BranchEnd {
        BranchEnd { timeline: TimelineId::new(timeline).unwrap(), since: days_ago(ago), way_is_known: true }
    }

    fn decision(policy: &Policy, backups: &[BackupState], ends: &[BranchEnd]) -> Result<Decision, Doubt> {
        let segments = [
            (name("000000010000000000000001"), days_ago(30)),
            (name("000000010000000000000009"), days_ago(2)),
        ];
        let newest = Some(days_ago(0));
        decide(
            policy,
            PolicyInput {
                backups,
                segments: &segments,
                ends,
                newest,
                now: now(),
                size: SegmentSize::DEFAULT,
            },
        )
    }

    #[test]
    fn a_file_named_as_the_oldest_kept_spares_the_last_backup_and_lies_within_the_wal() {
        let backups =
            [leading("000000010000000000000003", 5, &[1, 2]), leading("000000010000000000000006", 2, &[1])];
        let ends = [end(1, 2), end(2, 0)];
        let before = |text: &str| Policy { before: Some(text.parse().unwrap()), ..Policy::default() };
        let refused = |policy: &Policy| decision(policy, &backups, &ends).unwrap_err();
        assert!(matches!(refused(&before("000000010000000000000009")), Doubt::TakesLastBackup { .. }));
        assert!(matches!(refused(&before("000000010000000000000004")), Doubt::TakesWay { .. }));
        assert!(matches!(refused(&before("00000001000000000000000A")), Doubt::BehindTheEnd { .. }));
        assert!(decision(&before("000000010000000000000003"), &backups, &ends).unwrap().overruled.is_none());
        // WAL that a standby no longer needs may go, even after the end of the archive, and so may WAL that the user
        // overrules.
        let standby =
            |text: &str, restart: &str| Policy { restart_point: Some(name(restart)), ..before(text) };
        let far = standby("00000001000000000000000A", "00000001000000000000000A");
        let decided = decision(&far, &backups, &ends).unwrap();
        assert_eq!(decided.oldest_kept, Some(OldestKept::from(name("00000001000000000000000A"))));
        assert!(matches!(decided.overruled, Some(Doubt::TakesLastBackup { .. })));
        let not_its = standby("00000001000000000000000A", "000000010000000000000009");
        assert!(matches!(refused(&not_its), Doubt::BehindTheEnd { .. }));
        let accepted = Policy { accept_no_backup: true, ..before("000000010000000000000009") };
        assert!(decision(&accepted, &backups, &ends).unwrap().overruled.is_some());
        let accepted = Policy { accept_no_backup: true, ..before("00000001000000000000000A") };
        assert!(
            matches!(refused(&accepted), Doubt::BehindTheEnd { .. }),
            "a slip of the pen is one all the same"
        );
    }

    #[test]
    fn young_wal_stays_for_a_backup_in_progress() {
        let backups = [backup("000000010000000000000003", 5), backup("00000001000000000000000B", 1)];
        let one = BackupPolicy { keep_backups: NonZeroUsize::new(1), keep_days: None };
        let with = |hours| Policy {
            backups: one,
            backup_may_take: SignedDuration::from_hours(hours),
            ..Policy::default()
        };
        let old = decision(&with(48), &backups, &[]).unwrap();
        assert_eq!(
            (old.oldest_kept, old.young),
            (Some(OldestKept::from(name("00000001000000000000000B"))), None)
        );
        let young = decision(&with(49), &backups, &[]).unwrap();
        let from = name("000000010000000000000009");
        assert_eq!(young.oldest_kept, Some(OldestKept::from(from)));
        assert_eq!(young.young, Some(Young { from, since: days_ago(2) }));
        let before = Policy { before: Some("000000010000000000000009".parse().unwrap()), ..with(999) };
        let by_name = Policy { backups: BackupPolicy::default(), accept_no_backup: true, ..before };
        assert_eq!(decision(&by_name, &backups, &[]).unwrap().young, None, "a name is no policy");
    }

    #[test]
    fn a_given_up_branch_is_named_once_no_backup_leads_there() {
        let backups =
            [leading("000000010000000000000003", 25, &[1, 2]), leading("000000020000000000000006", 2, &[2])];
        let ends = [end(1, 20), end(2, 0)];
        let one = BackupPolicy { keep_backups: NonZeroUsize::new(1), keep_days: None };
        let policy = Policy { backups: one, ..Policy::default() };
        let decided = decision(&policy, &backups, &ends).unwrap();
        assert_eq!(decided.given_up, [GivenUp { timeline: ends[0].timeline, since: days_ago(20) }]);
        let held = BranchPolicy { held: vec![ends[0].timeline], ..BranchPolicy::default() };
        let held = decision(&Policy { branches: held, ..policy }, &backups, &ends).unwrap();
        assert_eq!((held.kept.len(), held.given_up.len()), (2, 0));
        assert_eq!(held.kept[0].why, [Why::OnlyWay(ends[0].timeline)]);
    }

    #[test]
    fn a_needed_position_limits_every_policy_and_is_no_policy_itself() {
        let from = |text: &str| Some(text.parse::<Lsn>().unwrap());
        let oldest_kept = |text| Ok(Some(OldestKept::from(name(text))));
        let backups = [backup("000000010000000000000006", 2)];
        let one = BackupPolicy { keep_backups: NonZeroUsize::new(1), keep_days: None };
        // A name that takes the last backup is a separate case.
        let before = Some("000000010000000000000006".parse().unwrap());
        for policy in [
            Policy { backups: one, ..Policy::default() },
            Policy { before, ..Policy::default() },
            Policy { backups: one, before, ..Policy::default() },
        ] {
            // From the first byte of a segment to its last.
            for needed in ["0/3000000", "0/3000028", "0/3FFFFFF"] {
                let policy = Policy { keep_from: from(needed), ..policy.clone() };
                assert_eq!(
                    decided(&policy, &backups, 0),
                    oldest_kept("000000010000000000000003"),
                    "{needed}"
                );
            }
            let policy_alone = decided(&policy, &backups, 0);
            let ahead = Policy { keep_from: from("0/A000000"), ..policy.clone() };
            assert_eq!(decided(&ahead, &backups, 0), policy_alone, "it takes nothing that others keep");
        }
        let by_age = Policy { wal_days: Some(7), keep_from: from("0/2000000"), ..Policy::default() };
        assert_eq!(decided(&by_age, &[], 1), oldest_kept("000000010000000000000002"));
        let all = Policy { before: Some(Before::Nothing), keep_from: from("0/9000000"), ..Policy::default() };
        assert_eq!(decided(&all, &[], 1), Ok(None));
        let alone = Policy { keep_from: from("0/9000000"), ..Policy::default() };
        assert_eq!((decided(&alone, &[], 1), alone.is_empty()), (Ok(None), true), "nothing says what may go");
        // Above the first 4 GiB, and in the largest segments.
        let (position, size) = ("16/C0000028".parse().unwrap(), SegmentSize::MAX);
        assert_eq!(OldestKept::at(position, size), OldestKept::from(name("000000010000001600000003")));
    }

    #[test]
    fn a_limit_by_age_is_for_archives_without_backups() {
        let policy = Policy { wal_days: Some(7), ..Policy::default() };
        assert_eq!(decided(&policy, &[], 1), Ok(Some(OldestKept::from(name("000000010000000000000009")))));
        let backups = [backup("000000010000000000000003", 5)];
        assert_eq!(decided(&policy, &backups, 1), Err(Doubt::HasBackups(1)));
    }

    #[test]
    fn impossible_times_delete_nothing() {
        let before = Some("000000010000000000000009".parse().unwrap());
        let policy = Policy { before, ..Policy::default() };
        assert!(matches!(decided(&policy, &[], -1), Err(Doubt::FromTheFuture { .. })));
        let backups = [backup("000000010000000000000003", 30)];
        let window = BackupPolicy { keep_backups: None, keep_days: Some(7) };
        let policy = Policy { backups: window, ..Policy::default() };
        assert!(decided(&policy, &backups, 7).is_ok());
        assert!(matches!(decided(&policy, &backups, 8), Err(Doubt::NothingNew { days: 7, .. })));
        let policy = Policy { wal_days: Some(7), ..Policy::default() };
        assert!(matches!(decided(&policy, &[], 8), Err(Doubt::NothingNew { .. })));
    }
}
