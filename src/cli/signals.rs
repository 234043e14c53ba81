//! Signals to a server's command, from its start on.
//!
//! Until the work begins, a thread waits for signals that request a stop, and ends the process with the status of the
//! table. Then the work listens for signals itself.
//!
//! Signals without a meaning for the command are ignored to the end. By default they would end the process, and a server
//! that is the first process of a container would take that for the crash of one of its own children.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::exit::ExitStatuses;
use super::log;
use crate::call::{Caught, Ended};
use crate::config::LogFormat;

/// Signals that request an orderly stop.
const STOPPING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

/// Signals that are not blocked: they end nothing, cannot be caught, report a fault, or come from a terminal.
const NOT_BLOCKED: [Signal; 18] = [
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

/// Receiver of signals once the work listens for them.
static LISTENER: Mutex<Option<UnboundedSender<Signal>>> = Mutex::new(None);

/// Blocked signals whose meaning is not decided.
pub(super) struct Held(SigSet);

/// Table of exit statuses for a stop signal before the work begins.
#[derive(Clone)]
pub(super) struct Early(Arc<Mutex<ExitStatuses>>);

/// Blocks signals on this thread and on all later ones. Must be called while there is only one thread.
pub(super) fn hold() -> Held {
    let held: SigSet = Signal::iterator().filter(|signal| !NOT_BLOCKED.contains(signal)).collect();
    // If this fails, signals act as in any process.
    let _ = held.thread_block();
    Held(held)
}

impl Held {
    /// Ends the process on a stop signal from now on, with the status of that table.
    pub(super) fn exit_as(self, program: &'static str, statuses: ExitStatuses) -> Early {
        let early = Early(Arc::new(Mutex::new(statuses)));
        let statuses = early.clone();
        let waiting = thread::Builder::new().spawn(move || {
            loop {
                let Ok(signal) = self.0.wait() else { return };
                if STOPPING.contains(&signal) {
                    statuses.act_on(program, signal);
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
    /// Changes the table from now on.
    pub(super) fn set(&self, statuses: ExitStatuses) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
    }

    fn act_on(&self, program: &'static str, signal: Signal) {
        // Locked until the process has ended, or the work has received the signal.
        let listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
        match &*listener {
            // Sending fails if the work has ended, which is about to end the process.
            Some(listener) => drop(listener.send(signal)),
            None => {
                let statuses = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let ended = Ended::by(Caught::from(signal));
                log::start(program, LogFormat::default(), false);
                // The work cannot be stopped: the main thread may wait forever.
                std::process::exit(i32::from(statuses.report_ended(&ended)))
            }
        }
    }
}

/// Makes the caller receive stop signals from now on. They are unblocked on the main thread. A signal that still reaches
/// the waiting thread, for example while the main thread handles another one, is forwarded.
pub(super) fn listen() -> UnboundedReceiver<Signal> {
    let (sender, receiver) = unbounded_channel();
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    release();
    receiver
}

fn release() {
    let _ = STOPPING.into_iter().collect::<SigSet>().thread_unblock();
}

/// Returns `true` if the process was started to outlive its terminal, as under nohup.
pub(super) fn hangup_is_ignored() -> bool {
    const HANGUP: u64 = 1 << (Signal::SIGHUP as i32 - 1);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANGUP != 0)
}
