//! Neighbours of a segment that the archive seems to lack, by a fresh lookup that bypasses caches.
//!
//! They distinguish the end of the WAL from a gap, and an available archive from an unavailable one: a mistyped
//! prefix, an empty bucket and an unmounted mount point contain no file of the cluster, and so prove no absence.

use jiff::Timestamp;

use super::held::is_empty;
use super::{Archive, Backend, TextFiles};
use crate::coverage::BackupTrace;
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier, TimelineId, WalName};

/// Neighbours of a segment, by a fresh lookup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a separate fact")]
pub struct Surroundings {
    /// `true` if the segment exists after all.
    pub is_there: bool,
    /// `true` if the segment has a `.partial`.
    pub partial: bool,
    /// Lowest later segment of its timeline, complete or partial, with its time of archiving by the clock of the
    /// directory or store.
    pub later: Option<(SegmentName, Timestamp)>,
    /// `true` if segments of a higher timeline were seen.
    pub higher_timelines: bool,
    /// `true` if the archive contains any segment of the cluster, complete or partial.
    pub any_segment: bool,
}

impl Surroundings {
    /// Adds an archived file whose name does not sort before the segment.
    pub(super) fn add(&mut self, asked: SegmentName, file: WalName, since: Timestamp) {
        let Some(segment) = file.segment() else { return };
        match file {
            _ if segment.timeline() > asked.timeline() => self.higher_timelines = true,
            _ if segment.timeline() < asked.timeline() || segment < asked => {}
            WalName::Segment(_) if segment == asked => self.is_there = true,
            WalName::Partial(_) if segment == asked => self.partial = true,
            // A later `.partial` proves that this segment was completely written.
            WalName::Segment(_) | WalName::Partial(_) => {
                let lower = self.later.is_none_or(|(later, _)| segment < later);
                if lower {
                    self.later = Some((segment, since));
                }
            }
            WalName::History(_) | WalName::Backup { .. } => {}
        }
    }
}

impl Archive {
    /// Looks up the neighbours of a segment. Fails if the archive contains no file of the cluster, because it then
    /// proves nothing.
    pub async fn surroundings(
        &self,
        system: SystemIdentifier,
        segment: SegmentName,
    ) -> Result<Surroundings, Error> {
        let found = match &self.backend {
            Backend::Local(local) => local.surroundings(system, segment).await,
            Backend::Store(store) => store.surroundings(system, segment).await,
        };
        if is_empty(&found) {
            return Err(self.holds_nothing_of(system, ErrorKind::Empty).await);
        }
        found
    }

    /// Returns what the names of backup history files tell of a segment, with the times of archiving: see
    /// [`BackupTrace::about`]. One listing.
    pub async fn backups_about(
        &self,
        system: SystemIdentifier,
        segment: SegmentName,
    ) -> Result<Vec<(BackupTrace, Timestamp)>, Error> {
        match &self.backend {
            Backend::Local(local) => local.backups_about(system, segment).await,
            Backend::Store(_) => {
                let files = self.text_files(system, TextFiles::Backups).await?;
                let about = BackupTrace::about(segment, files.iter().map(|file| file.name.wal())).into_iter();
                let since = |trace: &BackupTrace| {
                    let file = files.iter().find(|file| file.name.wal() == trace.name());
                    file.map_or(Timestamp::MAX, |file| file.since)
                };
                Ok(about.map(|trace| (trace, since(&trace))).collect())
            }
        }
    }

    /// Checks with a fresh lookup that the archive contains any file of the cluster.
    pub async fn confirm_holds(&self, system: SystemIdentifier) -> Result<(), Error> {
        let found = match &self.backend {
            Backend::Local(local) => local.confirm_holds(system).await,
            Backend::Store(store) => store.confirm_holds(system).await,
        };
        if is_empty(&found) {
            return Err(self.holds_nothing_of(system, ErrorKind::Empty).await);
        }
        found
    }

    /// Lists the timelines that have a history file in the archive, readable or not.
    pub async fn timelines(&self, system: SystemIdentifier) -> Result<Vec<TimelineId>, Error> {
        match &self.backend {
            Backend::Local(local) => local.timelines(system).await,
            Backend::Store(_) => {
                let files = self.text_files(system, TextFiles::Histories).await?;
                Ok(files.iter().map(|file| file.name.wal().timeline()).collect())
            }
        }
    }

    /// Returns the lowest archived segment of a timeline.
    pub async fn lowest_segment(
        &self,
        system: SystemIdentifier,
        timeline: TimelineId,
    ) -> Result<Option<SegmentName>, Error> {
        match &self.backend {
            Backend::Local(local) => local.lowest_segment(system, timeline).await,
            Backend::Store(store) => store.lowest_segment(system, timeline).await,
        }
    }
}

/// Creates the error for an available archive that contains no file of the cluster.
pub(super) fn holds_nothing(archive: impl std::fmt::Display, system: SystemIdentifier) -> Error {
    let what = format!("the archive {archive} holds nothing of system {system}");
    Error::new(ErrorKind::Empty, what).hint("is it mounted, and is it this cluster's archive?")
}
