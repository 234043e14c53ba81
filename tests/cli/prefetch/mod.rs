//! Tests of the prefetcher.

mod contract;
mod ends;
mod owners;
mod races;
mod slow_link;
mod spool;
mod store;
mod stranger;
