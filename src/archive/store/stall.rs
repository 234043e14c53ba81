//! Detection of transfers that stand still.
//!
//! A time limit for a whole request would cut off a large file on a slow line. One for a read alone would cut off an
//! upload, whose response comes after all is sent. So any movement counts, in either direction.
//!
//! reqwest 0.13.5 has these two limits only, and `object_store` sets nothing else: a `read_timeout` that starts with
//! the request and that nothing sent resets (<https://github.com/seanmonstar/reqwest/issues/2784>). Nor can a limit
//! change during a call, as this one does when the call loses patience. A limit with both would replace this module.
//!
//! What the body hands out is noticed in steps: hyper 1.12 takes about 400 KiB, but at least one part, and takes more
//! when all of that has gone to the kernel, which takes megabytes. On a slow link a step takes minutes, so the kernel is
//! asked what is left to send, a few times within the limit, and only while nothing else moves: see [`sockets`].
//!
//! [`sockets`]: super::sockets

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Buf;
use futures_util::stream::unfold;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use object_store::client::{HttpError, HttpErrorKind};
use tokio::time::{Instant, sleep};

use super::sockets::{Sockets, Unsent};
use crate::blocking::step;
use crate::limit::{OwnTransfer, TELLING_BYTES, TimeLimit};

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

/// More than any call has.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

/// Interval between checks for lost patience.
const TICK: Duration = Duration::from_millis(250);

impl Stillness {
    pub(super) fn new(usual: Duration) -> Self {
        Self { usual, call: Arc::default() }
    }

    /// Returns the time of the same call for what has usual limits of its own.
    pub(super) fn of_impatience(&self) -> Self {
        Self { usual: FOR_EVER, call: Arc::clone(&self.call) }
    }

    /// Applies the limit of a call from now on.
    pub(super) fn heed(&self, limit: &TimeLimit) {
        // There is only one call, so this is set once.
        let _ = self.call.set(limit.clone());
    }

    /// Returns the limit of the call, if it has one.
    pub(super) fn call(&self) -> Option<&TimeLimit> {
        self.call.get()
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
    /// Connections on which what was sent may still be on its way.
    sockets: Option<Sockets>,
    /// Number of bytes that were handed over to be sent.
    handed: Arc<AtomicU64>,
    /// What the call's limit knows of it.
    transfer: Option<OwnTransfer>,
}

/// Number of looks at the kernel's buffers within the time that a transfer may stand still, at least.
const LOOKS: u32 = 4;

/// Longest time between two looks.
const MOST_BETWEEN_LOOKS: Duration = Duration::from_secs(1);

impl Movement {
    /// Creates a movement that starts now and may pause for `limit`.
    pub(super) fn new(limit: Stillness) -> Self {
        let last = Arc::new(Mutex::new(Instant::now()));
        Self { last, limit, sockets: None, handed: Arc::default(), transfer: None }
    }

    /// Counts what leaves these connections, too. Reports what has moved to the limit of the call, if there is one.
    pub(super) fn sending(self, sockets: Sockets, transfer: Option<OwnTransfer>) -> Self {
        Self { sockets: Some(sockets), transfer, ..self }
    }

    /// Records that bytes were handed over to be sent.
    pub(super) fn note_sent(&self, bytes: u64) {
        let handed = self.handed.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(transfer) = &self.transfer {
            transfer.moved(handed);
        }
        self.note();
    }

