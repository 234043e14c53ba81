//! walkeep keeps PostgreSQL's write-ahead log: it is the `archive_command`, the `restore_command`, and a tool for
//! those who look after the archive.
//!
//! The rooms, from the ground up. Each uses only those above it in this list:
//!
//! - [`wal`], [`coverage`], [`retention`], [`frame`], [`error`], [`limit`]: the crate `walkeep_core`, which says what they are.
//! - [`work`]: whom long work heeds and tells.
//! - `whole_file`: a file that appears under its name whole, or not at all.
//! - [`archive`]: the place where files are kept, durably and never replaced; "absent" is proven there.
//! - `archived_file`: one file of it, read, and verified to be what its name says.
//! - [`spool`]: what one call leaves behind for the next, and room for what is too large for memory.
//! - [`cluster`] and [`server`]: what is read of a PostgreSQL data directory; what a running server is asked.
//! - [`push`] and [`restore`]: one WAL file into the archive, and those that come next; one back, verified.
//! - [`prefetch`]: the process that has the next ones at hand when they are asked for.
//! - [`catalog`]: what an archive holds of a cluster, and which base backups it can recover.
//! - [`backfill`]: archiving what lies in `pg_wal` and is in nobody's queue.
//! - [`prune`]: deleting what need not be kept.
//! - [`status`]: how well an archive keeps up with its server, without a look at all of it.
//! - [`check`]: whether all of it will work, tried out.
//! - [`verify`]: whether what is there is sound, and what it can recover.
//! - [`config`] and [`cli`]: flags, environment and file; logging, signals, exit statuses.
//!
//! The binaries in `bin/` call [`cli`] and nothing else.

pub mod archive;
mod archived_file;
pub mod backfill;
mod blocking;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod prefetch;
pub mod prune;
pub mod push;
pub mod restore;
#[cfg(test)]
mod scene;
pub mod server;
pub mod spool;
pub mod status;
pub mod verify;
mod whole_file;
pub mod work;

pub use walkeep_core::{coverage, error, frame, limit, retention, wal};
