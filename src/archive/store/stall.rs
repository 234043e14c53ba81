//! Cutting a transfer in which nothing moves.
//!
//! A limit for a whole request would cut a large file on a slow line; one for a read alone would cut an upload, which
//! waits for its answer until all is sent. So it is movement that counts, in either direction.

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

/// Nothing has moved for so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stalled(Duration);

impl std::error::Error for Stalled {}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing was sent or received for {} seconds", self.0.as_secs_f32())
    }
}

/// How long nothing may move: as configured, and less once a call has lost patience. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Stillness {
    usual: Duration,
    call: Arc<OnceLock<TimeLimit>>,
}

/// How often is looked whether patience has been lost.
const TICK: Duration = Duration::from_millis(250);

impl Stillness {
    pub(super) fn new(usual: Duration) -> Self {
        Self { usual, call: Arc::default() }
    }

    /// It is the call of that limit that waits, from now on.
    pub(super) fn heed(&self, limit: &TimeLimit) {
        // There is one call.
        let _ = self.call.set(limit.clone());
    }

    fn now(&self) -> Duration {
        self.call.get().map_or(self.usual, |limit| limit.stillness(self.usual))
    }
}

/// When something moved last. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Movement {
    last: Arc<Mutex<Instant>>,
    limit: Stillness,
}

impl Movement {
    /// Movement that starts now and may pause for `limit`.
    pub(super) fn new(limit: Stillness) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), limit }
    }

    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing has moved.
    fn still(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Waits for `work`, as long as something moves.
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

/// A body that is sent, and notes its own progress.
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
        // The next part is asked for once there is room for it, that is, when the ones before are on their way.
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

/// A body that is received, and fails when nothing more arrives.
///
/// Only the time that somebody waits for it counts: whoever takes the parts may have been busy.
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
    fn work_goes_on_as_long_as_something_moves() {
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

    /// A body whose parts come when somebody sends them.
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
    fn a_body_fails_when_it_is_waited_for_in_vain_and_not_when_nobody_takes_it() {
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
    fn work_in_which_nothing_moves_is_cut() {
        let movement = Movement::new(Stillness::new(Duration::from_millis(20)));
        let stalled = block_on(movement.watch(std::future::pending::<()>())).unwrap_err();
        assert_eq!(stalled.to_string(), "nothing was sent or received for 0.02 seconds");
    }

    #[test]
    fn patience_that_is_lost_meanwhile_cuts_what_stands_still() {
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
