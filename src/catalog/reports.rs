//! What the last prune and the last verification have noted of themselves in the archive.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Finding, Totals};
use crate::archive::{Archive, Report};
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

/// What a prune leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it did all that it should.
    pub ok: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many files it has deleted.
    pub deleted_files: u64,
    /// How many bytes these took.
    pub deleted_bytes: u64,
    /// What is in the archive after it; not known where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

/// What a verification looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All names, and the content of every file.
    #[default]
    All,
    /// All names, and the content of some files: a sample, or what is new.
    Part,
    /// All names, and no contents but those of text files.
    Names,
}

/// What a verification leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it came to its end and found no failure.
    pub ok: bool,
    /// Why it did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether this was noted on the way, by one that was still at work then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_work: bool,
    /// The last file, in the order of names, up to which all were looked at, where it did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_up_to: Option<String>,
    /// What it looked at.
    #[serde(default)]
    pub scope: Scope,
    /// Whether contents were decompressed and compared.
    pub deep: bool,
    /// How many files' contents were compared.
    pub checked_files: u64,
    /// How many files' contents could not be compared, because the archive did not give them or this walkeep cannot read them.
    #[serde(default)]
    pub uncompared_files: u64,
    /// How many findings endanger a recovery.
    pub failures: u64,
    /// How many findings do not.
    pub notes: u64,
    /// How many files went while it was at work.
    #[serde(default)]
    pub gone_files: u64,
    /// Files that were absent although they had been listed, where nobody has listed them again since. One that continues it
    /// looks for them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub went: Vec<String>,
    /// How many of the failures are of files' contents. These are what one that continues it does not find again.
    #[serde(default)]
    pub content_failures: u64,
    /// How many of the notes are.
    #[serde(default)]
    pub content_notes: u64,
    /// The first of the findings of files' contents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content_findings: Vec<Finding>,
    /// What is in the archive; not known where it could not be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// The last one that looked at everything, or was to, where this one did not, or has not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full: Option<Box<Self>>,
}

impl PruneReport {
    /// What is noted of a prune that failed.
    #[must_use]
    pub fn failed(at: Timestamp, error: &Error) -> Self {
        Self { at, ok: false, error: Some(error.report()), deleted_files: 0, deleted_bytes: 0, totals: None }
    }

    /// Notes it in the archive.
    pub async fn write(&self, archive: &Archive, system: SystemIdentifier) -> Result<(), Error> {
        write(archive, system, Report::Prune, self).await
    }

    /// The last one, if there is any.
    pub async fn read(archive: &Archive, system: SystemIdentifier) -> Result<Option<Self>, Error> {
        read(archive, system, Report::Prune).await
    }
}

impl VerifyReport {
    /// The last report of a verification that looked at everything, or was to.
    #[must_use]
    pub fn full(self) -> Option<Self> {
        if self.scope == Scope::All { Some(self) } else { self.last_full.map(|full| *full) }
    }

    /// The one to go by: this one, unless it is at work still, or found nothing wrong with a part: that says nothing of the
    /// rest, which is as old as the last one that looked at everything.
    #[must_use]
    pub fn to_go_by(&self) -> &Self {
        let full = self.last_full.as_deref().map(Self::to_go_by);
        full.filter(|_| self.at_work || self.ok).unwrap_or(self)
    }

    /// Notes it in the archive.
    pub async fn write(&self, archive: &Archive, system: SystemIdentifier) -> Result<(), Error> {
        write(archive, system, Report::Verify, self).await
    }

    /// The last one, if there is any.
    pub async fn read(archive: &Archive, system: SystemIdentifier) -> Result<Option<Self>, Error> {
        read(archive, system, Report::Verify).await
    }
}

pub(super) async fn write(
    archive: &Archive,
    system: SystemIdentifier,
    report: Report,
    content: &impl Serialize,
) -> Result<(), Error> {
    // Numbers, texts and truths: nothing in it can fail.
    let text = serde_json::to_string_pretty(content).unwrap_or_default() + "\n";
    archive.write_report(system, report, text).await
}

pub(super) async fn read<T: DeserializeOwned>(
    archive: &Archive,
    system: SystemIdentifier,
    report: Report,
) -> Result<Option<T>, Error> {
    let Some(text) = archive.read_report(system, report).await? else { return Ok(None) };
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|error| {
        let what = match report {
            Report::Prune | Report::Verify => {
                format!("what the last {} has noted of itself cannot be read", report.name())
            }
            Report::Acknowledged => "what was acknowledged cannot be read".to_owned(),
        };
        Error::new(ErrorKind::Damaged, what).because(error)
    })
}
