//! Tests of `walkeep backfill`.

mod branches;
mod contract;
mod races;
mod store;
