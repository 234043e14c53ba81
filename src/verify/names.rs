//! Findings from names alone, computed from the catalog. Reads nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::backups::{Beginning, CompleteBackups, Need, beginnings};
use super::gaps::{cut, intersects, union, without};
use crate::archive::{LinkedDirectory, OtherFile};
use crate::coverage::{BackupState, BaseBackup, Chain, Coverage, Gap, Timeline};
use crate::reports::{Acknowledgements, Finding, FindingKind, Findings, Severity};
use crate::wal::{Lsn, TimelineId, WalName};

/// Facts about an archive that need no look at its segments.
#[derive(Debug, Clone, Copy)]
pub struct NameFacts<'a> {
    /// Coverage of the archive.
    pub coverage: &'a Coverage,
    /// Timelines with unreadable history files, which are reported elsewhere.
    pub unreadable: &'a BTreeSet<TimelineId>,
    /// Staging files.
    pub staged: &'a [OtherFile],
    /// Files unknown to walkeep.
    pub unknown: &'a [OtherFile],
    /// Directories that are symbolic links.
    pub links: &'a [LinkedDirectory],
    /// Acknowledged failures.
    pub acknowledged: &'a Acknowledgements,
    /// Current time.
    pub now: Timestamp,
}

/// Findings from names.
#[derive(Debug, Default)]
pub struct Names {
    /// Timelines, in ascending order.
    pub timelines: Vec<TimelineState>,
    /// Base backups, in order of their ends.
    pub backups: Vec<BackupState>,
    /// Findings.
    pub findings: Findings,
    /// Segments that recoveries may read.
    pub need: Need,
}

/// State of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineState {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its parent with the position of the fork, if its history is readable.
    pub parent: Option<(TimelineId, Lsn)>,
    /// Archived segments.
    pub held: Timeline,
    /// Missing segments, between others or on the paths of recoveries.
    pub gaps: Vec<Gap>,
}

impl Names {
    /// Evaluates the facts.
    #[must_use]
    pub fn of(facts: NameFacts<'_>, backups: Vec<BaseBackup>) -> Self {
        let NameFacts { coverage, .. } = facts;
        let backups: Vec<BackupState> =
            backups.into_iter().map(|backup| BackupState::of(backup, coverage)).collect();
        let complete = CompleteBackups::among(&backups);
        let beginnings = beginnings(&backups, coverage);
        let mut findings = Findings::default();
        let missing: Vec<(&Beginning, Vec<Gap>)> = beginnings
            .iter()
            .map(|beginning| (beginning, coverage.missing(beginning.origin)))
            .filter(|(_, missing)| !missing.is_empty())
            .collect();
        let needed = union(missing.iter().flat_map(|(_, gaps)| gaps.iter().cloned()).collect());
        // Missing segments next to an acknowledged gap are a separate finding.
        for gap in cut(&needed, &facts.acknowledged.gaps(coverage.size())) {
            findings.add(needed_gap(coverage, &missing, &gap));
        }
        let old = backups.iter().map(|state| &state.backup).filter(|backup| !complete.leave_in_use(backup));
        let others = old.flat_map(|backup| coverage.missing(backup.origin(coverage))).chain(coverage.gaps());
        let others = without(&union(others.collect()), &needed);
        for gap in &others {
            findings.add(other_gap(coverage, gap));
        }
        if !backups.iter().any(|state| state.backup.counts) {
            findings.add(no_backup());
        }
        for state in backups.iter().filter(|state| !state.complete) {
            findings.add(incomplete(state, complete, facts));
        }
        for state in backups.iter().filter(|state| state.backup.counts) {
            if let Some(finding) = below_unknown(&state.backup, &backups) {
                findings.add(finding);
            }
        }
        for finding in histories(facts, &beginnings) {
            findings.add(finding);
        }
        other_files(facts, &mut findings);
        findings.acknowledge(|finding| facts.acknowledged.covering(finding));
        let all_gaps = union(needed.into_iter().chain(others).collect());
        let timelines = coverage.timelines().map(|(timeline, held)| {
            let parent = coverage.history(timeline).and_then(|history| history.ancestors.last());
            TimelineState {
                timeline,
                parent: parent.map(|parent| (parent.timeline, parent.left_at)),
                held: held.clone(),
                gaps: all_gaps.iter().filter(|gap| gap.timeline == timeline).cloned().collect(),
            }
        });
        let timelines = timelines.collect();
        Self { timelines, need: Need::of(&beginnings, coverage), backups, findings }
    }
}

