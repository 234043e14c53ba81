//! Tests of `walkeep-restore`.

mod cannot_tell;
mod contract;
mod damage;
mod gap;
mod gap_backup;
mod gap_own;
mod other_sizes;
mod own_history;
mod standby_waits;
mod stopped;
mod system;
mod target;
