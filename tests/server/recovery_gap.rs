//! A gap in the archive: no real server opens with rows missing, and every server that does not need the segment
//! recovers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    files::names_in,
    output_of,
    sandbox::Sandbox,
};

/// Long enough to look twice for a segment that may arrive; these archives are young.
const HASTE: &str = "--timeout 4s";

/// An archive with a gap.
struct Gap<'a> {
    sandbox: &'a Sandbox,
    archive: ArchiveDirectory,
    /// A base backup without WAL, from before all orders.
    backup: Cluster<'a>,
    missing: String,
    kept: Vec<u8>,
}

const SEGMENTS: usize = 4;
/// Index in [`SEGMENTS`] of the missing one, unless a test selects another.
const MISSING: usize = 2;
const ROWS: usize = 100;

impl<'a> Gap<'a> {
    /// Creates a primary that archives segments with rows, and then loses [`MISSING`].
    fn new(sandbox: &'a Sandbox, backup_arguments: &[&str]) -> Self {
        Self::at(MISSING, sandbox, backup_arguments)
    }

    /// Does the same as [`Gap::new`] with another missing segment.
    fn at(missing: usize, sandbox: &'a Sandbox, backup_arguments: &[&str]) -> Self {
        let archive = ArchiveDirectory::new(sandbox);
        let mut primary = Cluster::new(sandbox, "primary");
        primary.archive_into(&archive);
        primary.start();
        primary.sql("create table orders (id int)");
        let backup = if backup_arguments.is_empty() {
            primary.base_backup("backup")
        } else {
            output_of(primary.base_backup_command("backup").args(backup_arguments));
            Cluster::from_backup(sandbox, "base", &sandbox.join("backup"))
        };
        let mut segments = Vec::new();
        for _ in 0..SEGMENTS {
            primary.sql(&format!("insert into orders select generate_series(1, {ROWS})"));
            segments.push(primary.archive_segment());
        }
        primary.stop(Shutdown::Immediate);
        let missing = segments[missing].clone();
        let file = archive.file(primary.system_identifier(), &missing);
        let kept = fs::read(&file).unwrap();
        fs::remove_file(file).unwrap();
        Self { sandbox, archive, backup, missing, kept }
    }

    /// Returns a server to recover from the base backup, with additional options of `walkeep-restore`.
    fn recovery(&self, name: &str, options: &str, target: &[(&str, &str)]) -> Cluster<'a> {
        let recovery = self.backup.copy(name);
        recovery.recover_from(&self.archive, target);
        recovery.set("archive_mode", "off");
        recovery.restore_with(&format!("{HASTE} {options}"), &self.archive);
        recovery
    }

    fn put_back(&self) {
        let file = self.archive.file(self.backup.system_identifier(), &self.missing);
        self.sandbox.file(file, &self.kept);
    }
}

fn rows(cluster: &Cluster) -> String {
    cluster.sql("select count(*) from orders")
}

#[test]
fn recovery_stops_at_a_gap_and_continues_once_it_is_filled() {
    let sandbox = Sandbox::new();
    let gap = Gap::new(&sandbox, &[]);
    let mut recovery = gap.recovery("recovery", "", &[]);
    recovery.launch();
    assert!(!recovery.wait_for_exit().success());
    let log = recovery.log();
    assert!(log.contains(&format!("{} is missing in the archive", gap.missing)), "{log}");
    assert!(!log.contains("database system is ready to accept connections"), "{log}");
    gap.put_back();
    recovery.start();
    assert_eq!(rows(&recovery), (SEGMENTS * ROWS).to_string());
    let end = format!("walkeep-restore: info: 0000000100000000000000{:02X} ", SEGMENTS + 3);
    assert!(recovery.log().contains(&end), "the end leaves a line: {}", recovery.log());
}

