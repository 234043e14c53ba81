//! What a verification finds wrong, or worth a look.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a finding endangers a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does.
    Failure,
    /// It does not, but somebody should know.
    Note,
}

/// What is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Segments are missing.
    Gap,
    /// A base backup lacks WAL that makes it consistent.
    BackupIncomplete,
    /// A timeline has segments, and nothing says where it began.
    MissingHistory,
    /// A file is not what was archived.
    Damaged,
    /// A sound file that is another one than its name says.
    WrongPlace,
    /// A segment whose pages another timeline has written than its name and the histories say.
    WrongTimeline,
    /// The archive does not give the file, or this walkeep cannot read it.
    Unreadable,
    /// No segment of the cluster's size has that name.
    OddName,
    /// Segments of another size than those that are archived now, or one of another size than was taken to be its.
    OtherSize,
    /// A file that walkeep knows nothing of.
    UnknownFile,
    /// What a push that was killed has left.
    Leftover,
}

/// Something that is wrong, or worth a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether it endangers a recovery.
    pub severity: Severity,
    /// What is the matter.
    pub kind: FindingKind,
    /// The file it is about, or the first and the last of a range.
    pub file: String,
    /// What was found.
    pub what: String,
    /// What that means for recovery.
    pub meaning: String,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failure => "failure",
            Self::Note => "note",
        })
    }
}

/// Findings, and how many there were: lists end somewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Those that were found first.
    pub listed: Vec<Finding>,
    /// How many failures there are in all.
    pub failures: u64,
    /// How many notes there are in all.
    pub notes: u64,
}

impl Findings {
    /// The most that are listed.
    const MOST: usize = 10_000;

    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Failure => self.failures += 1,
            Severity::Note => self.notes += 1,
        }
        if self.listed.len() < Self::MOST {
            self.listed.push(finding);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.failures + self.notes
    }
}
