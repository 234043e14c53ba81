//! From an archived file's bytes back to the WAL file's.

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::header::PREFIX_BYTES;
use super::{BodyCodec, Digest, FrameError, Header};

/// How much is read, decoded, hashed and written at a time: little enough to stay in the cache on its way.
const STEP_BYTES: usize = 64 << 10;

/// How many steps decoding may be ahead of writing. With fewer, the two threads spend their time waking each other.
const STEPS_AHEAD: usize = 16;

/// A zstd frame that wants a larger window, 2^23 bytes = 8 MiB, is refused; no level up to 19 makes one.
const WINDOW_LOG_MAX: u32 = 23;

/// An archived file whose header has been read and checked.
#[derive(Debug)]
pub struct Archived<R> {
    header: Header,
    body: R,
}

impl<R: Read + Send> Archived<R> {
    /// Reads the header of an archived file of `stored_size` bytes.
    pub fn open(mut file: R, stored_size: u64) -> Result<Self, FrameError> {
        let short = || FrameError::Damaged(format!("it ends inside its header, at {stored_size} bytes"));
        if stored_size < PREFIX_BYTES as u64 {
            return Err(short());
        }
        let mut bytes = vec![0; PREFIX_BYTES];
        file.read_exact(&mut bytes).map_err(FrameError::Read)?;
        let prefix = bytes.first_chunk().copied().unwrap_or_default();
        let total = PREFIX_BYTES + Header::length_of_rest(prefix)?;
        if stored_size < total as u64 {
            return Err(short());
        }
        bytes.resize(total, 0);
        file.read_exact(bytes.get_mut(PREFIX_BYTES..).unwrap_or_default()).map_err(FrameError::Read)?;
        Ok(Self { header: Header::parse(&bytes, stored_size)?, body: file })
    }

    /// What the file says of itself; its digest has been checked.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Writes the original bytes to `sink` and checks them, returning the header.
    ///
    /// **`sink` receives bytes before they have been checked**: they are the WAL file only if this returns `Ok`.
    /// It gets no more than `original_size` of them. Reads and decompresses on a thread of its own; memory is a few
    /// steps of 64 KiB and zstd's window, whatever the file says.
    pub fn decode(self, mut sink: impl Write) -> Result<Header, FrameError> {
        let Self { header, mut body } = self;
        let (full, to_write) = mpsc::sync_channel::<Vec<u8>>(STEPS_AHEAD);
        let (empty, to_fill) = mpsc::channel();
        let output = Output { full, to_fill, left: header.original_size };
        let mut hasher = blake3::Hasher::new();
        thread::scope(|scope| {
            // The thread owns its end of the channel, so that the loop below ends when the thread does.
            let decoding = scope.spawn(|| decode_body(&header, &mut body, output));
            let mut written = Ok(());
            for block in to_write {
                // Hashing here and SHA-256 there gives both threads about the same to do.
                hasher.update(&block);
                written = sink.write_all(&block);
                if written.is_err() {
                    break; // leaving drops the channel, which ends the thread
                }
                let _ = empty.send(block);
            }
            let decoded = decoding.join().unwrap_or_else(|_| Err(damaged("decoding it failed")));
            written.map_err(FrameError::Write).and(decoded)
        })?;
        if Digest::from(*hasher.finalize().as_bytes()) != header.blake3 {
            return Err(damaged("its content does not match the BLAKE3 in its header"));
        }
        Ok(header)
    }
}

fn damaged(what: &str) -> FrameError {
    FrameError::Damaged(what.to_owned())
}

/// Where decoded blocks go, and where their buffers come from.
struct Output {
    full: SyncSender<Vec<u8>>,
    to_fill: Receiver<Vec<u8>>,
    /// How many bytes may still come.
    left: u64,
}

impl Output {
    /// An empty buffer of one block.
    fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.to_fill.try_recv().unwrap_or_else(|_| Vec::with_capacity(STEP_BYTES));
        buffer.clear();
        buffer
    }

    /// Hands a block on; `false` if nobody wants more.
    fn send(&mut self, block: Vec<u8>) -> Result<bool, FrameError> {
        self.left = self
            .left
            .checked_sub(block.len() as u64)
            .ok_or_else(|| damaged("its body holds more than the size in its header"))?;
        Ok(block.is_empty() || self.full.send(block).is_ok())
    }
}

/// Decodes the whole body into `output` and checks its SHA-256.
fn decode_body(header: &Header, body: &mut impl Read, mut output: Output) -> Result<(), FrameError> {
    let mut input =
        Input { body, left: header.body_size, buffer: Vec::new(), sha256: sha2::Sha256::default() };
    match header.codec {
        BodyCodec::None => {
            while input.fill()? {
                let mut block = output.buffer();
                block.extend_from_slice(&input.buffer);
                if !output.send(block)? {
                    return Ok(());
                }
            }
        }
        BodyCodec::Zstd => decompress(&mut input, &mut output)?,
    }
    if output.left > 0 {
        return Err(damaged("its body holds less than the size in its header"));
    }
    if input.digest() != header.sha256 {
        return Err(damaged("its body does not match the SHA-256 in its header"));
    }
    Ok(())
}

fn decompress(input: &mut Input<'_, impl Read>, output: &mut Output) -> Result<(), FrameError> {
    let zstd_error = |error: io::Error| FrameError::Damaged(format!("zstd says \"{error}\" of its body"));
    let mut decoder = Decoder::new().map_err(FrameError::Write)?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(FrameError::Write)?;
    // Damage is found by the two digests; zstd's own checksum would be a third pass over the same bytes.
    decoder.set_parameter(DParameter::ForceIgnoreChecksum(true)).map_err(FrameError::Write)?;
    let mut block = output.buffer();
    let mut at_frame_end = true;
    while input.fill()? {
        let mut source = InBuffer::around(&input.buffer);
        loop {
            let before = (source.pos(), block.len());
            let mut target = OutBuffer::around_pos(&mut block, before.1);
            let hint = decoder.run(&mut source, &mut target).map_err(zstd_error)?;
            // A call that finds nothing to do hints at the next frame's header.
            if (source.pos(), block.len()) != before {
                at_frame_end = hint == 0;
            }
            if block.len() == STEP_BYTES {
                if !output.send(block)? {
                    return Ok(());
                }
                block = output.buffer();
            } else if source.pos() == input.buffer.len() {
                break;
            }
        }
    }
    if !at_frame_end {
        return Err(damaged("its body ends inside a zstd frame"));
    }
    output.send(block)?;
    Ok(())
}

/// The body on its way in.
struct Input<'a, R> {
    body: &'a mut R,
    /// How many bytes the header still promises.
    left: u64,
    buffer: Vec<u8>,
    sha256: sha2::Sha256,
}

impl<R: Read> Input<'_, R> {
    /// Reads the next part of the body into the buffer; `false` at its end.
    fn fill(&mut self) -> Result<bool, FrameError> {
        let wanted = usize::try_from(self.left).unwrap_or(STEP_BYTES).min(STEP_BYTES);
        self.buffer.resize(wanted, 0);
        self.body.read_exact(&mut self.buffer).map_err(FrameError::Read)?;
        sha2::Digest::update(&mut self.sha256, &self.buffer);
        self.left -= wanted as u64;
        Ok(wanted > 0)
    }

    fn digest(self) -> Digest {
        let digest: [u8; 32] = sha2::Digest::finalize(self.sha256).into();
        digest.into()
    }
}
