//! Acknowledgement of findings, and removal of outdated acknowledgements. Reads nothing.

use jiff::Timestamp;

use super::{Run, Survey};
use crate::reports::{Acknowledgement, Extent, Finding, FindingKind, Scope, Severity, VerifyReport};

/// Answer to an attempt to acknowledge something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It is a finding, or several.
    Finding,
    /// Nothing is wrong with it so far, but its content has not been verified.
    NotYet,
    /// It cannot be acknowledged, for this reason.
    Refused(String),
}

impl Survey {
    /// Returns `true` if findings exist for what is to be acknowledged.
    pub(super) fn knows(&self, run: &Run, extent: &Extent) -> Known {
        let within = || self.findings(run).filter(|finding| extent.contains(&Extent::parse(&finding.file)));
        if within().any(can_be_acknowledged) {
            return Known::Finding;
        }
        if run.is_to_look_at(extent) {
            return Known::NotYet;
        }
        let touched = self
            .findings(run)
            .find(|finding| can_be_acknowledged(finding) && extent.overlaps(&Extent::parse(&finding.file)));
        let is_the_present = matches!(extent, Extent::Other(text) if text.starts_with("timeline "));
        Known::Refused(match (touched, within().next()) {
            (Some(finding), _) => {
                let all = Extent::parse(&finding.file);
                format!("{extent} is only a part of what is wrong, which is {all}")
            }
            (None, _) if is_the_present => {
                "nobody need know of it longer than it takes to take a base backup".to_owned()
            }
            (None, Some(_)) => format!("what is found of {extent} is a note, which nobody need acknowledge"),
            (None, None) => format!("nothing is found to be wrong with {extent}"),
        })
    }

    /// Acknowledges failures, which turns them into notes.
    pub(super) fn acknowledge(
        &mut self,
        run: &mut Run,
        extents: &[Extent],
        at: Timestamp,
        reason: Option<&str>,
    ) {
        let mut known = self.acknowledged.clone();
        let is_known = |finding: &&Finding| {
            let extent = Extent::parse(&finding.file);
            can_be_acknowledged(finding) && extents.iter().any(|known| known.contains(&extent))
        };
        for finding in self.findings(run).filter(is_known) {
            known.add(finding, at, reason);
        }
        self.acknowledged = known;
        self.names.findings.acknowledge(|finding| self.acknowledged.covering(finding));
        run.so_far.findings.acknowledge(|finding| self.acknowledged.covering(finding));
    }

    /// Removes acknowledgements of files that are no longer wrong, as far as the verification with this report shows.
    pub(super) fn drop_useless(&mut self, run: &Run, report: &VerifyReport) -> Vec<Acknowledgement> {
        let listed = self.names.findings.listed.len() + run.so_far.findings.listed.len();
        let is_all_listed = listed as u64 == self.names.findings.number() + run.so_far.findings.number();
        if report.error.is_some() || !is_all_listed || self.uncompared_texts > 0 {
            return Vec::new();
        }
        let are_contents_known = report.deep && report.scope == Scope::All;
        let is_of_use = |known: &Acknowledgement| {
            let extent = Extent::parse(&known.file);
            let needs_contents = !known.kind.is_found_by_names();
            self.findings(run).any(|finding| extent.overlaps(&Extent::parse(&finding.file)))
                || needs_contents && !are_contents_known && self.has_any_of(&extent)
        };
        let known = self.acknowledged.acknowledged.clone();
        let (of_use, useless) = known.into_iter().partition(is_of_use);
        self.acknowledged.acknowledged = of_use;
        useless
    }

    pub(super) fn findings<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = &'a Finding> {
        self.names.findings.listed.iter().chain(&run.so_far.findings.listed)
    }

    /// Returns `true` if any matching file exists.
    fn has_any_of(&self, extent: &Extent) -> bool {
        match extent {
            Extent::Segments(first, last) => {
                let held = self.coverage().timelines().find(|(timeline, _)| *timeline == first.timeline());
                let size = self.segment_size();
                held.zip(first.number(size).zip(last.number(size))).is_some_and(
                    |((_, held), (first, last))| {
                        held.stretches
                            .iter()
                            .any(|stretch| *stretch.start() <= last && first <= *stretch.end())
                    },
                )
            }
            // A text file is read each time, and partial segments are not needed.
            Extent::Other(_) => false,
        }
    }
}

fn can_be_acknowledged(finding: &Finding) -> bool {
    let is_failure = finding.severity == Severity::Failure || finding.acknowledged.is_some();
    is_failure && finding.kind != FindingKind::Present
}
