//! Bytes in the kernel's buffers: what was sent and not yet received.
//!
//! A program that sends hands its bytes to the kernel, which may take megabytes. On a slow link they leave for minutes
//! without the program noticing. The kernel's table of connections tells how many are left, as `ioctl(SIOCOUTQ)` does.
//! That call needs the socket, which reqwest 0.13.5 keeps to itself (its `Conn` shows only the addresses).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::client::legacy::connect::{Connected, HttpInfo};
use tokio::task::spawn_blocking;

/// Tables of TCP connections. An IPv4 connection is in the first, unless it was made by a socket for both.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// Maximum number of connections to keep. Each request to a store needs one at a time.
const MOST: usize = 256;

/// The two ends of a connection, as the kernel's table writes them.
type Ends = [String; 2];

/// Connections of one client. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sockets(Arc<Mutex<Vec<Ends>>>);

/// Number of bytes in the send buffer of each connection.
pub(super) type Unsent = BTreeMap<Ends, u64>;

impl Sockets {
    /// Adds a new connection.
    pub(super) fn add(&self, connected: &Connected) {
        let mut extensions = http::Extensions::new();
        connected.get_extras(&mut extensions);
        let Some(info) = extensions.get::<HttpInfo>() else { return };
        let ends = [info.local_addr(), info.remote_addr()].map(as_in_table);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The oldest ones are closed.
        let more = (known.len() + 1).saturating_sub(MOST);
        known.drain(..more);
        known.push(ends);
    }

    /// Looks into the kernel's tables. Empty if they cannot be read.
    pub(super) async fn unsent(&self) -> Unsent {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_empty() {
            return Unsent::new();
        }
        let looking = spawn_blocking(move || {
            let tables = TABLES.iter().filter_map(|table| std::fs::read_to_string(table).ok());
            tables.flat_map(|table| unsent_in(&table, &known)).collect()
        });
        looking.await.unwrap_or_default()
    }
}

/// States of a connection that may still be used, as the table writes them: established, and closed by the other end. What
/// a closed one has left is that of a request which was given up.
const USED: [&str; 2] = ["01", "08"];

/// Reads the queues of these connections from a table.
fn unsent_in(table: &str, known: &[Ends]) -> Unsent {
    let of_line = |line: &str| {
        // sl: local_address rem_address st tx_queue:rx_queue …
        let mut words = line.split_ascii_whitespace().skip(1);
        let ends = [words.next()?, words.next()?];
        let ends = known.iter().find(|known| known.iter().eq(ends.iter()))?;
        let state = words.next()?;
        let (queue, _) = words.next()?.split_once(':')?;
        if !USED.contains(&state) {
            return None;
        }
        Some((ends.clone(), u64::from_str_radix(queue, 16).ok()?))
    };
    table.lines().filter_map(of_line).collect()
}

/// Formats an address as the table does: groups of four bytes in the machine's order, and the port.
fn as_in_table(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let groups = octets.as_chunks::<4>().0.iter().map(|group| format!("{:08X}", u32::from_ne_bytes(*group)));
    format!("{}:{:04X}", groups.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    fn connected(stream: &TcpStream) -> Sockets {
        let ends = [stream.local_addr().unwrap(), stream.peer_addr().unwrap()].map(as_in_table);
        Sockets(Arc::new(Mutex::new(vec![ends])))
    }

    #[tokio::test]
    async fn bytes_that_nobody_has_received_are_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let sockets = connected(&stream);
            assert_eq!(sockets.unsent().await.into_values().collect::<Vec<_>>(), [0], "{address}");
            stream.set_nonblocking(true).unwrap();
            while stream.write(&[0; 8 << 10]).is_ok() {}
            let unsent: u64 = sockets.unsent().await.into_values().sum();
            assert!(unsent > 64 << 10, "{address}: {unsent}");
        }
    }

    #[tokio::test]
    async fn what_a_closed_connection_still_sends_is_not_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_peer, _) = listener.accept().unwrap();
        let sockets = connected(&stream);
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 8 << 10]).is_ok() {}
        assert_eq!(sockets.unsent().await.len(), 1);
        drop(stream);
        assert!(sockets.unsent().await.is_empty(), "{:?}", sockets.unsent().await);
    }

    #[test]
    fn a_line_is_read_by_its_two_ends_alone() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
                     0: 0100007F:1F90 0100007F:C001 01 00000A00:00000007 00:00000000 00000000     0\n   \
                     1: 0100007F:C001 0100007F:1F90 01 0000000B:00000000 00:00000000 00000000     0\n   \
                     2: 0100007F:C001\n";
        let ends =
            [as_in_table("127.0.0.1:49153".parse().unwrap()), as_in_table("127.0.0.1:8080".parse().unwrap())];
        if cfg!(target_endian = "little") {
            assert_eq!(ends, ["0100007F:C001", "0100007F:1F90"]);
            assert_eq!(unsent_in(table, std::slice::from_ref(&ends)), Unsent::from([(ends, 11)]));
        }
    }
}
