//! How long one call may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
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
}

impl TimeLimit {
    /// A limit of `for_16_mb` from `started` on.
    #[must_use]
    pub fn new(started: Instant, for_16_mb: Duration) -> Self {
        Self { started, for_16_mb, factor: Arc::new(AtomicU32::new(1)) }
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
}
