//! Whether an archive can do what it is there for: are all names there that recoveries ask for, and is what they get sound?
//!
//! Names come first, from the catalog ([`Names`], which reads nothing); then contents, in the order of names, so that a
//! verification that was interrupted can be continued where it ended.

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
use crate::catalog::{
    BackupElsewhere, Catalog, KnownBackup, Labels, Reading, Totals, backups_elsewhere, catalog,
};
use crate::coverage::{Coverage, Gap, Timeline};
use crate::error::{Error, ErrorKind};
use crate::reports::{Acknowledgements, Finding, FindingKind, Findings, Severity};
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, TimelineId, WalName};
use crate::work::Clock;

use acknowledged::Known;
pub use backups::{BackupState, Need};
use content::{Depth, Verdict, archived_at, check};
pub use names::{Facts, Names, TimelineState};
pub use present::{Answer, Present, Question, Written};
use run::Interval;
pub use run::{ContentRequest, Run, SoFar};
pub use selection::{Percent, Since};
pub use session::{Verified, VerifyRequest, verify};
use settling::{MOST_WAIT, PAUSE, may_be_on_its_way};
use sizes::other_sizes;

/// Whose files are looked at, and how.
#[derive(Debug, Clone)]
pub struct Place {
    /// The cluster.
    pub system: SystemIdentifier,
    /// Where base backups are kept.
    pub backup_directories: Vec<PathBuf>,
    /// The labels of the base backups in the archive that count.
    pub labels: Labels,
    /// Timelines that nobody wants to recover any more.
    pub given_up: Vec<TimelineId>,
    /// How the archive is read.
    pub reading: Reading,
}

/// What an archive holds, and what the names in it and the text files tell.
#[derive(Debug)]
pub struct Survey {
    system: SystemIdentifier,
    reading: Reading,
    catalog: Catalog,
    elsewhere: Vec<BackupElsewhere>,
    labels: Labels,
    given_up: Vec<TimelineId>,
    /// Timelines whose history files are there and cannot be read.
    unreadable: BTreeSet<TimelineId>,
    written: Vec<Written>,
    /// What somebody knows of.
    pub acknowledged: Acknowledgements,
    /// What the names tell.
    pub names: Names,
    /// Whether what is written now can be recovered, once that was asked.
    pub present: Option<Present>,
    /// How many text files were read.
    pub text_files: u64,
    /// How many of them could not be compared with what was archived.
    pub uncompared_texts: u64,
    /// How many of them were absent when they were asked for.
    absent_texts: u64,
    /// How many text files went meanwhile.
    pub gone_texts: u64,
    /// What is there in all.
    pub totals: Totals,
}

/// The most missing segments that are asked for one by one.
const MOST_LOOKS: u64 = 1000;

/// What is said of a file that a listing shows and that cannot be had.
const LISTED_AND_ABSENT: &str = "the archive lists it, and says that it does not exist when asked for it";

impl Survey {
    /// Lists the archive and reads its text files.
    async fn of(
        archive: &Archive,
        place: Place,
        acknowledged: Acknowledgements,
        clock: Clock<'_>,
    ) -> Result<Self, Error> {
        let Place { system, backup_directories, labels, given_up, reading } = place;
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
        survey.look(archive, false, clock).await?;
        Ok(survey)
    }

    /// Judges the archive by another listing, which is the last word on what went meanwhile.
    async fn look_again(&mut self, archive: &Archive, clock: Clock<'_>) -> Result<(), Error> {
        self.catalog = catalog(archive, self.system, self.reading).await?;
        self.look(archive, true, clock).await
    }

