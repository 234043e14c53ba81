//! Acknowledgements of permanent failures that `walkeep verify` has found, such as a gap. An acknowledged failure
//! stays visible as a note and raises no alarm.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Acknowledged, Finding, FindingKind, read, write};
use crate::archive::{Archive, Report};
use crate::coverage::Gap;
use crate::error::Error;
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, WalName};

/// An acknowledged failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// File of the finding, or the first and the last file of a range.
    pub file: String,
    /// Kind of the finding.
    pub kind: FindingKind,
    /// Time and reason of the acknowledgement.
    #[serde(flatten)]
    pub acknowledged: Acknowledged,
}

/// All acknowledged failures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgements {
    /// Acknowledgements, oldest first.
    pub acknowledged: Vec<Acknowledgement>,
}

/// Files of a finding: consecutive segments of one timeline, or one other file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// From the first segment to the second, both included, on one timeline.
    Segments(SegmentName, SegmentName),
    /// Any other file.
    Other(String),
}

impl Extent {
    /// Parses `NAME`, `FIRST..LAST`, or `FIRST to LAST`, as findings print it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let segment = |text: &str| match text.trim().parse() {
            Ok(WalName::Segment(segment)) => Some(segment),
            _ => None,
        };
        let (first, last) = text.split_once("..").or_else(|| text.split_once(" to ")).unwrap_or((text, text));
        match (segment(first), segment(last)) {
            (Some(first), Some(last)) if first.timeline() == last.timeline() && first <= last => {
                Self::Segments(first, last)
            }
            _ => Self::Other(text.to_owned()),
        }
    }

    /// Returns `true` if this contains all of `other`.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Segments(first, last), Self::Segments(other_first, other_last)) => {
                first.timeline() == other_first.timeline() && first <= other_first && other_last <= last
            }
            _ => self == other,
        }
    }

    /// Returns `true` if this and `other` have files in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Segments(first, last), Self::Segments(other_first, other_last)) => {
                first.timeline() == other_first.timeline() && first <= other_last && other_first <= last
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segments(first, last) if first == last => first.fmt(f),
            Self::Segments(first, last) => write!(f, "{first}..{last}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl Acknowledgements {
    /// Reads the acknowledgements from the archive.
    pub async fn read(archive: &Archive, system: SystemIdentifier) -> Result<Self, Error> {
        Ok(read(archive, system, Report::Acknowledged).await?.unwrap_or_default())
    }

    /// Writes the acknowledgements to the archive.
    pub async fn write(&self, archive: &Archive, system: SystemIdentifier) -> Result<(), Error> {
        write(archive, system, Report::Acknowledged, self).await
    }

    /// Returns the newest acknowledgement that covers the whole finding.
    #[must_use]
    pub fn covering(&self, finding: &Finding) -> Option<Acknowledged> {
        let extent = Extent::parse(&finding.file);
        let covers = |known: &&Acknowledgement| Extent::parse(&known.file).contains(&extent);
        self.acknowledged.iter().rev().find(covers).map(|known| known.acknowledged.clone())
    }

    /// Returns the acknowledged gaps, for a cluster with that segment size.
    #[must_use]
    pub fn gaps(&self, size: SegmentSize) -> Vec<Gap> {
        let gap = |known: &Acknowledgement| {
            let Extent::Segments(first, last) = Extent::parse(&known.file) else { return None };
            Some(Gap { timeline: first.timeline(), first: first.number(size)?, last: last.number(size)? })
        };
        self.acknowledged.iter().filter_map(gap).collect()
    }

    /// Adds a finding, replacing acknowledgements of the same files.
    pub fn add(&mut self, finding: &Finding, at: Timestamp, reason: Option<&str>) {
        let extent = Extent::parse(&finding.file);
        self.acknowledged.retain(|known| !extent.contains(&Extent::parse(&known.file)));
        self.acknowledged.push(Acknowledgement {
            file: extent.to_string(),
            kind: finding.kind,
            acknowledged: Acknowledged { at, reason: reason.map(str::to_owned) },
        });
    }

    /// Removes the acknowledgements completely within `extent`, and returns their number.
    pub fn forget(&mut self, extent: &Extent) -> usize {
        let before = self.acknowledged.len();
        self.acknowledged.retain(|known| !extent.contains(&Extent::parse(&known.file)));
        before - self.acknowledged.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::{Findings, Severity};

    const A: &str = "000000010000000000000004";
    const B: &str = "000000010000000000000006";

    fn finding(kind: FindingKind, file: &str) -> Finding {
        let (file, what, meaning) = (file.to_owned(), String::new(), String::new());
        Finding { severity: Severity::Failure, kind, file, what, meaning, acknowledged: None }
    }

    fn known(files: &[&str]) -> Acknowledgements {
        let mut known = Acknowledgements::default();
        for file in files {
            known.add(&finding(FindingKind::Gap, file), Timestamp::UNIX_EPOCH, Some("the disk died"));
        }
        known
    }

    #[test]
    fn a_range_is_parsed_as_printed_and_as_typed() {
        let both = [format!("{A}..{B}"), format!("{A} to {B}")].map(|text| Extent::parse(&text));
        assert_eq!(both[0], both[1]);
        assert_eq!(both[0].to_string(), format!("{A}..{B}"));
        assert_eq!(Extent::parse(A).to_string(), A);
        for other in [&format!("{B}..{A}"), "00000002.history", &format!("{A}..00000002{}", &B[8..]), ""] {
            assert_eq!(Extent::parse(other), Extent::Other(other.to_owned()));
        }
    }

    #[test]
    fn only_failures_completely_within_an_extent_are_acknowledged() {
        let known = known(&[&format!("{A} to {B}"), "00000002.history"]);
        let is_known = |file: &str| known.covering(&finding(FindingKind::Gap, file)).is_some();
        assert!(is_known(A) && is_known(&format!("{A} to {B}")) && is_known("00000002.history"));
        assert!(!is_known("000000010000000000000007") && !is_known(&A.replace("00001", "00002")));
        assert!(!is_known("000000010000000000000003 to 000000010000000000000005"));
        assert!(!is_known(&format!("{A}.partial")) && !is_known("00000003.history"));
    }

    #[test]
    fn an_acknowledged_failure_is_a_note_until_it_is_revoked() {
        let mut findings = Findings::default();
        for kind in [FindingKind::Gap, FindingKind::Present] {
            findings.add(finding(kind, A));
        }
        let mut known = known(&[A]);
        findings.acknowledge(|finding| known.covering(finding));
        assert_eq!((findings.failures, findings.notes), (1, 1), "the present is nobody's to acknowledge");
        let text = findings.listed[0].acknowledged.as_ref().unwrap().to_string();
        assert_eq!(text, "acknowledged on 1970-01-01T00:00:00Z: the disk died");
        assert_eq!(known.forget(&Extent::parse(B)), 0);
        assert_eq!(known.forget(&Extent::parse(&format!("{A}..{B}"))), 1);
        findings.acknowledge(|finding| known.covering(finding));
        assert_eq!((findings.failures, findings.notes), (2, 0));
    }

    #[test]
    fn the_newest_acknowledgement_of_a_file_counts() {
        let mut known = known(&[A, B]);
        let range = finding(FindingKind::Gap, &format!("{A} to {B}"));
        known.add(&range, Timestamp::MAX, None);
        assert_eq!(known.acknowledged.len(), 1);
        assert_eq!(known.covering(&finding(FindingKind::Damaged, B)).unwrap().at, Timestamp::MAX);
    }
}
