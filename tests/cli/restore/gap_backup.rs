//! A base backup whose backup history file is archived proves that its timeline went on up to its end, although all
//! segments from there on are lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, os::unix::fs::symlink};

use support::{
    aged::set_time,
    restore::{SYSTEM, Scene, TARGET},
    running::{Running, outcome_of},
};

use super::gap::{add_history, archived, ask, is_end, is_gap, segment};

/// Returns the name of the backup history file of a backup that began in that segment.
fn file_of(timeline: u32, start: u32) -> String {
    segment(timeline, start) + ".00000028.backup"
}

/// Archives a backup history file.
fn push_backup(scene: &Scene, timeline: u32, start: u32, end: u32) -> String {
    let name = file_of(timeline, start);
    let [first, last] = [start, end].map(|number| segment(timeline, number));
    let content = format!(
        "START WAL LOCATION: 0/{start:X}00028 (file {first})\nSTOP WAL LOCATION: 0/{end:X}00138 (file {last})\n\
         CHECKPOINT LOCATION: 0/{start:X}00060\nLABEL: nightly\nSTART TIMELINE: {timeline}\n"
    );
    scene.primary.file(&format!("pg_wal/{name}"), content);
    scene.push(&scene.primary, &name);
    name
}

/// Does the same as [`push_backup`], long ago.
fn add_backup(scene: &Scene, timeline: u32, start: u32, end: u32) -> String {
    let name = push_backup(scene, timeline, start, end);
    set_time(&scene.file(&name), "2001-02-03T04:05:06Z");
    name
}

#[test]
fn a_base_backup_proves_a_gap_up_to_its_end() {
    let scene = archived(&[segment(1, 4), segment(1, 5)]);
    let file = add_backup(&scene, 1, 7, 9);
    for number in [6, 7] {
        let words = [&*file, "proves WAL up to", &segment(1, 7), "a gap", "--accept-gap"];
        is_gap(&scene, &segment(1, number), &words);
    }
    // The name says where it began, and the content where it ended.
    is_gap(&scene, &segment(1, 8), &[&file, &segment(1, 9)]);
    is_gap(&scene, &segment(1, 9), &[&file]);
    is_end(&scene, &segment(1, 10));
    // A later one may have ended before.
    add_backup(&scene, 1, 8, 8);
    is_gap(&scene, &segment(1, 9), &[&file]);
    is_end(&scene, &segment(1, 10));
}

#[test]
fn a_timeline_whose_segments_are_all_lost_does_not_end_before_its_base_backup() {
    let scene = archived(&[segment(1, 4), segment(1, 5)]);
    add_history(&scene, 2, &[(1, 5)]);
    let file = add_backup(&scene, 2, 9, 9);
    is_end(&scene, &segment(2, 4));
    for number in [5, 6, 9] {
        is_gap(&scene, &segment(2, number), &[&file]);
    }
    is_end(&scene, &segment(2, 10));
    let standby = ask(&scene, &scene.standby, &[], &segment(2, 6));
    assert_eq!((standby.status, standby.stderr.contains("a gap")), (75, true), "{}", standby.stderr);
}

#[test]
fn other_files_among_the_base_backups_prove_no_gap() {
    let scene = archived(&[segment(1, 4), segment(1, 5)]);
    add_backup(&scene, 1, 4, 5);
    add_backup(&scene, 2, 9, 9);
    scene.put(&(file_of(1, 8) + "#1"), "a push that was killed");
    let directory = scene.file(&file_of(1, 8)).parent().unwrap().to_owned();
    for name in [segment(1, 8), file_of(1, 8) + ".old", "readme".to_owned()] {
        fs::write(directory.join(name), "").unwrap();
    }
    is_end(&scene, &segment(1, 6));
    // A name is proof, whatever it leads to.
    symlink("/nowhere", directory.join(file_of(1, 8))).unwrap();
    let outcome = ask(&scene, &scene.recovery, &[], &segment(1, 6));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&file_of(1, 8)), "{}", outcome.stderr);
}

