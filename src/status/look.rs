//! Requests to an archive, each made only once.

use crate::archive::{Archive, ArchivedFile, SegmentGroups};
use crate::archived_file::{header_of, size_and_time_of};
use crate::catalog::{Reading, concerns_one_file};
use crate::error::Error;
use crate::frame::Header;
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, WalName};

/// An archive with the answers received so far.
pub(super) struct Look<'a> {
    pub(super) archive: &'a Archive,
    pub(super) system: SystemIdentifier,
    pub(super) reading: Reading,
    groups: SegmentGroups,
}

impl<'a> Look<'a> {
    /// Requests the newest segments.
    pub(super) async fn begin(
        archive: &'a Archive,
        system: SystemIdentifier,
        reading: Reading,
    ) -> Result<Self, Error> {
        let groups = reading.retry(async || archive.latest_segments(system).await).await?;
        Ok(Self { archive, system, reading, groups })
    }

    /// Returns the newest segment of each timeline, in order of timelines.
    pub(super) fn newest(&self) -> Vec<ArchivedFile> {
        self.groups.newest()
    }

    /// Returns the complete segments whose names start with these 16 digits, ascending.
    pub(super) async fn group(&mut self, group: &str) -> Result<Vec<ArchivedFile>, Error> {
        if let Some(listed) = self.groups.listed.get(group) {
            return Ok(listed.clone());
        }
        if !self.groups.names.contains(group) {
            return Ok(Vec::new());
        }
        let (archive, system) = (self.archive, self.system);
        let listed = self.reading.retry(async || archive.segments_of(system, group).await).await?;
        self.groups.listed.insert(group.to_owned(), listed.clone());
        Ok(listed)
    }

    /// Returns the oldest segment on any timeline.
    pub(super) async fn oldest(&mut self) -> Result<Option<SegmentName>, Error> {
        let mut names: Vec<String> = self.groups.names.iter().cloned().collect();
        names.sort_unstable_by(|one, other| one.get(8..).cmp(&other.get(8..)));
        let mut oldest: Option<SegmentName> = None;
        for name in names {
            if oldest.is_some_and(|oldest| oldest.group().get(8..) != name.get(8..)) {
                break;
            }
            let first = self.group(&name).await?.first().and_then(|file| file.name.segment());
            oldest = oldest.into_iter().chain(first).min_by_key(|segment| segment.order());
        }
        Ok(oldest)
    }

    /// Returns `true` if the archive has the file.
    pub(super) async fn holds(&self, name: WalName) -> Result<bool, Error> {
        self.reading.retry(async || self.archive.holds(self.system, name).await).await
    }

    /// Returns the header of a file; `None` if it is unreadable or missing.
    pub(super) async fn header(&self, name: WalName) -> Result<Option<Header>, Error> {
        let read = self.reading.retry(async || header_of(self.archive, self.system, name).await).await;
        known(read)
    }

    /// Returns the segment size according to the newest segment with a readable header.
    pub(super) async fn segment_size(&self) -> Result<Option<SegmentSize>, Error> {
        for file in self.newest().into_iter().rev() {
            let read = self
                .reading
                .retry(async || size_and_time_of(self.archive, self.system, file.name).await)
                .await;
            if let Some((size, _)) = known(read)? {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }
}

/// Returns the result of reading. Other commands report damaged files.
fn known<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Err(error) if concerns_one_file(error.kind()) => Ok(None),
        read => read.map(Some),
    }
}
