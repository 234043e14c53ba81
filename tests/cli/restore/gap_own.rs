//! Facts in a server's own directory about a missing segment: its `pg_wal`, its settings, the label of its base
//! backup. None of them turns a gap into the end of the WAL.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::fs;

use support::{
    data_directory::{SEGMENT_BYTES, segment as content_of},
    restore::{SYSTEM, Scene},
    running::{Outcome, outcome_of},
    wal_writer::WalWriter,
};

use super::gap::{add_history, archived, history, segment};

fn asked(scene: &Scene, name: &str) -> Outcome {
    outcome_of(scene.restore(&scene.recovery, name))
}

fn status(scene: &Scene, name: &str) -> i32 {
    asked(scene, name).status
}

#[test]
fn a_segment_incomplete_in_pg_wal_is_a_gap_if_later_ones_are_archived() {
    let missing = segment(1, 5);
    let whole = {
        let mut wal = WalWriter::new(SYSTEM, 1, 5, SEGMENT_BYTES as u64);
        wal.fill();
        wal.segments()[0].clone()
    };
    let broken_off = {
        let mut wal = WalWriter::new(SYSTEM, 1, 5, SEGMENT_BYTES as u64);
        wal.records(&[1_000; 20]);
        wal.segments()[0].clone()
    };
    let scene = archived(&[segment(1, 4), segment(1, 6)]);
    let path = format!("pg_wal/{missing}");
    scene.recovery.file(&path, &whole);
    assert_eq!(status(&scene, &missing), 1, "the server has all of it");
    scene.recovery.file(&path, &broken_off);
    assert_eq!(status(&scene, &missing), 255, "as a standby had received it, whose base backup this is");
    // Without a known later segment, it is the end of the WAL.
    let scene = archived(&[segment(1, 4)]);
    scene.recovery.file(&path, &broken_off);
    assert_eq!(status(&scene, &missing), 1);
}

#[test]
fn a_later_segment_in_pg_wal_proves_a_gap() {
    let scene = archived(&[segment(1, 4)]);
    assert_eq!(status(&scene, &segment(1, 5)), 1);
    // A file prepared for reuse has old content.
    scene
        .recovery
        .file(&format!("pg_wal/{}", segment(1, 7)), content_of(&segment(1, 3), SYSTEM, SEGMENT_BYTES, 0));
    assert_eq!(status(&scene, &segment(1, 5)), 1);
    scene.recovery.segment(&segment(1, 7), 0);
    let outcome = asked(&scene, &segment(1, 5));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("own pg_wal, which holds"), "{}", outcome.stderr);
    assert_eq!(status(&scene, &segment(2, 5)), 1, "of another timeline");
}

#[test]
fn a_leftover_history_file_does_not_turn_a_gap_into_the_end_of_the_wal() {
    // A drill left timeline 1 in segment 3, and the primary continued.
    let scene = archived(&[segment(1, 4), segment(1, 6)]);
    add_history(&scene, 2, &[(1, 3)]);
    scene.recovery.file("pg_wal/00000002.history", history(&[(1, 3)]));
    assert_eq!(status(&scene, &segment(1, 5)), 255);
    for target in ["1", "current", "latest"] {
        scene.recovery.file("postgresql.conf", format!("recovery_target_timeline = '{target}'\n"));
        assert_eq!(status(&scene, &segment(1, 5)), 255, "{target}");
    }
}

#[test]
fn the_setting_selects_the_history_file_of_the_target() {
    let to = |target: &str| {
        let scene = archived(&[segment(1, 4)]);
        for (timeline, number) in [(2, 6), (3, 9)] {
            add_history(&scene, timeline, &[(1, number)]);
            scene.recovery.file(&format!("pg_wal/{timeline:08X}.history"), history(&[(1, number)]));
        }
        scene.recovery.file("postgresql.conf", format!("recovery_target_timeline = '{target}'\n"));
        [5, 6, 8, 9].map(|number| status(&scene, &segment(1, number)))
    };
    assert_eq!(to("2"), [255, 1, 1, 1]);
    assert_eq!(to("3"), [255, 255, 255, 1]);
    assert_eq!(to("latest"), [255, 255, 255, 1]);
    // On timeline 1 itself: it continued as far as any of them says.
    assert_eq!(to("1"), [255, 255, 255, 1]);
    assert_eq!(to("current"), [255, 255, 255, 1]);
}

