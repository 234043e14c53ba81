//! Mark in the spool that a call archives other files than its own. One that is found was left by a call that was killed then,
//! perhaps for the memory that this takes: the next call does without.

use std::time::{Duration, SystemTime};

use crate::spool::Spool;

const SUBJECT: &str = "taking-along";

/// Any run of the server: the killed call may have ended that.
const RUN: &str = "any";

/// Age from which a mark says nothing about the next call. The server repeats a failed call within a minute.
const OLD: Duration = Duration::from_mins(10);

/// The mark, which is removed when it is dropped.
#[derive(Debug)]
pub(super) struct TakingAlong(Spool);

impl TakingAlong {
    /// Leaves the mark, or removes that of a killed call and returns `None`.
    pub(super) fn begin(spool: &Spool) -> Option<Self> {
        let found = spool.noted(SUBJECT, RUN, SystemTime::now());
        if found.is_some_and(|note| note.age < OLD && !is_running(&note.text)) {
            spool.forget_note(SUBJECT);
            return None;
        }
        // Without it, a call that is killed is repeated as it was.
        let _ = spool.note(SUBJECT, RUN, &std::process::id().to_string());
        Some(Self(spool.clone()))
    }
}

/// Returns `true` if the process is another call that is at work, such as one that the end of a server has left.
fn is_running(process: &str) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
    process != std::process::id().to_string() && name.is_ok_and(|name| name.trim_end() == "walkeep-archive")
}

impl Drop for TakingAlong {
    fn drop(&mut self) {
        self.0.forget_note(SUBJECT);
    }
}
