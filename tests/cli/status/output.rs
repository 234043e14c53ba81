//! Where `walkeep status` and `walkeep cat` write to: pipes that nobody reads, and directories that they may not write in.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::{
    data_directory::SEGMENT,
    files::{Permissions, make_fifo},
    push::{Pusher, succeeds},
    running::{Running, outcome_of},
};

/// Much more than a busy machine needs, and less than the default limit.
const PROMPTLY: Duration = Duration::from_secs(25);

fn archived() -> Pusher {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    pusher
}

/// Returns the commands that write a file, without its name.
fn commands(pusher: &Pusher) -> [Command; 3] {
    [&["status"][..], &["status", "--all-systems"], &["cat", SEGMENT]].map(|arguments| {
        let mut command = pusher.sandbox.walkeep();
        command.args(arguments).args(["--archive", pusher.archive.url()]).stdout(Stdio::null());
        command
    })
}

#[test]
fn a_pipe_that_nobody_reads_takes_the_time_limit_at_most() {
    let pusher = archived();
    let pipe = pusher.sandbox.join("pipe");
    make_fifo(&pipe);
    for mut command in commands(&pusher) {
        command.args(["--timeout", "2s", "--output"]).arg(&pipe);
        let started = Instant::now();
        let outcome = outcome_of(command);
        assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        assert!(outcome.stderr.starts_with("walkeep: error: "), "{}", outcome.stderr);
    }
}

#[test]
fn a_pipe_that_is_read_gets_all_of_it() {
    let pusher = archived();
    let pipe = pusher.sandbox.join("pipe");
    make_fifo(&pipe);
    let mut status = pusher.sandbox.walkeep();
    status.args(["status", "--archive", pusher.archive.url(), "--output"]).arg(&pipe);
    let status = Running::start(status);
    let read = fs::read_to_string(&pipe).unwrap();
    assert_eq!(status.end().status, 0);
    assert!(read.starts_with("archive ") && read.contains("last verify "), "{read}");
}

#[test]
fn a_directory_that_denies_or_is_missing_is_named_with_what_mends_it() {
    let pusher = archived();
    let closed = pusher.sandbox.directory("closed");
    let _closed = Permissions::set(&closed, 0o500);
    let missing = pusher.sandbox.join("missing");
    for (directory, words) in [
        (
            &closed,
            format!("may not write in {}, which belongs to it and has the mode 0500", closed.display()),
        ),
        (&missing, format!("the directory {} does not exist", missing.display())),
    ] {
        let file = directory.join("walkeep.prom");
        for mut command in commands(&pusher) {
            command.arg("--output").arg(&file);
            let outcome = outcome_of(command);
            assert_eq!(outcome.status, 1, "{}", outcome.stderr);
            assert!(
                outcome.stderr.contains(&format!("cannot write {}: ", file.display())),
                "{}",
                outcome.stderr
            );
            assert!(outcome.stderr.contains(&words), "{words:?} is not in {}", outcome.stderr);
            assert!(!outcome.stderr.contains(".tmp"), "{}", outcome.stderr);
        }
    }
}