/// Formats a gap as `A to B`, or as `A` if that is all.
pub(super) fn range(coverage: &Coverage, gap: &Gap) -> String {
    let name = |number| {
        let name = coverage.name(gap.timeline, number);
        name.map_or_else(|| format!("segment {number} of timeline {}", gap.timeline), |name| name.to_string())
    };
    if gap.first == gap.last { name(gap.first) } else { format!("{} to {}", name(gap.first), name(gap.last)) }
}

fn needed_gap(coverage: &Coverage, missing: &[(&Beginning, Vec<Gap>)], gap: &Gap) -> Finding {
    let affected: Vec<&Beginning> = missing
        .iter()
        .filter(|(_, gaps)| gaps.iter().any(|other| intersects(other, gap)))
        .map(|(beginning, _)| *beginning)
        .collect();
    let mut meaning = affected.last().map(|newest| how_far(coverage, newest, gap)).unwrap_or_default();
    match affected.len() {
        0 | 1 => {}
        2 => meaning.push_str("; nor can 1 older one"),
        more => meaning = format!("{meaning}; nor can {} older ones", more - 1),
    }
    finding(Severity::Failure, FindingKind::Gap, range(coverage, gap), absent(gap), meaning)
}

/// Describes how far a recovery gets that meets the gap.
fn how_far(coverage: &Coverage, beginning: &Beginning, gap: &Gap) -> String {
    let title = &beginning.title;
    let is_beyond = |timeline| {
        let ancestors = coverage.history(timeline).map_or(&[][..], |history| &history.ancestors);
        timeline == gap.timeline || ancestors.iter().any(|ancestor| ancestor.timeline == gap.timeline)
    };
    let reaches = coverage.reaches(beginning.origin);
    let reach = reaches.iter().find(|reach| !reach.to_the_end && is_beyond(reach.timeline));
    let Some(reach) = reach else { return format!("{title} cannot be recovered beyond it") };
    let last = reach.last.and_then(|(of, number)| coverage.name(of, number));
    let on = reach.timeline;
    match last {
        Some(last) => {
            format!("{title} can be recovered up to {last} on the way to timeline {on}, and not beyond")
        }
        None => format!("{title} cannot be recovered on timeline {on}"),
    }
}

fn other_gap(coverage: &Coverage, gap: &Gap) -> Finding {
    let meaning = "no base backup that can be recovered needs it";
    finding(Severity::Note, FindingKind::Gap, range(coverage, gap), absent(gap), meaning.to_owned())
}

fn absent(gap: &Gap) -> String {
    match gap.last - gap.first {
        0 => format!("a segment of timeline {} is missing", gap.timeline),
        more => format!("{} segments of timeline {} are missing", more + 1, gap.timeline),
    }
}

fn no_backup() -> Finding {
    let what = "none is known, so that nobody can tell what can be recovered".to_owned();
    let meaning = "take one, or name the directories where they are kept by --backup-dir".to_owned();
    finding(Severity::Note, FindingKind::NoBackup, "base backups".to_owned(), what, meaning)
}

/// Reports an incremental backup of which it is not known on what it builds.
fn below_unknown(backup: &BaseBackup, all: &[BackupState]) -> Option<Finding> {
    Chain::below(backup, &all.iter().map(|state| &state.backup)).unknown?;
    let what = "it is an incremental base backup, and not all is known on which it builds".to_owned();
    let meaning = format!(
        "{} can be recovered only with the files of all below it; keep those of every earlier base backup, down to a full one",
        backup.title_in_words()
    );
    Some(finding(Severity::Note, FindingKind::UnknownBase, backup.file(), what, meaning))
}

