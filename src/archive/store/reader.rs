//! A `Read` adapter for an asynchronous stream.
//!
//! tokio-util's `SyncIoBridge` receives only while it is read, not while its reader decompresses, and cannot be
//! abandoned during a read.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::failure::{Causes, is_timeout};

/// Maximum number of received parts that wait to be read. Each part has some kilobytes.
const WAITING: usize = 64;

/// Reader of a stream. Must not be read on a thread that runs asynchronous tasks.
pub(super) struct StreamReader {
    parts: Receiver<io::Result<Bytes>>,
    current: Bytes,
    abandoned: CancellationToken,
    /// Needed because threads outside the runtime read, too.
    runtime: Handle,
}

impl StreamReader {
    /// Starts to receive. Stops at the end of the stream, or when the reader or the guard is dropped.
    pub(super) fn new(mut stream: BoxStream<'static, object_store::Result<Bytes>>) -> (Self, DropGuard) {
        let (sender, parts) = channel(WAITING);
        tokio::spawn(async move {
            while let Some(part) = stream.next().await {
                let part = part.map_err(|error| io::Error::new(kind_of(&error), Causes::of(&error)));
                let failed = part.is_err();
                if sender.send(part).await.is_err() || failed {
                    break;
                }
            }
        });
        let abandoned = CancellationToken::new();
        let guard = abandoned.clone().drop_guard();
        (Self { parts, current: Bytes::new(), abandoned, runtime: Handle::current() }, guard)
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let part = self.abandoned.run_until_cancelled(self.parts.recv());
            match self.runtime.block_on(part) {
                Some(Some(part)) => self.current = part?,
                Some(None) => return Ok(0),
                None => return Err(io::Error::other("nobody waits for it any more")),
            }
        }
        let length = self.current.len().min(buffer.len());
        if let Some(buffer) = buffer.get_mut(..length) {
            self.current.copy_to_slice(buffer);
        }
        Ok(length)
    }
}

fn kind_of(error: &object_store::Error) -> io::ErrorKind {
    if is_timeout(error) { io::ErrorKind::TimedOut } else { io::ErrorKind::Other }
}
