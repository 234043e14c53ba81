//! A link that carries a given number of bytes per second, in front of a server.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep_until},
};

use super::{background::Background, http, loopback_listener};

/// Number of bytes that the relay takes at a time: little, so that what it has not passed on is in the sender's kernel.
const PIECE: usize = 4 << 10;

/// A relay whose connections share a slow link. Gone on drop.
pub struct SlowRelay {
    address: SocketAddr,
    is_silent: Arc<AtomicBool>,
    carried: Arc<AtomicU64>,
    _background: Background,
}

/// Time at which each direction of the link is free again.
#[derive(Clone)]
struct Link {
    free: Arc<Mutex<Instant>>,
    bytes_per_second: u32,
    is_silent: Arc<AtomicBool>,
    /// Number of bytes that both directions have carried.
    carried: Arc<AtomicU64>,
}

impl Link {
    fn new(bytes_per_second: u32, is_silent: &Arc<AtomicBool>, carried: &Arc<AtomicU64>) -> Self {
        let free = Arc::new(Mutex::new(Instant::now()));
        Self { free, bytes_per_second, is_silent: Arc::clone(is_silent), carried: Arc::clone(carried) }
    }

    /// Waits until the link has carried that many bytes more.
    async fn carry(&self, bytes: usize) {
        let takes = Duration::from_secs(1) * u32::try_from(bytes).unwrap() / self.bytes_per_second;
        let carried = {
            let mut free = self.free.lock().unwrap();
            *free = (*free).max(Instant::now()) + takes;
            *free
        };
        sleep_until(carried).await;
        if self.is_silent.load(SeqCst) {
            pending::<()>().await;
        }
        self.carried.fetch_add(bytes as u64, SeqCst);
    }
}

impl SlowRelay {
    /// Starts it in front of the server at `target`. Each direction carries that many bytes per second.
    pub fn start(target: SocketAddr, bytes_per_second: u32) -> Self {
        let listener = loopback_listener();
        // Connections inherit it. The kernel doubles it.
        set_socket_recv_buffer_size(&listener, PIECE).unwrap();
        let address = listener.local_addr().unwrap();
        let (is_silent, carried) = (Arc::default(), Arc::default());
        let [there, back] = [(); 2].map(|()| Link::new(bytes_per_second, &is_silent, &carried));
        let background = Background::accepting(listener, move |client| {
            let (there, back) = (there.clone(), back.clone());
            async move {
                let Ok(server) = TcpStream::connect(target).await else { return };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::join!(pass_on(from_client, to_server, there), pass_on(from_server, to_client, back));
            }
        });
        Self { address, is_silent, carried, _background: background }
    }

    /// Lets it carry nothing more. Connections stay, and new ones are accepted.
    pub fn fall_silent(&self) {
        self.is_silent.store(true, SeqCst);
    }

    /// Returns the number of bytes that it has carried so far.
    pub fn carried(&self) -> u64 {
        self.carried.load(SeqCst)
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        http(self.address)
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: Link) {
    let mut buffer = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        link.carry(length).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
