//! Base backups: what is known of one, and how far an archive recovers it.

use jiff::{SignedDuration, Timestamp};

use super::{Below, Coverage, Origin, Reach};
use crate::wal::{BackupWal, SegmentName, TimelineId, WalName};

/// A base backup, as far as its backup history file and its own files tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBackup {
    /// Source of the knowledge about it.
    pub known_from: KnownFrom,
    /// Label of the backup.
    pub label: Option<String>,
    /// WAL that makes it consistent.
    pub wal: BackupWal,
    /// `true` if its files say that it was taken from a standby, which writes no backup history file.
    pub from_standby: bool,
    /// End of the backup.
    pub ended: Timestamp,
    /// Time since when the backup is known: its backup history file was archived then, which is later if archiving
    /// lags.
    pub known_since: Timestamp,
    /// `true` if somebody keeps it as a base backup: its label counts, or it was found in a directory. `false` for a
    /// copy from which a replica was made.
    pub counts: bool,
    /// The backup on whose files an incremental one builds. Its WAL is not needed for that.
    pub builds_on: Option<Below>,
}

/// Source of the knowledge about a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownFrom {
    /// Its backup history file in the archive.
    History(WalName),
    /// Its files, in this directory, which is a text because nothing opens it by this.
    Directory(String),
    /// Its backup history file and its files.
    Both(WalName, String),
}

impl KnownFrom {
    /// Returns the name of its backup history file, if the archive has it.
    #[must_use]
    pub fn history(&self) -> Option<WalName> {
        match self {
            Self::History(name) | Self::Both(name, _) => Some(*name),
            Self::Directory(_) => None,
        }
    }

    /// Returns the directory that contains it, if it was found in one.
    #[must_use]
    pub fn directory(&self) -> Option<&str> {
        match self {
            Self::Directory(directory) | Self::Both(_, directory) => Some(directory),
            Self::History(_) => None,
        }
    }
}

impl BaseBackup {
    /// Returns the segment in which replay starts.
    #[must_use]
    pub fn start(&self) -> SegmentName {
        self.wal.start_segment
    }

    /// Returns its timeline.
    #[must_use]
    pub fn timeline(&self) -> TimelineId {
        self.wal.start_segment.timeline()
    }

    /// Returns the start of replay, in segments of the coverage's size.
    #[must_use]
    pub fn origin(&self, coverage: &Coverage) -> Origin {
        Origin::of(self.wal, coverage.size())
    }

    /// Returns `true` if the position that replay must reach is known, and all WAL up to there is present.
    #[must_use]
    pub fn is_complete(&self, coverage: &Coverage) -> bool {
        self.wal.end.is_some() && coverage.is_complete(self.origin(coverage))
    }

    /// Returns a name for people: label and first segment, or the directory.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.label, &self.known_from) {
            (Some(label), _) => format!("\"{label}\" from {}", self.start()),
            (None, KnownFrom::Directory(directory)) => format!("the backup in {directory}"),
            (None, KnownFrom::History(_) | KnownFrom::Both(..)) => {
                format!("the backup from {}", self.start())
            }
        }
    }

    /// Returns [`BaseBackup::title`] for the middle of a sentence, on one line whatever the label contains.
    #[must_use]
    pub fn title_in_words(&self) -> String {
        let the = if self.label.is_some() { "the backup " } else { "" };
        format!("{the}{}", self.title()).replace(char::is_control, " ")
    }

    /// Returns the backup history file or the directory by which it can be found.
    #[must_use]
    pub fn file(&self) -> String {
        match &self.known_from {
            KnownFrom::History(name) | KnownFrom::Both(name, _) => name.to_string(),
            KnownFrom::Directory(directory) => directory.clone(),
        }
    }
}

/// A base backup, and how far an archive recovers it. Distinct from [`BaseBackup`], because it needs a list of all
/// segments: who has none, such as `walkeep status`, knows backups without their states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupState {
    /// The backup.
    pub backup: BaseBackup,
    /// `true` if all WAL that makes it consistent is known to be present.
    pub complete: bool,
    /// Reach of its recovery on each timeline that it can be recovered to: its own, and all that descend from it after
    /// the backup.
    pub reaches: Vec<Reach>,
}

/// Time after the end of a backup during which its last segment may arrive.
const ARCHIVING_MAY_TAKE: SignedDuration = SignedDuration::from_hours(1);

impl BackupState {
    /// Determines how far the coverage recovers a backup.
    #[must_use]
    pub fn of(backup: BaseBackup, coverage: &Coverage) -> Self {
        let complete = backup.is_complete(coverage);
        let reaches = coverage.reaches(backup.origin(coverage));
        Self { backup, complete, reaches }
    }

