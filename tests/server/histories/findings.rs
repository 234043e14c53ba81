//! Comparison of `verify`'s findings from names with recoveries, and with what was written.

use std::collections::BTreeSet;

use walkeep::catalog::{Labels, known_backups};
use walkeep::coverage::BackupState;
use walkeep::reports::{Acknowledgements, FindingKind, Findings, Severity};
use walkeep::verify::{CompleteBackups, NameFacts, Names};
use walkeep::wal::SegmentName;

use super::disagreements::Disagreements;
use super::promises::is_complete;
use super::recovery::{Archive, BaseBackup, Tli};
use super::view::{self, index_of};
use super::world::{World, known_timelines};

/// Checks all findings that verify makes from names.
pub(crate) fn verify(world: &World, looks_elsewhere: bool, found: &mut Disagreements) {
    let files = &world.files;
    if files.is_empty() {
        return;
    }
    let catalog = view::catalog(world, files);
    let elsewhere = view::elsewhere(world, looks_elsewhere);
    let backups = known_backups(&catalog.backups, &elsewhere, &Labels::default(), &catalog.sizes);
    let unreadable = BTreeSet::new();
    let coverage = &catalog.coverage;
    let acknowledged = &Acknowledgements::default();
    let facts = NameFacts {
        coverage,
        unreadable: &unreadable,
        links: &[],
        staged: &[],
        unknown: &[],
        acknowledged,
        now: world.now,
    };
    let names = Names::of(facts, backups);
    let archive = world.archive(files);
    let targets = known_timelines(files);
    let known = view::known(world, files, looks_elsewhere);
    found.unless(names.backups.len() == known.len(), "another number of backups", || world.to_string());
    let mut states = Vec::new();
    for state in &names.backups {
        let index = index_of(state.backup.label.as_ref(), state.backup.known_from.directory());
        let is = world.backups[index].is;
        let mut differs =
            |kind, what: String| found.unless(false, kind, || format!("b{index} {what}\n{world}"));
        state_is_right(&archive, &targets, &is, state, &mut differs);
        states.push((is, is_complete(&archive, &targets, &is), state));
    }
    let start = |is: &BaseBackup| world.number_of(is.redo);
    let oldest = states.iter().filter(|(_, complete, _)| *complete).map(|(is, ..)| start(is)).min();
    let counts = |is: &BaseBackup| oldest.is_none_or(|oldest| start(is) >= oldest);
    let by_walkeep = CompleteBackups::among(&names.backups);
    let right = states.iter().all(|(is, _, state)| by_walkeep.leave_in_use(&state.backup) == counts(is));
    found.unless(right, "another backup counts", || world.to_string());
    let lacking =
        names.findings.listed.iter().filter(|finding| finding.kind == FindingKind::BackupIncomplete);
    let incomplete = states.iter().filter(|(_, complete, _)| !complete).count();
    found.unless(lacking.count() == incomplete, "another number of incomplete backups", || world.to_string());

    let counting: Vec<BaseBackup> = states.iter().map(|(is, ..)| *is).filter(counts).collect();
    let expected = if states.is_empty() {
        missing_after_the_first(&archive, &targets)
    } else {
        missing(world, &archive, &targets, &counting)
    };
    let output = failures(world, &names.findings);
    for segment in &expected {
        let kind = "a segment is missing, and no failure says so";
        found.unless(output.contains(segment), kind, || format!("{segment:?}\n{world}"));
    }
    for (tli, number) in output.difference(&expected) {
        // Missing segments of an incomplete backup itself, wherever recoveries to other timelines would find them.
        let own = |is: &BaseBackup| {
            let stop = world.number_of(is.stop.saturating_sub(1));
            (start(is)..=stop.max(start(is))).contains(number) && [is.tli, is.stop_tli].contains(tli)
        };
        let why = counting.iter().any(|is| own(is) && !is_complete(&archive, &targets, is));
        found.unless(why, "a failure tells of a segment that no recovery lacks", || {
            format!("{number} of timeline {tli}\n{world}")
        });
    }
}

/// Returns `true` if recoveries to a timeline are listed: not where others left it before it had a segment of its
/// own.
fn is_an_end(archive: &Archive, target: Tli) -> bool {
    let has_segments = archive.segments.iter().any(|(tli, _)| *tli == target);
    has_segments || archive.last_left(target).is_none()
}

