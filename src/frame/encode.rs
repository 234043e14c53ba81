//! From a WAL file's bytes to an archived file's.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use bytes::Bytes;
use jiff::Timestamp;
use zstd::zstd_safe::CParameter;

use super::header::Measured;
use super::{BLOCK_BYTES, BodyCodec, Codec, Header, hold};
use crate::wal::{SystemIdentifier, WalMagic, WalName};

/// The size to which the parts of a body are gathered, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// What the caller knows of a WAL file, and its header is to record.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its name.
    pub name: WalName,
    /// The cluster it comes from.
    pub system: SystemIdentifier,
    /// The magic of a segment's first page.
    pub wal_magic: Option<WalMagic>,
    /// The time to record.
    pub archived_at: Timestamp,
}

/// An archived file, ready to be stored.
#[derive(Debug)]
pub struct Encoded {
    /// What it says of itself.
    pub header: Header,
    /// Its bytes, in order.
    pub chunks: Vec<Bytes>,
}

impl Encoded {
    /// The size of the archived file in bytes.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

/// Makes the archived file of everything that `input` holds. It is read once, so that the digests are those of the
/// very bytes in the body.
///
/// Works on up to `threads` threads, the caller's among them. Memory: the body, and for each thread two blocks of
/// 256 KiB and the codec's own tables.
pub fn encode(
    input: impl Read + Send,
    facts: &Facts,
    codec: Codec,
    threads: NonZeroUsize,
) -> io::Result<Encoded> {
    let mut original = Original { input, hasher: blake3::Hasher::new(), bytes: 0, blocks: 0 };
    let (body_codec, body) = match codec {
        Codec::None => (BodyCodec::None, copy(&mut original)?),
        Codec::Zstd(level) => (BodyCodec::Zstd, compress(&mut original, level.get(), threads)?),
    };
    let measured = Measured {
        original_size: original.bytes,
        blake3: (*original.hasher.finalize().as_bytes()).into(),
        body_size: body.bytes,
        sha256: <[u8; 32]>::from(sha2::Digest::finalize(body.sha256.clone())).into(),
    };
    let header = Header::new(facts, body_codec, measured);
    let mut chunks = vec![Bytes::from(header.to_bytes()?)];
    chunks.extend(body.into_chunks());
    Ok(Encoded { header, chunks })
}

/// The original bytes on their way in.
struct Original<R> {
    input: R,
    hasher: blake3::Hasher,
    bytes: u64,
    blocks: usize,
}

impl<R: Read> Original<R> {
    /// Reads the next block into `buffer` and returns its number; `None` at the end.
    fn next_block(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        buffer.resize(BLOCK_BYTES, 0);
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.input.read(room) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        self.hasher.update(buffer);
        self.bytes += filled as u64;
        let number = self.blocks;
        self.blocks += 1;
        Ok((filled > 0).then_some(number))
    }
}

/// The body as it grows. Its parts may come in any order and are put back into that of their numbers.
#[derive(Default)]
struct Body {
    /// Few and large, because each is a system call when it is written.
    chunks: Vec<Bytes>,
    last: Vec<u8>,
    waiting: BTreeMap<usize, Vec<u8>>,
    next: usize,
    bytes: u64,
    sha256: sha2::Sha256,
}

impl Body {
    fn add(&mut self, number: usize, part: &[u8]) {
        if number != self.next {
            self.waiting.insert(number, part.to_vec());
            return;
        }
        self.append(part);
        while let Some(part) = self.waiting.remove(&self.next) {
            self.append(&part);
        }
    }

    fn append(&mut self, part: &[u8]) {
        sha2::Digest::update(&mut self.sha256, part);
        self.bytes += part.len() as u64;
        self.next += 1;
        if self.last.len() + part.len() > CHUNK_BYTES {
            self.chunks.push(Bytes::from(std::mem::take(&mut self.last)));
        }
        self.last.extend_from_slice(part);
    }

    fn into_chunks(mut self) -> Vec<Bytes> {
        self.chunks.push(Bytes::from(self.last));
        self.chunks
    }
}

fn copy(original: &mut Original<impl Read>) -> io::Result<Body> {
    let mut body = Body::default();
    let mut block = Vec::new();
    while let Some(number) = original.next_block(&mut block)? {
        body.add(number, &block);
    }
    Ok(body)
}

/// Makes a zstd frame of each block of `original`.
fn compress(
    original: &mut Original<impl Read + Send>,
    level: i32,
    threads: NonZeroUsize,
) -> io::Result<Body> {
    let mut body = Body::default();
    let mut block = Vec::new();
    let first = original.next_block(&mut block)?;
    // A file of one block, such as a history file, is done before a thread would have started.
    let threads = if block.len() < BLOCK_BYTES { 1 } else { threads.get() };
    let (shared_original, shared_body) = (Mutex::new(original), Mutex::new(&mut body));
    let compress_blocks = |mut next: Option<usize>, mut block: Vec<u8>| {
        let mut compressor = Compressor::new(level)?;
        while let Some(number) = next {
            let frame = compressor.compress(&block)?;
            hold(&shared_body).add(number, frame);
            // Whoever is free takes the next block. Reading and hashing it under the lock keeps the blocks in order,
            // and takes so much less time than compressing it that nobody waits for long.
            next = hold(&shared_original).next_block(&mut block)?;
        }
        Ok(())
    };
    let take_first = || {
        let mut block = Vec::new();
        let next = hold(&shared_original).next_block(&mut block)?;
        compress_blocks(next, block)
    };
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(take_first)).collect();
        let ours = compress_blocks(first, block);
        helpers.into_iter().fold(ours, |outcome, helper| {
            outcome
                .and(helper.join().unwrap_or_else(|_| Err(io::Error::other("a compressing thread failed"))))
        })
    })?;
    Ok(body)
}

/// One compressor with its tables and scratch space, used for one block after the other.
struct Compressor {
    context: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

impl Compressor {
    fn new(level: i32) -> io::Result<Self> {
        let mut context = zstd::bulk::Compressor::new(level)?;
        // Lets `zstd -d` notice damage by itself when someone restores without walkeep.
        context.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self { context, scratch: Vec::with_capacity(zstd::zstd_safe::compress_bound(BLOCK_BYTES)) })
    }

    fn compress(&mut self, block: &[u8]) -> io::Result<&[u8]> {
        self.context.compress_to_buffer(block, &mut self.scratch)?;
        Ok(&self.scratch)
    }
}
