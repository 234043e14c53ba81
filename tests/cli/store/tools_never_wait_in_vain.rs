//! Maintenance commands fail at once, with advice, if the archive is empty or unreadable, because it will not recover
//! by itself.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::process::Command;

use support::{
    data_directory::SEGMENT,
    files::Permissions,
    push::{Pusher, SYSTEM, succeeds},
    running::{Outcome, outcome_of},
    store::fault::{Fault, Matching::Any},
    store_scene::StoreScene,
};

/// Each command with its required arguments.
const TOOLS: [&[&str]; 4] =
    [&["status"], &["list"], &["verify"], &["prune", "--keep-backups", "1", "--dry-run"]];

/// Asserts that each command, with its default time limits, fails with these words without waiting.
fn fail_at_once(words: &[&str], call: impl Fn(&[&str]) -> Command) {
    for tool in TOOLS {
        let Outcome { status, stderr } = outcome_of(call(tool));
        assert!(matches!(status, 1 | 2), "{tool:?}: {status} {stderr}");
        assert!(!stderr.contains("trying again"), "{tool:?} waits: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{tool:?}: {word:?} is not in {stderr}");
        }
    }
}

#[test]
fn a_directory_without_files_of_the_cluster_or_without_permission() {
    let pusher = Pusher::new();
    let call = |tool: &[&str]| {
        let mut command = pusher.sandbox.walkeep();
        command.args(tool).args(["--archive", pusher.archive.url()]);
        command.args(["--system-identifier", &SYSTEM.to_string()]);
        command
    };
    fail_at_once(&["of system 7381092445103374871", "is it mounted"], call);
    fail_at_once(&["holds no system's WAL"], |tool| {
        let mut command = pusher.sandbox.walkeep();
        command.args(tool).args(["--archive", pusher.archive.url()]);
        command
    });
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    let wal = pusher.file(SEGMENT);
    let _closed = Permissions::set(wal.parent().unwrap().parent().unwrap(), 0o000);
    fail_at_once(&["Permission denied"], call);
}

#[test]
fn a_store_without_files_of_the_cluster_or_that_refuses() {
    let mut scene = StoreScene::new();
    let system = SYSTEM.to_string();
    let call = |scene: &StoreScene, tool: &[&str]| {
        let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
        command.args(tool).args(["--system-identifier", &system]);
        command
    };
    // Verify notes there that it was called.
    fail_at_once(&["7381092445103374871", "hold"], |tool| call(&scene, tool));
    scene.primary.segment(SEGMENT, 0);
    succeeds(scene.push(SEGMENT));
    scene.archive_into("s3://wal/mian");
    fail_at_once(&["7381092445103374871", "hold"], |tool| call(&scene, tool));
    let denied = Fault::Answer { status: 403, code: "AccessDenied", message: "No." };
    scene.store.break_with(Any, denied);
    fail_at_once(&["AccessDenied"], |tool| call(&scene, tool));
}
