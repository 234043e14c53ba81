//! Context of long work: a stop signal, a clock and a receiver of progress. Passed in, so that tests can replace them.

use std::fmt;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::call::unless_stopped;
use crate::error::Error;

/// Source of the current time.
pub type Clock<'a> = &'a dyn Fn() -> Timestamp;

/// Context of a piece of long work.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Signal to end early.
    pub stop: &'a CancellationToken,
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
        unless_stopped(self.stop, part, stopped).await
    }
}

impl fmt::Debug for Work<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Work").field("stop", &self.stop).finish_non_exhaustive()
    }
}
