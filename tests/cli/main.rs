//! Whole programs, without a server: what each command does with a directory, and with a store in the test's own process.

mod backfill;
mod cat;
mod check;
mod disk_full;
mod foreign_archive;
mod fresh_look;
mod generate;
mod hangs;
mod json_failures;
mod large_segments;
mod list;
mod memory;
mod other_sizes;
mod owner;
mod panics;
mod prefetch;
mod prune;
mod push;
mod reports;
mod restore;
mod server_commands;
mod signals;
mod status;
mod store;
mod verify;
