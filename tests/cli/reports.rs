//! Reports in an archive that cannot be read are one warning, whoever has left them: nothing depends on them.
#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf, process::Command, time::Instant};

use support::{
    data_directory::SEGMENT,
    files::Permissions,
    push::{Pusher, SYSTEM, succeeds},
    store_cluster::CallOutput,
};

const COMMANDS: [&[&str]; 4] =
    [&["status"], &["list"], &["verify"], &["prune", "--keep-wal-days", "1", "--dry-run"]];

fn archived() -> (Pusher, PathBuf) {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    let reports = PathBuf::from(format!("{}/{SYSTEM}/reports", pusher.archive.url()));
    (pusher, reports)
}

fn call(pusher: &Pusher, arguments: &[&str]) -> Command {
    let mut command = pusher.sandbox.walkeep();
    command.args(arguments).args(["--archive", pusher.archive.url()]);
    command
}

#[test]
fn reports_of_another_user_end_no_command() {
    let (pusher, reports) = archived();
    let healthy = COMMANDS.map(|arguments| CallOutput::of(call(&pusher, arguments)).status);
    fs::create_dir_all(&reports).unwrap();
    fs::write(reports.join("verify.json"), "{}").unwrap();
    // As those that root made: another user's directory, closed to this one.
    let _closed = Permissions::set(&reports, 0o000);
    let started = Instant::now();
    for (arguments, status) in COMMANDS.into_iter().zip(healthy) {
        let outcome = CallOutput::of(call(&pusher, arguments));
        assert_eq!(outcome.status, status, "{arguments:?}: {}", outcome.stderr);
        let said = outcome.text();
        let warnings = said.lines().filter(|line| line.contains("reports") && line.contains("ermission"));
        assert!(warnings.count() <= 1, "{arguments:?}: {said}");
    }
    assert!(started.elapsed().as_secs() < 20, "nothing is tried again for long: {:?}", started.elapsed());
}

#[test]
fn a_damaged_report_ends_no_command() {
    let (pusher, reports) = archived();
    let healthy = COMMANDS.map(|arguments| CallOutput::of(call(&pusher, arguments)).status);
    fs::create_dir_all(&reports).unwrap();
    for (arguments, status) in COMMANDS.into_iter().zip(healthy) {
        for name in ["verify", "prune", "acknowledged"] {
            fs::write(reports.join(format!("{name}.json")), "\x00{").unwrap();
        }
        let outcome = CallOutput::of(call(&pusher, arguments));
        assert_eq!(outcome.status, status, "{arguments:?}: {}", outcome.stderr);
    }
}
