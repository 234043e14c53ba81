//! Summaries of what an archive holds of a cluster, made while it is listed: no names are kept.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::failure::Asked;
use super::inventory::{ArchivedFile, OtherFile, since};
use super::key::{self, Kind};
use super::{Archive, Backend};
use crate::error::Error;
use crate::wal::{SegmentName, SystemIdentifier, TimelineId, WalName};

/// What a listing of a cluster's files shows goes here.
pub(super) trait Gather: Send + 'static {
    /// Takes a file with that key.
    fn file(&mut self, system: SystemIdentifier, key: &str, since: Timestamp, size: u64);

    /// Takes a file or directory that is no archived file.
    fn unknown(&mut self, file: OtherFile);

    /// Takes an empty directory of segments.
    fn empty(&mut self, directory: OtherFile);
}

/// Summary of a cluster's archived files. Its size does not depend on their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of archived files of any kind.
    pub files: u64,
    /// Number of complete segments.
    pub segments: u64,
    /// Number of partial segments.
    pub partials: u64,
    /// Size of all in the archive, in bytes.
    pub stored_bytes: u64,
    /// Timelines of the complete segments.
    pub timelines: BTreeSet<TimelineId>,
    /// First complete segment by its position in the WAL.
    pub oldest: Option<ArchivedFile>,
    /// Complete segment that was archived last. Not that of the newest timeline, which may be a drill's.
    pub newest: Option<ArchivedFile>,
}

impl Summary {
    fn add(&mut self, file: ArchivedFile) {
        self.files += 1;
        self.stored_bytes = self.stored_bytes.saturating_add(file.stored_size);
        match file.name.wal() {
            WalName::Segment(segment) => {
                self.segments += 1;
                self.timelines.insert(segment.timeline());
                let position = |file: &ArchivedFile| (file.name.segment().map(SegmentName::order), file.name);
                self.oldest = self.oldest.into_iter().chain([file]).min_by_key(position);
                self.newest = latest(self.newest.into_iter().chain([file]));
            }
            WalName::Partial(_) => self.partials += 1,
            WalName::History(_) | WalName::Backup { .. } => {}
        }
    }
}

/// Returns the file that was archived last.
pub(super) fn latest(files: impl IntoIterator<Item = ArchivedFile>) -> Option<ArchivedFile> {
    files.into_iter().max_by_key(|file| (file.since, file.name))
}

impl Gather for Summary {
    fn file(&mut self, system: SystemIdentifier, key: &str, since: Timestamp, size: u64) {
        if let Kind::File(name) = key::classify(system, key) {
            self.add(ArchivedFile { name, since, stored_size: size });
        }
    }

    fn unknown(&mut self, _: OtherFile) {}

    fn empty(&mut self, _: OtherFile) {}
}

impl Archive {
    /// Summarizes all files of a cluster; none are no error. Lists as [`Archive::inventory`] does, in constant memory.
    pub async fn summary(&self, system: SystemIdentifier) -> Result<Summary, Error> {
        match &self.backend {
            Backend::Local(local) => local.gather(system, Summary::default()).await,
            Backend::Store(_) => self.gather(system, Summary::default()).await,
        }
    }

    /// Lists all files of a cluster in a store. A store returns a thousand names per request.
    pub(super) async fn gather<G: Gather>(
        &self,
        system: SystemIdentifier,
        mut gathered: G,
    ) -> Result<G, Error> {
        let prefix = key::of_system(system);
        let mut listing = self.objects().list(Some(&prefix));
        while let Some(found) = listing.next().await {
            let found =
                found.map_err(|e| self.failure("cannot list", &prefix, Asked::List, e).into_error())?;
            gathered.file(system, found.location.as_ref(), since(&found), found.size);
        }
        Ok(gathered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(files: &[(&str, i64, u64)]) -> Summary {
        let mut summary = Summary::default();
        for (name, since, stored_size) in files {
            let since = Timestamp::from_second(*since).unwrap();
            summary.add(ArchivedFile { name: name.parse().unwrap(), since, stored_size: *stored_size });
        }
        summary
    }

    #[test]
    fn a_summary_counts_and_keeps_the_first_and_the_last() {
        let files = [
            ("000000010000000000000004", 40, 1),
            ("000000010000000000000002", 20, 10),
            ("000000010000000000000003", 30, 100),
            ("000000010000000000000005.partial", 50, 1000),
            ("00000002.history", 60, 10_000),
            ("000000010000000000000003.00000028.backup", 70, 100_000),
        ];
        let Summary { files: number, segments, partials, stored_bytes, timelines, oldest, newest } =
            summary(&files);
        assert_eq!((number, segments, partials, stored_bytes), (6, 3, 1, 111_111));
        assert_eq!(timelines.into_iter().map(TimelineId::get).collect::<Vec<_>>(), [1]);
        let name = |file: Option<ArchivedFile>| file.unwrap().name.to_string();
        assert_eq!(name(oldest), "000000010000000000000002");
        assert_eq!(name(newest), "000000010000000000000004");
        assert_eq!(summary(&[]), Summary::default());
    }

    #[test]
    fn the_newest_is_what_came_last_and_the_oldest_what_lies_first() {
        // A drill's timeline 2 began later, and has ended.
        let files = [
            ("000000020000000100000001", 10, 1),
            ("000000010000000100000009", 90, 1),
            ("000000010000000000000001", 95, 1),
            ("000000010000000100000008", 95, 1),
        ];
        let found = summary(&files);
        assert_eq!(found.newest.unwrap().name.to_string(), "000000010000000100000008");
        assert_eq!(found.oldest.unwrap().name.to_string(), "000000010000000000000001");
        assert_eq!(found.timelines.len(), 2);
    }
}
