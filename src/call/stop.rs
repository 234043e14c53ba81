//! Errors of calls that end early.

use std::fmt::Display;

use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;

/// Runs a part of a call that may be dropped once `stop` is cancelled. `stopped` is the resulting error message.
pub async fn unless_stopped<T>(
    stop: &CancellationToken,
    part: impl Future<Output = Result<T, Error>>,
    stopped: impl Display,
) -> Result<T, Error> {
    let error = || Error::new(ErrorKind::Stopped, stopped.to_string());
    stop.run_until_cancelled(part).await.ok_or_else(error).flatten()
}

/// Creates the error of a call whose time limit is over.
#[must_use]
pub fn out_of_time(limit: &TimeLimit) -> Error {
    let what = format!("gave up after {}, the time limit", limit.total_as_text());
    Error::new(ErrorKind::Stopped, what).hint(limit.blame())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_dropped_part_is_an_error_and_a_finished_one_is_not() {
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let done = runtime.block_on(unless_stopped(&stop, async { Ok(1) }, "stopped before it began"));
        assert_eq!(done.unwrap(), 1);
        let failing = async { Err::<(), _>(Error::new(ErrorKind::Local, "x")) };
        let failed = runtime.block_on(unless_stopped(&stop, failing, "stopped before it began"));
        assert_eq!(failed.unwrap_err().report(), "x");
        stop.cancel();
        let hanging = std::future::pending::<Result<(), Error>>();
        let error = runtime.block_on(unless_stopped(&stop, hanging, "stopped before it began")).unwrap_err();
        assert_eq!(
            (error.kind(), error.report()),
            (ErrorKind::Stopped, "stopped before it began".to_owned())
        );
    }

    #[test]
    fn the_exceeded_limit_is_named() {
        let limit = TimeLimit::new(Instant::now(), Duration::from_secs(90));
        limit.allow_for(64 << 20);
        let message = "gave up after 6m, the time limit; does the archive answer?";
        assert_eq!(out_of_time(&limit).report(), message);
    }
}
