//! What holds of `status`.

mod contract;
mod forks;
mod limits;
