//! Connections that are opened before the first request.
//!
//! An HTTP client connects when it has something to send. A push knows much earlier, while it compresses, that it
//! will send something. It therefore starts a request that is never sent: it ends once there is a connection, TLS
//! included, which is kept here for the first real request.
//!
//! Neither reqwest 0.13.5 nor the pool below it, hyper-util 0.1.21's `client::legacy`, connects without a request, and
//! a request that is dropped takes its connecting along. A method that fills the pool would replace this module.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::Connection;
use tokio::sync::Mutex;
use tower_layer::Layer;
use tower_service::Service;

use super::sockets::Sockets;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

tokio::task_local! {
    /// Set during the request that is never sent.
    static EARLY: ();
}

/// The connection kept for the first request. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlyConnection {
    /// Locked while connecting, so that a request in between waits instead of opening a second connection.
    kept: Arc<Mutex<Option<Box<dyn Any + Send>>>>,
    opened: Arc<AtomicBool>,
    sockets: Sockets,
}

impl EarlyConnection {
    /// Returns all connections that were made, early or not.
    pub(super) fn sockets(&self) -> Sockets {
        self.sockets.clone()
    }

    /// Runs `request`, which ends once it has a connection. Failures are ignored: they recur in the next request.
    pub(super) async fn open(&self, request: impl Future) {
        // After a first request, the client may have an idle connection and would send this one, too.
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

/// A connector that hands out the kept connection first.
#[derive(Debug, Clone)]
pub(super) struct Connector<S> {
    inner: S,
    early: EarlyConnection,
}

/// Error that ends the request that is never sent.
#[derive(Debug, thiserror::Error)]
#[error("connected ahead of the first request")]
struct Connected;

impl<S, R> Service<R> for Connector<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Connection + Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let (connecting, sockets) = (self.inner.call(destination), self.early.sockets());
        let connecting = async move {
            let connection = connecting.await?;
            sockets.add(&connection.connected());
            Ok(connection)
        };
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

    use hyper_util::client::legacy::connect::Connected as Description;

    #[derive(Debug, PartialEq, Eq)]
    struct Number(usize);

    impl Connection for Number {
        fn connected(&self) -> Description {
            Description::new()
        }
    }

    /// Creates connections that are consecutive numbers.
    #[derive(Clone, Default)]
    struct Numbered(Arc<AtomicUsize>);

    impl Service<()> for Numbered {
        type Response = Number;
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<Number, BoxError>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            let made = Arc::clone(&self.0);
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(Number(made.fetch_add(1, Ordering::Relaxed)))
            })
        }
    }

    #[test]
    fn the_first_request_gets_the_early_connection_and_the_next_one_its_own() {
        let early = EarlyConnection::default();
        let mut connector = early.layer(Numbered::default());
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let in_advance = connector.call(());
            assert_eq!(in_advance.await.unwrap(), Number(0), "an ordinary request");
            let mut ahead = connector.clone();
            // At the same time: the request waits for the connection in progress.
            let ((), second) = tokio::join!(early.open(async { ahead.call(()).await }), async {
                tokio::task::yield_now().await;
                connector.call(()).await
            });
            assert_eq!(second.unwrap(), Number(1));
            assert_eq!(connector.call(()).await.unwrap(), Number(2));
        });
    }
}
