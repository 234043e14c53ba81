//! Cutting a transfer in which nothing moves.
//!
//! A limit for a whole request would cut a large file on a slow line; one for a read alone would cut an upload, which
//! waits for its answer until all is sent. So it is movement that counts, in either direction.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind};
use tokio::time::{Instant, Sleep, sleep_until};

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

/// When something moved last. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Movement {
    last: Arc<Mutex<Instant>>,
    limit: Duration,
}

impl Movement {
    /// Movement that starts now and may pause for `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), limit }
    }

    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn deadline(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.limit
    }

    /// Waits for `work`, as long as something moves.
    pub(super) async fn watch<T>(&self, work: impl Future<Output = T>) -> Result<T, Stalled> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => return Ok(outcome),
                () = sleep_until(self.deadline()) => {
                    if self.deadline() <= Instant::now() {
                        return Err(Stalled(self.limit));
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
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<B> Received<B> {
    pub(super) fn new(body: B, limit: Duration) -> Self {
        Self { body, limit, deadline: Box::pin(sleep_until(Instant::now() + limit)), waiting: false }
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
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| failed(error.into()))));
        }
        if !self.waiting {
            self.waiting = true;
            let deadline = Instant::now() + self.limit;
            self.deadline.as_mut().reset(deadline);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(failed(Stalled(self.limit).into()))))
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
        let movement = Movement::new(Duration::from_millis(200));
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
            let mut body = Received::new(Parts(parts), Duration::from_millis(50));
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
        let movement = Movement::new(Duration::from_millis(20));
        let stalled = block_on(movement.watch(std::future::pending::<()>())).unwrap_err();
        assert_eq!(stalled.to_string(), "nothing was sent or received for 0.02 seconds");
    }
}
