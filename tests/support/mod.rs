//! What the tests share: a sandbox that an unprivileged user owns, throwaway PostgreSQL clusters, an archive
//! directory, and waiting without sleeping.
//!
//! Whatever these types start or create is gone when they are dropped, also when the test panics.

#![allow(dead_code, reason = "each test binary compiles its own copy and uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "here, too, a failed expectation is the point"
)]

pub(crate) mod aged;
pub(crate) mod archive;
pub(crate) mod backfilled;
pub(crate) mod base_backup;
pub(crate) mod cluster;
pub(crate) mod data_directory;
pub(crate) mod files;
pub(crate) mod forged;
pub(crate) mod guide;
pub(crate) mod kept;
pub(crate) mod large;
pub(crate) mod memory;
pub(crate) mod orders;
pub(crate) mod postgres;
pub(crate) mod prefetcher;
pub(crate) mod promoted;
pub(crate) mod push;
pub(crate) mod ready;
pub(crate) mod restore;
pub(crate) mod running;
pub(crate) mod sandbox;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod store_cluster;
pub(crate) mod store_scene;
pub(crate) mod strace;
pub(crate) mod tmpfs;
pub(crate) mod user;
pub(crate) mod verified;
pub(crate) mod verified_store;
pub(crate) mod wal_writer;
pub(crate) mod wrapper;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// How long a condition may take; far more than needed, because other work shares the machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Polls `condition` until it holds; panics with `what` when it does not within [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `command`, which must succeed, and returns its standard output without the last newline.
pub(crate) fn output_of(command: &mut Command) -> String {
    try_output_of(command).unwrap_or_else(|failure| panic!("{failure}"))
}

/// As [`output_of`]; the error holds the command, its exit status and what it wrote.
pub(crate) fn try_output_of(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        Ok(stdout.trim_end_matches('\n').to_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}\n{stdout}{stderr}", output.status))
    }
}
