//! A data directory as far as walkeep reads it: `pg_control` and WAL files, created by hand, so that a test may
//! choose system identifier, name, size and damage without a server.

use std::{fs, path::PathBuf, process::Command};

use super::{sandbox::Sandbox, user};

/// Size of the segments of [`DataDirectory::segment`], the smallest legal one: 1 MiB.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// Name of the first segment that tests use.
pub const SEGMENT: &str = "000000010000000000000001";

/// State in `pg_control` of a standby, and of a server in recovery.
pub const IN_ARCHIVE_RECOVERY: u32 = 5;

/// A data directory in a sandbox.
pub struct DataDirectory {
    path: PathBuf,
    system_identifier: u64,
}

impl DataDirectory {
    pub fn new(sandbox: &Sandbox, name: &str, system_identifier: u64) -> Self {
        let path = sandbox.directory(name);
        let directory = Self { path, system_identifier };
        for sub in ["global", "pg_wal"] {
            fs::create_dir(directory.path.join(sub)).unwrap();
            user::hand_over(&directory.path.join(sub));
        }
        directory.set_state(0);
        directory.file("PG_VERSION", "15\n");
        directory
    }

    /// Writes the server's state to `pg_control`, such as [`IN_ARCHIVE_RECOVERY`].
    pub fn set_state(&self, state: u32) {
        let mut control = control(self.system_identifier, SEGMENT_BYTES as u64);
        control[16..20].copy_from_slice(&state.to_ne_bytes());
        self.file("global/pg_control", control);
    }

    /// Writes the segment size to `pg_control`.
    pub fn set_segment_bytes(&self, bytes: u64) {
        self.file("global/pg_control", control(self.system_identifier, bytes));
    }

    /// Writes a restart point: `pg_control` of version 15 with that timeline and position.
    pub fn set_restart_point(&self, timeline: u32, redo: u64) {
        let mut control = fs::read(self.join("global/pg_control")).unwrap();
        control[40..48].copy_from_slice(&redo.to_ne_bytes());
        control[48..52].copy_from_slice(&timeline.to_ne_bytes());
        self.file("global/pg_control", control);
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file below the data directory.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).unwrap();
        user::hand_over(&path);
        path
    }

    /// Writes a segment of 1 MiB into `pg_wal`, with content that depends on `seed`. Returns the content.
    pub fn segment(&self, name: &str, seed: u8) -> Vec<u8> {
        let content = segment(name, self.system_identifier, SEGMENT_BYTES, seed);
        self.file(&format!("pg_wal/{name}"), &content);
        content
    }

    /// Sets the command's working directory as the server does.
    pub fn run(&self, mut command: Command) -> Command {
        command.current_dir(&self.path);
        command
    }
}

/// Returns a `pg_control` as far as walkeep reads it, of a cluster with that segment size.
pub fn control(system_identifier: u64, segment_bytes: u64) -> Vec<u8> {
    let sizes = [8_192u32, 131_072, 8_192, u32::try_from(segment_bytes).unwrap()];
    let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_ne_bytes()).collect();
    let beginning = [&system_identifier.to_ne_bytes()[..], &1300u32.to_ne_bytes(), &[0; 252]].concat();
    [beginning, 1_234_567f64.to_ne_bytes().to_vec(), sizes, vec![0; 224]].concat()
}

/// Returns a segment or `.partial` of `bytes` bytes: a long page header as written by PostgreSQL 15, then moderately
/// compressible content.
pub fn segment(name: &str, system_identifier: u64, bytes: usize, seed: u8) -> Vec<u8> {
    let mut content = long_header(name, system_identifier, bytes as u64);
    content.reserve_exact(bytes);
    let mut state = u64::from(seed) + 1;
    while content.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        content.extend(state.to_le_bytes());
        content.extend([seed; 24]);
    }
    content.truncate(bytes);
    content
}

/// Returns the header of a segment of `bytes` bytes.
pub fn long_header(name: &str, system_identifier: u64, bytes: u64) -> Vec<u8> {
    let field = |at: usize| u64::from_str_radix(&name[at..at + 8], 16).unwrap();
    let per_log = (1u64 << 32) / bytes;
    let address = (field(8) * per_log + field(16)) * bytes;
    let mut header = Vec::new();
    header.extend(0xD110u16.to_ne_bytes());
    header.extend(0x0002u16.to_ne_bytes());
    header.extend(u32::try_from(field(0)).unwrap().to_ne_bytes());
    header.extend(address.to_ne_bytes());
    header.extend([0; 8]);
    header.extend(system_identifier.to_ne_bytes());
    header.extend(u32::try_from(bytes).unwrap().to_ne_bytes());
    header.extend(8192u32.to_ne_bytes());
    header
}
