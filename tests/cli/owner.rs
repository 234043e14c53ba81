//! Commands that root starts leave nothing in an archive that its owner cannot use.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    data_directory::SEGMENT,
    push::{HISTORY, HISTORY_CONTENT, Pusher, succeeds},
    running::outcome_of,
    user,
};

/// Returns the program as the user that runs the tests, who may be root, with a data directory as its working directory.
fn as_it_is(pusher: &Pusher, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(pusher.sandbox.program(program));
    command.args(arguments).args(["--archive", pusher.archive.url()]);
    command.env("WALKEEP_CONFIG", "/dev/null").current_dir(pusher.data.join(""));
    command
}

/// Returns everything below a directory, the directory included.
fn everything_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(everything_in(&path)) } else { found.push(path) }
    }
    found
}

fn assert_all_is_the_owners(pusher: &Pusher) {
    for path in everything_in(Path::new(pusher.archive.url())) {
        assert_eq!(fs::metadata(&path).unwrap().uid(), user::uid(), "{}", path.display());
    }
}

#[test]
fn what_root_archives_belongs_to_the_archives_owner() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let outcome = outcome_of(as_it_is(&pusher, "walkeep-archive", &[&format!("pg_wal/{SEGMENT}")]));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert_all_is_the_owners(&pusher);
    // The server goes on.
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    succeeds(pusher.push(SEGMENT));
    succeeds(pusher.push(HISTORY));
}

#[test]
fn the_reports_of_roots_maintenance_belong_to_the_archives_owner() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    let data = pusher.data.join("").display().to_string();
    for arguments in [
        &["verify"][..],
        &["prune", "--keep-days", "1"],
        &["backfill", "--pgdata", &data],
        &["check", "--pgdata", &data],
    ] {
        // Whatever it finds.
        let outcome = outcome_of(as_it_is(&pusher, "walkeep", arguments));
        assert!(!outcome.stderr.contains("Permission denied"), "{arguments:?}: {}", outcome.stderr);
        assert_all_is_the_owners(&pusher);
    }
    assert!(
        everything_in(Path::new(pusher.archive.url()))
            .iter()
            .any(|path| path.ends_with("reports/verify.json"))
    );
}

#[test]
fn an_archive_of_root_itself_stays_roots() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let own = pusher.sandbox.join("own");
    fs::create_dir(&own).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    std::os::unix::fs::chown(pusher.data.join(""), Some(uid), None).unwrap();
    let mut push = Command::new(pusher.sandbox.program("walkeep-archive"));
    push.arg(format!("pg_wal/{SEGMENT}")).arg("--archive").arg(&own);
    push.env("WALKEEP_CONFIG", "/dev/null").current_dir(pusher.data.join(""));
    let outcome = outcome_of(push);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    for path in everything_in(&own) {
        assert_eq!(fs::metadata(&path).unwrap().uid(), uid, "{}", path.display());
    }
}
