//! Lists of an archive's clusters, and of one's timelines, base backups and files.

mod systems;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::archive::{Archive, ArchivedFile};
use crate::catalog::{Catalog, Labels, Reading, Totals, catalog};
use crate::coverage::{BackupState, BaseBackup, Coverage, Gap, Timeline};
use crate::error::{Error, ErrorKind};
use crate::wal::{Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineId, WalName};
use crate::work::Work;

pub use systems::{HeldOfSystem, ListedSystem, list_systems};

/// A list request.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Settings for reading the archive.
    pub reading: Reading,
    /// Contents to list.
    pub what: What,
    /// First segment of a range of files, on all timelines.
    pub from: Option<SegmentName>,
    /// Last segment of a range of files, on all timelines.
    pub to: Option<SegmentName>,
    /// Labels of the base backups that count.
    pub labels: Labels,
}

/// Contents to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Timelines and base backups.
    Both,
    /// Base backups.
    Backups,
    /// Timelines.
    Timelines,
    /// Files.
    Files,
}

/// Result of a list.
#[derive(Debug)]
pub struct Listed {
    /// Contents of the archive.
    pub catalog: Catalog,
    request: ListRequest,
    /// Moment of the listing, or shortly before.
    now: Timestamp,
}

/// A timeline.
#[derive(Debug, PartialEq, Eq)]
pub struct ListedTimeline {
    /// Number of the timeline.
    pub timeline: TimelineId,
    /// Its parent and the position of the fork, if its history is readable.
    pub parent: Option<(TimelineId, Lsn)>,
    /// Archived segments; empty if only its history file is archived.
    pub held: Timeline,
    /// Missing segments between archived ones.
    pub gaps: Vec<Gap>,
}

/// Lists an archive.
pub async fn list(archive: &Archive, request: ListRequest, work: &Work<'_>) -> Result<Listed, Error> {
    let now = Timestamp::now();
    let listing = catalog(archive, request.system, request.reading);
    let catalog = work.unless_stopped(listing, "stopped before all was listed").await?;
    for link in &catalog.inventory.links {
        tracing::warn!("{}/{} is a symbolic link; {}", archive.url(), link.key, link.advice());
    }
    Ok(Listed { catalog, request, now })
}

/// Refuses a range of something other than files, and a range whose end precedes its start.
pub fn check_range(what: What, from: Option<SegmentName>, to: Option<SegmentName>) -> Result<(), Error> {
    let wrong = |what: &str| Err(Error::new(ErrorKind::Configuration, what));
    match (what, from, to) {
        (What::Backups | What::Timelines, Some(_), _) => wrong("only files can be listed from a segment on"),
        (_, Some(from), Some(to)) if from.order() > to.order() => wrong("FROM comes after TO in the log"),
        _ => Ok(()),
    }
}

impl Listed {
    /// Returns the errors of unreadable files. A list of files needs no contents, so it has none.
    pub fn problems(&self) -> impl Iterator<Item = Error> {
        let unreadable = if self.request.what == What::Files { &[][..] } else { &self.catalog.unreadable };
        unreadable.iter().map(|(name, error)| {
            Error::new(error.kind(), format!("cannot tell what {name} says: {}", error.report()))
        })
    }

    /// Returns the timelines with segments or a history file; `None` if they were not requested.
    #[must_use]
    pub fn timelines(&self) -> Option<Vec<ListedTimeline>> {
        matches!(self.request.what, What::Both | What::Timelines).then(|| timelines(&self.catalog))
    }

    /// Returns the base backups, in the order of their names; `None` if they were not requested. Each has the state that
    /// segments of its own size give it: [`Catalog::coverage_of`].
    #[must_use]
    pub fn backups(&self) -> Option<Vec<BackupState>> {
        matches!(self.request.what, What::Both | What::Backups)
            .then(|| backups(&self.catalog, &self.request.labels, self.now))
    }

