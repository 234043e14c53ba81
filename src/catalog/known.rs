//! All base backups that are known of, whoever knows of them.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::{ArchivedBackup, BackupElsewhere, Labels, Sizes};
use crate::coverage::{Coverage, Origin};
use crate::wal::{SegmentName, WalName};

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
    /// Since when that is known: when its backup history file was archived, which is later where archiving lags.
    pub known_since: Timestamp,
    /// Where its replay starts, and what it must reach.
    pub origin: Origin,
    /// Whether anything tells what replay must reach.
    pub end_is_known: bool,
    /// Whether it counts as a base backup that somebody keeps: its label does, or it was found in a directory. One that a
    /// replica was made of does not.
    pub counts: bool,
}

impl KnownBackup {
    /// All of them, in the order in which they ended, but those of segments of another size than is archived now.
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
                name: Some(backup.name),
                place: found.map(|other| other.place.clone()),
                label: backup.history.label.clone(),
                start: backup.history.start_segment,
                ended,
                known_since: backup.archived_at,
                origin: backup.origin(size),
                end_is_known: backup.history.stop.is_some(),
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
            name: None,
            place: Some(other.place.clone()),
            label: None,
            start: other.start_segment,
            ended: other.ended,
            known_since: other.ended,
            origin: other.origin(size),
            end_is_known: other.stop.is_some(),
            counts: true,
        }));
        all.sort_by_key(|backup| (backup.ended, backup.start));
        all
    }

    /// Whether an archive that holds this is known to have all that makes it consistent.
    #[must_use]
    pub fn is_complete(&self, coverage: &Coverage) -> bool {
        self.end_is_known && coverage.is_complete(self.origin)
    }

    /// What people call it: by its label and the segment in which it starts, or by its directory.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.label, self.name, &self.place) {
            (Some(label), ..) => format!("\"{label}\" from {}", self.start),
            (None, None, Some(place)) => format!("the backup in {}", place.display()),
            (None, ..) => format!("the backup from {}", self.start),
        }
    }

    /// As [`KnownBackup::title`], for the middle of a sentence: one line, whatever its label holds.
    #[must_use]
    pub fn title_in_words(&self) -> String {
        let the = if self.label.is_some() { "the backup " } else { "" };
        format!("{the}{}", self.title()).replace(char::is_control, " ")
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

/// A clock may be ahead of another by so much.
const CLOCKS_MAY_DIFFER: SignedDuration = SignedDuration::from_mins(5);

/// When each had ended, all by the same clock: the server's own where all of them tell that so that it can be compared, else
/// when their backup history files were archived, which is later where archiving lags. A server that had ended one after that
/// was archived has a wrong clock.
fn ends(archived: &[ArchivedBackup]) -> Vec<Timestamp> {
    let told = |backup: &ArchivedBackup| {
        let ended = backup.history.stop_time?;
        (ended.duration_since(backup.archived_at) <= CLOCKS_MAY_DIFFER).then_some(ended)
    };
    let by_server: Option<Vec<Timestamp>> = archived.iter().map(told).collect();
    by_server.unwrap_or_else(|| archived.iter().map(|backup| backup.archived_at).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{BackupHistory, Lsn, SegmentSize, TimelineId};

    const START: &str = "000000010000000000000003";

    /// A backup that a server says ended then, and that was archived so late.
    fn archived(stop_time: Option<&str>, archived_at: &str) -> ArchivedBackup {
        let history = BackupHistory {
            start: Lsn(0x300_0028),
            start_segment: START.parse().unwrap(),
            stop: None,
            stop_timeline: None,
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
    fn they_are_ordered_by_the_servers_clock_where_all_tell_it() {
        let first = archived(Some("2026-01-02T03:00:00Z"), "2026-01-02T09:00:00Z");
        let second = archived(Some("2026-01-02T04:00:00Z"), "2026-01-02T08:00:00Z");
        let both = [first.clone(), second.clone()];
        assert_eq!(texts(&both), ["2026-01-02T03:00:00Z", "2026-01-02T04:00:00Z"]);
        // One of whose zone nothing is known.
        let unknown = archived(None, "2026-01-02T10:00:00Z");
        let all = [first.clone(), second.clone(), unknown];
        assert_eq!(texts(&all), ["2026-01-02T09:00:00Z", "2026-01-02T08:00:00Z", "2026-01-02T10:00:00Z"]);
        // One that had ended after it was archived.
        let ahead = |time| [first.clone(), archived(Some(time), "2026-01-02T10:00:00Z")];
        assert_eq!(texts(&ahead("2026-01-02T10:06:00Z")), ["2026-01-02T09:00:00Z", "2026-01-02T10:00:00Z"]);
        assert_eq!(texts(&ahead("2026-01-02T10:04:00Z")), ["2026-01-02T03:00:00Z", "2026-01-02T10:04:00Z"]);
    }

    /// The same backup in a directory, of whose end nothing is known there.
    fn found_of(backup: &ArchivedBackup) -> BackupElsewhere {
        BackupElsewhere {
            place: PathBuf::from("/mnt/backup"),
            start_segment: backup.history.start_segment,
            start: backup.history.start,
            stop: None,
            from_standby: false,
            ended: backup.archived_at,
        }
    }

    #[test]
    fn one_counts_by_its_label_or_because_it_was_found() {
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
        let other = BackupElsewhere { start: Lsn(0x300_0060), ..found };
        assert_eq!(counts(&[other], &labels("weekly")), [false, true]);
    }

    #[test]
    fn its_end_is_told_by_its_files_or_by_its_backup_history_file() {
        let mut backup = archived(None, "2026-01-02T09:00:00Z");
        backup.history.stop = Some(Lsn(0x300_0138));
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
        let told = BackupElsewhere { stop: Some((TimelineId::FIRST, Lsn(0x400_0138))), ..found };
        assert_eq!(known(&[], &told), [true]);
    }
}
