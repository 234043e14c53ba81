//! Tests of `walkeep prune` with a real PostgreSQL.

mod backup_ends;
mod backup_owners;
mod needed;
mod present;
mod scenarios;
mod standby;
