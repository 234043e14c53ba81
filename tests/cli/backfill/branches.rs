//! `walkeep backfill` mixes no files of two servers that may have written the same timeline.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    backfilled::{Server, wal, wal_of},
    kept::{name, position},
    push::succeeds,
    store_cluster::CallOutput,
};

#[test]
fn a_timeline_used_by_another_server_is_left_with_its_descendants() {
    let server = Server::new();
    server.history(2, &[1]);
    succeeds(server.pusher.push("00000002.history"));
    // The same timeline number, on another branch.
    server.put("00000002.history", format!("1\t{}\tsomewhere else\n", position(2, 0x100)));
    server.history(3, &[1, 2]);
    server.history(4, &[1]);
    for timeline in [1, 2, 3, 4] {
        server.has(&wal_of(timeline, 2, 1), 2);
    }
    let (status, lines) = server.backfilled();
    assert_eq!(status, 1);
    let archived = ["00000004.history", &name(1, 2), &name(4, 2)];
    assert_eq!(lines[..3], archived.map(|name| format!("archived {name}")));
    for name in ["00000003.history", &name(2, 2), &name(3, 2), &name(2, 3)] {
        let left = format!("left {name}: the archive holds its timeline, or one that it descends from");
        assert!(lines.iter().any(|line| line.starts_with(&left)), "{left}: {lines:?}");
    }
}

#[test]
fn a_server_that_diverged_on_the_same_timeline_adds_nothing_to_it() {
    let server = Server::new();
    server.has(&wal_of(1, 1, 3), 1);
    server.has(&wal_of(2, 2, 1), 2);
    server.put("00000002.history", left(&[(1, 4, 0)]));
    // The archive's second segment of the first timeline is another server's.
    let ours = fs::read(server.file(&name(1, 2))).unwrap();
    let mut theirs = wal(1, 1);
    theirs.fill();
    theirs.record(77);
    theirs.fill();
    server.put(&name(1, 2), &theirs.segments()[1]);
    succeeds(server.pusher.push(&name(1, 2)));
    server.put(&name(1, 2), ours);
    let (status, lines) = server.backfilled();
    assert_eq!(status, 1);
    let stays =
        |name: &str| format!("left {name}: the archive holds its timeline, or one that it descends from");
    for name in [&name(1, 3), "00000002.history", &name(2, 2)] {
        assert!(lines.iter().any(|line| line.starts_with(&stays(name))), "{name}: {lines:?}");
    }
    assert_eq!(server.archived(), [name(1, 1), name(1, 2)]);
}

/// Builds the history of a timeline that left others inside these segments, or at the start of one.
fn left(ancestors: &[(u32, u64, u64)]) -> String {
    let line = |(of, number, offset): &(u32, u64, u64)| format!("{of}\t{}\tx\n", position(*number, *offset));
    ancestors.iter().map(line).collect()
}

/// Returns the message about a segment after a fork.
fn behind(segment: u64, child: u32, at: &str) -> String {
    format!("left {}: timeline {child} left its timeline at {at}", name(1, segment))
}

#[test]
fn wal_that_an_old_primary_wrote_after_a_fork_is_left_and_named() {
    for offset in [0, 8, 0x100] {
        let server = Server::new();
        server.is_archived_elsewhere("00000002.history", left(&[(1, 3, offset)]));
        server.has(&wal_of(1, 1, 4), 1);
        let (status, lines) = server.backfilled();
        assert_eq!(status, 1, "its rows are nowhere else");
        assert_eq!(lines[0], format!("archived {}", name(1, 2)));
        for segment in [3, 4] {
            let said = behind(segment, 2, &position(3, offset));
            assert!(
                lines.iter().any(|line| line.starts_with(&said) && line.contains("pg_rewind")),
                "{lines:?}"
            );
        }
        assert_eq!(server.archived(), [name(1, 1), name(1, 2), "00000002.history".to_owned()]);
    }
}

#[test]
fn a_new_primary_fills_its_past_up_to_a_fork_known_from_either_place() {
    for in_archive in [false, true] {
        let server = Server::new();
        server.has(&wal_of(1, 1, 3), 1);
        server.has(&wal_of(2, 3, 1), 3);
        server.put("00000002.history", left(&[(1, 3, 0x100)]));
        if in_archive {
            succeeds(server.pusher.push("00000002.history"));
        }
        let (_, lines) = server.backfilled();
        for name in [name(1, 2), name(2, 3)] {
            assert!(lines.contains(&format!("archived {name}")), "{lines:?}");
        }
        assert!(lines.iter().any(|line| line.starts_with(&behind(3, 2, &position(3, 0x100)))), "{lines:?}");
    }
}

