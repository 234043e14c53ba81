//! Known base backups, and which of them count: WAL before the oldest one that can be recovered is irrelevant.

use jiff::Timestamp;

use crate::coverage::{BackupState, BaseBackup, Coverage, Origin};
use crate::wal::TimelineId;

/// The complete base backups that somebody keeps, by which the others are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompleteBackups {
    /// Order of the first segment of the oldest one.
    oldest: Option<u64>,
    /// End of the newest one.
    newest: Option<Timestamp>,
}

impl CompleteBackups {
    /// Finds them among all backups.
    #[must_use]
    pub fn among(states: &[BackupState]) -> Self {
        let complete = || states.iter().filter(|state| state.complete && state.backup.counts);
        let oldest = complete().map(|state| state.backup.start().order()).min();
        Self { oldest, newest: complete().map(|state| state.backup.ended).max() }
    }

    /// Returns `true` if somebody keeps the backup, and it is not older than the oldest of these.
    #[must_use]
    pub fn leave_in_use(&self, backup: &BaseBackup) -> bool {
        backup.counts && self.oldest.is_none_or(|oldest| backup.start().order() >= oldest)
    }

    /// Returns `true` if somebody keeps the backup, and none of these ended later, so that it is needed.
    #[must_use]
    pub fn leave_needed(&self, backup: &BaseBackup) -> bool {
        backup.counts && self.newest.is_none_or(|newest| backup.ended > newest)
    }
}

/// Start of recoveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) origin: Origin,
    /// Name of the backup.
    pub(super) title: String,
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
    let complete = CompleteBackups::among(states);
    let in_use = states.iter().map(|state| &state.backup).filter(|backup| complete.leave_in_use(backup));
    in_use
        .map(|backup| Beginning { origin: backup.origin(coverage), title: backup.title_in_words() })
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
