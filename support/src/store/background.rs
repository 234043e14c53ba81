//! A thread that serves connections until its owner is dropped.

use std::{net::TcpListener, thread, thread::JoinHandle};

use tokio::{net::TcpStream, runtime, sync::oneshot};

/// A thread with a tokio runtime that serves a listener's connections. Dropping it ends them all, whatever they wait
/// for, and waits for the thread.
pub(super) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Calls `serve` for each connection, and runs the returned futures concurrently.
    pub(super) fn accepting<Serving>(
        listener: TcpListener,
        serve: impl Fn(TcpStream) -> Serving + Send + 'static,
    ) -> Self
    where
        Serving: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, serve) => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

async fn accept<Serving>(listener: TcpListener, serve: impl Fn(TcpStream) -> Serving)
where
    Serving: Future<Output = ()> + Send + 'static,
{
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        // Fails for a connection that the client has already closed.
        let Ok((socket, _)) = listener.accept().await else { continue };
        // Bytes written one by one must arrive one by one.
        socket.set_nodelay(true).unwrap();
        tokio::spawn(serve(socket));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // If the thread has panicked, the panic itself has been reported.
        let _ = self.stop.take().unwrap().send(());
        let _ = self.thread.take().unwrap().join();
    }
}
