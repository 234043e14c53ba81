//! `walkeep check` in places and with data directories that are not as they should be: an answer, and no panic.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use support::{push::Pusher, store_cluster::CallOutput, user, wrapper::wrapped};

use super::{
    archiving::{archived, check, finds, found},
    doctor::configure,
};

fn archives_here(pusher: &Pusher) {
    configure(pusher, &format!("archive_command = 'walkeep-archive --archive {} %p'", pusher.archive.url()));
}

/// Asserts that all is well.
fn passes(check: Command) {
    let (_, failed) = found(check, "backlog");
    assert_eq!(failed, [""; 0]);
}

#[test]
fn a_deleted_working_directory_does_not_matter() {
    let pusher = archived();
    archives_here(&pusher);
    let gone = pusher.sandbox.directory("gone");
    let mut shell = pusher.sandbox.command("sh");
    shell.args(["-c", "cd \"$0\" && rmdir \"$0\" && exec \"$@\""]).arg(&gone);
    let mut plain = check(&pusher, pusher.archive.url());
    plain.current_dir("/");
    passes(wrapped(shell, &plain));
    // A relative directory cannot be found from there.
    let mut shell = pusher.sandbox.command("sh");
    shell.args(["-c", "mkdir \"$0\" && cd \"$0\" && rmdir \"$0\" && exec \"$@\""]).arg(&gone);
    let mut relative = pusher.sandbox.walkeep();
    relative.args(["check", "--json", "--archive", pusher.archive.url(), "--pgdata", "data"]);
    let (finding, failed) = found(wrapped(shell, &relative), "system");
    assert_eq!(failed, ["system"]);
    assert!(finding["detail"].as_str().unwrap().contains("data"), "{finding:#}");
}

#[test]
fn no_home_is_needed() {
    let pusher = archived();
    archives_here(&pusher);
    let mut check = check(&pusher, pusher.archive.url());
    check.env_remove("HOME").env_remove("USER").env_remove("LOGNAME");
    passes(check);
}

/// Returns the command where something else is mounted over /proc.
fn without_proc(command: &Command, how: &str) -> Command {
    let mut unshare = Command::new("unshare");
    let is_root = rustix::process::geteuid().is_root();
    unshare.arg(if is_root { "-m" } else { "-Urm" });
    let become_user = "exec setpriv --reuid \"$0\" --regid \"$0\" --clear-groups \"$@\"";
    let script = format!("{how} && {}", if is_root { become_user } else { "exec \"$@\"" });
    unshare.args(["sh", "-c", &script, &user::uid().to_string()]);
    wrapped(unshare, command)
}

#[test]
fn a_machine_without_proc_is_checked_as_far_as_it_can_be() {
    let pusher = archived();
    archives_here(&pusher);
    let of_mount = |how: &str| {
        let check = without_proc(&check(&pusher, pusher.archive.url()), how);
        let (finding, failed) = found(check, "file_system");
        assert_eq!(failed, [""; 0], "{how}");
        finding
    };
    let finding = of_mount("mount -t tmpfs none /proc");
    assert!(finding["outcome"] == "note" && finding.to_string().contains("not known"), "{finding:#}");
    // Where nobody sees the processes of others. Only root may mount that.
    if rustix::process::geteuid().is_root() {
        assert_eq!(of_mount("mount -t proc -o hidepid=2 none /proc")["outcome"], "pass");
    }
}

#[test]
fn a_data_directory_of_another_version_is_named() {
    let pusher = archived();
    archives_here(&pusher);
    let archive = pusher.archive.url();
    finds(check(&pusher, archive), "pass", "version", &["PostgreSQL 15"]);
    for (text, outcome, word) in [
        ("9.6\n", "fail", "PostgreSQL 9.6"),
        ("10\n", "pass", "PostgreSQL 10"),
        ("19\n", "pass", "PostgreSQL 19"),
        ("20\n", "note", "PostgreSQL 20"),
        ("", "note", "PG_VERSION"),
        ("\u{1}garbage\n15\n", "note", "PG_VERSION"),
    ] {
        pusher.data.file("PG_VERSION", text);
        finds(check(&pusher, archive), outcome, "version", &[word]);
    }
    pusher.data.file("PG_VERSION", b"\xff\xfe");
    finds(check(&pusher, archive), "note", "version", &["PG_VERSION"]);
    fs::remove_file(pusher.data.join("PG_VERSION")).unwrap();
    finds(check(&pusher, archive), "note", "version", &["PG_VERSION"]);
}

