//! The part of walkeep that touches nothing: what WAL consists of, what an archive of it is worth, what may go, and
//! the archived file.
//!
//! It reads and writes through `Read` and `Write` alone: no file system, no network, no environment, no clock.
//!
//! The rooms, from the ground up. Each uses only those above it in this list:
//!
//! - [`wal`]: what the write-ahead log consists of.
//! - [`coverage`]: which stretches of it an archive holds, and how far they recover a base backup.
//! - [`retention`]: which archived files may go, and why the others stay.
//! - [`frame`]: the archived file, format 1.
//! - [`error`], [`limit`]: what a failure means; how long a call may take.

pub mod coverage;
pub mod error;
pub mod frame;
pub mod limit;
pub mod retention;
pub mod wal;
