//! The fence: after a conflict of a segment or a history file nothing of its timeline is archived, nor of those that descend
//! from it. Two servers write one timeline then, and the archive must not hold a mixture of both. So it is after any failure of a
//! history file, because a timeline without one looks free.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::cluster::histories;
use crate::wal::{TimelineHistory, TimelineId, WalName};

/// Which timelines are kept out.
#[derive(Debug, Default)]
pub struct Fence {
    /// The ancestors of those timelines of which they are known.
    ancestors: BTreeMap<TimelineId, Vec<TimelineId>>,
    raised: Mutex<BTreeSet<TimelineId>>,
}

impl Fence {
    /// One that is not raised yet, and knows of the timelines of `names` what the history files in `wal` say.
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

    /// The file `name` is in conflict with what the archive has, or is a history file that is not archived. Of partial segments, and of backup history files, that says
    /// nothing of the timeline: no recovery reads them.
    pub fn raise(&self, name: WalName) {
        if matches!(name, WalName::Segment(_) | WalName::History(_)) {
            self.raised.lock().unwrap_or_else(PoisonError::into_inner).insert(name.timeline());
        }
    }

    /// Whether the file must not be archived now. A timeline of which it cannot be told whether it descends from one that is
    /// kept out is kept out, too.
    #[must_use]
    pub fn keeps_out(&self, name: WalName) -> bool {
        let timeline = name.timeline();
        let descends = |from: &TimelineId| {
            // A timeline is younger than those that it descends from.
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

    /// Whether a conflict of the first keeps out the second, where timeline 3 descends from 2 and 1, 4 from 1, and nothing is
    /// known of 5.
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
    fn a_conflict_keeps_out_its_timeline_and_what_may_descend_from_it() {
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
    fn what_is_known_is_what_the_history_files_say() {
        let wal = tempfile::tempdir().unwrap();
        std::fs::write(wal.path().join("00000003.history"), "1\t0/1\tx\n2\t0/2\tx\n").unwrap();
        std::fs::write(wal.path().join("00000004.history"), "no history").unwrap();
        std::fs::create_dir(wal.path().join("00000005.history")).unwrap();
        let names = [1, 2, 3, 4, 5].map(|number| WalName::History(timeline(number)));
        let fence = Fence::among(&names, wal.path());
        assert_eq!(fence.ancestors, BTreeMap::from([(timeline(3), vec![timeline(1), timeline(2)])]));
    }
}
