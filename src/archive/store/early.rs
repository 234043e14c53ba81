//! Opening a connection before there is a request for it.
//!
//! An HTTP client connects when it has something to send. A push knows long before that, while it compresses, that it
//! will. So a request that is never sent is given to the client: it goes as far as a connection, TLS included, which
//! is kept here for the first request that needs one.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Mutex;
use tower_layer::Layer;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

tokio::task_local! {
    /// Set while the request that is never sent is on its way.
    static EARLY: ();
}

/// The connection in waiting, if there is one. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlyConnection {
    /// Held while connecting, so that a request that comes in between waits instead of connecting, too.
    kept: Arc<Mutex<Option<Box<dyn Any + Send>>>>,
    opened: Arc<AtomicBool>,
}

impl EarlyConnection {
    /// Runs `request`, which goes no further than to a connection. Whatever fails will fail again for the request that
    /// comes next, and be told then.
    pub(super) async fn open(&self, request: impl Future) {
        // Once there has been a request, the client may have a connection at hand, and would send this one, too.
        if !self.opened.swap(true, Ordering::Relaxed) {
            EARLY.scope((), request).await;
        }
    }
}

impl<S> Layer<S> for EarlyConnection {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Connector { inner, early: self.clone() }
    }
}

/// A connector that hands out the connection in waiting first.
#[derive(Debug, Clone)]
pub(super) struct Connector<S> {
    inner: S,
    early: EarlyConnection,
}

/// Ends the request that is never sent.
#[derive(Debug, thiserror::Error)]
#[error("connected ahead of the first request")]
struct Connected;

impl<S, R> Service<R> for Connector<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let connecting = self.inner.call(destination);
        let kept = Arc::clone(&self.early.kept);
        if EARLY.try_with(|()| ()).is_ok() {
            return Box::pin(async move {
                let mut kept = kept.lock().await;
                *kept = Some(Box::new(connecting.await?));
                Err(Connected.into())
            });
        }
        Box::pin(async move {
            let waiting = kept.lock().await.take();
            match waiting.and_then(|connection| connection.downcast().ok()) {
                Some(connection) => Ok(*connection),
                None => connecting.await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Makes connections that are their own numbers.
    #[derive(Clone, Default)]
    struct Numbered(Arc<AtomicUsize>);

    impl Service<()> for Numbered {
        type Response = usize;
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<usize, BoxError>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            let made = Arc::clone(&self.0);
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(made.fetch_add(1, Ordering::Relaxed))
            })
        }
    }

    #[test]
    fn the_first_request_gets_the_connection_in_waiting_and_the_next_one_its_own() {
        let early = EarlyConnection::default();
        let mut connector = early.layer(Numbered::default());
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let in_advance = connector.call(());
            assert_eq!(in_advance.await.unwrap(), 0, "an ordinary request");
            let mut ahead = connector.clone();
            // Both at once: the request waits for the connection that is being made.
            let ((), second) = tokio::join!(early.open(async { ahead.call(()).await }), async {
                tokio::task::yield_now().await;
                connector.call(()).await
            });
            assert_eq!(second.unwrap(), 1);
            assert_eq!(connector.call(()).await.unwrap(), 2);
        });
    }
}
