//! Tests of `walkeep prune`.

mod backup_dir;
mod branches;
mod contract;
mod doubts;
mod halfway;
mod labels;
mod store;
mod versions;