#[test]
fn recovery_stops_at_lost_segments_that_a_base_backup_proves() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = Cluster::new(&sandbox, "primary");
    primary.archive_into(&archive);
    primary.start();
    primary.sql("create table orders (id int)");
    let backup = primary.base_backup("backup");
    let insert_and_archive = || {
        primary.sql(&format!("insert into orders select generate_series(1, {ROWS})"));
        primary.archive_segment()
    };
    let [_, missing] = [insert_and_archive(), insert_and_archive()];
    primary.base_backup("later");
    let system = primary.system_identifier();
    support::wait_until("both backup history files are archived", || {
        archive.names(system, "backups").len() == 2
    });
    primary.stop(Shutdown::Immediate);
    // All segments from one on are lost.
    let file = archive.file(system, &missing);
    let kept = fs::read(&file).unwrap();
    let mut lost = Vec::new();
    for name in names_in(file.parent().unwrap()).into_iter().filter(|name| *name >= missing) {
        let path = archive.file(system, &name);
        lost.push((path.clone(), fs::read(&path).unwrap()));
        fs::remove_file(path).unwrap();
    }
    let gap = Gap { sandbox: &sandbox, archive, backup, missing: missing.clone(), kept };
    let mut recovery = gap.recovery("recovery", "", &[]);
    recovery.launch();
    assert!(!recovery.wait_for_exit().success(), "{}", recovery.log());
    let log = recovery.log();
    assert!(log.contains(&format!("{missing} is missing in the archive")), "{log}");
    assert!(log.contains("that base backup proves WAL up to"), "{log}");
    assert!(!log.contains("database system is ready to accept connections"), "{log}");
    let mut accepting = gap.recovery("accepting", &format!("--accept-gap {missing}"), &[]);
    accepting.start();
    assert_eq!(rows(&accepting), ROWS.to_string());
    for (path, content) in lost {
        gap.sandbox.file(path, content);
    }
    recovery.start();
    assert_eq!(rows(&recovery), (2 * ROWS).to_string());
}

#[test]
fn recovery_ends_at_a_gap_that_is_accepted_by_name() {
    let sandbox = Sandbox::new();
    let gap = Gap::new(&sandbox, &[]);
    let mut recovery = gap.recovery("recovery", &format!("--accept-gap {}", gap.missing), &[]);
    recovery.start();
    assert_eq!(rows(&recovery), (MISSING * ROWS).to_string());
}

#[test]
fn a_target_right_before_a_gap_is_reached_if_the_server_does_not_read_ahead() {
    let sandbox = Sandbox::new();
    // The base backup is consistent in the segment before the gap.
    let gap = Gap::at(0, &sandbox, &[]);
    let target = [("recovery_target", "immediate")];
    for prefetch in ["try", "off"] {
        let mut recovery = gap.recovery(prefetch, "", &target);
        // Before version 15 no server reads ahead.
        let reads_ahead = recovery.knows("recovery_prefetch");
        if reads_ahead {
            recovery.set("recovery_prefetch", prefetch);
        }
        if prefetch == "off" || !reads_ahead {
            recovery.start();
            assert_eq!(rows(&recovery), "0");
            continue;
        }
        recovery.launch();
        assert!(!recovery.wait_for_exit().success());
        assert!(recovery.log().contains("recovery_prefetch = off"), "{}", recovery.log());
    }
}

#[test]
fn a_base_backup_with_its_own_first_segments_recovers_although_the_archive_lacks_them() {
    let sandbox = Sandbox::new();
    let gap = Gap::new(&sandbox, &["--wal-method=stream"]);
    gap.put_back();
    let system = gap.backup.system_identifier();
    let first = fs::read_dir(gap.backup.wal("")).unwrap().map(|entry| entry.unwrap().file_name());
    let first = first.filter_map(|name| name.into_string().ok()).find(|name| name.len() == 24).unwrap();
    fs::remove_file(gap.archive.file(system, &first)).unwrap();
    let mut recovery = gap.recovery("recovery", "", &[]);
    recovery.start();
    assert_eq!(rows(&recovery), (SEGMENTS * ROWS).to_string());

    // A backup without it gets an error, and its backup_label stays.
    let mut without = gap.recovery("without", "", &[]);
    fs::remove_file(without.wal(&first)).unwrap();
    without.launch();
    assert!(!without.wait_for_exit().success());
    let log = without.log();
    assert!(log.contains("do NOT remove backup_label") && !log.contains("HINT"), "{log}");
}

#[test]
fn a_standby_waits_at_a_gap_and_follows_once_it_is_filled() {
    let sandbox = Sandbox::new();
    let gap = Gap::new(&sandbox, &[]);
    let mut standby = gap.backup.copy("standby");
    standby.follow(&gap.archive);
    standby.start();
    support::wait_until("it has come to the gap", || rows(&standby) == (MISSING * ROWS).to_string());
    gap.put_back();
    support::wait_until("it has come to the end", || rows(&standby) == (SEGMENTS * ROWS).to_string());
}
