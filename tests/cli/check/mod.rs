//! Tests of `walkeep check`.

mod archiving;
mod contract;
mod doctor;
mod rights;