    /// Returns `true` if the backup lacks only its last WAL, which may still arrive.
    #[must_use]
    pub fn is_arriving(&self, coverage: &Coverage, now: Timestamp) -> bool {
        now.duration_since(self.backup.known_since) < ARCHIVING_MAY_TAKE
            && self.backup.wal.end.is_some()
            && !self.complete
            // Nothing is missing up to the end of the archive.
            && coverage.missing(self.backup.origin(coverage)).is_empty()
    }

    /// Returns `true` if the backup can be recovered to the timeline, as far as WAL is present.
    #[must_use]
    pub fn leads_to(&self, timeline: TimelineId) -> bool {
        self.reaches.iter().any(|reach| reach.timeline == timeline)
    }

    /// Returns `true` if no WAL is missing from the backup to the archived end of the timeline.
    #[must_use]
    pub fn reaches_end_of(&self, timeline: TimelineId) -> bool {
        self.reaches.iter().any(|reach| reach.timeline == timeline && reach.to_the_end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::wal::{Lsn, SegmentSize};

    #[test]
    fn what_a_backup_proves_and_the_archive_lacks_is_a_gap_unless_it_may_still_arrive() {
        let held = |numbers: &[u64]| {
            let names =
                numbers.iter().map(|number| format!("00000001000000000000000{number}").parse().unwrap());
            Coverage::new(SegmentSize::DEFAULT, names, BTreeMap::new())
        };
        let backup = |start: u64, end: u64, from_a_file: bool| {
            let segment: SegmentName = format!("00000001000000000000000{start}").parse().unwrap();
            let file = KnownFrom::History(WalName::Backup { segment, offset: 0x28 });
            BaseBackup {
                known_from: if from_a_file { file } else { KnownFrom::Directory("/mnt/backup".into()) },
                label: None,
                wal: BackupWal {
                    start_segment: segment,
                    start: Lsn((start << 24) + 0x28),
                    end: Some((TimelineId::FIRST, Lsn((end << 24) + 0x138))),
                },
                from_standby: false,
                ended: Timestamp::UNIX_EPOCH,
                known_since: Timestamp::UNIX_EPOCH,
                counts: true,
                builds_on: None,
            }
        };
        // How far the backup from segment 2 can be recovered, and whether that is the end.
        let reach = |coverage: &Coverage, backups: &[BaseBackup], now| {
            let known = coverage.knowing(backups, now);
            assert_eq!(known.knowing(backups, now), known, "it can be told again");
            let reach = known.reaches(backup(2, 2, true).origin(&known))[0];
            (reach.last.map(|(_, last)| last), reach.to_the_end)
        };
        let later = [backup(2, 2, true), backup(6, 7, true)];
        let at_once = Timestamp::UNIX_EPOCH;
        for now in [at_once, Timestamp::MAX] {
            assert_eq!(reach(&held(&[2, 3, 4]), &later, now), (Some(4), false));
            assert_eq!(reach(&held(&[2, 3, 4, 5, 6, 7]), &later, now), (Some(7), true));
            assert_eq!(reach(&held(&[2, 3, 4, 5, 6, 7, 8]), &later, now), (Some(8), true));
            assert_eq!(reach(&held(&[2, 3, 4]), &[backup(6, 7, false)], now), (Some(4), true), "no file");
        }
        let all_but_its_last = held(&[2, 3, 4, 5, 6]);
        assert_eq!(reach(&all_but_its_last, &later, at_once), (Some(6), true), "it may arrive");
        assert_eq!(reach(&all_but_its_last, &later, Timestamp::MAX), (Some(6), false));
    }

    #[test]
    fn a_backup_whose_end_nobody_knows_is_not_complete_and_yet_leads_on() {
        let segments = [2, 3].map(|number| format!("00000001000000000000000{number}").parse().unwrap());
        let coverage = Coverage::new(SegmentSize::DEFAULT, segments, BTreeMap::new());
        let wal = |end: Option<u64>| BackupWal {
            start_segment: "000000010000000000000002".parse().unwrap(),
            start: Lsn(0x200_0028),
            end: end.map(|end| (TimelineId::FIRST, Lsn(end))),
        };
        let state = |end| {
            let backup = BaseBackup {
                known_from: KnownFrom::Directory("/mnt/backup".into()),
                label: None,
                wal: wal(end),
                from_standby: false,
                ended: Timestamp::UNIX_EPOCH,
                known_since: Timestamp::UNIX_EPOCH,
                counts: true,
                builds_on: None,
            };
            BackupState::of(backup, &coverage)
        };
        for (end, complete) in [(None, false), (Some(0x300_0138), true), (Some(0x400_0138), false)] {
            let state = state(end);
            assert_eq!(state.complete, complete, "{end:?}");
            assert_eq!(state.backup.title(), "the backup in /mnt/backup");
        }
        let state = state(None);
        assert!(state.leads_to(TimelineId::FIRST) && state.reaches_end_of(TimelineId::FIRST));
        let other = TimelineId::new(2).unwrap();
        assert!(!state.leads_to(other) && !state.reaches_end_of(other));
    }
}