#[test]
fn a_link_to_the_data_directory_is_followed_and_one_to_nowhere_named() {
    let pusher = archived();
    archives_here(&pusher);
    let link = pusher.sandbox.join("link");
    let of_link = || {
        let mut check = pusher.sandbox.walkeep();
        check.args(["check", "--json", "--archive", pusher.archive.url(), "--pgdata"]).arg(&link);
        check
    };
    symlink(pusher.data.join(""), &link).unwrap();
    passes(of_link());
    fs::remove_file(&link).unwrap();
    for target in [Path::new("/nowhere/at/all"), &link, Path::new("/dev/null")] {
        symlink(target, &link).unwrap();
        let (finding, failed) = found(of_link(), "system");
        assert_eq!(failed, ["system"], "{target:?}");
        assert!(finding["detail"].as_str().unwrap().contains(link.to_str().unwrap()), "{finding:#}");
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn a_lock_file_that_a_crash_or_a_stranger_has_left_is_no_server() {
    let pusher = archived();
    archives_here(&pusher);
    let own = format!("{}\n/data\n", std::process::id());
    for lock in ["", "\n\n", "999999999\n/data\n", "-17\n", "x\u{0}y", "99999999999999999999\n", &own] {
        pusher.data.file("postmaster.pid", lock);
        passes(check(&pusher, pusher.archive.url()));
    }
}

#[test]
fn settings_that_cannot_be_read_are_named_with_the_file() {
    let pusher = archived();
    let archive = pusher.archive.url();
    let fails = |words: &[&str]| finds(check(&pusher, archive), "fail", "archive_mode", words);
    configure(&pusher, "port = 5499\ninclude 'missing.conf'");
    fails(&["missing.conf", "No such file"]);
    configure(&pusher, "include 'postgresql.conf'");
    fails(&["postgresql.conf", "include each other"]);
    configure(&pusher, "include_dir 'conf.d'");
    fails(&["conf.d", "No such file"]);
    configure(&pusher, "include '/'");
    fails(&["cannot read /", "a directory"]);
    configure(&pusher, &format!("archive_command = 'walkeep-archive --archive {archive} %p'"));
    pusher.data.file("postgresql.auto.conf", "include 'more.conf'\n");
    pusher.data.file("more.conf", "include 'postgresql.auto.conf'\n");
    fails(&["include each other"]);
    fs::remove_file(pusher.data.join("postgresql.auto.conf")).unwrap();
    // Nobody waits for a pipe.
    let pipe = pusher.data.join("pipe.conf");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    user::hand_over(&pipe);
    configure(&pusher, "include 'pipe.conf'");
    fails(&["pipe.conf", "a named pipe"]);
}

/// As a check of a host in an odd state may be asked for in text, for people.
#[test]
fn an_odd_directory_is_told_in_text_as_well() {
    let pusher = archived();
    for name in ["global/pg_control", "PG_VERSION"] {
        pusher.data.file(name, b"\xff\x00\x1b[31m");
    }
    let mut check = pusher.sandbox.walkeep();
    check.args(["check", "--archive", pusher.archive.url(), "--pgdata"]).arg(pusher.data.join(""));
    check.stdin(Stdio::null());
    let output = CallOutput::of(check);
    assert_eq!((output.status, &*output.stderr), (1, ""), "{}", output.text());
    assert!(output.text().contains("pg_control") && !output.text().contains('\u{1b}'), "{}", output.text());
}

/// As `ls` shows what is in the archive beside walkeep's own.
#[test]
fn a_pipe_in_place_of_a_report_is_one_plain_warning() {
    let pusher = archived();
    let reports = format!("{}/{}/reports", pusher.archive.url(), support::push::SYSTEM);
    fs::create_dir_all(&reports).unwrap();
    for work in ["prune", "verify"] {
        assert!(Command::new("mkfifo").arg(format!("{reports}/{work}.json")).status().unwrap().success());
        user::hand_over(Path::new(&format!("{reports}/{work}.json")));
    }
    archives_here(&pusher);
    let output = CallOutput::of(check(&pusher, pusher.archive.url()));
    assert_eq!((output.status, &*output.stderr), (0, ""), "{}", output.text());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let odd: Vec<&Value> =
        report["checks"].as_array().unwrap().iter().filter(|check| check["name"] == "unreadable").collect();
    assert_eq!(odd.len(), 1, "{odd:#?}");
    let detail = odd[0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("prune.json") && detail.contains("verify.json") && detail.contains("a named pipe"),
        "{detail}"
    );
}
