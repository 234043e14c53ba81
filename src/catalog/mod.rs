//! What an archive holds of a cluster: its files, how they hang together, and the base backups that are known of.

mod acknowledgements;
mod elsewhere;
mod finding;
mod known;
mod labels;
mod reports;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, ArchivedFile, Inventory, TextFiles, retry};
use crate::archived_file::read_text;
use crate::coverage::{Coverage, Origin};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::wal::{BackupHistory, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId, WalName};

pub use acknowledgements::{Acknowledgement, Acknowledgements, Extent};
pub use elsewhere::{BackupElsewhere, backups_elsewhere};
pub use finding::{Acknowledged, Finding, FindingKind, Findings, Severity};
pub use known::KnownBackup;
pub use labels::{LabelPattern, Labels};
pub use reports::{PruneReport, Scope, VerifyReport};
pub use sizes::{OtherSize, Sizes};

/// What an archive holds of a cluster.
#[derive(Debug)]
pub struct Catalog {
    /// The cluster.
    pub system: SystemIdentifier,
    /// Its files.
    pub inventory: Inventory,
    /// How large the segments are.
    pub sizes: Sizes,
    /// How the segments hang together that are of the size that is archived now.
    pub coverage: Coverage,
    /// How those hang together that are of another size; nothing leads from them to what is archived now.
    pub other_coverages: Vec<Coverage>,
    /// The base backups whose backup history files can be read, in the order of these files' names.
    pub backups: Vec<ArchivedBackup>,
    /// The timeline history files and backup history files that cannot be read, and why.
    pub unreadable: Vec<(WalName, Error)>,
}

/// A base backup that the archive knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedBackup {
    /// The name of its backup history file.
    pub name: WalName,
    /// What that says.
    pub history: BackupHistory,
    /// When that was archived, which is when the backup had ended.
    pub archived_at: Timestamp,
}

impl ArchivedBackup {
    /// Where its replay begins.
    #[must_use]
    pub fn origin(&self, size: SegmentSize) -> Origin {
        let BackupHistory { start, start_segment, stop, stop_timeline, .. } = self.history;
        Origin {
            timeline: start_segment.timeline(),
            start: start.0 / size.bytes(),
            stop: stop.unwrap_or(start),
            stop_timeline: stop_timeline.unwrap_or(start_segment.timeline()),
        }
    }

    /// What people call it: its label and the segment in which it starts.
    #[must_use]
    pub fn title(&self) -> String {
        let segment = self.history.start_segment;
        match &self.history.label {
            Some(label) => format!("\"{label}\" from {segment}"),
            None => format!("the backup from {segment}"),
        }
    }
}

/// What a number of files amounts to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many files, of whatever kind.
    pub files: u64,
    /// How many of them are complete segments.
    pub segments: u64,
    /// The bytes that all take in the archive.
    pub stored_bytes: u64,
    /// The bytes that segments, complete or partial, had before they were archived.
    pub original_bytes: u64,
}

impl Totals {
    /// Of files of a cluster whose segments have these sizes.
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

    /// How many bytes each stored one stands for; none where that says nothing.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        // Sizes of archives are far below what this cannot tell apart.
        #[allow(clippy::cast_precision_loss, reason = "nobody reads 15 digits of a ratio")]
        let ratio = self.original_bytes as f64 / self.stored_bytes as f64;
        (self.original_bytes > 0 && self.stored_bytes > 0).then_some(ratio)
    }
}

/// How an archive is read by those who look after it.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// How many files are asked for at a time.
    pub at_once: usize,
    /// For how long a request is repeated that fails.
    pub patience: Duration,
}

impl Reading {
    /// Repeats what fails while that may help.
    pub(crate) async fn patiently<T>(
        self,
        attempt: impl AsyncFnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let limit = TimeLimit::new(Instant::now(), self.patience);
        let waiting = |error: &Error| {
            tracing::warn!("{}; trying again for up to {}", error.report(), limit.left_as_text());
        };
        retry(&limit, waiting, attempt).await
    }
}

