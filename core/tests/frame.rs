//! Round trip of archived files: exactly the original bytes, or an error.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashSet;
use std::io::{self, Cursor, Read, Write};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use proptest::prelude::*;
use walkeep_core::frame::{
    Archived, Codec, Content, Digest, FrameError, Header, HeaderFields, Level, Overflow, encode,
};
use walkeep_core::wal::{SystemIdentifier, WalMagic, WalName};

const SEGMENT: &str = "000000010000000000000001";
const HISTORY: &str = "00000002.history";

fn archived(name: &str, original: &[u8], codec: Codec, threads: usize) -> Vec<u8> {
    let name: WalName = name.parse().unwrap();
    let fields = HeaderFields {
        name,
        system: SystemIdentifier::new(7_381_092_445_103_374_871).unwrap(),
        wal_magic: name.segment().map(|_| WalMagic(0xD110)),
        archived_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        host: None,
    };
    let threads = NonZeroUsize::new(threads).unwrap();
    let content = encode(original, &fields, codec, threads, Overflow::never()).unwrap().content;
    let size = content.size();
    let Content::Memory(chunks) = content else { panic!("it is not in memory") };
    let bytes = chunks.concat();
    assert_eq!(size, bytes.len() as u64);
    // The same bytes, in memory and in a file.
    let in_a_file = Overflow { beyond: 0, open: || Ok(Vec::new()) };
    match encode(original, &fields, codec, threads, in_a_file).unwrap().content {
        Content::Overflow { head, file, .. } => assert!([&head, &file[..]].concat() == bytes),
        Content::Memory(chunks) => assert!(original.is_empty() && chunks.concat() == bytes),
    }
    bytes
}

fn decoded(file: &[u8]) -> Result<(Header, Vec<u8>), FrameError> {
    let mut original = Vec::new();
    let header = Archived::open(file, file.len() as u64)?.decode(&mut original)?;
    Ok((header, original))
}

fn zstd(level: i64) -> Codec {
    Codec::Zstd(Level::new(level).unwrap())
}

/// Generates bytes that compress about as well as WAL: runs, repeats and noise.
fn wal_like(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut content = Vec::with_capacity(bytes + 64);
    while content.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = usize::try_from(state >> 58).unwrap() + 1;
        match state >> 56 & 3 {
            0 => content.extend(vec![0; length * 8]),
            1 => content.extend(state.to_le_bytes()),
            _ => {
                let from = usize::try_from(state >> 20).unwrap() % (content.len() + 1);
                content.extend_from_within(from..content.len().min(from + length));
            }
        }
    }
    content.truncate(bytes);
    content
}

#[test]
fn small_and_usual_segments_survive_the_round_trip() {
    for (megabytes, codec, threads) in [
        (1, zstd(1), 1),
        (1, Codec::None, 4),
        (2, zstd(-7), 2),
        (16, zstd(1), 2),
        (16, Codec::None, 1),
        (64, zstd(1), 5),
    ] {
        let original = wal_like(megabytes << 20, megabytes as u64);
        let file = archived(SEGMENT, &original, codec, threads);
        let (header, back) = decoded(&file).unwrap();
        assert!(back == original, "{megabytes} MB, {codec}");
        assert_eq!(header.original_size, original.len() as u64);
        assert_eq!(header.name.to_string(), SEGMENT);
        assert_eq!(header.blake3.to_string(), blake3::hash(&original).to_string());
    }
}

#[test]
fn an_empty_file_survives_the_round_trip() {
    for codec in [zstd(1), Codec::None] {
        let file = archived(HISTORY, b"", codec, 1);
        assert_eq!((file.len(), decoded(&file).unwrap().1), (1024, Vec::new()), "{codec}");
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let original = wal_like(16 << 20, 7);
    let alone = archived(SEGMENT, &original, zstd(1), 1);
    for threads in 2..6 {
        assert!(archived(SEGMENT, &original, zstd(1), threads) == alone, "{threads} threads");
    }
}

#[test]
fn the_highest_level_fits_the_readers_window() {
    let original = wal_like(1 << 20, 3);
    assert!(decoded(&archived(SEGMENT, &original, zstd(19), 2)).unwrap().1 == original);
}

#[test]
fn every_flipped_bit_of_a_file_is_detected() {
    let original = b"1\t0/3000000\tno recovery target specified\n";
    for codec in [zstd(1), Codec::None] {
        let file = archived(HISTORY, original, codec, 1);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                assert!(decoded(&changed).is_err(), "bit {bit} of byte {at}, {codec}");
            }
        }
    }
}

