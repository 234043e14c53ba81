//! Reports of the last prune and the last verification, the findings in them, and acknowledgements of findings, all
//! stored in the archive.

mod acknowledgements;
mod finding;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, Report};
use crate::catalog::Totals;
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

pub use acknowledgements::{Acknowledgement, Acknowledgements, Extent};
pub use finding::{Acknowledged, Finding, FindingKind, Findings, Severity};

/// Report of a prune.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// End of the prune.
    pub at: Timestamp,
    /// `true` if it succeeded.
    pub ok: bool,
    /// Error message if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Number of deleted files.
    pub deleted_files: u64,
    /// Size of the deleted files in bytes.
    pub deleted_bytes: u64,
    /// Content of the archive after the prune; `None` if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

/// Scope of a verification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All names, and the content of all files.
    #[default]
    All,
    /// All names, and the content of some files: a sample, or new ones.
    Part,
    /// All names, and only the content of text files.
    Names,
}

/// Report of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// End of the verification.
    pub at: Timestamp,
    /// `true` if it completed without failures.
    pub ok: bool,
    /// Error message if it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `true` if the verification was still running when it wrote this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_work: bool,
    /// Name up to which all files were verified, in order of names, if the verification did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_up_to: Option<String>,
    /// Scope of the verification.
    #[serde(default)]
    pub scope: Scope,
    /// `true` if contents were decompressed and compared.
    pub deep: bool,
    /// Number of files whose content was compared.
    pub checked_files: u64,
    /// Number of files whose content could not be compared: the archive did not return them, or this version of
    /// walkeep cannot read them.
    #[serde(default)]
    pub uncompared_files: u64,
    /// Number of findings that endanger a recovery.
    pub failures: u64,
    /// Number of other findings.
    pub notes: u64,
    /// The first finding that endangers a recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<Finding>,
    /// Number of files that were deleted during the verification.
    #[serde(default)]
    pub gone_files: u64,
    /// Files that were listed but absent, and not listed again since. The verification that continues this one checks
    /// them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub went: Vec<String>,
    /// Number of failures in the content of files. A verification that continues this one does not find them again.
    #[serde(default)]
    pub content_failures: u64,
    /// Number of notes on the content of files.
    #[serde(default)]
    pub content_notes: u64,
    /// The first findings in the content of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content_findings: Vec<Finding>,
    /// Content of the archive; `None` if it could not be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// Last report with the scope of everything, if this one has another scope or is incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full: Option<Box<Self>>,
}

impl PruneReport {
    /// Creates the report of a failed prune.
    #[must_use]
    pub fn failed(at: Timestamp, error: &Error) -> Self {
        Self { at, ok: false, error: Some(error.report()), deleted_files: 0, deleted_bytes: 0, totals: None }
    }

    /// Writes the report to the archive.
    pub async fn write(&self, archive: &Archive, system: SystemIdentifier) -> Result<(), Error> {
        write(archive, system, Report::Prune, self).await
    }

    /// Reads the last report; `None` if there is none.
    pub async fn read(archive: &Archive, system: SystemIdentifier) -> Result<Option<Self>, Error> {
        read(archive, system, Report::Prune).await
    }
}

impl VerifyReport {
    /// Returns the last report with the scope of everything.
    #[must_use]
    pub fn full(self) -> Option<Self> {
        if self.scope == Scope::All { Some(self) } else { self.last_full.map(|full| *full) }
    }

    /// Returns the report that describes the state of the archive.
    ///
    /// This is the last full report if this verification is still running, or if it verified only a part and found no
    /// failure there, which proves nothing about the rest. Otherwise it is this one.
    #[must_use]
    pub fn decisive(&self) -> &Self {
        let full = self.last_full.as_deref().map(Self::decisive);
        full.filter(|_| self.at_work || self.ok).unwrap_or(self)
    }

    /// Writes the report to the archive.
    pub async fn write(&self, archive: &Archive, system: SystemIdentifier) -> Result<(), Error> {
        write(archive, system, Report::Verify, self).await
    }

    /// Reads the last report; `None` if there is none.
    pub async fn read(archive: &Archive, system: SystemIdentifier) -> Result<Option<Self>, Error> {
        read(archive, system, Report::Verify).await
    }
}

async fn write(
    archive: &Archive,
    system: SystemIdentifier,
    report: Report,
    content: &impl Serialize,
) -> Result<(), Error> {
    // Serialization cannot fail: reports contain only numbers, strings and booleans.
    let text = serde_json::to_string_pretty(content).unwrap_or_default() + "\n";
    archive.write_report(system, report, text).await
}

async fn read<T: DeserializeOwned>(
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
