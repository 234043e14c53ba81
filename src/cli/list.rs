//! `walkeep list`.

use std::fmt::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;

use super::json::Problem;
use super::print::{bytes, count, plain, print, print_text, ratio, time, write_json};
use super::shape::{ReachShape, TimelineShape};
use super::table::table;
use super::tool::{Opened, Tool};
use crate::archive::ArchivedFile;
use crate::call::unless_stopped;
use crate::catalog::{ArchivedBackup, Catalog, KnownBackup, Labels, Totals, catalog};
use crate::coverage::{Origin, Timeline};
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, TimelineId, WalName};

/// List the contents of the archive: timelines and base backups, or files
///
/// Exit status: 0 all listed; 1 something could not be read; 2 wrong usage or configuration.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    tool: Tool,

    /// What to list [default: timelines and backups]
    #[arg(value_enum, value_name = "WHAT")]
    what: Option<What>,

    /// List only files from this segment on, on all timelines
    #[arg(value_name = "FROM")]
    from: Option<SegmentName>,

    /// List only files up to this segment, on all timelines
    #[arg(value_name = "TO")]
    to: Option<SegmentName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Base backups, and how far each can be recovered
    Backups,
    /// Timelines, with the archived segments of each
    Timelines,
    /// Files, all or a range
    Files,
}

/// JSON output.
#[derive(Serialize)]
struct Printed {
    archive: String,
    system_identifier: String,
    /// `true` if the exit status is 0.
    ok: bool,
    #[serde(flatten)]
    problem: Option<Problem>,
    segment_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timelines: Option<Vec<TimelineShape>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backups: Option<Vec<PrintedBackup>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<PrintedFile>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<PrintedTotals>,
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct PrintedBackup {
    name: String,
    label: Option<String>,
    start_segment: String,
    ended: String,
    complete: bool,
    /// `true` if its label counts.
    counts: bool,
    reaches: Vec<ReachShape>,
}

#[derive(Serialize)]
struct PrintedFile {
    name: String,
    archived_at: String,
    /// Size of a segment; `null` for other files.
    original_bytes: Option<u64>,
    stored_bytes: u64,
}

#[derive(Serialize)]
struct PrintedTotals {
    #[serde(flatten)]
    totals: Totals,
    ratio: Option<f64>,
}

#[derive(Serialize)]
struct Unreadable {
    name: String,
    error: String,
}

impl List {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let settings = self.tool.start(program, |given| given)?;
        self.check_range().map_err(|error| self.tool.failure().report(&error))?;
        let archive = settings.archive.url.to_string();
        let catalog = self.tool.work(&settings, async |opened, stop| {
            let Opened { archive, system, reading } = opened;
            let listing = catalog(&archive, system, reading);
            unless_stopped(&stop, listing, "stopped before all was listed").await
        })?;
        if self.tool.json {
            print(|to| write_json(to, &self.printed(archive, &catalog, &settings.backup_labels)))?;
        } else {
            self.print_text(&catalog, &settings.backup_labels)?;
        }
        let unreadable = self.problems(&catalog);
        for error in &unreadable {
            tracing::error!("{}", error.report());
        }
        if let Some(odd) = catalog.coverage.odd().first() {
            let (names, size) = (count(catalog.coverage.odd().len(), "name"), catalog.sizes.current());
            tracing::warn!("{names} such as {odd} no segment of {size} has, as what is archived now");
        }
        for other in catalog.sizes.others().iter().filter(|other| !other.segments.is_empty()) {
            let (segments, current) = (count(other.segments.len(), "segment"), catalog.sizes.current());
            let (size, range) = (other.size, other.range());
            tracing::warn!(
                "{segments} of {size} ({range}) in no timeline that is listed: pg_resetwal has changed the size of segments, to {current}"
            );
        }
        Ok(u8::from(!unreadable.is_empty()).into())
    }

