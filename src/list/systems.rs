//! List of the clusters in an archive.

use std::cell::Cell;
use std::time::Duration;

use futures_util::StreamExt;

use crate::archive::{Archive, Summary};
use crate::archived_file::size_and_time_of;
use crate::catalog::Reading;
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentSize, SystemIdentifier};
use crate::work::Work;

/// A cluster in the list.
#[derive(Debug)]
pub struct ListedSystem {
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// What the archive holds of it, or the error from listing that.
    pub held: Result<HeldOfSystem, Error>,
}

/// What an archive holds of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOfSystem {
    /// Its archived files.
    pub summary: Summary,
    /// Size of its segments, if its oldest and its newest one agree about that.
    pub size: Option<SegmentSize>,
}

impl HeldOfSystem {
    /// Returns the uncompressed size of all segments, complete or partial, in bytes.
    #[must_use]
    pub fn original_bytes(&self) -> Option<u64> {
        let segments = self.summary.segments.saturating_add(self.summary.partials);
        self.size.map(|size| segments.saturating_mul(size.bytes()))
    }
}

/// Lists these clusters, several at a time in a store. All that is kept of a cluster is its summary. One whose files cannot be
/// listed hides no other.
pub async fn list_systems(
    archive: &Archive,
    systems: Vec<SystemIdentifier>,
    reading: Reading,
    work: &Work<'_>,
) -> Result<Vec<ListedSystem>, Error> {
    let is_away = Cell::new(false);
    let is_away = &is_away;
    let look = |system| async move {
        // An archive that is away makes the whole wait once, and not for each cluster.
        let patience = if is_away.get() { Duration::ZERO } else { reading.patience };
        let held = look_at(archive, system, Reading { patience, ..reading }).await;
        let failed = held.as_ref().err().map(Error::kind);
        is_away.set(is_away.get() || failed == Some(ErrorKind::Unavailable));
        ListedSystem { system, held }
    };
    let listing =
        async { Ok(futures_util::stream::iter(systems).map(look).buffered(reading.at_once).collect().await) };
    work.unless_stopped(listing, "stopped before all was listed").await
}

async fn look_at(
    archive: &Archive,
    system: SystemIdentifier,
    reading: Reading,
) -> Result<HeldOfSystem, Error> {
    let summary = reading.retry(async || archive.summary(system).await).await?;
    let ends = [summary.oldest, summary.newest].map(|end| end.map(|file| file.name));
    let mut sizes = Vec::new();
    for (index, end) in ends.into_iter().enumerate().filter_map(|(index, end)| Some((index, end?))) {
        if index > 0 && ends.first() == Some(&Some(end)) {
            continue;
        }
        // What the list is for does not need it, and who reads the file says what is wrong.
        match size_and_time_of(archive, system, end).await {
            Ok((size, _)) => sizes.push(Some(size)),
            Err(error) => {
                tracing::debug!("the size of segments is unknown: {}", error.report());
                sizes.push(None);
            }
        }
    }
    let size =
        sizes.first().copied().flatten().filter(|size| sizes.iter().all(|other| *other == Some(*size)));
    Ok(HeldOfSystem { summary, size })
}