    /// Iterates over the requested files; `None` if none were requested. A range contains only files with a position in
    /// the WAL.
    pub fn files(&self) -> Option<impl Iterator<Item = &ArchivedFile> + Clone> {
        let ListRequest { what, from, to, .. } = self.request;
        let (from, to) = (from.map(SegmentName::order), to.map(SegmentName::order));
        let is_in_range = move |file: &&ArchivedFile| {
            let position = match file.name.wal() {
                WalName::Segment(segment) | WalName::Partial(segment) | WalName::Backup { segment, .. } => {
                    segment.order()
                }
                WalName::History(_) => return from.is_none(),
            };
            from.is_none_or(|from| from <= position) && to.is_none_or(|to| position <= to)
        };
        (what == What::Files).then(|| self.catalog.inventory.files.iter().filter(is_in_range))
    }

    /// Returns the totals of the requested files.
    #[must_use]
    pub fn totals(&self) -> Option<Totals> {
        self.files().map(|files| Totals::of(files, &self.catalog.sizes))
    }
}

fn timelines(catalog: &Catalog) -> Vec<ListedTimeline> {
    let coverage = &catalog.coverage;
    let with_history = catalog.inventory.files.iter().filter_map(|file| match file.name.wal() {
        WalName::History(timeline) => Some(timeline),
        _ => None,
    });
    let mut ids: Vec<TimelineId> = coverage.timelines().map(|(id, _)| id).chain(with_history).collect();
    ids.sort_unstable();
    ids.dedup();
    let gaps = coverage.gaps();
    let listed = |timeline: TimelineId| {
        let held = coverage.timelines().find(|(other, _)| *other == timeline).map(|(_, held)| held.clone());
        let parent = coverage.history(timeline).and_then(|history| history.ancestors.last());
        ListedTimeline {
            timeline,
            parent: parent.map(|parent| (parent.timeline, parent.left_at)),
            held: held.unwrap_or_default(),
            gaps: gaps.iter().filter(|gap| gap.timeline == timeline).cloned().collect(),
        }
    };
    ids.into_iter().map(listed).collect()
}

