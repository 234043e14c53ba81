//! What an archive holds.

use jiff::Timestamp;
use object_store::ListResult;
use object_store::path::Path as Key;

use super::failure::Asked;
use super::{Archive, key};
use crate::error::Error;
use crate::wal::{SegmentName, SystemIdentifier, WalName};

/// An archived segment, and since when the archive holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivedSegment {
    /// Its name.
    pub name: SegmentName,
    /// When it was archived, by the clock of the place.
    pub since: Timestamp,
}

impl Archive {
    /// The systems whose files the archive holds, in ascending order.
    pub async fn systems(&self) -> Result<Vec<SystemIdentifier>, Error> {
        let listing = self.list_directory(None).await?;
        let names = listing.common_prefixes.iter().filter_map(|prefix| prefix.filename()?.parse().ok());
        let mut systems: Vec<SystemIdentifier> = names.collect();
        systems.sort_unstable();
        Ok(systems)
    }

    /// The newest segment of the system's newest timeline that has any. Two listings, of which neither has the whole
    /// archive in it.
    pub async fn newest_segment(&self, system: SystemIdentifier) -> Result<Option<ArchivedSegment>, Error> {
        let groups = self.list_directory(Some(&key::wal(system))).await?;
        // A group's name is a timeline and a log number, in hexadecimal digits of fixed length: text order is theirs.
        let is_group = |name: &str| {
            name.len() == 16 && name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
        };
        let mut groups: Vec<&Key> =
            groups.common_prefixes.iter().filter(|prefix| prefix.filename().is_some_and(is_group)).collect();
        groups.sort_unstable();
        for group in groups.into_iter().rev() {
            let files = self.list_directory(Some(group)).await?;
            let segments = files.objects.iter().filter_map(|file| {
                let WalName::Segment(name) = file.location.filename()?.parse().ok()? else { return None };
                let since = Timestamp::from_millisecond(file.last_modified.timestamp_millis()).ok()?;
                Some(ArchivedSegment { name, since })
            });
            if let Some(newest) = segments.max_by_key(|segment| segment.name.to_string()) {
                return Ok(Some(newest));
            }
        }
        Ok(None)
    }

    /// What is directly in a directory of keys, or in the archive itself.
    pub(super) async fn list_directory(&self, directory: Option<&Key>) -> Result<ListResult, Error> {
        self.objects().list_with_delimiter(directory).await.map_err(|error| {
            let below = directory.cloned().unwrap_or_default();
            self.failure("cannot list", &below, Asked::Other, error).into_error()
        })
    }
}
