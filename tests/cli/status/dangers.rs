//! What `walkeep status` fails for without any limit: a stuck file, and what verify has found.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use jiff::{SignedDuration, Timestamp};
use support::{
    push::{Pusher, succeeds},
    status::{DATA, idle, json_of, marked, metrics, noted, says, status},
    store_cluster::CallOutput,
};

const FIRST: &str = "000000010000000000000001";
const SECOND: &str = "000000010000000000000002";

/// Creates a server whose first segment waits, although the second one is archived.
fn stuck() -> Pusher {
    let pusher = Pusher::new();
    for (seed, name) in (0..).zip([FIRST, SECOND]) {
        pusher.data.segment(name, seed);
    }
    succeeds(pusher.push(SECOND));
    let then = Timestamp::now() - SignedDuration::from_mins(7);
    marked(&pusher, FIRST, &then.to_string());
    pusher
}

#[test]
fn a_file_that_a_running_server_cannot_get_archived_fails() {
    let pusher = stuck();
    // Its server may have been stopped for the night.
    says(status(&pusher, &DATA), 0, &["! the server's disk fills since"]);
    let mut server =
        pusher.sandbox.command("sleep").arg("600").current_dir(pusher.data.join("")).spawn().unwrap();
    let lock = format!("{}\n/data\n1700000000\n", server.id());
    pusher.data.file("postmaster.pid", lock);
    let words = ["✗ files have waited to be archived since", FIRST, "walkeep-archive --archive"];
    says(status(&pusher, &DATA), 1, &words);
    let json = json_of(status(&pusher, &[&DATA[..], &["--json"]].concat()), 1);
    assert_eq!(json["backlog"]["stuck"], true);
    let output = CallOutput::of(status(&pusher, &[&DATA[..], &["--prometheus"]].concat()));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(metrics(&String::from_utf8(output.stdout).unwrap())["walkeep_backlog_stuck"], "1");
    // Its server has crashed, and has left its lock file.
    says(status(&pusher, &DATA), 0, &["! the server's disk fills since"]);
    pusher.data.file("postmaster.pid", "");
    says(status(&pusher, &DATA), 1, &words);
    // A long backlog that shrinks is none.
    pusher.data.file("pg_wal/archive_status/000000010000000000000009.done", "");
    says(status(&pusher, &DATA), 0, &["! the server's disk fills since"]);
}

#[test]
fn what_the_last_verify_has_found_fails_and_names_the_first() {
    let pusher = Pusher::new();
    pusher.data.segment(FIRST, 1);
    succeeds(pusher.push(FIRST));
    idle(&pusher);
    let finding = r#"{"severity": "failure", "kind": "gap", "file": "000000010000000000000003", "what": "1 segment is missing", "meaning": "x"}"#;
    let report = |failures: u64, first: &str| {
        format!(
            r#"{{"at": "2026-01-02T03:04:05Z", "ok": false, "deep": false, "checked_files": 9, "notes": 0, "failures": {failures}{first}}}"#
        )
    };
    noted(&pusher, "verify", &report(1, &format!(r#", "first_failure": {finding}"#)));
    let words = [
        "✗ the last verify, at 2026-01-02T03:04:05Z, found 1 failure",
        "the first about 000000010000000000000003: 1 segment is missing",
    ];
    says(status(&pusher, &DATA), 1, &words);
    noted(&pusher, "verify", &report(2, ""));
    says(
        status(&pusher, &[]),
        1,
        &["found 2 failures; a verify of this system says which", ": walkeep verify --system-identifier "],
    );
}

#[test]
fn a_spool_that_cannot_be_used_is_a_note() {
    let pusher = Pusher::new();
    pusher.data.segment(FIRST, 1);
    succeeds(pusher.push(FIRST));
    idle(&pusher);
    let spool = pusher.sandbox.join("spool");
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o755)).unwrap();
    says(status(&pusher, &DATA), 0, &["! look-ahead and prefetching do not work", "0755"]);
    let notes = json_of(status(&pusher, &[&DATA[..], &["--json"]].concat()), 0)["notes"].clone();
    assert_eq!(notes.as_array().unwrap().len(), 1, "{notes:#}");
}
