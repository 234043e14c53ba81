//! Disks that are full, read-only, or unmounted: nothing incomplete is left, and the same call succeeds once the disk
//! is usable again.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    data_directory::{DataDirectory, SEGMENT, SEGMENT_BYTES},
    files::names_in,
    push::{HISTORY, HISTORY_CONTENT, Pusher, fails, files_below, succeeds},
    restore::TARGET,
    running::outcome_of,
    tmpfs::Tmpfs,
};

/// Size of a few segments.
const TMPFS_BYTES: u64 = 8 << 20;

/// Free space in bytes: none, and enough for part of a segment.
const LEFT: [usize; 2] = [0, 64 << 10];

const SEGMENT_KEY: &str = "7381092445103374871/wal/0000000100000000/000000010000000000000001";

/// A data directory, and an archive on a file system of its own.
struct Mounted {
    tmpfs: Tmpfs,
    pusher: Pusher,
}

impl Mounted {
    fn new() -> Self {
        let pusher = Pusher::new();
        Self { tmpfs: Tmpfs::mount(Path::new(pusher.archive.url()), TMPFS_BYTES), pusher }
    }

    fn push(&self, name: &str) -> Command {
        self.tmpfs.run(&self.pusher.push(name))
    }

    /// Returns [`Mounted::push`] with `require_mount`.
    fn push_onto_a_mount(&self, name: &str) -> Command {
        let mut push = self.pusher.push(name);
        push.env("WALKEEP_CONFIG", require_mount(&self.pusher));
        self.tmpfs.run(&push)
    }

    /// Lists the archived files; those in the directory below the mount point if the archive is not mounted.
    fn files(&self) -> Vec<String> {
        let mut files = files_below(&self.tmpfs.seen_outside(Path::new(self.pusher.archive.url())));
        files.retain(|file| file != "ballast");
        files
    }

    fn original(&self, name: &str) -> Vec<u8> {
        let mut cat = self.pusher.sandbox.walkeep();
        cat.args(["cat", "--archive", self.pusher.archive.url(), name]);
        self.tmpfs.run(&cat).output().unwrap().stdout
    }
}

fn require_mount(pusher: &Pusher) -> PathBuf {
    pusher.sandbox.file("walkeep.toml", "require_mount = true")
}

#[test]
fn a_push_to_a_full_archive_fails_leaves_nothing_and_succeeds_when_there_is_space() {
    for left in LEFT {
        for (name, content) in [(SEGMENT, None), (HISTORY, Some(HISTORY_CONTENT))] {
            if content.is_some() && left > 0 {
                continue; // a history file fits
            }
            let mounted = Mounted::new();
            let content = match content {
                None => mounted.pusher.data.segment(name, 0),
                Some(text) => fs::read(mounted.pusher.data.file(&format!("pg_wal/{name}"), text)).unwrap(),
            };
            mounted.tmpfs.fill(left);
            let url = mounted.pusher.archive.url();
            fails(1, mounted.push(name), &[name, url, "No space left on device", "free some space there"]);
            assert_eq!(mounted.files(), [""; 0]);
            mounted.tmpfs.free();
            succeeds(mounted.push(name));
            assert!(mounted.original(name) == content, "{name}");
        }
    }
}

#[test]
fn an_archive_that_fills_up_keeps_what_it_has() {
    let mounted = Mounted::new();
    let content = mounted.pusher.data.segment(SEGMENT, 0);
    succeeds(mounted.push(SEGMENT));
    mounted.tmpfs.fill(LEFT[1]);
    let next = "000000010000000000000002";
    mounted.pusher.data.segment(next, 0);
    fails(1, mounted.push(next), &[next, "No space left on device"]);
    assert_eq!(mounted.files(), [SEGMENT_KEY]);
    assert!(mounted.original(SEGMENT) == content);
}

#[test]
fn a_read_only_archive_is_reported_as_read_only() {
    let mounted = Mounted::new();
    mounted.pusher.data.segment(SEGMENT, 0);
    mounted.tmpfs.remount_read_only();
    fails(2, mounted.push(SEGMENT), &[SEGMENT, "Read-only file system", "is mounted read-only"]);
}

#[test]
fn a_full_or_read_only_archive_still_confirms_its_files_and_reports_conflicts() {
    for what in ["full", "read-only"] {
        let mounted = Mounted::new();
        let pusher = &mounted.pusher;
        pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
        pusher.data.segment(SEGMENT, 0);
        for name in [SEGMENT, HISTORY] {
            succeeds(mounted.push(name));
        }
        let files = mounted.files();
        if what == "full" {
            mounted.tmpfs.fill(0);
        } else {
            mounted.tmpfs.remount_read_only();
        }
        for name in [SEGMENT, HISTORY] {
            succeeds(mounted.push(name));
        }
        pusher.data.file(&format!("pg_wal/{HISTORY}"), "1\t0/300000\tanother promotion\n");
        pusher.data.segment(SEGMENT, 1);
        for name in [SEGMENT, HISTORY] {
            fails(3, mounted.push(name), &[name, "different content"]);
        }
        assert_eq!(mounted.files(), files, "{what}");
    }
}

