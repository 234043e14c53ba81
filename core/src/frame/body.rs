//! The body of an archived file while it grows: in memory if it is small, otherwise in a file of the caller's.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

use super::{Digest, EncodeError, hold};

/// Size of the chunks in which a body is collected, in bytes. Few large chunks, because each is one system call to
/// write.
const CHUNK_BYTES: usize = 1 << 20;

/// Maximum number of blocks that wait for earlier ones.
const BLOCKS_AHEAD: usize = 8;

/// The bytes of an archived file, in order. Clones share them, so that they can be sent again.
#[derive(Debug)]
pub enum Content<F> {
    /// All bytes, in memory.
    Memory(Vec<Bytes>),
    /// A body that exceeds the memory limit.
    Overflow {
        /// The header of the archived file.
        head: Bytes,
        /// File with the body, from its first byte.
        file: Arc<F>,
        /// Size of the body in bytes.
        bytes: u64,
    },
}

impl<F> Content<F> {
    /// Returns the size of the archived file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(chunks) => chunks.iter().map(|chunk| chunk.len() as u64).sum(),
            Self::Overflow { head, bytes, .. } => head.len() as u64 + bytes,
        }
    }
}

/// Not derived, because `F` need not be `Clone`.
impl<F> Clone for Content<F> {
    fn clone(&self) -> Self {
        match self {
            Self::Memory(chunks) => Self::Memory(chunks.clone()),
            Self::Overflow { head, file, bytes } => {
                Self::Overflow { head: head.clone(), file: Arc::clone(file), bytes: *bytes }
            }
        }
    }
}

/// Where to spill a body that is too large for memory.
#[derive(Debug, Clone, Copy)]
pub struct Overflow<O> {
    /// Maximum size of a body in memory, in bytes. A larger body goes to the file completely.
    pub beyond: u64,
    /// Creates the file, once it is needed. It is written from its start, by one thread at a time.
    pub open: O,
}

impl Overflow<fn() -> io::Result<io::Sink>> {
    /// Creates an overflow that is never used: the whole body stays in memory.
    #[must_use]
    pub fn never() -> Self {
        Self { beyond: u64::MAX, open: || Ok(io::sink()) }
    }
}

/// The body. Several threads may add its parts in any order; they are sorted by their numbers.
pub(super) struct Body<F, O> {
    state: Mutex<State<F, O>>,
    progress: Condvar,
}

struct State<F, O> {
    kept: Kept<F, O>,
    sha256: sha2::Sha256,
    bytes: u64,
    /// Parts that wait for earlier ones, by number.
    waiting: BTreeMap<usize, Vec<u8>>,
    /// Number of the next part to append.
    next: usize,
    /// `true` if a thread has failed.
    stopped: bool,
}

/// A finished body with its size and digest.
pub(super) struct Finished<F> {
    pub(super) bytes: u64,
    pub(super) sha256: Digest,
    kept: KeptAll<F>,
}

enum KeptAll<F> {
    Memory(Vec<Bytes>),
    File(F),
}

impl<F> Finished<F> {
    /// Returns the archived file that consists of `head` and this body.
    pub(super) fn behind(self, head: Bytes) -> Content<F> {
        match self.kept {
            KeptAll::Memory(chunks) => Content::Memory([vec![head], chunks].concat()),
            KeptAll::File(file) => Content::Overflow { head, file: Arc::new(file), bytes: self.bytes },
        }
    }
}

impl<F: Write, O: FnOnce() -> io::Result<F>> Body<F, O> {
    pub(super) fn new(overflow: Overflow<O>) -> Self {
        let Overflow { beyond, open } = overflow;
        let kept =
            Kept { chunks: Vec::new(), last: Vec::new(), in_memory: 0, beyond, open: Some(open), file: None };
        let (sha256, waiting) = (sha2::Sha256::default(), BTreeMap::new());
        let state = State { kept, sha256, bytes: 0, waiting, next: 0, stopped: false };
        Self { state: Mutex::new(state), progress: Condvar::new() }
    }

