//! Retention by age, for archives whose base backups are unknown.

use jiff::{SignedDuration, Timestamp};

use super::{Doubt, OldestKept, is_future};
use crate::wal::SegmentName;

/// Returns the oldest WAL to keep so that everything archived in the last `days` days stays; `None` keeps all.
///
/// The result is the segment with the lowest position among those that are young enough. A file that was archived
/// late, or again, therefore keeps everything after it, and no gap appears.
pub fn by_age(
    segments: impl IntoIterator<Item = (SegmentName, Timestamp)>,
    days: u32,
    now: Timestamp,
) -> Result<Option<OldestKept>, Doubt> {
    let age = SignedDuration::from_hours(24) * i32::try_from(days).unwrap_or(i32::MAX);
    let Ok(begin) = now.checked_sub(age) else { return Ok(None) };
    let (mut oldest_young, mut newest) = (None, None);
    for (segment, since) in segments {
        if is_future(since, now) {
            return Err(Doubt::FromTheFuture { what: segment.to_string(), since });
        }
        let oldest_kept = OldestKept::from(segment);
        newest = newest.max(Some(oldest_kept));
        if since >= begin {
            oldest_young =
                Some(oldest_young.map_or(oldest_kept, |oldest: OldestKept| oldest.min(oldest_kept)));
        }
    }
    // The newest segment always stays: it marks the end of the WAL.
    Ok(oldest_young.or(newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    /// Returns the oldest WAL kept, as a segment number, for segments archived that many days ago.
    fn oldest_kept(days_ago: &[(u64, i32)], days: u32) -> Result<Option<OldestKept>, Doubt> {
        let segments = days_ago.iter().map(|(segment, ago)| {
            let name: SegmentName = format!("00000001000000000000{segment:04X}").parse().unwrap();
            (name, now() - DAY * *ago)
        });
        by_age(segments, days, now())
    }

    #[test]
    fn everything_before_the_first_young_segment_is_deleted() {
        let wal = [(1, 9), (2, 8), (3, 7), (4, 6)];
        assert_eq!(oldest_kept(&wal, 7), Ok(Some(OldestKept(3))));
        assert_eq!(oldest_kept(&wal, 30), Ok(Some(OldestKept(1))));
        assert_eq!(oldest_kept(&wal, u32::MAX), Ok(None));
        assert_eq!(oldest_kept(&[], 7), Ok(None));
        assert_eq!(
            oldest_kept(&[(1, 9), (2, 1), (3, 8), (4, 6)], 7),
            Ok(Some(OldestKept(2))),
            "no hole, although 3 is old enough"
        );
    }

    #[test]
    fn the_newest_segment_stays_at_any_age() {
        assert_eq!(oldest_kept(&[(2, 90), (1, 91)], 7), Ok(Some(OldestKept(2))));
    }

    #[test]
    fn a_wrong_clock_deletes_nothing() {
        assert!(matches!(oldest_kept(&[(1, 90), (2, -1)], 7), Err(Doubt::FromTheFuture { .. })));
    }
}