fn state_is_right(
    archive: &Archive,
    targets: &BTreeSet<Tli>,
    is: &BaseBackup,
    state: &BackupState,
    differs: &mut impl FnMut(&'static str, String),
) {
    let complete = is_complete(archive, targets, is);
    if state.complete && !complete {
        differs("a backup is not complete", format!("{is:?}"));
    } else if complete && !state.complete {
        differs("a backup is complete", format!("{is:?}"));
    }
    for target in targets.iter().filter(|target| is_an_end(archive, **target)) {
        let outcome = archive.recover(is, *target);
        let reach = state.reaches.iter().find(|reach| reach.timeline.get() == *target);
        let output = format!("to timeline {target}: {reach:?}, {outcome:?}");
        match reach {
            None if outcome.consistent => differs("a timeline can be reached", output),
            Some(_) if !outcome.may_be => differs("a timeline can not be reached", output),
            Some(reach) if outcome.consistent => {
                // The ancestor's segment counts, unless the archive shows that the target's own was written.
                let in_part = outcome.in_part.filter(|(_, number)| !goes_on(archive, *target, *number));
                let last = in_part.or(outcome.last);
                let lacks = missing_from(archive, is.redo / archive.segment_bytes, *target);
                if reach.last.map(|(tli, number)| (tli.get(), number)) != last {
                    differs("a recovery comes to another segment", output);
                } else if reach.to_the_end != (last.is_some() && lacks.is_empty()) {
                    differs("a recovery comes to the end of its timeline, or not", output);
                }
            }
            _ => {}
        }
    }
}

/// Returns `true` if the archive shows that the WAL on the path to a timeline continued after a segment.
pub(crate) fn goes_on(archive: &Archive, target: Tli, number: u64) -> bool {
    let begin = archive.histories.get(&target).and_then(|lines| lines.last()).map_or(0, |(_, at)| *at);
    number < begin.max(archive.last_left(target).unwrap_or(0)) / archive.segment_bytes
        || archive.segments.range((target, number + 1)..).next().is_some_and(|(tli, _)| *tli == target)
}

/// Returns the missing segments on the path to a timeline, from one on.
fn missing_from(archive: &Archive, first: u64, target: Tli) -> BTreeSet<(Tli, u64)> {
    (first..u64::MAX)
        .take_while(|number| goes_on(archive, target, *number))
        .map(|number| (archive.home(target, number), number))
        .filter(|segment| !archive.segments.contains(segment))
        .collect()
}

/// Returns the segments that the recoveries of these backups lack, as far as the archive shows that they were
/// written.
fn missing(
    world: &World,
    archive: &Archive,
    targets: &BTreeSet<Tli>,
    backups: &[BaseBackup],
) -> BTreeSet<(Tli, u64)> {
    let ways = backups.iter().flat_map(|is| targets.iter().map(move |target| (is, *target)));
    ways.filter(|(is, target)| archive.recover(is, *target).may_be)
        .flat_map(|(is, target)| missing_from(archive, world.number_of(is.redo), target))
        .collect()
}

/// Returns the same without a known backup: all segments missing after the first one from which a path leads to a
/// timeline.
fn missing_after_the_first(archive: &Archive, targets: &BTreeSet<Tli>) -> BTreeSet<(Tli, u64)> {
    let leads = |tli: Tli, number: u64, target: Tli| {
        let left = archive.left(target, tli).map(|left| left / archive.segment_bytes);
        tli == target || left.is_some_and(|left| number <= left)
    };
    let first = |target: Tli| {
        let segments = archive.segments.iter().filter(|(tli, number)| leads(*tli, *number, target));
        segments.map(|(_, number)| *number).min()
    };
    let ways = targets.iter().filter_map(|target| Some((*target, first(*target)?)));
    ways.flat_map(|(target, first)| missing_from(archive, first, target)).collect()
}

/// Returns the segments that are missing according to failures.
fn failures(world: &World, findings: &Findings) -> BTreeSet<(Tli, u64)> {
    let gaps =
        findings.listed.iter().filter(|f| f.kind == FindingKind::Gap && f.severity == Severity::Failure);
    gaps.flat_map(|finding| {
        let (first, last) = finding.file.split_once(" to ").unwrap_or((&finding.file, &finding.file));
        let [first, last]: [SegmentName; 2] = [first, last].map(|name| name.parse().unwrap());
        let tli = first.timeline().get();
        let [first, last] = [first, last].map(|name| name.number(world.size).unwrap());
        (first..=last).map(move |number| (tli, number))
    })
    .collect()
}
