//! What a verification finds wrong, or worth a look.

use std::fmt;

use jiff::Timestamp;
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
    /// The newest timeline has no segment, and a recovery to it would go on along what was left behind.
    Astray,
    /// A file that walkeep knows nothing of.
    UnknownFile,
    /// What a push that was killed has left.
    Leftover,
    /// What is written now cannot be recovered.
    Present,
    /// No base backup is known, so that nobody can tell what can be recovered.
    NoBackup,
}

impl FindingKind {
    /// Whether names and text files tell of it, so that every verification finds it again.
    #[must_use]
    pub fn is_told_by_names(self) -> bool {
        !matches!(self, Self::Damaged | Self::WrongPlace | Self::WrongTimeline | Self::Unreadable)
    }
}

/// That somebody knows of a failure that cannot be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Since when.
    pub at: Timestamp,
    /// What they said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nobody reads more than seconds.
        let at = Timestamp::from_second(self.at.as_second()).unwrap_or(self.at);
        match &self.reason {
            None => write!(f, "acknowledged on {at}"),
            Some(reason) => write!(f, "acknowledged on {at}: {reason}"),
        }
    }
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
    /// That it is a note because somebody knows of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}

impl Finding {
    /// Makes a note of a failure that somebody knows of, and a failure of a note that nobody knows of any more.
    pub fn acknowledge(&mut self, acknowledged: Option<Acknowledged>) {
        if self.acknowledged.take().is_some() {
            self.severity = Severity::Failure;
        }
        // It is what all the others are about, and goes by another base backup alone.
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

    /// Acknowledges those that are listed anew.
    pub fn acknowledge(&mut self, by: impl Fn(&Finding) -> Option<Acknowledged>) {
        self.change(|mut finding| {
            finding.acknowledge(by(&finding));
            Some(finding)
        });
    }

    /// Puts others in the place of those that are listed, or none.
    pub fn change(&mut self, change: impl FnMut(Finding) -> Option<Finding>) {
        let listed = std::mem::take(&mut self.listed);
        let failures = listed.iter().filter(|finding| finding.severity == Severity::Failure).count() as u64;
        self.failures = self.failures.saturating_sub(failures);
        self.notes = self.notes.saturating_sub(listed.len() as u64 - failures);
        for finding in listed.into_iter().filter_map(change) {
            self.add(finding);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.failures + self.notes
    }
}
