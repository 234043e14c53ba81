//! The server's end of a connection, where a response can be cut off, delayed or changed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;

/// Time per byte of a trickling response.
const TRICKLE: Duration = Duration::from_millis(200);

/// Transport of a connection.
pub(super) trait Channel: AsyncRead + AsyncWrite + Send + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Channel for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Channel for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Fault at a certain byte of a response body.
#[derive(Clone, Copy)]
pub(super) enum Mishap {
    Reset,
    Close,
    Silence,
    /// Applies to this byte and all that follow.
    Trickle,
    Flip,
}

/// A planned fault: the response passes up to its position.
#[derive(Clone, Copy)]
struct Plan {
    /// Number of bytes seen of the empty line that ends the head.
    blank_line: usize,
    /// Number of bytes of the body still to pass.
    body: u64,
    mishap: Mishap,
}

impl Plan {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";

    /// Returns the number of bytes to write before the fault.
    fn harmless(mut self, bytes: &[u8]) -> usize {
        for (index, byte) in bytes.iter().enumerate() {
            if self.is_due() {
                return index;
            }
            self.pass(*byte);
        }
        bytes.len()
    }

    fn pass(&mut self, byte: u8) {
        if self.blank_line == Self::BLANK_LINE.len() {
            self.body -= 1;
        } else if byte == Self::BLANK_LINE[self.blank_line] {
            self.blank_line += 1;
        } else {
            self.blank_line = usize::from(byte == b'\r');
        }
    }

    fn is_due(&self) -> bool {
        self.blank_line == Self::BLANK_LINE.len() && self.body == 0
    }
}

/// Controls for the connection of a request.
#[derive(Clone, Default)]
pub(super) struct Control(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    reset: bool,
}

impl Control {
    /// Plans a fault of the next response after `body` bytes of its body.
    pub(super) fn plan(&self, body: u64, mishap: Mishap) {
        self.0.lock().unwrap().plan = Some(Plan { blank_line: 0, body, mishap });
    }

    /// Discards the plan: the response has been written.
    pub(super) fn forget_plan(&self) {
        self.0.lock().unwrap().plan = None;
    }

    /// Makes the connection end with a reset, whenever it ends.
    pub(super) fn end_with_reset(&self) {
        self.0.lock().unwrap().reset = true;
    }

    fn current_plan(&self) -> Option<Plan> {
        self.0.lock().unwrap().plan
    }

    fn passed(&self, bytes: &[u8]) {
        if let Some(plan) = &mut self.0.lock().unwrap().plan {
            for byte in bytes {
                plan.pass(*byte);
            }
        }
    }
}

/// The server's end of a connection.
pub(super) struct Wire {
    channel: Box<dyn Channel>,
    control: Control,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(channel: Box<dyn Channel>, control: Control) -> Self {
        Self { channel, control, pause: None }
    }

    fn write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.channel).poll_write(context, bytes)
    }

    /// Ends the response once everything before is sent; an error makes the server drop the connection.
    fn end(&mut self, context: &mut Context<'_>, mishap: Mishap) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.channel).poll_flush(context))?;
        match mishap {
            Mishap::Reset => {
                self.control.end_with_reset();
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            Mishap::Close => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            // Only the client's end wakes this up.
            Mishap::Silence => Poll::Pending,
            Mishap::Trickle | Mishap::Flip => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(plan) = self.control.current_plan() else { return self.write(context, bytes) };
        let harmless = plan.harmless(bytes);
        if harmless > 0 {
            let written = ready!(self.write(context, &bytes[..harmless]))?;
            self.control.passed(&bytes[..written]);
            return Poll::Ready(Ok(written));
        }
        match plan.mishap {
            Mishap::Flip => {
                let written = ready!(self.write(context, &[!bytes[0]]))?;
                self.control.forget_plan();
                Poll::Ready(Ok(written))
            }
            Mishap::Trickle => {
                let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(TRICKLE)));
                ready!(pause.as_mut().poll(context));
                self.pause = None;
                self.write(context, &bytes[..1])
            }
            mishap => self.end(context, mishap).map_ok(|()| 0),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.control.current_plan() {
            // The fault may come after the last byte, when nothing more is written.
            Some(plan) if plan.is_due() => self.end(context, plan.mishap),
            _ => Pin::new(&mut self.channel).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_shutdown(context)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.control.0.lock().unwrap().reset {
            // A socket that does not linger is closed with RST instead of FIN. Fails if the client has ended it.
            let _ = self.channel.socket().set_zero_linger();
        }
    }
}
