//! The spool of a prefetcher: problems with it only make restores slower, and files on another file system arrive
//! like directly restored ones.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
};

use rustix::process::Signal;
use support::{
    data_directory::SEGMENT_BYTES,
    files::{Permissions, names_in},
    prefetcher::{From, PrefetchScene, content, left_in_spools, name, restored_by},
    restore::{SYSTEM, TARGET},
    running::{Outcome, Running, outcome_of},
    tmpfs::Tmpfs,
    wait_until,
    wrapper::in_shell,
};

/// Restores a segment, which must succeed with the right bytes; returns its source and the log.
fn restored_saying(scene: &PrefetchScene, number: usize) -> (From, String) {
    let Outcome { status, stderr } = outcome_of(scene.call(&scene.scene.recovery, &name(number)));
    assert_eq!(status, 0, "{stderr}");
    assert!(fs::read(scene.scene.recovery.join(TARGET)).unwrap() == content(&name(number)));
    fs::remove_file(scene.scene.recovery.join(TARGET)).unwrap();
    (From::logged_in(&stderr), stderr)
}

// Problems.

#[test]
fn a_spool_accessible_to_others_is_not_used() {
    for (mode, link) in [(0o755, false), (0o770, false), (0o777, false), (0o700, true)] {
        let scene = PrefetchScene::with(1..=2);
        let base = scene.spool_base();
        if link {
            symlink(scene.scene.sandbox.directory("elsewhere"), &base).unwrap();
        } else {
            scene.scene.sandbox.directory("spool");
            fs::set_permissions(&base, fs::Permissions::from_mode(mode)).unwrap();
        }
        for number in 1..=2 {
            let (from, said) = restored_saying(&scene, number);
            assert_eq!(from, From::Archive, "{mode:o}");
            assert!(
                said.contains("goes without a spool in ") && said.contains("of this user alone"),
                "{said}"
            );
            scene.prefetchers.wait_until_none();
        }
        assert_eq!(names_in(&base), [""; 0]);
    }
}

#[test]
fn files_in_a_spool_that_became_accessible_to_others_are_not_used() {
    let scene = PrefetchScene::with(1..=3);
    let prefetcher = scene.prefetched(1, 2);
    let opened = Permissions::set(&prefetcher.spool().unwrap(), 0o755);
    assert_eq!(restored_saying(&scene, 2).0, From::Archive);
    assert_eq!(prefetcher.held(), 2);
    drop(opened);
    assert_eq!(restored_saying(&scene, 2).0, From::Prefetcher);
}

#[test]
fn a_spool_that_is_a_file_or_cannot_be_created_only_costs_time() {
    for (base, what) in [("file", "a file"), ("file/below", "below a file"), ("none/none", "nowhere")] {
        let scene = PrefetchScene::with(1..=2);
        scene.scene.sandbox.file("file", "");
        for number in 1..=2 {
            let mut call = scene.call(&scene.scene.recovery, &name(number));
            call.env("WALKEEP_SPOOL", scene.scene.sandbox.join(base));
            assert_eq!(restored_by(call, &scene.scene.recovery, &name(number)), From::Archive, "{what}");
            scene.prefetchers.wait_until_none();
        }
    }
}

#[test]
fn a_corrupt_spool_only_costs_time() {
    let scene = PrefetchScene::with(1..=4);
    let prefetcher = scene.prefetched(1, 3);
    let spool = prefetcher.spool().unwrap();
    prefetcher.kill();
    // The socket is replaced by a directory, which calls cannot remove.
    fs::remove_file(spool.join("prefetcher.socket")).unwrap();
    fs::create_dir(spool.join("prefetcher.socket")).unwrap();
    fs::write(spool.join("prefetcher.socket/file"), "").unwrap();
    assert_eq!(scene.restored(&name(2)), From::Archive);
    scene.prefetchers.wait_until_none();
    fs::remove_dir_all(spool.join("prefetcher.socket")).unwrap();
    fs::write(spool.join("prefetcher.socket"), "no socket").unwrap();
    fs::write(spool.join("prefetcher.lock"), "17\n").unwrap();
    scene.prefetched(3, 1);
    assert_eq!(scene.restored(&name(4)), From::Prefetcher);
}

#[test]
fn a_spool_path_longer_than_a_socket_address_works() {
    let scene = PrefetchScene::with(1..=3);
    let deep = scene.scene.sandbox.directory("x".repeat(150)).join("spool");
    let call = |number| {
        let mut call = scene.call(&scene.scene.recovery, &name(number));
        call.env("WALKEEP_SPOOL", &deep);
        restored_by(call, &scene.scene.recovery, &name(number))
    };
    assert_eq!(call(1), From::Archive);
    scene.prefetchers.wait_until_held(2);
    assert_eq!([call(2), call(3)], [From::Prefetcher; 2]);
    scene.prefetchers.wait_until_none();
    assert_eq!(left_in_spools(&deep), [""; 0]);
}

