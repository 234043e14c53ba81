//! Long work that has no time limit as a whole, and ends when nothing goes on any more.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::run::GRACE;
use crate::blocking::steps;

/// Interval between looks.
const TICK: Duration = Duration::from_millis(250);

/// Nothing has gone on for as long as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hung;

/// Runs work until it is done, or until it has made no step for `patience`. Then calls `stop`, and gives the work as much
/// time as after a signal, to say what it has done so far.
pub async fn unless_hung<T>(
    patience: Duration,
    stop: impl FnOnce(),
    work: impl Future<Output = T>,
) -> Result<T, Hung> {
    let mut work = std::pin::pin!(work);
    match watch(patience, steps, &mut work).await {
        Ok(done) => Ok(done),
        Err(Hung) => {
            stop();
            timeout(GRACE, work).await.map_err(|_| Hung)
        }
    }
}

async fn watch<T>(
    patience: Duration,
    steps: impl Fn() -> u64,
    work: impl Future<Output = T>,
) -> Result<T, Hung> {
    let mut work = std::pin::pin!(work);
    let (mut before, mut still) = (steps(), Duration::ZERO);
    loop {
        let begun = Instant::now();
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = sleep(TICK.min(patience)) => {
                let now = steps();
                // Time in which this thread computes, or in which the machine sleeps, is not the archive's.
                still = if now == before { still + begun.elapsed().min(2 * TICK) } else { Duration::ZERO };
                before = now;
                if still >= patience {
                    return Err(Hung);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    const PATIENCE: Duration = Duration::from_millis(600);

    #[test]
    fn work_that_makes_steps_goes_on_and_work_that_hangs_ends() {
        let steps = Cell::new(0);
        let goes_on = async {
            for _ in 0..20 {
                sleep(Duration::from_millis(100)).await;
                steps.set(steps.get() + 1);
            }
            7
        };
        assert_eq!(run(watch(PATIENCE, || steps.get(), goes_on)), Ok(7));
        assert_eq!(run(watch(PATIENCE, || steps.get(), std::future::pending::<()>())), Err(Hung));
    }

    #[test]
    fn work_that_hung_and_ends_when_it_is_stopped_has_a_result() {
        let stop = tokio_util::sync::CancellationToken::new();
        let ends = async {
            stop.cancelled().await;
            7
        };
        let patience = Duration::from_millis(50);
        assert_eq!(run(unless_hung(patience, || stop.cancel(), ends)), Ok(7));
        assert_eq!(run(unless_hung(patience, || (), std::future::pending::<()>())), Err(Hung));
    }

    #[test]
    fn time_in_which_the_work_computes_does_not_count() {
        let computes = async {
            std::thread::sleep(2 * PATIENCE);
            sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(run(watch(PATIENCE, || 0, computes)), Ok(()));
    }
}
