//! Execution of a call under its time limit, until it ends or a signal stops it.
//!
//! The main thread only waits: for the work, for a signal, and for the time limit. Everything that may block runs on
//! other threads, so a file system that hangs cannot block the call.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use super::stop::out_of_time;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;

/// Time after a signal or the time limit to finish what must not be interrupted, such as publishing a file, and to
/// remove temporary files. After that, the process ends even if a file system hangs.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// A signal that requests a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// SIGTERM, or a signal treated like it.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
}

/// Reason why a call has no result.
#[derive(Debug)]
pub struct Ended {
    /// Error to report.
    pub error: Error,
    /// Signal that ended it, if any.
    pub by: Option<Caught>,
}

impl Caught {
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
        }
    }
}

impl From<Signal> for Caught {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::SIGTERM => Self::Terminate,
            Signal::SIGQUIT => Self::Quit,
            _ => Self::Interrupt,
        }
    }
}

impl Ended {
    /// Creates the end by that signal.
    #[must_use]
    pub fn by(signal: Caught) -> Self {
        let error = Error::new(ErrorKind::Stopped, format!("stopped by {}", signal.name()));
        Self { error, by: Some(signal) }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self { error, by: None }
    }
}

/// Runs `work` and returns its result, or the reason why there is none: its error, the time limit, or a signal.
///
/// Calls `listen` before the work begins; the future that it returns waits for a signal. `work` receives a token that
/// is cancelled when it should end. Its state is dropped before this returns, which removes its temporary files. A
/// thread that hangs is not waited for: it ends with the process.
pub fn run<T, S: Future<Output = Caught>>(
    limit: &TimeLimit,
    listen: impl FnOnce() -> io::Result<S>,
    work: impl AsyncFnOnce(CancellationToken) -> Result<T, Error>,
) -> Result<T, Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Local, "cannot start").because(error))?;
    match runtime.block_on(run_to_end(limit, listen, work)) {
        Ending::Done(result) => {
            // Idle threads end with the process, which is faster than stopping them.
            std::mem::forget(runtime);
            Ok(result?)
        }
        Ending::Cut { by, at } => {
            // A thread may still hold a temporary file, which it removes when it ends.
            runtime.shutdown_timeout(GRACE.saturating_sub(at.elapsed()));
            Err(by.map_or_else(|| out_of_time(limit).into(), Ended::by))
        }
    }
}

enum Ending<T> {
    Done(Result<T, Error>),
    /// Interrupted by a signal or by the time limit.
    Cut {
        by: Option<Caught>,
        at: Instant,
    },
}

async fn run_to_end<T, S: Future<Output = Caught>>(
    limit: &TimeLimit,
    listen: impl FnOnce() -> io::Result<S>,
    work: impl AsyncFnOnce(CancellationToken) -> Result<T, Error>,
) -> Ending<T> {
    let signal = match listen() {
        Ok(signal) => signal,
        Err(error) => {
            return Ending::Done(Err(
                Error::new(ErrorKind::Local, "cannot listen for signals").because(error)
            ));
        }
    };
    let stop = CancellationToken::new();
    let mut work = Box::pin(work(stop.clone()));
    let ending = tokio::select! {
        biased;
        outcome = &mut work => return Ending::Done(outcome),
        by = signal => Ending::Cut { by: Some(by), at: Instant::now() },
        () = end_of(limit) => Ending::Cut { by: None, at: Instant::now() },
    };
    stop.cancel();
    match tokio::time::timeout(GRACE, work).await {
        // It finished after all, so its result counts.
        Ok(Ok(result)) => Ending::Done(Ok(result)),
        _ => ending,
    }
}

/// Interval between looks at a limit that was extended: the transfer may end, or the extension.
const TICK: Duration = Duration::from_secs(1);

