//! Signals to a server's command, from its first moment on.
//!
//! Until its work begins, which then listens for itself, a thread waits for those that tell it to stop, and ends it with the
//! status of the table. Those that mean nothing to it are swallowed to the end: by default they would end the process, and a
//! server that is the first process of a container takes that for the crash of a child of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::exit::Failure;
use super::log;
use crate::call::{Caught, Ended};
use crate::config::LogFormat;

/// Those that tell a process to stop in good order.
const STOPPING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

/// Those that are left as they are: they end nothing, cannot be had, tell of a fault, or are a terminal's.
const LEFT: [Signal; 18] = [
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGCHLD,
    Signal::SIGWINCH,
    Signal::SIGURG,
    Signal::SIGPIPE,
    Signal::SIGXFSZ,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGSEGV,
    Signal::SIGSYS,
];

/// Where signals go once the work listens for them.
static LISTENER: Mutex<Option<UnboundedSender<Signal>>> = Mutex::new(None);

/// Signals that are held back, until it is known what they mean.
pub(super) struct Held(SigSet);

/// What signals mean to the process now.
#[derive(Clone)]
pub(super) struct Early(Arc<Mutex<Failure>>);

/// Holds signals back, on this thread and all that come after it. To be called before there is another one.
pub(super) fn hold() -> Held {
    let held: SigSet = Signal::iterator().filter(|signal| !LEFT.contains(signal)).collect();
    // Without it, signals do what they do to any process.
    let _ = held.thread_block();
    Held(held)
}

impl Held {
    /// From now on those that tell it to stop end the process, as a failure of that table.
    pub(super) fn exit_as(self, program: &'static str, failure: Failure) -> Early {
        let early = Early(Arc::new(Mutex::new(failure)));
        let failure = early.clone();
        let waiting = thread::Builder::new().spawn(move || {
            loop {
                let Ok(signal) = self.0.wait() else { return };
                if STOPPING.contains(&signal) {
                    failure.hear(program, signal);
                }
            }
        });
        if waiting.is_err() {
            release();
        }
        early
    }
}

impl Early {
    /// From now on that table counts.
    pub(super) fn are(&self, failure: Failure) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn hear(&self, program: &'static str, signal: Signal) {
        // Until the process has ended, or the work has heard of it.
        let listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
        match &*listener {
            // It may have ended meanwhile, and the process is about to.
            Some(listener) => drop(listener.send(signal)),
            None => {
                let failure = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let ended = Ended::by(Caught::from(signal));
                log::start(program, LogFormat::default(), false);
                // Nobody can be told to stop: what the first thread waits for may never come.
                std::process::exit(i32::from(failure.report_ended(&ended)))
            }
        }
    }
}

/// From now on whoever calls this listens for those that tell it to stop, on the process's first thread, to which they are let
/// through. One that comes to the waiting thread all the same, as when the first one is just dealing with another, is handed on.
pub(super) fn listen() -> UnboundedReceiver<Signal> {
    let (sender, receiver) = unbounded_channel();
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    release();
    receiver
}

fn release() {
    let _ = STOPPING.into_iter().collect::<SigSet>().thread_unblock();
}

/// Whether the process was started so that it outlives its terminal.
pub(super) fn hangup_is_ignored() -> bool {
    const HANGUP: u64 = 1 << (Signal::SIGHUP as i32 - 1);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANGUP != 0)
}