#[test]
fn the_segments_up_to_the_checkpoint_are_the_start_of_a_base_backup() {
    let scene = archived(&[segment(1, 4)]);
    let label = format!(
        "START WAL LOCATION: 0/400028 (file {})\nCHECKPOINT LOCATION: 0/700060\nBACKUP METHOD: streamed\n",
        segment(1, 4)
    );
    scene.recovery.file("backup_label", label);
    for (number, expected) in [(5, 255), (6, 255), (7, 255), (8, 1)] {
        let outcome = asked(&scene, &segment(1, number));
        assert_eq!(outcome.status, expected, "{number}: {}", outcome.stderr);
        assert_eq!(
            outcome.stderr.contains("do NOT remove backup_label"),
            expected == 255,
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn a_missing_history_file_of_a_timeline_with_segments_is_not_absent() {
    let scene = archived(&[segment(1, 4), segment(2, 5)]);
    let outcome = asked(&scene, "00000002.history");
    assert_eq!((outcome.status, outcome.stderr.lines().count()), (255, 1), "{}", outcome.stderr);
    for word in ["00000002.history", &segment(2, 5), "put the file back"] {
        assert!(outcome.stderr.contains(word), "{}", outcome.stderr);
    }
    assert_eq!(status(&scene, "00000003.history"), 1);
    // A promotion continues whatever the answer, and a standby retries.
    assert_eq!(outcome_of(scene.restore(&scene.standby, "00000002.history")).status, 1);
    add_history(&scene, 2, &[(1, 5)]);
    assert_eq!(status(&scene, "00000002.history"), 0);
    fs::remove_file(scene.file("00000002.history")).unwrap();
    scene.recovery.file("pg_wal/00000002.history", history(&[(1, 5)]));
    assert_eq!(status(&scene, "00000002.history"), 0, "the server has it itself");
}

#[test]
fn a_recovery_that_follows_abandoned_wal_is_warned() {
    let warned = |scene: &Scene| {
        let outcome = asked(scene, &segment(2, 5));
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        outcome.stderr.contains("timeline 2 has archived no segment, so the server goes on along timeline 1")
    };
    let scene = archived(&[segment(1, 4), segment(1, 5), segment(1, 6)]);
    scene.recovery.file("pg_wal/00000002.history", history(&[(1, 5)]));
    assert!(warned(&scene));
    let stderr = asked(&scene, &segment(2, 5)).stderr;
    assert!(
        stderr.contains("recovery_target_timeline = '1', recovery_target_lsn = '0/580000' and recovery_target_inclusive = off"),
        "{stderr}"
    );
    assert_eq!(asked(&scene, &segment(2, 6)).stderr.matches("goes on along").count(), 0, "once is enough");
    // A standby's copy of the segment of its promotion contains only common WAL.
    let scene = archived(&[segment(1, 4), segment(1, 5)]);
    scene.recovery.file("pg_wal/00000002.history", history(&[(1, 5)]));
    assert!(!warned(&scene));
    // After a fork between two segments, the timelines have no segment in common.
    scene.recovery.file("pg_wal/00000002.history", "1\t0/500000\tno reason\n");
    assert!(warned(&scene));
    // A promotion within a segment that the old primary never archived.
    let scene = archived(&[segment(1, 4)]);
    scene.recovery.file("pg_wal/00000002.history", history(&[(1, 5)]));
    assert!(!warned(&scene));
}
