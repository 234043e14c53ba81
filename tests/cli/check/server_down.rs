//! `walkeep check` without a server that answers: what the data directory tells all the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::process::Command;

use support::{
    aged::set_time,
    postgres,
    push::{Pusher, succeeds},
    status::marked,
    store_cluster::CallOutput,
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

#[test]
fn that_no_server_runs_is_said_and_how_to_start_it() {
    let pusher = archived();
    archives_here(&pusher);
    let of_directory = || check(&pusher, pusher.archive.url());
    finds(of_directory(), "note", "server", &["no server runs in", "pg_ctl -D ", " start", "journalctl"]);
    std::fs::create_dir(pusher.data.join("log")).unwrap();
    finds(of_directory(), "note", "server", &["ls -la ", "/log"]);
}

#[test]
fn no_secret_of_the_servers_commands_is_printed_and_a_pipe_in_the_place_of_the_file_is_not_waited_for() {
    let pusher = archived();
    let archive = pusher.archive.url();
    configure(
        &pusher,
        &format!(
            "archive_command = 'AWS_SECRET_ACCESS_KEY=PLANTED walkeep-archive --archive {archive} %p'\n\
             restore_command = 'X_TOKEN=PLANTED; rm -f %p; mkfifo %p # %f'"
        ),
    );
    for json in [true, false] {
        let mut check = pusher.sandbox.walkeep();
        check.args(["check", "--restore", "--timeout", "30s", "--archive", archive, "--pgdata"]);
        check.arg(pusher.data.join("")).args(json.then_some("--json"));
        let text = CallOutput::of(check).text();
        assert!(!text.contains("PLANTED") && text.contains("AWS_SECRET_ACCESS_KEY=***"), "{text}");
        assert!(text.contains("restore_command succeeds for"), "{text}");
    }
}

#[test]
fn what_is_to_be_set_does_not_depend_on_where_the_check_ran() {
    let pusher = archived();
    configure(&pusher, "archive_command = ''");
    let config = pusher.sandbox.join("names.toml");
    std::fs::write(&config, format!("archive = '{}'", pusher.archive.url())).unwrap();
    let mut check = pusher.sandbox.walkeep();
    let root = config.parent().unwrap();
    check.current_dir(root).args(["check", "--json", "--config", "names.toml", "--pgdata"]);
    check.arg(pusher.data.join(""));
    let words = [format!("--config {} %p", config.display())];
    finds(check, "fail", "archive_command", &[&words[0]]);
}
