//! A recovery beside a busy primary: segments that are taken along are published as each is ready, not in their order, and no
//! hole of a moment is taken for the end of the log.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

mod support;

use std::fs;

use support::{
    data_directory::DataDirectory,
    push::{Pusher, SYSTEM},
    restore::TARGET,
    running::{Running, outcome_of},
    user,
};

const SEGMENTS: usize = 60;
const ROUNDS: usize = 3;

fn name(number: usize) -> String {
    format!("0000000100000000{number:08X}")
}

/// The highest number of a segment that is archived.
fn newest(pusher: &Pusher) -> usize {
    let names = pusher.archive.names(SYSTEM, "wal/0000000100000000");
    let numbers = names
        .iter()
        .filter(|name| name.len() == 24)
        .map(|name| usize::from_str_radix(name.get(16..).unwrap(), 16).unwrap());
    numbers.max().unwrap_or_default()
}

#[test]
fn a_segment_is_never_absent_while_a_later_one_is_archived() {
    for _ in 0..ROUNDS {
        let pusher = Pusher::new();
        let recovery = DataDirectory::new(&pusher.sandbox, "recovery", SYSTEM);
        recovery.file("recovery.signal", "");
        let marks = pusher.data.join("pg_wal/archive_status");
        fs::create_dir(&marks).unwrap();
        user::hand_over(&marks);
        for number in 1..=SEGMENTS {
            pusher.data.segment(&name(number), u8::try_from(number).unwrap());
            pusher.data.file(&format!("pg_wal/archive_status/{}.ready", name(number)), "");
        }
        let push = Running::start(pusher.push(&name(1)));
        let mut next = 1;
        while next <= SEGMENTS {
            let newest_before = newest(&pusher);
            let mut restore = recovery.run(pusher.sandbox.walkeep_restore());
            restore.args(["--archive", pusher.archive.url(), "--prefetch-size", "0MB", &name(next), TARGET]);
            let outcome = outcome_of(restore);
            match outcome.status {
                0 => next += 1,
                // Nothing has been archived yet.
                255 if newest_before == 0 => {}
                status => {
                    assert_eq!(status, 1, "{}", outcome.stderr);
                    assert!(newest_before < next, "{next} is absent, while {newest_before} was there");
                }
            }
        }
        assert_eq!(push.end().status, 0);
    }
}
