//! The server's two commands never report success without having done anything, and never wait for something endless.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::process::Command;

use support::{
    data_directory::SEGMENT,
    files::names_in,
    push::{Pusher, SYSTEM},
    restore::TARGET,
    running::outcome_of,
};

/// Returns the two commands as the server runs them, with their exit statuses for wrong usage.
fn commands(pusher: &Pusher) -> [(Command, i32); 2] {
    let archive = pusher.push(SEGMENT);
    let mut restore = pusher.data.run(pusher.sandbox.walkeep_restore());
    restore.args(["--archive", pusher.archive.url(), SEGMENT, TARGET]);
    [(archive, 2), (restore, 255)]
}

#[test]
fn help_and_version_among_other_arguments_are_wrong_usage() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    for option in ["-V", "--version", "-h", "--help"] {
        for (mut command, status) in commands(&pusher) {
            let outcome = outcome_of({
                command.arg(option);
                command
            });
            assert_eq!(
                (outcome.status, outcome.stderr.lines().count()),
                (status, 1),
                "{option}: {}",
                outcome.stderr
            );
            assert!(outcome.stderr.contains("must stand alone"), "{}", outcome.stderr);
        }
        assert!(pusher.archive.names(SYSTEM, "wal/0000000100000000").is_empty());
    }
}

#[test]
fn an_endless_configuration_file_is_refused() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let huge = pusher.sandbox.file("huge", vec![b'\n'; (1 << 20) + 1]);
    for file in [huge, "/dev/zero".into()] {
        for (mut command, status) in commands(&pusher) {
            command.arg("--config").arg(&file);
            let outcome = outcome_of(command);
            assert_eq!((outcome.status, outcome.stderr.lines().count()), (status, 1), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("more than"), "{}", outcome.stderr);
        }
    }
    assert_eq!(names_in(&pusher.data.join("pg_wal")), [SEGMENT]);
}
