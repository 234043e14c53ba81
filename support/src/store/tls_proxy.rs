//! TLS in front of a server without it.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{background::Background, https, identity::Identity, link::slow_link, loopback_listener};

/// Proxy that terminates TLS. Gone on drop, with all its connections.
pub struct TlsProxy {
    address: SocketAddr,
    _background: Background,
}

impl TlsProxy {
    /// Starts it in front of the server at `target`.
    pub fn start(target: SocketAddr, identity: &Identity) -> Self {
        let acceptor = identity.acceptor();
        Self::accepting(move |socket| pass_on(socket, acceptor.clone(), target))
    }

    /// Does the same as [`TlsProxy::start`] behind a link with that round-trip time, also for the TLS handshake; the
    /// TCP handshake is the kernel's and takes no time.
    pub fn start_slow(target: SocketAddr, identity: &Identity, round_trip: Duration) -> Self {
        let acceptor = identity.acceptor();
        Self::accepting(move |socket| {
            let acceptor = acceptor.clone();
            async move { pass_on(slow_link(socket, round_trip), acceptor, target).await }
        })
    }

    fn accepting<Serving: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> Serving + Send + 'static,
    ) -> Self {
        let listener = loopback_listener();
        let address = listener.local_addr().unwrap();
        Self { address, _background: Background::accepting(listener, serve) }
    }

    /// `https://localhost:PORT`
    pub fn endpoint(&self) -> String {
        https(self.address)
    }
}

async fn pass_on(client: impl AsyncRead + AsyncWrite + Unpin, acceptor: TlsAcceptor, target: SocketAddr) {
    // Each of these fails when one end has closed, which the other notices by the closing.
    let Ok(mut client) = acceptor.accept(client).await else { return };
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _ = server.set_nodelay(true);
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
