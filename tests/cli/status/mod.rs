//! Tests of `walkeep status`.

mod contract;
mod forks;
mod limits;
