//! Catalog of an archive's files of one cluster, their relations, and the known base backups.

mod elsewhere;
mod known;
mod labels;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, ArchivedFile, Inventory, TextFiles};
use crate::archived_file::read_text;
use crate::call::{retry, warning};
use crate::coverage::{BaseBackup, Coverage};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::wal::{BackupHistory, SystemIdentifier, TimelineHistory, TimelineId, WalName};

use known::FromHistories;

pub use elsewhere::{Packing, backups_elsewhere};
pub use known::known_backups;
pub use labels::{LabelPattern, Labels};
pub use sizes::{OtherSize, Sizes};

/// Catalog of an archive's files of one cluster.
#[derive(Debug)]
pub struct Catalog {
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Files in the archive.
    pub inventory: Inventory,
    /// Sizes of the segments.
    pub sizes: Sizes,
    /// Coverage of the segments that have the current size.
    pub coverage: Coverage,
    /// Coverages of the segments that have other sizes. No recovery leads from them to the current WAL.
    pub other_coverages: Vec<Coverage>,
    /// Base backups with readable backup history files, sorted by the names of these.
    pub backups: Vec<BaseBackup>,
    /// Unreadable timeline history files and backup history files, with the errors.
    pub unreadable: Vec<(WalName, Error)>,
}

/// Totals of a set of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Number of files of any kind.
    pub files: u64,
    /// Number of complete segments among them.
    pub segments: u64,
    /// Size in the archive, in bytes.
    pub stored_bytes: u64,
    /// Uncompressed size of all segments, complete or partial, in bytes.
    pub original_bytes: u64,
}

impl Totals {
    /// Computes the totals of files of a cluster with these segment sizes.
    #[must_use]
    pub fn of<'a>(files: impl IntoIterator<Item = &'a ArchivedFile>, sizes: &Sizes) -> Self {
        let mut totals = Self::default();
        for file in files {
            totals.files += 1;
            totals.segments += u64::from(matches!(file.name.wal(), WalName::Segment(_)));
            totals.stored_bytes += file.stored_size;
            totals.original_bytes += file.name.segment().map_or(0, |_| sizes.of(file.name).bytes());
        }
        totals
    }

    /// Returns the compression ratio; `None` if there is nothing to compare.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        // Archives are far smaller than the numbers that lose precision.
        #[allow(clippy::cast_precision_loss, reason = "nobody reads 15 digits of a ratio")]
        let ratio = self.original_bytes as f64 / self.stored_bytes as f64;
        (self.original_bytes > 0 && self.stored_bytes > 0).then_some(ratio)
    }
}

/// Settings for reading an archive in maintenance commands.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Number of concurrent requests.
    pub at_once: usize,
    /// Time for which failed requests are retried.
    pub patience: Duration,
}

impl Reading {
    /// Returns the settings for reading this archive, with that number of concurrent requests to a store, each retried for `patience`.
    #[must_use]
    pub fn of(archive: &Archive, connections: NonZeroUsize, patience: Duration) -> Self {
        Self { at_once: if archive.is_store() { connections.get() } else { 1 }, patience }
    }

    /// Retries `attempt` while its failure may be temporary.
    pub(crate) async fn retry<T>(
        self,
        mut attempt: impl AsyncFnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let limit = TimeLimit::new(Instant::now(), self.patience);
        let waiting = warning(|| limit.left_as_text());
        retry(&limit, waiting, async || attempt().await.map_err(Error::for_a_person)).await
    }
}

/// Lists all files of a cluster, and reads those that describe relations. An unreadable file is no error here, but an
/// archive that does not answer is.
pub async fn catalog(
    archive: &Archive,
    system: SystemIdentifier,
    reading: Reading,
) -> Result<Catalog, Error> {
    let mut inventory = reading.retry(async || archive.inventory(system).await).await?;
    let is_text = |file: &&ArchivedFile| file.name.segment().is_none();
    let texts: Vec<ArchivedFile> = inventory.files.iter().filter(is_text).copied().collect();
    let read = read_texts(archive, system, texts, reading).await?;
    inventory.files.retain(|file| !read.gone.contains(&file.name.wal()));
    let Texts { histories, backups, unreadable, .. } = read;
    let sizes = Sizes::determine(archive, system, &inventory.files, &backups, reading).await?;
    let names = |size| {
        let of_size =
            inventory.files.iter().filter(|file| sizes.of(file.name) == size).map(|file| file.name.wal());
        of_size.collect::<Vec<_>>()
    };
    let others = sizes.others().into_iter();
    let other_coverages =
        others.map(|other| Coverage::new(other.size, names(other.size), histories.clone())).collect();
    let coverage = Coverage::new(sizes.current(), names(sizes.current()), histories);
    Ok(Catalog { system, inventory, sizes, coverage, other_coverages, backups, unreadable })
}

