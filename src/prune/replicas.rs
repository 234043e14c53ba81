//! Base backups that may have been taken only to create replicas. Their history files look like any others, so they
//! count for redundancy in place of backups that somebody keeps.

use jiff::SignedDuration;

use crate::coverage::{BackupState, BaseBackup};
use crate::retention::{KeptBackup, Why};

/// Default label of `pg_basebackup`.
const DEFAULT_LABEL: &str = "pg_basebackup base backup";

/// Longest interval between suspects. Base backups that somebody keeps are further apart.
const SOON: SignedDuration = SignedDuration::from_mins(10);

/// Returns the names of backups that may be of replicas: several that ended shortly after each other, and unlabeled
/// ones next to others. A backup found in a directory is no suspect. Neither is a single backup: it displaces no other.
pub(super) fn suspects(states: &[BackupState]) -> Vec<String> {
    let complete: Vec<&BaseBackup> =
        states.iter().filter(|state| state.complete).map(|state| &state.backup).collect();
    let is_soon = |one: &BaseBackup, other: &BaseBackup| one.ended.duration_since(other.ended).abs() <= SOON;
    let is_suspect = |index: usize, backup: &BaseBackup| {
        let mut others = complete.iter().enumerate().filter(|(other, _)| *other != index).peekable();
        let is_default = backup.label.as_deref() == Some(DEFAULT_LABEL) && others.peek().is_some();
        backup.known_from.directory().is_none()
            && (is_default || others.any(|(_, other)| is_soon(backup, other)))
    };
    let suspects = complete.iter().enumerate().filter(|(index, backup)| is_suspect(*index, backup));
    suspects.map(|(_, backup)| backup.title()).collect()
}

/// Returns the suspects that count for redundancy.
pub(super) fn counted(kept: &[KeptBackup], suspects: &[String]) -> Vec<String> {
    let is_counted = |kept: &&KeptBackup| kept.why.iter().any(|why| matches!(why, Why::Redundancy { .. }));
    let titles = kept.iter().filter(is_counted).map(|kept| kept.state.backup.title());
    titles.filter(|title| suspects.contains(title)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::coverage::Coverage;
    use crate::scene::base_backup;
    use crate::wal::{Lsn, SegmentName, SegmentSize, WalName};

    const BEGIN: &str = "2026-01-02T03:00:00Z";

    fn segment(number: u64) -> SegmentName {
        SegmentName::from_number(crate::wal::TimelineId::FIRST, number, SegmentSize::DEFAULT).unwrap()
    }

    /// Creates backups with these labels, that many minutes apart.
    fn suspected(backups: &[(&str, i64)]) -> Vec<u64> {
        let begin: Timestamp = BEGIN.parse().unwrap();
        let coverage = Coverage::new(
            SegmentSize::DEFAULT,
            (1..=20).map(|number| WalName::Segment(segment(number))),
            BTreeMap::new(),
        );
        let state = |(number, (label, minutes)): (u64, &(&str, i64))| {
            let ended = begin + SignedDuration::from_mins(*minutes);
            let backup = BaseBackup { ended, ..base_backup(label, segment(number), Lsn(0)) };
            BackupState::of(backup, &coverage)
        };
        let states: Vec<BackupState> = (1..).zip(backups).map(state).collect();
        let found = suspects(&states);
        let is_found = |state: &&BackupState| found.contains(&state.backup.title());
        states.iter().filter(is_found).map(|state| state.backup.origin(&coverage).start).collect()
    }

    #[test]
    fn nightly_backups_with_one_label_are_not_suspected() {
        assert_eq!(suspected(&[("nightly", 0), ("nightly", 1440), ("nightly", 2880)]), [0; 0]);
    }

    #[test]
    fn unlabeled_backups_are_suspected_next_to_others() {
        assert_eq!(suspected(&[(DEFAULT_LABEL, 0)]), [0; 0], "one alone takes nobody's place");
        assert_eq!(suspected(&[("nightly", 0), (DEFAULT_LABEL, 300), ("nightly", 1440)]), [2]);
        assert_eq!(suspected(&[(DEFAULT_LABEL, 0), (DEFAULT_LABEL, 1440)]), [1, 2]);
    }

    #[test]
    fn backups_that_ended_shortly_after_each_other_are_suspected() {
        assert_eq!(suspected(&[("nightly", 0), ("a", 600), ("b", 609), ("nightly", 1440)]), [2, 3]);
        assert_eq!(suspected(&[("a", 600), ("b", 611)]), [0; 0]);
    }

    #[test]
    fn a_backup_that_lacks_wal_is_not_suspected() {
        // There are twenty segments.
        let mut many = vec![("weekly", -1_000_000); 20];
        many.push((DEFAULT_LABEL, 5_000));
        assert!(!suspected(&many).contains(&21));
    }
}
