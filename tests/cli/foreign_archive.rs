//! An archive that holds nothing of the cluster says what it does hold: other systems, or plain files of `cp`.
#![allow(clippy::unwrap_used)]

use std::{fs, process::Command};

use support::{
    push::{Pusher, SYSTEM},
    store_cluster::CallOutput,
};

const WANTED: &str = "000000010000000000000001";
const OTHERS: [&str; 2] = ["7111111111111111111", "7222222222222222222"];

fn calls(pusher: &Pusher) -> Vec<Command> {
    let data = pusher.data.join("").display().to_string();
    let system = SYSTEM.to_string();
    let mut calls: Vec<Command> = [
        &["list", "--system-identifier", &system][..],
        &["verify", "--pgdata", &data],
        &["status", "--pgdata", &data],
    ]
    .into_iter()
    .map(|arguments| {
        let mut call = pusher.sandbox.walkeep();
        call.args(arguments).args(["--archive", pusher.archive.url()]);
        call
    })
    .collect();
    let mut restore = pusher.sandbox.walkeep_restore();
    restore.args(["--archive", pusher.archive.url(), "--timeout", "1s", WANTED, "pg_wal/RECOVERYXLOG"]);
    restore.current_dir(pusher.data.join(""));
    calls.push(restore);
    calls
}

fn all_say(pusher: &Pusher, words: &[&str]) {
    for call in calls(pusher) {
        let what = format!("{call:?}");
        let outcome = CallOutput::of(call);
        assert_ne!(outcome.status, 0, "{what}");
        let said = outcome.text();
        for word in words {
            assert!(said.contains(word), "{what}: {word:?} is not in {said}");
        }
    }
}

#[test]
fn an_archive_of_other_clusters_names_them() {
    let pusher = Pusher::new();
    for system in OTHERS {
        let group = format!("{}/{system}/wal/0000000100000000", pusher.archive.url());
        fs::create_dir_all(&group).unwrap();
        fs::write(format!("{group}/{WANTED}"), "x").unwrap();
    }
    all_say(
        &pusher,
        &[&format!("holds nothing of system {SYSTEM}, but systems {}, {}", OTHERS[0], OTHERS[1])],
    );
}

#[test]
fn an_archive_of_cp_is_recognized() {
    let pusher = Pusher::new();
    for number in 1..=12 {
        fs::write(format!("{}/0000000100000000000000{number:02X}", pusher.archive.url()), "x").unwrap();
    }
    let words = ["but 12 plain WAL files, as cp leaves them", "walkeep-archive --archive /mnt/new"];
    all_say(&pusher, &words);
    let mut list = pusher.sandbox.walkeep();
    list.args(["list", "--archive", pusher.archive.url()]);
    let said = CallOutput::of(list).stderr;
    assert!(said.contains("holds no system's WAL, but 12 plain WAL files"), "{said}");
    let mut check = pusher.sandbox.walkeep();
    check.args(["check", "--archive", pusher.archive.url()]);
    let said = CallOutput::of(check).text();
    assert!(said.contains("! archive") && said.contains("holds 12 plain WAL files"), "{said}");
}