#[test]
fn every_cut_and_extended_file_is_damage() {
    let file = archived(HISTORY, b"1\t0/3000000\tno recovery target specified\n", zstd(1), 1);
    let is_damage = |file: &[u8]| matches!(decoded(file), Err(FrameError::Damaged(_)));
    for length in 0..file.len() {
        assert!(is_damage(&file[..length]), "cut to {length}");
    }
    for more in [&b"\0"[..], b"\n", &file] {
        assert!(is_damage(&[&file, more].concat()), "extended by {} bytes", more.len());
    }
}

#[test]
fn a_file_of_something_else_is_told_from_one_that_was_cut() {
    let said = |file: &[u8]| decoded(file).unwrap_err().to_string();
    assert_eq!(said(b"1\t0/3000"), "it is damaged: it does not begin with walkeep's header");
    assert_eq!(said(b"1\t0/300"), "it is damaged: it ends inside its header, at 7 bytes");
}

/// Creates the file of [`archived`] with another body and a header with that body's length and digest.
fn forged(original_size: usize, body: &[u8], codec: Codec) -> Vec<u8> {
    let template = archived(SEGMENT, &vec![0; original_size], codec, 1);
    let header = String::from_utf8(template[8..1024 - 66].to_vec()).unwrap();
    let template_body = &template[1024..];
    let header = header
        .trim_end()
        .replace(&format!("\"body_size\":{}", template_body.len()), &format!("\"body_size\":{}", body.len()))
        .replace(&sha256(template_body), &sha256(body));
    let mut file = template[..8].to_vec();
    file.extend(format!("{header:<width$}", width = 1024 - 66 - 8).bytes());
    file.push(b'\n');
    let seal = sha256(&file);
    file.extend(format!("{seal}\n").bytes());
    file.extend(body);
    file
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    Digest::from(<[u8; 32]>::from(sha2::Sha256::digest(bytes))).to_string()
}

/// Maximum size of a frame.
const BLOCK: usize = 256 << 10;

/// Encodes a well-formed body of these bytes.
fn frames(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(BLOCK).flat_map(|block| compressed(block, 18)).collect()
}

/// Encodes one frame of these bytes.
fn compressed(bytes: impl Read, window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window_log).unwrap();
    io::copy(&mut { bytes }, &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// A writer that counts bytes.
struct Counter(u64);

impl Write for &mut Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_forged_body_decodes_to_no_more_than_the_size_in_the_header() {
    // 64 MiB of zeros in some 2 kB, with the size of a segment of 1 MiB in the header.
    let one_frame = compressed(io::repeat(0).take(64 << 20), 19);
    let many_frames = frames(&vec![0; BLOCK]).repeat(256);
    for body in [one_frame, many_frames] {
        let bomb = forged(1 << 20, &body, zstd(1));
        let mut counter = Counter(0);
        let outcome = Archived::open(&bomb[..], bomb.len() as u64).unwrap().decode(&mut counter);
        assert!(matches!(outcome, Err(FrameError::Damaged(_))), "{outcome:?}");
        assert!(counter.0 <= 1 << 20, "{}", counter.0);
    }
}

#[test]
fn a_frame_of_more_than_a_block_is_refused_before_it_takes_memory() {
    let zeros = |bytes| io::repeat(0).take(bytes);
    for (bytes, window_log) in [(1 << 20, 20), (BLOCK as u64 + 1, 18), (1 << 20, 27)] {
        let error = decoded(&forged(1 << 20, &compressed(zeros(bytes), window_log), zstd(1))).unwrap_err();
        assert!(matches!(error, FrameError::Damaged(_)), "{error:?}");
    }
    assert!(decoded(&forged(1 << 20, &compressed(zeros(BLOCK as u64), 18).repeat(4), zstd(1))).is_ok());
}

#[test]
fn a_frame_that_never_ends_is_refused_after_no_more_bytes_than_a_block_can_have() {
    struct Counted<'a>(&'a [u8], &'a AtomicUsize);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let got = self.0.read(buffer)?;
            self.1.fetch_add(got, Ordering::Relaxed);
            Ok(got)
        }
    }
    let mut state = 1u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    let noise: Vec<u8> = noise.take(4 << 20).collect();
    let file = forged(4 << 20, &compressed(&noise[..], 22), zstd(1));
    let read = AtomicUsize::new(0);
    let archived = Archived::open(Counted(&file, &read), file.len() as u64).unwrap();
    assert!(matches!(archived.decode(io::sink()), Err(FrameError::Damaged(_))));
    let read = read.into_inner();
    assert!(read < 2 * BLOCK && file.len() > 4 << 20, "{read} of {}", file.len());
}

