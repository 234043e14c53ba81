//! All known base backups, from the archive and from directories.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::{ArchivedBackup, BackupElsewhere, Labels, Sizes};
use crate::coverage::{Coverage, Origin};
use crate::wal::{SegmentName, WalName};

/// A base backup, as far as recovery is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBackup {
    /// Source of the knowledge about it.
    pub known_from: KnownFrom,
    /// Label of the backup.
    pub label: Option<String>,
    /// Segment in which replay starts.
    pub start: SegmentName,
    /// End of the backup.
    pub ended: Timestamp,
    /// Time since when the backup is known: its backup history file was archived then, which is later if archiving
    /// lags.
    pub known_since: Timestamp,
    /// Start of replay, and the position that it must reach.
    pub origin: Origin,
    /// `true` if the position that replay must reach is known.
    pub end_is_known: bool,
    /// `true` if somebody keeps it as a base backup: its label counts, or it was found in a directory. `false` for a
    /// copy from which a replica was made.
    pub counts: bool,
}

/// Source of the knowledge about a base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownFrom {
    /// Its backup history file in the archive.
    History(WalName),
    /// Its files, in this directory.
    Directory(PathBuf),
    /// Its backup history file and its files.
    Both(WalName, PathBuf),
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
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(directory) | Self::Both(_, directory) => Some(directory),
            Self::History(_) => None,
        }
    }
}

impl KnownBackup {
    /// Returns all backups in order of their ends, except those of another segment size than is archived now.
    #[must_use]
    pub fn all(
        archived: &[ArchivedBackup],
        elsewhere: &[BackupElsewhere],
        labels: &Labels,
        sizes: &Sizes,
    ) -> Vec<Self> {
        let size = sizes.current();
        let of = |(backup, ended): (&ArchivedBackup, Timestamp)| {
            let found = elsewhere.iter().find(|other| other.is(&backup.history));
            Self {
                known_from: match found {
                    None => KnownFrom::History(backup.name),
                    Some(other) => KnownFrom::Both(backup.name, other.directory.clone()),
                },
                label: backup.history.label.clone(),
                start: backup.history.wal.start_segment,
                ended,
                known_since: backup.archived_at,
                origin: Origin::of(backup.history.wal, size),
                end_is_known: backup.history.wal.end.is_some(),
                counts: found.is_some() || labels.admit(backup.history.label.as_deref()),
            }
        };
        let mut all: Vec<Self> = archived
            .iter()
            .zip(ends(archived))
            .filter(|(backup, _)| sizes.is_current(backup.name))
            .map(of)
            .collect();
        let is_new = |other: &&BackupElsewhere| !archived.iter().any(|backup| other.is(&backup.history));
        all.extend(elsewhere.iter().filter(is_new).map(|other| Self {
            known_from: KnownFrom::Directory(other.directory.clone()),
            label: None,
            start: other.wal.start_segment,
            ended: other.ended,
            known_since: other.ended,
            origin: Origin::of(other.wal, size),
            end_is_known: other.wal.end.is_some(),
            counts: true,
        }));
        all.sort_by_key(|backup| (backup.ended, backup.start));
        all
    }

    /// Returns `true` if the archive is known to have all WAL that makes it consistent.
    #[must_use]
    pub fn is_complete(&self, coverage: &Coverage) -> bool {
        self.end_is_known && coverage.is_complete(self.origin)
    }

    /// Returns a name for people: label and first segment, or the directory.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.label, &self.known_from) {
            (Some(label), _) => format!("\"{label}\" from {}", self.start),
            (None, KnownFrom::Directory(directory)) => format!("the backup in {}", directory.display()),
            (None, KnownFrom::History(_) | KnownFrom::Both(..)) => format!("the backup from {}", self.start),
        }
    }

    /// Returns [`KnownBackup::title`] for the middle of a sentence, on one line whatever the label contains.
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
            KnownFrom::Directory(directory) => directory.display().to_string(),
        }
    }
}

/// Difference between two clocks that is tolerated.
const CLOCKS_MAY_DIFFER: SignedDuration = SignedDuration::from_mins(5);

