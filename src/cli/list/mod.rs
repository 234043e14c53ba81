//! `walkeep list`.

mod systems;

use std::fmt::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;

use crate::archive::{Archive, ArchivedFile};
use crate::catalog::{Catalog, Reading, Totals};
use crate::cli::exit::ExitStatuses;
use crate::cli::json::Problem;
use crate::cli::print::{bytes, count, plain, print, print_text, ratio, short_bytes, time, write_json};
use crate::cli::shape::{BuildsOn, ReachShape, TimelineShape};
use crate::cli::systems::no_directory;
use crate::cli::table::{blocks, left, table};
use crate::cli::tool::{Early, Opened, TIMEOUT_OF_LONG_WORK, Tool, open_archive};
use crate::config::Settings;
use crate::coverage::{BackupState, BaseBackup, Chain};
use crate::error::{Error, ErrorKind};
use crate::list::{self, ListRequest, Listed, ListedSystem, ListedTimeline, check_range, list, list_systems};
use crate::wal::{SegmentName, SystemIdentifier, SystemNames};

/// List the contents of the archive: timelines and base backups, or files
///
/// If the archive holds several systems, and nothing says which is meant, list these.
///
/// Exit status: 0 all listed; 1 something could not be read; 2 wrong usage or configuration,
/// or an archive that refuses; 141 the reader of the output has left.
#[derive(Debug, clap::Args)]
#[command(mut_arg("timeout", |timeout| timeout.help(TIMEOUT_OF_LONG_WORK)))]
pub(super) struct List {
    #[command(flatten)]
    tool: Tool,

    /// Not needed: it lists all systems by itself
    #[arg(long, hide = true)]
    all_systems: bool,

    /// What to list [default: timelines and backups, or the systems if there are several]
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
    /// Systems, with the segments and the size of each
    Systems,
}

/// What was opened to be listed.
enum Contents {
    OfOne(Opened),
    OfAll { archive: Archive, reading: Reading, systems: Vec<SystemIdentifier> },
}

/// What was listed.
enum Outcome {
    OfOne(Box<Listed>),
    OfAll { systems: Vec<ListedSystem>, absent: Vec<SystemIdentifier> },
}

/// JSON output.
#[derive(Serialize)]
struct Printed {
    archive: String,
    system_identifier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
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
    /// The base backup on whose files an incremental one builds.
    #[serde(skip_serializing_if = "Option::is_none")]
    builds_on: Option<BuildsOn>,
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
        self.check(&settings).map_err(|error| self.tool.statuses().report(&error))?;
        let outcome = self.tool.work_on(&settings, self.open(&settings), async |contents, early| {
            self.look(&settings, contents, &early).await
        })?;
        let names = &settings.archive.names;
        match outcome {
            Outcome::OfOne(listed) => self.print(&settings, &listed),
            Outcome::OfAll { systems, absent } => {
                if self.tool.json {
                    let archive = settings.archive.url.to_string();
                    print(|to| write_json(to, &systems::printed(archive, &systems, &absent, names)))?;
                } else {
                    print_text(&systems::as_text(&systems, &absent, names))?;
                }
                let problems = systems::problems(&systems, names);
                let statuses = problems.iter().map(|error| ExitStatuses::OfTool.report(error));
                Ok(statuses.max().unwrap_or_default().into())
            }
        }
    }

    /// Refuses what does not go together.
    fn check(&self, settings: &Settings) -> Result<(), Error> {
        if self.all_systems {
            return Err(Error::new(ErrorKind::Configuration, "walkeep list has no --all-systems")
                .hint("leave it out: walkeep list shows all systems by itself"));
        }
        if self.what == Some(What::Systems) && (settings.system.is_some() || self.tool.pgdata.is_some()) {
            let what = "the systems are listed all together, and one is given";
            return Err(Error::new(ErrorKind::Configuration, what)
                .hint("leave out --system-identifier and --pgdata, or the word systems"));
        }
        // A list of systems has no range, either.
        let what = self.what.map_or(list::What::Both, |what| what.of_one().unwrap_or(list::What::Timelines));
        check_range(what, self.from, self.to)
    }

    /// Opens the archive, and lists its systems unless one is meant.
    async fn open(&self, settings: &Settings) -> Result<Contents, Error> {
        let all = self.what == Some(What::Systems);
        if !all && (self.what.is_some() || settings.system.is_some() || self.tool.pgdata.is_some()) {
            return self.tool.open(settings).await.map(Contents::OfOne);
        }
        let (archive, reading) = open_archive(settings).await?;
        let systems = reading.retry(async || archive.systems().await).await?;
        match systems.as_slice() {
            [] => Err(archive.holds_no_system().await),
            [system] if !all => {
                let names = &settings.archive.names;
                for absent in names.absent_from(&systems) {
                    let error = no_directory(&names.shown(absent), archive.url());
                    tracing::warn!("{}", error.report());
                }
                Ok(Contents::OfOne(Opened { archive, system: *system, reading }))
            }
            _ => Ok(Contents::OfAll { archive, reading, systems }),
        }
    }

    async fn look(
        &self,
        settings: &Settings,
        contents: Contents,
        early: &Early<'_>,
    ) -> Result<Outcome, Error> {
        let why = || early.why();
        let work = early.work(&why, &());
        match contents {
            Contents::OfOne(Opened { archive, system, reading }) => {
                let what = self.what.and_then(What::of_one).unwrap_or(list::What::Both);
                let labels = settings.keep.backup_labels.clone();
                let request = ListRequest { system, reading, what, from: self.from, to: self.to, labels };
                list(&archive, request, &work).await.map(Box::new).map(Outcome::OfOne)
            }
            Contents::OfAll { archive, reading, systems } => {
                let absent = settings.archive.names.absent_from(&systems);
                let systems = list_systems(&archive, systems, reading, &work).await?;
                Ok(Outcome::OfAll { systems, absent })
            }
        }
    }

    fn print(&self, settings: &Settings, listed: &Listed) -> Result<ExitCode, ExitCode> {
        if self.tool.json {
            let (archive, names) = (settings.archive.url.to_string(), &settings.archive.names);
            print(|to| write_json(to, &printed(archive, names, listed)))?;
        } else {
            print_listed(listed, !settings.keep.backup_labels.is_empty())?;
        }
        for error in listed.problems() {
            tracing::error!("{}", error.report());
        }
        warn_of_sizes(&listed.catalog);
        Ok(u8::from(listed.problems().next().is_some()).into())
    }
}

