//! Known base backups, and which of them count: WAL before the oldest one that can be recovered is irrelevant.

use jiff::{SignedDuration, Timestamp};

use crate::catalog::KnownBackup;
use crate::coverage::{Coverage, Origin, Reach};
use crate::wal::TimelineId;

/// A base backup with the reach of its recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is an answer of its own, and any may go with any")]
pub struct BackupState {
    /// The backup.
    pub backup: KnownBackup,
    /// `true` if all WAL that makes it consistent is present.
    pub complete: bool,
    /// Reach of its recovery, on each timeline that it can be recovered to.
    pub reaches: Vec<Reach>,
    /// `true` if somebody keeps it, and it is not older than the oldest complete one that somebody keeps.
    pub counts: bool,
    /// `true` if no backup that ended later can be recovered, so that this one is needed.
    pub is_missed: bool,
    /// `true` if it lacks only its last WAL, which may still arrive.
    pub is_arriving: bool,
}

/// Time after the end of a backup during which its last segment may arrive.
const ARCHIVING_MAY_TAKE: SignedDuration = SignedDuration::from_hours(1);

/// Start of recoveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) origin: Origin,
    /// Name of the backup.
    pub(super) title: String,
}

/// Computes the reach of each backup.
pub(super) fn states(backups: Vec<KnownBackup>, coverage: &Coverage, now: Timestamp) -> Vec<BackupState> {
    let complete = |backup: &KnownBackup| backup.is_complete(coverage);
    let whole = || backups.iter().filter(|backup| backup.counts && complete(backup));
    let oldest = whole().map(|backup| backup.start.order()).min();
    let newest = whole().map(|backup| backup.ended).max();
    let is_young = |backup: &KnownBackup| now.duration_since(backup.known_since) < ARCHIVING_MAY_TAKE;
    let state = |backup: KnownBackup| BackupState {
        complete: complete(&backup),
        reaches: coverage.reaches(backup.origin),
        // Nothing is missing up to the end of the archive.
        is_arriving: is_young(&backup)
            && backup.end_is_known
            && !complete(&backup)
            && coverage.missing(backup.origin).is_empty(),
        counts: backup.counts && oldest.is_none_or(|oldest| backup.start.order() >= oldest),
        is_missed: backup.counts && newest.is_none_or(|newest| backup.ended > newest),
        backup,
    };
    backups.into_iter().map(state).collect()
}

/// Returns the starts of recoveries: the backups that count or, if nobody keeps any, the starts of the WAL.
pub(super) fn beginnings(states: &[BackupState], coverage: &Coverage) -> Vec<Beginning> {
    if !states.iter().any(|state| state.backup.counts) {
        let stand_in = |origin: Origin| {
            let title = coverage.name(origin.timeline, origin.start).map_or_else(
                || format!("a backup on timeline {}", origin.timeline),
                |segment| format!("no backup is known, and one from {segment}"),
            );
            Beginning { origin, title }
        };
        return coverage.roots().into_iter().map(stand_in).collect();
    }
    let counting = states.iter().filter(|state| state.counts);
    counting
        .map(|state| Beginning { origin: state.backup.origin, title: state.backup.title_in_words() })
        .collect()
}

/// Segments that recoveries may read, with the backups that need them.
#[derive(Debug, Default)]
pub struct Need(Vec<Stretch>);

#[derive(Debug)]
struct Stretch {
    timeline: TimelineId,
    first: u64,
    last: u64,
    title: String,
}

impl Need {
    pub(super) fn of(beginnings: &[Beginning], coverage: &Coverage) -> Self {
        let stretches = beginnings.iter().flat_map(|beginning| {
            coverage.stretches(beginning.origin).into_iter().map(|(timeline, numbers)| Stretch {
                timeline,
                first: *numbers.start(),
                last: *numbers.end(),
                title: beginning.title.clone(),
            })
        });
        Self(stretches.collect())
    }

    /// Returns the name of a backup whose recovery reads the segment, if any.
    #[must_use]
    pub fn reader(&self, timeline: TimelineId, number: u64) -> Option<&str> {
        let reads = |stretch: &&Stretch| {
            stretch.timeline == timeline && (stretch.first..=stretch.last).contains(&number)
        };
        // The newest one is most likely to be recovered.
        self.0.iter().rev().find(reads).map(|stretch| stretch.title.as_str())
    }
}
