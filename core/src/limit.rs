//! How long one call may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::wal::SegmentSize;

/// The time limit of one call. Clones share it.
///
/// It is set for segments of 16 MiB. Whoever learns that the file at hand is larger extends it in proportion.
#[derive(Debug, Clone)]
pub struct TimeLimit {
    started: Instant,
    for_16_mb: Duration,
    factor: Arc<AtomicU32>,
    patience: Arc<Patience>,
}

/// How long is waited within a time limit while nothing is gained by it, in milliseconds.
#[derive(Debug)]
struct Patience {
    /// For failures to pass, from the first one on.
    failures: AtomicU64,
    /// For something to move.
    stillness: AtomicU64,
}

impl TimeLimit {
    /// A limit of `for_16_mb` from `started` on.
    #[must_use]
    pub fn new(started: Instant, for_16_mb: Duration) -> Self {
        let patience = Patience { failures: AtomicU64::new(u64::MAX), stillness: AtomicU64::new(u64::MAX) };
        Self { started, for_16_mb, factor: Arc::new(AtomicU32::new(1)), patience: Arc::new(patience) }
    }

    /// From now on failures may take so long to pass, and nothing may move for so long, where that is less than before.
    /// What moves has as much time as ever.
    pub fn lose_patience(&self, failures: Duration, stillness: Duration) {
        self.patience.failures.fetch_min(milliseconds(failures), Ordering::Relaxed);
        self.patience.stillness.fetch_min(milliseconds(stillness), Ordering::Relaxed);
    }

    /// How long failures may go on, from the first one on; `None`: as long as there is time.
    #[must_use]
    pub fn patience_with_failures(&self) -> Option<Duration> {
        let failures = self.patience.failures.load(Ordering::Relaxed);
        (failures < u64::MAX).then(|| Duration::from_millis(failures))
    }

    /// How long nothing may move, where that is `usual`.
    #[must_use]
    pub fn stillness(&self, usual: Duration) -> Duration {
        usual.min(Duration::from_millis(self.patience.stillness.load(Ordering::Relaxed)))
    }

    /// For how long failures will be waited out, for a message: `4m 59s`.
    #[must_use]
    pub fn patience_as_text(&self) -> String {
        as_text(self.patience_with_failures().unwrap_or(Duration::MAX).min(self.left()))
    }

    /// Extends the limit for a file of that many bytes, if it is larger than 16 MiB.
    pub fn allow_for(&self, bytes: u64) {
        let largest = SegmentSize::MAX.bytes();
        let factor = bytes.min(largest).div_ceil(SegmentSize::DEFAULT.bytes());
        self.factor.fetch_max(u32::try_from(factor).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// How long the call may take in all.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.for_16_mb.saturating_mul(self.factor.load(Ordering::Relaxed))
    }

    /// How long the call may take in all, for a message: `5m`.
    #[must_use]
    pub fn total_as_text(&self) -> String {
        as_text(self.total())
    }

    /// How much of it is left, for a message: `4m 59s`.
    #[must_use]
    pub fn left_as_text(&self) -> String {
        as_text(self.left())
    }

    /// How much of it is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.total().saturating_sub(self.started.elapsed())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// To the second, because nobody reads more of a time limit.
fn as_text(duration: Duration) -> String {
    let seconds = i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    format!("{:#}", jiff::SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_segments_get_more_time_and_smaller_ones_no_less() {
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
    fn patience_is_lost_by_all_who_share_the_limit_and_never_found_again() {
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
}
