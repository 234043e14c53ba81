//! What holds of `verify`.

mod acknowledged;
mod content;
mod contract;
mod present;
mod vanish;
