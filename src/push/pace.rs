//! Number of files sent at a time over a link to a store: as many as can be done in time, at the pace of those before.
//!
//! A file that is cut off was sent for nothing, and its own call sends it again. So none is started that would not be
//! done in time, at a pace that the link was seen to carry.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::limit::{LEAST_PACE, TELLING_BYTES};

/// The pace of a link, and what is on its way.
pub(super) struct Pace {
    state: Mutex<State>,
    freed: Notify,
    /// Time at which all must be done.
    end: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Bytes per second that the link carries at least; `None` if nothing has told that.
    pace: Option<u64>,
    /// Number of bytes on their way.
    under_way: u64,
    /// Number of bytes sent since then.
    sent: u64,
    begun: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Starts,
    /// Something else must be done first.
    Waits,
    /// It would not be done in time.
    Stays,
}

impl State {
    /// Decides on a file of that size.
    fn decide(&self, bytes: u64, now: Instant, end: Instant) -> Decision {
        let milliseconds = u64::try_from(end.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        let most = self.pace.unwrap_or(LEAST_PACE).saturating_mul(milliseconds) / 1_000;
        // The first one measures the link.
        let measures = self.pace.is_none() && milliseconds > 0;
        match self.under_way {
            _ if self.under_way.saturating_add(bytes) <= most => Decision::Starts,
            0 if measures => Decision::Starts,
            0 => Decision::Stays,
            _ => Decision::Waits,
        }
    }

    /// Counts a file that was sent. Several at a time may show that the link carries more.
    fn count(&mut self, bytes: u64, now: Instant) {
        self.sent += bytes;
        let Some(begun) = self.begun else { return };
        let took = u64::try_from(now.saturating_duration_since(begun).as_millis()).unwrap_or(u64::MAX).max(1);
        if self.sent >= TELLING_BYTES {
            self.pace = self.pace.max(Some(self.sent.saturating_mul(1_000) / took));
        }
    }
}

/// A file on its way. Dropping it makes room for others.
pub(super) struct Room<'a> {
    of: &'a Pace,
    bytes: u64,
}

impl Pace {
    /// Creates the pace of a link with what is known of it.
    pub(super) fn new(pace: Option<u64>, end: Instant) -> Self {
        let state = State { pace, ..State::default() };
        Self { state: Mutex::new(state), freed: Notify::new(), end }
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a file of that size can be sent. Returns `None` if it would not be done in time.
    pub(super) async fn room_for(&self, bytes: u64) -> Option<Room<'_>> {
        loop {
            let freed = self.freed.notified();
            let now = Instant::now();
            let decision = self.state(|state| {
                let decision = state.decide(bytes, now, self.end);
                if decision == Decision::Starts {
                    state.under_way += bytes;
                    state.begun.get_or_insert(now);
                }
                decision
            });
            match decision {
                Decision::Starts => return Some(Room { of: self, bytes }),
                Decision::Stays => return None,
                Decision::Waits => freed.await,
            }
        }
    }
}

impl Room<'_> {
    /// Counts the file as sent.
    pub(super) fn sent(self) {
        self.of.state(|state| state.count(self.bytes, Instant::now()));
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.of.state(|state| state.under_way -= self.bytes);
        self.of.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SEGMENT: u64 = 16 << 20;
    const MB: u64 = 1_000_000;

    /// Returns the number of segments that are sent at a time, within 30 seconds.
    fn at_once(pace: Option<u64>) -> usize {
        let now = Instant::now();
        let end = now + Duration::from_secs(30);
        let mut state = State { pace, ..State::default() };
        let mut files = 0;
        while files < 99 && state.decide(SEGMENT, now, end) == Decision::Starts {
            state.under_way += SEGMENT;
            files += 1;
        }
        files
    }

    #[test]
    fn as_many_go_at_a_time_as_can_be_done_at_the_pace_of_the_first() {
        assert_eq!(at_once(Some(100_000)), 0, "168 s each");
        assert_eq!(at_once(Some(MB)), 1, "17 s each");
        assert_eq!(at_once(Some(2 * MB)), 3);
        assert_eq!(at_once(Some(100 * MB)), 99, "other limits apply");
        assert_eq!(at_once(None), 1, "it measures the link");
    }

    #[test]
    fn small_files_go_together_over_a_link_of_which_nothing_is_known() {
        let now = Instant::now();
        let end = now + Duration::from_secs(30);
        let state = State { under_way: 15 * 100_000, ..State::default() };
        assert_eq!(state.decide(100_000, now, end), Decision::Starts);
        assert_eq!(state.decide(SEGMENT, now, end), Decision::Waits);
        assert_eq!(state.decide(1, end, end), Decision::Waits);
        assert_eq!(State::default().decide(1, end, end), Decision::Stays);
    }

    #[test]
    fn files_that_went_together_show_that_the_link_carries_more() {
        let begun = Instant::now();
        let mut state = State { pace: Some(MB), begun: Some(begun), ..State::default() };
        state.count(SEGMENT, begun + Duration::from_secs(4));
        assert_eq!(state.pace, Some(SEGMENT / 4));
        state.count(1, begun + Duration::from_secs(400));
        assert_eq!(state.pace, Some(SEGMENT / 4), "most of that time it may have stood idle");
        let mut unknown = State { begun: Some(begun), ..State::default() };
        unknown.count(1_000, begun + Duration::from_secs(1));
        assert_eq!(unknown.pace, None, "too little to tell");
    }

    #[tokio::test]
    async fn a_file_that_waits_goes_when_another_is_done() {
        let pace = Pace::new(Some(MB), Instant::now() + Duration::from_secs(30));
        let first = pace.room_for(SEGMENT).await.unwrap();
        let (second, ()) = tokio::join!(pace.room_for(SEGMENT), async { first.sent() });
        assert!(second.is_some());
        drop(second);
        assert!(pace.room_for(SEGMENT * 1_000_000).await.is_none());
    }
}
