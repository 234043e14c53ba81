//! All known base backups, from the archive and from directories.

use jiff::{SignedDuration, Timestamp};

use super::{Labels, Sizes};
use crate::coverage::{BaseBackup, Below, KnownFrom};
use crate::wal::{BackupHistory, WalName};

/// Returns all backups in order of their ends, except those of another segment size than is archived now.
#[must_use]
pub fn known_backups(
    archived: &[BaseBackup],
    elsewhere: &[BaseBackup],
    labels: &Labels,
    sizes: &Sizes,
) -> Vec<BaseBackup> {
    let is_current =
        |backup: &&BaseBackup| backup.known_from.history().is_none_or(|name| sizes.is_current(name));
    let with_files = |backup: &BaseBackup| {
        let found = elsewhere.iter().find(|found| describes(backup, found));
        let counts = found.is_some() || labels.admit(backup.label.as_deref());
        let files = found.and_then(|found| found.known_from.directory());
        let known_from = match (backup.known_from.history(), files) {
            (Some(name), Some(files)) => KnownFrom::Both(name, files.to_owned()),
            _ => backup.known_from.clone(),
        };
        // pg_combinebackup makes a whole one of an incremental one, with the same start: its files then need no others.
        let builds_on = match found.map(|found| found.builds_on) {
            None | Some(Some(Below::Unknown)) => backup.builds_on.or(found.and_then(|found| found.builds_on)),
            Some(of_its_own) => of_its_own,
        };
        BaseBackup { known_from, counts, builds_on, ..backup.clone() }
    };
    let is_new = |found: &&BaseBackup| !archived.iter().any(|backup| describes(backup, found));
    let mut all: Vec<BaseBackup> = archived.iter().filter(is_current).map(with_files).collect();
    all.extend(elsewhere.iter().filter(is_new).cloned());
    all.sort_by_key(|backup| (backup.ended, backup.start()));
    all
}

/// Returns `true` if a backup history file, `archived`, is that of a backup found in a directory. A backup of a
/// standby has none, and may start where a primary's does.
fn describes(archived: &BaseBackup, found: &BaseBackup) -> bool {
    let stop = |backup: &BaseBackup| backup.wal.end.map(|(_, stop)| stop);
    !found.from_standby
        && (found.start(), found.wal.start) == (archived.start(), archived.wal.start)
        && (found.wal.end.is_none() || stop(found) == stop(archived))
}

/// Backups read from backup history files, before their ends are comparable.
#[derive(Debug, Default)]
pub(super) struct FromHistories(Vec<(BaseBackup, Option<Timestamp>)>);

impl FromHistories {
    /// Adds the backup of a backup history file that was archived at that time.
    pub(super) fn add(&mut self, name: WalName, history: BackupHistory, archived_at: Timestamp) {
        let BackupHistory { wal, label, stop_time, builds_on } = history;
        let backup = BaseBackup {
            known_from: KnownFrom::History(name),
            label,
            wal,
            from_standby: false,
            ended: archived_at,
            known_since: archived_at,
            counts: true,
            builds_on: builds_on.map(Below::from),
        };
        self.0.push((backup, stop_time));
    }

    /// Returns the backups with their ends, all by the same clock: the server's, if all backups have comparable times,
    /// otherwise the archiving times of their backup history files, which are later if archiving lags. A server's time
    /// after the archiving time is wrong.
    pub(super) fn with_ends(self) -> Vec<BaseBackup> {
        let comparable = |(backup, stop_time): &(BaseBackup, Option<Timestamp>)| {
            stop_time.is_some_and(|ended| ended.duration_since(backup.known_since) <= CLOCKS_MAY_DIFFER)
        };
        let by_server = self.0.iter().all(comparable);
        let with_end = |(backup, stop_time): (BaseBackup, Option<Timestamp>)| {
            let ended = stop_time.filter(|_| by_server).unwrap_or(backup.known_since);
            BaseBackup { ended, ..backup }
        };
        self.0.into_iter().map(with_end).collect()
    }
}

