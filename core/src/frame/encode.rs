//! Encoder: from a WAL file's bytes to an archived file's.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use bytes::Bytes;
use jiff::Timestamp;
use zstd::zstd_safe::CParameter;

use super::body::{Body, Content, Overflow};
use super::header::Measured;
use super::{BLOCK_BYTES, BodyCodec, Codec, EncodeError, Header, HostName, hold};
use crate::wal::{SystemIdentifier, WalMagic, WalName};

/// Facts about a WAL file that its header records and only the caller knows.
#[derive(Debug, Clone)]
pub struct HeaderFields {
    /// Name of the WAL file.
    pub name: WalName,
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Magic number of a segment's first page.
    pub wal_magic: Option<WalMagic>,
    /// Time of archiving.
    pub archived_at: Timestamp,
    /// Host that archives it, if known.
    pub host: Option<HostName>,
}

/// An archived file, ready to be stored.
#[derive(Debug)]
pub struct Encoded<F> {
    /// Header of the file.
    pub header: Header,
    /// Bytes of the file, header included.
    pub content: Content<F>,
}

/// Encodes the WAL file read from `input`. Reads it once, so the digests describe exactly the bytes in the body.
///
/// Uses up to `threads` threads, the caller's included. Memory: the body up to the limit in `overflow`; two blocks of
/// 256 KiB and the codec's tables for each thread; and a few blocks that wait for earlier ones.
pub fn encode<F: Write + Send>(
    input: impl Read + Send,
    fields: &HeaderFields,
    codec: Codec,
    threads: NonZeroUsize,
    overflow: Overflow<impl FnOnce() -> io::Result<F> + Send>,
) -> Result<Encoded<F>, EncodeError> {
    let mut original = Original { input, hasher: blake3::Hasher::new(), bytes: 0, blocks: 0 };
    let body = Body::new(overflow);
    let body_codec = match codec {
        Codec::None => copy(&mut original, &body).map(|()| BodyCodec::None)?,
        Codec::Zstd(level) => {
            compress(&mut original, &body, level.get(), threads).map(|()| BodyCodec::Zstd)?
        }
    };
    let body = body.finish()?;
    let measured = Measured {
        original_size: original.bytes,
        blake3: (*original.hasher.finalize().as_bytes()).into(),
        body_size: body.bytes,
        sha256: body.sha256,
    };
    let header = Header::new(fields, body_codec, measured);
    let head = Bytes::from(header.to_bytes().map_err(io::Error::from)?);
    Ok(Encoded { header, content: body.behind(head) })
}

/// The input, with the digest of the bytes read so far.
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

fn copy<F: Write, O: FnOnce() -> io::Result<F>>(
    original: &mut Original<impl Read>,
    body: &Body<F, O>,
) -> Result<(), EncodeError> {
    let mut block = Vec::new();
    while let Some(number) = original.next_block(&mut block)? {
        body.add(number, &block)?;
    }
    Ok(())
}

/// Compresses each block of `original` into a zstd frame of its own.
fn compress<F: Write + Send, O: FnOnce() -> io::Result<F> + Send>(
    original: &mut Original<impl Read + Send>,
    body: &Body<F, O>,
    level: i32,
    threads: NonZeroUsize,
) -> Result<(), EncodeError> {
    let mut block = Vec::new();
    let first = original.next_block(&mut block)?;
    // A file of one block, such as a history file, is done before another thread would have started.
    let threads = if block.len() < BLOCK_BYTES { 1 } else { threads.get() };
    let original = Mutex::new(original);
    let compress_blocks = |mut next: Option<usize>, mut block: Vec<u8>| {
        let mut compressor = Compressor::new(level)?;
        while let Some(number) = next {
            let frame = compressor.compress(&block)?;
            if !body.add(number, frame)? {
                break;
            }
            // Reading and hashing under the lock keeps the blocks in order. Both take so much less time than
            // compression that no thread waits for long.
            next = hold(&original).next_block(&mut block)?;
        }
        Ok(())
    };
    let take_first = || {
        let mut block = Vec::new();
        let next = hold(&original).next_block(&mut block)?;
        compress_blocks(next, block)
    };
    thread::scope(|scope| {
        let help = || body.stop_all_if_this_fails(take_first());
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(help)).collect();
        let ours = body.stop_all_if_this_fails(compress_blocks(first, block));
        helpers.into_iter().fold(ours, |outcome, helper| {
            let theirs =
                helper.join().unwrap_or_else(|_| Err(io::Error::other("a compressing thread failed").into()));
            outcome.and(theirs)
        })
    })
}

/// A compressor with its tables and scratch space, reused for all blocks of a thread.
struct Compressor {
    context: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

impl Compressor {
    fn new(level: i32) -> io::Result<Self> {
        let mut context = zstd::bulk::Compressor::new(level)?;
        // Lets `zstd -d` detect damage when someone restores without walkeep.
        context.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self { context, scratch: Vec::with_capacity(zstd::zstd_safe::compress_bound(BLOCK_BYTES)) })
    }

    fn compress(&mut self, block: &[u8]) -> io::Result<&[u8]> {
        self.context.compress_to_buffer(block, &mut self.scratch)?;
        Ok(&self.scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader whose reads end in turn as the list says: with that many bytes, or an error.
    struct Reads(Vec<Result<usize, io::ErrorKind>>);

    impl Read for Reads {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let got = self.0.remove(0)?;
            buffer[..got].fill(b'x');
            Ok(got)
        }
    }

    fn encoded(reads: &[Result<usize, io::ErrorKind>]) -> Result<Header, EncodeError> {
        let fields = HeaderFields {
            name: "00000002.history".parse().unwrap(),
            system: SystemIdentifier::new(7).unwrap(),
            wal_magic: None,
            archived_at: Timestamp::UNIX_EPOCH,
            host: None,
        };
        let one = NonZeroUsize::MIN;
        encode(Reads(reads.to_vec()), &fields, Codec::None, one, Overflow::never()).map(|file| file.header)
    }

    #[test]
    fn a_read_that_a_signal_interrupts_is_repeated_and_any_other_failure_is_one() {
        let interrupted = Err(io::ErrorKind::Interrupted);
        let whole = encoded(&[Ok(10), interrupted, interrupted, Ok(7)]).unwrap();
        assert_eq!(whole.original_size, 17);
        assert_eq!(whole.blake3, (*blake3::hash(&[b'x'; 17]).as_bytes()).into());
        let failed = encoded(&[Ok(10), Err(io::ErrorKind::StaleNetworkFileHandle), Ok(7)]);
        assert!(matches!(failed, Err(EncodeError::Input(_))), "{failed:?}");
    }
}
