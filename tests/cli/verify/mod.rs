//! Tests of `walkeep verify`.

mod acknowledged;
mod content;
mod contract;
mod present;
mod vanish;