/// Waits for the end of a limit that may be extended in the meantime.
async fn end_of(limit: &TimeLimit) {
    loop {
        let left = limit.left();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(if limit.is_extended() { left.min(TICK) } else { left }).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::blocking::blocking;

    /// Much more than a busy machine needs, and much less than forever.
    const PROMPTLY: Duration = Duration::from_secs(20);

    /// Runs a call with that limit; returns its result, or the error and the signal that ended it.
    fn called<T>(
        limit: Duration,
        signal: impl Future<Output = Caught>,
        work: impl AsyncFnOnce(CancellationToken) -> Result<T, Error>,
    ) -> Result<T, (String, Option<Caught>)> {
        let started = Instant::now();
        let limit = TimeLimit::new(started, limit);
        let outcome = run(&limit, || Ok(signal), work);
        assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
        outcome.map_err(|ended| (ended.error.report(), ended.by))
    }

    /// Returns work that hangs until the sender is dropped, or for too long.
    fn hang() -> (Sender<()>, impl FnOnce() + Send + 'static) {
        let (end, hangs): (_, Receiver<()>) = channel();
        (end, move || assert!(hangs.recv_timeout(2 * PROMPTLY).is_err(), "nothing is sent"))
    }

    const HOUR: Duration = Duration::from_hours(1);
    const SOON: Duration = Duration::from_millis(50);

    #[test]
    fn a_finished_call_does_not_wait_for_a_hanging_thread() {
        let (_end, hangs) = hang();
        let done = called(HOUR, pending(), async |_| {
            tokio::task::spawn_blocking(hangs);
            Ok(1)
        });
        assert_eq!(done, Ok(1));
        let (_end, hangs) = hang();
        let failed = called(HOUR, pending(), async |_| {
            tokio::task::spawn_blocking(hangs);
            Err::<(), _>(Error::new(ErrorKind::Local, "x"))
        });
        assert_eq!(failed, Err(("x".to_owned(), None)));
    }

    #[test]
    fn a_hanging_call_ends_at_its_limit_and_on_a_signal() {
        let (_end, hangs) = hang();
        let ended = called(SOON, pending(), async |_| {
            blocking(hangs).await;
            Ok(())
        });
        assert_eq!(
            ended,
            Err(("gave up after 1s, the time limit; does the archive answer?".to_owned(), None))
        );
        let (_end, hangs) = hang();
        let ended = called(HOUR, ready(Caught::Quit), async |_| {
            blocking(hangs).await;
            Ok(())
        });
        assert_eq!(ended, Err(("stopped by SIGQUIT".to_owned(), Some(Caught::Quit))));
    }

    #[test]
    fn a_call_ends_soon_after_the_transfer_for_which_its_limit_was_extended() {
        let started = Instant::now();
        let limit = TimeLimit::new(started, SOON);
        let transfer = limit.transfer_begins(16 << 20);
        transfer.moved(16 << 20);
        let (_end, hangs) = hang();
        let outcome = run(
            &limit,
            || Ok(pending()),
            async |_| {
                tokio::time::sleep(SOON * 4).await;
                transfer.ends(true);
                blocking(hangs).await;
                Ok(())
            },
        );
        assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
        assert!(outcome.unwrap_err().error.report().starts_with("gave up after"));
    }

    #[test]
    fn work_that_finishes_after_the_signal_counts_and_a_failure_does_not() {
        for (limit, signal) in [(SOON, None), (HOUR, Some(Caught::Terminate))] {
            let signal = || async move { if let Some(signal) = signal { signal } else { pending().await } };
            let finished = called(limit, signal(), async |stop: CancellationToken| {
                stop.cancelled().await;
                Ok(1)
            });
            assert_eq!(finished, Ok(1));
            let failed = called(limit, signal(), async |stop: CancellationToken| {
                stop.cancelled().await;
                Err::<(), _>(Error::new(ErrorKind::Local, "x"))
            });
            let (message, _) = failed.unwrap_err();
            assert!(message.starts_with("gave up after") || message == "stopped by SIGTERM", "{message}");
        }
    }

    #[test]
    fn the_state_of_a_call_is_dropped_before_it_returns() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("temporary");
        let ended = called(HOUR, ready(Caught::Interrupt), async |_| {
            let _held = tempfile::TempPath::try_from_path(file.clone()).unwrap();
            std::fs::write(&file, "").unwrap();
            pending::<Result<(), Error>>().await
        });
        assert_eq!(ended, Err(("stopped by SIGINT".to_owned(), Some(Caught::Interrupt))));
        assert!(!file.exists());
    }

    #[test]
    fn a_call_that_cannot_be_stopped_is_not_started() {
        let limit = TimeLimit::new(Instant::now(), HOUR);
        let listen = || Err::<std::future::Pending<_>, _>(io::Error::other("no"));
        let ended = run(&limit, listen, async |_| -> Result<(), Error> { panic!("begun") }).unwrap_err();
        assert!(ended.error.report().starts_with("cannot listen for signals"), "{}", ended.error.report());
    }
}
