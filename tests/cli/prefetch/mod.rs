//! Tests of the prefetcher.

mod contract;
mod ends;
mod owners;
mod races;
mod spool;
mod store;
mod stranger;
