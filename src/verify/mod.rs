//! Verification of an archive: all files that recoveries request must exist and be intact.
//!
//! Names are checked first, from the catalog ([`Names`], which reads nothing); then contents, in order of names, so
//! that an interrupted verification can be continued.

mod acknowledge;
mod acknowledged;
mod again;
mod astray;
mod backups;
mod content;
mod gaps;
mod names;
mod present;
mod run;
mod selection;
mod session;
mod settling;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::archive::Archive;
use crate::blocking::blocking;
use crate::catalog::{Catalog, Labels, Reading, Totals, backups_elsewhere, catalog, known_backups};
use crate::coverage::{BaseBackup, Coverage, Gap, Timeline};
use crate::error::{Error, ErrorKind};
use crate::reports::{Acknowledgements, Finding, FindingKind, Findings, Severity};
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, TimelineId, WalName};
use crate::work::Clock;

use acknowledged::Known;
pub use backups::{CompleteBackups, Need};
use content::{Depth, Verdict, archived_at, check};
pub use names::{NameFacts, Names, TimelineState};
pub use present::{Answer, Present, Question, Written};
use run::Interval;
pub use run::{ContentRequest, Run, SoFar};
pub use selection::{Percent, Since};
pub use session::{Verified, VerifyRequest, verify};
use settling::{MOST_WAIT, PAUSE, may_be_on_its_way};
use sizes::other_sizes;

/// Cluster to verify, with settings.
#[derive(Debug, Clone)]
pub struct Target {
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Directories that contain base backups.
    pub backup_directories: Vec<PathBuf>,
    /// Labels of the base backups in the archive that count.
    pub labels: Labels,
    /// Timelines that nobody needs to recover any more.
    pub given_up: Vec<TimelineId>,
    /// Settings for reading the archive.
    pub reading: Reading,
}

/// Content of an archive, with the findings from names and text files.
#[derive(Debug)]
pub struct Survey {
    system: SystemIdentifier,
    reading: Reading,
    catalog: Catalog,
    elsewhere: Vec<BaseBackup>,
    labels: Labels,
    given_up: Vec<TimelineId>,
    /// Moment by which the archive was judged.
    judged_at: Timestamp,
    /// Timelines with unreadable history files.
    unreadable: BTreeSet<TimelineId>,
    written: Vec<Written>,
    /// Acknowledged failures.
    pub acknowledged: Acknowledgements,
    /// Findings from names.
    pub names: Names,
    /// Answer whether the WAL written now can be recovered, once determined.
    pub present: Option<Present>,
    /// Number of text files read.
    pub text_files: u64,
    /// Number of text files that could not be compared with what was archived.
    pub uncompared_texts: u64,
    /// Number of text files that were absent when requested.
    absent_texts: u64,
    /// Number of text files deleted in the meantime.
    pub gone_texts: u64,
    /// Totals of the archive.
    pub totals: Totals,
}

/// Maximum number of missing segments that are requested one by one.
const MOST_LOOKS: u64 = 1000;

/// Message for a file that is listed but cannot be read.
const LISTED_AND_ABSENT: &str = "the archive lists it, and says that it does not exist when asked for it";

impl Survey {
    /// Lists the archive and reads its text files.
    async fn of(
        archive: &Archive,
        target: Target,
        acknowledged: Acknowledgements,
        clock: Clock<'_>,
    ) -> Result<Self, Error> {
        let Target { system, backup_directories, labels, given_up, reading } = target;
        // Before the listing: whatever is younger than that may be missing from it.
        let now = clock();
        let catalog = catalog(archive, system, reading).await?;
        let size = catalog.coverage.size();
        let elsewhere = blocking(move || backups_elsewhere(&backup_directories, system, size)).await?;
        let mut survey = Self {
            system,
            reading,
            catalog,
            elsewhere,
            labels,
            given_up,
            judged_at: now,
            unreadable: BTreeSet::new(),
            written: Vec::new(),
            acknowledged,
            names: Names::default(),
            present: None,
            text_files: 0,
            uncompared_texts: 0,
            absent_texts: 0,
            gone_texts: 0,
            totals: Totals::default(),
        };
        survey.look(archive, false, now, clock).await?;
        Ok(survey)
    }

    /// Evaluates the archive by another listing, which decides about files that disappeared in the meantime.
    async fn look_again(&mut self, archive: &Archive, clock: Clock<'_>) -> Result<(), Error> {
        let now = clock();
        self.catalog = catalog(archive, self.system, self.reading).await?;
        self.look(archive, true, now, clock).await
    }

