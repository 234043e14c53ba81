//! Retries of failures that may be temporary.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Maximum length of one sleep between checks of the remaining patience.
const MOST_SLEEP: Duration = Duration::from_millis(250);

/// Minimum time left for another attempt, if the limit is long enough.
const LEAST_ROOM: Duration = Duration::from_secs(2);

/// Returns a callback for [`retry`] that logs the first failure and the time for which it is retried.
pub fn warning(for_how_long: impl FnOnce() -> String) -> impl FnOnce(&Error) {
    move |error| tracing::warn!("{}; trying again for up to {}", error.report(), for_how_long())
}

/// Repeats `attempt` while it fails with [`ErrorKind::Unavailable`], and returns the last failure.
///
/// Pauses grow. The last attempt starts when just enough of the time limit is left for it. Errors of other kinds are
/// returned at once. Each pause is shortened at random, to half its length at most, so that many servers do not return
/// to an archive at the same moment.
///
/// After [`TimeLimit::lose_patience`], failures are retried only for the time given there. An archive that hung for
/// that long is not tried again.
///
/// Calls `warn` with the first failure, because an operator can often fix it.
pub async fn retry<T>(
    limit: &TimeLimit,
    warn: impl FnOnce(&Error),
    mut attempt: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut warn = Some(warn);
    let mut pause = FIRST_PAUSE;
    let mut failing_since = None;
    loop {
        let begun = Instant::now();
        let error = match attempt().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            outcome => return outcome,
        };
        let failing_since = *failing_since.get_or_insert_with(Instant::now);
        // An attempt cut off by the limit would lose this failure's message.
        let room = begun.elapsed().max((limit.total() / 5).min(LEAST_ROOM));
        let slack = limit.left().saturating_sub(room).min(patience_left(limit, failing_since));
        let hangs = error.is_timeout()
            && limit.patience_with_failures().is_some_and(|patience| begun.elapsed() >= patience);
        if slack < SHORTEST_PAUSE || hangs {
            return Err(error);
        }
        if let Some(warn) = warn.take() {
            warn(&error);
        }
        let jittered = pause.mul_f64(fastrand::f64() / 2.0 + 0.5);
        sleep(jittered.min(slack), limit, failing_since).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn patience_left(limit: &TimeLimit, failing_since: Instant) -> Duration {
    let patience = limit.patience_with_failures().unwrap_or(Duration::MAX);
    patience.saturating_sub(failing_since.elapsed())
}

/// Sleeps for `pause`, or until patience ends. Patience may shrink in the meantime.
async fn sleep(pause: Duration, limit: &TimeLimit, failing_since: Instant) {
    let begun = Instant::now();
    loop {
        let left = pause.saturating_sub(begun.elapsed()).min(patience_left(limit, failing_since));
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left.min(MOST_SLEEP)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: Duration, mut outcomes: Vec<ErrorKind>) -> (Result<(), ErrorKind>, usize, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (mut attempts, mut warnings) = (0, 0);
        let limit = TimeLimit::new(Instant::now(), limit);
        let outcome = runtime.block_on(retry(
            &limit,
            |_| warnings += 1,
            async || {
                attempts += 1;
                match outcomes.pop() {
                    Some(kind) => Err(Error::new(kind, "x")),
                    None => Ok(()),
                }
            },
        ));
        (outcome.map_err(|error| error.kind()), attempts, warnings)
    }

    #[test]
    fn only_temporary_failures_are_retried() {
        use ErrorKind::{Absent, Damaged, Unavailable};
        let minute = Duration::from_mins(1);
        assert_eq!(run(minute, vec![Unavailable, Unavailable]), (Ok(()), 3, 1));
        assert_eq!(run(minute, vec![Absent]), (Err(Absent), 1, 0));
        assert_eq!(run(minute, vec![Damaged, Unavailable]), (Err(Damaged), 2, 1));
    }

    #[test]
    fn the_last_failure_is_returned_at_the_time_limit() {
        let started = Instant::now();
        let (outcome, attempts, _) = run(Duration::from_millis(500), vec![ErrorKind::Unavailable; 99]);
        assert_eq!(outcome, Err(ErrorKind::Unavailable));
        assert!((3..8).contains(&attempts), "{attempts}");
        assert!(
            started.elapsed() >= Duration::from_millis(350),
            "all of the limit is used: {:?}",
            started.elapsed()
        );
        assert_eq!(run(Duration::ZERO, vec![ErrorKind::Unavailable; 9]).1, 1, "one try in any case");
    }

    /// Retries attempts that fail after `takes`; returns their number and the total time.
    fn failing(limit: &TimeLimit, takes: Duration, timed_out: bool) -> (usize, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (begun, mut attempts) = (Instant::now(), 0);
        let attempt = async || {
            attempts += 1;
            tokio::time::sleep(takes).await;
            Err::<(), _>(Error::new(ErrorKind::Unavailable, "x").timed_out(timed_out))
        };
        runtime.block_on(retry(limit, |_| (), attempt)).unwrap_err();
        (attempts, begun.elapsed())
    }

    fn without_patience(failures: Duration) -> TimeLimit {
        let limit = TimeLimit::new(Instant::now(), Duration::from_hours(1));
        limit.lose_patience(failures, Duration::MAX);
        limit
    }

    #[test]
    fn lost_patience_limits_the_wait_for_failures() {
        let (attempts, took) = failing(&without_patience(Duration::from_millis(500)), Duration::ZERO, false);
        assert!(attempts >= 3, "{attempts}");
        assert!(took < Duration::from_secs(30), "an hour is the limit: {took:?}");
        // Patience counts from the first failure, which itself may take long.
        let slow = Duration::from_millis(300);
        let (attempts, _) = failing(&without_patience(Duration::from_millis(250)), slow, false);
        assert_eq!(attempts, 2);
    }

    #[test]
    fn without_patience_a_hanging_archive_is_not_tried_again() {
        let limit = without_patience(Duration::from_millis(200));
        assert_eq!(failing(&limit, Duration::from_millis(250), true).0, 1);
        assert_eq!(failing(&limit, Duration::from_millis(250), false).0, 2, "that one has answered");
        let patient = TimeLimit::new(Instant::now(), Duration::from_millis(400));
        assert!(failing(&patient, Duration::ZERO, true).0 > 1, "as long as there is time");
    }

    #[test]
    fn losing_patience_during_a_pause_ends_it() {
        let limit = TimeLimit::new(Instant::now(), Duration::from_hours(1));
        let loses = limit.clone();
        let losing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            loses.lose_patience(Duration::ZERO, Duration::MAX);
        });
        let (_, took) = failing(&limit, Duration::ZERO, false);
        losing.join().unwrap();
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
}
