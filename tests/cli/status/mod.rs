//! Tests of `walkeep status`.

mod contract;
mod dangers;
mod forks;
mod limits;
mod output;
mod unread;