impl What {
    /// Returns what is listed of one system; `None` if it is the systems.
    fn of_one(self) -> Option<list::What> {
        match self {
            Self::Backups => Some(list::What::Backups),
            Self::Timelines => Some(list::What::Timelines),
            Self::Files => Some(list::What::Files),
            Self::Systems => None,
        }
    }
}

fn warn_of_sizes(catalog: &Catalog) {
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
}

/// Prints a text. `with_counts`: show which base backups count, if not all do.
fn print_listed(listed: &Listed, with_counts: bool) -> Result<(), ExitCode> {
    if let (Some(files), Some(totals)) = (listed.files(), listed.totals()) {
        return print_files(files, &totals, &listed.catalog);
    }
    let mut parts = Vec::new();
    parts.extend(listed.timelines().map(|timelines| timelines_as_text(&shapes(listed, &timelines))));
    parts.extend(listed.backups().map(|backups| backups_as_text(&listed.catalog, &backups, with_counts)));
    print_text(&parts.join("\n"))
}

/// Prints in pieces, because there may be millions of files; columns therefore have fixed widths.
fn print_files<'a>(
    files: impl Iterator<Item = &'a ArchivedFile>,
    totals: &Totals,
    catalog: &Catalog,
) -> Result<(), ExitCode> {
    let mut text = format!("{:40}  {:20} {:>8} {:>8}\n", "NAME", "ARCHIVED", "SIZE", "STORED");
    for file in files {
        let size = file
            .name
            .segment()
            .map_or_else(|| "-".to_owned(), |_| short_bytes(catalog.sizes.of(file.name).bytes()));
        let (name, since) = (file.name.to_string(), time(file.since));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:40}  {since:20} {size:>8} {:>8}", short_bytes(file.stored_size));
        if text.len() > 1 << 16 {
            print_text(&std::mem::take(&mut text))?;
        }
    }
    let ratio = ratio(totals).map_or_else(String::new, |ratio| format!(", ratio {ratio}"));
    let _ = writeln!(
        text,
        "{}: {} of segments, {} stored{ratio}",
        count(usize::try_from(totals.files).unwrap_or(usize::MAX), "file"),
        bytes(totals.original_bytes),
        bytes(totals.stored_bytes),
    );
    print_text(&text)
}

fn printed(archive: String, names: &SystemNames, listed: &Listed) -> Printed {
    let catalog = &listed.catalog;
    let printed = |file: &ArchivedFile| PrintedFile {
        name: file.name.to_string(),
        archived_at: time(file.since),
        original_bytes: file.name.segment().map(|_| catalog.sizes.of(file.name).bytes()),
        stored_bytes: file.stored_size,
    };
    let problem = listed.problems().next().as_ref().map(Problem::from);
    Printed {
        archive,
        system_identifier: catalog.system.to_string(),
        name: names.name(catalog.system).map(str::to_owned),
        ok: problem.is_none(),
        problem,
        segment_bytes: catalog.sizes.current().bytes(),
        timelines: listed.timelines().map(|timelines| shapes(listed, &timelines)),
        backups: listed
            .backups()
            .map(|backups| backups.iter().map(|state| printed_backup(catalog, state, &backups)).collect()),
        files: listed.files().map(|files| files.map(printed).collect()),
        total: listed.totals().map(|totals| PrintedTotals { totals, ratio: totals.ratio() }),
        unreadable: catalog
            .unreadable
            .iter()
            .map(|(name, error)| Unreadable { name: name.to_string(), error: error.report() })
            .collect(),
    }
}

