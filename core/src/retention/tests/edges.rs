//! Tests of the edges of retention: exact moments, and base backups that lack WAL or do not count.

use std::num::NonZeroUsize;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::coverage::Reach;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn id(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn segment(timeline: u32, number: u8) -> SegmentName {
    format!("{timeline:08X}00000000000000{number:02X}").parse().unwrap()
}

/// Builds a complete backup that counts, ended that many days ago, and leads to the ends of these timelines.
fn backup(timeline: u32, number: u8, days_ago: i32, to: &[u32]) -> BackupState {
    let reach = |number: &u32| Reach { timeline: id(*number), last: None, to_the_end: true };
    let state = super::backup(segment(timeline, number), now() - DAY * days_ago);
    BackupState { reaches: to.iter().map(reach).collect(), ..state }
}

/// Changes whether somebody keeps a backup, and whether its files were found.
fn kept(mut state: BackupState, counts: bool, found: bool) -> BackupState {
    state.backup.counts = counts;
    if found {
        state.backup.known_from = KnownFrom::Directory("/mnt/backup".into());
    }
    state
}

fn end(timeline: u32) -> BranchEnd {
    BranchEnd { timeline: id(timeline), since: now(), way_is_known: true }
}

fn newest(keep_backups: usize) -> Policy {
    let backups = BackupPolicy { keep_backups: NonZeroUsize::new(keep_backups), keep_days: None };
    Policy { backups, ..Policy::default() }
}

fn window(days: u32) -> Policy {
    let backups = BackupPolicy { keep_backups: None, keep_days: Some(days) };
    Policy { backups, ..Policy::default() }
}

fn decided(
    policy: &Policy,
    backups: &[BackupState],
    segments: &[(SegmentName, Timestamp)],
    ends: &[BranchEnd],
) -> Result<Decision, Doubt> {
    let newest = segments.iter().map(|(_, since)| *since).max();
    decide(policy, PolicyInput { backups, segments, ends, newest, now: now(), size: SegmentSize::DEFAULT })
}

#[test]
fn clocks_may_differ_by_ten_minutes() {
    let ten = now() + SignedDuration::from_mins(10);
    assert!(!is_future(ten, now()));
    assert!(is_future(ten + SignedDuration::from_nanos(1), now()));
}

#[test]
fn a_backup_that_is_the_only_way_to_several_ends_says_so_for_each() {
    let backups = [backup(1, 1, 9, &[1, 2, 3]), backup(1, 5, 1, &[1])];
    let decision = decided(&newest(1), &backups, &[], &[end(1), end(2), end(3)]).unwrap();
    assert_eq!(decision.kept[0].why, [Why::OnlyWay(id(2)), Why::OnlyWay(id(3))]);
    assert_eq!(decision.kept[1].why, [Why::Redundancy { rank: 1, of: 1 }]);
}

#[test]
fn files_of_backups_that_lack_wal_or_do_not_count_are_no_backup_to_keep() {
    let lacking = BackupState { complete: false, ..kept(backup(1, 1, 9, &[1]), true, true) };
    let copy = kept(backup(1, 2, 8, &[1]), false, true);
    let doubt = |backups: &[BackupState]| decided(&newest(1), backups, &[], &[end(1)]).unwrap_err();
    assert_eq!(doubt(std::slice::from_ref(&lacking)), Doubt::NoBackup { incomplete: 1 });
    assert_eq!(doubt(std::slice::from_ref(&copy)), Doubt::NoBackup { incomplete: 0 });
    let neither = kept(lacking.clone(), false, true);
    assert_eq!(doubt(&[lacking, copy, neither]), Doubt::NoBackup { incomplete: 1 });
}

#[test]
fn a_copy_that_lacks_wal_leads_nowhere() {
    let copy = BackupState { complete: false, ..kept(backup(1, 1, 9, &[1, 2]), false, false) };
    let decision = decided(&newest(1), &[copy, backup(1, 5, 1, &[1])], &[], &[end(1), end(2)]).unwrap();
    assert_eq!(decision.oldest_kept, Some(OldestKept::from(segment(1, 5))));
}

#[test]
fn a_backup_that_ended_on_the_next_timeline_does_not_lead_to_the_end_of_its_own() {
    let backups = [backup(3, 1, 1, &[4])];
    let unknown = |timeline| BranchEnd { way_is_known: false, ..end(timeline) };
    assert!(decided(&newest(1), &backups, &[], &[unknown(3), end(4)]).is_ok());
    let doubt = decided(&newest(1), &backups, &[], &[end(4), unknown(5)]).unwrap_err();
    assert_eq!(doubt, Doubt::UnknownWay(id(5)));
}

#[test]
fn what_was_archived_as_the_window_begins_was_not_written_within_it() {
    let backups = [backup(1, 1, 20, &[1, 2]), backup(1, 5, 9, &[1])];
    let oldest_kept = |since| {
        let segments = [(segment(1, 6), now()), (segment(2, 3), since)];
        decided(&window(7), &backups, &segments, &[]).unwrap().oldest_kept
    };
    let begin = now() - DAY * 7;
    assert_eq!(oldest_kept(begin), Some(OldestKept::from(segment(1, 5))));
    assert_eq!(oldest_kept(begin + SignedDuration::from_nanos(1)), Some(OldestKept::from(segment(1, 1))));
}

#[test]
fn young_wal_with_which_a_kept_backup_begins_stays_for_that_backup() {
    let long = Policy { backup_may_take: DAY, ..newest(1) };
    let segments = [(segment(1, 5), now())];
    let young = |number| decided(&long, &[backup(1, number, 0, &[1])], &segments, &[]).unwrap().young;
    assert_eq!(young(5), None);
    assert_eq!(young(6), Some(Young { from: segment(1, 5), since: now() }));
}
