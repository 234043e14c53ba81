//! `walkeep backfill` with a `pg_wal` written by the test: archived files, files left, and messages.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use support::{
    backfilled::{MIB, Server, wal, wal_of},
    files::names_in,
    kept::{name, position},
    push::{BACKUP, BACKUP_CONTENT, OTHER_SYSTEM, files_below},
    running::outcome_of,
    store_cluster::CallOutput,
    user,
    wal_writer::WalWriter,
};

#[test]
fn complete_segments_are_archived_whatever_their_marks_and_the_current_one_stays() {
    let server = Server::new();
    let mut wal = wal_of(1, 1, 4);
    let end = wal.position();
    server.has(&wal, 1);
    let (status, lines) = server.backfilled();
    let end = format!("{:X}/{:X}", end >> 32, end & 0xFFFF_FFFF);
    assert_eq!(
        lines,
        [
            format!("archived {}", name(1, 2)),
            format!("archived {}", name(1, 3)),
            format!("archived {}", name(1, 4)),
            format!("left {}: incomplete: its records end at {end}", name(1, 5)),
            "archived 3 files, 3 MB; 1 in the archive already, by name, 1 left".to_owned(),
        ]
    );
    assert_eq!(status, 0, "that a segment is being written is no problem");
    assert_eq!(server.archived(), [1, 2, 3, 4].map(|number| name(1, number)));
    for (segment, number) in wal.segments().iter().take(4).zip(1..) {
        assert!(server.pusher.original(&name(1, number)) == *segment, "{number}");
    }

    // Files that arrived in the meantime are archived next time.
    wal.fill();
    server.has(&wal, 1);
    let (_, lines) = server.backfilled();
    assert_eq!(lines[..1], [format!("archived {}", name(1, 5))]);
    let (status, lines) = server.backfilled();
    assert_eq!(
        (status, lines),
        (0, vec!["archived 0 files, 0 B; 5 in the archive already, by name, 0 left".to_owned()])
    );
}

#[test]
fn the_last_segment_is_archived_if_a_switch_ends_it_and_nothing_follows() {
    for with_page_headers in [false, true] {
        let server = Server::new();
        let mut wal = wal_of(1, 1, 1);
        wal.record(100);
        let switch = wal.switch(with_page_headers);
        server.has(&wal, 1);
        let whole = wal.segments().remove(1);
        // As left by a walreceiver that had received no more.
        let mut old = whole.clone();
        old[MIB - 1] = 1;
        server.put(&name(1, 2), old);
        let (status, lines) = server.backfilled();
        let ends = format!("left {}: it ends in a switch at 0/{switch:X}, behind which", name(1, 2));
        assert!(status == 1 && lines[0].starts_with(&ends), "{lines:?}");
        server.put(&name(1, 2), whole);
        assert_eq!(server.backfilled().1[..1], [format!("archived {}", name(1, 2))]);
    }
}

#[test]
fn the_incomplete_last_segment_stays_despite_leftovers_of_earlier_use() {
    let mut old = wal(1, 0x10);
    old.fill();
    let old = old.segments().remove(0);
    let mut new = wal_of(1, 1, 1);
    // Records end in the middle of the last page. The header of that page is right.
    while new.position() < 3 * MIB as u64 - 4_000 {
        new.record(1_000);
    }
    let begun = usize::try_from(new.position() - 2 * MIB as u64).unwrap();
    for behind in [vec![0; MIB], old] {
        let server = Server::new();
        server.has(&new, 1);
        let segment = [&new.segments()[1][..begun], &behind[begun..]].concat();
        server.put(&name(1, 2), segment);
        let (status, lines) = server.backfilled();
        assert_eq!(status, 0);
        assert!(lines[0].starts_with(&format!("left {}: incomplete", name(1, 2))), "{lines:?}");
        assert_eq!(server.archived(), [name(1, 1)]);
    }
}

