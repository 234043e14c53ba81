//! Looking at contents: several files at a time, told in the order of their names.

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

/// Which contents are looked at, and how closely.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ContentRequest {
    /// Decompress them and compare with what was archived.
    pub deep: bool,
    /// Only those that were archived since then.
    pub since: Option<Timestamp>,
    /// Only so many of them.
    pub sample: Option<Percent>,
}

impl ContentRequest {
    /// What a look at these contents is one at; at none where that is `None`.
    pub(super) fn scope(of: Option<Self>) -> Scope {
        match of {
            None => Scope::Names,
            Some(Self { since: None, sample: None, .. }) => Scope::All,
            Some(_) => Scope::Part,
        }
    }

    /// How closely a file is looked at.
    pub(super) fn depth(self, survey: &Survey, name: ArchivedName) -> Depth {
        if self.deep { Depth::Original(writer(survey, name)) } else { Depth::Stored }
    }
}

/// How far a verification is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SoFar {
    /// How many segments have been compared with what was stored, those of the verification that is continued included.
    pub checked_files: u64,
    /// How many could not be, because the archive did not give them or this walkeep cannot read them.
    pub uncompared_files: u64,
    /// How many were deleted meanwhile.
    pub gone_files: u64,
    /// Those that were absent although they had been listed; what that means another listing will tell.
    pub went: BTreeSet<ArchivedName>,
    /// The segments that cannot be had.
    pub bad: BTreeSet<SegmentName>,
    /// What is wrong with contents.
    pub findings: Findings,
    /// The last file up to which all were looked at.
    pub up_to: Option<ArchivedName>,
}

impl SoFar {
    /// Adds what is wrong with a file.
    pub(super) fn add(&mut self, finding: Finding, name: ArchivedName) {
        if let WalName::Segment(segment) = name.wal() {
            self.bad.insert(segment);
        }
        self.findings.add(finding);
    }
}

/// A look at contents.
#[derive(Debug)]
pub struct Run {
    pub(super) request: Option<ContentRequest>,
    files: Vec<ArchivedFile>,
    /// How far it is.
    pub so_far: SoFar,
    /// After which file it went on, where it continues another one.
    pub resumed_after: Option<ArchivedName>,
    last_full: Option<Box<VerifyReport>>,
}

/// So many findings are kept for a verification that continues this one.
const KEPT_FINDINGS: usize = 1000;

/// So many names of files that went are kept for it. Behind more of them, it begins earlier.
const KEPT_NAMES: usize = 10_000;

/// So many files in a row that the archive does not give, one after the other having been waited for, are enough.
const MOST_UNREADABLE: usize = 16;

/// How many files may be done before the turn of one that takes long.
const AHEAD: usize = 4;

impl Run {
    /// Prepares a look at what the survey has found: at no contents where `request` is `None`, and after what `resumed`
    /// has seen.
    pub(super) fn new(
        survey: &mut Survey,
        request: Option<ContentRequest>,
        resumed: Option<&VerifyReport>,
        last_full: Option<VerifyReport>,
    ) -> Self {
        let mut files = std::mem::take(&mut survey.catalog.inventory.files);
        // What is text has been read.
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
            findings.acknowledge(|finding| survey.acknowledged.of(finding));
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

    /// How many files' contents are to be looked at.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Whether it is to look at the content of any file that may be meant.
    pub(super) fn is_to_look_at(&self, extent: &Extent) -> bool {
        self.files.iter().any(|file| extent.contains(&Extent::of(&file.name.to_string())))
    }

    /// Looks at the contents. `done` hears of each file, in the order of names.
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
            // What the archive refuses and has is not waited for.
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

    /// What is noted on the way, for one that goes on if this one should be killed.
    pub(super) fn report_so_far(&self, survey: &Survey, at: Timestamp) -> VerifyReport {
        // Of one that was killed itself, what it had noted is of no more use.
        let finished =
            self.last_full.clone().and_then(|last| if last.at_work { last.last_full } else { Some(last) });
        let last_full = finished.map(|last| Box::new(VerifyReport { last_full: None, ..*last }));
        let report = self.report(survey, at, None);
        VerifyReport { ok: false, at_work: true, checked_up_to: self.up_to(), last_full, ..report }
    }

    /// What is noted of it at its end; `error` where that came too early, for whatever reason.
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

/// The timeline that has written a segment's first page; `None` where its history is not known.
fn writer(survey: &Survey, name: ArchivedName) -> Option<crate::wal::TimelineId> {
    let coverage = survey.coverage();
    let segment = name.segment()?;
    let timeline = segment.timeline();
    if timeline.get() > 1 && coverage.history(timeline).is_none() {
        return None;
    }
    Some(coverage.writer(timeline, segment.start(survey.catalog.sizes.of(name))?))
}

/// What it means that a segment cannot be had.
pub(super) fn bad(survey: &Survey, name: ArchivedName, kind: FindingKind, what: String) -> Finding {
    let needed_by = match name.wal() {
        WalName::Segment(segment) => needed_by(survey, segment),
        // Recovery never asks for a partial one.
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
    finding.acknowledge(survey.acknowledged.of(&finding));
    finding
}

fn needed_by(survey: &Survey, segment: SegmentName) -> Option<&str> {
    let number = segment.number(survey.segment_size())?;
    survey.names.need.reader(segment.timeline(), number)
}

/// Whether it is time for something that is done now and then.
#[derive(Debug)]
pub(super) struct Interval {
    every: Duration,
    last: Instant,
}

impl Interval {
    /// From now on.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, last: Instant::now() }
    }

    /// Whether it is time; then it is not for a while.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.last.elapsed() >= self.every;
        if is_due {
            self.last = Instant::now();
        }
        is_due
    }
}
