//! Gaps that may close by themselves: pushes run concurrently, and a later file may arrive first.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::archive::ArchivedFile;
use crate::coverage::Gap;
use crate::wal::{SegmentSize, WalName};

/// Time after the arrival of a segment during which the previous one may still arrive.
const SETTLING: SignedDuration = SignedDuration::from_mins(1);

/// Maximum time to wait for it.
pub(super) const MOST_WAIT: Duration = Duration::from_secs(10);

/// Pause before the next look.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// Returns `true` if a file after any of the gaps was archived just now.
pub(super) fn may_be_on_its_way<'a>(
    mut gaps: impl Iterator<Item = &'a Gap>,
    files: &[ArchivedFile],
    size: SegmentSize,
    now: Timestamp,
) -> bool {
    // A negative age comes from a clock that is ahead.
    let young = files.iter().filter(|file| now.duration_since(file.since) < SETTLING);
    // After a gap, the path may continue on another timeline.
    let numbers = young.filter_map(|file| match file.name.wal() {
        WalName::Segment(segment) => segment.number(size),
        _ => None,
    });
    let numbers: BTreeSet<u64> = numbers.collect();
    gaps.any(|gap| gap.last.checked_add(1).is_some_and(|next| numbers.contains(&next)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{SegmentName, TimelineId};

    #[test]
    fn only_a_gap_before_a_segment_that_just_arrived_may_close() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let timeline = TimelineId::new(1).unwrap();
        let file = |number, seconds: i64| ArchivedFile {
            name: WalName::Segment(SegmentName::from_number(timeline, number, SegmentSize::DEFAULT).unwrap())
                .into(),
            since: now - SignedDuration::from_secs(seconds),
            stored_size: 1,
        };
        let gaps = [Gap { timeline, first: 3, last: 4 }];
        let is_young =
            |files: &[ArchivedFile]| may_be_on_its_way(gaps.iter(), files, SegmentSize::DEFAULT, now);
        assert!(is_young(&[file(2, 90), file(5, 59), file(6, 58)]));
        assert!(is_young(&[file(2, 90), file(5, -30)]), "a clock that is ahead");
        assert!(!is_young(&[file(2, 90), file(5, 60), file(6, 1)]), "it was missing a minute ago");
        assert!(!is_young(&[file(2, 1)]), "nothing came after it");
    }
}