fn shapes(listed: &Listed, timelines: &[ListedTimeline]) -> Vec<TimelineShape> {
    let coverage = &listed.catalog.coverage;
    let shape = |ListedTimeline { timeline, parent, held, gaps }: &ListedTimeline| {
        TimelineShape::new(coverage, *timeline, *parent, held, gaps)
    };
    timelines.iter().map(shape).collect()
}

fn printed_backup(catalog: &Catalog, state: &BackupState, all: &[BackupState]) -> PrintedBackup {
    let BackupState { backup, complete, reaches } = state;
    let coverage = catalog.coverage_of(backup);
    let chain = Chain::below(backup, &all.iter().map(|state| &state.backup));
    PrintedBackup {
        name: backup.file(),
        label: backup.label.clone(),
        start_segment: backup.start().to_string(),
        ended: time(backup.ended),
        complete: *complete,
        counts: backup.counts,
        reaches: reaches.iter().map(|reach| ReachShape::new(coverage, *reach)).collect(),
        builds_on: backup.builds_on.map(|below| BuildsOn::new(coverage, below, &chain)),
    }
}

/// Formats a line for each range, gap and partial segment, and one for each timeline with a parent.
fn timelines_as_text(timelines: &[TimelineShape]) -> String {
    let mut rows = Vec::new();
    for timeline in timelines {
        let mut row = |what: &str, first: &str, last: &str, segments: String| {
            let number = timeline.timeline.to_string();
            rows.push(vec![number, what.to_owned(), first.to_owned(), last.to_owned(), segments]);
        };
        let mut gaps = timeline.gaps.iter();
        for range in &timeline.ranges {
            row("archived", &range.first, &range.last, range.segments.to_string());
            // A gap lies between two ranges.
            if let Some(gap) = gaps.next() {
                row("missing", &gap.first, &gap.last, gap.segments.to_string());
            }
        }
        // The whole name of a second partial segment has 96 characters; the list of files has it.
        let segment = |partial: &str| partial.split('.').next().unwrap_or_default().to_owned();
        timeline.partials.iter().for_each(|partial| row("partial", &segment(partial), "-", "-".to_owned()));
        if timeline.ranges.is_empty() && timeline.partials.is_empty() {
            row("nothing", "-", "-", "0".to_owned());
        }
    }
    let mut text = table(&["TIMELINE", "SEGMENTS", "FIRST", "LAST", "NUMBER"], &[0, 4], rows);
    text.extend(timelines.iter().filter_map(|timeline| {
        Some(left(timeline.timeline, timeline.parent?, timeline.left_at.as_deref()?))
    }));
    text
}

/// Formats each backup with its label and start, and with a line for each timeline that it can be recovered to.
fn backups_as_text(catalog: &Catalog, backups: &[BackupState], with_counts: bool) -> String {
    if backups.is_empty() {
        return "no base backup is known\n".to_owned();
    }
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let all = backups.iter().map(|state| &state.backup);
    let chains: Vec<(&BaseBackup, Chain<'_>)> =
        all.clone().map(|backup| (backup, Chain::below(backup, &all))).collect();
    let rows = backups.iter().zip(&chains).map(|(state, (_, chain))| {
        let printed = printed_backup(catalog, state, backups);
        let reaches = printed.reaches.iter().map(|reach| match (&reach.last_segment, reach.to_the_end) {
            (Some(last), true) => format!("recoverable to {last}, the end of timeline {}", reach.timeline),
            (Some(last), false) => {
                format!("recoverable to {last}, a gap on the way to timeline {}", reach.timeline)
            }
            (None, _) => {
                format!("not recoverable to timeline {}: its first segment is missing", reach.timeline)
            }
        });
        let label = printed.label.map_or_else(String::new, |label| format!("\"{}\", ", plain(&label)));
        let mut lines = vec![format!("{label}from {}", printed.start_segment)];
        lines.extend(reaches);
        if lines.len() == 1 {
            lines.push("not recoverable".to_owned());
        }
        lines.extend(chain.in_words());
        let by = chains.iter().rfind(|(_, chain)| chain.may_hold(&state.backup));
        lines.extend(by.map(|(other, _)| {
            format!(
                "its files may still be needed by {}: not all is known on which that builds",
                other.title_in_words()
            )
        }));
        let mut row = vec![printed.name, printed.ended, yes_or_no(printed.complete)];
        row.extend(with_counts.then(|| yes_or_no(printed.counts)));
        (row, lines)
    });
    let mut heads = vec!["BACKUP", "ENDED", "COMPLETE"];
    heads.extend(with_counts.then_some("COUNTS"));
    blocks(&heads, rows)
}
