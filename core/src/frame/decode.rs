//! Decoder: from an archived file's bytes to the WAL file's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use zstd::zstd_safe::{DParameter, compress_bound, find_frame_compressed_size};

use super::header::PREFIX_BYTES;
use super::{BLOCK_BYTES, BodyCodec, Digest, FrameError, Header, hold};

/// Number of body bytes read at a time.
const READ_BYTES: usize = 128 << 10;

/// Maximum number of blocks that wait for earlier ones.
const BLOCKS_AHEAD: usize = 8;

/// An archived file whose header has been read and verified.
#[derive(Debug)]
pub struct Archived<R> {
    header: Header,
    body: R,
    helped: bool,
}

impl<R: Read + Send> Archived<R> {
    /// Reads and verifies the header of an archived file of `stored_size` bytes.
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
        Ok(Self { header: Header::parse(&bytes, stored_size)?, body: file, helped: true })
    }

    /// Returns the header. Its digest has been verified.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Decodes on the caller's thread only, for callers that decode one file per core.
    #[must_use]
    pub fn on_one_thread(self) -> Self {
        Self { helped: false, ..self }
    }

    /// Reads the body and verifies its digest, without decoding it.
    pub fn check_body(self) -> Result<Header, FrameError> {
        let Self { header, body, .. } = self;
        // The digest is of the stored bytes, whatever the codec.
        let mut source = Source::new(body, BodyCodec::None, header.body_size);
        let mut part = Vec::new();
        while source.next_part(&mut part)?.is_some() {}
        if source.digest() == header.sha256 { Ok(header) } else { Err(other_body()) }
    }

    /// Writes the original bytes to `sink`, verifies them, and returns the header.
    ///
    /// **`sink` receives bytes before they are verified**: they are the WAL file only if this returns `Ok`. `sink`
    /// never receives more than `original_size` bytes. Decoding uses the caller's thread and, unless
    /// [`Self::on_one_thread`] was called, one more. It needs a few MiB of memory, whatever the header says.
    pub fn decode(self, sink: impl Write + Send) -> Result<Header, FrameError> {
        let Self { header, body, helped } = self;
        let helped = helped && header.original_size > BLOCK_BYTES as u64;
        let source = Mutex::new(Source::new(body, header.codec, header.body_size));
        let target = Target::new(sink, header.original_size);
        let work = || target.stop_all_if_this_fails(decode_blocks(&header, &source, &target));
        thread::scope(|scope| {
            let other = helped.then(|| scope.spawn(work));
            let ours = work();
            let theirs = other.map_or(Ok(()), |other| {
                other.join().unwrap_or_else(|_| Err(damaged("a thread that was decoding it failed")))
            });
            ours.and(theirs)
        })?;
        let blake3 = target.finish()?;
        if source.into_inner().unwrap_or_else(PoisonError::into_inner).digest() != header.sha256 {
            return Err(other_body());
        }
        if blake3 != header.blake3 {
            return Err(damaged("its content does not match the BLAKE3 in its header"));
        }
        Ok(header)
    }
}

fn other_body() -> FrameError {
    damaged("its body does not match the SHA-256 in its header")
}

fn damaged(what: &str) -> FrameError {
    FrameError::Damaged(what.to_owned())
}

/// Decodes parts of the body until none is left. Several threads run it at the same time.
fn decode_blocks(
    header: &Header,
    source: &Mutex<Source<impl Read>>,
    target: &Target<impl Write>,
) -> Result<(), FrameError> {
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(FrameError::Write)?;
    // The two digests detect damage; zstd's own checksum would be a third pass over the same bytes.
    decompressor.set_parameter(DParameter::ForceIgnoreChecksum(true)).map_err(FrameError::Write)?;
    let mut part = Vec::new();
    let mut block = Vec::new();
    loop {
        let next = hold(source).next_part(&mut part)?;
        let Some(number) = next else { return Ok(()) };
        match header.codec {
            BodyCodec::None => std::mem::swap(&mut part, &mut block),
            BodyCodec::Zstd => {
                block.clear();
                block.reserve_exact(BLOCK_BYTES);
                // A frame with more than one block does not fit and is an error.
                decompressor
                    .decompress_to_buffer(&part, &mut block)
                    .map_err(|error| FrameError::Damaged(format!("zstd says \"{error}\" of its body")))?;
            }
        }
        match target.put(number, block)? {
            Some(emptied) => block = emptied,
            None => return Ok(()),
        }
    }
}

