//! Findings of a verification.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The finding endangers a recovery.
    Failure,
    /// The finding endangers no recovery, but somebody should know.
    Note,
}

/// Kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Segments are missing.
    Gap,
    /// A base backup lacks WAL that makes it consistent.
    BackupIncomplete,
    /// A timeline has segments, but its history file is missing.
    MissingHistory,
    /// A file is not what was archived.
    Damaged,
    /// An intact file is a different one than its name says.
    WrongPlace,
    /// The pages of a segment belong to another timeline than its name and the histories say.
    WrongTimeline,
    /// The archive does not return the file, or this version of walkeep cannot read it.
    Unreadable,
    /// The name does not exist for segments of the cluster's size.
    OddName,
    /// Segments have another size than those archived now, or a segment has another size than was assumed.
    OtherSize,
    /// The newest timeline has no segment, so a recovery to it would follow an abandoned timeline.
    Astray,
    /// A file unknown to walkeep.
    UnknownFile,
    /// A directory is a symbolic link, through which nothing is written or deleted.
    Link,
    /// A staging file of a killed push.
    Leftover,
    /// The WAL written now cannot be recovered.
    Present,
    /// No base backup is known, so nobody can tell what can be recovered.
    NoBackup,
    /// A base backup is incremental, and not all is known on which it builds.
    UnknownBase,
}

impl FindingKind {
    /// Returns `true` if names and text files are enough to find it. Then every verification finds it again.
    #[must_use]
    pub fn is_found_by_names(self) -> bool {
        !matches!(self, Self::Damaged | Self::WrongPlace | Self::WrongTimeline | Self::Unreadable)
    }
}

/// Acknowledgement of a permanent failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Time of the acknowledgement.
    pub at: Timestamp,
    /// Reason given by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole seconds are enough for people.
        let at = Timestamp::from_second(self.at.as_second()).unwrap_or(self.at);
        match &self.reason {
            None => write!(f, "acknowledged on {at}"),
            Some(reason) => write!(f, "acknowledged on {at}: {reason}"),
        }
    }
}

/// A problem, or something worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Severity: whether it endangers a recovery.
    pub severity: Severity,
    /// Kind of the finding.
    pub kind: FindingKind,
    /// File concerned, or the first and the last of a range.
    pub file: String,
    /// Description of the finding.
    pub what: String,
    /// Consequence for recovery.
    pub meaning: String,
    /// Acknowledgement, which makes a failure a note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}

impl Finding {
    /// Turns an acknowledged failure into a note. Turns it back into a failure if `acknowledged` is `None`.
    pub fn acknowledge(&mut self, acknowledged: Option<Acknowledged>) {
        if self.acknowledged.take().is_some() {
            self.severity = Severity::Failure;
        }
        // `Present` cannot be acknowledged: it is the question that all others serve, whether the WAL written now can
        // be recovered. Only another base backup resolves it.
        if self.severity == Severity::Failure && self.kind != FindingKind::Present {
            self.severity = if acknowledged.is_some() { Severity::Note } else { Severity::Failure };
            self.acknowledged = acknowledged;
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failure => "failure",
            Self::Note => "note",
        })
    }
}

/// Findings with their numbers. The list has a maximum length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The first findings.
    pub listed: Vec<Finding>,
    /// Number of failures, listed or not.
    pub failures: u64,
    /// Number of notes, listed or not.
    pub notes: u64,
}

impl Findings {
    /// Maximum number of listed findings.
    const MOST: usize = 10_000;

    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Failure => self.failures += 1,
            Severity::Note => self.notes += 1,
        }
        if self.listed.len() < Self::MOST {
            self.listed.push(finding);
        }
    }

    /// Applies acknowledgements to the listed findings.
    pub fn acknowledge(&mut self, by: impl Fn(&Finding) -> Option<Acknowledged>) {
        self.change(|mut finding| {
            finding.acknowledge(by(&finding));
            Some(finding)
        });
    }

    /// Replaces or removes each listed finding.
    pub fn change(&mut self, change: impl FnMut(Finding) -> Option<Finding>) {
        let listed = std::mem::take(&mut self.listed);
        let failures = listed.iter().filter(|finding| finding.severity == Severity::Failure).count() as u64;
        self.failures = self.failures.saturating_sub(failures);
        self.notes = self.notes.saturating_sub(listed.len() as u64 - failures);
        for finding in listed.into_iter().filter_map(change) {
            self.add(finding);
        }
    }

    /// Returns the number of findings.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.failures + self.notes
    }
}