#[test]
fn an_unmounted_archive_receives_no_file_below_the_mount_point() {
    let mounted = Mounted::new();
    mounted.pusher.data.segment(SEGMENT, 0);
    succeeds(mounted.push_onto_a_mount(SEGMENT));
    assert_eq!(mounted.files(), [SEGMENT_KEY]);
    mounted.tmpfs.unmount();
    let next = "000000010000000000000002";
    mounted.pusher.data.segment(next, 0);
    for name in [SEGMENT, next] {
        let url = mounted.pusher.archive.url();
        fails(1, mounted.push_onto_a_mount(name), &[url, "is not a mount point", "mount it"]);
    }
    assert_eq!(names_in(Path::new(mounted.pusher.archive.url())), [""; 0]);
}

/// Returns a restore as run by the server.
fn restore(pusher: &Pusher, server: &DataDirectory) -> Command {
    let mut restore = server.run(pusher.sandbox.walkeep_restore());
    restore.args(["--archive", pusher.archive.url(), SEGMENT, TARGET]);
    restore
}

/// The two kinds of recovery, with the exit status for an unknown answer.
fn servers(pusher: &Pusher) -> [(DataDirectory, i32); 2] {
    [("recovery", 255), ("standby", 75)].map(|(mode, status)| {
        let server = DataDirectory::new(&pusher.sandbox, mode, support::push::SYSTEM);
        server.file(&format!("{mode}.signal"), "");
        (server, status)
    })
}

#[test]
fn an_unmounted_archive_is_not_the_end_of_wal() {
    let mounted = Mounted::new();
    mounted.pusher.data.segment(SEGMENT, 0);
    succeeds(mounted.push(SEGMENT));
    let servers = servers(&mounted.pusher);
    for (server, _) in &servers {
        assert_eq!(outcome_of(mounted.tmpfs.run(&restore(&mounted.pusher, server))).status, 0);
        fs::remove_file(server.join(TARGET)).unwrap();
    }
    mounted.tmpfs.unmount();
    for (server, status) in &servers {
        for (with_require_mount, word) in [(false, "is it mounted"), (true, "is not a mount point")] {
            let mut restore = restore(&mounted.pusher, server);
            restore.env("WALKEEP_TIMEOUT", "500ms");
            if with_require_mount {
                restore.env("WALKEEP_CONFIG", require_mount(&mounted.pusher));
            }
            let outcome = outcome_of(mounted.tmpfs.run(&restore));
            assert_eq!(outcome.status, *status, "{}", outcome.stderr);
            assert!(outcome.stderr.lines().last().unwrap().contains(word), "{}", outcome.stderr);
            assert_eq!(names_in(&server.join("pg_wal")), [""; 0]);
        }
    }
}

#[test]
fn a_restore_to_a_full_disk_says_so_and_leaves_nothing() {
    let pusher = Pusher::new();
    let content = pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    for (server, status) in servers(&pusher) {
        let wal = server.join("pg_wal");
        let tmpfs = Tmpfs::mount(&wal, TMPFS_BYTES);
        for left in LEFT {
            tmpfs.fill(left);
            let outcome = outcome_of(tmpfs.run(&restore(&pusher, &server)));
            assert_eq!(outcome.status, status, "{}", outcome.stderr);
            let is_one_line = outcome.stderr.lines().count() == 1;
            assert!(is_one_line && outcome.stderr.contains("No space left on device"), "{}", outcome.stderr);
            assert_eq!(files_below(&tmpfs.seen_outside(&wal)), ["ballast"]);
            tmpfs.free();
        }
        assert_eq!(outcome_of(tmpfs.run(&restore(&pusher, &server))).status, 0);
        assert!(fs::read(tmpfs.seen_outside(&server.join(TARGET))).unwrap() == content);
        assert_eq!(files_below(&tmpfs.seen_outside(&wal)), ["RECOVERYXLOG"]);
    }
}

#[test]
fn cat_to_a_full_disk_says_so_and_leaves_nothing() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    let disk = pusher.sandbox.directory("disk");
    let tmpfs = Tmpfs::mount(&disk, TMPFS_BYTES);
    tmpfs.fill(SEGMENT_BYTES / 2);
    let mut cat = pusher.sandbox.walkeep();
    cat.args(["cat", "--archive", pusher.archive.url(), SEGMENT, "-o"]).arg(disk.join("original"));
    let outcome = outcome_of(tmpfs.run(&cat));
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("No space left on device"), "{}", outcome.stderr);
    assert_eq!(files_below(&tmpfs.seen_outside(&disk)), ["ballast"]);
}