    fn check_range(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Configuration, what));
        match (self.what, self.from, self.to) {
            (Some(What::Backups | What::Timelines), Some(_), _) => {
                wrong("only files can be listed from a segment on")
            }
            (_, Some(from), Some(to)) if from.order() > to.order() => wrong("FROM comes after TO in the log"),
            _ => Ok(()),
        }
    }

    /// Returns the errors of unreadable files. Listing files ignores their content.
    fn problems(&self, catalog: &Catalog) -> Vec<Error> {
        let unreadable = if self.wants(What::Files) { &[][..] } else { &catalog.unreadable };
        let told = |(name, error): &(WalName, Error)| {
            Error::new(error.kind(), format!("cannot tell what {name} says: {}", error.report()))
        };
        unreadable.iter().map(told).collect()
    }

    /// Returns `true` if `what` was requested. Timelines and backups are the default.
    fn wants(&self, what: What) -> bool {
        self.what.map_or(what != What::Files, |wanted| wanted == what)
    }

    /// Iterates over the requested files. With a range, files without a position are left out.
    fn files<'a>(&self, catalog: &'a Catalog) -> impl Iterator<Item = &'a ArchivedFile> + Clone {
        let (from, to) = (self.from.map(SegmentName::order), self.to.map(SegmentName::order));
        let is_asked_for = move |file: &&ArchivedFile| {
            let place = match file.name.wal() {
                WalName::Segment(segment) | WalName::Partial(segment) | WalName::Backup { segment, .. } => {
                    segment.order()
                }
                WalName::History(_) => return from.is_none(),
            };
            from.is_none_or(|from| from <= place) && to.is_none_or(|to| place <= to)
        };
        catalog.inventory.files.iter().filter(is_asked_for)
    }

    fn print_text(&self, catalog: &Catalog, labels: &Labels) -> Result<(), ExitCode> {
        if self.wants(What::Files) {
            return self.print_files(catalog);
        }
        let mut parts = Vec::new();
        if self.wants(What::Timelines) {
            parts.push(timelines_as_text(&timelines(catalog)));
        }
        if self.wants(What::Backups) {
            parts.push(backups_as_text(catalog, labels));
        }
        print_text(&parts.join("\n"))
    }

    /// Prints in pieces, because there may be millions of files; columns therefore have fixed widths.
    fn print_files(&self, catalog: &Catalog) -> Result<(), ExitCode> {
        let mut text = format!("{:40}  {:20}  {:>9}  {:>9}\n", "NAME", "ARCHIVED", "SIZE", "STORED");
        for file in self.files(catalog) {
            let size = file
                .name
                .segment()
                .map_or_else(|| "-".to_owned(), |_| bytes(catalog.sizes.of(file.name).bytes()));
            let (name, since) = (file.name.to_string(), time(file.since));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:40}  {since:20}  {size:>9}  {:>9}", bytes(file.stored_size));
            if text.len() > 1 << 16 {
                print_text(&std::mem::take(&mut text))?;
            }
        }
        let totals = Totals::of(self.files(catalog), &catalog.sizes);
        let ratio = ratio(&totals).map_or_else(String::new, |ratio| format!(", ratio {ratio}"));
        let _ = writeln!(
            text,
            "{}: {} of segments, {} stored{ratio}",
            count(usize::try_from(totals.files).unwrap_or(usize::MAX), "file"),
            bytes(totals.original_bytes),
            bytes(totals.stored_bytes),
        );
        print_text(&text)
    }

    fn printed(&self, archive: String, catalog: &Catalog, labels: &Labels) -> Printed {
        let printed = |file: &ArchivedFile| PrintedFile {
            name: file.name.to_string(),
            archived_at: time(file.since),
            original_bytes: file.name.segment().map(|_| catalog.sizes.of(file.name).bytes()),
            stored_bytes: file.stored_size,
        };
        let totals = Totals::of(self.files(catalog), &catalog.sizes);
        let total = PrintedTotals { totals, ratio: totals.ratio() };
        let unreadable = catalog.unreadable.iter();
        let problem = self.problems(catalog).first().map(Problem::from);
        Printed {
            archive,
            system_identifier: catalog.system.to_string(),
            ok: problem.is_none(),
            problem,
            segment_bytes: catalog.sizes.current().bytes(),
            timelines: self.wants(What::Timelines).then(|| timelines(catalog)),
            backups: self.wants(What::Backups).then(|| backups(catalog, labels)),
            files: self.wants(What::Files).then(|| self.files(catalog).map(printed).collect()),
            total: self.wants(What::Files).then_some(total),
            unreadable: unreadable
                .map(|(name, error)| Unreadable { name: name.to_string(), error: error.report() })
                .collect(),
        }
    }
}