/// The body, split into parts that can be decoded independently.
struct Source<R> {
    body: R,
    codec: BodyCodec,
    /// Number of body bytes that have not been read.
    left: u64,
    /// Bytes that were read; those from `given` on have not been returned.
    buffer: Vec<u8>,
    given: usize,
    parts: usize,
    sha256: sha2::Sha256,
}

impl<R: Read> Source<R> {
    fn new(body: R, codec: BodyCodec, bytes: u64) -> Self {
        let sha256 = sha2::Sha256::default();
        Self { body, codec, left: bytes, buffer: Vec::new(), given: 0, parts: 0, sha256 }
    }

    /// Replaces `part` by the bytes that decode to the next block, and returns its number; `None` at the end of the
    /// body.
    fn next_part(&mut self, part: &mut Vec<u8>) -> Result<Option<usize>, FrameError> {
        let length = match self.codec {
            BodyCodec::None => self.fill_to(BLOCK_BYTES)?.min(BLOCK_BYTES),
            BodyCodec::Zstd => self.length_of_next_frame()?,
        };
        if length == 0 {
            return Ok(None);
        }
        let end = self.given + length;
        part.clear();
        part.extend_from_slice(self.buffer.get(self.given..end).unwrap_or_default());
        self.given = end;
        let number = self.parts;
        self.parts += 1;
        Ok(Some(number))
    }

    fn length_of_next_frame(&mut self) -> Result<usize, FrameError> {
        let mut wanted = 1;
        loop {
            let available = self.fill_to(wanted)?;
            if available == 0 {
                return Ok(0);
            }
            if let Ok(length) = find_frame_compressed_size(self.buffer.get(self.given..).unwrap_or_default())
            {
                return Ok(length);
            }
            // Not a complete frame. A frame with at most one block is never longer than this.
            if self.left == 0 || available > compress_bound(BLOCK_BYTES) {
                return Err(damaged("its body is not a row of zstd frames of at most 256 KiB each"));
            }
            wanted = available + 1;
        }
    }

    /// Reads until at least `wanted` bytes are buffered or the body ends, and returns their number.
    fn fill_to(&mut self, wanted: usize) -> Result<usize, FrameError> {
        while self.buffer.len() - self.given < wanted && self.left > 0 {
            self.buffer.drain(..std::mem::take(&mut self.given));
            let before = self.buffer.len();
            let more = usize::try_from(self.left).unwrap_or(READ_BYTES).min(READ_BYTES);
            self.buffer.resize(before + more, 0);
            let room = self.buffer.get_mut(before..).unwrap_or_default();
            self.body.read_exact(room).map_err(FrameError::Read)?;
            sha2::Digest::update(&mut self.sha256, &*room);
            self.left -= more as u64;
        }
        Ok(self.buffer.len() - self.given)
    }

    fn digest(self) -> Digest {
        <[u8; 32]>::from(sha2::Digest::finalize(self.sha256)).into()
    }
}

/// The output of the original bytes, in order.
///
/// A thread that delivers a block while nobody writes becomes the writer, and writes until the next block is missing.
/// The other threads leave their blocks and continue to decode: to wake a thread for each block would cost more than
/// to write it.
struct Target<W> {
    state: Mutex<TargetState<W>>,
    progress: Condvar,
}

struct TargetState<W> {
    /// `None` while a thread is writing.
    writer: Option<Writer<W>>,
    /// Blocks that wait for earlier ones, by number.
    waiting: BTreeMap<usize, Vec<u8>>,
    /// Number of the next block to write.
    next: usize,
    /// Empty buffers for reuse.
    emptied: Vec<Vec<u8>>,
    /// `true` if a thread has failed.
    stopped: bool,
}

struct Writer<W> {
    sink: W,
    hasher: blake3::Hasher,
    /// Number of bytes that may still be written.
    left: u64,
}