#[test]
fn of_several_forks_the_one_of_the_newest_timeline_counts() {
    for (second, third, goes) in [(3, 5, vec![2, 3, 4]), (5, 3, vec![2])] {
        let server = Server::new();
        server.is_archived_elsewhere("00000002.history", left(&[(1, second, 0x100)]));
        server.is_archived_elsewhere("00000003.history", left(&[(1, third, 0x100)]));
        server.has(&wal_of(1, 1, 5), 1);
        let (_, lines) = server.backfilled();
        let archived: Vec<_> = lines.iter().filter(|line| line.starts_with("archived 0000")).collect();
        let expected: Vec<_> = goes.iter().map(|number| format!("archived {}", name(1, *number))).collect();
        assert_eq!(archived, expected.iter().collect::<Vec<_>>());
        assert!(
            lines.iter().any(|line| line.starts_with(&behind(5, 3, &position(third, 0x100)))),
            "{lines:?}"
        );
    }
}

#[test]
fn an_unreadable_history_does_not_prove_that_there_is_no_fork() {
    let server = Server::new();
    server.is_archived_elsewhere("00000002.history", left(&[(1, 2, 0x100)]));
    let path = server.pusher.file("00000002.history");
    let mut damaged = fs::read(&path).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, damaged).unwrap();
    server.has(&wal_of(1, 1, 2), 1);
    let output = CallOutput::of(server.backfill(&[]));
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("00000002.history"), "{}", output.stderr);
    assert_eq!(server.archived(), [name(1, 1), "00000002.history".to_owned()]);
}

/// Builds the first segments of a timeline that differs from [`wal_of`] from the second one on.
fn parted(full: u64) -> Vec<Vec<u8>> {
    let mut theirs = wal(1, 1);
    theirs.fill();
    theirs.record(77);
    (1..full).for_each(|_| theirs.fill());
    theirs.segments()
}

#[test]
fn a_hole_is_filled_only_by_the_server_that_wrote_what_follows_it() {
    for parts in [false, true] {
        let server = Server::new();
        let ours = wal_of(1, 1, 5);
        let theirs = if parts { parted(4) } else { ours.segments() };
        server.is_archived_elsewhere(&name(1, 3), &theirs[2]);
        server.is_archived_elsewhere(&name(1, 4), &theirs[3]);
        server.has(&ours, 1);
        server.remove(&name(1, 1));
        let (status, lines) = server.backfilled();
        if parts {
            assert_eq!(status, 1);
            for segment in [2, 5] {
                let left = format!("left {}: the archive holds its timeline", name(1, segment));
                assert!(lines.iter().any(|line| line.starts_with(&left)), "{lines:?}");
            }
            assert_eq!(server.archived(), [1, 3, 4].map(|number| name(1, number)));
        } else {
            assert_eq!(status, 0, "{lines:?}");
            assert_eq!(server.archived(), [1, 2, 3, 4, 5].map(|number| name(1, number)));
        }
    }
}

#[test]
fn without_a_comparison_only_segments_after_all_archived_ones_are_archived() {
    // A later segment in the same directory, and in a later one.
    for later in [0xFFF, 0x2001] {
        let server = Server::new();
        server.has(&wal_of(1, 1, 3), 1);
        server.remove(&name(1, 1));
        server.has(&wal_of(2, 4, 1), 4);
        server.put("00000002.history", left(&[(1, 4, 0x100)]));
        server.is_archived_elsewhere(&name(1, later), &wal_of(1, later, 1).segments()[0]);
        let (status, lines) = server.backfilled();
        assert_eq!(status, 1);
        for segment in [2, 3] {
            let left = format!(
                "left {}: the archive has later segments of its timeline, and none",
                name(1, segment)
            );
            assert!(lines.iter().any(|line| line.starts_with(&left)), "{lines:?}");
        }
        assert_eq!(server.archived(), [1, later].map(|number| name(1, number)), "nor what descends from it");
        fs::remove_file(server.pusher.file(&name(1, later))).unwrap();
        let (status, lines) = server.backfilled();
        assert_eq!(status, 0, "{lines:?}");
        assert_eq!(
            lines[..4],
            ["00000002.history".to_owned(), name(1, 2), name(1, 3), name(2, 4)]
                .map(|name| format!("archived {name}"))
        );
    }
}
