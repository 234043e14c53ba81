//! Verification of contents: several files concurrently, reported in order of names.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::content::{Depth, Verdict, check};
use super::names::finding;
use super::selection::{Percent, sample};
use super::{Survey, findings_in};
use crate::archive::{Archive, ArchivedFile, ArchivedName};
use crate::error::{Error, ErrorKind};
use crate::reports::{Extent, Finding, FindingKind, Findings, Scope, Severity, VerifyReport};
use crate::wal::{SegmentName, WalName};

/// Contents to verify, and how thoroughly.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ContentRequest {
    /// `true` to decompress them and compare with what was archived.
    pub deep: bool,
    /// Verify only files archived since then.
    pub since: Option<Timestamp>,
    /// Verify only this share of the files.
    pub sample: Option<Percent>,
}

impl ContentRequest {
    /// Returns the scope of a verification of these contents; of names only if `None`.
    pub(super) fn scope(of: Option<Self>) -> Scope {
        match of {
            None => Scope::Names,
            Some(Self { since: None, sample: None, .. }) => Scope::All,
            Some(_) => Scope::Part,
        }
    }

    /// Returns the thoroughness for a file.
    pub(super) fn depth(self, survey: &Survey, name: ArchivedName) -> Depth {
        if self.deep { Depth::Original(writer(survey, name)) } else { Depth::Stored }
    }
}

/// Progress of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Number of segments compared with what was stored, including those of the verification that is continued.
    pub checked_files: u64,
    /// Number of segments that could not be compared, because the archive did not return them or this version of
    /// walkeep cannot read them.
    pub uncompared_files: u64,
    /// Number of files deleted in the meantime.
    pub gone_files: u64,
    /// Files that were listed but absent. Another listing decides about them.
    pub went: BTreeSet<ArchivedName>,
    /// Inaccessible segments.
    pub bad: BTreeSet<SegmentName>,
    /// Findings in contents.
    pub findings: Findings,
    /// Last file up to which all were verified.
    pub up_to: Option<ArchivedName>,
}

impl SoFar {
    /// Adds a finding about a file.
    pub(super) fn add(&mut self, finding: Finding, name: ArchivedName) {
        if let WalName::Segment(segment) = name.wal() {
            self.bad.insert(segment);
        }
        self.findings.add(finding);
    }
}

/// A verification of contents.
#[derive(Debug)]
pub struct Run {
    pub(super) request: Option<ContentRequest>,
    files: Vec<ArchivedFile>,
    /// Progress.
    pub so_far: SoFar,
    /// File after which a continued verification started.
    pub resumed_after: Option<ArchivedName>,
    last_full: Option<Box<VerifyReport>>,
}

/// Maximum number of findings kept for a verification that continues this one.
const KEPT_FINDINGS: usize = 1000;

/// Maximum number of names of disappeared files kept for it. With more of them, it starts earlier.
const KEPT_NAMES: usize = 10_000;

/// Number of consecutive files that the archive does not return, after waiting for each, that ends the verification.
const MOST_UNREADABLE: usize = 16;

/// Maximum number of files that may overtake a slow one.
const AHEAD: usize = 4;

