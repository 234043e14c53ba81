//! The cluster whose file `walkeep-restore` fetches, if archive and machine have several.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use support::{
    archive::ArchiveDirectory,
    data_directory::{DataDirectory, SEGMENT},
    files::{Permissions, names_in},
    output_of,
    restore::TARGET,
    running::outcome_of,
    sandbox::Sandbox,
};

const SYSTEMS: [u64; 2] = [7_000_000_000_000_000_001, 18_446_744_073_709_551_615];

/// Two clusters that share a machine and an archive; each has archived its own first segment.
struct Neighbours {
    archive: ArchiveDirectory,
    clusters: [DataDirectory; 2],
    segments: [Vec<u8>; 2],
    sandbox: Sandbox,
}

impl Neighbours {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let archive = ArchiveDirectory::new(&sandbox);
        let clusters = [0, 1].map(|n| DataDirectory::new(&sandbox, &format!("cluster{n}"), SYSTEMS[n]));
        let segments = [0, 1].map(|n| clusters[n].segment(SEGMENT, u8::try_from(n).unwrap()));
        for cluster in &clusters {
            let mut push = cluster.run(sandbox.walkeep_archive());
            output_of(push.args(["--archive", archive.url()]).arg(format!("pg_wal/{SEGMENT}")));
            fs::remove_file(cluster.join("pg_wal").join(SEGMENT)).unwrap();
        }
        Self { archive, clusters, segments, sandbox }
    }

    /// Returns the command for the segment with that working directory and `%p`.
    fn restore(&self, working_directory: &Path, path: impl AsRef<Path>) -> Command {
        let mut command = self.sandbox.walkeep_restore();
        command.current_dir(working_directory).args(["--archive", self.archive.url(), "--timeout", "1s"]);
        command.arg(SEGMENT).arg(path.as_ref());
        command
    }

    /// Restores the segment and returns its owner.
    fn owner(&self, working_directory: &Path, path: impl AsRef<Path>) -> usize {
        self.owner_with(&[], working_directory, path)
    }

    /// Does the same as [`Neighbours::owner`] with additional options.
    fn owner_with(&self, options: &[&str], working_directory: &Path, path: impl AsRef<Path>) -> usize {
        let mut restore = self.restore(working_directory, &path);
        restore.args(options);
        let outcome = outcome_of(restore);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        let restored = working_directory.join(path);
        let content = fs::read(&restored).unwrap();
        fs::remove_file(restored).unwrap();
        self.segments.iter().position(|segment| *segment == content).unwrap()
    }
}

#[test]
fn a_relative_path_belongs_to_the_working_directory() {
    let neighbours = Neighbours::new();
    for (n, cluster) in neighbours.clusters.iter().enumerate() {
        for path in [TARGET, "./pg_wal/RECOVERYXLOG", "pg_wal/../pg_wal/RECOVERYXLOG"] {
            assert_eq!(neighbours.owner(&cluster.join(""), path), n, "{path}");
        }
    }
}

#[test]
fn an_absolute_path_decides_wherever_the_command_runs() {
    let neighbours = Neighbours::new();
    let [first, second] = &neighbours.clusters;
    // As pg_rewind -c does, called from any directory: here from another cluster's data directory.
    assert_eq!(neighbours.owner(&first.join(""), second.join(TARGET)), 1);
    assert_eq!(neighbours.owner(&second.join(""), first.join(TARGET)), 0);
    assert_eq!(neighbours.owner(Path::new("/"), second.join(TARGET)), 1);
    assert_eq!(neighbours.owner(&first.join(""), "../cluster1/pg_wal/RECOVERYXLOG"), 1);
    assert_eq!(neighbours.owner(neighbours.sandbox.path(), "cluster1/pg_wal/RECOVERYXLOG"), 1);
}

#[test]
fn a_pg_wal_on_another_disk_belongs_to_its_data_directory() {
    let neighbours = Neighbours::new();
    let [first, second] = &neighbours.clusters;
    // The directory two levels above the real path is the other cluster's.
    fs::create_dir(first.join("wal_of_the_other")).unwrap();
    support::user::hand_over(&first.join("wal_of_the_other"));
    fs::remove_dir(second.join("pg_wal")).unwrap();
    symlink(first.join("wal_of_the_other"), second.join("pg_wal")).unwrap();
    assert_eq!(neighbours.owner(&first.join(""), second.join(TARGET)), 1);
    assert_eq!(neighbours.owner(&second.join(""), TARGET), 1);
}

