//! Shared code of the tests: a sandbox owned by an unprivileged user, temporary PostgreSQL clusters, an archive
//! directory, and waiting without sleeping.
//!
//! Everything that these types start or create is gone when they are dropped, even if the test panics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::new_without_default,
    clippy::return_self_not_must_use,
    missing_docs,
    reason = "here, too, a failed expectation is the point"
)]

pub mod aged;
pub mod archive;
pub mod backfilled;
pub mod base_backup;
pub mod cluster;
pub mod conformance;
pub mod data_directory;
pub mod files;
pub mod forged;
pub mod guide;
pub mod kept;
pub mod large;
pub mod load;
pub mod memory;
pub mod orders;
pub mod postgres;
pub mod prefetcher;
pub mod promoted;
pub mod push;
pub mod ready;
pub mod recovery;
pub mod restore;
pub mod running;
pub mod sandbox;
pub mod several;
pub mod status;
pub mod store;
pub mod store_cluster;
pub mod store_rounds;
pub mod store_scene;
pub mod strace;
pub mod tmpfs;
pub mod user;
pub mod verified;
pub mod verified_store;
pub mod wal_writer;
pub mod wrapper;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Returns the directory of the package whose programs are tested.
pub fn package() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns the directory of the programs built with the profile of the running test.
pub fn built() -> PathBuf {
    // The test itself is one level below, in `deps`.
    env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().to_owned()
}

/// Maximum time to wait for a condition; much more than needed, because other work shares the machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Polls `condition` until it is true; panics with `what` if that takes longer than [`PATIENCE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `command`, which must succeed, and returns its standard output without the last newline.
pub fn output_of(command: &mut Command) -> String {
    try_output_of(command).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Does the same as [`output_of`]; the error contains the command, its exit status and its output.
pub fn try_output_of(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        Ok(stdout.trim_end_matches('\n').to_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}\n{stdout}{stderr}", output.status))
    }
}