impl Run {
    /// Prepares the verification of contents: of none if `request` is `None`, and of those after the end of
    /// `resumed`.
    pub(super) fn new(
        survey: &mut Survey,
        request: Option<ContentRequest>,
        resumed: Option<&VerifyReport>,
        last_full: Option<VerifyReport>,
    ) -> Self {
        let mut files = std::mem::take(&mut survey.catalog.inventory.files);
        // Text files were read before.
        files.retain(|file| file.name.segment().is_some());
        let resumed_after: Option<ArchivedName> =
            resumed.and_then(|report| report.checked_up_to.as_deref()?.parse().ok());
        let before = resumed.filter(|_| resumed_after.is_some());
        let went = before.map_or_else(BTreeSet::new, |report| {
            report.went.iter().filter_map(|name| name.parse::<ArchivedName>().ok()).collect()
        });
        let back = files.iter().filter(|file| went.contains(&file.name)).count() as u64;
        match request {
            None => files.clear(),
            Some(ContentRequest { since, sample: part, .. }) => {
                files.retain(|file| since.is_none_or(|since| file.since >= since));
                if let Some(part) = part {
                    sample(&mut files, part);
                }
                files.retain(|file| {
                    resumed_after.is_none_or(|after| file.name > after) || went.contains(&file.name)
                });
            }
        }
        let so_far = before.map_or_else(SoFar::default, |report| {
            let mut findings =
                findings_in(&report.content_findings, report.content_failures, report.content_notes);
            findings.acknowledge(|finding| survey.acknowledged.covering(finding));
            let bad = findings.listed.iter().filter_map(|finding| match finding.file.parse() {
                Ok(WalName::Segment(segment)) => Some(segment),
                _ => None,
            });
            SoFar {
                checked_files: report.checked_files.saturating_sub(survey.compared_texts()),
                uncompared_files: report.uncompared_files.saturating_sub(survey.uncompared_texts),
                gone_files: report.gone_files.saturating_sub(back),
                went: BTreeSet::new(),
                bad: bad.collect(),
                findings,
                up_to: resumed_after,
            }
        });
        let last_full = last_full.map(Box::new);
        Self { request, files, so_far, resumed_after, last_full }
    }

    /// Returns the number of files to verify.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Returns `true` if the content of a file within `extent` is to be verified.
    pub(super) fn is_to_look_at(&self, extent: &Extent) -> bool {
        self.files.iter().any(|file| extent.contains(&Extent::parse(&file.name.to_string())))
    }

