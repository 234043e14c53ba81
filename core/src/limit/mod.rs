//! The time limit of one call.

mod transfer;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wal::SegmentSize;

pub use transfer::{LEAST_PACE, TELLING_BYTES, Transfer};

/// The time limit of one call. Clones share it.
///
/// The limit applies to segments of 16 MiB. It grows in proportion once a file turns out to be larger. The transfer of
/// the call's own file goes on beyond it at [`LEAST_PACE`].
#[derive(Debug, Clone)]
pub struct TimeLimit {
    started: Instant,
    for_16_mb: Duration,
    factor: Arc<AtomicU32>,
    patience: Arc<Patience>,
    course: Arc<Course>,
}

/// What the call is doing.
#[derive(Debug, Default)]
struct Course {
    /// Parts that have begun and not ended.
    parts: AtomicU8,
    /// `true` once the limit was extended for a transfer.
    extended: AtomicBool,
    transfers: Mutex<Transfers>,
}

#[derive(Debug, Default)]
struct Transfers {
    /// Transfer of the call's own file: the one that began last.
    own: Option<Transfer>,
    /// Number of transfers that have begun.
    begun: u64,
    /// Pace of the last one that was completed.
    pace: Option<u64>,
    /// `true` once the call's own file is done.
    over: bool,
    /// `true` once no transfer may extend the limit.
    fixed: bool,
    /// Time when the first transfer was completed beyond the limit.
    completed: Option<Instant>,
}

/// Number of bytes by which a compressed file of 16 MiB may be larger than the file, and more.
const ROOM_FOR_FRAMES: u64 = 256 << 10;

/// Time to finish the call after a transfer that was completed beyond the limit: to decode the rest, and to rename the file.
const TO_FINISH: Duration = Duration::from_secs(10);