#[test]
fn a_prefetcher_whose_spool_is_removed_ends_and_another_one_starts() {
    for below in [false, true] {
        let scene = PrefetchScene::with(1..=5);
        let prefetcher = scene.prefetched(1, 4);
        let removed = if below { prefetcher.spool().unwrap() } else { scene.spool_base() };
        fs::remove_dir_all(removed).unwrap();
        wait_until("it has ended", || !prefetcher.lives());
        let next = scene.prefetched(2, 3);
        assert_ne!(next, prefetcher);
        assert_eq!(scene.restored_all(3..=5), 3);
    }
}

#[test]
fn a_spool_that_is_removed_and_recreated_has_one_prefetcher_in_the_end() {
    let scene = PrefetchScene::with(1..=5);
    let prefetcher = scene.prefetched(1, 4);
    prefetcher.stop();
    fs::remove_dir_all(scene.spool_base()).unwrap();
    assert_eq!(scene.restored(&name(2)), From::Archive);
    wait_until("there are two", || scene.prefetchers.all().len() == 2);
    prefetcher.signal(Signal::CONT);
    wait_until("the old one has ended", || !prefetcher.lives());
    scene.prefetchers.wait_until_held(3);
    assert_eq!(scene.restored_all(3..=5), 3, "and has not taken the socket of the new one with it");
}

#[test]
fn without_a_data_directory_nothing_is_prefetched() {
    let scene = PrefetchScene::with(1..=2);
    for number in 1..=2 {
        let mut call = scene.scene.sandbox.walkeep_restore();
        call.args(["--archive", scene.scene.archive.url(), "-v", &name(number), "out"]);
        let Outcome { status, stderr } = outcome_of(call);
        assert_eq!((status, From::logged_in(&stderr)), (0, From::Archive));
        assert!(fs::read(scene.scene.sandbox.join("out")).unwrap() == content(&name(number)));
        assert!(scene.prefetchers.all().is_empty());
    }
}

// File systems.

/// A scene with spools on a file system of their own.
struct SpoolMounted {
    scene: PrefetchScene,
    tmpfs: Tmpfs,
}

impl SpoolMounted {
    fn with_segments(count: usize, bytes: usize) -> Self {
        let scene = PrefetchScene::with(1..=count);
        let base = scene.scene.sandbox.directory("spool");
        let tmpfs = Tmpfs::mount(&base, bytes as u64);
        Self { scene, tmpfs }
    }

    fn call(&self, number: usize) -> Command {
        self.tmpfs.run(&self.scene.call(&self.scene.scene.recovery, &name(number)))
    }

    fn restored(&self, number: usize) -> From {
        restored_by(self.call(number), &self.scene.scene.recovery, &name(number))
    }

    fn base(&self) -> PathBuf {
        self.tmpfs.seen_outside(&self.scene.spool_base())
    }
}

#[test]
fn a_read_only_spool_only_costs_time() {
    for used_before in [false, true] {
        let mounted = SpoolMounted::with_segments(4, 8 << 20);
        if used_before {
            assert_eq!(mounted.restored(1), From::Archive);
            mounted.scene.prefetchers.wait_until_held(3).kill();
        }
        mounted.tmpfs.remount_read_only();
        for number in 2..=4 {
            assert_eq!(mounted.restored(number), From::Archive, "{number}");
            mounted.scene.prefetchers.wait_until_none();
        }
    }
}

#[test]
fn a_full_spool_only_costs_time() {
    // Free space for nothing, for less than a segment, and for one and a half.
    for (left, prefetched) in [(0, 0), (512 << 10, 0), (SEGMENT_BYTES + (512 << 10), 1)] {
        let mounted = SpoolMounted::with_segments(5, 8 << 20);
        assert_eq!(mounted.restored(1), From::Archive);
        mounted.scene.prefetchers.wait_until_held(4).kill();
        mounted.tmpfs.fill(left);
        assert_eq!(mounted.restored(2), From::Archive, "{left}");
        if prefetched > 0 {
            mounted.scene.prefetchers.wait_until_held(prefetched);
            assert_eq!(mounted.restored(3), From::Prefetcher);
        } else {
            mounted.scene.prefetchers.wait_until_none();
            assert_eq!(mounted.restored(3), From::Archive);
        }
        assert!(matches!(mounted.restored(4), From::Archive | From::Prefetcher));
        mounted.scene.prefetchers.signal_all(Signal::KILL);
        mounted.scene.prefetchers.wait_until_none();
        assert!(left_in_spools(&mounted.base()).iter().all(|file| file == "ballast"));
    }
}

