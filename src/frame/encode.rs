//! From a WAL file's bytes to an archived file's.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::{Mutex, mpsc};
use std::thread;

use bytes::Bytes;
use jiff::Timestamp;
use zstd::zstd_safe::CParameter;

use super::header::Measured;
use super::{BLOCK_BYTES, BodyCodec, Codec, Header};
use crate::wal::{SystemIdentifier, WalMagic, WalName};

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
/// Compresses on up to `threads` threads beside the caller's, which reads and hashes. Memory: the body, and three
/// blocks of 1 MiB and the codec's own tables for each thread.
pub fn encode(input: impl Read, facts: &Facts, codec: Codec, threads: NonZeroUsize) -> io::Result<Encoded> {
    let mut original = Hashed { input, hasher: blake3::Hasher::new(), bytes: 0 };
    let mut body = Body::default();
    let body_codec = match codec {
        Codec::None => {
            while let Some(block) = original.next_block(Vec::new())? {
                body.push(Bytes::from(block));
            }
            BodyCodec::None
        }
        Codec::Zstd(level) => {
            compress(&mut original, level.get(), threads, &mut body)?;
            BodyCodec::Zstd
        }
    };
    let measured = Measured {
        original_size: original.bytes,
        blake3: (*original.hasher.finalize().as_bytes()).into(),
        body_size: body.bytes,
        sha256: body.digest(),
    };
    let header = Header::new(facts, body_codec, measured);
    let mut chunks = vec![Bytes::from(header.to_bytes()?)];
    chunks.append(&mut body.chunks);
    Ok(Encoded { header, chunks })
}

/// The original bytes on their way in.
struct Hashed<R> {
    input: R,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<R: Read> Hashed<R> {
    /// The next block, in the given buffer; `None` at the end.
    fn next_block(&mut self, mut buffer: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        buffer.clear();
        buffer.reserve_exact(BLOCK_BYTES);
        (&mut self.input).take(BLOCK_BYTES as u64).read_to_end(&mut buffer)?;
        self.hasher.update(&buffer);
        self.bytes += buffer.len() as u64;
        Ok(if buffer.is_empty() { None } else { Some(buffer) })
    }
}

/// The body as it grows.
#[derive(Default)]
struct Body {
    chunks: Vec<Bytes>,
    bytes: u64,
    sha256: sha2::Sha256,
}

impl Body {
    fn push(&mut self, chunk: Bytes) {
        sha2::Digest::update(&mut self.sha256, &chunk);
        self.bytes += chunk.len() as u64;
        self.chunks.push(chunk);
    }

    fn digest(&self) -> super::Digest {
        let digest: [u8; 32] = sha2::Digest::finalize(self.sha256.clone()).into();
        digest.into()
    }
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

    fn compress(&mut self, block: &[u8]) -> io::Result<Bytes> {
        self.context.compress_to_buffer(block, &mut self.scratch)?;
        Ok(Bytes::copy_from_slice(&self.scratch))
    }
}

/// Compresses each block of `original` into a zstd frame of its own and appends them to `body` in order.
fn compress(
    original: &mut Hashed<impl Read>,
    level: i32,
    threads: NonZeroUsize,
    body: &mut Body,
) -> io::Result<()> {
    // A file of one block, as history files and 1 MB segments are, is done before a thread would have started.
    let first = original.next_block(Vec::new())?.unwrap_or_default();
    if first.len() < BLOCK_BYTES || threads.get() == 1 {
        return compress_alone(original, first, &mut Compressor::new(level)?, body);
    }
    // Made before the threads are, so that none of them can end early and leave the others waiting.
    let compressors = (0..threads.get()).map(|_| Compressor::new(level)).collect::<io::Result<Vec<_>>>()?;
    let (blocks, work) = mpsc::sync_channel::<(usize, Vec<u8>)>(threads.get());
    let work = Mutex::new(work);
    let (results, done) = mpsc::channel();
    thread::scope(|scope| {
        for compressor in compressors {
            let (work, results) = (&work, results.clone());
            scope.spawn(move || compress_blocks(compressor, work, &results));
        }
        drop(results);
        let mut finished = InOrder { body, waiting: Vec::new(), buffers: Vec::new() };
        let mut next = Some(first);
        let mut index = 0;
        while let Some(block) = next {
            if blocks.send((index, block)).is_err() {
                break; // cannot be: `work` outlives the threads
            }
            index += 1;
            while let Ok(result) = done.try_recv() {
                finished.take(result?);
            }
            next = original.next_block(finished.buffers.pop().unwrap_or_default())?;
        }
        drop(blocks);
        for result in done {
            finished.take(result?);
        }
        Ok(())
    })
}

fn compress_alone(
    original: &mut Hashed<impl Read>,
    first: Vec<u8>,
    compressor: &mut Compressor,
    body: &mut Body,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(block) = next {
        body.push(compressor.compress(&block)?);
        next = original.next_block(block)?;
    }
    Ok(())
}

/// A block's number, its zstd frame, and the buffer it came in, to be used again.
type Compressed = (usize, Bytes, Vec<u8>);

/// Takes blocks until there are no more, or nobody waits for their results any longer.
fn compress_blocks(
    mut compressor: Compressor,
    work: &Mutex<mpsc::Receiver<(usize, Vec<u8>)>>,
    results: &mpsc::Sender<io::Result<Compressed>>,
) {
    loop {
        // The lock is free again before the block is compressed. It cannot be poisoned: nothing in here panics.
        let Ok(Ok((index, block))) = work.lock().map(|receiver| receiver.recv()) else { return };
        let result = compressor.compress(&block).map(|frame| (index, frame, block));
        if results.send(result).is_err() {
            return;
        }
    }
}

/// Puts results that come in any order back into the order of their blocks.
struct InOrder<'a> {
    body: &'a mut Body,
    waiting: Vec<Option<Bytes>>,
    buffers: Vec<Vec<u8>>,
}

impl InOrder<'_> {
    fn take(&mut self, (index, frame, buffer): Compressed) {
        self.buffers.push(buffer);
        if self.waiting.len() <= index {
            self.waiting.resize(index + 1, None);
        }
        if let Some(place) = self.waiting.get_mut(index) {
            *place = Some(frame);
        }
        while let Some(frame) = self.waiting.get_mut(self.body.chunks.len()).and_then(Option::take) {
            self.body.push(frame);
        }
    }
}
