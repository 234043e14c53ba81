//! Incremental base backups (version 17 on): `pg_combinebackup` makes a whole one of it and of the files of all that it builds
//! on. Recovery then needs the WAL from its own start on, and none from before.

use super::BaseBackup;
use crate::wal::{Lsn, TimelineId};

/// What is known of the base backup on whose files an incremental one builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// Its start.
    StartsAt(TimelineId, Lsn),
    /// No more than that there is one.
    Unknown,
}

impl From<(TimelineId, Lsn)> for Below {
    fn from((timeline, start): (TimelineId, Lsn)) -> Self {
        Self::StartsAt(timeline, start)
    }
}

/// Base backups whose files one needs besides its own, the last one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Those that are known.
    pub known: Vec<&'a BaseBackup>,
    /// The next one, if it is not known. It may build on others.
    pub unknown: Option<Below>,
    /// Position before which all others start.
    before: Lsn,
}

impl<'a> Chain<'a> {
    /// Follows a base backup down to the full one; empty for a full one.
    #[must_use]
    pub fn below(backup: &'a BaseBackup, all: &(impl Iterator<Item = &'a BaseBackup> + Clone)) -> Self {
        let (mut known, mut top) = (Vec::new(), backup);
        while let Some(below) = top.builds_on {
            let before = match below {
                Below::StartsAt(_, start) => start.min(top.wal.start),
                Below::Unknown => top.wal.start,
            };
            // Positions only fall, so that no contents lead around in a circle.
            let is_next = |other: &&BaseBackup| {
                Below::StartsAt(other.timeline(), other.wal.start) == below && other.wal.start < top.wal.start
            };
            let Some(next) = all.clone().find(is_next) else {
                return Self { known, unknown: Some(below), before };
            };
            known.push(next);
            top = next;
        }
        Self { known, unknown: None, before: Lsn(0) }
    }

    /// Returns `true` if nothing is needed besides the backup's own files.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_none()
    }

    /// Returns `true` if the files of that backup may be needed, too: what is not known of the chain may lead to any that starts
    /// before.
    #[must_use]
    pub fn may_hold(&self, backup: &BaseBackup) -> bool {
        self.unknown.is_some() && backup.wal.start < self.before
    }

    /// Says whose files are to be kept; `None` if there are no others.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        if self.known.is_empty() && self.unknown == Some(Below::Unknown) {
            return Some(
                "incremental; the files of those below it are needed, which are not known".to_owned(),
            );
        }
        let all = self.each("and of all below it");
        (!all.is_empty()).then(|| format!("incremental: also keep the files of {}", all.join(" and of ")))
    }

    /// Says with which others it can be recovered; `None` if it needs none.
    #[must_use]
    pub fn together(&self) -> Option<String> {
        let all = self.each("and all below it");
        (!all.is_empty()).then(|| format!("incremental: together with {}", all.join(" and ")))
    }

    /// Returns the title of a backup for the middle of a sentence, with those that it needs.
    #[must_use]
    pub fn title_of(backup: &'a BaseBackup, all: &(impl Iterator<Item = &'a BaseBackup> + Clone)) -> String {
        let together = Self::below(backup, all).together();
        let together = together.map_or_else(String::new, |words| format!(" ({words})"));
        backup.title_in_words() + &together
    }

    fn each(&self, all_below: &str) -> Vec<String> {
        let title = |backup: &&BaseBackup| backup.title_in_words();
        let unknown = self.unknown.map(|below| match below {
            Below::StartsAt(timeline, start) => {
                format!("one that starts at {start} of timeline {timeline}, {all_below}, which the archive does not know")
            }
            Below::Unknown => "those below it, which are not known".to_owned(),
        });
        self.known.iter().map(title).chain(unknown).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::KnownFrom;
    use super::*;
    use crate::wal::{BackupWal, SegmentName, SegmentSize};

    fn backup(label: &str, start: u64, builds_on: Option<u64>) -> BaseBackup {
        let start = Lsn(start << 24);
        let start_segment = SegmentName::containing(TimelineId::FIRST, start, SegmentSize::DEFAULT).unwrap();
        BaseBackup {
            known_from: KnownFrom::Directory("/mnt".into()),
            label: Some(label.to_owned()),
            wal: BackupWal { start_segment, start, end: None },
            from_standby: false,
            ended: Timestamp::UNIX_EPOCH,
            known_since: Timestamp::UNIX_EPOCH,
            counts: true,
            builds_on: builds_on.map(|start| Below::StartsAt(TimelineId::FIRST, Lsn(start << 24))),
        }
    }

    #[test]
    fn an_incremental_backup_needs_the_files_of_all_below_it() {
        let all = [
            backup("sunday", 2, None),
            backup("monday", 3, Some(2)),
            backup("tuesday", 4, Some(3)),
            backup("another monday", 5, Some(2)),
            backup("an orphan", 6, Some(1)),
            backup("a circle", 7, Some(8)),
            backup("the circle", 8, Some(7)),
        ];
        let below = |of: &str| {
            Chain::below(all.iter().find(|backup| backup.label.as_deref() == Some(of)).unwrap(), &all.iter())
        };
        let labels = |of: &str| -> Vec<String> {
            below(of).known.iter().map(|backup| backup.label.clone().unwrap()).collect()
        };
        assert_eq!(labels("tuesday"), ["monday", "sunday"]);
        assert_eq!(labels("another monday"), ["sunday"]);
        assert!(below("sunday").is_empty() && below("sunday").in_words().is_none());
        assert_eq!(
            below("tuesday").in_words().unwrap(),
            "incremental: also keep the files of the backup \"monday\" from 000000010000000000000003 and of the backup \"sunday\" \
             from 000000010000000000000002"
        );
        let orphan = below("an orphan");
        assert_eq!(orphan.unknown, Some(Below::StartsAt(TimelineId::FIRST, Lsn(1 << 24))));
        assert!(!orphan.is_empty());
        assert_eq!(
            orphan.in_words().unwrap(),
            "incremental: also keep the files of one that starts at 0/1000000 of timeline 1, and of all below it, which the archive \
             does not know"
        );
        assert_eq!(labels("the circle"), ["a circle"]);
    }

    #[test]
    fn a_chain_that_ends_in_an_unknown_backup_may_hold_every_earlier_one() {
        let mut all = [
            backup("sunday", 2, None),
            backup("monday", 5, Some(4)),
            backup("tuesday", 6, Some(5)),
            backup("a full one", 7, None),
            backup("packed", 8, None),
            backup("on it", 9, Some(8)),
        ];
        let held = |of: usize, all: &[BaseBackup]| -> Vec<String> {
            let chain = Chain::below(&all[of], &all.iter());
            let may = all.iter().filter(|backup| chain.may_hold(backup) || chain.known.contains(backup));
            may.map(|backup| backup.label.clone().unwrap()).collect()
        };
        assert_eq!(held(2, &all), ["sunday", "monday"]);
        assert_eq!(held(5, &all), ["packed"], "its chain is known");
        assert!(held(0, &all).is_empty() && held(3, &all).is_empty(), "full ones need none");
        all[4].builds_on = Some(Below::Unknown);
        assert_eq!(held(5, &all), ["sunday", "monday", "tuesday", "a full one", "packed"]);
        let words = |of: usize| Chain::below(&all[of], &all.iter()).in_words();
        assert_eq!(
            words(4).unwrap(),
            "incremental; the files of those below it are needed, which are not known"
        );
        assert_eq!(
            words(5).unwrap(),
            "incremental: also keep the files of the backup \"packed\" from 000000010000000000000008 and of those below it, which \
             are not known"
        );
        assert_eq!(words(3), None);
    }

    #[test]
    fn a_title_says_together_with_what_an_incremental_one_is_recovered() {
        let all = [backup("sunday", 2, None), backup("monday", 3, Some(2)), backup("orphan", 6, Some(1))];
        let title = |of: usize| Chain::title_of(&all[of], &all.iter());
        assert_eq!(title(0), "the backup \"sunday\" from 000000010000000000000002");
        assert_eq!(
            title(1),
            "the backup \"monday\" from 000000010000000000000003 (incremental: together with the backup \"sunday\" from \
             000000010000000000000002)"
        );
        assert!(title(2).ends_with(
            " (incremental: together with one that starts at 0/1000000 of timeline 1, and all below it, which the archive does not \
             know)"
        ));
    }
}