#[test]
fn a_file_prefetched_on_another_file_system_arrives_like_a_directly_restored_one() {
    for (umask, mode) in [("0077", 0o600), ("0027", 0o640)] {
        let mounted = SpoolMounted::with_segments(3, 16 << 20);
        let recovery = &mounted.scene.scene.recovery;
        for number in 1..=3 {
            let call = mounted.scene.call(recovery, &name(number));
            let call = in_shell(&mounted.scene.scene.sandbox, &format!("umask {umask}; exec \"$@\""), &call);
            let Outcome { status, stderr } = outcome_of(mounted.tmpfs.run(&call));
            let from = if number == 1 { From::Archive } else { From::Prefetcher };
            assert_eq!((status, From::logged_in(&stderr)), (0, from), "{stderr}");
            let path = recovery.join(TARGET);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{umask} {from:?}");
            assert!(fs::read(&path).unwrap() == content(&name(number)));
            if number == 1 {
                mounted.scene.prefetchers.wait_until_held(2);
                fs::remove_file(path).unwrap();
            }
            // From then on, another file replaces it.
        }
        assert_eq!(names_in(&recovery.join("pg_wal")), ["RECOVERYXLOG"]);
    }
}

#[test]
fn a_pg_wal_on_another_file_system_is_served_too_and_may_be_full() {
    let scene = PrefetchScene::with(1..=4);
    let pg_wal = scene.scene.recovery.join("pg_wal");
    let tmpfs = Tmpfs::mount(&pg_wal, 8 << 20);
    let seen = |name: &str| tmpfs.seen_outside(&pg_wal).join(name);
    let call = |number| outcome_of(tmpfs.run(&scene.call(&scene.scene.recovery, &name(number))));
    let restored = |number| {
        let Outcome { status, stderr } = call(number);
        assert_eq!(status, 0, "{stderr}");
        assert!(fs::read(seen("RECOVERYXLOG")).unwrap() == content(&name(number)));
        fs::remove_file(seen("RECOVERYXLOG")).unwrap();
        From::logged_in(&stderr)
    };
    assert_eq!(restored(1), From::Archive);
    scene.prefetchers.wait_until_held(3);
    assert_eq!(restored(2), From::Prefetcher);
    tmpfs.fill(512 << 10);
    let mut full = scene.call_with(&["--timeout", "4s"], &scene.scene.recovery, &name(3));
    full.env("LC_ALL", "C");
    let Outcome { status, stderr } = outcome_of(tmpfs.run(&full));
    assert_eq!(status, 255, "{stderr}");
    assert!(stderr.contains("No space left on device"), "{stderr}");
    assert_eq!(names_in(&tmpfs.seen_outside(&pg_wal)), ["ballast"]);
    tmpfs.free();
    assert_eq!(restored(3), From::Archive);
    assert_eq!(restored(4), From::Prefetcher);
}

#[test]
fn signals_while_a_copy_is_made_leave_nothing() {
    for (signal, stopped) in [(Signal::TERM, 143), (Signal::INT, 255), (Signal::QUIT, 255)] {
        for (system_calls, delay) in
            [("pread64", "delay_enter=300000"), ("rename,renameat,renameat2", "delay_enter=500000")]
        {
            let scene = PrefetchScene::with(1..=3);
            scene.prefetched(1, 2);
            // An existing file is replaced by a copy.
            let path = scene.scene.recovery.file(TARGET, "an older one");
            let call = scene.call(&scene.scene.recovery, &name(2));
            let running = Running::start(scene.scene.slowed(system_calls, delay, &call));
            let pg_wal = scene.scene.recovery.join("pg_wal");
            wait_until("a copy is being made", || names_in(&pg_wal).len() == 2);
            running.signal(signal);
            let Outcome { status, stderr } = running.end();
            let found = fs::read(&path).unwrap();
            match status {
                // A write that must not be interrupted may finish.
                0 => assert!(found == content(&name(2))),
                _ => {
                    assert_eq!(status, stopped, "{stderr}");
                    assert!(found == b"an older one" || found == content(&name(2)));
                }
            }
            assert_eq!(names_in(&pg_wal), ["RECOVERYXLOG"], "{system_calls}");
            fs::remove_file(path).unwrap();
            assert!(matches!(scene.restored(&name(2)), From::Archive | From::Prefetcher));
            assert_eq!(scene.restored(&name(3)), From::Prefetcher);
        }
    }
}

#[test]
fn a_call_for_another_system_than_the_data_directorys_has_its_own_spool() {
    let scene = PrefetchScene::with(1..=3);
    let prefetcher = scene.prefetched(1, 2);
    let options = ["--timeout=1s", "--system-identifier", &(SYSTEM + 1).to_string()];
    let Outcome { status, stderr } = outcome_of(scene.call_with(&options, &scene.scene.recovery, &name(2)));
    // The archive has no such cluster.
    assert_eq!(status, 255, "{stderr}");
    assert_eq!(prefetcher.held(), 2);
    assert_eq!(scene.restored_all(2..=3), 2);
}
