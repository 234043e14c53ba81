//! walkeep keeps PostgreSQL's write-ahead log.

pub mod wal;
