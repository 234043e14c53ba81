//! A missing segment is the end of the WAL, or a gap; only the first lets recovery end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
};

use support::{
    aged::set_time,
    data_directory::{DataDirectory, segment as content_of},
    files::names_in,
    restore::{SYSTEM, Scene},
    running::{Outcome, Running, outcome_of},
    wal_writer::WalWriter,
};

/// Returns segment `number` of a timeline, which starts at that many MB.
pub(super) fn segment(timeline: u32, number: u32) -> String {
    format!("{timeline:08X}00000000{number:08X}")
}

/// Creates an archive whose files were archived long ago.
pub(super) fn archived(names: &[String]) -> Scene {
    let scene = Scene::new();
    for name in names {
        add(&scene, name);
    }
    scene
}

fn add(scene: &Scene, name: &str) {
    match name.split_once(".history") {
        Some(_) => panic!("{name}: see add_history"),
        None => drop(scene.primary.segment(name, 0)),
    }
    scene.push(&scene.primary, name);
    set_time(&scene.file(name), "2001-02-03T04:05:06Z");
}

/// Returns a history file from timelines and the segments in whose middle they were left.
pub(super) fn history(entries: &[(u32, u32)]) -> String {
    let entry = |(timeline, number): &(u32, u32)| format!("{timeline}\t0/{number:X}80000\tno reason\n");
    entries.iter().map(entry).collect::<Vec<_>>().concat()
}

pub(super) fn add_history(scene: &Scene, timeline: u32, entries: &[(u32, u32)]) {
    let name = format!("{timeline:08X}.history");
    scene.primary.file(&format!("pg_wal/{name}"), history(entries));
    scene.push(&scene.primary, &name);
}

fn keep_history(server: &DataDirectory, timeline: u32, entries: &[(u32, u32)]) {
    server.file(&format!("pg_wal/{timeline:08X}.history"), history(entries));
}

pub(super) fn ask(scene: &Scene, server: &DataDirectory, options: &[&str], name: &str) -> Outcome {
    outcome_of(scene.restore_with(options, server, name))
}

/// Asserts that a server in recovery is stopped, with an error that contains these words.
pub(super) fn is_gap(scene: &Scene, name: &str, words: &[&str]) {
    let outcome = ask(scene, &scene.recovery, &[], name);
    assert_eq!((outcome.status, outcome.stderr.lines().count()), (255, 1), "{name}: {}", outcome.stderr);
    for word in words.iter().chain(&[name]) {
        assert!(outcome.stderr.contains(word), "{word} is not in: {}", outcome.stderr);
    }
}

/// Asserts that a server in recovery is told that there is no more WAL, with one line in the log.
pub(super) fn is_end(scene: &Scene, name: &str) {
    let outcome = ask(scene, &scene.recovery, &[], name);
    assert_eq!(outcome.status, 1, "{name}: {}", outcome.stderr);
    let mut lines = outcome.stderr.lines();
    let line = lines.next().unwrap_or_default();
    assert!(line.starts_with("walkeep-restore: info: ") && line.contains(name), "{}", outcome.stderr);
    assert_eq!(lines.next(), None);
}

#[test]
fn a_missing_segment_with_a_later_one_archived_is_a_gap() {
    // The later segment is in the same directory, in the next one, or further on.
    for later in ["000000010000000000000008", "000000010000000100000000", "000000010000002A00000FFF"] {
        let scene = archived(&[segment(1, 4), segment(1, 5), later.to_owned()]);
        is_gap(&scene, &segment(1, 6), &[later, "a gap", "--accept-gap", "recovery_prefetch = off"]);
    }
    let scene = archived(&[segment(1, 4), segment(1, 5)]);
    is_end(&scene, &segment(1, 6));
}

#[test]
fn other_files_than_segments_of_the_timeline_prove_no_gap() {
    let scene = archived(&[segment(1, 4), segment(1, 5), segment(2, 9), segment(1, 6) + ".partial"]);
    scene.sandbox.file(scene.file(&(segment(1, 8) + "#1")), "a push that was killed");
    fs::write(scene.file(&segment(1, 8)).with_file_name("readme"), "").unwrap();
    is_end(&scene, &segment(1, 6));
    is_gap(&scene, &segment(1, 3), &[]);
}