/// Difference between two clocks that is tolerated.
const CLOCKS_MAY_DIFFER: SignedDuration = SignedDuration::from_mins(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{BackupWal, Lsn, SegmentSize, TimelineId};

    const START: &str = "000000010000000000000003";

    /// Reads backup history files with these stop times and archiving times.
    fn archived(times: &[(Option<&str>, &str)]) -> Vec<BaseBackup> {
        let mut backups = FromHistories::default();
        for (stop_time, archived_at) in times {
            let history = BackupHistory {
                wal: BackupWal { start_segment: START.parse().unwrap(), start: Lsn(0x300_0028), end: None },
                label: Some("nightly".to_owned()),
                stop_time: stop_time.map(|time| time.parse().unwrap()),
                builds_on: None,
            };
            let name = format!("{START}.00000028.backup").parse().unwrap();
            backups.add(name, history, archived_at.parse().unwrap());
        }
        backups.with_ends()
    }

    /// Reads one without a stop time.
    fn one() -> BaseBackup {
        archived(&[(None, "2026-01-02T09:00:00Z")]).remove(0)
    }

    #[test]
    fn backups_are_ordered_by_the_servers_clock_if_all_have_it() {
        let ends = |times: &[(Option<&str>, &str)]| -> Vec<String> {
            archived(times).iter().map(|backup| backup.ended.to_string()).collect()
        };
        let first = (Some("2026-01-02T03:00:00Z"), "2026-01-02T09:00:00Z");
        let second = (Some("2026-01-02T04:00:00Z"), "2026-01-02T08:00:00Z");
        assert_eq!(ends(&[first, second]), ["2026-01-02T03:00:00Z", "2026-01-02T04:00:00Z"]);
        // A backup with an unknown time zone.
        let unknown = (None, "2026-01-02T10:00:00Z");
        let all = ["2026-01-02T09:00:00Z", "2026-01-02T08:00:00Z", "2026-01-02T10:00:00Z"];
        assert_eq!(ends(&[first, second, unknown]), all);
        // A backup that ended after it was archived.
        let ahead = |time| ends(&[first, (Some(time), "2026-01-02T10:00:00Z")]);
        assert_eq!(ahead("2026-01-02T10:06:00Z"), ["2026-01-02T09:00:00Z", "2026-01-02T10:00:00Z"]);
        assert_eq!(ahead("2026-01-02T10:04:00Z"), ["2026-01-02T03:00:00Z", "2026-01-02T10:04:00Z"]);
    }

    /// Creates the same backup in a directory that does not contain its end.
    fn found_of(backup: &BaseBackup) -> BaseBackup {
        BaseBackup {
            known_from: KnownFrom::Directory("/mnt/backup".to_owned()),
            label: None,
            wal: BackupWal { end: None, ..backup.wal },
            ..backup.clone()
        }
    }

    fn known(archived: &BaseBackup, found: &[BaseBackup], labels: &Labels) -> Vec<BaseBackup> {
        known_backups(std::slice::from_ref(archived), found, labels, &Sizes::only(SegmentSize::DEFAULT))
    }

    #[test]
    fn a_backup_counts_by_its_label_or_because_it_was_found() {
        let backup = one();
        let found = found_of(&backup);
        let counts = |found: &[BaseBackup], pattern: &str| -> Vec<bool> {
            let labels = Labels::from(vec![pattern.parse().unwrap()]);
            known(&backup, found, &labels).iter().map(|backup| backup.counts).collect()
        };
        assert_eq!(counts(&[], "night*"), [true]);
        assert_eq!(counts(&[], "weekly"), [false]);
        assert_eq!(counts(std::slice::from_ref(&found), "weekly"), [true]);
        let other = BaseBackup { wal: BackupWal { start: Lsn(0x300_0060), ..found.wal }, ..found };
        assert_eq!(counts(&[other], "weekly"), [false, true]);
    }

    #[test]
    fn a_backup_is_known_from_its_history_file_or_its_directory_or_both() {
        let backup = one();
        let found = found_of(&backup);
        let of_standby = BaseBackup { from_standby: true, ..found.clone() };
        let sizes = Sizes::only(SegmentSize::DEFAULT);
        let sources = |archived: &[BaseBackup], found: &[BaseBackup]| -> Vec<KnownFrom> {
            let all = known_backups(archived, found, &Labels::default(), &sizes);
            all.into_iter().map(|backup| backup.known_from).collect()
        };
        let (name, directory) = (backup.known_from.history().unwrap(), "/mnt/backup".to_owned());
        let archived = std::slice::from_ref(&backup);
        let (history, files) = (KnownFrom::History(name), KnownFrom::Directory(directory.clone()));
        assert_eq!(sources(archived, &[]), std::slice::from_ref(&history));
        assert_eq!(sources(&[], std::slice::from_ref(&found)), std::slice::from_ref(&files));
        assert_eq!(sources(archived, &[found]), [KnownFrom::Both(name, directory)]);
        assert_eq!(sources(archived, &[of_standby]), [history, files]);
    }

    #[test]
    fn the_files_of_a_directory_decide_whether_others_are_needed() {
        let at = Below::StartsAt(TimelineId::FIRST, Lsn(0x200_0028));
        let builds_on = |of_history: Option<Below>, of_files: Option<Below>| {
            let backup = BaseBackup { builds_on: of_history, ..one() };
            let found = BaseBackup { builds_on: of_files, ..found_of(&backup) };
            known(&backup, &[found], &Labels::default())[0].builds_on
        };
        assert_eq!(builds_on(Some(at), None), None, "it was combined");
        assert_eq!(builds_on(Some(at), Some(at)), Some(at));
        assert_eq!(builds_on(Some(at), Some(Below::Unknown)), Some(at), "the history file knows more");
        assert_eq!(builds_on(None, Some(Below::Unknown)), Some(Below::Unknown));
        let backup = BaseBackup { builds_on: Some(at), ..one() };
        assert_eq!(known(&backup, &[], &Labels::default())[0].builds_on, Some(at));
    }

    #[test]
    fn the_end_is_read_from_its_files_or_its_backup_history_file() {
        let end = |stop| Some((TimelineId::FIRST, Lsn(stop)));
        let mut backup = one();
        backup.wal.end = end(0x300_0138);
        let found = found_of(&backup);
        let sizes = Sizes::only(SegmentSize::DEFAULT);
        let ends_known = |archived: &[BaseBackup], found: &BaseBackup| -> Vec<bool> {
            let all = known_backups(archived, std::slice::from_ref(found), &Labels::default(), &sizes);
            all.iter().map(|backup| backup.wal.end.is_some()).collect()
        };
        let archived = std::slice::from_ref(&backup);
        assert_eq!(ends_known(&[], &found), [false]);
        assert_eq!(ends_known(archived, &found), [true], "they are one");
        let of_standby = BaseBackup { from_standby: true, ..found.clone() };
        assert_eq!(ends_known(archived, &of_standby), [true, false], "it has none");
        let with_end = BaseBackup { wal: BackupWal { end: end(0x400_0138), ..found.wal }, ..found };
        assert_eq!(ends_known(&[], &with_end), [true]);
    }
}