fn incomplete(state: &BackupState, complete: CompleteBackups, facts: NameFacts<'_>) -> Finding {
    let backup = &state.backup;
    let is_needed = complete.leave_needed(backup);
    let title = backup.title_in_words();
    if backup.counts && backup.wal.end.is_none() {
        let what = "nothing tells where it ends, and so whether the archive has all that it needs".to_owned();
        let meaning = format!(
            "{title} does not count as one that can be recovered; keep its backup_manifest beside it, which pg_basebackup writes \
             from version 13 on"
        );
        return finding(Severity::Note, FindingKind::BackupIncomplete, backup.file(), what, meaning);
    }
    let (severity, meaning) = if !backup.counts {
        (Severity::Note, format!("{title} cannot be recovered; a replica was made of it"))
    } else if !complete.leave_in_use(backup) && !is_needed {
        (Severity::Note, format!("{title} cannot be recovered; it is older than the oldest one that can"))
    } else if state.is_arriving(facts.coverage, facts.now) {
        (
            Severity::Note,
            format!("{title} cannot be recovered yet: its last WAL is not in the archive so far"),
        )
    } else {
        let since = if is_needed { ", and none that can be has ended since; take another one" } else { "" };
        (Severity::Failure, format!("{title} cannot be recovered{since}"))
    };
    let what = "the archive lacks WAL that it needs to be consistent".to_owned();
    finding(severity, FindingKind::BackupIncomplete, backup.file(), what, meaning)
}

fn histories(facts: NameFacts<'_>, beginnings: &[Beginning]) -> Vec<Finding> {
    let NameFacts { coverage, unreadable, .. } = facts;
    let unknown = coverage
        .timelines()
        .filter(|(id, _)| id.get() > 1 && coverage.history(*id).is_none() && !unreadable.contains(id));
    unknown
        .map(|(id, _)| {
            let mut newest_first = beginnings.iter().rev();
            let older = newest_first.find(|beginning| beginning.origin.timeline < id);
            let cannot = match older {
                Some(older) => format!("{} cannot be recovered to timeline {id}", older.title),
                None => format!("no base backup can be recovered on timeline {id}"),
            };
            let meaning = format!("{cannot}; {}", put_back(id));
            let what = format!("there is WAL of timeline {id}, and nothing says where it left its parent");
            let file = WalName::History(id).to_string();
            finding(Severity::Failure, FindingKind::MissingHistory, file, what, meaning)
        })
        .collect()
}

/// Advice for a history file that is unavailable.
pub(super) fn put_back(timeline: TimelineId) -> String {
    let name = WalName::History(timeline);
    format!(
        "put {name} back: \"walkeep backfill\", or \"walkeep-archive pg_wal/{name}\" on a server of that timeline"
    )
}

fn other_files(facts: NameFacts<'_>, findings: &mut Findings) {
    let size = facts.coverage.size();
    for odd in facts.coverage.odd() {
        let what = format!("no segment of {size}, as what is archived now, has such a name");
        let meaning = "recovery never asks for it, and nothing can be pruned while it is there".to_owned();
        findings.add(finding(Severity::Failure, FindingKind::OddName, odd.to_string(), what, meaning));
    }
    let (in_the_way, unknown): (Vec<_>, Vec<_>) =
        facts.unknown.iter().partition(|file| file.has_an_archived_files_key());
    for OtherFile { key, .. } in in_the_way {
        let meaning =
            "recovery asks for that file, and a push cannot create it; move away what is there".to_owned();
        let what = "it has the name of an archived file, and is no regular file".to_owned();
        findings.add(finding(Severity::Failure, FindingKind::UnknownFile, key.clone(), what, meaning));
    }
    for OtherFile { key, .. } in unknown {
        let meaning = "no recovery reads it, and it is left alone".to_owned();
        let what = "walkeep knows nothing of it".to_owned();
        findings.add(finding(Severity::Note, FindingKind::UnknownFile, key.clone(), what, meaning));
    }
    for link in facts.links {
        let severity =
            if link.is_pushed_into(facts.coverage.histories()) { Severity::Failure } else { Severity::Note };
        let what = "it is a symbolic link".to_owned();
        findings.add(finding(severity, FindingKind::Link, link.key.clone(), what, link.advice().to_owned()));
    }
    for OtherFile { key, .. } in facts.staged.iter().filter(|file| file.is_abandoned(facts.now)) {
        let what = "a push that was cut short has left it".to_owned();
        let meaning = "no recovery reads it; \"walkeep prune\" deletes it".to_owned();
        findings.add(finding(Severity::Note, FindingKind::Leftover, key.clone(), what, meaning));
    }
}

