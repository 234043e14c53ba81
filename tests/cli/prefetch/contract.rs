//! Segments from a prefetcher that an earlier restore started: the next ones of this very server, in order and within
//! limits, and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::fs;

use support::{
    data_directory::{DataDirectory, SEGMENT_BYTES, segment},
    files::names_in,
    prefetcher::{From, PrefetchScene, content, name, restored_as, restored_by},
    push::{BACKUP, BACKUP_CONTENT, HISTORY, HISTORY_CONTENT, OTHER_SYSTEM},
    restore::{SYSTEM, TARGET},
    running::outcome_of,
    wait_until,
    wrapper::in_shell,
};

// Order.

#[test]
fn consecutive_segments_come_from_the_prefetcher_which_then_ends() {
    for compression in ["zstd", "none"] {
        let scene = PrefetchScene::new();
        for name in (1..=6).map(name) {
            scene.scene.primary.file(&format!("pg_wal/{name}"), content(&name));
            scene.scene.push_with(&scene.scene.primary, &name, &["--compression", compression]);
        }
        let prefetcher = scene.prefetched(1, 5);
        for number in 2..=6 {
            assert!(prefetcher.lives(), "{number}");
            assert_eq!(scene.restored(&name(number)), From::Prefetcher, "{compression} {number}");
        }
        scene.prefetchers.wait_until_none();
        scene.is_absent(&name(7));
        assert!(scene.prefetchers.all().is_empty(), "a miss leaves none behind");
        scene.nothing_is_left();
    }
}

#[test]
fn with_v_every_call_logs_the_source_of_its_file() {
    let scene = PrefetchScene::with(1..=2);
    let call = |options: &[&str], number| {
        let outcome = outcome_of(scene.call_with(options, &scene.scene.recovery, &name(number)));
        fs::remove_file(scene.scene.recovery.join(TARGET)).unwrap();
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        outcome.stderr
    };
    let begins = |line: &str, number| {
        let begins = format!("walkeep-restore: debug: restored name={} size=1048576 ", name(number));
        assert!(line.starts_with(&begins), "{line}");
    };
    let line = call(&[], 1);
    begins(&line, 1);
    assert!(line.contains(" stored=") && line.contains(" from=\"archive\" ms="), "{line}");
    scene.prefetchers.wait_until_held(1);
    let line = call(&[], 2);
    begins(&line, 2);
    assert!(!line.contains(" stored=") && line.contains(" from=\"prefetcher\" ms="), "{line}");
    scene.prefetchers.wait_until_none();

    for (number, from) in [(1, "archive"), (2, "prefetcher")] {
        let line: serde_json::Value = serde_json::from_str(&call(&["--log-format", "json"], number)).unwrap();
        assert_eq!((&line["message"], &line["from"]), (&"restored".into(), &from.into()), "{line}");
        assert_eq!((&line["name"], &line["size"]), (&name(number).into(), &SEGMENT_BYTES.into()), "{line}");
        assert!(line["ms"].is_u64(), "{line}");
        if number == 1 {
            scene.prefetchers.wait_until_held(1);
        }
    }
}

#[test]
fn without_v_nothing_is_logged() {
    let scene = PrefetchScene::with(1..=2);
    for number in 1..=2 {
        assert!(scene.scene.restored(&name(number)) == content(&name(number)));
        if number == 1 {
            scene.prefetchers.wait_until_held(1);
        }
    }
    scene.prefetchers.wait_until_none();
}

#[test]
fn a_standby_gets_prefetched_segments_too() {
    let scene = PrefetchScene::with(1..=3);
    let standby = &scene.scene.standby;
    let restored = |number| restored_by(scene.call(standby, &name(number)), standby, &name(number));
    assert_eq!(restored(1), From::Archive);
    scene.prefetchers.wait_until_held(2);
    assert_eq!([restored(2), restored(3)], [From::Prefetcher; 2]);
}

#[test]
fn a_server_that_skips_segments_gets_those_where_it_continues() {
    let scene = PrefetchScene::with(1..=9);
    let prefetcher = scene.prefetched(1, 8);
    assert_eq!(scene.restored(&name(5)), From::Prefetcher);
    assert_eq!(scene.prefetchers.wait_until_held(4), prefetcher, "what was skipped is dropped");
    assert_eq!(scene.restored(&name(3)), From::Archive);
    assert_eq!(scene.prefetchers.wait_until_held(6), prefetcher);
    assert_eq!(scene.restored_all(4..=9), 6, "back again");
}