    /// Appends part `number` once all earlier ones are appended. Blocks while too many earlier ones are missing, to
    /// bound memory. Returns `false` if another thread has failed.
    pub(super) fn add(&self, number: usize, part: &[u8]) -> Result<bool, EncodeError> {
        let mut state = self
            .progress
            .wait_while(hold(&self.state), |state| state.is_too_early_for(number) && !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return Ok(false);
        }
        if number == state.next {
            state.append(part).map_err(EncodeError::Overflow)?;
            while let Some(part) = state.take_next() {
                state.append(&part).map_err(EncodeError::Overflow)?;
            }
            self.progress.notify_all();
        } else {
            state.waiting.insert(number, part.to_vec());
        }
        Ok(true)
    }

    /// Makes the other threads stop if `outcome` is an error.
    pub(super) fn stop_all_if_this_fails(&self, outcome: Result<(), EncodeError>) -> Result<(), EncodeError> {
        if outcome.is_err() {
            hold(&self.state).stopped = true;
            self.progress.notify_all();
        }
        outcome
    }

    pub(super) fn finish(self) -> Result<Finished<F>, EncodeError> {
        let State { kept, sha256, bytes, .. } =
            self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sha256 = <[u8; 32]>::from(sha2::Digest::finalize(sha256)).into();
        Ok(Finished { bytes, sha256, kept: kept.finish().map_err(EncodeError::Overflow)? })
    }
}

impl<F: Write, O: FnOnce() -> io::Result<F>> State<F, O> {
    fn is_too_early_for(&self, number: usize) -> bool {
        number > self.next + BLOCKS_AHEAD
    }

    fn take_next(&mut self) -> Option<Vec<u8>> {
        self.waiting.remove(&self.next)
    }

    fn append(&mut self, part: &[u8]) -> io::Result<()> {
        sha2::Digest::update(&mut self.sha256, part);
        self.bytes += part.len() as u64;
        self.next += 1;
        self.kept.append(part)
    }
}

/// Storage of the body.
struct Kept<F, O> {
    chunks: Vec<Bytes>,
    last: Vec<u8>,
    /// Size of `chunks` in bytes.
    in_memory: u64,
    beyond: u64,
    open: Option<O>,
    /// The overflow file, once created. It then contains all but `last`.
    file: Option<F>,
}

impl<F: Write, O: FnOnce() -> io::Result<F>> Kept<F, O> {
    fn append(&mut self, part: &[u8]) -> io::Result<()> {
        if self.last.len() + part.len() > CHUNK_BYTES {
            self.put_last_away()?;
        }
        self.last.extend_from_slice(part);
        Ok(())
    }

