//! Incremental base backups (version 17 on): `pg_combinebackup` makes a whole one of it and of the files of all that it builds
//! on. Recovery then needs the WAL from its own start on, and none from before.

use super::BaseBackup;
use crate::wal::{Lsn, TimelineId};

/// Base backups whose files one needs besides its own, the last one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Those that are known.
    pub known: Vec<&'a BaseBackup>,
    /// Start of the next one, if it is not known. It may build on others.
    pub unknown: Option<(TimelineId, Lsn)>,
}

impl<'a> Chain<'a> {
    /// Follows a base backup down to the full one; empty for a full one.
    #[must_use]
    pub fn below(backup: &'a BaseBackup, all: &(impl Iterator<Item = &'a BaseBackup> + Clone)) -> Self {
        let (mut known, mut top) = (Vec::new(), backup);
        while let Some(at) = top.builds_on {
            // Positions only fall, so that no contents lead around in a circle.
            let is_next =
                |other: &&BaseBackup| (other.timeline(), other.wal.start) == at && at.1 < top.wal.start;
            let Some(next) = all.clone().find(is_next) else { return Self { known, unknown: Some(at) } };
            known.push(next);
            top = next;
        }
        Self { known, unknown: None }
    }

    /// Returns `true` if nothing is needed besides the backup's own files.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_none()
    }

    /// Says whose files are to be kept; `None` if there are no others.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let title = |backup: &&BaseBackup| backup.title_in_words();
        let unknown = self.unknown.map(|(timeline, start)| {
            format!("one that starts at {start} of timeline {timeline}, and of all below it, which the archive does not know")
        });
        let all: Vec<String> = self.known.iter().map(title).chain(unknown).collect();
        (!all.is_empty()).then(|| format!("incremental: also keep the files of {}", all.join(" and of ")))
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
            builds_on: builds_on.map(|start| (TimelineId::FIRST, Lsn(start << 24))),
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
        assert_eq!(orphan.unknown, Some((TimelineId::FIRST, Lsn(1 << 24))));
        assert!(!orphan.is_empty());
        assert_eq!(
            orphan.in_words().unwrap(),
            "incremental: also keep the files of one that starts at 0/1000000 of timeline 1, and of all below it, which the archive \
             does not know"
        );
        assert_eq!(labels("the circle"), ["a circle"]);
    }
}
