//! Tests with real stores, and with servers that use a store.

mod azurite;
mod conformance;
mod dead_ends;
mod google;
mod large;
mod moto;
mod recovery;
