//! The segments of a prefetcher: those after the one restored last, on its timeline. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wal::{SegmentName, SegmentSize};

/// Number of additional concurrent fetches after each arrival. A new connection to a store needs some round trips
/// before its first byte, so connections are opened early.
const GROWTH: usize = 3;

/// Time that a segment of 16 MB may take while others are fetched beside it; more in proportion for larger ones. Over a slow link
/// more at a time would arrive no sooner all together, and the one that the server waits for would arrive later.
const SOON: Duration = Duration::from_secs(10);

/// Maximum number of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Segments in progress or present; at least one.
    pub(super) files: usize,
    /// Segments in progress.
    pub(super) at_once: usize,
}

/// The segments of a prefetcher, each in progress or present.
#[derive(Debug)]
pub(super) struct Window<T> {
    limits: Limits,
    size: SegmentSize,
    /// Next segment to fetch; `None` once the archive has no more.
    next: Option<SegmentName>,
    held: BTreeMap<SegmentName, Held<T>>,
    /// Number of segments that may be in progress, by the arrivals so far.
    allowed: usize,
}

#[derive(Debug)]
enum Held<T> {
    Coming,
    Here(T),
}

impl<T> Window<T> {
    /// Creates a window that starts after `last`, for a cluster with that segment size.
    pub(super) fn after(last: SegmentName, size: SegmentSize, limits: Limits) -> Self {
        Self { limits, size, next: last.next(size), held: BTreeMap::new(), allowed: 1 }
    }

    /// Returns the next segment to fetch now, if any.
    ///
    /// At first only one segment is fetched at a time, and [`GROWTH`] more after each arrival: a standby that has caught
    /// up must not cause a dozen requests beyond the end of the archive. Over a slow link it is fewer.
    pub(super) fn begin(&mut self) -> Option<SegmentName> {
        if self.held.len() >= self.limits.files.max(1)
            || self.coming() >= self.limits.at_once.min(self.allowed)
        {
            return None;
        }
        let name = self.next?;
        self.next = name.next(self.size);
        self.held.insert(name, Held::Coming);
        Some(name)
    }

    /// Returns the number of segments in progress.
    fn coming(&self) -> usize {
        self.held.values().filter(|held| matches!(held, Held::Coming)).count()
    }

    /// Records an arrival, and how long it `took`. A file that is no longer expected is dropped.
    pub(super) fn record_arrival(&mut self, name: SegmentName, file: T, took: Duration) {
        let together = self.coming();
        if let Some(held) = self.held.get_mut(&name) {
            *held = Held::Here(file);
            self.allowed = self.allowed.saturating_add(GROWTH).min(in_time(together, took, self.size));
        }
    }

    /// Records that the archive lacks the segment. Later segments are dropped: nobody requests them.
    pub(super) fn record_absence(&mut self, name: SegmentName) {
        if self.held.contains_key(&name) {
            self.held.split_off(&name);
            self.next = None;
        }
    }

    /// Records a failed fetch, after which none is started. The call that requests the segment finds the reason itself.
    pub(super) fn record_failure(&mut self, name: SegmentName) {
        if self.held.remove(&name).is_some() {
            self.next = None;
        }
    }

    pub(super) fn is_coming(&self, name: SegmentName) -> bool {
        matches!(self.held.get(&name), Some(Held::Coming))
    }

    pub(super) fn here(&self, name: SegmentName) -> Option<&T> {
        match self.held.get(&name) {
            Some(Held::Here(file)) => Some(file),
            _ => None,
        }
    }

    /// Records that a segment was passed on. Earlier ones will not be requested any more.
    pub(super) fn pass(&mut self, name: SegmentName) {
        let mut after = self.held.split_off(&name);
        after.remove(&name);
        self.held = after;
    }

    /// Moves the window after `last`, which the prefetcher did not pass on. Segments that still belong to the window
    /// stay.
    pub(super) fn move_after(&mut self, last: SegmentName, size: SegmentSize) {
        let fresh = Self::after(last, size, self.limits);
        let begins = fresh.next.is_some_and(|next| self.held.contains_key(&next) || self.next == Some(next));
        if begins && size == self.size {
            self.pass(last);
        } else {
            *self = fresh;
        }
    }

    /// Returns `true` if all segments were passed on and there are no more.
    pub(super) fn is_done(&self) -> bool {
        self.next.is_none() && self.held.is_empty()
    }
}