    /// Verifies the contents. Calls `done` for each file, in order of names.
    pub(super) async fn contents(
        &mut self,
        archive: &Archive,
        survey: &Survey,
        mut done: impl AsyncFnMut(&Self),
    ) -> Result<(), Error> {
        let Some(request) = self.request else { return Ok(()) };
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let at_once = cores.max(survey.reading.at_once);
        let at_work = Semaphore::new(at_once);
        let files = std::mem::take(&mut self.files);
        let looks = files.iter().map(|file| {
            let name = file.name;
            let depth = request.depth(survey, name);
            let at_work = &at_work;
            async move {
                let _turn = at_work.acquire().await;
                let size = Some(survey.catalog.sizes.of(name));
                (name, check(archive, survey.system, name, size, depth, survey.reading).await)
            }
        });
        let mut looks = futures_util::stream::iter(looks).buffered(at_once * AHEAD);
        let mut unreadable = 0;
        while let Some((name, verdict)) = looks.next().await {
            let verdict = verdict?;
            // Refused files that the archive has were not waited for.
            let is_waited_for = |error: &Error| error.kind() != ErrorKind::Refused;
            let is_unreadable = matches!(&verdict, Verdict::Unreadable(error) if is_waited_for(error));
            unreadable = if is_unreadable { unreadable + 1 } else { 0 };
            match verdict {
                Verdict::Unreadable(error) if unreadable >= MOST_UNREADABLE => return Err(error),
                verdict => self.note(survey, name, verdict),
            }
            if self.so_far.went.len() < KEPT_NAMES {
                self.so_far.up_to = Some(name);
            }
            done(self).await;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, survey: &Survey, name: ArchivedName, verdict: Verdict) {
        let so_far = &mut self.so_far;
        let (kind, what) = match verdict {
            Verdict::Sound => {
                so_far.checked_files += 1;
                return;
            }
            Verdict::Gone => {
                so_far.went.insert(name);
                return;
            }
            Verdict::Bad(kind, what) => (kind, what),
            Verdict::Unreadable(error) => (FindingKind::Unreadable, error.report()),
        };
        match kind {
            FindingKind::Unreadable => so_far.uncompared_files += 1,
            _ => so_far.checked_files += 1,
        }
        so_far.add(bad(survey, name, kind, what), name);
    }

    /// Creates the intermediate report, from which another verification continues if this one is killed.
    pub(super) fn report_so_far(&self, survey: &Survey, at: Timestamp) -> VerifyReport {
        // The intermediate report of a killed verification is no longer useful.
        let finished =
            self.last_full.clone().and_then(|last| if last.at_work { last.last_full } else { Some(last) });
        let last_full = finished.map(|last| Box::new(VerifyReport { last_full: None, ..*last }));
        let report = self.report(survey, at, None);
        VerifyReport { ok: false, at_work: true, checked_up_to: self.up_to(), last_full, ..report }
    }

    /// Creates the final report; `error` is set if the verification ended early.
    pub(super) fn report(&self, survey: &Survey, at: Timestamp, error: Option<String>) -> VerifyReport {
        let SoFar { checked_files, uncompared_files, gone_files, went, findings, .. } = &self.so_far;
        let checked_up_to = error.as_ref().and_then(|_| self.up_to());
        let names = &survey.names.findings;
        let failures = names.failures + findings.failures;
        let scope = ContentRequest::scope(self.request);
        VerifyReport {
            at,
            ok: error.is_none() && failures == 0,
            checked_up_to,
            error,
            at_work: false,
            scope,
            deep: self.request.is_some_and(|request| request.deep),
            checked_files: *checked_files + survey.compared_texts(),
            uncompared_files: *uncompared_files + survey.uncompared_texts,
            failures,
            notes: names.notes + findings.notes,
            first_failure: names
                .listed
                .iter()
                .chain(&findings.listed)
                .find(|finding| finding.severity == Severity::Failure)
                .cloned(),
            gone_files: *gone_files + survey.gone_texts + went.len() as u64,
            went: went.iter().take(KEPT_NAMES).map(ToString::to_string).collect(),
            content_failures: findings.failures,
            content_notes: findings.notes,
            content_findings: findings.listed.iter().take(KEPT_FINDINGS).cloned().collect(),
            totals: Some(survey.totals),
            last_full: self.last_full.clone().filter(|_| scope != Scope::All),
        }
    }

    fn up_to(&self) -> Option<String> {
        self.so_far.up_to.map(|name| name.to_string())
    }
}

/// Returns the timeline that wrote a segment's first page; `None` if its history is unknown.
fn writer(survey: &Survey, name: ArchivedName) -> Option<crate::wal::TimelineId> {
    let coverage = survey.coverage();
    let segment = name.segment()?;
    let timeline = segment.timeline();
    if timeline.get() > 1 && coverage.history(timeline).is_none() {
        return None;
    }
    Some(coverage.writer(timeline, segment.start(survey.catalog.sizes.of(name))?))
}

/// Creates the finding for an inaccessible segment.
pub(super) fn bad(survey: &Survey, name: ArchivedName, kind: FindingKind, what: String) -> Finding {
    let needed_by = match name.wal() {
        WalName::Segment(segment) => needed_by(survey, segment),
        // Recovery never requests a partial segment.
        _ => None,
    };
    let (severity, meaning) = match needed_by {
        _ if kind == FindingKind::OtherSize => {
            let meaning = "its place in the log is not the one that was taken to be its, so neither what is missing nor what can be \
                           pruned is certain";
            (Severity::Failure, meaning.to_owned())
        }
        _ if !survey.catalog.sizes.is_current(name) => {
            let meaning = "base backups from before the size of segments was changed may need it";
            (Severity::Failure, meaning.to_owned())
        }
        Some(title) => {
            (Severity::Failure, format!("{title} cannot be recovered beyond the beginning of this segment"))
        }
        None => (Severity::Note, "no base backup that can be recovered needs it".to_owned()),
    };
    let mut finding = finding(severity, kind, name.to_string(), what, meaning);
    finding.acknowledge(survey.acknowledged.covering(&finding));
    finding
}

fn needed_by(survey: &Survey, segment: SegmentName) -> Option<&str> {
    let number = segment.number(survey.segment_size())?;
    survey.names.need.reader(segment.timeline(), number)
}

/// A timer for periodic work.
#[derive(Debug)]
pub(super) struct Interval {
    every: Duration,
    last: Instant,
}

impl Interval {
    /// Creates a timer that starts now.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, last: Instant::now() }
    }

    /// Returns `true` if the interval has passed, and restarts it.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.last.elapsed() >= self.every;
        if is_due {
            self.last = Instant::now();
        }
        is_due
    }
}