#[test]
fn a_segment_requested_twice_arrives_twice() {
    let scene = PrefetchScene::with(1..=4);
    scene.prefetched(1, 3);
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    assert_eq!(scene.restored(&name(2)), From::Archive, "it was handed over, and is the server's now");
    assert_eq!(scene.restored_all(3..=4), 2);
}

#[test]
fn writes_of_the_server_to_a_restored_file_affect_nobody_else() {
    let scene = PrefetchScene::with(1..=3);
    scene.prefetched(1, 2);
    assert_eq!(outcome_of(scene.call(&scene.scene.recovery, &name(2))).status, 0);
    let given = scene.scene.recovery.join("pg_wal/given");
    fs::rename(scene.scene.recovery.join(TARGET), &given).unwrap();
    fs::write(&given, "recycled").unwrap();
    fs::rename(&given, scene.scene.sandbox.join("given")).unwrap();
    assert_eq!(scene.restored(&name(2)), From::Archive);
    assert_eq!(scene.restored(&name(3)), From::Prefetcher);
}

// Limits.

#[test]
fn prefetched_bytes_are_limited_however_the_limit_is_given() {
    let settings = "prefetch_size = \"3MB\"\n";
    for (given, expected) in [("argument", 3), ("environment", 3), ("file", 3), ("both", 2)] {
        let scene = PrefetchScene::with(1..=8);
        let configuration = scene.configuration(settings);
        let call = |number| {
            let mut call = match given {
                "argument" => {
                    scene.call_with(&["--prefetch-size", "3MB"], &scene.scene.recovery, &name(number))
                }
                "both" => scene.call_with(&["--prefetch-size=2MB"], &scene.scene.recovery, &name(number)),
                _ => scene.call(&scene.scene.recovery, &name(number)),
            };
            match given {
                "environment" => drop(call.env("WALKEEP_PREFETCH_SIZE", "3MB")),
                "file" | "both" => drop(call.env("WALKEEP_CONFIG", &configuration)),
                _ => {}
            }
            restored_by(call, &scene.scene.recovery, &name(number))
        };
        assert_eq!(call(1), From::Archive);
        for number in 2..=8 {
            let prefetcher = scene.prefetchers.wait_until_held(expected.min(9 - number));
            assert!(prefetcher.unnamed_files().len() <= expected, "{given}");
            assert_eq!(call(number), From::Prefetcher, "{given} {number}");
        }
    }
}

#[test]
fn the_limit_is_reached_and_never_exceeded() {
    let scene = PrefetchScene::with(1..=12);
    let call = scene.call_with(&["--prefetch-size=4MB"], &scene.scene.recovery, &name(1));
    assert_eq!(restored_by(call, &scene.scene.recovery, &name(1)), From::Archive);
    let prefetcher = scene.prefetchers.only();
    let mut most = 0;
    for number in 2..=12 {
        let call = scene.call_with(&["--prefetch-size=4MB"], &scene.scene.recovery, &name(number));
        restored_by(call, &scene.scene.recovery, &name(number));
        for _ in 0..20 {
            // A file that was just passed on is about to be closed.
            most = most.max(prefetcher.unnamed_files().len());
        }
    }
    assert!((1..=5).contains(&most), "{most}");
}

#[test]
fn nothing_is_prefetched_if_turned_off() {
    for off in ["argument", "environment", "file"] {
        let scene = PrefetchScene::with(1..=3);
        let configuration = scene.configuration("prefetch_size = \"0MB\"");
        for number in 1..=3 {
            let options: &[&str] = if off == "argument" { &["--prefetch-size=0MB"] } else { &[] };
            let mut call = scene.call_with(options, &scene.scene.recovery, &name(number));
            match off {
                "environment" => drop(call.env("WALKEEP_PREFETCH_SIZE", "0MB")),
                "file" => drop(call.env("WALKEEP_CONFIG", &configuration)),
                _ => {}
            }
            assert_eq!(restored_by(call, &scene.scene.recovery, &name(number)), From::Archive, "{off}");
            assert!(scene.prefetchers.all().is_empty(), "{off}");
        }
        assert!(!scene.spool_base().exists(), "not even a spool is made");
    }
}

