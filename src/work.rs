//! Context of long work: a stop signal, a clock and a receiver of progress. Passed in, so that tests can replace them.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};

/// Time to write a report after a signal.
pub const LAST_REPORT: Duration = Duration::from_millis(600);

/// Source of the current time.
pub type Clock<'a> = &'a dyn Fn() -> Timestamp;

/// Source of the reason to end early, if it is no signal.
pub type Why<'a> = &'a dyn Fn() -> Option<Error>;

/// Context of a piece of long work.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Signal to end early.
    pub stop: &'a CancellationToken,
    /// Reason for that signal, if there is another one than a signal to the process.
    pub why: Why<'a>,
    /// Source of the current time.
    pub clock: Clock<'a>,
    /// Receiver of progress.
    pub progress: &'a dyn Progress,
}

/// A receiver of progress.
pub trait Progress {
    /// Announces the number of pieces.
    fn begin(&self, _pieces: usize) {}

    /// Reports that `pieces` more are done.
    fn add(&self, _pieces: usize) {}

    /// Reports the end.
    fn end(&self) {}
}

/// Ignores progress.
impl Progress for () {}

impl Work<'_> {
    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Runs a part that may be dropped when the work is to end early. `stopped` is the resulting error message.
    pub async fn unless_stopped<T>(
        &self,
        part: impl Future<Output = Result<T, Error>>,
        stopped: &str,
    ) -> Result<T, Error> {
        self.stop.run_until_cancelled(part).await.unwrap_or_else(|| Err(self.ended_early(stopped)))
    }

    /// Runs a part that ends by itself once the work is to end early. Returns `None` if that takes longer than `patience`.
    pub async fn finish_within<T>(&self, patience: Duration, part: impl Future<Output = T>) -> Option<T> {
        let too_late = async {
            self.stop.cancelled().await;
            tokio::time::sleep(patience).await;
        };
        tokio::select! {
            biased;
            done = part => Some(done),
            () = too_late => None,
        }
    }

    /// Creates the error of work that was to end early. `stopped` is its message if there is no other reason.
    #[must_use]
    pub fn ended_early(&self, stopped: &str) -> Error {
        (self.why)().unwrap_or_else(|| Error::new(ErrorKind::Stopped, stopped))
    }
}

impl fmt::Debug for Work<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Work").field("stop", &self.stop).finish_non_exhaustive()
    }
}