impl Catalog {
    /// Returns the coverage of the segments that have the same size as the first segment of the backup.
    #[must_use]
    pub fn coverage_of(&self, backup: &BaseBackup) -> &Coverage {
        let name = backup.known_from.history();
        let size = name.map_or(self.sizes.current(), |name| self.sizes.of(name.into()));
        self.other_coverages.iter().find(|coverage| coverage.size() == size).unwrap_or(&self.coverage)
    }
}

/// Contents of the text files in an archive.
#[derive(Debug, Default)]
pub struct Texts {
    /// Timeline histories.
    pub histories: BTreeMap<TimelineId, TimelineHistory>,
    /// Backups, sorted by the names of their backup history files.
    pub backups: Vec<BaseBackup>,
    /// Unreadable files, with the errors.
    pub unreadable: Vec<(WalName, Error)>,
    /// Files that were deleted after they were listed.
    gone: BTreeSet<WalName>,
}

/// Reads the timeline history files and backup history files of a cluster, without listing its segments.
pub async fn texts(archive: &Archive, system: SystemIdentifier, reading: Reading) -> Result<Texts, Error> {
    let files = list_texts(archive, system, reading).await?;
    read_texts(archive, system, files, reading).await
}

async fn list_texts(
    archive: &Archive,
    system: SystemIdentifier,
    reading: Reading,
) -> Result<Vec<ArchivedFile>, Error> {
    let mut files = Vec::new();
    for kind in [TextFiles::Histories, TextFiles::Backups] {
        files.extend(reading.retry(async || archive.text_files(system, kind).await).await?);
    }
    Ok(files)
}

async fn read_texts(
    archive: &Archive,
    system: SystemIdentifier,
    files: Vec<ArchivedFile>,
    reading: Reading,
) -> Result<Texts, Error> {
    let read = |file: ArchivedFile| async move {
        let name = file.name.wal();
        let content = reading.retry(async || read_text(archive, system, name).await).await;
        match content {
            Err(error) if !concerns_one_file(error.kind()) => Err(error),
            content => Ok((name, content)),
        }
    };
    let mut contents = futures_util::stream::iter(files).map(read).buffered(reading.at_once);
    let (mut texts, mut backups) = (Texts::default(), FromHistories::default());
    while let Some((name, content)) = contents.try_next().await? {
        let (header, content) = match content {
            Ok(content) => content,
            Err(error) => {
                texts.unreadable.push((name, error));
                continue;
            }
        };
        // A decoded text file was parsed before it was archived.
        match name {
            WalName::History(timeline) => {
                if let Ok(history) = TimelineHistory::parse(timeline, &content) {
                    texts.histories.insert(timeline, history);
                }
            }
            WalName::Backup { segment, .. } => {
                if let Ok(history) = BackupHistory::parse(segment, &content) {
                    backups.add(name, history, header.archived_at);
                }
            }
            WalName::Segment(_) | WalName::Partial(_) => {}
        }
    }
    texts.backups = backups.with_ends();
    if texts.unreadable.iter().any(|(_, error)| error.kind() == ErrorKind::Absent) {
        // Another prune may be running. A file that is absent and still listed is an error.
        let listed = list_texts(archive, system, reading).await?;
        let (unreadable, gone) = texts.unreadable.into_iter().partition(|(name, error)| {
            error.kind() != ErrorKind::Absent || listed.iter().any(|file| file.name.wal() == *name)
        });
        texts.unreadable = unreadable;
        texts.gone = Vec::into_iter(gone).map(|(name, _)| name).collect();
    }
    Ok(texts)
}

/// Returns `true` if a failure of this kind concerns the file and not the whole archive.
pub(crate) fn concerns_one_file(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Damaged | ErrorKind::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    use crate::archive::ArchiveOptions;

    #[tokio::test]
    async fn a_file_that_is_deleted_before_it_is_read_is_gone_and_not_unreadable() {
        let temporary = tempfile::tempdir().unwrap();
        let system = SystemIdentifier::new(7).unwrap();
        let timelines = temporary.path().join("7/timelines");
        std::fs::create_dir_all(&timelines).unwrap();
        std::fs::write(timelines.join("00000002.history"), "not an archived file").unwrap();
        let url = temporary.path().to_str().unwrap().parse().unwrap();
        let options = ArchiveOptions::new(url, crate::archive::StoreOptions::default());
        let archive = Archive::open(&options).await.unwrap();
        let reading = Reading { at_once: 1, patience: Duration::from_secs(1) };
        let names = ["000000010000000000000005.00000028.backup", "00000002.history"];
        let [deleted, damaged]: [WalName; 2] = names.map(|name| name.parse().unwrap());
        let file =
            |name: WalName| ArchivedFile { name: name.into(), since: Timestamp::UNIX_EPOCH, stored_size: 1 };
        let listed = vec![file(deleted), file(damaged)];
        let read = read_texts(&archive, system, listed, reading).await.unwrap();
        assert_eq!(read.gone, BTreeSet::from([deleted]));
        assert_eq!(read.unreadable.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [damaged]);
    }
}
