//! A slow link between two ends.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Returns the near end of a link to `socket`. It delays, and does not limit the amount in flight.
pub(super) fn slow_link(socket: TcpStream, round_trip: Duration) -> DuplexStream {
    let (near, far) = duplex(64 << 10);
    let (from_client, to_client) = split(socket);
    let (from_server, to_server) = split(far);
    tokio::spawn(carry(from_client, to_server, round_trip / 2));
    tokio::spawn(carry(from_server, to_client, round_trip / 2));
    near
}

/// Writes what it reads, `delay` later.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
) {
    let (sender, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((arrival, bytes)) = under_way.recv().await {
            sleep_until(arrival).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // Fails if the other end has closed before.
        let _ = to.shutdown().await;
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}
