//! Detection of a directory that hangs, for calls that should not wait for the full time limit. A store's client does
//! the same for its transfers.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;

/// Time that a transfer may stand still by default.
const DEFAULT_STILLNESS: Duration = Duration::from_secs(10);

/// Interval between checks.
const TICK: Duration = Duration::from_millis(100);

/// Number of bytes written. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Returns the number of bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A file with a progress counter.
pub(crate) struct Watched {
    /// The file.
    pub(crate) file: File,
    /// Counter of the bytes written to it.
    pub(crate) progress: Progress,
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.progress.0.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Waits for `work`. After [`TimeLimit::lose_patience`], waits only while there is `progress`.
pub(super) async fn unless_stalled<T>(
    limit: &TimeLimit,
    progress: &Progress,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut work = std::pin::pin!(work);
    let (mut bytes, mut moved) = (progress.bytes(), Instant::now());
    loop {
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            () = tokio::time::sleep(TICK) => {
                if progress.bytes() != bytes {
                    (bytes, moved) = (progress.bytes(), Instant::now());
                }
                let allowed = limit.stillness(DEFAULT_STILLNESS);
                if limit.patience_with_failures().is_some() && moved.elapsed() >= allowed {
                    let what = format!("the archive has not moved for {} seconds", allowed.as_secs_f32());
                    return Err(Error::new(ErrorKind::Unavailable, what)
                        .hint("does its file system hang?")
                        .timed_out(true));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    fn limit(stillness: Option<Duration>) -> TimeLimit {
        let limit = TimeLimit::new(Instant::now(), Duration::from_hours(1));
        if let Some(stillness) = stillness {
            limit.lose_patience(Duration::ZERO, stillness);
        }
        limit
    }

    #[test]
    fn hanging_work_is_given_up_and_moving_work_is_not() {
        let short = Duration::from_millis(500);
        let hangs = std::future::pending::<Result<(), Error>>();
        let error = run(unless_stalled(&limit(Some(short)), &Progress::default(), hangs)).unwrap_err();
        assert!(error.is_timeout() && error.kind() == ErrorKind::Unavailable, "{error:?}");
        assert!(error.report().contains("for 0.5 seconds"), "{}", error.report());

        let progress = Progress::default();
        let mut file = Watched { file: tempfile::tempfile().unwrap(), progress: progress.clone() };
        let moves = async {
            for _ in 0..20 {
                file.write_all(b"x").unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        run(unless_stalled(&limit(Some(short)), &progress, moves)).unwrap();
        assert_eq!(progress.bytes(), 20);
    }

    #[test]
    fn with_patience_hanging_work_is_waited_for() {
        let (limit, progress) = (limit(None), Progress::default());
        let hangs = unless_stalled(&limit, &progress, std::future::pending::<Result<(), Error>>());
        assert!(run(async { tokio::time::timeout(Duration::from_millis(700), hangs).await }).is_err());
    }
}
