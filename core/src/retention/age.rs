//! Keeping the log for so long, for archives whose base backups nobody knows of.

use jiff::{SignedDuration, Timestamp};

use super::{Boundary, Doubt, is_future};
use crate::wal::SegmentName;

/// Where the log may begin if nothing is kept that was archived more than `days` days ago; none if all of it stays.
///
/// The boundary is at the oldest segment, by its place in the log, that is young enough. So a file that was archived late,
/// or anew, keeps all that comes after it, and never has a hole before it.
pub fn by_age(
    segments: impl IntoIterator<Item = (SegmentName, Timestamp)>,
    days: u32,
    now: Timestamp,
) -> Result<Option<Boundary>, Doubt> {
    let age = SignedDuration::from_hours(24) * i32::try_from(days).unwrap_or(i32::MAX);
    let Ok(begin) = now.checked_sub(age) else { return Ok(None) };
    let (mut oldest_young, mut newest) = (None, None);
    for (segment, since) in segments {
        if is_future(since, now) {
            return Err(Doubt::FromTheFuture { what: segment.to_string(), since });
        }
        let boundary = Boundary::from(segment);
        newest = newest.max(Some(boundary));
        if since >= begin {
            oldest_young = Some(oldest_young.map_or(boundary, |oldest: Boundary| oldest.min(boundary)));
        }
    }
    // The newest one always stays: it says how far the log goes.
    Ok(oldest_young.or(newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    /// The boundary, as a segment number, for segments that were archived so many days ago.
    fn boundary(days_ago: &[(u64, i32)], days: u32) -> Result<Option<Boundary>, Doubt> {
        let segments = days_ago.iter().map(|(segment, ago)| {
            let name: SegmentName = format!("00000001000000000000{segment:04X}").parse().unwrap();
            (name, now() - DAY * *ago)
        });
        by_age(segments, days, now())
    }

    #[test]
    fn what_is_older_goes_up_to_the_first_that_is_not() {
        let log = [(1, 9), (2, 8), (3, 7), (4, 6)];
        assert_eq!(boundary(&log, 7), Ok(Some(Boundary(3))));
        assert_eq!(boundary(&log, 30), Ok(Some(Boundary(1))));
        assert_eq!(boundary(&log, u32::MAX), Ok(None));
        assert_eq!(boundary(&[], 7), Ok(None));
        assert_eq!(
            boundary(&[(1, 9), (2, 1), (3, 8), (4, 6)], 7),
            Ok(Some(Boundary(2))),
            "no hole, although 3 is old enough"
        );
    }

    #[test]
    fn the_newest_stays_however_old_it_is() {
        assert_eq!(boundary(&[(2, 90), (1, 91)], 7), Ok(Some(Boundary(2))));
    }

    #[test]
    fn a_clock_that_is_wrong_deletes_nothing() {
        assert!(matches!(boundary(&[(1, 90), (2, -1)], 7), Err(Doubt::FromTheFuture { .. })));
    }
}
