//! A report of the last verification that is no report: one warning, and every command goes on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use support::{files::make_fifo, kept::Kept, store_cluster::CallOutput, user};

/// More than a busy machine needs to read a report, and less than it needs for a gigabyte.
const PROMPTLY: Duration = Duration::from_secs(20);

type Make = fn(&Path);

/// What may be in the place of the report.
const KINDS: [(&str, Make); 6] = [
    ("a pipe", make_fifo),
    ("a directory", |path| {
        fs::create_dir(path).unwrap();
        user::hand_over(path);
    }),
    ("a link to a device", |path| symlink("/dev/zero", path).unwrap()),
    ("a link in a circle", |path| symlink("verify.json", path).unwrap()),
    ("a gigabyte", |path| fs::File::create(path).unwrap().set_len(1 << 30).unwrap()),
    ("no text", |path| fs::write(path, b"{\"report\": \"\xFF\xFE\"}").unwrap()),
];

#[test]
fn every_command_warns_once_of_a_report_that_is_none_and_goes_on() {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 9);
    kept.backup(1, 3, 4, 5);
    kept.said("verify", &[]);
    let report = kept.report_file("verify");
    for (kind, make) in KINDS {
        for command in
            [&["list"][..], &["status"], &["check"], &["prune", "--keep-backups", "1"], &["verify"]]
        {
            if report.is_dir() {
                fs::remove_dir(&report).unwrap();
            } else {
                fs::remove_file(&report).unwrap();
            }
            make(&report);
            let started = Instant::now();
            let mut call = kept.walkeep(command[0], &command[1..]);
            call.stdout(Stdio::piped());
            let output = CallOutput::of(call);
            let said = output.text();
            // A verify also finds a thing that it does not know.
            let told = if command[0] == "verify" { &output.stderr } else { &said };
            let warnings = told.lines().filter(|line| line.contains("reports/verify.json")).count();
            let expected = match command[0] {
                // They do not read it.
                "list" | "prune" => 0,
                // It cannot be replaced, either.
                "verify" if kind == "a directory" => 2,
                _ => 1,
            };
            assert_eq!((warnings, output.status), (expected, 0), "{kind}, {command:?}: {said}");
            assert!(started.elapsed() < PROMPTLY, "{kind}, {command:?}: {:?}", started.elapsed());
        }
    }
}
