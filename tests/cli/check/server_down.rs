//! `walkeep check` without a server that answers: what the data directory tells all the same.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::process::Command;

use support::{
    aged::set_time,
    postgres,
    push::{Pusher, succeeds},
    status::marked,
};

use super::{
    archiving::{archived, check, finds, found, minutes_ago},
    doctor::{Serving, configure},
};

const SECOND: &str = "000000010000000000000002";
const THIRD: &str = "000000010000000000000003";

/// A server's address where nobody answers.
const NOBODY: &str = "host=/nowhere/at/all port=1 dbname=postgres";

fn check_of_a_server_that_is_down(pusher: &Pusher) -> Command {
    let mut check = check(pusher, pusher.archive.url());
    check.args(["--pg-url", NOBODY]);
    postgres::with_clients(&mut check);
    check
}

/// Returns a push that takes nothing along.
fn alone(pusher: &Pusher, name: &str) -> Command {
    let mut push = pusher.push(name);
    push.env("WALKEEP_LOOK_AHEAD_FILES", "0");
    push
}

fn archives_here(pusher: &Pusher) {
    configure(pusher, &format!("archive_command = 'walkeep-archive --archive {} %p'", pusher.archive.url()));
}

#[test]
fn of_a_server_that_does_not_answer_its_directory_tells_the_rest() {
    let pusher = archived();
    archives_here(&pusher);
    finds(check_of_a_server_that_is_down(&pusher), "fail", "server", &["cannot ask the server", NOBODY]);
    for name in ["system", "archive_mode", "archive_command", "destination", "newest", "backlog", "wal_space"]
    {
        let (finding, failed) = found(check_of_a_server_that_is_down(&pusher), name);
        assert_eq!(
            (finding["outcome"].as_str(), failed),
            (Some("pass"), vec!["server".to_owned()]),
            "{name}"
        );
    }
    marked(&pusher, SECOND, &minutes_ago(7));
    let (finding, failed) = found(check_of_a_server_that_is_down(&pusher), "backlog");
    assert_eq!(failed, ["server", "backlog"]);
    assert!(finding.to_string().contains("no server runs"), "{finding:#}");
}

#[test]
fn the_hint_names_the_address_at_which_the_server_listens() {
    let pusher = archived();
    archives_here(&pusher);
    let down = || found(check_of_a_server_that_is_down(&pusher), "server").0.to_string();
    assert!(down().contains("no server runs in"), "{}", down());
    let serving = Serving::start(&pusher, ("X", "y"));
    let lock = format!("{}\n/data\n1700000000\n5499\n/run/pg\nlocalhost\n", serving.id());
    pusher.data.file("postmaster.pid", lock);
    assert!(down().contains("--pg-url 'host=/run/pg port=5499"), "{}", down());
}

#[test]
fn a_file_that_later_ones_have_passed_by_is_stuck_after_a_minute() {
    let pusher = archived();
    archives_here(&pusher);
    let serving = Serving::start(&pusher, ("X", "y"));
    pusher.data.segment(THIRD, 3);
    marked(&pusher, SECOND, &minutes_ago(3));
    finds(
        check(&pusher, pusher.archive.url()),
        "note",
        "backlog",
        &[SECOND, "3m", "by the server's own calls"],
    );
    // As look-ahead does.
    succeeds(alone(&pusher, THIRD));
    set_time(&pusher.file(THIRD), &minutes_ago(2));
    let words = [SECOND, THIRD, "later", "walkeep-archive --archive"];
    finds(check(&pusher, pusher.archive.url()), "fail", "backlog", &words);
    // It is archived, and the server's own call is about to find that.
    succeeds(alone(&pusher, SECOND));
    finds(check(&pusher, pusher.archive.url()), "note", "backlog", &[SECOND]);
    drop(serving);
    finds(check(&pusher, pusher.archive.url()), "pass", "backlog", &["1 file"]);
}