#[test]
fn a_following_segment_does_not_outweigh_incomplete_records() {
    let mut wal = wal_of(1, 1, 1);
    wal.record(100);
    let switch = wal.switch(false);
    (0..2).for_each(|_| wal.fill());
    let torn = {
        let end = wal.position();
        wal.record(30_000);
        end
    };
    wal.fill();
    wal.record(100);
    let segments = wal.segments();
    let server = Server::new();
    server.has(&wal, 1);
    // As left by a walreceiver that was stopped there.
    let mut more = segments[1].clone();
    more[MIB - 1] = 1;
    server.put(&name(1, 2), more);
    // As in a copy of a directory made while a server wrote to it.
    assert_eq!(torn, 5 * MIB as u64);
    let mut copied = segments[4].clone();
    copied[400_000..].fill(0);
    server.put(&name(1, 5), copied);
    let (status, lines) = server.backfilled();
    assert_eq!(status, 1);
    let archived = [3, 4].map(|number| format!("archived {}", name(1, number)));
    assert_eq!(lines[..2], archived);
    assert!(
        lines[2].starts_with(&format!("left {}: it ends in a switch at 0/{switch:X}", name(1, 2))),
        "{lines:?}"
    );
    assert!(lines[3].starts_with(&format!("left {}: its records end at 0/5", name(1, 5))), "{lines:?}");
    assert!(lines[3].contains("although the next segment has begun"), "{lines:?}");
    // Records of an unknown layout prove nothing.
    server.pusher.data.segment(&name(1, 5), 7);
    let (_, lines) = server.backfilled();
    assert_eq!(lines[..1], [format!("archived {}", name(1, 5))]);
}

#[test]
fn a_record_that_continues_in_a_missing_segment_proves_nothing() {
    let server = Server::new();
    let mut wal = wal_of(1, 1, 1);
    let begun = wal.record(3 * MIB);
    wal.record(10);
    wal.switch(false);
    let segments = wal.segments();
    server.put(&name(1, 2), &segments[1]);
    let (_, lines) = server.backfilled();
    let why = format!("perhaps incomplete: its last record, at 0/{begun:X}, goes on in the next segment");
    assert!(lines[0].starts_with(&format!("left {}: {why}", name(1, 2))), "{lines:?}");
    // The next segment proves the previous one complete, and so on, up to the switch.
    server.has(&wal, 1);
    let (status, lines) = server.backfilled();
    assert_eq!(status, 0);
    let archived: Vec<_> = (2..=5).map(|number| format!("archived {}", name(1, number))).collect();
    assert_eq!(lines[..4], archived);
}

#[test]
fn a_partial_record_must_fill_its_segment() {
    let server = Server::new();
    let mut wal = wal_of(1, 1, 1);
    wal.record(4_800_000);
    wal.record(100);
    server.has(&wal, 1);
    let mut damaged = wal.segments().remove(3);
    damaged[10 * 8192..].fill(0);
    server.put(&name(1, 4), damaged);
    let (status, lines) = server.backfilled();
    assert_eq!(status, 1);
    let left = format!("left {}: its records end at {}", name(1, 4), position(4, 10 * 8192));
    assert!(lines.iter().any(|line| line.starts_with(&left)), "{lines:?}");
    assert_eq!(server.archived(), [1, 2, 3, 5].map(|number| name(1, number)));
}

#[test]
fn a_file_prepared_for_reuse_proves_nothing_and_is_named() {
    let server = Server::new();
    server.has(&wal_of(1, 1, 1), 1);
    let mut old = wal(1, 1);
    old.fill();
    server.put(&name(1, 3), &old.segments()[0]);
    server.put(&name(1, 4), vec![0; MIB]);
    let (status, lines) = server.backfilled();
    assert_eq!(status, 0);
    assert!(lines[0].starts_with(&format!("left {}: incomplete", name(1, 2))), "{lines:?}");
    for (line, number) in lines[1..3].iter().zip(3..) {
        assert!(line.starts_with(&format!("left {}: no WAL has been written", name(1, number))), "{line}");
    }
}

#[test]
fn all_timelines_are_archived_history_files_first_and_partial_segments_stay() {
    let server = Server::new();
    server.has(&wal_of(1, 1, 2), 1);
    fs::rename(server.file(&name(1, 3)), server.file(&format!("{}.partial", name(1, 3)))).unwrap();
    server.has(&wal_of(2, 3, 1), 3);
    server.history(2, &[1]);
    server.put(BACKUP, BACKUP_CONTENT);
    let (status, lines) = server.backfilled();
    assert_eq!(status, 0);
    let archived = ["00000002.history", BACKUP, &name(1, 2), &name(2, 3)];
    assert_eq!(lines[..4], archived.map(|name| format!("archived {name}")));
    assert!(lines[4].starts_with(&format!("left {}.partial: a partial segment", name(1, 3))), "{lines:?}");
    assert!(lines[5].starts_with(&format!("left {}: incomplete", name(2, 4))), "{lines:?}");
}