/// Lists all of a cluster's files, and reads those that say how they hang together. One that cannot be read is no failure
/// here, but an archive that does not answer is.
pub async fn catalog(
    archive: &Archive,
    system: SystemIdentifier,
    reading: Reading,
) -> Result<Catalog, Error> {
    let mut inventory = reading.patiently(async || archive.inventory(system).await).await?;
    let is_text = |file: &&ArchivedFile| file.name.segment().is_none();
    let texts: Vec<ArchivedFile> = inventory.files.iter().filter(is_text).copied().collect();
    let read = read_texts(archive, system, texts, reading).await?;
    inventory.files.retain(|file| !read.gone.contains(&file.name.wal()));
    let Texts { histories, backups, unreadable, .. } = read;
    let sizes = Sizes::found(archive, system, &inventory.files, &backups, reading).await?;
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
    /// How the segments hang together that are as large as the one in which the backup begins.
    #[must_use]
    pub fn coverage_of(&self, backup: &ArchivedBackup) -> &Coverage {
        let size = self.sizes.of(backup.name.into());
        self.other_coverages.iter().find(|coverage| coverage.size() == size).unwrap_or(&self.coverage)
    }
}

/// What the text files of an archive say.
#[derive(Debug, Default)]
pub struct Texts {
    /// Of timeline history files.
    pub histories: BTreeMap<TimelineId, TimelineHistory>,
    /// Of backup history files, in the order of their names.
    pub backups: Vec<ArchivedBackup>,
    /// Those that cannot be read, and why.
    pub unreadable: Vec<(WalName, Error)>,
    /// Those that have been deleted since they were listed.
    gone: BTreeSet<WalName>,
}

/// Reads the timeline history files and the backup history files of a cluster, without a look at its segments.
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
        files.extend(reading.patiently(async || archive.text_files(system, kind).await).await?);
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
        let content = reading.patiently(async || read_text(archive, system, name).await).await;
        match content {
            Err(error) if !says_something_of_the_file(error.kind()) => Err(error),
            content => Ok((name, content)),
        }
    };
    let mut contents = futures_util::stream::iter(files).map(read).buffered(reading.at_once);
    let mut texts = Texts::default();
    while let Some((name, content)) = contents.try_next().await? {
        let (header, content) = match content {
            Ok(content) => content,
            Err(error) => {
                texts.unreadable.push((name, error));
                continue;
            }
        };
        // What was decoded has been parsed before.
        match name {
            WalName::History(timeline) => {
                if let Ok(history) = TimelineHistory::parse(timeline, &content) {
                    texts.histories.insert(timeline, history);
                }
            }
            WalName::Backup { segment, .. } => {
                if let Ok(history) = BackupHistory::parse(segment, &content) {
                    texts.backups.push(ArchivedBackup { name, history, archived_at: header.archived_at });
                }
            }
            WalName::Segment(_) | WalName::Partial(_) => {}
        }
    }
    if texts.unreadable.iter().any(|(_, error)| error.kind() == ErrorKind::Absent) {
        // Another prune may be at work. What is absent and still listed is another matter.
        let listed = list_texts(archive, system, reading).await?;
        let (unreadable, gone) = texts.unreadable.into_iter().partition(|(name, error)| {
            error.kind() != ErrorKind::Absent || listed.iter().any(|file| file.name.wal() == *name)
        });
        texts.unreadable = unreadable;
        texts.gone = Vec::into_iter(gone).map(|(name, _)| name).collect();
    }
    Ok(texts)
}

/// Whether such a failure is one of the file at hand, and not of the archive.
pub(crate) fn says_something_of_the_file(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Damaged | ErrorKind::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ArchiveOptions;

    #[tokio::test]
    async fn a_file_that_is_deleted_before_it_is_read_is_gone_and_not_unreadable() {
        let place = tempfile::tempdir().unwrap();
        let system = SystemIdentifier::new(7).unwrap();
        let timelines = place.path().join("7/timelines");
        std::fs::create_dir_all(&timelines).unwrap();
        std::fs::write(timelines.join("00000002.history"), "not an archived file").unwrap();
        let url = place.path().to_str().unwrap().parse().unwrap();
        let options =
            ArchiveOptions { url, require_mount: false, store: crate::archive::StoreOptions::default() };
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
