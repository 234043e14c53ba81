//! What holds of `prefetch`.

mod contract;
mod ends;
mod owners;
mod races;
mod spool;
mod store;
