//! Through the library, in this process: archives in memory, where nothing takes longer than a fault that is waited for.
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
