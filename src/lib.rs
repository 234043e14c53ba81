//! walkeep archives PostgreSQL's write-ahead log (WAL): as the `archive_command`, as the `restore_command`, and with a tool
//! to maintain the archive.
//!
//! The modules. Each uses only those above it in this list:
//!
//! - [`wal`], [`coverage`], [`retention`], [`frame`], [`error`], [`limit`]: the crate `walkeep_core`, with its own
//!   documentation.
//! - [`call`]: run of one call: time limit, end by a signal, retries, and operations that hang.
//! - [`work`]: stop signal, clock and progress of long work.
//! - `whole_file`: a file that appears under its name completely, or not at all.
//! - `misspelt`: recognition of misspelt names.
//! - `denied`: whom permissions deny what, and what mends that.
//! - [`archive`]: an archive in a directory or an object store, whose files are durable and never replaced.
//! - `archived_file`: reading and verification of one archived file.
//! - [`spool`]: data that one call leaves for the next, and temporary files for data too large for memory.
//! - [`cluster`] and [`server`]: reading of a PostgreSQL data directory, and queries to a running server.
//! - [`push`] and [`restore`]: archiving of a WAL file and of those that follow it; restore of a WAL file.
//! - [`prefetch`]: the process that fetches the next segments before they are requested.
//! - [`catalog`]: contents of an archive, and the base backups that it can recover.
//! - [`reports`]: reports of prunes and verifications in an archive, their findings, and acknowledgements of these.
//! - [`list`]: lists of an archive's timelines, base backups and files.
//! - [`backfill`]: archiving of files in `pg_wal` that no server will archive.
//! - [`prune`]: deletion of files that need not be kept.
//! - [`status`]: cheap monitoring of how well an archive keeps up with its server.
//! - [`check`]: test run of archiving and restoring.
//! - [`verify`]: verification of an archive's files, and of what they can recover.
//! - [`config`] and [`cli`]: settings from flags, environment and file; logging, signals, exit statuses.
//!
//! The binaries in `bin/` call only [`cli`].

pub mod archive;
mod archived_file;
pub mod backfill;
mod blocking;
pub mod call;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod config;
mod denied;
pub mod list;
mod misspelt;
pub mod prefetch;
pub mod prune;
pub mod push;
pub mod reports;
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
