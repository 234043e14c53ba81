//! All base backups that are known of, whoever knows of them.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{ArchivedBackup, BackupElsewhere, Sizes};
use crate::coverage::Origin;
use crate::wal::{SegmentName, WalName};

/// A base backup, as far as recovery is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBackup {
    /// The name of its backup history file, if the archive has that.
    pub name: Option<WalName>,
    /// The directory it is in, if it was found in one.
    pub place: Option<PathBuf>,
    /// The label that it was given.
    pub label: Option<String>,
    /// The segment in which its replay starts.
    pub start: SegmentName,
    /// When it had ended.
    pub ended: Timestamp,
    /// Where its replay starts, and what it must reach.
    pub origin: Origin,
    /// Whether it counts as a base backup that somebody keeps. One that a replica was made of does not.
    pub counts: bool,
}

impl KnownBackup {
    /// All of them, in the order in which they ended, but those of segments of another size than is archived now.
    #[must_use]
    pub fn all(archived: &[ArchivedBackup], elsewhere: &[BackupElsewhere], sizes: &Sizes) -> Vec<Self> {
        let size = sizes.current();
        let mut all: Vec<Self> = archived
            .iter()
            .filter(|backup| sizes.is_current(backup.name))
            .map(|backup| Self {
                name: Some(backup.name),
                place: elsewhere
                    .iter()
                    .find(|other| other.is(&backup.history))
                    .map(|other| other.place.clone()),
                label: backup.history.label.clone(),
                start: backup.history.start_segment,
                ended: backup.archived_at,
                origin: backup.origin(size),
                counts: true,
            })
            .collect();
        let is_new = |other: &&BackupElsewhere| !archived.iter().any(|backup| other.is(&backup.history));
        all.extend(elsewhere.iter().filter(is_new).map(|other| Self {
            name: None,
            place: Some(other.place.clone()),
            label: None,
            start: other.start_segment,
            ended: other.ended,
            origin: other.origin(size),
            counts: true,
        }));
        all.sort_by_key(|backup| (backup.ended, backup.start));
        all
    }

    /// What people call it: by its label and the segment in which it starts, or by its directory.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.label, self.name, &self.place) {
            (Some(label), ..) => format!("\"{label}\" from {}", self.start),
            (None, None, Some(place)) => format!("the backup in {}", place.display()),
            (None, ..) => format!("the backup from {}", self.start),
        }
    }

    /// As [`KnownBackup::title`], for the middle of a sentence: one line, whatever its label holds.
    #[must_use]
    pub fn title_in_words(&self) -> String {
        let the = if self.label.is_some() { "the backup " } else { "" };
        format!("{the}{}", self.title()).replace(char::is_control, " ")
    }

    /// What it is found by: the backup history file, or the directory.
    #[must_use]
    pub fn file(&self) -> String {
        match (self.name, &self.place) {
            (Some(name), _) => name.to_string(),
            (None, place) => place.as_ref().map(|place| place.display().to_string()).unwrap_or_default(),
        }
    }
}
