//! Whole programs with a real PostgreSQL, and with a real store.

mod backfill;
mod check;
mod check_restore;
mod damaged_segment;
mod drill;
mod failover;
mod histories;
mod history_conflict;
mod load;
mod look_ahead;
mod moving_from_cp;
mod prefetch;
mod promoted_twice;
mod promotion;
mod prune;
mod push_content;
mod recovery;
mod recovery_gap;
mod restore_crash;
mod segment_sizes;
mod standby;
mod standby_dead_archive;
mod status;
mod status_standby;
mod store;
mod verify;