#[test]
fn the_mode_is_that_of_the_cluster_whose_file_is_requested() {
    let neighbours = Neighbours::new();
    let [first, second] = &neighbours.clusters;
    second.file("standby.signal", "");
    let damaged = |system| fs::write(neighbours.archive.file(system, SEGMENT), "").unwrap();
    SYSTEMS.into_iter().for_each(damaged);
    let status = |working_directory: &DataDirectory, of: &DataDirectory| {
        outcome_of(neighbours.restore(&working_directory.join(""), of.join(TARGET))).status
    };
    assert_eq!([status(first, second), status(second, second)], [75, 75]);
    assert_eq!([status(first, first), status(second, first)], [255, 255]);
}

#[test]
fn the_identifier_on_the_command_line_takes_precedence() {
    let neighbours = Neighbours::new();
    let plain = neighbours.sandbox.directory("plain");
    let option = format!("--system-identifier={}", SYSTEMS[1]);
    assert_eq!(neighbours.owner_with(&[&option], &neighbours.clusters[0].join(""), TARGET), 1);
    assert_eq!(neighbours.owner_with(&[&option], &plain, SEGMENT), 1);
}

#[test]
fn without_a_data_directory_the_only_cluster_of_the_archive_is_used() {
    let neighbours = Neighbours::new();
    let plain = neighbours.sandbox.directory("plain");
    fs::remove_dir_all(neighbours.sandbox.join("archive").join(SYSTEMS[0].to_string())).unwrap();
    neighbours.sandbox.file("archive/README", "not a system");
    neighbours.sandbox.directory("archive/lost+found");
    assert_eq!(neighbours.owner(&plain, SEGMENT), 1);
    assert_eq!(neighbours.owner(Path::new("/"), plain.join(SEGMENT)), 1);
}

#[test]
fn several_clusters_are_named_and_none_is_guessed() {
    let neighbours = Neighbours::new();
    let plain = neighbours.sandbox.directory("plain");
    for (option, status) in [("--on-error=stop", 255), ("--on-error=retry", 75)] {
        let mut restore = neighbours.restore(&plain, SEGMENT);
        restore.arg(option);
        let outcome = outcome_of(restore);
        assert_eq!((outcome.status, outcome.stderr.lines().count()), (status, 1), "{}", outcome.stderr);
        for word in [&SYSTEMS[0].to_string(), &SYSTEMS[1].to_string(), "--system-identifier"] {
            assert!(outcome.stderr.contains(word), "{}", outcome.stderr);
        }
    }
    assert_eq!(names_in(&plain), [""; 0]);
}

#[test]
fn an_archive_without_a_cluster_proves_nothing() {
    let neighbours = Neighbours::new();
    let plain = neighbours.sandbox.directory("plain");
    for system in SYSTEMS {
        fs::remove_dir_all(neighbours.sandbox.join("archive").join(system.to_string())).unwrap();
    }
    let outcome = outcome_of(neighbours.restore(&plain, SEGMENT));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
}

#[test]
fn another_clusters_wal_is_no_substitute() {
    let neighbours = Neighbours::new();
    let [first, _] = &neighbours.clusters;
    fs::remove_dir_all(neighbours.sandbox.join("archive").join(SYSTEMS[0].to_string())).unwrap();
    let outcome = outcome_of(neighbours.restore(&first.join(""), TARGET));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert_eq!(names_in(&first.join("pg_wal")), [""; 0]);
}

#[test]
fn with_an_unreadable_control_file_nothing_is_guessed() {
    let neighbours = Neighbours::new();
    let [first, second] = &neighbours.clusters;
    let fails = || {
        for working_directory in [first, second] {
            let outcome = outcome_of(neighbours.restore(&working_directory.join(""), first.join(TARGET)));
            assert_eq!((outcome.status, outcome.stderr.lines().count()), (255, 1), "{}", outcome.stderr);
            assert!(outcome.stderr.contains("global/pg_control"), "{}", outcome.stderr);
        }
    };
    for (path, mode) in [("global/pg_control", 0o000), ("global", 0o000)] {
        let _closed = Permissions::set(&first.join(path), mode);
        fails();
    }
    for content in [&b""[..], b"short", &[0; 512], &[0xff; 512], b"<html><body>not found</body></html>"] {
        first.file("global/pg_control", content);
        fails();
    }
    fs::remove_file(first.join("global/pg_control")).unwrap();
    fs::create_dir(first.join("global/pg_control")).unwrap();
    fails();
}
