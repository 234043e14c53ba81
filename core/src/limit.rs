//! The time limit of one call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::wal::SegmentSize;

/// The time limit of one call. Clones share it.
///
/// The limit applies to segments of 16 MiB. It grows in proportion once a file turns out to be larger.
#[derive(Debug, Clone)]
pub struct TimeLimit {
    started: Instant,
    for_16_mb: Duration,
    factor: Arc<AtomicU32>,
    patience: Arc<Patience>,
}

/// Limits on waiting without progress, in milliseconds.
#[derive(Debug)]
struct Patience {
    /// Time that failures may last, counted from the first one.
    failures: AtomicU64,
    /// Time that a transfer may stand still.
    stillness: AtomicU64,
}

impl TimeLimit {
    /// Creates a limit of `for_16_mb`, counted from `started`.
    #[must_use]
    pub fn new(started: Instant, for_16_mb: Duration) -> Self {
        let patience = Patience { failures: AtomicU64::new(u64::MAX), stillness: AtomicU64::new(u64::MAX) };
        Self { started, for_16_mb, factor: Arc::new(AtomicU32::new(1)), patience: Arc::new(patience) }
    }

    /// Lowers the time that failures may last and the time that a transfer may stand still. Never raises either. A
    /// transfer that makes progress keeps the full time limit.
    pub fn lose_patience(&self, failures: Duration, stillness: Duration) {
        self.patience.failures.fetch_min(milliseconds(failures), Ordering::Relaxed);
        self.patience.stillness.fetch_min(milliseconds(stillness), Ordering::Relaxed);
    }

    /// Returns the time that failures may last, counted from the first one; `None` for the full time limit.
    #[must_use]
    pub fn patience_with_failures(&self) -> Option<Duration> {
        let failures = self.patience.failures.load(Ordering::Relaxed);
        (failures < u64::MAX).then(|| Duration::from_millis(failures))
    }

    /// Returns the time that a transfer may stand still: `usual`, or less after [`Self::lose_patience`].
    #[must_use]
    pub fn stillness(&self, usual: Duration) -> Duration {
        usual.min(Duration::from_millis(self.patience.stillness.load(Ordering::Relaxed)))
    }

    /// Formats the remaining time during which failures are retried: `4m 59s`.
    #[must_use]
    pub fn patience_as_text(&self) -> String {
        as_text(self.patience_with_failures().unwrap_or(Duration::MAX).min(self.left()))
    }

    /// Extends the limit for a file of `bytes` bytes if that is more than 16 MiB.
    pub fn allow_for(&self, bytes: u64) {
        let largest = SegmentSize::MAX.bytes();
        let factor = bytes.min(largest).div_ceil(SegmentSize::DEFAULT.bytes());
        self.factor.fetch_max(u32::try_from(factor).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Returns the whole time limit.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.for_16_mb.saturating_mul(self.factor.load(Ordering::Relaxed))
    }

    /// Formats the whole time limit: `5m`.
    #[must_use]
    pub fn total_as_text(&self) -> String {
        as_text(self.total())
    }

    /// Formats the remaining time: `4m 59s`.
    #[must_use]
    pub fn left_as_text(&self) -> String {
        as_text(self.left())
    }

    /// Returns the remaining time.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.total().saturating_sub(self.started.elapsed())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Rounds up to seconds.
fn as_text(duration: Duration) -> String {
    let seconds = i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    format!("{:#}", jiff::SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_segments_get_more_time_and_smaller_ones_the_usual() {
        let total = |bytes| {
            let limit = TimeLimit::new(Instant::now(), Duration::from_mins(1));
            limit.clone().allow_for(bytes);
            limit.total().as_secs()
        };
        assert_eq!(total(0), 60);
        assert_eq!(total(1 << 20), 60);
        assert_eq!(total(16 << 20), 60);
        assert_eq!(total(64 << 20), 240);
        assert_eq!(total(1 << 30), 64 * 60);
        assert_eq!(total(u64::MAX), 64 * 60, "what a damaged header says is not believed");
    }

    #[test]
    fn lost_patience_applies_to_all_clones_and_never_returns() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        let limit = TimeLimit::new(Instant::now(), minute);
        let shared = limit.clone();
        assert_eq!((shared.patience_with_failures(), shared.stillness(minute)), (None, minute));
        assert_eq!(shared.patience_as_text(), "1m");
        limit.lose_patience(second * 2, second * 10);
        assert_eq!(shared.patience_with_failures(), Some(second * 2));
        assert_eq!((shared.stillness(minute), shared.stillness(second)), (second * 10, second));
        assert_eq!(shared.patience_as_text(), "2s");
        limit.lose_patience(minute, second);
        assert_eq!((shared.patience_with_failures(), shared.stillness(minute)), (Some(second * 2), second));
        assert_eq!(shared.total(), minute);
    }

    #[test]
    fn a_limit_counts_from_its_start_and_never_below_nothing() {
        let hour = Duration::from_hours(1);
        let begun = TimeLimit::new(Instant::now(), hour);
        assert!((hour * 59 / 60..=hour).contains(&begun.left()), "{:?}", begun.left());
        let before = Instant::now().checked_sub(hour / 2).unwrap();
        let half = TimeLimit::new(before, hour);
        assert!((hour / 3..=hour / 2).contains(&half.left()), "{:?}", half.left());
        let over = TimeLimit::new(before, hour / 4);
        assert_eq!((over.left(), over.left_as_text().as_str()), (Duration::ZERO, "0s"));
        assert_eq!((over.patience_as_text().as_str(), over.total_as_text().as_str()), ("0s", "15m"));
    }

    #[test]
    fn what_is_left_is_rounded_up_to_seconds() {
        let text = |milliseconds| as_text(Duration::from_millis(milliseconds));
        assert_eq!([0, 1, 1000, 1001, 299_001].map(text), ["0s", "1s", "1s", "2s", "5m"]);
    }
}
