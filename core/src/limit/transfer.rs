//! The transfer of a call's file, and its pace.

use std::time::{Duration, Instant};

/// Pace at which a transfer may go on beyond the time limit, in bytes per second.
pub const LEAST_PACE: u64 = 64_000;

/// Size in bytes below which a transfer says nothing about the link: connecting and round trips take most of its time.
pub const TELLING_BYTES: u64 = 256_000;

/// Pace in bytes per second below which the other end counts as silent, whatever trickles in.
const TRICKLE: u64 = 1_000;

/// A transfer in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Size of the whole in bytes.
    pub bytes: u64,
    /// Number of bytes that have moved.
    pub moved: u64,
    /// Time at which it began.
    pub begun: Instant,
}

impl Transfer {
    /// Returns the time for which it may go on, if nothing more moves: until its pace since the beginning falls below
    /// [`LEAST_PACE`].
    #[must_use]
    pub fn goes_on(&self, now: Instant) -> Duration {
        let deserved = Duration::from_millis(self.moved.saturating_mul(1_000) / LEAST_PACE);
        deserved.saturating_sub(now.saturating_duration_since(self.begun))
    }

    /// Returns the pace in bytes per second; `None` for a transfer that is too small to tell it.
    #[must_use]
    pub fn pace(&self, now: Instant) -> Option<u64> {
        let took = u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX);
        (self.bytes >= TELLING_BYTES).then(|| self.moved.saturating_mul(1_000) / took.max(1))
    }

    /// Explains why the transfer was not done in time; `None` if the link is not to blame.
    #[must_use]
    pub fn blame(&self, now: Instant) -> Option<String> {
        if self.moved >= self.bytes || self.pace(now)? < TRICKLE {
            return None;
        }
        let took = now.saturating_duration_since(self.begun).as_secs().max(1);
        let [moved, bytes] = [self.moved, self.bytes].map(megabytes);
        Some(format!(
            "the link is too slow: {moved} of {bytes} MB in {took} s; give more time with --timeout, or timeout in the \
             configuration file"
        ))
    }
}

/// Formats a size in MB: `16.8`.
fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16 << 20;

    fn moved(moved: u64) -> Transfer {
        Transfer { bytes: SEGMENT, moved, begun: Instant::now() }
    }

    fn after(transfer: &Transfer, seconds: u64) -> Instant {
        transfer.begun + Duration::from_secs(seconds)
    }

    #[test]
    fn a_segment_at_100_kb_a_second_goes_on_to_its_end_and_a_trickle_does_not() {
        for seconds in [1, 60, 167] {
            let transfer = moved(seconds * 100_000);
            assert!(transfer.goes_on(after(&transfer, seconds)) > Duration::ZERO, "{seconds}");
        }
        let slow = moved(60 * 60_000);
        assert_eq!(slow.goes_on(after(&slow, 60)), Duration::ZERO);
        let stopped = moved(60 * 100_000);
        assert_eq!(stopped.goes_on(after(&stopped, 94)), Duration::ZERO, "nothing moved for half a minute");
        let done = moved(SEGMENT);
        assert_eq!(done.goes_on(after(&done, 263)), Duration::ZERO, "no file of 16 MB takes longer");
    }

    #[test]
    fn only_a_transfer_of_some_size_tells_the_pace() {
        let transfer = moved(5_000_000);
        assert_eq!(transfer.pace(after(&transfer, 5)), Some(1_000_000));
        let small = Transfer { bytes: TELLING_BYTES - 1, ..transfer };
        assert_eq!(small.pace(after(&small, 5)), None);
    }

    #[test]
    fn a_slow_link_is_named_with_what_it_carried_and_a_silent_store_is_not_called_slow() {
        let slow = moved(3_150_000);
        assert_eq!(
            slow.blame(after(&slow, 60)).unwrap(),
            "the link is too slow: 3.1 of 16.7 MB in 60 s; give more time with --timeout, or timeout in the \
             configuration file"
        );
        for silent in [moved(0), moved(50_000), moved(SEGMENT)] {
            assert_eq!(silent.blame(after(&silent, 60)), None);
        }
    }
}
