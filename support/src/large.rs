//! Segments too large for memory, also in tests: they are written and compared in pieces.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    data_directory::{DataDirectory, long_header},
    user,
};

/// Size of the smallest segment whose compressed data exceeds a push's memory limit.
pub const LARGE: u64 = 128 << 20;

/// Size of the largest segment of PostgreSQL.
pub const LARGEST: u64 = 1 << 30;

/// Writes an incompressible segment of `bytes` bytes into the `pg_wal` of a cluster with that segment size; the
/// content depends on `seed`.
pub fn segment_of(data: &DataDirectory, system: u64, name: &str, bytes: u64, seed: u64) -> PathBuf {
    let path = data.join(&format!("pg_wal/{name}"));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    let header = long_header(name, system, bytes);
    file.write_all(&header).unwrap();
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut left = bytes - header.len() as u64;
    while left > 0 {
        // xorshift*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let noise = state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
        let part = &noise[..usize::try_from(left.min(8)).unwrap()];
        file.write_all(part).unwrap();
        left -= part.len() as u64;
    }
    drop(file.into_inner().unwrap());
    user::hand_over(&path);
    data.set_segment_bytes(bytes);
    path
}

/// Returns the name of segment `number`.
pub fn name(number: u64) -> String {
    format!("0000000100000000{number:08X}")
}

/// Does the same as [`segment_of`] for the numbers from 1 on, and marks them as ready.
pub fn make_ready(data: &DataDirectory, system: u64, count: u64, bytes: u64) {
    let status = data.join("pg_wal/archive_status");
    fs::create_dir(&status).unwrap();
    user::hand_over(&status);
    for number in 1..=count {
        segment_of(data, system, &name(number), bytes, number);
        data.file(&format!("pg_wal/archive_status/{}.ready", name(number)), "");
    }
}

/// Returns `true` if two files have the same content.
pub fn same_content(one: &Path, other: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    if length(one) != length(other) {
        return false;
    }
    let mut readers = [one, other].map(|path| BufReader::with_capacity(1 << 20, File::open(path).unwrap()));
    let mut pieces = [vec![0; 1 << 20], vec![0; 1 << 20]];
    loop {
        let [one, other] = &mut readers;
        let read = one.read(&mut pieces[0]).unwrap();
        if read == 0 {
            return true;
        }
        let (left, right) = pieces.split_at_mut(1);
        other.read_exact(&mut right[0][..read]).unwrap();
        if left[0][..read] != right[0][..read] {
            return false;
        }
    }
}

/// Fails clearly if a test would run out of space later.
pub fn assert_space(directory: &Path, bytes: u64) {
    let found = rustix::fs::statvfs(directory).unwrap();
    let free = found.f_bavail * found.f_frsize;
    assert!(
        free >= bytes,
        "this test needs {} MB in {}, and there are {} MB; set TMPDIR to a directory with more",
        bytes >> 20,
        directory.display(),
        free >> 20
    );
}