#[test]
fn any_file_with_the_name_of_a_later_segment_proves_a_gap() {
    let missing = segment(1, 6);
    let with = |what: &dyn Fn(&Scene)| {
        let scene = archived(&[segment(1, 4), segment(1, 5)]);
        what(&scene);
        ask(&scene, &scene.recovery, &[], &missing).status
    };
    let later = segment(1, 8);
    let next_log = "000000010000000100000000";
    assert_eq!(with(&|_| {}), 1);
    // A later `.partial`; a link to an unmounted disk, in place of a file or of a directory.
    assert_eq!(with(&|scene| add(scene, &(later.clone() + ".partial"))), 255);
    assert_eq!(with(&|scene| symlink("/nowhere", scene.file(&later)).unwrap()), 255);
    assert_eq!(with(&|scene| fs::create_dir(scene.file(&later)).unwrap()), 255);
    assert_eq!(with(&|scene| symlink("/nowhere", scene.file(next_log).parent().unwrap()).unwrap()), 255);
}

#[test]
fn inaccessible_history_files_do_not_count_as_absent() {
    let missing = segment(1, 6);
    let with = |what: &dyn Fn(&Scene)| {
        let scene = archived(&[segment(1, 4), segment(1, 5), segment(2, 9)]);
        add_history(&scene, 2, &[(1, 9)]);
        what(&scene);
        ask(&scene, &scene.recovery, &[], &missing).status
    };
    let history = |scene: &Scene| scene.file("00000002.history");
    let directory = |scene: &Scene| history(scene).parent().unwrap().to_owned();
    assert_eq!(with(&|_| {}), 255);
    assert_eq!(
        with(&|scene| {
            fs::remove_file(history(scene)).unwrap();
            symlink("/nowhere", history(scene)).unwrap();
        }),
        255
    );
    assert_eq!(
        with(&|scene| {
            fs::remove_file(history(scene)).unwrap();
            fs::create_dir(history(scene)).unwrap();
        }),
        255
    );
    assert_eq!(
        with(&|scene| {
            fs::remove_dir_all(directory(scene)).unwrap();
            symlink("/nowhere", directory(scene)).unwrap();
        }),
        255
    );
    assert_eq!(
        with(&|scene| {
            fs::remove_dir_all(directory(scene)).unwrap();
            fs::write(directory(scene), "").unwrap();
        }),
        255
    );
    assert_eq!(
        with(&|scene| fs::set_permissions(directory(scene), Permissions::from_mode(0o444)).unwrap()),
        255
    );
    // Unknown names do no harm.
    assert_eq!(
        with(&|scene| {
            fs::remove_file(history(scene)).unwrap();
            fs::write(directory(scene).join(OsStr::from_bytes(b"\xff\n")), "").unwrap();
        }),
        1
    );
}

#[test]
fn a_standby_keeps_asking_and_is_warned_of_a_gap_once() {
    let scene = archived(&[segment(1, 4), segment(1, 6)]);
    let spool = scene.sandbox.join("spool");
    let options = ["--spool", spool.to_str().unwrap()];
    scene.standby.file("postmaster.pid", "17\n/data\n1700000000\n");
    let asked = || ask(&scene, &scene.standby, &options, &segment(1, 5));
    let first = asked();
    assert_eq!(first.status, 75);
    assert!(
        first.stderr.starts_with("walkeep-restore: warning: ") && first.stderr.contains("a gap"),
        "{}",
        first.stderr
    );
    let next = asked();
    assert_eq!((next.status, next.stderr.as_str()), (75, ""));
    scene.standby.file("postmaster.pid", "18\n/data\n1700000001\n");
    assert_eq!(asked().stderr, first.stderr, "another run of the server");
    assert_eq!(ask(&scene, &scene.standby, &options, &segment(1, 7)).stderr, "", "the end is routine");
}

#[test]
fn a_segment_before_the_start_in_the_history_file_is_no_gap() {
    let scene = archived(&[segment(1, 4), segment(2, 7)]);
    add_history(&scene, 2, &[(1, 5)]);
    is_end(&scene, &segment(2, 4));
    is_gap(&scene, &segment(2, 5), &[&segment(2, 7)]);
    is_gap(&scene, &segment(2, 6), &[&segment(2, 7)]);
    // The server's own copy is enough.
    fs::remove_file(scene.file("00000002.history")).unwrap();
    keep_history(&scene.recovery, 2, &[(1, 5)]);
    is_end(&scene, &segment(2, 4));
    is_gap(&scene, &segment(2, 5), &[]);
}

