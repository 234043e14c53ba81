//! Panics: a bug in walkeep is never taken for an answer of the archive. A panic anywhere has an exit status of the
//! table, and logs one line with advice.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    env,
    fs::{self, File},
    panic::panic_any,
    process::{Command, Output, Stdio},
    sync::Barrier,
    thread,
};

use walkeep::{
    cli::{ExitStatuses, exit_on_panic, exit_on_panic_of_restore},
    cluster::RecoveryMode,
};

/// Variable that tells a child where and how to panic.
const CHILD: &str = "WALKEEP_TEST_PANIC";

const FAILURES: [(&str, ExitStatuses, i32); 4] = [
    ("archive", ExitStatuses::OfArchive, 1),
    ("standby", ExitStatuses::OfRestore(RecoveryMode::Standby), 75),
    ("recovery", ExitStatuses::OfRestore(RecoveryMode::Recovery), 255),
    ("tool", ExitStatuses::OfTool, 1),
];

const MANY: usize = 8;

/// Runs the child's part; returns only if the panic did not end the process.
fn panic_as_told(what: &str) {
    let (failure, how) = what.split_once(' ').unwrap();
    let failure = FAILURES.iter().find(|(name, ..)| *name == failure).unwrap().1;
    exit_on_panic("walkeep-test", failure);
    let at_once = Barrier::new(MANY);
    thread::scope(|scope| match how {
        "with-text" => drop(scope.spawn(|| panic!("first line\nsecond \u{1b}[1mline"))),
        "with-a-number" => drop(scope.spawn(|| panic_any(7))),
        _ => (0..MANY).for_each(|_| {
            scope.spawn(|| {
                at_once.wait();
                panic!("all at once")
            });
        }),
    });
}

fn child(failure: &str, how: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "panics::a_panic_anywhere_obeys_the_exit_tables", "--nocapture"]);
    command.env(CHILD, format!("{failure} {how}")).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[test]
fn a_panic_anywhere_obeys_the_exit_tables() {
    if let Ok(what) = env::var(CHILD) {
        return panic_as_told(&what);
    }
    for (failure, _, expected) in FAILURES {
        for backtrace in ["0", "1", "full"] {
            for (how, message) in
                [("with-text", "first line second  [1mline"), ("with-a-number", "no message")]
            {
                let output = child(failure, how).env("RUST_BACKTRACE", backtrace).output();
                let Output { status, stderr, .. } = output.unwrap();
                let stderr = String::from_utf8(stderr).unwrap();
                assert_eq!(status.code(), Some(expected), "{failure} {how}: {stderr}");
                assert_eq!((stderr.lines().count(), stderr.ends_with('\n')), (1, true), "{stderr}");
                assert!(stderr.starts_with("walkeep-test: error: internal error at "), "{stderr}");
                assert!(stderr.contains(message) && stderr.contains("report"), "{stderr}");
            }
        }
    }
}

/// Variable that contains a child's request, as the server makes it to `walkeep-restore`.
const ASKED: &str = "WALKEEP_TEST_PANIC_ASKED";

#[test]
fn an_answer_that_needs_no_archive_survives_a_panic() {
    if let Ok(name) = env::var(ASKED) {
        let arguments = ["--archive", "/nowhere", &name, "pg_wal/RECOVERYHISTORY"].map(Into::into);
        exit_on_panic_of_restore("walkeep-test", &arguments);
        thread::spawn(|| panic!("a bug")).join().unwrap_err();
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let history = "1\t0/3000000\tno recovery target specified\n";
    for directory in ["global", "pg_wal"] {
        fs::create_dir(data.path().join(directory)).unwrap();
    }
    let control = [&7u64.to_ne_bytes()[..], &1300u32.to_ne_bytes(), &[0; 500]].concat();
    for (file, content) in [
        ("global/pg_control", control.as_slice()),
        ("PG_VERSION", b"15\n"),
        ("recovery.signal", b""),
        ("pg_wal/00000002.history", history.as_bytes()),
        ("pg_wal/00000004.history", b"torn"),
    ] {
        fs::write(data.path().join(file), content).unwrap();
    }
    for (name, status, restored) in [
        ("00000001.history", 1, None),
        ("00000002.history", 0, Some(history)),
        ("00000003.history", 255, None),
        ("00000004.history", 255, None),
        ("000000010000000000000001", 255, None),
    ] {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "panics::an_answer_that_needs_no_archive_survives_a_panic", "--nocapture"]);
        child.env(ASKED, name).stdin(Stdio::null()).stdout(Stdio::null()).current_dir(data.path());
        let Output { status: ended, stderr, .. } = child.output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(ended.code(), Some(status), "{name}: {stderr}");
        assert_eq!((stderr.lines().count(), stderr.contains("report")), (1, true), "{stderr}");
        let target = data.path().join("pg_wal/RECOVERYHISTORY");
        assert_eq!(fs::read_to_string(&target).ok().as_deref(), restored, "{name}");
        let _ = fs::remove_file(target);
    }
}

#[test]
fn concurrent_panics_on_many_threads_are_no_different() {
    for (failure, _, expected) in FAILURES {
        let output = child(failure, "many").stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{failure}");
    }
}

#[test]
fn a_panic_without_standard_error_keeps_its_exit_status() {
    for (failure, _, expected) in FAILURES {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let status = child(failure, "with-text").stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{failure}");
    }
}
