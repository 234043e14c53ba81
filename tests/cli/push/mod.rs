//! Tests of `walkeep-archive`.

mod acknowledgements;
mod acknowledgements_store;
mod concurrency;
mod contract;
mod crash;
mod durability;
mod fork;
mod history;
mod look_ahead;
mod pages;
mod partial;
mod placeholders;
mod refusals;
mod stuck_file;
mod swept;
