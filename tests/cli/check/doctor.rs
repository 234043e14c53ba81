//! `walkeep check` speaks for the server's user, compares the server's commands with the archive, and looks at the places where
//! WAL is kept.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::{Child, Command},
};

use serde_json::Value;
use support::{
    files::Permissions,
    push::{Pusher, SYSTEM},
    status::noted,
    store_cluster::CallOutput,
    strace::with_effects,
    user,
};

use super::archiving::{archived, check, finds, found};

pub(super) fn configure(pusher: &Pusher, lines: &str) {
    pusher.data.file("postgresql.conf", format!("archive_mode = on\n{lines}\n"));
}

fn outcome(check: Command, name: &str) -> (String, String) {
    let (finding, _) = found(check, name);
    let text = format!("{} {}", finding["detail"].as_str().unwrap(), finding["hint"].as_str().unwrap_or(""));
    (finding["outcome"].as_str().unwrap().to_owned(), text)
}

/// A process that works in the data directory, as a server does, with an environment of its own.
pub(super) struct Serving(Child);

impl Serving {
    pub(super) fn start(pusher: &Pusher, variable: (&str, &str)) -> Self {
        let mut sleep = pusher.sandbox.command("sleep");
        sleep.arg("600").current_dir(pusher.data.join("")).env(variable.0, variable.1);
        let child = sleep.spawn().unwrap();
        pusher.data.file("postmaster.pid", format!("{}\n/data\n1700000000\n", child.id()));
        let environ = format!("/proc/{}/environ", child.id());
        while !fs::read(&environ).is_ok_and(|text| !text.is_empty()) {
            std::thread::yield_now();
        }
        Self(child)
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_whose_commands_use_another_archive_fails() {
    let pusher = archived();
    let archive = pusher.archive.url();
    let both = |archiving: &str, restoring: &str| {
        let (archiving, restoring) = (archiving.replace("HERE", archive), restoring.replace("HERE", archive));
        configure(&pusher, &format!("archive_command = '{archiving}'\nrestore_command = '{restoring}'"));
    };
    both("walkeep-archive --archive HERE %p", "walkeep-restore --archive \"HERE/\" %f %p");
    finds(check(&pusher, archive), "pass", "destination", &["archive_command uses this archive"]);
    finds(check(&pusher, archive), "pass", "source", &["restore_command uses this archive"]);
    both("walkeep-archive --archive /elsewhere %p", "walkeep-restore --archive HERE %f %p");
    finds(check(&pusher, archive), "fail", "destination", &["another archive: /elsewhere"]);
    both("walkeep-archive --archive HERE %p", "env WALKEEP_ARCHIVE=/elsewhere walkeep-restore %f %p");
    finds(check(&pusher, archive), "fail", "source", &["another archive: /elsewhere"]);
    let file = pusher.sandbox.file("other.toml", "archive = \"s3://elsewhere/x\"\n[store]\nregion = \"x\"\n");
    both(&format!("walkeep-archive --config {} %p", file.display()), "");
    finds(check(&pusher, archive), "fail", "destination", &["another archive: s3://elsewhere/x"]);
    both("ssh there walkeep-archive --archive HERE %p", "");
    finds(check(&pusher, archive), "note", "destination", &["nobody can tell", "by ssh"]);
}

#[test]
fn the_environment_of_the_running_server_decides_where_its_command_archives() {
    let pusher = archived();
    let archive = pusher.archive.url();
    configure(&pusher, "archive_command = 'walkeep-archive %p'");
    {
        let _serving = Serving::start(&pusher, ("WALKEEP_ARCHIVE", "/elsewhere"));
        finds(check(&pusher, archive), "fail", "destination", &["another archive: /elsewhere"]);
    }
    let _serving = Serving::start(&pusher, ("WALKEEP_ARCHIVE", archive));
    finds(check(&pusher, archive), "pass", "destination", &["this archive"]);
}

#[test]
fn a_wrapper_is_no_failure_but_nobody_can_tell_where_it_archives() {
    let pusher = archived();
    let archive = pusher.archive.url();
    let script = pusher.sandbox.file("archive.sh", "#!/bin/sh\nexec walkeep-archive \"$1\"\n");
    configure(&pusher, &format!("archive_command = '{} %p'", script.display()));
    finds(check(&pusher, archive), "note", "destination", &["nobody can tell"]);
    fs::write(&script, "#!/bin/sh\nexec cp \"$1\" /elsewhere\n").unwrap();
    let (_, failed) = found(check(&pusher, archive), "archive_command");
    assert_eq!(failed, ["archive_command"]);
}

#[test]
fn a_check_by_root_fails_where_the_servers_user_cannot_write() {
    let pusher = archived();
    let root = rustix::process::geteuid();
    let as_it_is = || {
        let mut command = Command::new(pusher.sandbox.program("walkeep"));
        command.args(["check", "--json", "--archive", pusher.archive.url(), "--pgdata"]);
        command.arg(pusher.data.join("")).env("WALKEEP_CONFIG", "/dev/null").current_dir("/");
        command.env("WALKEEP_SPOOL", pusher.sandbox.join("spool"));
        command
    };
    assert_eq!(outcome(as_it_is(), "user").0, "pass");
    if !root.is_root() {
        return;
    }
    for path in [pusher.archive.url().to_owned(), format!("{}/{SYSTEM}", pusher.archive.url())] {
        chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (finding, failed) = found(as_it_is(), "create");
    assert!(finding.to_string().contains("Permission denied"), "{finding:#}");
    assert_eq!(failed, ["create", "directories"]);
}

#[test]
fn an_archive_inside_the_data_directory_fails_and_one_beside_it_is_noted() {
    let pusher = archived();
    finds(check(&pusher, pusher.archive.url()), "note", "place", &["same file system"]);
    let inside = pusher.data.join("pg_wal/archive");
    fs::create_dir(&inside).unwrap();
    user::hand_over(&inside);
    finds(check(&pusher, inside.to_str().unwrap()), "fail", "place", &["inside", "pg_wal"]);
}

#[test]
fn a_file_system_without_hard_links_passes_if_it_has_the_other_way() {
    let pusher = archived();
    let archive = pusher.archive.url();
    let without = |effects: &[&str]| with_effects(effects, &pusher.sandbox, &check(&pusher, archive));
    finds(without(&["linkat:error=EPERM"]), "pass", "publish", &["renameat2"]);
    let neither = ["linkat:error=EIO", "renameat2:error=EINVAL"];
    let (finding, failed) = found(without(&neither), "publish");
    assert!(finding.to_string().contains("neither hard links"), "{finding:#}");
    assert_eq!(failed, ["create", "publish"]);
    let (_, text) = outcome(without(&neither), "file_system");
    assert!(text.contains("mounted on"), "what it is on is said all the same: {text}");
}

#[test]
fn a_check_for_restores_only_writes_nothing_into_the_directory() {
    let pusher = archived();
    let archive = pusher.archive.url();
    let _closed = Permissions::set(archive.as_ref(), 0o500);
    let mut check = check(&pusher, archive);
    check.arg("--restore-only");
    let (_, failed) = found(check, "file_system");
    assert_eq!(failed, [""; 0]);
}

#[test]
fn places_and_space_are_reported() {
    let pusher = archived();
    let archive = pusher.archive.url();
    for name in ["space", "wal_space"] {
        let (_, text) = outcome(check(&pusher, archive), name);
        assert!(text.contains("room for") && text.contains("are free"), "{text}");
    }
    let (_, text) = outcome(check(&pusher, archive), "file_system");
    assert!(text.contains("mounted on /"), "{text}");
    let (found, text) = outcome(check(&pusher, archive), "publish");
    assert!(found == "pass" && text.contains("hard link"), "{text}");
    let (found, text) = outcome(check(&pusher, archive), "backup");
    assert!(found == "pass" && text.ends_with(" ago "), "{text}");
}

#[test]
fn a_spool_that_cannot_be_used_is_noted_with_its_cost() {
    let pusher = archived();
    let archive = pusher.archive.url();
    finds(check(&pusher, archive), "pass", "look_ahead", &["look-ahead and prefetching work"]);
    let spool = pusher.sandbox.join("spool");
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o755)).unwrap();
    finds(check(&pusher, archive), "note", "look_ahead", &["do not work", "0755", "several times as long"]);
    configure(
        &pusher,
        &format!("archive_command = 'walkeep-archive --archive {archive} --spool /proc/x %p'"),
    );
    finds(check(&pusher, archive), "note", "look_ahead", &["do not work", "/proc/x"]);
}

#[test]
fn what_the_last_verify_has_found_fails() {
    let pusher = archived();
    let archive = pusher.archive.url();
    let report = |failures: u64| {
        let ok = failures == 0;
        format!(
            r#"{{"at": "2026-01-02T03:04:05Z", "ok": {ok}, "deep": false, "checked_files": 9, "failures": {failures}, "notes": 0}}"#
        )
    };
    noted(&pusher, "verify", &report(0));
    finds(check(&pusher, archive), "pass", "verify", &["2026-01-02T03:04:05Z", "no failure"]);
    noted(&pusher, "verify", &report(2));
    finds(check(&pusher, archive), "fail", "verify", &["2 failures", "walkeep verify"]);
    let output = CallOutput::of(check(&pusher, archive));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["error"].as_str().unwrap().starts_with("verify: "), "{json:#}");
}
