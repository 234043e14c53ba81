//! Listings of an archive.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use object_store::path::Path as Key;
use object_store::{ListResult, ObjectMeta};

use super::failure::Asked;
use super::held::is_empty;
use super::key::{self, Kind};
use super::summary::Gather;
use super::{Archive, ArchivedName, Backend, LinkedDirectory};
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier, WalName};

/// An archived file in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivedFile {
    /// Name of the file.
    pub name: ArchivedName,
    /// Time of archiving, by the clock of the directory or store.
    pub since: Timestamp,
    /// Size in the archive, in bytes.
    pub stored_size: u64,
}

/// A file or directory that is no archived file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFile {
    /// Path below the archive.
    pub key: String,
    /// Time of its last change, by the clock of the directory or store.
    pub since: Timestamp,
    /// Size in bytes.
    pub size: u64,
}

/// Age at which a staging file counts as abandoned. A younger one may belong to a push in progress.
const ABANDONED_AFTER: SignedDuration = SignedDuration::from_hours(24);

impl OtherFile {
    /// Returns `true` if the file is too old to belong to work in progress.
    #[must_use]
    pub fn is_abandoned(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) > ABANDONED_AFTER
    }

    /// Returns `true` if an archived file belongs under this key. If the file is none, such as a directory or a pipe, it stands
    /// in the way of that one.
    #[must_use]
    pub fn has_an_archived_files_key(&self) -> bool {
        let system = self.key.split('/').next().and_then(|system| system.parse().ok());
        system.is_some_and(|system| matches!(key::classify(system, &self.key), Kind::File(_)))
    }
}

/// One directory of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Names of the directories in it.
    pub(super) directories: Vec<String>,
    /// The files in it.
    pub(super) files: Vec<OtherFile>,
}

impl Listing {
    fn of_store(found: &ListResult) -> Self {
        let name = |prefix: &Key| prefix.filename().map(str::to_owned);
        let file = |found: &ObjectMeta| OtherFile {
            key: found.location.to_string(),
            since: since(found),
            size: found.size,
        };
        Self {
            directories: found.common_prefixes.iter().filter_map(name).collect(),
            files: found.objects.iter().map(file).collect(),
        }
    }
}

/// All files that an archive contains of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Archived files, sorted by name.
    pub files: Vec<ArchivedFile>,
    /// Staging files of killed pushes, which are useless, and of pushes in progress.
    pub staged: Vec<OtherFile>,
    /// Files unknown to walkeep. A directory stands for its whole content.
    pub unknown: Vec<OtherFile>,
    /// Empty segment directories.
    pub empty: Vec<OtherFile>,
    /// Directories that are symbolic links.
    pub links: Vec<LinkedDirectory>,
}

/// Each file goes to the list that its key belongs to.
impl Gather for Inventory {
    fn file(&mut self, system: SystemIdentifier, key: &str, since: Timestamp, size: u64) {
        let other = || OtherFile { key: key.to_owned(), since, size };
        match key::classify(system, key) {
            Kind::File(name) => self.files.push(ArchivedFile { name, since, stored_size: size }),
            Kind::Staged => self.staged.push(other()),
            Kind::Report => {}
            Kind::Unknown => self.unknown.push(other()),
        }
    }

    fn unknown(&mut self, file: OtherFile) {
        self.unknown.push(file);
    }

    fn empty(&mut self, directory: OtherFile) {
        self.empty.push(directory);
    }
}

impl Archive {
    /// Lists the clusters that have a directory in the archive, in ascending order: one listing of its top, and none of what is
    /// below. A cluster whose directory is out of reach is among them, since its files may only be hidden.
    pub async fn systems(&self) -> Result<Vec<SystemIdentifier>, Error> {
        let mut systems: Vec<SystemIdentifier> = match &self.backend {
            Backend::Local(local) => local.systems().await?,
            Backend::Store(_) => {
                let listing = self.list_directory(None).await?;
                listing.directories.iter().filter_map(|name| name.parse().ok()).collect()
            }
        };
        systems.sort_unstable();
        Ok(systems)
    }

    /// Returns the directories of a cluster that are symbolic links: no push and no prune changes anything behind one.
    pub async fn links(&self, system: SystemIdentifier) -> Vec<LinkedDirectory> {
        match &self.backend {
            Backend::Local(local) => local.links(system).await,
            Backend::Store(_) => Vec::new(),
        }
    }

    /// Lists all files of a cluster. A partial listing is an error. A store returns a thousand names per request.
    pub async fn inventory(&self, system: SystemIdentifier) -> Result<Inventory, Error> {
        let mut inventory = match &self.backend {
            Backend::Local(local) => {
                let found = local.gather(system, Inventory::default()).await;
                if is_empty(&found) {
                    return Err(self.holds_nothing_of(system, ErrorKind::Empty).await);
                }
                Inventory { links: local.links(system).await, ..found? }
            }
            Backend::Store(_) => self.gather(system, Inventory::default()).await?,
        };
        inventory.files.sort_unstable_by_key(|file| file.name);
        if inventory.files.is_empty() {
            return Err(self.holds_nothing_of(system, ErrorKind::Empty).await);
        }
        Ok(inventory)
    }

    /// Lists the archived text files of one kind, sorted by name.
    pub async fn text_files(
        &self,
        system: SystemIdentifier,
        kind: TextFiles,
    ) -> Result<Vec<ArchivedFile>, Error> {
        let directory = kind.directory(system);
        let listing = self.list_directory(Some(&directory)).await?;
        let files = listing.files.iter().filter_map(|found| archived(system, found));
        let mut files: Vec<ArchivedFile> = files.collect();
        files.sort_unstable_by_key(|file| file.name);
        Ok(files)
    }

