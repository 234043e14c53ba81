//! walkeep keeps PostgreSQL's write-ahead log.

pub mod frame;
pub mod wal;