    /// Records a movement.
    fn note(&self) {
        step();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time since the last movement.
    fn still(&self) -> Duration {
        self.last().elapsed()
    }

    /// Looks whether anything has left the kernel's buffers since an earlier look. One that was made before the last
    /// movement tells nothing.
    async fn look(&self, sockets: &Sockets, earlier: &mut Option<(Instant, Unsent)>) {
        let unsent = sockets.unsent().await;
        let moved = self.handed.load(Ordering::Relaxed).saturating_sub(unsent.values().sum());
        if let Some(transfer) = &self.transfer {
            transfer.has_moved(moved);
        }
        if let Some((at, before)) = earlier.take()
            && at >= self.last()
            && before != unsent
        {
            if let Some(transfer) = &self.transfer {
                transfer.moved(moved);
            }
            self.note();
        }
        *earlier = Some((Instant::now(), unsent));
    }

    /// Waits for `work` while anything moves.
    pub(super) async fn watch<T>(&self, work: impl Future<Output = T>) -> Result<T, Stalled> {
        let mut work = std::pin::pin!(work);
        let mut earlier = None;
        let mut next_look = Instant::now();
        loop {
            let limit = self.limit.now();
            let between_looks = (limit / (LOOKS + 1)).min(MOST_BETWEEN_LOOKS);
            tokio::select! {
                biased;
                outcome = &mut work => {
                    step();
                    return Ok(outcome);
                }
                () = sleep(limit.saturating_sub(self.still()).min(TICK).min(between_looks)) => {
                    let limit = self.limit.now();
                    if let Some(sockets) = &self.sockets
                        && self.still() >= between_looks
                        && Instant::now() >= next_look
                    {
                        self.look(sockets, &mut earlier).await;
                        next_look = Instant::now() + between_looks;
                    }
                    if self.still() >= limit {
                        return Err(Stalled(limit));
                    }
                }
            }
        }
    }
}

/// Returns the body of a response that fails when nothing more arrives.
///
/// Only time spent waiting for the body counts: its reader may be busy in between.
pub(super) fn received<B: Body<Error: Into<BoxError>> + Unpin>(
    body: B,
    limit: Stillness,
) -> impl Body<Data = B::Data, Error = HttpError> {
    let telling = body.size_hint().exact().filter(|bytes| *bytes >= TELLING_BYTES);
    let transfer = limit.call().zip(telling).map(|(call, bytes)| call.transfer_begins(bytes));
    StreamBody::new(unfold((body, 0), move |(mut body, received)| {
        let (movement, transfer) = (Movement::new(limit.clone()), transfer.clone());
        async move {
            let frame = match movement.watch(body.frame()).await {
                Ok(frame) => frame.transpose().map_err(Into::into),
                Err(stalled) => Err(stalled.into()),
            };
            let data = frame.as_ref().ok().and_then(Option::as_ref).and_then(Frame::data_ref);
            let received = received + data.map_or(0, |data| data.remaining() as u64);
            match (&transfer, &frame) {
                (Some(transfer), Ok(Some(_))) => transfer.moved(received),
                (Some(transfer), Ok(None)) => transfer.ends(true),
                (Some(transfer), Err(_)) => transfer.ends(false),
                (None, _) => {}
            }
            let frame = frame.transpose()?;
            Some((
                frame.map_err(|error| HttpError::new_boxed(HttpErrorKind::Unknown, error)),
                (body, received),
            ))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::pin::pin;

    use bytes::Bytes;
    use futures_util::stream::poll_fn;
    use tokio::sync::mpsc::{Sender, channel};

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

    /// Returns a response whose parts the test sends.
    fn response(limit: Stillness) -> (Sender<&'static str>, impl Body<Data = Bytes, Error = HttpError>) {
        let (sender, mut parts) = channel::<&str>(1);
        let parts = poll_fn(move |cx| {
            parts.poll_recv(cx).map(|part| Some(Ok::<_, Infallible>(Frame::data(part?.into()))))
        });
        (sender, received(StreamBody::new(parts), limit))
    }

    #[test]
    fn a_body_fails_when_nothing_arrives_and_not_when_nobody_reads() {
        block_on(async {
            let (sender, body) = response(Stillness::new(Duration::from_millis(50)));
            let mut body = pin!(body);
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
        let hour = Duration::from_hours(1);
        let limit = TimeLimit::new(std::time::Instant::now(), hour);
        let stillness = Stillness::new(hour);
        stillness.heed(&limit);
        let losing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            limit.lose_patience(hour, Duration::from_millis(100));
        };
        block_on(async {
            let (_sender, body) = response(stillness.clone());
            let mut body = pin!(body);
            let movement = Movement::new(stillness);
            let (frame, watched, ()) =
                tokio::join!(body.frame(), movement.watch(std::future::pending::<()>()), losing);
            assert!(frame.unwrap().unwrap_err().to_string().contains("for 0.1 seconds"));
            assert_eq!(watched.unwrap_err().to_string(), "nothing was sent or received for 0.1 seconds");
        });
    }
}