#[test]
fn without_a_history_file_the_lowest_archived_segment_is_the_start_except_on_timeline_1() {
    let scene = archived(&[segment(2, 5), segment(2, 7), segment(1, 5)]);
    is_end(&scene, &segment(2, 4));
    is_gap(&scene, &segment(2, 6), &[]);
    is_gap(&scene, &segment(1, 4), &["begins at", &segment(1, 5)]);
}

#[test]
fn the_history_of_the_target_bounds_its_ancestors() {
    let scene = archived(&[segment(1, 4)]);
    keep_history(&scene.recovery, 2, &[(1, 7)]);
    is_gap(&scene, &segment(1, 5), &["00000002.history", "0/780000"]);
    is_gap(&scene, &segment(1, 6), &[]);
    is_end(&scene, &segment(1, 7));
    // The file may be a leftover of another recovery: with a later segment it is a gap in any case.
    add(&scene, &segment(1, 9));
    is_gap(&scene, &segment(1, 8), &[&segment(1, 9)]);
}

#[test]
fn the_history_of_an_only_descendant_counts_and_that_of_a_sibling_does_not() {
    let scene = archived(&[segment(1, 4)]);
    add_history(&scene, 2, &[(1, 7)]);
    is_gap(&scene, &segment(1, 6), &["00000002.history"]);
    is_end(&scene, &segment(1, 7));
    // Another branch left earlier, and it is unknown which one the recovery follows.
    add_history(&scene, 3, &[(1, 5)]);
    is_end(&scene, &segment(1, 6));
    // The target is the one that left earlier, whatever its sibling says.
    let scene = archived(&[segment(1, 4)]);
    add_history(&scene, 2, &[(1, 9)]);
    add_history(&scene, 3, &[(1, 5)]);
    keep_history(&scene.recovery, 3, &[(1, 5)]);
    is_end(&scene, &segment(1, 5));
}

#[test]
fn a_segment_that_the_server_has_itself_is_no_gap() {
    let scene = archived(&[segment(1, 4), segment(1, 6)]);
    let missing = segment(1, 5);
    let mut wal = WalWriter::new(SYSTEM, 1, 5, 1 << 20);
    wal.fill();
    scene.recovery.file(&format!("pg_wal/{missing}"), &wal.segments()[0]);
    is_end(&scene, &missing);
    // A file prepared for reuse has the right name and old content.
    let old = content_of(&segment(1, 2), SYSTEM, 1 << 20, 0);
    scene.recovery.file(&format!("pg_wal/{missing}"), old);
    is_gap(&scene, &missing, &[]);
    let other_system = content_of(&missing, SYSTEM + 1, 1 << 20, 0);
    scene.recovery.file(&format!("pg_wal/{missing}"), other_system);
    is_gap(&scene, &missing, &[]);
}

#[test]
fn a_segment_that_may_still_arrive_is_waited_for() {
    let scene = archived(&[segment(1, 4)]);
    // Files archived by one call are published as each is ready.
    scene.primary.segment(&segment(1, 6), 0);
    scene.push(&scene.primary, &segment(1, 6));
    let mut restore = scene.recovery.run(scene.sandbox.walkeep_restore());
    restore.args(["--archive", scene.archive.url(), &segment(1, 5), support::restore::TARGET]);
    let mut restore = Running::start(restore);
    assert!(restore.line().unwrap().contains("on its way"));
    scene.primary.segment(&segment(1, 5), 0);
    scene.push(&scene.primary, &segment(1, 5));
    let outcome = restore.end();
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert_eq!(names_in(&scene.recovery.join("pg_wal")), ["RECOVERYXLOG"]);
}

#[test]
fn a_segment_that_does_not_arrive_in_time_is_a_gap_and_delays_no_standby() {
    let scene = archived(&[segment(1, 4)]);
    scene.primary.segment(&segment(1, 6), 0);
    scene.push(&scene.primary, &segment(1, 6));
    let outcome = ask(&scene, &scene.recovery, &[], &segment(1, 5));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert!(outcome.stderr.lines().last().unwrap().contains("a gap"), "{}", outcome.stderr);
    // A standby retries, but not in a promotion. So its call waits as well, and logs that.
    let standby = ask(&scene, &scene.standby, &[], &segment(1, 5));
    assert_eq!((standby.status, standby.stderr.lines().count()), (75, 1), "{}", standby.stderr);
    assert!(standby.stderr.contains("a gap"), "{}", standby.stderr);
}

