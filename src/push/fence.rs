//! The fence: after a conflict of a segment or history file, no file of its timeline or of a descendant is archived.
//! Two servers then write one timeline, and the archive must not mix both. Any failure of a history file raises it as
//! well, because a timeline without one looks unused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::cluster::histories;
use crate::wal::{TimelineHistory, TimelineId, WalName};

/// Timelines whose files must not be archived.
#[derive(Debug, Default)]
pub struct Fence {
    /// Known ancestors of the timelines.
    ancestors: BTreeMap<TimelineId, Vec<TimelineId>>,
    raised: Mutex<BTreeSet<TimelineId>>,
}

impl Fence {
    /// Creates a fence that excludes nothing so far, and knows the history files in `wal` of the timelines of
    /// `names`.
    #[must_use]
    pub fn among(names: &[WalName], wal: &Path) -> Self {
        let timelines: BTreeSet<TimelineId> = names.iter().map(|name| name.timeline()).collect();
        let known = histories(wal).into_iter().filter(|(timeline, _)| timelines.contains(timeline));
        let ancestors = |history: TimelineHistory| history.ancestors.iter().map(|of| of.timeline).collect();
        Self::knowing(known.map(|(timeline, history)| (timeline, ancestors(history))).collect())
    }

    fn knowing(ancestors: BTreeMap<TimelineId, Vec<TimelineId>>) -> Self {
        Self { ancestors, raised: Mutex::default() }
    }

    /// Excludes the timeline of `name`, which is in conflict or is a history file that was not archived. Has no
    /// effect for partial segments and backup history files, which no recovery reads.
    pub fn raise(&self, name: WalName) {
        if matches!(name, WalName::Segment(_) | WalName::History(_)) {
            self.raised.lock().unwrap_or_else(PoisonError::into_inner).insert(name.timeline());
        }
    }

    /// Returns `true` if the file must not be archived now. A timeline that may descend from an excluded one is
    /// excluded, too.
    #[must_use]
    pub fn keeps_out(&self, name: WalName) -> bool {
        let timeline = name.timeline();
        let descends = |from: &TimelineId| {
            // A timeline has a higher number than its ancestors.
            timeline > *from && self.ancestors.get(&timeline).is_none_or(|ancestors| ancestors.contains(from))
        };
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.iter().any(|kept_out| timeline == *kept_out || descends(kept_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    /// Returns `true` if a conflict of the first file excludes the second, with timeline 3 descending from 2 and 1, 4
    /// from 1, and 5 unknown.
    fn keeps_out(conflict: &str, name: &str) -> bool {
        let known = [(2, vec![1]), (3, vec![1, 2]), (4, vec![1])];
        let of = |(number, ancestors): (u32, Vec<u32>)| {
            (timeline(number), ancestors.into_iter().map(timeline).collect())
        };
        let fence = Fence::knowing(known.into_iter().map(of).collect());
        assert!(!fence.keeps_out(name.parse().unwrap()));
        fence.raise(conflict.parse().unwrap());
        fence.keeps_out(name.parse().unwrap())
    }

    #[test]
    fn a_conflict_excludes_its_timeline_and_possible_descendants() {
        let of = |timeline: u32| {
            let segment = format!("{timeline:08X}0000000000000009");
            let history = format!("{timeline:08X}.history");
            [segment.clone(), history, format!("{segment}.partial"), format!("{segment}.00000028.backup")]
        };
        let kept_out = |conflict: &str| -> Vec<u32> {
            let all_or_none = |timeline: &u32| {
                let kept_out = of(*timeline).map(|name| keeps_out(conflict, &name));
                assert!(
                    kept_out.iter().all(|one| *one == kept_out[0]),
                    "{conflict} {timeline}: {kept_out:?}"
                );
                kept_out[0]
            };
            (1..=5).filter(all_or_none).collect()
        };
        let expected = [vec![1, 2, 3, 4, 5], vec![2, 3, 5], vec![3, 5], vec![4, 5], vec![5]];
        for (timeline, expected) in (1..).zip(expected) {
            let [segment, history, partial, backup] = of(timeline);
            assert_eq!(kept_out(&segment), expected);
            assert_eq!(kept_out(&history), expected);
            assert_eq!((kept_out(&partial), kept_out(&backup)), (vec![], vec![]));
        }
    }

    #[test]
    fn ancestors_are_read_from_the_history_files() {
        let wal = tempfile::tempdir().unwrap();
        std::fs::write(wal.path().join("00000003.history"), "1\t0/1\tx\n2\t0/2\tx\n").unwrap();
        std::fs::write(wal.path().join("00000004.history"), "no history").unwrap();
        std::fs::create_dir(wal.path().join("00000005.history")).unwrap();
        let names = [1, 2, 3, 4, 5].map(|number| WalName::History(timeline(number)));
        let fence = Fence::among(&names, wal.path());
        assert_eq!(fence.ancestors, BTreeMap::from([(timeline(3), vec![timeline(1), timeline(2)])]));
    }
}
