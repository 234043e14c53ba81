//! A thread that serves connections, and ends with the value that stands for it.

use std::{net::TcpListener, thread, thread::JoinHandle};

use tokio::{net::TcpStream, runtime, sync::oneshot};

/// A thread with a tokio runtime that serves a listener's connections. Dropping it ends them all, whatever they are
/// waiting for, and waits for the thread.
pub(super) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Calls `serve` for each connection, and runs what it returns beside the others.
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
        // Fails for a connection that the client has already given up.
        let Ok((socket, _)) = listener.accept().await else { continue };
        // What is written byte by byte is to arrive byte by byte.
        socket.set_nodelay(true).unwrap();
        tokio::spawn(serve(socket));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The thread's end, should it have panicked, has been reported by the panic itself.
        let _ = self.stop.take().unwrap().send(());
        let _ = self.thread.take().unwrap().join();
    }
}
