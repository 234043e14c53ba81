//! An archive of several clusters: what is there, which is which, and their names.

mod check;
mod directory;
mod names;
mod store;