pub(super) fn finding(
    severity: Severity,
    kind: FindingKind,
    file: String,
    what: String,
    meaning: String,
) -> Finding {
    let line = |text: String| text.replace(char::is_control, " ");
    let (file, what, meaning) = (line(file), line(what), line(meaning));
    Finding { severity, kind, file, what, meaning, acknowledged: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::scene::base_backup;
    use crate::wal::{Ancestor, SegmentName, SegmentSize, TimelineHistory};

    const MB: u64 = 16 << 20;

    fn id(timeline: u32) -> TimelineId {
        TimelineId::new(timeline).unwrap()
    }

    fn name(timeline: u32, number: u64) -> SegmentName {
        SegmentName::from_number(id(timeline), number, SegmentSize::DEFAULT).unwrap()
    }

    fn archive(segments: &[(u32, u64)], left: &[(u32, u32, u64)]) -> Coverage {
        let mut names: Vec<WalName> =
            segments.iter().map(|(timeline, number)| WalName::Segment(name(*timeline, *number))).collect();
        names.sort_unstable();
        let histories = left.iter().map(|(child, parent, at)| {
            let ancestors = vec![Ancestor { timeline: id(*parent), left_at: Lsn(*at) }];
            (id(*child), TimelineHistory { ancestors })
        });
        Coverage::new(SegmentSize::DEFAULT, names, histories.collect::<BTreeMap<_, _>>())
    }

    fn backup(label: &str, timeline: u32, first: u64, last: u64) -> BaseBackup {
        base_backup(label, name(timeline, first), Lsn(last * MB + 1))
    }

    fn facts<'a>(
        coverage: &'a Coverage,
        unreadable: &'a BTreeSet<TimelineId>,
        acknowledged: &'a Acknowledgements,
    ) -> NameFacts<'a> {
        NameFacts {
            coverage,
            unreadable,
            staged: &[],
            unknown: &[],
            acknowledged,
            links: &[],
            now: Timestamp::MAX,
        }
    }

    fn found(coverage: &Coverage, backups: Vec<BaseBackup>) -> Vec<(Severity, FindingKind, String)> {
        let (unreadable, acknowledged) = (BTreeSet::new(), Acknowledgements::default());
        let facts = facts(coverage, &unreadable, &acknowledged);
        let findings = Names::of(facts, backups).findings;
        let is = |severity| findings.listed.iter().filter(|found| found.severity == severity).count() as u64;
        assert_eq!((findings.failures, findings.notes), (is(Severity::Failure), is(Severity::Note)));
        findings.listed.into_iter().map(|found| (found.severity, found.kind, found.meaning)).collect()
    }

    #[test]
    fn an_incremental_backup_whose_base_is_not_known_is_a_note() {
        let wal = archive(&[(1, 1), (1, 2), (1, 3), (1, 4)], &[]);
        let on = |start: u64| Some(crate::coverage::Below::StartsAt(id(1), Lsn(start * MB)));
        let monday = BaseBackup { builds_on: on(1), ..backup("monday", 1, 2, 2) };
        let tuesday = BaseBackup { builds_on: on(2), ..backup("tuesday", 1, 3, 3) };
        assert_eq!(found(&wal, vec![backup("sunday", 1, 1, 1), monday.clone(), tuesday.clone()]), []);
        let found = found(&wal, vec![monday, tuesday]);
        assert_eq!(found.len(), 2, "{found:?}");
        for ((severity, kind, meaning), label) in found.into_iter().zip(["monday", "tuesday"]) {
            assert_eq!((severity, kind), (Severity::Note, FindingKind::UnknownBase));
            assert!(meaning.contains(label) && meaning.contains("every earlier base backup"), "{meaning}");
        }
    }

    #[test]
    fn a_gap_names_the_newest_affected_backup_and_the_number_of_others() {
        let wal = archive(&[(1, 1), (1, 2), (1, 3), (1, 6), (1, 7)], &[]);
        let backups = vec![backup("a", 1, 1, 1), backup("b", 1, 2, 2), backup("c", 1, 6, 6)];
        let found = found(&wal, backups);
        assert_eq!(found.len(), 1);
        let meaning = &found[0].2;
        assert!(meaning.contains("\"b\"") && meaning.contains("000000010000000000000003 "), "{meaning}");
        assert!(meaning.ends_with("; nor can 1 older one"), "{meaning}");
    }

    #[test]
    fn a_gap_that_affects_only_older_backups_than_a_recoverable_one_is_a_note() {
        use FindingKind::{BackupIncomplete, Gap, NoBackup};
        use Severity::{Failure, Note};
        let kinds = |coverage: &Coverage, backups| {
            found(coverage, backups)
                .into_iter()
                .map(|(severity, kind, _)| (severity, kind))
                .collect::<Vec<_>>()
        };
        let wal = archive(&[(1, 1), (1, 3), (1, 4), (1, 6)], &[]);
        let old = || backup("old", 1, 1, 2);
        assert_eq!(
            kinds(&wal, vec![old(), backup("new", 1, 3, 4)]),
            [(Failure, Gap), (Note, Gap), (Note, BackupIncomplete)],
            "segment 5 is needed, and segment 2 is not"
        );
        // A backup that ended after it is what somebody would recover today.
        let last = BaseBackup { ended: Timestamp::MAX, ..old() };
        assert_eq!(
            kinds(&wal, vec![backup("new", 1, 3, 4), last]),
            [(Failure, Gap), (Note, Gap), (Failure, BackupIncomplete)],
        );
        let replica = BaseBackup { counts: false, ..old() };
        assert_eq!(kinds(&wal, vec![replica.clone(), backup("new", 1, 3, 4)])[2], (Note, BackupIncomplete));
        assert_eq!(kinds(&wal, vec![replica])[2], (Note, NoBackup), "nobody keeps one");
        assert_eq!(
            kinds(&wal, vec![old(), backup("new", 1, 4, 5)]),
            [(Failure, Gap), (Failure, Gap), (Failure, BackupIncomplete), (Failure, BackupIncomplete)],
            "neither can be recovered, so both count"
        );
    }

    #[test]
    fn gaps_of_a_branch_without_a_backup_affect_no_recovery() {
        let wal = archive(&[(1, 1), (1, 2), (2, 2), (2, 4), (1, 3)], &[(2, 1, 2 * MB + 5)]);
        assert_eq!(found(&wal, vec![backup("a", 1, 3, 3)])[0].0, Severity::Note);
        assert_eq!(found(&wal, vec![backup("a", 1, 1, 1)])[0].0, Severity::Failure);
        assert_eq!(found(&wal, vec![])[0].0, Severity::Failure, "who knows what backups there are");
    }

    #[test]
    fn a_missing_history_file_that_recoveries_request_is_a_failure() {
        let wal = archive(&[(2, 4), (2, 5)], &[]);
        let found = found(&wal, vec![backup("a", 2, 4, 4)]);
        assert_eq!(
            (found.len(), found[0].0, found[0].1),
            (1, Severity::Failure, FindingKind::MissingHistory)
        );
        assert!(found[0].2.contains("walkeep-archive pg_wal/00000002.history"), "{}", found[0].2);
    }

    #[test]
    fn segments_missing_next_to_an_acknowledged_gap_are_a_separate_failure() {
        let wal = archive(&[(1, 1), (1, 2), (1, 6), (1, 7), (1, 9)], &[]);
        let known = |files: &[&str]| {
            let mut known = Acknowledgements::default();
            for file in files {
                let gap = finding(
                    Severity::Failure,
                    FindingKind::Gap,
                    (*file).to_owned(),
                    String::new(),
                    String::new(),
                );
                known.add(&gap, Timestamp::UNIX_EPOCH, None);
            }
            known
        };
        let reported = |known: &Acknowledgements| {
            let names = Names::of(facts(&wal, &BTreeSet::new(), known), vec![backup("a", 1, 1, 1)]);
            let reported = names.findings.listed.into_iter().map(|found| (found.severity, found.file));
            assert_eq!(names.timelines[0].gaps.len(), 2, "what is missing is not cut");
            reported.collect::<Vec<_>>()
        };
        let file = |number| name(1, number).to_string();
        let both = (Severity::Failure, format!("{} to {}", file(3), file(5)));
        let last = (Severity::Failure, file(8));
        assert_eq!(reported(&known(&[])), [both, last.clone()]);
        let middle = (Severity::Note, file(4));
        assert_eq!(
            reported(&known(&[&file(4)])),
            [(Severity::Failure, file(3)), middle, (Severity::Failure, file(5)), last.clone()]
        );
        // Two acknowledgements of one gap.
        let notes = [format!("{} to {}", file(3), file(4)), file(5)];
        let two = known(&[&notes[0], &notes[1]]);
        assert_eq!(
            reported(&two),
            [(Severity::Note, notes[0].clone()), (Severity::Note, notes[1].clone()), last]
        );
    }
}