fn backups(catalog: &Catalog, labels: &Labels, now: Timestamp) -> Vec<BackupState> {
    let mut of_sizes: BTreeMap<SegmentSize, Coverage> = BTreeMap::new();
    let state = |backup: &BaseBackup| {
        let counts = labels.admit(backup.label.as_deref());
        let held = catalog.coverage_of(backup);
        let coverage = of_sizes.entry(held.size()).or_insert_with(|| {
            let same_size = |other: &&BaseBackup| catalog.coverage_of(other).size() == held.size();
            held.knowing(catalog.backups.iter().filter(same_size), now)
        });
        BackupState::of(BaseBackup { counts, ..backup.clone() }, coverage)
    };
    catalog.backups.iter().map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{READING, Scene, days_ago, position, segment, timeline};

    /// Creates two timelines, a gap on the first one, and the history file of a third one without segments.
    async fn scene() -> Scene {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 9);
        scene.segments(1, 5..=6, 8);
        scene.segments(2, 6..=7, 2);
        scene.history(2, 1, 6, 2);
        scene.history(3, 1, 4, 1);
        scene.backup(1, 2, 3, 9);
        scene.backup(1, 4, 5, 8);
        scene
    }

    fn request(scene: &Scene, what: What) -> ListRequest {
        let (system, labels) = (scene.system, Labels::default());
        ListRequest { system, reading: READING, what, from: None, to: None, labels }
    }

    async fn listed(scene: &Scene, request: ListRequest) -> Listed {
        list(&scene.archive, request, &scene.work()).await.unwrap()
    }

    #[tokio::test]
    async fn each_timeline_is_listed_with_its_parent_and_gaps_even_if_only_its_history_is_there() {
        let scene = scene().await;
        let listed = listed(&scene, request(&scene, What::Timelines)).await;
        let timelines = listed.timelines().unwrap();
        let summary = |listed: &ListedTimeline| {
            (listed.timeline.get(), listed.parent, listed.held.segments(), listed.gaps.len())
        };
        let left_at = |number| Some((timeline(1), position(number, 0x100)));
        let expected = [(1, None, 5, 1), (2, left_at(6), 2, 0), (3, left_at(4), 0, 0)];
        assert_eq!(timelines.iter().map(summary).collect::<Vec<_>>(), expected);
        assert_eq!((timelines[0].gaps[0].first, timelines[0].gaps[0].last), (4, 4));
        assert!(listed.backups().is_none() && listed.files().is_none() && listed.totals().is_none());
    }

    #[tokio::test]
    async fn a_base_backup_is_complete_only_with_all_segments_it_needs_and_reaches_up_to_a_gap() {
        let scene = scene().await;
        let labels = Labels::from(vec!["8 *".parse().unwrap()]);
        let listed = listed(&scene, ListRequest { labels, ..request(&scene, What::Both) }).await;
        let backups = listed.backups().unwrap();
        let summary = |state: &BackupState| (state.backup.ended, state.complete, state.backup.counts);
        let expected = [(days_ago(9), true, false), (days_ago(8), false, true)];
        assert_eq!(backups.iter().map(summary).collect::<Vec<_>>(), expected);
        let first = &backups[0].reaches[0];
        assert_eq!(
            (first.timeline, first.last, first.to_the_end),
            (timeline(1), Some((timeline(1), 3)), false)
        );
        assert_eq!(listed.timelines().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_base_backup_of_another_segment_size_counts_by_its_label_too() {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 2);
        scene.backup(1, 2, 3, 2);
        // Its position is that of segment 4, in segments of 2 MiB.
        let name = "000000010000000000000004.00000028.backup";
        let content = "START WAL LOCATION: 0/800028 (file 000000010000000000000004)\nLABEL: weekly\n";
        scene.put(name, content.as_bytes(), days_ago(9));
        let labels = Labels::from(vec!["2 *".parse().unwrap()]);
        let listed = listed(&scene, ListRequest { labels, ..request(&scene, What::Backups) }).await;
        let backups = listed.backups().unwrap();
        let counts: Vec<bool> = backups.iter().map(|state| state.backup.counts).collect();
        assert_eq!(counts, [true, false]);
    }

    #[tokio::test]
    async fn a_range_of_files_is_one_of_all_timelines_and_has_no_history_files() {
        let scene = scene().await;
        let names = |listed: &Listed| -> Vec<String> {
            listed.files().unwrap().map(|file| file.name.to_string()).collect()
        };
        let all = listed(&scene, request(&scene, What::Files)).await;
        assert_eq!((names(&all).len(), all.totals().unwrap().files), (11, 11));
        let (from, to) = (Some(segment(9, 5)), Some(segment(1, 6)));
        let part = listed(&scene, ListRequest { from, to, ..request(&scene, What::Files) }).await;
        assert_eq!(names(&part), [segment(1, 5), segment(1, 6), segment(2, 6)].map(|name| name.to_string()));
        assert_eq!(part.totals().unwrap().original_bytes, 3 << 20);
        let up_to =
            listed(&scene, ListRequest { to: Some(segment(1, 1)), ..request(&scene, What::Files) }).await;
        assert_eq!(names(&up_to).len(), 3, "with history files, which come before all");
        let wrong = [(What::Files, from, Some(segment(1, 4))), (What::Backups, from, None)];
        for (what, from, to) in wrong {
            let error = check_range(what, from, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
        check_range(What::Files, from, to).unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_a_problem_unless_only_files_are_listed() {
        let scene = scene().await;
        std::fs::write(scene.archived("00000003.history"), "damaged").unwrap();
        for (what, problems) in [(What::Both, 1), (What::Timelines, 1), (What::Files, 0)] {
            let listed = listed(&scene, request(&scene, what)).await;
            assert_eq!(listed.problems().count(), problems, "{what:?}");
        }
        scene.stop.cancel();
        let error = list(&scene.archive, request(&scene, What::Both), &scene.work()).await.unwrap_err();
        assert_eq!(error.report(), "stopped before all was listed");
    }
}
