//! The transfer of a call's file, and its pace.

use std::time::{Duration, Instant};

/// Pace at which a transfer may go on beyond the time limit, in bytes per second.
pub const LEAST_PACE: u64 = 64_000;

/// Size in bytes below which a transfer says nothing about the link: connecting and round trips take most of its time.
pub const TELLING_BYTES: u64 = 256_000;

/// Pace in bytes per second below which the other end counts as silent, whatever trickles in.
const TRICKLE: u64 = 1_000;

/// Shortest and longest time without movement after which a transfer has come to a stop. In between it is half of the transfer's
/// age.
const STILL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// A transfer in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Size of the whole in bytes.
    pub bytes: u64,
    /// Number of bytes that have moved.
    pub moved: u64,
    /// Time at which it began.
    pub begun: Instant,
    /// Time of the last movement.
    pub last: Instant,
}

impl Transfer {
    /// Returns `true` if it still moves. What a store has taken that then fell silent may lie in its kernel's buffers.
    fn moves(&self, now: Instant) -> bool {
        let [shortest, longest] = STILL;
        let still = (now.saturating_duration_since(self.begun) / 2).clamp(shortest, longest);
        now.saturating_duration_since(self.last) <= still
    }

    /// Returns the time for which it may go on, if nothing more moves: until its pace since the beginning falls below
    /// [`LEAST_PACE`].
    #[must_use]
    pub fn goes_on(&self, now: Instant) -> Duration {
        if !self.moves(now) {
            return Duration::ZERO;
        }
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
        if self.moved >= self.bytes || self.pace(now)? < TRICKLE || !self.moves(now) {
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

    /// Returns a transfer that has just moved for the first and last time.
    fn moved(moved: u64) -> Transfer {
        let now = Instant::now();
        Transfer { bytes: SEGMENT, moved, begun: now, last: now }
    }

    /// Returns the same one if it has moved until then, and that time.
    fn moving(transfer: Transfer, seconds: u64) -> (Transfer, Instant) {
        let now = after(&transfer, seconds);
        (Transfer { last: now, ..transfer }, now)
    }

    fn after(transfer: &Transfer, seconds: u64) -> Instant {
        transfer.begun + Duration::from_secs(seconds)
    }

    #[test]
    fn a_segment_at_100_kb_a_second_goes_on_to_its_end_and_a_trickle_does_not() {
        for seconds in [1, 60, 167] {
            let (transfer, now) = moving(moved(seconds * 100_000), seconds);
            assert!(transfer.goes_on(now) > Duration::ZERO, "{seconds}");
            assert_eq!(transfer.goes_on(now + STILL[1] * 2), Duration::ZERO, "nothing moves any more");
        }
        let (slow, now) = moving(moved(60 * 60_000), 60);
        assert_eq!(slow.goes_on(now), Duration::ZERO);
        let (done, now) = moving(moved(SEGMENT), 263);
        assert_eq!(done.goes_on(now), Duration::ZERO, "no file of 16 MB takes longer");
        let taken = moved(SEGMENT);
        assert_eq!(taken.goes_on(after(&taken, 2)), Duration::ZERO, "only buffers have taken it");
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
        let (slow, now) = moving(moved(3_150_000), 60);
        assert_eq!(
            slow.blame(now).unwrap(),
            "the link is too slow: 3.1 of 16.7 MB in 60 s; give more time with --timeout, or timeout in the \
             configuration file"
        );
        for bytes in [0, 50_000, SEGMENT] {
            let (silent, now) = moving(moved(bytes), 60);
            assert_eq!(silent.blame(now), None);
        }
        let fell_silent = moved(3_150_000);
        assert_eq!(fell_silent.blame(after(&fell_silent, 60)), None);
    }
}
