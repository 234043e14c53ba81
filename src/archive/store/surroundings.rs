//! Neighbours of a segment in a store: one listing that starts a little before it.
//!
//! A store lists keys in order, starting after any key. One page therefore contains both the segment before, which
//! proves that the archive is available, and a later segment, which proves a gap. Directory buckets of S3 Express
//! list without order, so all of their keys are read.

use futures_util::{Stream, StreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::Store;
use super::upload::Claim;
use crate::archive::failure::Asked;
use crate::archive::inventory::since;
use crate::archive::key::{self, Kind, classify};
use crate::archive::surroundings::{Surroundings, holds_nothing};
use crate::error::Error;
use crate::wal::{SegmentName, SystemIdentifier, TimelineId, WalName};

impl Store {
    pub(in crate::archive) async fn surroundings(
        &self,
        system: SystemIdentifier,
        segment: SegmentName,
    ) -> Result<Surroundings, Error> {
        let mut around = Surroundings::default();
        let mut listing = self.list_from(system, &a_little_before(system, segment));
        while let Some(found) = listing.next().await {
            let found = found?;
            let Kind::File(name) = classify(system, found.location.as_ref()) else { continue };
            around.any_segment = true;
            around.add(segment, name.wal(), since(&found));
            if self.lists_in_order() && (around.later.is_some() || around.higher_timelines) {
                break;
            }
        }
        drop(listing);
        around.any_segment = around.any_segment || self.holds_below(system, &key::wal(system)).await?;
        if !around.any_segment {
            self.confirm_holds(system).await?;
        }
        Ok(around)
    }

    pub(in crate::archive) async fn confirm_holds(&self, system: SystemIdentifier) -> Result<(), Error> {
        if self.holds_below(system, &key::of_system(system)).await? {
            return Ok(());
        }
        Err(holds_nothing(&self.url, system))
    }

    /// Returns `true` if there is an archived file of the cluster below that key.
    async fn holds_below(&self, system: SystemIdentifier, prefix: &Path) -> Result<bool, Error> {
        let mut listing = self.objects.list(Some(prefix)).map(|found| self.listed(prefix, found));
        while let Some(found) = listing.next().await {
            if let Kind::File(_) = classify(system, found?.location.as_ref()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(in crate::archive) async fn lowest_segment(
        &self,
        system: SystemIdentifier,
        timeline: TimelineId,
    ) -> Result<Option<SegmentName>, Error> {
        let first = Path::from(format!("{}/{:08X}", key::wal(system), timeline.get()));
        let mut lowest: Option<SegmentName> = None;
        let mut listing = self.list_from(system, &first);
        while let Some(found) = listing.next().await {
            let Kind::File(name) = classify(system, found?.location.as_ref()) else { continue };
            let WalName::Segment(segment) = name.wal() else { continue };
            if segment.timeline() == timeline {
                lowest = Some(lowest.map_or(segment, |lowest| lowest.min(segment)));
            }
            if self.lists_in_order() && segment.timeline() >= timeline {
                break;
            }
        }
        Ok(lowest)
    }

    /// Lists the segments whose keys come after `offset`.
    fn list_from(
        &self,
        system: SystemIdentifier,
        offset: &Path,
    ) -> impl Stream<Item = Result<ObjectMeta, Error>> + Unpin + use<'_> {
        let prefix = key::wal(system);
        let listing = self.objects.list_with_offset(Some(&prefix), offset);
        listing.map(move |found| self.listed(&prefix, found))
    }

    fn listed(&self, prefix: &Path, found: object_store::Result<ObjectMeta>) -> Result<ObjectMeta, Error> {
        found.map_err(|error| {
            self.failed(format!("cannot list {}", self.location(prefix)), Asked::List, &error)
        })
    }

    fn lists_in_order(&self) -> bool {
        !matches!(self.claim, Claim::Session)
    }
}

/// Returns a key that comes before the preceding segment, for any segment size, unless that segment has another
/// middle third.
fn a_little_before(system: SystemIdentifier, segment: SegmentName) -> Path {
    let (wal, group) = (key::wal(system), segment.group());
    let name = segment.to_string();
    let before =
        name.get(group.len()..).and_then(|number| u32::from_str_radix(number, 16).ok()?.checked_sub(2));
    Path::from(match before {
        Some(number) => format!("{wal}/{group}/{group}{number:08X}"),
        None => format!("{wal}/{group}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_includes_the_preceding_segment() {
        let system = SystemIdentifier::new(7).unwrap();
        for (name, expected) in [
            ("00000002000000010000000A", "7/wal/0000000200000001/000000020000000100000008"),
            ("000000020000000100000002", "7/wal/0000000200000001/000000020000000100000000"),
            ("000000020000000100000001", "7/wal/0000000200000001"),
            ("000000020000000100000000", "7/wal/0000000200000001"),
        ] {
            let offset = a_little_before(system, name.parse().unwrap());
            assert_eq!(offset.as_ref(), expected);
        }
    }
}
