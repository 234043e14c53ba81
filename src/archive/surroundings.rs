//! What is around a segment that an archive seems not to have: a look at the place itself, whatever was seen or cached before.
//!
//! It tells an end of the log from a gap, and an archive that is there from one that is not: a mistyped prefix, an empty
//! bucket, a mount point with nothing mounted on it hold no file of the system, and prove nothing about any.

use jiff::Timestamp;

use super::{Archive, Place, TextFiles};
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier, TimelineId, WalName};

/// What a fresh look at an archive shows around a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether the segment itself is there after all.
    pub is_there: bool,
    /// Whether there is a `.partial` of it.
    pub partial: bool,
    /// The lowest segment of its timeline that comes after it, complete or partial, and since when that is there, by the place's clock.
    pub later: Option<(SegmentName, Timestamp)>,
    /// Whether segments of a higher timeline were seen.
    pub higher_timelines: bool,
}

impl Surroundings {
    /// Takes in an archived file that is not before the segment in the order of names.
    pub(super) fn add(&mut self, asked: SegmentName, file: WalName, since: Timestamp) {
        let Some(segment) = file.segment() else { return };
        match file {
            _ if segment.timeline() > asked.timeline() => self.higher_timelines = true,
            _ if segment.timeline() < asked.timeline() || segment < asked => {}
            WalName::Segment(_) if segment == asked => self.is_there = true,
            WalName::Partial(_) if segment == asked => self.partial = true,
            // Who has left the beginning of a later one has written all of this one.
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
    /// Looks around a segment. An archive that holds no file of the system is a failure: it proves nothing.
    pub async fn surroundings(
        &self,
        system: SystemIdentifier,
        segment: SegmentName,
    ) -> Result<Surroundings, Error> {
        match &self.place {
            Place::Local(local) => local.surroundings(system, segment).await,
            Place::Store(store) => store.surroundings(system, segment).await,
        }
    }

    /// Makes sure, by a fresh look, that the archive holds any file of the system at all.
    pub async fn confirm_holds(&self, system: SystemIdentifier) -> Result<(), Error> {
        match &self.place {
            Place::Local(local) => local.confirm_holds(system).await,
            Place::Store(store) => store.confirm_holds(system).await,
        }
    }

    /// The timelines of which the archive has a history file, readable or not.
    pub async fn timelines(&self, system: SystemIdentifier) -> Result<Vec<TimelineId>, Error> {
        match &self.place {
            Place::Local(local) => local.timelines(system).await,
            Place::Store(_) => {
                let files = self.text_files(system, TextFiles::Histories).await?;
                Ok(files.iter().map(|file| file.name.wal().timeline()).collect())
            }
        }
    }

    /// The lowest segment of a timeline that the archive holds.
    pub async fn lowest_segment(
        &self,
        system: SystemIdentifier,
        timeline: TimelineId,
    ) -> Result<Option<SegmentName>, Error> {
        match &self.place {
            Place::Local(local) => local.lowest_segment(system, timeline).await,
            Place::Store(store) => store.lowest_segment(system, timeline).await,
        }
    }
}

/// The archive answers, and holds no file of the system.
pub(super) fn holds_nothing(archive: impl std::fmt::Display, system: SystemIdentifier) -> Error {
    let what = format!("the archive {archive} holds nothing of system {system}");
    Error::new(ErrorKind::Empty, what).hint("is it mounted, and is it this cluster's archive?")
}