/// A part of a call, which may take all of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Reads and compresses the file.
    File = 1,
    /// Waits for the archive.
    Archive = 2,
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
        let (factor, course) = (Arc::new(AtomicU32::new(1)), Arc::default());
        Self { started, for_16_mb, factor, patience: Arc::new(patience), course }
    }

    /// Runs a part of the call. If that is dropped, it counts as what took the time.
    pub async fn during<T>(&self, part: Part, work: impl Future<Output = T>) -> T {
        self.course.parts.fetch_or(part as u8, Ordering::Relaxed);
        let done = work.await;
        self.course.parts.fetch_and(!(part as u8), Ordering::Relaxed);
        done
    }

    fn now(&self) -> Instant {
        self.started + self.started.elapsed()
    }

    fn transfers<T>(&self, work: impl FnOnce(&mut Transfers) -> T) -> T {
        work(&mut self.course.transfers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes the beginning of a transfer of `bytes` bytes. Has no effect after [`Self::own_file_is_done`].
    #[must_use]
    pub fn transfer_begins(&self, bytes: u64) -> OwnTransfer {
        let number = self.transfers(|transfers| {
            transfers.begun += 1;
            if !transfers.over {
                let now = self.now();
                transfers.own = Some(Transfer { bytes, moved: 0, begun: now, last: now });
            }
            transfers.begun
        });
        OwnTransfer { limit: self.clone(), number }
    }

    /// Ends the extension of the limit: what follows is for other files.
    pub fn own_file_is_done(&self) {
        self.transfers(|transfers| {
            transfers.own = None;
            transfers.over = true;
        });
    }

    /// Returns `true` once the limit was extended for a transfer.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.course.extended.load(Ordering::Relaxed)
    }

    /// Ends the extension of the limit: something else waits for the call.
    pub fn extend_no_more(&self) {
        self.transfers(|transfers| transfers.fixed = true);
    }

    /// Returns the most bytes that may be transferred for the call's file, as far as its size is known: a compressed file is
    /// hardly larger than the file itself.
    fn most_bytes(&self) -> u64 {
        let factor = u64::from(self.factor.load(Ordering::Relaxed));
        factor.saturating_mul(SegmentSize::DEFAULT.bytes() + ROOM_FOR_FRAMES)
    }

    /// Returns the pace of the last complete transfer in bytes per second, which the link can carry at least; `None` if
    /// nothing that tells it was transferred.
    #[must_use]
    pub fn pace(&self) -> Option<u64> {
        self.transfers(|transfers| transfers.pace)
    }

    /// Says what took the time, once it is over, and what to do about that.
    #[must_use]
    pub fn blame(&self) -> String {
        let slow = self.transfers(|transfers| transfers.own.and_then(|own| own.blame(self.now())));
        match (slow, self.course.parts.load(Ordering::Relaxed)) {
            (Some(slow), _) => slow,
            (None, parts) if parts == Part::File as u8 => {
                "the file was not read and compressed in that time; does its disk answer, and is the machine very busy?"
                    .to_owned()
            }
            _ => "does the archive answer?".to_owned(),
        }
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

    /// Formats the whole time limit, as far as it was extended: `5m`.
    #[must_use]
    pub fn total_as_text(&self) -> String {
        as_text(if self.is_extended() { self.started.elapsed() } else { self.total() })
    }

    /// Formats the remaining time: `4m 59s`.
    #[must_use]
    pub fn left_as_text(&self) -> String {
        as_text(self.left())
    }

    fn usual_left(&self) -> Duration {
        self.total().saturating_sub(self.started.elapsed())
    }

    /// Returns the remaining time.
    #[must_use]
    pub fn left(&self) -> Duration {
        let usual = self.usual_left();
        if !usual.is_zero() {
            return usual;
        }
        let (most, now) = (self.most_bytes(), self.now());
        let more = self.transfers(|transfers| {
            if transfers.fixed || transfers.over {
                return Duration::ZERO;
            }
            let finishing = |at| TO_FINISH.saturating_sub(now.saturating_duration_since(at));
            let finishing = transfers.completed.map_or(Duration::ZERO, finishing);
            let own = transfers.own.map(|own| Transfer { moved: own.moved.min(most), ..own }.goes_on(now));
            own.unwrap_or_default().max(finishing)
        });
        self.course.extended.fetch_or(!more.is_zero(), Ordering::Relaxed);
        more
    }
}

/// A transfer as its limit counts it. Clones are the same one.
///
/// What another one moves, that goes on beside it or was given up before it began, never counts for it.
#[derive(Debug, Clone)]
pub struct OwnTransfer {
    limit: TimeLimit,
    number: u64,
}

impl OwnTransfer {
    /// Does something with the transfer, if it is still that of the call's own file.
    fn counted(&self, work: impl FnOnce(&mut Transfers)) {
        self.limit.transfers(|transfers| {
            if transfers.begun == self.number {
                work(transfers);
            }
        });
    }

    /// Notes that something has moved, and the number of bytes that have moved so far.
    pub fn moved(&self, bytes: u64) {
        self.counted(|transfers| {
            if let Some(own) = &mut transfers.own {
                own.last = self.limit.now();
                own.moved = bytes.min(own.bytes);
            }
        });
    }

    /// Corrects the number of bytes that have moved so far.
    pub fn has_moved(&self, bytes: u64) {
        self.counted(|transfers| {
            if let Some(own) = &mut transfers.own {
                own.moved = bytes.min(own.bytes);
            }
        });
    }

    /// Notes the end.
    pub fn ends(&self, is_complete: bool) {
        self.counted(|transfers| {
            if let Some(own) = transfers.own.take()
                && is_complete
            {
                transfers.pace = Transfer { moved: own.bytes, ..own }.pace(self.limit.now());
                if self.limit.usual_left().is_zero() {
                    transfers.completed.get_or_insert(self.limit.now());
                }
            }
        });
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Formats a duration, rounded up to seconds: `4m 59s`.
#[must_use]
pub fn as_text(duration: Duration) -> String {
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
    fn a_transfer_that_moves_goes_on_beyond_the_limit() {
        let before = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let limit = TimeLimit::new(before, Duration::from_secs(30));
        let transfer = limit.transfer_begins(16 << 20);
        assert_eq!(limit.left(), Duration::ZERO, "nothing has moved");
        transfer.moved(1 << 20);
        assert!(limit.left() > Duration::from_secs(10), "{:?}", limit.left());
        assert!(
            limit.blame().starts_with("the link is too slow: 1.0 of 16.7 MB in 1 s"),
            "{}",
            limit.blame()
        );
        transfer.ends(true);
        assert!(limit.left() > Duration::ZERO && limit.left() <= TO_FINISH, "{:?}", limit.left());
        limit.own_file_is_done();
        assert_eq!(limit.left(), Duration::ZERO, "it is done");
        assert!(limit.pace().unwrap() > 16 << 20);
    }

    #[test]
    fn a_transfer_goes_on_no_longer_than_the_files_size_needs_whatever_the_store_says() {
        let limit = TimeLimit::new(Instant::now(), Duration::ZERO);
        limit.transfer_begins(u64::MAX).moved(u64::MAX);
        let at_most = |bytes: u64| Duration::from_secs(bytes / LEAST_PACE + 10);
        assert!(limit.left() <= at_most(16 << 20), "{:?}", limit.left());
        let incompressible = Duration::from_secs((16 << 20) / LEAST_PACE);
        assert!(limit.left() > incompressible, "{:?}", limit.left());
        limit.allow_for(u64::MAX);
        let largest = TimeLimit { for_16_mb: Duration::ZERO, ..limit };
        assert!(largest.left() <= at_most((1 << 30) + (64 << 18)), "{:?}", largest.left());
        assert!(largest.left() > at_most(1 << 29), "{:?}", largest.left());
    }

    #[test]
    fn a_limit_that_something_waits_for_is_extended_no_more() {
        let before = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let limit = TimeLimit::new(before, Duration::from_secs(30));
        limit.transfer_begins(16 << 20).moved(1 << 20);
        assert!(!limit.is_extended());
        assert!(limit.left() > Duration::ZERO && limit.is_extended());
        limit.extend_no_more();
        assert_eq!(limit.left(), Duration::ZERO);
        limit.transfer_begins(16 << 20).moved(1 << 20);
        assert_eq!(limit.left(), Duration::ZERO, "not for another transfer either");
        assert!(limit.blame().starts_with("the link is too slow"), "{}", limit.blame());
    }

    #[test]
    fn a_transfer_that_stands_still_is_not_extended_by_another_one_that_moves() {
        let before = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let limit = TimeLimit::new(before, Duration::from_secs(30));
        let other = limit.transfer_begins(16 << 20);
        other.moved(1 << 20);
        let own = limit.transfer_begins(16 << 20);
        other.moved(8 << 20);
        other.has_moved(8 << 20);
        assert_eq!(limit.left(), Duration::ZERO, "only the other one has moved");
        own.moved(1 << 20);
        let left = limit.left();
        assert!(left > Duration::ZERO && left < Duration::from_secs(20), "{left:?}, for its own MB alone");
        other.ends(true);
        assert!(limit.left() > Duration::from_secs(10), "the own one goes on: {:?}", limit.left());
        assert_eq!(limit.pace(), None, "it is not done");
    }

    #[test]
    fn the_transfers_of_other_files_extend_nothing() {
        let before = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let limit = TimeLimit::new(before, Duration::from_secs(30));
        limit.own_file_is_done();
        limit.transfer_begins(16 << 20).moved(16 << 20);
        assert_eq!(limit.left(), Duration::ZERO);
    }

    #[test]
    fn the_part_that_took_the_time_is_named() {
        let limit = TimeLimit::new(Instant::now(), Duration::ZERO);
        let mut work = std::task::Context::from_waker(std::task::Waker::noop());
        let mut begins = |part| {
            let mut hangs = Box::pin(limit.during(part, std::future::pending::<()>()));
            assert!(hangs.as_mut().poll(&mut work).is_pending());
        };
        assert_eq!(limit.blame(), "does the archive answer?");
        begins(Part::File);
        assert!(limit.blame().starts_with("the file was not read and compressed"), "{}", limit.blame());
        begins(Part::Archive);
        assert_eq!(limit.blame(), "does the archive answer?");
    }

    #[test]
    fn what_is_left_is_rounded_up_to_seconds() {
        let text = |milliseconds| as_text(Duration::from_millis(milliseconds));
        assert_eq!([0, 1, 1000, 1001, 299_001].map(text), ["0s", "1s", "1s", "2s", "5m"]);
    }
}
