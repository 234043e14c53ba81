//! Running commands: their standard error line by line, signals, and results.

use std::{
    fs,
    io::{BufRead, BufReader},
    ops::Neg,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, wait_until};

/// Exit status and standard error of a call.
#[derive(Debug)]
pub struct Outcome {
    pub status: i32,
    pub stderr: String,
}

/// Runs the command to its end.
pub fn outcome_of(command: Command) -> Outcome {
    Running::start(command).end()
}

/// A running command; killed on drop.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // Reading has no timeout, but waiting on a channel has. The thread ends with the command.
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Waits for the next line on standard error; `None` once it is closed.
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited {PATIENCE:?} in vain for a line"),
        }
    }

    /// Waits until the process handles signals, which it does before it touches the archive.
    pub fn wait_until_it_heeds_signals(&self) {
        // SIGINT, SIGQUIT and SIGTERM, numbered from 1.
        let wanted = 1 << 1 | 1 << 2 | 1 << 14;
        wait_until("signals are heeded", || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & wanted == wanted
        });
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, and returns the rest of standard error. A signal `n` is the status -`n`.
    pub fn end(mut self) -> Outcome {
        let mut stderr = String::new();
        while let Some(line) = self.line() {
            stderr.push_str(&line);
            stderr.push('\n');
        }
        let status = self.child.wait().unwrap();
        Outcome { status: status.code().or_else(|| status.signal().map(Neg::neg)).unwrap(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the process has ended, and then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