    /// Evaluates what was listed.
    async fn look(
        &mut self,
        archive: &Archive,
        again: bool,
        now: Timestamp,
        clock: Clock<'_>,
    ) -> Result<(), Error> {
        self.judge(now);
        let until = Instant::now() + self.reading.patience.min(MOST_WAIT);
        loop {
            if has_arrived_meanwhile(archive, &self.catalog, &self.names, self.reading).await? {
                self.catalog = catalog(archive, self.system, self.reading).await?;
                self.judge(now);
            }
            let left = until.saturating_duration_since(Instant::now());
            let gaps = self.names.timelines.iter().flat_map(|timeline| &timeline.gaps);
            let files = &self.catalog.inventory.files;
            if left.is_zero() || !may_be_on_its_way(gaps, files, self.segment_size(), clock()) {
                break;
            }
            tokio::time::sleep(PAUSE.min(left)).await;
        }
        self.totals = Totals::of(&self.catalog.inventory.files, &self.catalog.sizes);
        self.text_files = totals_of_texts(&self.catalog);
        self.written = written(&self.catalog);
        self.look_at_unreadable_texts(archive, again).await
    }

    fn judge(&mut self, now: Timestamp) {
        self.judged_at = now;
        let Self { catalog, elsewhere, labels, given_up, acknowledged, .. } = self;
        let of_timelines = catalog.unreadable.iter().filter_map(|(name, _)| match name {
            WalName::History(timeline) => Some(*timeline),
            _ => None,
        });
        self.unreadable = of_timelines.collect();
        let backups = known_backups(&catalog.backups, elsewhere, labels, &catalog.sizes);
        catalog.coverage = catalog.coverage.knowing(&backups, now);
        let facts = NameFacts {
            coverage: &catalog.coverage,
            unreadable: &self.unreadable,
            staged: &catalog.inventory.staged,
            unknown: &catalog.inventory.unknown,
            links: &catalog.inventory.links,
            acknowledged,
            now,
        };
        self.names = Names::of(facts, backups);
        let of_timelines =
            [astray::astray(&catalog.coverage, given_up), astray::nothing_left(&catalog.coverage, given_up)];
        for finding in other_sizes(catalog).into_iter().chain(of_timelines.into_iter().flatten()) {
            self.names.findings.add(finding);
        }
    }

    /// Returns the current segment size.
    #[must_use]
    pub fn segment_size(&self) -> SegmentSize {
        self.catalog.coverage.size()
    }

    /// Returns the coverage.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.catalog.coverage
    }

    /// Returns the number of text files that were compared with what was archived.
    fn compared_texts(&self) -> u64 {
        self.text_files.saturating_sub(self.uncompared_texts + self.absent_texts)
    }

    /// Determines whether the WAL written now can be recovered without these segments, which are inaccessible. Reads
    /// nothing unless the archive is given.
    async fn conclude(&mut self, archive: Option<&Archive>, bad: &BTreeSet<SegmentName>) {
        let question = Question {
            coverage: &self.catalog.coverage,
            sound: &self.catalog.coverage.without(bad),
            unreadable: &self.unreadable,
            backups: &self.names.backups,
            written: &self.written,
            given_up: &self.given_up,
            now: self.judged_at,
        };
        let Some(mut present) = Present::of(question) else { return };
        let timeline = present.timeline;
        if !present.others.is_empty() {
            self.confirm_others(archive, &mut present).await;
        }
        let dangers = present.others.iter().filter_map(|other| {
            let danger = question.danger(*other, timeline)?;
            let what = format!("it was written on lately, too, and is not the newest timeline: {danger}");
            let meaning = format!(
                "it is recovered only with recovery_target_timeline = '{other}'; if timeline {timeline} is a drill's, give it \
                 up with given_up_timelines = [{timeline}], and if timeline {other} is, with [{other}]"
            );
            let file = format!("timeline {other}");
            Some(names::finding(Severity::Failure, FindingKind::Present, file, what, meaning))
        });
        let dangers: Vec<Finding> = dangers.collect();
        for danger in dangers {
            self.names.findings.add(danger);
        }
        match &mut present.answer {
            Answer::Recoverable { from, last: Some((of, number)), to, .. } => {
                let segment = self.catalog.coverage.name(*of, *number);
                let own_word = self.archived_at(archive, segment.map(WalName::Segment)).await;
                let written_on_it = || self.written.iter().find(|written| written.timeline == *of);
                // Nothing but the end of the backup was archived after the last segment.
                *to =
                    own_word.or_else(|| written_on_it().map(|written| written.last)).map(|to| to.max(*from));
            }
            Answer::Lost { why, cure } => {
                let what = format!("what is written now, on timeline {timeline}, cannot be recovered: {why}");
                let (file, cure) = (format!("timeline {timeline}"), cure.clone());
                let lost = names::finding(Severity::Failure, FindingKind::Present, file, what, cure);
                self.names.findings.add(lost);
            }
            Answer::Recoverable { .. } | Answer::NotYet(_) | Answer::Unknown(_) => {}
        }
        self.present = Some(present);
    }

    /// Returns the archiving time in the header of a file: a copy of an archive has younger file times.
    async fn archived_at(&self, archive: Option<&Archive>, name: Option<WalName>) -> Option<Timestamp> {
        archived_at(archive?, self.system, name?, self.reading).await.ok()
    }

    /// Removes timelines that were not written since the newest one began, by the times in headers.
    async fn confirm_others(&self, archive: Option<&Archive>, present: &mut Present) {
        let edge = |timeline, of: fn(&Timeline) -> Option<u64>| {
            let held = self.coverage().timelines().find(|(id, _)| *id == timeline)?.1;
            self.coverage().name(timeline, of(held)?).map(WalName::Segment)
        };
        let begins = edge(present.timeline, Timeline::first).unwrap_or(WalName::History(present.timeline));
        let Some(begun) = self.archived_at(archive, Some(begins)).await else { return };
        let mut others = Vec::new();
        for other in &present.others {
            let ended = self.archived_at(archive, edge(*other, Timeline::last)).await;
            others.extend(ended.is_none_or(|ended| ended > begun).then_some(*other));
        }
        present.others = others;
    }

    /// Reports problems of text files that could not be read.
    async fn look_at_unreadable_texts(&mut self, archive: &Archive, again: bool) -> Result<(), Error> {
        (self.uncompared_texts, self.absent_texts) = (0, 0);
        for (name, error) in std::mem::take(&mut self.catalog.unreadable) {
            let unreadable = |error: &Error| (FindingKind::Unreadable, error.report());
            let (kind, what) =
                match check(archive, self.system, name.into(), None, Depth::Original(None), self.reading)
                    .await?
                {
                    // The result has changed within a moment, so conclusions from the first one are unreliable.
                    Verdict::Sound => unreadable(&error),
                    // It was absent, and listed afterwards, twice.
                    Verdict::Gone if again && error.kind() == ErrorKind::Absent => {
                        self.gone_texts = self.gone_texts.saturating_sub(1);
                        (FindingKind::Unreadable, LISTED_AND_ABSENT.to_owned())
                    }
                    Verdict::Gone => {
                        self.absent_texts += 1;
                        self.gone_texts += 1;
                        continue;
                    }
                    Verdict::Bad(kind, what) => (kind, what),
                    Verdict::Unreadable(error) => unreadable(&error),
                };
            self.uncompared_texts += u64::from(kind == FindingKind::Unreadable);
            let meaning = match name {
                WalName::History(timeline) => {
                    format!("no older base backup can be recovered to timeline {timeline}")
                }
                _ => "the base backup it tells of is not known, and nothing can be pruned".to_owned(),
            };
            let mut finding = names::finding(Severity::Failure, kind, name.to_string(), what, meaning);
            finding.acknowledge(self.acknowledged.covering(&finding));
            self.names.findings.add(finding);
        }
        Ok(())
    }
}

