//! Running a call under its time limit, and ending it on a signal.
//!
//! The main thread does nothing but wait: for the work, for SIGTERM, SIGINT or SIGQUIT, for the end of the time
//! limit. All that can block happens on other threads, so a file system that hangs cannot hold the process.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::signals;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;

/// What may still be taken after a signal or the time limit, in all, to finish what cannot be cut short, such as
/// publishing a file, and to remove temporary files. A file system that hangs is not waited for any longer.
const GRACE: Duration = Duration::from_secs(2);

/// Why a call has given nothing.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) error: Error,
    /// The signal that ended it, if one did.
    pub(super) by: Option<Caught>,
}

impl Ended {
    pub(super) fn by(signal: Caught) -> Self {
        let error = Error::new(ErrorKind::Stopped, format!("stopped by {}", signal.name()));
        Self { error, by: Some(signal) }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self { error, by: None }
    }
}

/// Runs `work` and returns what it gives; or why it gives nothing: a failure of its own, the time limit, or a signal.
///
/// `work` is given a token that is cancelled when it should end. What it holds is dropped before this returns, so that its
/// temporary files go. A thread that hangs is not waited for: it ends with the process.
pub(super) fn supervise<T>(
    limit: &TimeLimit,
    work: impl AsyncFnOnce(CancellationToken) -> Result<T, Error>,
) -> Result<T, Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Local, "cannot start").because(error))?;
    match runtime.block_on(run(limit, work)) {
        Ending::Done(result) => {
            // The process ends in a moment, and takes idle threads with it faster than they can be told to stop.
            std::mem::forget(runtime);
            Ok(result?)
        }
        Ending::Cut { by, at } => {
            // A thread may just have created a temporary file that nobody waits for any more, and removes it when it ends.
            runtime.shutdown_timeout(GRACE.saturating_sub(at.elapsed()));
            Err(by.map_or_else(|| out_of_time(limit).into(), Ended::by))
        }
    }
}

fn out_of_time(limit: &TimeLimit) -> Error {
    let what = format!("gave up after {}, the time limit", limit.total_as_text());
    Error::new(ErrorKind::Stopped, what).hint("does the archive answer?")
}

enum Ending<T> {
    Done(Result<T, Error>),
    /// By a signal, or by the time limit.
    Cut {
        by: Option<Caught>,
        at: Instant,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caught {
    Terminate,
    Interrupt,
    Quit,
}

impl From<nix::sys::signal::Signal> for Caught {
    fn from(signal: nix::sys::signal::Signal) -> Self {
        match signal {
            nix::sys::signal::Signal::SIGTERM => Self::Terminate,
            nix::sys::signal::Signal::SIGQUIT => Self::Quit,
            _ => Self::Interrupt,
        }
    }
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

async fn run<T>(
    limit: &TimeLimit,
    work: impl AsyncFnOnce(CancellationToken) -> Result<T, Error>,
) -> Ending<T> {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
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
        by = signals.next() => Ending::Cut { by: Some(by), at: Instant::now() },
        () = end_of(limit) => Ending::Cut { by: None, at: Instant::now() },
    };
    stop.cancel();
    match tokio::time::timeout(GRACE, work).await {
        // Finished after all, and so it is told.
        Ok(Ok(result)) => Ending::Done(Ok(result)),
        _ => ending,
    }
}

/// Waits for the end of a limit that may be extended meanwhile.
async fn end_of(limit: &TimeLimit) {
    while !limit.left().is_zero() {
        tokio::time::sleep(limit.left()).await;
    }
}

/// Those that tell a process to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    /// A terminal that is closed; `None` where nobody is to be told, as under nohup. A server's commands never hear of it.
    hangup: Option<Signal>,
    handed_on: UnboundedReceiver<nix::sys::signal::Signal>,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: if signals::hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
            handed_on: signals::listen(),
        })
    }

    pub(super) async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.terminate.recv() => Caught::Terminate,
            _ = self.interrupt.recv() => Caught::Interrupt,
            _ = self.quit.recv() => Caught::Quit,
            () = hung_up(self.hangup.as_mut()) => Caught::Terminate,
            Some(signal) = self.handed_on.recv() => signal.into(),
        }
    }
}

async fn hung_up(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
