//! Whether an archive can do what it is there for: are all names there that recoveries ask for, and is what they get sound?
//!
//! Names come first, from the catalog ([`Names`], which reads nothing); then contents, in the order of names, so that a
//! verification that was interrupted can be continued where it ended.

mod backups;
mod content;
mod gaps;
mod names;
mod run;
mod selection;
mod sizes;

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::archive::Archive;
use crate::blocking::blocking;
use crate::catalog::{
    BackupElsewhere, Catalog, Finding, FindingKind, Findings, KnownBackup, Labels, Reading, Severity, Totals,
    backups_elsewhere, catalog,
};
use crate::coverage::{Coverage, Gap};
use crate::error::Error;
use crate::wal::{SegmentSize, SystemIdentifier, TimelineId, WalName};

pub use backups::{BackupState, Need};
use content::{Depth, Verdict, check};
pub use names::{Facts, Names, TimelineState};
pub use run::{ContentRequest, Interval, Run, SoFar};
pub use selection::{Percent, Since};
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
    /// How the archive is read.
    pub reading: Reading,
}

/// What an archive holds, and what the names in it and the text files tell.
#[derive(Debug)]
pub struct Survey {
    system: SystemIdentifier,
    reading: Reading,
    catalog: Catalog,
    /// What the names tell.
    pub names: Names,
    /// How many text files were read.
    pub text_files: u64,
    /// How many of them went meanwhile.
    pub gone_texts: u64,
    /// What is there in all.
    pub totals: Totals,
}

/// The most missing segments that are asked for one by one.
const MOST_LOOKS: u64 = 1000;

impl Survey {
    /// Lists the archive and reads its text files.
    pub async fn of(archive: &Archive, place: Place, now: Timestamp) -> Result<Self, Error> {
        let Place { system, backup_directories, labels, reading } = place;
        let mut catalog = catalog(archive, system, reading).await?;
        let size = catalog.coverage.size();
        let elsewhere = blocking(move || backups_elsewhere(&backup_directories, system, size)).await?;
        let mut names = names_of(&catalog, &elsewhere, &labels, now);
        if has_arrived_meanwhile(archive, &catalog, &names, reading).await? {
            catalog = self::catalog(archive, system, reading).await?;
            names = names_of(&catalog, &elsewhere, &labels, now);
        }
        let totals = Totals::of(&catalog.inventory.files, &catalog.sizes);
        let text_files = totals_of_texts(&catalog);
        let mut survey = Self { system, reading, catalog, names, text_files, gone_texts: 0, totals };
        survey.look_at_unreadable_texts(archive).await?;
        Ok(survey)
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

    /// What is wrong with text files that could not be read.
    async fn look_at_unreadable_texts(&mut self, archive: &Archive) -> Result<(), Error> {
        for (name, error) in std::mem::take(&mut self.catalog.unreadable) {
            let (kind, what) =
                match check(archive, self.system, name.into(), None, Depth::Original(None), self.reading)
                    .await?
                {
                    // Both were otherwise a moment ago, and what was built on that is not to be relied on.
                    Verdict::Sound => (FindingKind::Unreadable, error.report()),
                    Verdict::Gone => {
                        self.gone_texts += 1;
                        continue;
                    }
                    Verdict::Bad(kind, what) => (kind, what),
                    Verdict::Unreadable(error) => (FindingKind::Unreadable, error.report()),
                };
            let meaning = match name {
                WalName::History(timeline) => {
                    format!("no older base backup can be recovered to timeline {timeline}")
                }
                _ => "the base backup it tells of is not known, and nothing can be pruned".to_owned(),
            };
            let finding = names::finding(Severity::Failure, kind, name.to_string(), what, meaning);
            self.names.findings.add(finding);
        }
        Ok(())
    }
}

fn totals_of_texts(catalog: &Catalog) -> u64 {
    catalog.inventory.files.iter().filter(|file| file.name.segment().is_none()).count() as u64
}

fn names_of(catalog: &Catalog, elsewhere: &[BackupElsewhere], labels: &Labels, now: Timestamp) -> Names {
    let unreadable: BTreeSet<TimelineId> = catalog
        .unreadable
        .iter()
        .filter_map(|(name, _)| match name {
            WalName::History(timeline) => Some(*timeline),
            _ => None,
        })
        .collect();
    let facts = Facts {
        coverage: &catalog.coverage,
        unreadable: &unreadable,
        staged: &catalog.inventory.staged,
        unknown: &catalog.inventory.unknown,
        now,
    };
    let mut names = Names::of(facts, KnownBackup::all(&catalog.backups, elsewhere, labels, &catalog.sizes));
    for finding in other_sizes(catalog) {
        names.findings.add(finding);
    }
    names
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