#[test]
fn a_body_that_decodes_to_other_content_is_damage() {
    let zeros = vec![0; 1 << 20];
    let mut ones = zeros.clone();
    ones[77] = 1;
    let sound = forged(1 << 20, &frames(&zeros), zstd(1));
    assert!(decoded(&sound).is_ok(), "the forgery itself is well-formed");
    for body in [
        frames(&ones),
        frames(&zeros[..zeros.len() - 1]),
        [frames(&zeros), frames(&ones[..1])].concat(),
        frames(&zeros)[..50].to_vec(),
        Vec::new(),
        b"no zstd".to_vec(),
    ] {
        let outcome = decoded(&forged(1 << 20, &body, zstd(1)));
        assert!(matches!(outcome, Err(FrameError::Damaged(_))), "{outcome:?}");
    }
}

#[test]
fn a_body_is_checked_without_what_it_decodes_to() {
    let stands_for_nothing = forged(1 << 20, b"no zstd", zstd(1));
    let checked = |file: &[u8]| Archived::open(file, file.len() as u64).unwrap().check_body();
    assert_eq!(checked(&stands_for_nothing).unwrap().body_size, 7);
    let mut file = archived(SEGMENT, &wal_like(1 << 20, 5), zstd(1), 1);
    assert!(checked(&file).is_ok());
    *file.last_mut().unwrap() ^= 1;
    assert!(matches!(checked(&file), Err(FrameError::Damaged(_))));
}

#[test]
fn on_one_thread_the_caller_alone_reads_and_writes() {
    struct Watched<'a, T>(T, &'a Mutex<HashSet<ThreadId>>);
    impl<R: Read> Read for Watched<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1.lock().unwrap().insert(thread::current().id());
            // Another thread would get its turn.
            thread::yield_now();
            self.0.read(buffer)
        }
    }
    impl Write for Watched<'_, io::Sink> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.lock().unwrap().insert(thread::current().id());
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let file = archived(SEGMENT, &wal_like(16 << 20, 5), Codec::None, 1);
    let seen = Mutex::default();
    let archived = Archived::open(Watched(&file[..], &seen), file.len() as u64).unwrap().on_one_thread();
    archived.decode(Watched(io::sink(), &seen)).unwrap();
    assert_eq!(seen.into_inner().unwrap(), HashSet::from([thread::current().id()]));
}

/// A reader that ends or fails after some bytes.
struct Failing<R>(R, Option<io::ErrorKind>);

impl<R: Read> Read for Failing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.0.read(buffer)?, self.1) {
            (0, Some(kind)) => Err(kind.into()),
            (got, _) => Ok(got),
        }
    }
}

#[test]
fn a_failing_read_is_not_damage() {
    let file = archived(SEGMENT, &wal_like(1 << 20, 5), zstd(1), 1);
    for (length, kind) in [(5, None), (900, None), (2000, None), (2000, Some(io::ErrorKind::ConnectionReset))]
    {
        let source = Failing(Cursor::new(&file[..length]), kind);
        let outcome = Archived::open(source, file.len() as u64).and_then(|a| a.decode(io::sink()));
        assert!(matches!(outcome, Err(FrameError::Read(_))), "{length}: {outcome:?}");
    }
}

#[test]
fn a_failing_write_is_an_error_of_its_own_and_ends_the_decoding() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let file = archived(SEGMENT, &wal_like(16 << 20, 5), zstd(1), 2);
    let outcome = Archived::open(&file[..], file.len() as u64).unwrap().decode(Full);
    assert!(matches!(outcome, Err(FrameError::Write(_))), "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_content_survives_the_round_trip(content in prop::collection::vec(any::<u8>(), 0..5000), level in -7i64..=19) {
        let file = archived(HISTORY, &content, zstd(level), 2);
        prop_assert_eq!(decoded(&file).unwrap().1, content);
    }

    #[test]
    fn a_flipped_byte_of_a_segment_is_detected(seed: u64, at: prop::sample::Index, mask in 1u8..) {
        let mut file = archived(SEGMENT, &wal_like(2 << 20, seed), zstd(1), 2);
        let at = at.index(file.len());
        file[at] ^= mask;
        prop_assert!(decoded(&file).is_err(), "byte {}", at);
    }

    #[test]
    fn a_cut_or_extended_segment_is_detected(seed: u64, at: prop::sample::Index, more in prop::collection::vec(any::<u8>(), 1..9)) {
        let file = archived(SEGMENT, &wal_like(1 << 20, seed), zstd(1), 1);
        prop_assert!(decoded(&file[..at.index(file.len())]).is_err());
        prop_assert!(decoded(&[file, more].concat()).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        prop_assert!(decoded(&bytes).is_err());
        let with_magic = [&0x184D_2A57u32.to_le_bytes()[..], &bytes].concat();
        prop_assert!(decoded(&with_magic).is_err());
    }
}
