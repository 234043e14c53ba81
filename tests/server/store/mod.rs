//! What holds of `store`.

mod dead_ends;
mod large;
mod recovery;
