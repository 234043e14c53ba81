//! The answer of `walkeep verify` about the WAL written now agrees with a real recovery.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::fs;

use serde_json::json;
use support::{
    cluster::Cluster,
    promoted::{BACKUPS, Promoted, steps},
    sandbox::Sandbox,
    verified::VerifyOutput,
};

#[test]
fn a_backup_recovers_the_present_exactly_if_verify_says_so() {
    let original = Promoted::shared();
    for label in BACKUPS {
        let sandbox = Sandbox::new();
        let archive = original.archive.copy(&sandbox);
        for other in BACKUPS.into_iter().filter(|other| *other != label) {
            fs::remove_file(archive.file(original.system, &original.history_of(other))).unwrap();
        }
        let mut verify = sandbox.walkeep();
        verify.args(["verify", "--names-only", "--archive", archive.url()]);
        let verdict = VerifyOutput::of(verify);
        verdict.says(&[]);
        let present = &verdict.json["present"];
        // Later WAL was abandoned.
        let leads_there = label != "astray";
        assert_eq!(
            (&present["timeline"], &present["recoverable"]),
            (&json!(3), &json!(leads_there)),
            "{label}"
        );

        let mut server = Cluster::from_backup(&sandbox, label, &original.backup(label));
        server.recover_from(&archive, &[("recovery_target_timeline", "latest")]);
        if leads_there {
            server.start();
            assert_eq!(steps(&server), "abcdhijklm", "{label}");
        } else {
            server.launch();
            assert!(!server.wait_for_exit().success(), "{label}: {}", server.log());
        }
    }
}