impl<W: Write> Writer<W> {
    fn write(&mut self, block: &[u8]) -> Result<(), FrameError> {
        let left = self.left.checked_sub(block.len() as u64);
        self.left = left.ok_or_else(|| damaged("its body holds more than the size in its header"))?;
        self.hasher.update(block);
        self.sink.write_all(block).map_err(FrameError::Write)
    }
}

impl<W: Write> Target<W> {
    fn new(sink: W, original_size: u64) -> Self {
        let writer = Some(Writer { sink, hasher: blake3::Hasher::new(), left: original_size });
        let state =
            TargetState { writer, waiting: BTreeMap::new(), next: 0, emptied: Vec::new(), stopped: false };
        Self { state: Mutex::new(state), progress: Condvar::new() }
    }

    /// Writes the block, now or later, once all earlier ones are written. Blocks while too many earlier ones are
    /// missing, to bound memory. Returns an empty buffer; `None` if another thread has failed.
    fn put(&self, number: usize, block: Vec<u8>) -> Result<Option<Vec<u8>>, FrameError> {
        let mut state = self
            .progress
            .wait_while(hold(&self.state), |state| state.is_too_early_for(number) && !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return Ok(None);
        }
        state.waiting.insert(number, block);
        if let Some(mut writer) = state.writer.take() {
            while let Some(block) = state.take_next() {
                drop(state);
                writer.write(&block)?;
                state = hold(&self.state);
                state.emptied.push(block);
                self.progress.notify_all();
            }
            state.writer = Some(writer);
            self.progress.notify_all();
        }
        Ok(Some(state.emptied.pop().unwrap_or_default()))
    }

    fn stop_all_if_this_fails(&self, outcome: Result<(), FrameError>) -> Result<(), FrameError> {
        if outcome.is_err() {
            hold(&self.state).stopped = true;
            self.progress.notify_all();
        }
        outcome
    }

    fn finish(self) -> Result<Digest, FrameError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.writer {
            Some(writer) if writer.left == 0 => Ok((*writer.hasher.finalize().as_bytes()).into()),
            _ => Err(damaged("its body holds less than the size in its header")),
        }
    }
}

impl<W> TargetState<W> {
    fn is_too_early_for(&self, number: usize) -> bool {
        number > self.next + BLOCKS_AHEAD
    }

    fn take_next(&mut self) -> Option<Vec<u8>> {
        let block = self.waiting.remove(&self.next)?;
        self.next += 1;
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn few_blocks_wait_for_earlier_ones() {
        let target = Target::new(io::sink(), u64::MAX);
        for number in 1..=BLOCKS_AHEAD {
            assert!(!hold(&target.state).is_too_early_for(number));
            assert!(target.put(number, b"x".to_vec()).unwrap().is_some());
        }
        assert!(hold(&target.state).is_too_early_for(BLOCKS_AHEAD + 1), "although nobody writes");
        assert!(target.put(0, b"x".to_vec()).unwrap().is_some());
        assert!(hold(&target.state).waiting.is_empty());
        assert!(!hold(&target.state).is_too_early_for(BLOCKS_AHEAD * 2 + 1));
    }

    #[test]
    fn less_than_the_size_in_the_header_is_damage() {
        for (size, is_all) in [(2, true), (3, false)] {
            let target = Target::new(io::sink(), size);
            target.put(0, b"xx".to_vec()).unwrap();
            assert_eq!(target.finish().is_ok(), is_all, "{size}");
        }
    }

    #[test]
    fn an_early_block_waits_until_the_others_arrive_or_one_fails() {
        for fails in [false, true] {
            let target = Target::new(io::sink(), u64::MAX);
            thread::scope(|scope| {
                let early = scope.spawn(|| target.put(BLOCKS_AHEAD + 1, b"x".to_vec()));
                if fails {
                    assert!(target.stop_all_if_this_fails(Err(other_body())).is_err());
                } else {
                    assert!(target.put(0, b"x".to_vec()).unwrap().is_some());
                }
                assert_eq!(early.join().unwrap().unwrap().is_some(), !fails);
            });
        }
    }
}
