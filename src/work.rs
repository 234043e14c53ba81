//! What long work is given beside what it is asked, so that it needs no process of its own: whom it heeds, what time it is, and
//! whom it tells how far it is.

use std::fmt;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::call::unless_stopped;
use crate::error::Error;

/// Tells the time.
pub type Clock<'a> = &'a dyn Fn() -> Timestamp;

/// Around a piece of work.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Says when it is to end early.
    pub stop: &'a CancellationToken,
    /// Tells the time.
    pub clock: Clock<'a>,
    /// Hears how far it is.
    pub progress: &'a dyn Progress,
}

/// Whoever wants to know how far it is.
pub trait Progress {
    /// There are so many pieces.
    fn begin(&self, _pieces: usize) {}

    /// So many more are done.
    fn add(&self, _pieces: usize) {}

    /// There is nothing more to hear.
    fn end(&self) {}
}

/// Nobody wants to know.
impl Progress for () {}

impl Work<'_> {
    /// This moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Does a part of it that may be dropped when it is to end early; `stopped` says what that means then.
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
