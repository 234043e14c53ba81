//! Which policies there are, and what they come to together: what any of them keeps stays.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use super::{Backup, BackupPolicy, Boundary, Doubt, KeptBackup, by_age, by_backups, is_future};
use crate::wal::{NameError, SegmentName, WalName};

/// What is to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// What base backups need.
    pub backups: BackupPolicy,
    /// Where no base backups are known: what was archived within so many days.
    pub wal_days: Option<u32>,
    /// All from a segment on.
    pub before: Option<Before>,
}

/// Where `--before` puts the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// At the start of that segment.
    Segment(SegmentName),
    /// Nowhere: nothing is deleted.
    Nothing,
}

/// What a standby's `%r` is as long as it needs all of the log.
const ALL_OF_IT: &str = "000000000000000000000000";

/// The text names no segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeforeError {
    /// It is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Timeline history files have no place in the log.
    #[error("{0} has no place in the log; name a segment, a .partial or a .backup file")]
    History(WalName),
}

impl FromStr for Before {
    type Err = BeforeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == ALL_OF_IT {
            return Ok(Self::Nothing);
        }
        match text.parse()? {
            WalName::Segment(segment) | WalName::Partial(segment) | WalName::Backup { segment, .. } => {
                Ok(Self::Segment(segment))
            }
            name @ WalName::History(_) => Err(BeforeError::History(name)),
        }
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Nothing => f.write_str(ALL_OF_IT),
        }
    }
}

/// What a policy is applied to.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The base backups that are known.
    pub backups: &'a [Backup],
    /// The segments in the archive, and since when they are there.
    pub segments: &'a [(SegmentName, Timestamp)],
    /// Since when the newest file of all is there.
    pub newest: Option<Timestamp>,
    /// This moment.
    pub now: Timestamp,
}

/// What a policy comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where the log may begin; none if all of it stays.
    pub boundary: Option<Boundary>,
    /// The base backups that stay, oldest start first.
    pub kept: Vec<KeptBackup>,
}

impl Policy {
    /// Whether it says nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Applies a policy.
pub fn decide(policy: Policy, facts: Facts<'_>) -> Result<Decision, Doubt> {
    let Facts { backups, segments, newest, now } = facts;
    if let Some(since) = newest.filter(|newest| is_future(*newest, now)) {
        return Err(Doubt::FromTheFuture { what: "the newest file".to_owned(), since });
    }
    let days = policy.backups.keep_days.or(policy.wal_days);
    if let (Some(newest), Some(days)) = (newest, days) {
        let window = SignedDuration::from_hours(24) * i32::try_from(days.max(1)).unwrap_or(i32::MAX);
        if now.duration_since(newest) > window {
            return Err(Doubt::NothingNew { newest, days });
        }
    }
    let mut boundaries = Vec::new();
    let mut kept = Vec::new();
    if policy.backups != BackupPolicy::default() || backups.iter().any(|backup| backup.found) {
        let (boundary, by_policy) = by_backups(backups, policy.backups, segments, now)?;
        boundaries.push(Some(boundary));
        kept = by_policy;
    }
    if let Some(days) = policy.wal_days {
        if !backups.is_empty() {
            return Err(Doubt::HasBackups(backups.len()));
        }
        boundaries.push(by_age(segments.iter().copied(), days, now)?);
    }
    match policy.before {
        Some(Before::Segment(segment)) => boundaries.push(Some(Boundary::from(segment))),
        Some(Before::Nothing) => boundaries.push(None),
        None => {}
    }
    // The one that keeps most; "all of it" keeps more than any.
    let boundary = boundaries.into_iter().min().flatten();
    Ok(Decision { boundary, kept })
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn backup(start: &str, ago: i32) -> Backup {
        let title = String::new();
        Backup {
            start: name(start),
            ended: days_ago(ago),
            complete: true,
            found: false,
            leads_to: Vec::new(),
            title,
        }
    }

    fn decided(policy: Policy, backups: &[Backup], newest: i32) -> Result<Option<Boundary>, Doubt> {
        let segments = [
            (name("000000010000000000000001"), days_ago(9)),
            (name("000000010000000000000009"), days_ago(1)),
        ];
        let facts = Facts { backups, segments: &segments, newest: Some(days_ago(newest)), now: now() };
        decide(policy, facts).map(|decision| decision.boundary)
    }

    #[test]
    fn a_boundary_is_named_by_anything_that_has_a_place_in_the_log() {
        let segment = Before::Segment(name("00000001000000000000000A"));
        for text in [
            "00000001000000000000000A",
            "00000001000000000000000A.partial",
            "00000001000000000000000A.00000028.backup",
        ] {
            assert_eq!(text.parse(), Ok(segment), "{text}");
        }
        assert_eq!("000000000000000000000000".parse(), Ok(Before::Nothing));
        assert!(matches!("00000002.history".parse::<Before>(), Err(BeforeError::History(_))));
        for text in ["", "0", "000000000000000000000001", "00000001000000000000000A.gz"] {
            assert!(matches!(text.parse::<Before>(), Err(BeforeError::Name(_))), "{text}");
        }
    }

    #[test]
    fn what_any_policy_keeps_stays() {
        let backups = [backup("000000010000000000000003", 5), backup("000000010000000000000006", 2)];
        let one = BackupPolicy { keep_backups: NonZeroUsize::new(1), keep_days: None };
        let before = |text: &str| Some(text.parse::<Before>().unwrap());
        let boundary = |text| Ok(Some(Boundary::from(name(text))));
        let policy = Policy { backups: one, before: before("000000010000000000000009"), wal_days: None };
        assert_eq!(decided(policy, &backups, 0), boundary("000000010000000000000006"));
        let policy = Policy { before: before("000000010000000000000004"), ..policy };
        assert_eq!(decided(policy, &backups, 0), boundary("000000010000000000000004"));
        let policy = Policy { before: Some(Before::Nothing), ..policy };
        assert_eq!(decided(policy, &backups, 0), Ok(None));
        let alone = Policy { before: before("000000010000000000000009"), ..Policy::default() };
        assert_eq!(
            decided(alone, &backups, 99),
            boundary("000000010000000000000009"),
            "whatever the backups"
        );
        assert_eq!(decided(Policy::default(), &[], 0), Ok(None));
        assert!(Policy::default().is_empty() && !alone.is_empty());
    }

    #[test]
    fn a_limit_by_age_is_for_archives_without_backups() {
        let policy = Policy { wal_days: Some(7), ..Policy::default() };
        assert_eq!(decided(policy, &[], 1), Ok(Some(Boundary::from(name("000000010000000000000009")))));
        let backups = [backup("000000010000000000000003", 5)];
        assert_eq!(decided(policy, &backups, 1), Err(Doubt::HasBackups(1)));
    }

    #[test]
    fn times_that_cannot_be_right_delete_nothing() {
        let before = Some("000000010000000000000009".parse().unwrap());
        let policy = Policy { before, ..Policy::default() };
        assert!(matches!(decided(policy, &[], -1), Err(Doubt::FromTheFuture { .. })));
        let backups = [backup("000000010000000000000003", 30)];
        let window = BackupPolicy { keep_backups: None, keep_days: Some(7) };
        let policy = Policy { backups: window, ..Policy::default() };
        assert!(decided(policy, &backups, 7).is_ok());
        assert!(matches!(decided(policy, &backups, 8), Err(Doubt::NothingNew { days: 7, .. })));
        let policy = Policy { wal_days: Some(7), ..Policy::default() };
        assert!(matches!(decided(policy, &[], 8), Err(Doubt::NothingNew { .. })));
    }
}