fn totals_of_texts(catalog: &Catalog) -> u64 {
    catalog.inventory.files.iter().filter(|file| file.name.segment().is_none()).count() as u64
}

/// Returns the times when each timeline was written, by the clock of the directory or store.
fn written(catalog: &Catalog) -> Vec<Written> {
    let mut written: BTreeMap<TimelineId, Written> = BTreeMap::new();
    for file in &catalog.inventory.files {
        let (timeline, is_segment) = match file.name.wal() {
            WalName::Segment(segment) => (segment.timeline(), true),
            WalName::History(timeline) => (timeline, false),
            WalName::Partial(_) | WalName::Backup { .. } => continue,
        };
        let first = Written { timeline, first: file.since, last: file.since };
        let of = written.entry(timeline).or_insert(first);
        of.first = of.first.min(file.since);
        // Sorted by name, but not across kinds of files.
        if is_segment {
            of.last = file.since;
        }
    }
    written.into_values().collect()
}

/// Returns `true` if a segment that was missing from the listing exists now: pushes run concurrently, and a listing
/// takes time.
async fn has_arrived_meanwhile(
    archive: &Archive,
    catalog: &Catalog,
    names: &Names,
    reading: Reading,
) -> Result<bool, Error> {
    let (system, coverage) = (catalog.system, &catalog.coverage);
    let gaps = || names.timelines.iter().flat_map(|timeline| &timeline.gaps);
    if gaps().map(|gap| gap.last - gap.first + 1).sum::<u64>() > MOST_LOOKS {
        return Ok(false);
    }
    let missing = gaps().flat_map(|Gap { timeline, first, last }| {
        (*first..=*last).filter_map(|number| coverage.name(*timeline, number)).map(WalName::Segment)
    });
    let missing: Vec<WalName> = missing.collect();
    let look = |name: WalName| reading.retry(async move || archive.holds(system, name).await);
    let looks = futures_util::stream::iter(missing).map(look).buffered(reading.at_once);
    let there = looks.try_any(std::future::ready).await?;
    Ok(there)
}

fn findings_in(report: &[Finding], failures: u64, notes: u64) -> Findings {
    Findings { listed: report.to_vec(), failures, notes }
}
