//! Detection of transfers that stand still.
//!
//! A time limit for a whole request would cut off a large file on a slow line. One for a read alone would cut off an
//! upload, whose response comes after all is sent. So any movement counts, in either direction.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind};
use tokio::time::{Instant, Sleep, sleep};

use crate::limit::TimeLimit;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Error for a transfer that stood still for this long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stalled(pub(super) Duration);

impl std::error::Error for Stalled {}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing was sent or received for {} seconds", self.0.as_secs_f32())
    }
}

/// Time that a transfer may stand still: as configured, or less once the call has lost patience. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Stillness {
    usual: Duration,
    call: Arc<OnceLock<TimeLimit>>,
}

/// Interval between checks for lost patience.
const TICK: Duration = Duration::from_millis(250);

impl Stillness {
    pub(super) fn new(usual: Duration) -> Self {
        Self { usual, call: Arc::default() }
    }

    /// Applies the limit of a call from now on.
    pub(super) fn heed(&self, limit: &TimeLimit) {
        // There is only one call, so this is set once.
        let _ = self.call.set(limit.clone());
    }

    fn now(&self) -> Duration {
        self.call.get().map_or(self.usual, |limit| limit.stillness(self.usual))
    }
}

/// Time of the last movement. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Movement {
    last: Arc<Mutex<Instant>>,
    limit: Stillness,
}

impl Movement {
    /// Creates a movement that starts now and may pause for `limit`.
    pub(super) fn new(limit: Stillness) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), limit }
    }

    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns the time since the last movement.
    fn still(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Waits for `work` while anything moves.
    pub(super) async fn watch<T>(&self, work: impl Future<Output = T>) -> Result<T, Stalled> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => return Ok(outcome),
                () = sleep(self.limit.now().saturating_sub(self.still()).min(TICK)) => {
                    let limit = self.limit.now();
                    if self.still() >= limit {
                        return Err(Stalled(limit));
                    }
                }
            }
        }
    }
}

/// A request body that records its progress.
pub(super) struct Sent<B> {
    pub(super) body: B,
    pub(super) movement: Movement,
}

impl<B: Body + Unpin> Body for Sent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        // The next part is requested when there is room for it, so the previous ones are on their way.
        self.movement.note();
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body that fails when nothing more arrives.
///
/// Only time spent waiting for the body counts: its reader may be busy in between.
pub(super) struct Received<B> {
    body: B,
    limit: Stillness,
    tick: Pin<Box<Sleep>>,
    waiting_since: Option<Instant>,
}

impl<B> Received<B> {
    pub(super) fn new(body: B, limit: Stillness) -> Self {
        Self { body, limit, tick: Box::pin(sleep(TICK)), waiting_since: None }
    }
}

impl<B: Body<Error: Into<BoxError>> + Unpin> Body for Received<B> {
    type Data = B::Data;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let failed = |error: BoxError| HttpError::new_boxed(HttpErrorKind::Unknown, error);
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting_since = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| failed(error.into()))));
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        loop {
            let limit = self.limit.now();
            let left = limit.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Poll::Ready(Some(Err(failed(Stalled(limit).into()))));
            }
            self.tick.as_mut().reset(Instant::now() + left.min(TICK));
            ready!(self.tick.as_mut().poll(cx));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    #[test]
    fn work_continues_while_something_moves() {
        let movement = Movement::new(Stillness::new(Duration::from_millis(200)));
        let noted = movement.clone();
        let done = block_on(movement.watch(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                noted.note();
            }
        }));
        assert!(done.is_ok(), "half a second in all, and never a fifth without movement");
    }

    /// A body whose parts the test sends.
    struct Parts(tokio::sync::mpsc::Receiver<&'static str>);

    impl Body for Parts {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
            self.0.poll_recv(cx).map(|part| Some(Ok(Frame::data(part?.into()))))
        }
    }

    #[test]
    fn a_body_fails_when_nothing_arrives_and_not_when_nobody_reads() {
        use http_body_util::BodyExt;
        block_on(async {
            let (sender, parts) = tokio::sync::mpsc::channel(1);
            let mut body = Received::new(Parts(parts), Stillness::new(Duration::from_millis(50)));
            sender.send("one").await.unwrap();
            assert!(body.frame().await.unwrap().is_ok());
            tokio::time::sleep(Duration::from_millis(100)).await;
            let (frame, ()) = tokio::join!(body.frame(), async { sender.send("two").await.unwrap() });
            assert!(frame.unwrap().is_ok(), "it was not asked for all that time");
            let error = body.frame().await.unwrap().unwrap_err();
            assert!(error.to_string().contains("nothing was sent or received for 0.05 seconds"), "{error}");
        });
    }

    #[test]
    fn work_that_stands_still_is_stopped() {
        let movement = Movement::new(Stillness::new(Duration::from_millis(20)));
        let stalled = block_on(movement.watch(std::future::pending::<()>())).unwrap_err();
        assert_eq!(stalled.to_string(), "nothing was sent or received for 0.02 seconds");
    }

    #[test]
    fn losing_patience_stops_work_that_stands_still() {
        use http_body_util::BodyExt;
        let hour = Duration::from_hours(1);
        let limit = TimeLimit::new(std::time::Instant::now(), hour);
        let stillness = Stillness::new(hour);
        stillness.heed(&limit);
        let losing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            limit.lose_patience(hour, Duration::from_millis(100));
        };
        block_on(async {
            let (_sender, parts) = tokio::sync::mpsc::channel(1);
            let mut body = Received::new(Parts(parts), stillness.clone());
            let movement = Movement::new(stillness);
            let (frame, watched, ()) =
                tokio::join!(body.frame(), movement.watch(std::future::pending::<()>()), losing);
            assert!(frame.unwrap().unwrap_err().to_string().contains("for 0.1 seconds"));
            assert_eq!(watched.unwrap_err().to_string(), "nothing was sent or received for 0.1 seconds");
        });
    }
}
