//! `--all-systems`: one command for every cluster of an archive.

mod bounds;
mod directory;
mod metrics;
mod refusals;
mod stops;
mod store;