    fn put_last_away(&mut self) -> io::Result<()> {
        if self.in_memory + self.last.len() as u64 > self.beyond
            && let Some(open) = self.open.take()
        {
            let file = self.file.insert(open()?);
            for chunk in std::mem::take(&mut self.chunks) {
                file.write_all(&chunk)?;
            }
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.last)?;
            self.last.clear();
        } else {
            self.in_memory += self.last.len() as u64;
            self.chunks.push(Bytes::from(std::mem::take(&mut self.last)));
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<KeptAll<F>> {
        self.put_last_away()?;
        match self.file {
            None => Ok(KeptAll::Memory(self.chunks)),
            Some(mut file) => file.flush().map(|()| KeptAll::File(file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const PART: usize = 300 << 10;

    fn part(number: usize) -> Vec<u8> {
        vec![u8::try_from(number).unwrap(); PART]
    }

    /// Builds a body of `parts` parts, added in reverse within pairs, and counts the files created.
    fn finished(parts: usize, beyond: u64) -> (Content<Vec<u8>>, Finished<Vec<u8>>, usize) {
        let made = Cell::new(0);
        let open = || {
            made.set(made.get() + 1);
            Ok(Vec::new())
        };
        let build = || {
            let body = Body::new(Overflow { beyond, open: &open });
            for pair in (0..parts).collect::<Vec<_>>().chunks(2) {
                for number in pair.iter().rev() {
                    assert!(body.add(*number, &part(*number)).unwrap());
                }
            }
            body.finish().unwrap()
        };
        let content = build().behind(Bytes::from_static(b"head"));
        let made = made.get();
        (content, build(), made)
    }

    #[test]
    fn a_body_above_the_memory_limit_is_completely_in_the_file() {
        let all: Vec<u8> = (0..9).flat_map(part).collect();
        let size = all.len() as u64;
        for (beyond, spills) in [(u64::MAX, 0), (size, 0), (size - 1, 1), (1 << 20, 1), (0, 1)] {
            let (content, finished, made) = finished(9, beyond);
            assert_eq!(made, spills, "{beyond}");
            assert_eq!((content.size(), finished.bytes), (size + 4, size), "{beyond}");
            assert_eq!(finished.sha256, Digest::sha256(&all), "{beyond}");
            match content {
                Content::Memory(chunks) => {
                    assert_eq!(spills, 0);
                    assert!(chunks.concat() == [&b"head"[..], &all].concat(), "{beyond}");
                    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES), "{beyond}");
                }
                Content::Overflow { head, file, bytes } => {
                    assert_eq!((spills, &head[..], bytes), (1, &b"head"[..], size), "{beyond}");
                    assert!(*file == all, "{beyond}");
                }
            }
        }
    }

    #[test]
    fn a_chunk_takes_as_many_parts_as_fit() {
        for (part, expected) in
            [(PART, [3 * PART, 3 * PART, 2 * PART]), (CHUNK_BYTES / 4, [CHUNK_BYTES, CHUNK_BYTES, 0])]
        {
            let body = Body::new(Overflow::never());
            for number in 0..8 {
                assert!(body.add(number, &vec![0; part]).unwrap());
            }
            let Content::Memory(chunks) = body.finish().unwrap().behind(Bytes::new()) else {
                panic!("in a file")
            };
            let lengths: Vec<usize> = chunks.iter().skip(1).map(Bytes::len).collect();
            assert_eq!(lengths, expected.into_iter().filter(|length| *length > 0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_empty_body_needs_no_file() {
        let (content, finished, made) = finished(0, 0);
        assert_eq!((content.size(), finished.bytes, made), (4, 0, 0));
    }

    #[test]
    fn few_parts_wait_for_earlier_ones() {
        let body = Body::new(Overflow::never());
        for number in 1..=BLOCKS_AHEAD {
            assert!(!hold(&body.state).is_too_early_for(number));
            assert!(body.add(number, b"x").unwrap());
        }
        assert!(hold(&body.state).is_too_early_for(BLOCKS_AHEAD + 1));
        assert!(body.add(0, b"x").unwrap());
        assert!(hold(&body.state).waiting.is_empty());
        assert!(!hold(&body.state).is_too_early_for(BLOCKS_AHEAD * 2 + 1));
    }

    #[test]
    fn an_early_part_waits_until_the_others_arrive_or_one_fails() {
        for fails in [false, true] {
            let body = Body::new(Overflow::never());
            std::thread::scope(|scope| {
                let early = scope.spawn(|| body.add(BLOCKS_AHEAD + 1, b"x"));
                if fails {
                    let failure = Err(EncodeError::Input(io::Error::other("x")));
                    assert!(body.stop_all_if_this_fails(failure).is_err());
                } else {
                    assert!(body.add(0, b"x").unwrap());
                }
                assert_eq!(early.join().unwrap().unwrap(), !fails);
            });
        }
    }

    #[test]
    fn a_failing_overflow_file_is_distinguished_from_a_failing_input() {
        /// A writer that fails as a full disk does.
        struct Full;

        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        for open in [|| Ok(Full), || Err(io::ErrorKind::StorageFull.into())] {
            let body = Body::new(Overflow { beyond: 0, open });
            let outcome = (0..9).try_for_each(|number| body.add(number, &part(number)).map(drop));
            assert!(matches!(outcome, Err(EncodeError::Overflow(_))), "{outcome:?}");
        }
    }
}