#[test]
fn a_damaged_backup_history_file_proves_what_its_name_says() {
    let scene = archived(&[segment(1, 4), segment(1, 5)]);
    let file = add_backup(&scene, 1, 7, 9);
    let mut bytes = scene.archived(&file);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    scene.put(&file, bytes);
    set_time(&scene.file(&file), "2001-02-03T04:05:06Z");
    is_gap(&scene, &segment(1, 7), &[&file]);
    let beyond = ask(&scene, &scene.recovery, &[], &segment(1, 8));
    assert_eq!(beyond.status, 1, "{}", beyond.stderr);
    assert!(
        beyond.stderr.contains("walkeep-restore: warning: ") && beyond.stderr.contains(&file),
        "{}",
        beyond.stderr
    );
}

#[test]
fn backup_history_files_that_cannot_be_listed_prove_nothing() {
    let scene = archived(&[segment(1, 4), segment(1, 5)]);
    let file = add_backup(&scene, 1, 4, 4);
    is_end(&scene, &segment(1, 6));
    let directory = scene.file(&file).parent().unwrap().to_owned();
    fs::remove_dir_all(&directory).unwrap();
    is_end(&scene, &segment(1, 6));
    symlink("/nowhere", &directory).unwrap();
    scene.cannot_tell(&segment(1, 6), "leads nowhere");
}

#[test]
fn a_segment_that_may_still_come_after_its_backup_history_file_is_waited_for() {
    let scene = archived(&[segment(1, 4)]);
    push_backup(&scene, 1, 5, 5);
    let mut restore = scene.recovery.run(scene.sandbox.walkeep_restore());
    restore.args(["--archive", scene.archive.url(), &segment(1, 5), TARGET]);
    let mut restore = Running::start(restore);
    assert!(restore.line().unwrap().contains("on its way"));
    scene.primary.segment(&segment(1, 5), 0);
    scene.push(&scene.primary, &segment(1, 5));
    let outcome = restore.end();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
}

#[test]
fn a_gap_that_a_base_backup_proves_is_accepted_by_name() {
    let scene = archived(&[segment(1, 4)]);
    add_backup(&scene, 1, 7, 7);
    let accepted = ask(&scene, &scene.recovery, &["--accept-gap", &segment(1, 5)], &segment(1, 5));
    assert_eq!(accepted.status, 1, "{}", accepted.stderr);
    assert_eq!(ask(&scene, &scene.recovery, &["--accept-gap", &segment(1, 5)], &segment(1, 6)).status, 255);
}

#[test]
fn outside_a_data_directory_the_name_of_a_backup_history_file_is_proof_too() {
    let scene = archived(&[segment(1, 4)]);
    add_backup(&scene, 2, 7, 9);
    let ask = |name: &str| {
        let mut restore = scene.sandbox.walkeep_restore();
        let target = scene.sandbox.join("restored");
        restore.args(["--archive", scene.archive.url(), "--timeout", "1s"]);
        restore.args(["--system-identifier", &SYSTEM.to_string(), name]).arg(target);
        outcome_of(restore)
    };
    let outcome = ask(&segment(2, 7));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&file_of(2, 7)), "{}", outcome.stderr);
    assert_eq!(ask(&segment(2, 8)).status, 1, "no segment tells how large one is");
}

#[test]
fn an_archive_with_history_files_and_no_segment_proves_no_end() {
    let scene = Scene::new();
    add_history(&scene, 2, &[(1, 5)]);
    add_backup(&scene, 2, 7, 7);
    // The directory of the segments is a link to a mount point, and nothing is mounted there.
    let mount_point = scene.sandbox.directory("bigdisk");
    symlink(mount_point, scene.sandbox.join("archive").join(SYSTEM.to_string()).join("wal")).unwrap();
    is_gap(&scene, &segment(2, 6), &[&file_of(2, 7)]);
    for name in [segment(2, 8), segment(3, 1)] {
        scene.cannot_tell(&name, "but no segment at all");
        let accepted = ask(&scene, &scene.recovery, &["--accept-empty"], &name);
        assert_eq!(accepted.status, 1, "{}", accepted.stderr);
    }
}
