//! What holds of `check`.

mod archiving;
mod contract;
