//! What holds of `prune`.

mod backup_ends;
mod backup_owners;
mod needed;
mod present;
mod scenarios;
mod standby;
