//! The promises of an archive, in real stores.
#![allow(clippy::print_stdout, reason = "it shows how far it has come")]

use support::{
    all_together,
    conformance::{InAzurite, InGarage},
    sandbox::Sandbox,
    with_all_promises,
};

#[test]
fn garage_keeps_all_promises_of_a_place() {
    let sandbox = Sandbox::new();
    with_all_promises!(all_together, InGarage::start(&sandbox));
}

#[test]
fn azurite_keeps_all_promises_of_a_place() {
    with_all_promises!(all_together, InAzurite);
}
