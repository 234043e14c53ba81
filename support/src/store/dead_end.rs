//! Endpoints with no server behind them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::{io::AsyncReadExt, net::TcpSocket};

use super::{background::Background, http, https, loopback_listener};

/// An endpoint without a server, until it is dropped.
pub struct DeadEnd {
    address: SocketAddr,
    _occupant: Occupant,
}

/// Occupies the port.
#[expect(dead_code, reason = "held until it is dropped")]
enum Occupant {
    Bound(TcpSocket),
    Listening(TcpListener),
    Serving(Background),
}

impl DeadEnd {
    /// Creates an endpoint that refuses connections.
    pub fn refused() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        // Bound, so that nobody else gets the port; not listening, so that it is closed.
        Self { address: socket.local_addr().unwrap(), _occupant: Occupant::Bound(socket) }
    }

    /// Creates an endpoint that accepts connections, and never reads from or answers them.
    pub fn silent() -> Self {
        let listener = loopback_listener();
        // The kernel establishes connections before they are accepted.
        Self { address: listener.local_addr().unwrap(), _occupant: Occupant::Listening(listener) }
    }

    /// Creates an endpoint that closes connections once the client has sent something, such as TLS's ClientHello.
    pub fn cuts_tls() -> Self {
        let listener = loopback_listener();
        let address = listener.local_addr().unwrap();
        let background = Background::accepting(listener, |mut socket| async move {
            let _ = socket.read(&mut [0; 16 << 10]).await;
        });
        Self { address, _occupant: Occupant::Serving(background) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn http(&self) -> String {
        http(self.address)
    }

    /// `https://localhost:PORT`
    pub fn https(&self) -> String {
        https(self.address)
    }
}
