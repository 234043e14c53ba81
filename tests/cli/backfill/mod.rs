//! Tests of `walkeep backfill`.

mod branches;
mod contract;
mod races;
mod record_walk;
mod store;