#[test]
fn one_segment_is_prefetched_even_if_larger_than_the_limit() {
    let scene = PrefetchScene::new();
    let bytes = 4 << 20;
    scene.scene.recovery.set_segment_bytes(bytes as u64);
    let segments: Vec<_> = (1..=4).map(|number| (name(number), large(number, bytes))).collect();
    for (name, content) in &segments {
        scene.archive_content(name, content);
    }
    for (number, (name, content)) in segments.iter().enumerate() {
        let call = scene.call_with(&["--prefetch-size=1MB"], &scene.scene.recovery, name);
        let from = restored_as(call, &scene.scene.recovery, name, content);
        assert_eq!(from == From::Prefetcher, number > 0, "{number}");
        if number < 3 {
            let prefetcher = scene.prefetchers.only();
            let in_hand = || prefetcher.unnamed_files() == [bytes as u64];
            wait_until("one is in hand, and no other", in_hand);
        }
    }
}

fn large(number: usize, bytes: usize) -> Vec<u8> {
    segment(&name(number), SYSTEM, bytes, u8::try_from(number).unwrap())
}

#[test]
fn segment_names_continue_after_4_gib_by_the_real_size() {
    for (bytes, names) in [
        (1 << 20, ["000000010000000000000FFE", "000000010000000000000FFF", "000000010000000100000000"]),
        (1 << 20, ["0000000100000000000000FE", "0000000100000000000000FF", "000000010000000000000100"]),
        (16 << 20, ["0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000"]),
        (64 << 20, ["00000001000000000000003E", "00000001000000000000003F", "000000010000000100000000"]),
    ] {
        let scene = PrefetchScene::new();
        scene.scene.recovery.set_segment_bytes(bytes as u64);
        let segments = names.map(|name| segment(name, SYSTEM, bytes, 7));
        for (name, content) in names.iter().zip(&segments) {
            scene.archive_content(name, content);
        }
        let mut from = Vec::new();
        for (name, content) in names.iter().zip(&segments) {
            if !from.is_empty() {
                let in_hand = 3 - from.len();
                let prefetcher = scene.prefetchers.only();
                let all = || prefetcher.unnamed_files() == vec![bytes as u64; in_hand];
                wait_until("the rest is in hand", all);
            }
            let call = scene.call(&scene.scene.recovery, name);
            from.push(restored_as(call, &scene.scene.recovery, name, content));
        }
        assert_eq!(from, [From::Archive, From::Prefetcher, From::Prefetcher], "{names:?}");
    }
}

// Missing segments.

#[test]
fn a_gap_is_never_crossed_and_missing_segments_are_not_remembered() {
    let scene = PrefetchScene::with(1..=2);
    scene.archive(4..=5);
    scene.prefetched(1, 1);
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    scene.prefetchers.wait_until_none();
    for _ in 0..2 {
        scene.is_gap(&name(3));
    }
    scene.archive(3..=3);
    scene.prefetched(3, 2);
    assert_eq!(scene.restored_all(4..=5), 2);
}

#[test]
fn a_segment_missing_a_moment_ago_is_found_while_the_prefetcher_runs() {
    let scene = PrefetchScene::with(1..=3);
    let prefetcher = scene.prefetched(1, 2);
    // The prefetcher knows that there is no fourth segment.
    scene.is_absent(&name(4));
    scene.archive(4..=6);
    assert!(prefetcher.lives());
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    assert_eq!(scene.restored(&name(4)), From::Archive);
    assert_eq!(scene.prefetchers.wait_until_held(2), prefetcher, "it goes on after the fourth");
    assert_eq!(scene.restored_all(5..=6), 2);
}

// Timelines and other files.

#[test]
fn the_same_position_on_another_timeline_comes_from_that_timeline() {
    let scene = PrefetchScene::with(1..=4);
    let on_two = |number| name(number).replacen("00000001", "00000002", 1);
    for number in 3..=6 {
        scene.archive_one(&on_two(number));
    }
    let prefetcher = scene.prefetched(1, 3);
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    assert_ne!(content(&name(3)), content(&on_two(3)));
    assert_eq!(scene.restored(&on_two(3)), From::Archive);
    assert_eq!(scene.prefetchers.wait_until_held(3), prefetcher);
    for number in 4..=6 {
        assert_eq!(scene.restored(&on_two(number)), From::Prefetcher, "{number}");
    }
    scene.prefetchers.wait_until_none();
}

