//! What holds of `store`.

mod conformance;
mod dead_ends;
mod large;
mod recovery;
