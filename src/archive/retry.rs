//! Trying again while trying again may help.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// What another attempt must be given at least, where the limit is long enough.
const LEAST_ROOM: Duration = Duration::from_secs(2);

/// Repeats `attempt` while it fails with [`ErrorKind::Unavailable`], with growing pauses, the last time when
/// just enough of the time limit is left for it; then returns the last failure. Every other kind is returned at once.
///
/// The pauses are random between half of their length and all of it, so that many servers whose archive was away do
/// not come back to it in step.
///
/// `waiting` hears of the first failure, because an operator can often mend what the call is waiting for.
pub async fn retry<T>(
    limit: &TimeLimit,
    waiting: impl FnOnce(&Error),
    mut attempt: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut waiting = Some(waiting);
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let error = match attempt().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            outcome => return outcome,
        };
        // An attempt that the limit would cut says nothing, while this failure says why.
        let room = begun.elapsed().max((limit.total() / 5).min(LEAST_ROOM));
        let slack = limit.left().saturating_sub(room);
        if slack < SHORTEST_PAUSE {
            return Err(error);
        }
        if let Some(waiting) = waiting.take() {
            waiting(&error);
        }
        let jittered = pause.mul_f64(fastrand::f64() / 2.0 + 0.5);
        tokio::time::sleep(jittered.min(slack)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
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
    fn only_what_may_pass_is_tried_again() {
        use ErrorKind::{Absent, Damaged, Unavailable};
        let minute = Duration::from_mins(1);
        assert_eq!(run(minute, vec![Unavailable, Unavailable]), (Ok(()), 3, 1));
        assert_eq!(run(minute, vec![Absent]), (Err(Absent), 1, 0));
        assert_eq!(run(minute, vec![Damaged, Unavailable]), (Err(Damaged), 2, 1));
    }

    #[test]
    fn the_last_failure_is_told_when_the_time_is_up() {
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
}