/// Returns the ends of the backups, all by the same clock: the server's, if all backups have comparable times,
/// otherwise the archiving times of their backup history files, which are later if archiving lags. A server's time
/// after the archiving time is wrong.
fn ends(archived: &[ArchivedBackup]) -> Vec<Timestamp> {
    let comparable = |backup: &ArchivedBackup| {
        let ended = backup.history.stop_time?;
        (ended.duration_since(backup.archived_at) <= CLOCKS_MAY_DIFFER).then_some(ended)
    };
    let by_server: Option<Vec<Timestamp>> = archived.iter().map(comparable).collect();
    by_server.unwrap_or_else(|| archived.iter().map(|backup| backup.archived_at).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{BackupHistory, BackupWal, Lsn, SegmentSize, TimelineId};

    const START: &str = "000000010000000000000003";

    /// Creates a backup with a stop time and an archiving time.
    fn archived(stop_time: Option<&str>, archived_at: &str) -> ArchivedBackup {
        let history = BackupHistory {
            wal: BackupWal { start_segment: START.parse().unwrap(), start: Lsn(0x300_0028), end: None },
            label: Some("nightly".to_owned()),
            stop_time: stop_time.map(|time| time.parse().unwrap()),
        };
        let name = format!("{START}.00000028.backup").parse().unwrap();
        ArchivedBackup { name, history, archived_at: archived_at.parse().unwrap() }
    }

    fn texts(archived: &[ArchivedBackup]) -> Vec<String> {
        ends(archived).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn backups_are_ordered_by_the_servers_clock_if_all_have_it() {
        let first = archived(Some("2026-01-02T03:00:00Z"), "2026-01-02T09:00:00Z");
        let second = archived(Some("2026-01-02T04:00:00Z"), "2026-01-02T08:00:00Z");
        let both = [first.clone(), second.clone()];
        assert_eq!(texts(&both), ["2026-01-02T03:00:00Z", "2026-01-02T04:00:00Z"]);
        // A backup with an unknown time zone.
        let unknown = archived(None, "2026-01-02T10:00:00Z");
        let all = [first.clone(), second.clone(), unknown];
        assert_eq!(texts(&all), ["2026-01-02T09:00:00Z", "2026-01-02T08:00:00Z", "2026-01-02T10:00:00Z"]);
        // A backup that ended after it was archived.
        let ahead = |time| [first.clone(), archived(Some(time), "2026-01-02T10:00:00Z")];
        assert_eq!(texts(&ahead("2026-01-02T10:06:00Z")), ["2026-01-02T09:00:00Z", "2026-01-02T10:00:00Z"]);
        assert_eq!(texts(&ahead("2026-01-02T10:04:00Z")), ["2026-01-02T03:00:00Z", "2026-01-02T10:04:00Z"]);
    }

    /// Creates the same backup in a directory that does not contain its end.
    fn found_of(backup: &ArchivedBackup) -> BackupElsewhere {
        BackupElsewhere {
            directory: PathBuf::from("/mnt/backup"),
            wal: BackupWal { end: None, ..backup.history.wal },
            from_standby: false,
            ended: backup.archived_at,
        }
    }

    #[test]
    fn a_backup_counts_by_its_label_or_because_it_was_found() {
        let backup = archived(None, "2026-01-02T09:00:00Z");
        let found = found_of(&backup);
        let labels = |pattern: &str| Labels::from(vec![pattern.parse().unwrap()]);
        let counts = |elsewhere: &[BackupElsewhere], labels: &Labels| {
            let all = KnownBackup::all(
                std::slice::from_ref(&backup),
                elsewhere,
                labels,
                &Sizes::only(SegmentSize::DEFAULT),
            );
            all.iter().map(|backup| backup.counts).collect::<Vec<_>>()
        };
        assert_eq!(counts(&[], &labels("night*")), [true]);
        assert_eq!(counts(&[], &labels("weekly")), [false]);
        assert_eq!(counts(std::slice::from_ref(&found), &labels("weekly")), [true]);
        let other = BackupElsewhere { wal: BackupWal { start: Lsn(0x300_0060), ..found.wal }, ..found };
        assert_eq!(counts(&[other], &labels("weekly")), [false, true]);
    }

    #[test]
    fn a_backup_is_known_from_its_history_file_or_its_directory_or_both() {
        let backup = archived(None, "2026-01-02T09:00:00Z");
        let found = found_of(&backup);
        let of_standby = BackupElsewhere { from_standby: true, ..found.clone() };
        let known = |archived: &[ArchivedBackup], elsewhere: &[BackupElsewhere]| {
            let sizes = Sizes::only(SegmentSize::DEFAULT);
            let all = KnownBackup::all(archived, elsewhere, &Labels::default(), &sizes);
            all.into_iter().map(|backup| backup.known_from).collect::<Vec<_>>()
        };
        let (name, directory) = (backup.name, found.directory.clone());
        let archived = std::slice::from_ref(&backup);
        let (history, files) = (KnownFrom::History(name), KnownFrom::Directory(directory.clone()));
        assert_eq!(known(archived, &[]), std::slice::from_ref(&history));
        assert_eq!(known(&[], std::slice::from_ref(&found)), std::slice::from_ref(&files));
        assert_eq!(known(archived, &[found]), [KnownFrom::Both(name, directory)]);
        assert_eq!(known(archived, &[of_standby]), [history, files]);
    }

    #[test]
    fn the_end_is_read_from_its_files_or_its_backup_history_file() {
        let mut backup = archived(None, "2026-01-02T09:00:00Z");
        backup.history.wal.end = Some((TimelineId::FIRST, Lsn(0x300_0138)));
        let found = found_of(&backup);
        let known = |archived: &[ArchivedBackup], found: &BackupElsewhere| {
            let sizes = Sizes::only(SegmentSize::DEFAULT);
            let all = KnownBackup::all(archived, std::slice::from_ref(found), &Labels::default(), &sizes);
            all.iter().map(|backup| backup.end_is_known).collect::<Vec<_>>()
        };
        let archived = std::slice::from_ref(&backup);
        assert_eq!(known(&[], &found), [false]);
        assert_eq!(known(archived, &found), [true], "they are one");
        let of_standby = BackupElsewhere { from_standby: true, ..found.clone() };
        assert_eq!(known(archived, &of_standby), [true, false], "it has none");
        let end = Some((TimelineId::FIRST, Lsn(0x400_0138)));
        let with_end = BackupElsewhere { wal: BackupWal { end, ..found.wal }, ..found };
        assert_eq!(known(&[], &with_end), [true]);
    }
}
