//! Execution of blocking work, and its progress.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of steps of any work in this process, which makes one call.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Notes that the work has made a step: something has answered, or was read or written.
pub(crate) fn step() {
    STEPS.fetch_add(1, Ordering::Relaxed);
}

/// Returns the number of steps so far.
pub(crate) fn steps() -> u64 {
    STEPS.load(Ordering::Relaxed)
}

/// A reader whose reads are steps.
pub(crate) struct Steady<R>(pub(crate) R);

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer);
        step();
        read
    }
}

impl<R: Seek> Seek for Steady<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// Runs `work` on a thread of its own, so that signals and the time limit take effect while it blocks: a file system
/// that does not answer must not keep a server from shutting down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    step();
    match done {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, together with the caller.
            Err(_) => std::future::pending().await,
        },
    }
}
