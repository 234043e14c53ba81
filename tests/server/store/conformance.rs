//! The promises of an archive, in a real store.
#![allow(clippy::print_stdout, reason = "it shows how far it has come")]

use support::{all_together, conformance::InGarage, sandbox::Sandbox, with_all_promises};

#[test]
fn garage_keeps_all_promises_of_a_place() {
    let sandbox = Sandbox::new();
    with_all_promises!(all_together, InGarage::start(&sandbox));
}