#[test]
fn a_gap_is_accepted_by_name_without_any_other() {
    let scene = archived(&[segment(1, 4), segment(1, 6), segment(1, 8)]);
    let [one, other] = [segment(1, 5), segment(1, 7)];
    let accepted = ask(&scene, &scene.recovery, &["--accept-gap", &one], &one);
    assert_eq!((accepted.status, accepted.stderr.lines().count()), (1, 1), "{}", accepted.stderr);
    assert!(accepted.stderr.contains("--accept-gap"), "{}", accepted.stderr);
    assert_eq!(ask(&scene, &scene.recovery, &["--accept-gap", &one], &other).status, 255);
    assert_eq!(
        ask(&scene, &scene.recovery, &["--accept-gap", &one, "--accept-gap", &other], &other).status,
        1
    );
    let wrong = ask(&scene, &scene.recovery, &["--accept-gap", "5"], &one);
    assert_eq!((wrong.status, wrong.stderr.lines().count()), (255, 1), "{}", wrong.stderr);
}

#[test]
fn a_base_backup_whose_first_segment_is_missing_cannot_be_recovered() {
    let label = |number: u32| {
        format!(
            "START WAL LOCATION: 0/{number:X}00028 (file {})\nCHECKPOINT LOCATION: 0/0\n",
            segment(1, number)
        )
    };
    let scene = archived(&[segment(1, 6), segment(1, 7)]);
    scene.recovery.file("backup_label", label(5));
    scene.standby.file("backup_label", label(5));
    let words = ["do NOT remove backup_label", &segment(1, 6), "walkeep list backups --archive"];
    is_gap(&scene, &segment(1, 5), &words);
    let standby = ask(&scene, &scene.standby, &[], &segment(1, 5));
    assert_eq!(standby.status, 75);
    assert!(words.iter().all(|word| standby.stderr.contains(word)), "{}", standby.stderr);
    // The archive ends before the base backup starts, or has lost everything after it.
    scene.recovery.file("backup_label", label(9));
    is_gap(&scene, &segment(1, 9), &["do NOT remove backup_label"]);
    // The base backup contains its first segment.
    scene.recovery.segment(&segment(1, 9), 0);
    is_end(&scene, &segment(1, 9));
}

#[test]
fn the_partial_end_of_a_timeline_is_pointed_out() {
    let scene = archived(&[segment(1, 4)]);
    add(&scene, &(segment(1, 5) + ".partial"));
    let outcome = ask(&scene, &scene.recovery, &[], &segment(1, 5));
    assert_eq!(outcome.status, 1);
    let command = format!("{0}.partial -o pg_wal/{0}", segment(1, 5));
    assert!(outcome.stderr.contains(&command), "{}", outcome.stderr);
    assert_eq!(ask(&scene, &scene.standby, &[], &segment(1, 5)).stderr, "");
}

#[test]
fn directories_without_a_file_of_the_cluster_prove_nothing() {
    let scene = Scene::new();
    for directory in ["", "wal", "wal/0000000100000000", "timelines", "backups", "reports"] {
        scene.sandbox.directory(format!("archive/{SYSTEM}/{directory}"));
        for name in [&segment(1, 5), "00000002.history"] {
            scene.cannot_tell(name, "--accept-empty");
            for server in [&scene.recovery, &scene.standby] {
                assert_eq!(ask(&scene, server, &["--accept-empty"], name).status, 1, "{name}");
            }
        }
    }
    let reports = scene.sandbox.join("archive").join(SYSTEM.to_string()).join("reports");
    fs::write(reports.join("prune.json"), "{}").unwrap();
    scene.put(&(segment(1, 5) + "#1"), "a push that was killed");
    scene.cannot_tell(&segment(1, 5), "holds no archived file");
    add(&scene, &segment(1, 4));
    is_end(&scene, &segment(1, 5));
}

#[test]
fn a_restore_by_hand_never_replaces_a_segment_of_the_server() {
    let scene = archived(&[segment(1, 4)]);
    let own = scene.recovery.segment(&segment(1, 4), 7);
    let mut restore = scene.command(&scene.recovery);
    restore.args([segment(1, 4), format!("pg_wal/{}", segment(1, 4))]);
    let outcome = outcome_of(restore);
    assert_eq!(outcome.status, 255);
    assert!(outcome.stderr.contains("move it away"), "{}", outcome.stderr);
    assert!(fs::read(scene.recovery.join("pg_wal").join(segment(1, 4))).unwrap() == own);
    assert_eq!(names_in(&scene.recovery.join("pg_wal")), [segment(1, 4)]);
}
