//! Execution of a call until a signal ends it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::signals;
use crate::call::{Caught, Ended, run};
use crate::error::Error;
use crate::limit::TimeLimit;

/// Calls [`run`]. SIGTERM, SIGINT and SIGQUIT end it, and so does SIGHUP, unless the process ignores that.
pub(super) fn supervise<T>(
    limit: &TimeLimit,
    work: impl AsyncFnOnce(CancellationToken) -> Result<T, Error>,
) -> Result<T, Ended> {
    let listen = || {
        let mut signals = Signals::new()?;
        Ok(async move { signals.next().await })
    };
    run(limit, listen, work)
}

/// Receivers of the signals that request a stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    /// A closed terminal; `None` if it is ignored, as under nohup. The server's commands never receive it.
    hangup: Option<Signal>,
    /// Signals that reached the thread of [`signals::hold`].
    forwarded: UnboundedReceiver<nix::sys::signal::Signal>,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: if signals::hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
            forwarded: signals::listen(),
        })
    }

    pub(super) async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.terminate.recv() => Caught::Terminate,
            _ = self.interrupt.recv() => Caught::Interrupt,
            _ = self.quit.recv() => Caught::Quit,
            () = hung_up(self.hangup.as_mut()) => Caught::Terminate,
            Some(signal) = self.forwarded.recv() => signal.into(),
        }
    }
}

async fn hung_up(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