#[test]
fn damaged_and_foreign_files_are_problems_but_do_not_stop_it() {
    let server = Server::new();
    server.has(&wal_of(1, 1, 2), 1);
    server.put("00000002.history", "");
    let mut foreign = WalWriter::new(OTHER_SYSTEM, 1, 7, MIB as u64);
    foreign.fill();
    server.has(&foreign, 7);
    server.put(&name(1, 9), &foreign.segments()[0][..1000]);
    fs::create_dir(server.file(&name(1, 0x20))).unwrap();
    let (status, lines) = server.backfilled();
    assert_eq!(status, 1);
    assert_eq!(lines[0], format!("archived {}", name(1, 2)));
    for (name, why) in [
        ("00000002.history".to_owned(), "it is damaged: it names no parent timeline"),
        (name(1, 7), "it is not what its name says: it belongs to system"),
        (name(1, 9), "it is not what its name says: it has 1000 bytes"),
        (name(1, 0x20), "it is damaged: it is not a regular file"),
    ] {
        assert!(lines.iter().any(|line| line.starts_with(&format!("left {name}: {why}"))), "{lines:?}");
    }
    let json = CallOutput::of(server.backfill(&["--json"]));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["ok"], &json["held_files"]), (&Value::from(false), &Value::from(2)));
    let problems = json["left"].as_array().unwrap().iter().filter(|left| left["problem"] == true);
    assert_eq!(problems.count(), 4, "{json}");
}

#[test]
fn an_implausible_archive_receives_nothing() {
    let server = Server::new();
    server.has(&wal_of(1, 1, 2), 1);
    let refused = |mut command: Command, status: i32, words: &[&str]| {
        let output = CallOutput::of({
            command.stdout(Stdio::null());
            command
        });
        output.is_error(status, words);
        assert_eq!(server.archived(), [name(1, 1)]);
    };
    let elsewhere = server.pusher.sandbox.directory("elsewhere");
    let other = elsewhere.to_str().unwrap();
    let with = |options: &[&str]| {
        let mut command = server.pusher.sandbox.walkeep();
        command
            .args(["backfill", "--timeout", "1s", "--pgdata"])
            .arg(server.pusher.data.join(""))
            .args(options);
        command
    };
    refused(with(&["--archive", other]), 1, &["holds no file of system", "is it mounted"]);
    assert_eq!(files_below(&elsewhere), [""; 0]);
    assert_eq!(names_in(&elsewhere), [""; 0]);
    refused(with(&["--archive", "/nowhere"]), 1, &["/nowhere"]);
    let other = OTHER_SYSTEM.to_string();
    refused(server.backfill(&["--system-identifier", &other]), 2, &["is of system", &other]);
    let mut no_data = server.pusher.sandbox.walkeep();
    no_data.args(["backfill", "--archive", server.pusher.archive.url(), "--pgdata"]).arg(&elsewhere);
    refused(no_data, 2, &["there is no global/pg_control"]);
    let mut nothing = server.pusher.sandbox.walkeep();
    nothing.args(["backfill", "--archive", server.pusher.archive.url()]);
    refused(nothing, 2, &["--pgdata"]);
}

#[test]
fn root_creates_no_files_that_the_server_could_not_read() {
    let server = Server::new();
    server.has(&wal_of(1, 1, 2), 1);
    let program = server.pusher.sandbox.program("walkeep");
    let mut as_it_is = Command::new(program);
    as_it_is.args([
        "backfill",
        "--config",
        "/dev/null",
        "--archive",
        server.pusher.archive.url(),
        "--pgdata",
    ]);
    as_it_is.arg(server.pusher.data.join("")).stdout(Stdio::null());
    assert_eq!(outcome_of(as_it_is).status, 0);
    assert!(server.archived().len() > 1, "{:?}", server.archived());
    for file in files_below(Path::new(server.pusher.archive.url())) {
        let found = fs::metadata(Path::new(server.pusher.archive.url()).join(&file)).unwrap();
        assert_eq!(found.uid(), user::uid(), "{file}");
    }
}
