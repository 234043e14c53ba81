//! The base backups that are known, and which of them count: what lies before the oldest one that can be recovered is
//! history.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::catalog::{ArchivedBackup, BackupElsewhere};
use crate::coverage::{Coverage, Origin, Reach};
use crate::wal::{Lsn, SegmentName, SegmentSize, TimelineId, WalName};

/// A base backup, as far as recovery is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBackup {
    /// The name of its backup history file, if the archive has that.
    pub name: Option<WalName>,
    /// The directory it is in, if it was found in one.
    pub place: Option<PathBuf>,
    /// The label that it was given.
    pub label: Option<String>,
    /// The segment in which its replay starts.
    pub start: SegmentName,
    /// When it had ended.
    pub ended: Timestamp,
    /// Where its replay starts, and what it must reach.
    pub origin: Origin,
}

/// A base backup, and how far it can be recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupState {
    /// The backup.
    pub backup: KnownBackup,
    /// Whether all is there that makes it consistent.
    pub complete: bool,
    /// How far it can be recovered, on each timeline that it can be recovered to.
    pub reaches: Vec<Reach>,
    /// Whether it is not older than the oldest complete one.
    pub counts: bool,
}

/// Where recoveries begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) origin: Origin,
    /// What it is called.
    pub(super) title: String,
}

impl KnownBackup {
    /// All of them, in the order in which they ended.
    #[must_use]
    pub fn all(archived: &[ArchivedBackup], elsewhere: &[BackupElsewhere], size: SegmentSize) -> Vec<Self> {
        let mut all: Vec<Self> = archived
            .iter()
            .map(|backup| Self {
                name: Some(backup.name),
                place: elsewhere
                    .iter()
                    .find(|other| other.is(&backup.history))
                    .map(|other| other.place.clone()),
                label: backup.history.label.clone(),
                start: backup.history.start_segment,
                ended: backup.archived_at,
                origin: backup.origin(size),
            })
            .collect();
        let is_new = |other: &&BackupElsewhere| !archived.iter().any(|backup| other.is(&backup.history));
        all.extend(elsewhere.iter().filter(is_new).map(|other| Self {
            name: None,
            place: Some(other.place.clone()),
            label: None,
            start: other.start,
            ended: other.ended,
            origin: Origin {
                timeline: other.start.timeline(),
                start: other.start.number(size).unwrap_or_default(),
                stop: other.stop.or(other.start.start(size)).unwrap_or(Lsn(0)),
            },
        }));
        all.sort_by_key(|backup| (backup.ended, backup.start));
        all
    }

    /// What people call it. One line, whatever its label holds.
    #[must_use]
    pub fn title(&self) -> String {
        let title = match (&self.label, &self.place) {
            (Some(label), _) => format!("the backup \"{label}\" from {}", self.start),
            (None, Some(place)) => format!("the backup in {}", place.display()),
            (None, None) => format!("the backup from {}", self.start),
        };
        title.replace(char::is_control, " ")
    }

    /// What it is found by: the backup history file, or the directory.
    #[must_use]
    pub fn file(&self) -> String {
        match (self.name, &self.place) {
            (Some(name), _) => name.to_string(),
            (None, place) => place.as_ref().map(|place| place.display().to_string()).unwrap_or_default(),
        }
    }
}

/// How far each can be recovered.
pub(super) fn states(backups: Vec<KnownBackup>, coverage: &Coverage) -> Vec<BackupState> {
    let complete = |backup: &KnownBackup| coverage.is_complete(backup.origin);
    let oldest = backups.iter().filter(|backup| complete(backup)).map(|backup| backup.start.order()).min();
    let state = |backup: KnownBackup| BackupState {
        complete: complete(&backup),
        reaches: coverage.reaches(backup.origin),
        counts: oldest.is_none_or(|oldest| backup.start.order() >= oldest),
        backup,
    };
    backups.into_iter().map(state).collect()
}

/// Where recoveries begin: at the backups that count or, where none is known, where the log does.
pub(super) fn beginnings(states: &[BackupState], coverage: &Coverage) -> Vec<Beginning> {
    if states.is_empty() {
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
    counting.map(|state| Beginning { origin: state.backup.origin, title: state.backup.title() }).collect()
}

/// Which segments recoveries may read, and from which backup.
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

    /// What a recovery that reads the segment begins with, if any does.
    #[must_use]
    pub fn reader(&self, timeline: TimelineId, number: u64) -> Option<&str> {
        let reads = |stretch: &&Stretch| {
            stretch.timeline == timeline && (stretch.first..=stretch.last).contains(&number)
        };
        // The newest one is most likely to be wanted.
        self.0.iter().rev().find(reads).map(|stretch| stretch.title.as_str())
    }
}