/// Returns all timelines that have files, even if only a history file.
fn timelines(catalog: &Catalog) -> Vec<TimelineShape> {
    let coverage = &catalog.coverage;
    let with_history = catalog.inventory.files.iter().filter_map(|file| match file.name.wal() {
        WalName::History(timeline) => Some(timeline),
        _ => None,
    });
    let mut ids: Vec<TimelineId> = coverage.timelines().map(|(id, _)| id).chain(with_history).collect();
    ids.sort_unstable();
    ids.dedup();
    let gaps = coverage.gaps();
    let printed = |id: TimelineId| {
        let held = coverage.timelines().find(|(other, _)| *other == id).map(|(_, held)| held);
        let parent = coverage.history(id).and_then(|history| history.ancestors.last());
        let parent = parent.map(|parent| (parent.timeline, parent.left_at));
        let of_it = gaps.iter().filter(|gap| gap.timeline == id);
        TimelineShape::new(coverage, id, parent, held.unwrap_or(&Timeline::default()), of_it)
    };
    ids.into_iter().map(printed).collect()
}

/// Formats a line for each range, gap and partial segment.
fn timelines_as_text(timelines: &[TimelineShape]) -> String {
    let mut rows = Vec::new();
    for timeline in timelines {
        let parent = timeline.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string());
        let left_at = timeline.left_at.clone().unwrap_or_else(|| "-".to_owned());
        let mut row = |what: &str, first: &str, last: &str, segments: String| {
            let number = timeline.timeline.to_string();
            let (first, last) = (first.to_owned(), last.to_owned());
            rows.push(vec![number, parent.clone(), left_at.clone(), what.to_owned(), first, last, segments]);
        };
        let mut gaps = timeline.gaps.iter();
        for range in &timeline.ranges {
            row("archived", &range.first, &range.last, range.segments.to_string());
            // A gap lies between two ranges.
            if let Some(gap) = gaps.next() {
                row("missing", &gap.first, &gap.last, gap.segments.to_string());
            }
        }
        timeline.partials.iter().for_each(|partial| row("partial", partial, "-", "-".to_owned()));
        if timeline.ranges.is_empty() && timeline.partials.is_empty() {
            row("nothing", "-", "-", "0".to_owned());
        }
    }
    table(&["TIMELINE", "PARENT", "LEFT IT AT", "SEGMENTS", "FIRST", "LAST", "NUMBER"], &[0, 1, 6], rows)
}

/// Returns the backups, sorted by the names of their backup history files.
fn backups(catalog: &Catalog, labels: &Labels) -> Vec<PrintedBackup> {
    let known = KnownBackup::all(&catalog.backups, &[], labels, &catalog.sizes);
    let printed = |backup: &ArchivedBackup| {
        let coverage = catalog.coverage_of(backup);
        let origin = Origin::of(backup.history.wal, coverage.size());
        let known = known.iter().find(|known| known.known_from.history() == Some(backup.name));
        PrintedBackup {
            name: backup.name.to_string(),
            label: backup.history.label.clone(),
            start_segment: backup.history.wal.start_segment.to_string(),
            ended: time(known.map_or(backup.archived_at, |known| known.ended)),
            complete: backup.history.wal.end.is_some() && coverage.is_complete(origin),
            counts: known.is_none_or(|known| known.counts),
            reaches: coverage
                .reaches(origin)
                .into_iter()
                .map(|reach| ReachShape::new(coverage, reach))
                .collect(),
        }
    };
    catalog.backups.iter().map(printed).collect()
}

/// Formats a line for each timeline that a backup can be recovered to. Shows which backups count if not all do.
fn backups_as_text(catalog: &Catalog, labels: &Labels) -> String {
    let backups = backups(catalog, labels);
    if backups.is_empty() {
        return "no base backup is known\n".to_owned();
    }
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let rows = backups.into_iter().map(|printed| {
        let reaches = printed.reaches.iter().map(|reach| {
            let (last, why) = match (&reach.last_segment, reach.to_the_end) {
                (Some(last), true) => (last.as_str(), ""),
                (Some(last), false) => (last.as_str(), ", then segments are missing"),
                (None, _) => ("nothing", ", its first segment is missing"),
            };
            format!("{last} on timeline {}{why}", reach.timeline)
        });
        let reaches: Vec<String> = reaches.collect();
        let reaches = if reaches.is_empty() { "nothing".to_owned() } else { reaches.join("\n") };
        let label = plain(printed.label.as_deref().unwrap_or("-"));
        let mut row =
            vec![printed.name, label, printed.start_segment, printed.ended, yes_or_no(printed.complete)];
        row.extend((!labels.is_empty()).then(|| yes_or_no(printed.counts)));
        row.push(reaches);
        row
    });
    let mut heads = vec!["BACKUP", "LABEL", "START", "ENDED", "COMPLETE"];
    heads.extend((!labels.is_empty()).then_some("COUNTS"));
    heads.push("RECOVERABLE TO");
    table(&heads, &[], rows)
}
