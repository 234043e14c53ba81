//! Tests of `walkeep verify`.

mod acknowledged;
mod content;
mod contract;
mod given_up;
mod present;
mod vanish;