#[test]
fn other_files_than_segments_come_from_the_archive_and_start_no_prefetcher() {
    let scene = PrefetchScene::with(1..=3);
    let partial = format!("{}.partial", name(2));
    let others = [
        (HISTORY, HISTORY_CONTENT.into()),
        (BACKUP, BACKUP_CONTENT.into()),
        (&*partial, segment(&partial, SYSTEM, SEGMENT_BYTES, 99)),
    ];
    for (name, content) in &others {
        scene.archive_content(name, content);
    }
    let all_from_the_archive = || {
        for (name, content) in &others {
            let call = scene.call(&scene.scene.recovery, name);
            assert_eq!(restored_as(call, &scene.scene.recovery, name, content), From::Archive, "{name}");
        }
    };
    all_from_the_archive();
    assert!(scene.prefetchers.all().is_empty());
    let prefetcher = scene.prefetched(1, 2);
    all_from_the_archive();
    assert_eq!(scene.prefetchers.wait_until_held(2), prefetcher, "and they disturb nobody");
    assert_eq!(scene.restored_all(2..=3), 2);
}

// Unusable files.

/// Replaces the archived file by a bad one, in one of several ways.
fn spoil(scene: &PrefetchScene, number: usize, how: &str) {
    let file = scene.scene.file(&name(number));
    match how {
        "damaged" => {
            let mut bytes = fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&file, bytes).unwrap();
        }
        "renamed" => drop(fs::copy(scene.scene.file(&name(number - 1)), &file).unwrap()),
        "foreign" => {
            let other = DataDirectory::new(&scene.scene.sandbox, "foreign", OTHER_SYSTEM);
            other.segment(&name(number), 1);
            scene.scene.push(&other, &name(number));
            fs::copy(scene.scene.archive.file(OTHER_SYSTEM, &name(number)), &file).unwrap();
        }
        other => panic!("{other}"),
    }
}

#[test]
fn an_unusable_segment_is_not_passed_on_and_the_call_reports_the_reason() {
    for (how, words) in
        [("damaged", "cannot use"), ("renamed", "its header says"), ("foreign", "its header says system")]
    {
        for (standby, status) in [(false, 255), (true, 75)] {
            let scene = PrefetchScene::with(1..=3);
            spoil(&scene, 3, how);
            let server = if standby { &scene.scene.standby } else { &scene.scene.recovery };
            let call = |number| scene.call_with(&["--timeout=4s"], server, &name(number));
            assert_eq!(restored_by(call(1), server, &name(1)), From::Archive);
            scene.prefetchers.wait_until_held(1);
            assert_eq!(restored_by(call(2), server, &name(2)), From::Prefetcher);
            let outcome = outcome_of(call(3));
            assert_eq!(outcome.status, status, "{how}: {}", outcome.stderr);
            assert!(outcome.stderr.contains(words), "{how}: {}", outcome.stderr);
            assert!(outcome.stderr.contains(&name(3)), "{how}: {}", outcome.stderr);
            assert_eq!(names_in(&server.join("pg_wal")), [""; 0]);
        }
    }
}

// Targets.

#[test]
fn an_existing_file_is_replaced_by_the_right_one() {
    let scene = PrefetchScene::with(1..=2);
    scene.prefetched(1, 1);
    scene.scene.recovery.file(TARGET, "an older one");
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
}

#[test]
fn a_prefetched_file_has_the_permissions_of_a_directly_restored_one() {
    use std::os::unix::fs::PermissionsExt;
    for (umask, expected) in [("0077", 0o600), ("0027", 0o640), ("0022", 0o600)] {
        let scene = PrefetchScene::with(1..=2);
        for number in 1..=2 {
            let call = scene.call(&scene.scene.recovery, &name(number));
            let script = format!("umask {umask}; exec \"$@\"");
            let outcome = outcome_of(in_shell(&scene.scene.sandbox, &script, &call));
            let from = if number == 1 { From::Archive } else { From::Prefetcher };
            assert_eq!((outcome.status, From::logged_in(&outcome.stderr)), (0, from));
            let path = scene.scene.recovery.join(TARGET);
            let found = fs::metadata(&path).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, expected, "{umask} {from:?}");
            fs::remove_file(path).unwrap();
            if number == 1 {
                scene.prefetchers.wait_until_held(1);
            }
        }
    }
}