/// Returns how many segments may be fetched together, at least one, so that each takes less than [`SOON`], if one of this many
/// together `took` that long.
fn in_time(together: usize, took: Duration, size: SegmentSize) -> usize {
    let times = size.bytes().div_ceil(SegmentSize::DEFAULT.bytes());
    let soon = SOON.as_millis().saturating_mul(times.into());
    let number = soon.saturating_mul(together as u128) / took.as_millis().max(1);
    usize::try_from(number).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    const LIMITS: Limits = Limits { files: 4, at_once: 3 };
    const LARGE: Limits = Limits { files: 99, at_once: 12 };

    fn name(text: &str) -> SegmentName {
        text.parse().unwrap()
    }

    fn segment(number: u64) -> SegmentName {
        SegmentName::from_number(name("000000020000000000000001").timeline(), number, SegmentSize::DEFAULT)
            .unwrap()
    }

    fn begun(window: &mut Window<u8>) -> Vec<SegmentName> {
        std::iter::from_fn(|| window.begin()).collect()
    }

    fn window() -> Window<u8> {
        Window::after(segment(9), SegmentSize::DEFAULT, LIMITS)
    }

    #[test]
    fn the_window_starts_with_one_fetch_and_grows_to_its_limit() {
        let mut window = window();
        assert_eq!(begun(&mut window), [segment(10)]);
        window.record_arrival(segment(10), 0, AT_ONCE);
        assert_eq!(begun(&mut window), [segment(11), segment(12), segment(13)], "four in hand");
        window.record_arrival(segment(12), 0, AT_ONCE);
        assert_eq!(begun(&mut window), []);
        window.pass(segment(12));
        assert_eq!(begun(&mut window), [segment(14), segment(15)], "three coming");
    }

    #[test]
    fn each_arrival_allows_a_few_more_concurrent_fetches() {
        let mut window = Window::<u8>::after(segment(9), SegmentSize::DEFAULT, LARGE);
        let mut coming = begun(&mut window);
        let mut counts = vec![coming.len()];
        for _ in 0..5 {
            window.record_arrival(coming.remove(0), 0, AT_ONCE);
            coming.extend(begun(&mut window));
            counts.push(coming.len());
        }
        assert_eq!(counts, [1, 4, 7, 10, 12, 12]);
    }

    #[test]
    fn over_a_slow_link_so_many_are_fetched_together_that_each_takes_ten_seconds_at_most() {
        let sixteen = SegmentSize::DEFAULT;
        let largest = SegmentSize::new(SegmentSize::MAX.bytes()).unwrap();
        for (together, seconds, size, number) in [
            (1, 0, sixteen, 10_000),
            (1, 2, sixteen, 5),
            (4, 8, sixteen, 5),
            (2, 8, sixteen, 2),
            (1, 20, sixteen, 1),
            (12, 600, sixteen, 1),
            (1, 20, SegmentSize::new(1 << 20).unwrap(), 1),
            (1, 20, largest, 32),
        ] {
            assert_eq!(in_time(together, Duration::from_secs(seconds), size), number, "{together} {seconds}");
        }
        let mut window = Window::<u8>::after(segment(9), SegmentSize::DEFAULT, LARGE);
        assert_eq!(begun(&mut window).len(), 1);
        window.record_arrival(segment(10), 0, Duration::from_secs(20));
        assert_eq!(begun(&mut window), [segment(11)], "one after the other");
        window.record_arrival(segment(11), 0, Duration::from_secs(1));
        assert_eq!(begun(&mut window).len(), 4, "it has become faster");
        window.record_arrival(segment(12), 0, Duration::from_secs(20));
        assert_eq!(begun(&mut window), [], "three are in progress, and two may be");
    }

    #[test]
    fn names_continue_after_4_gib_by_the_real_segment_size() {
        for (megabytes, last, next) in [
            (16, "0000000200000001000000FE", "0000000200000001000000FF"),
            (16, "0000000200000001000000FF", "000000020000000200000000"),
            (1, "000000020000000100000FFF", "000000020000000200000000"),
            (1, "0000000200000001000000FF", "000000020000000100000100"),
            (1024, "000000020000000100000003", "000000020000000200000000"),
        ] {
            let size = SegmentSize::new(megabytes << 20).unwrap();
            assert_eq!(Window::<u8>::after(name(last), size, LIMITS).begin(), Some(name(next)));
        }
        let none = Window::<u8>::after(name("00000002FFFFFFFF000000FF"), SegmentSize::DEFAULT, LIMITS);
        assert!(none.is_done(), "after the last there is none");
    }

    #[test]
    fn the_first_absent_segment_is_the_end() {
        let mut window = window();
        begun(&mut window);
        window.record_arrival(segment(10), 0, AT_ONCE);
        begun(&mut window);
        window.record_arrival(segment(12), 0, AT_ONCE);
        window.record_absence(segment(11));
        assert_eq!(begun(&mut window), []);
        assert!(window.here(segment(12)).is_none(), "nobody will ask for what lies behind a gap");
        assert!(!window.is_done());
        window.pass(segment(10));
        assert!(window.is_done());
    }

    #[test]
    fn after_a_failure_no_fetch_starts_and_present_segments_stay() {
        let mut window = window();
        begun(&mut window);
        window.record_arrival(segment(10), 0, AT_ONCE);
        begun(&mut window);
        window.record_arrival(segment(12), 7, AT_ONCE);
        window.record_failure(segment(11));
        assert_eq!(begun(&mut window), []);
        assert_eq!(window.here(segment(12)), Some(&7));
        window.move_after(segment(11), SegmentSize::DEFAULT);
        assert_eq!(window.here(segment(12)), Some(&7), "restored elsewhere, it is where this one continues");
    }

    #[test]
    fn the_window_follows_the_recovery() {
        let mut window = window();
        begun(&mut window);
        window.move_after(segment(9), SegmentSize::DEFAULT);
        assert!(window.is_coming(segment(10)), "it is there already");
        window.move_after(segment(10), SegmentSize::DEFAULT);
        assert!(!window.is_coming(segment(10)));
        assert_eq!(window.begin(), Some(segment(11)));
        window.record_arrival(segment(10), 0, AT_ONCE);
        assert!(window.here(segment(10)).is_none(), "too late");
        let other = name("000000030000000000000009");
        window.move_after(other, SegmentSize::DEFAULT);
        assert_eq!(begun(&mut window), [name("00000003000000000000000A")]);
        assert!(!window.is_coming(segment(11)));
    }

    #[test]
    fn one_segment_of_any_size_is_allowed() {
        let mut window =
            Window::<u8>::after(segment(9), SegmentSize::DEFAULT, Limits { files: 0, at_once: 9 });
        assert_eq!(begun(&mut window), [segment(10)]);
    }
}
