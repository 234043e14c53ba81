//! Tests of the library in one process: push and restore with an archive in memory, and the promises of each kind of archive.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

mod conformance;
mod push;
mod restore;
mod world;