    /// Judges what has been listed.
    async fn look(&mut self, archive: &Archive, again: bool, clock: Clock<'_>) -> Result<(), Error> {
        let now = clock();
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
        let Self { catalog, elsewhere, labels, given_up, acknowledged, .. } = self;
        let of_timelines = catalog.unreadable.iter().filter_map(|(name, _)| match name {
            WalName::History(timeline) => Some(*timeline),
            _ => None,
        });
        self.unreadable = of_timelines.collect();
        let facts = Facts {
            coverage: &catalog.coverage,
            unreadable: &self.unreadable,
            staged: &catalog.inventory.staged,
            unknown: &catalog.inventory.unknown,
            acknowledged,
            now,
        };
        self.names = Names::of(facts, KnownBackup::all(&catalog.backups, elsewhere, labels, &catalog.sizes));
        for finding in other_sizes(catalog).into_iter().chain(astray::astray(&catalog.coverage, given_up)) {
            self.names.findings.add(finding);
        }
    }

    /// The size of the segments that are archived now.
    #[must_use]
    pub fn segment_size(&self) -> SegmentSize {
        self.catalog.coverage.size()
    }

    /// How the segments hang together.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.catalog.coverage
    }

    /// How many text files were compared with what was archived.
    fn compared_texts(&self) -> u64 {
        self.text_files.saturating_sub(self.uncompared_texts + self.absent_texts)
    }

    /// Answers whether what is written now can be recovered without these segments, which cannot be had. Nothing is read where
    /// the archive is not given.
    async fn conclude(&mut self, archive: Option<&Archive>, bad: &BTreeSet<SegmentName>) {
        let question = Question {
            coverage: &self.catalog.coverage,
            sound: &self.catalog.coverage.without(bad),
            unreadable: &self.unreadable,
            backups: &self.names.backups,
            written: &self.written,
            given_up: &self.given_up,
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
                let by_the_place = || self.written.iter().find(|written| written.timeline == *of);
                // Nothing was archived after the last segment but the end of the backup itself.
                *to = own_word.or_else(|| by_the_place().map(|written| written.last)).map(|to| to.max(*from));
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

    /// When a file was archived, by its own word: what a copy of an archive says of its files is younger than what is in them.
    async fn archived_at(&self, archive: Option<&Archive>, name: Option<WalName>) -> Option<Timestamp> {
        archived_at(archive?, self.system, name?, self.reading).await.ok()
    }

    /// Leaves only those timelines that were written on since the newest was, by the files' own word.
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

    /// What is wrong with text files that could not be read.
    async fn look_at_unreadable_texts(&mut self, archive: &Archive, again: bool) -> Result<(), Error> {
        (self.uncompared_texts, self.absent_texts) = (0, 0);
        for (name, error) in std::mem::take(&mut self.catalog.unreadable) {
            let unreadable = |error: &Error| (FindingKind::Unreadable, error.report());
            let (kind, what) =
                match check(archive, self.system, name.into(), None, Depth::Original(None), self.reading)
                    .await?
                {
                    // Both were otherwise a moment ago, and what was built on that is not to be relied on.
                    Verdict::Sound => unreadable(&error),
                    // It was absent, and listed after that, twice.
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
            finding.acknowledge(self.acknowledged.of(&finding));
            self.names.findings.add(finding);
        }
        Ok(())
    }
}

fn totals_of_texts(catalog: &Catalog) -> u64 {
    catalog.inventory.files.iter().filter(|file| file.name.segment().is_none()).count() as u64
}

/// When which timeline was written on, by the clock of the place.
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
        // Files are in the order of their names, but not all kinds of them.
        if is_segment {
            of.last = file.since;
        }
    }
    written.into_values().collect()
}

/// Whether a segment that was missing when the archive was listed is there now: several pushes are at work at a time, and a
/// listing is not one moment.
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
    let look = |name: WalName| reading.patiently(async move || archive.holds(system, name).await);
    let looks = futures_util::stream::iter(missing).map(look).buffered(reading.at_once);
    let there = looks.try_any(std::future::ready).await?;
    Ok(there)
}

fn findings_in(report: &[Finding], failures: u64, notes: u64) -> Findings {
    Findings { listed: report.to_vec(), failures, notes }
}