    /// Returns all files in the directories that `names` belong into, the unnamed ones included, after one listing of
    /// each directory.
    pub async fn held_among(
        &self,
        system: SystemIdentifier,
        names: impl IntoIterator<Item = WalName>,
    ) -> Result<BTreeSet<WalName>, Error> {
        let directories: BTreeSet<Key> =
            names.into_iter().filter_map(|name| key::key(system, name.into()).parent()).collect();
        let mut held = BTreeSet::new();
        for directory in directories {
            let listing = self.list_directory(Some(&directory)).await?;
            held.extend(listing.files.iter().filter_map(|found| Some(archived(system, found)?.name.wal())));
        }
        Ok(held)
    }

    /// Returns the newest segment of the newest timeline that has any. Needs two listings, neither of the whole
    /// archive.
    pub async fn newest_segment(&self, system: SystemIdentifier) -> Result<Option<ArchivedFile>, Error> {
        let newest = self.newest_segments(system).await?;
        Ok(newest.into_iter().max_by_key(|file| file.name))
    }

    /// Returns the newest segment of each timeline that has any, in order of timelines. Lists as
    /// [`Archive::latest_segments`] does.
    pub async fn newest_segments(&self, system: SystemIdentifier) -> Result<Vec<ArchivedFile>, Error> {
        Ok(self.latest_segments(system).await?.newest())
    }

    /// Lists the newest segments of each timeline: one listing of the directories, and one of the last directory of
    /// each timeline. None covers the whole archive.
    pub async fn latest_segments(&self, system: SystemIdentifier) -> Result<SegmentGroups, Error> {
        let listing = self.list_directory(Some(&key::wal(system))).await?;
        // Names of groups have a fixed length, so they sort as text.
        let names: BTreeSet<String> =
            listing.directories.into_iter().filter(|name| key::is_group(name)).collect();
        let mut groups = SegmentGroups { names, listed: BTreeMap::new() };
        let mut done: Option<String> = None;
        for group in groups.names.clone().into_iter().rev() {
            let timeline = group.get(..8).map(str::to_owned);
            if timeline == done {
                continue;
            }
            let segments = self.segments_of(system, &group).await?;
            if !segments.is_empty() {
                done = timeline;
            }
            groups.listed.insert(group, segments);
        }
        Ok(groups)
    }

    /// Lists the complete segments whose names share the first 16 digits, sorted by name. Empty if there are none.
    pub async fn segments_of(
        &self,
        system: SystemIdentifier,
        group: &str,
    ) -> Result<Vec<ArchivedFile>, Error> {
        let listing = self.list_directory(Some(&key::wal(system).join(group))).await?;
        let files = listing.files.iter().filter_map(|found| archived(system, found));
        let mut segments: Vec<ArchivedFile> =
            files.filter(|file| matches!(file.name.wal(), WalName::Segment(_))).collect();
        segments.sort_unstable_by_key(|file| file.name);
        Ok(segments)
    }

    /// Lists one directory of keys, or the top directory of the archive.
    pub(super) async fn list_directory(&self, directory: Option<&Key>) -> Result<Listing, Error> {
        if let Backend::Local(local) = &self.backend {
            return local.list(directory).await;
        }
        let found = self.objects().list_with_delimiter(directory).await.map_err(|error| {
            let below = directory.cloned().unwrap_or_default();
            self.failure("cannot list", &below, Asked::List, error).into_error()
        })?;
        Ok(Listing::of_store(&found))
    }
}

/// Segments of an archive, grouped by the first 16 digits of their names. Not all groups need be listed.
#[derive(Debug, Clone, Default)]
pub struct SegmentGroups {
    /// All groups, including those without a complete segment.
    pub names: BTreeSet<String>,
    /// Complete segments of the groups that were listed, sorted by name.
    pub listed: BTreeMap<String, Vec<ArchivedFile>>,
}

impl SegmentGroups {
    /// Returns the newest listed segment of each timeline, in order of timelines.
    #[must_use]
    pub fn newest(&self) -> Vec<ArchivedFile> {
        let mut newest: Vec<ArchivedFile> = Vec::new();
        for last in self.listed.values().filter_map(|segments| segments.last()) {
            let timeline = |file: &ArchivedFile| file.name.segment().map(SegmentName::timeline);
            match newest.last_mut() {
                Some(before) if timeline(before) == timeline(last) => *before = *last,
                _ => newest.push(*last),
            }
        }
        newest
    }
}

/// The two kinds of text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFiles {
    /// Timeline history files.
    Histories,
    /// Backup history files.
    Backups,
}

impl TextFiles {
    fn directory(self, system: SystemIdentifier) -> Key {
        Key::from(match self {
            Self::Histories => format!("{system}/timelines"),
            Self::Backups => format!("{system}/backups"),
        })
    }
}

fn archived(system: SystemIdentifier, found: &OtherFile) -> Option<ArchivedFile> {
    match key::classify(system, &found.key) {
        Kind::File(name) => Some(ArchivedFile { name, since: found.since, stored_size: found.size }),
        _ => None,
    }
}

/// Returns the time of an object's creation, by the store's clock.
pub(super) fn since(found: &ObjectMeta) -> Timestamp {
    Timestamp::from_millisecond(found.last_modified.timestamp_millis()).unwrap_or(Timestamp::MAX)
}
