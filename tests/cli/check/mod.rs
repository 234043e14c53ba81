//! Tests of `walkeep check`.

mod archiving;
mod contract;
mod doctor;
mod odd;
mod remedies;
mod rights;
mod server_down;
mod store;
