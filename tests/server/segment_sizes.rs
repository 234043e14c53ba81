//! Other segment sizes than 16 MB: such clusters archive and recover like any other; after a change of the size,
//! prune is in doubt until the archive has one size again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, process::Command};

use serde_json::Value;
use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of, postgres,
    sandbox::Sandbox,
    store_cluster::CallOutput,
};

/// Archives segments across the first 4 GiB, where the names jump, and recovers them.
fn archive_and_recover(megabytes: u64) {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary =
        Cluster::initialised_with(&sandbox, "primary", &[&format!("--wal-segsize={megabytes}")]);
    let last_of_log_0 = format!("0000000100000000{:08X}", 4096 / megabytes - 1);
    let mut resetwal = sandbox.command(postgres::program("pg_resetwal"));
    output_of(resetwal.args(["-l", &last_of_log_0, "-D"]).arg(primary.data()));
    primary.archive_into(&archive);
    primary.start();
    primary.sql("create table orders (id int)");
    assert_eq!(primary.archive_segment(), last_of_log_0);

    let mut recovered = primary.base_backup("recovered");
    let mut last = String::new();
    for _ in 0..3 {
        primary.sql("insert into orders select generate_series(1, 100)");
        last = primary.archive_segment();
    }
    assert_eq!(&last[..16], "0000000100000001");
    let original = sandbox.join("original");
    output_of(sandbox.walkeep().args(["cat", "--archive", archive.url(), &last, "-o"]).arg(&original));
    assert_eq!(fs::metadata(original).map(|file| file.len()).ok(), Some(megabytes << 20));
    primary.stop(Shutdown::Immediate);

    recovered.recover_from(&archive, &[]);
    recovered.start();
    assert_eq!(recovered.sql("select count(*) from orders"), "300");
}

#[test]
fn a_cluster_with_segments_of_1_mb_archives_and_recovers() {
    archive_and_recover(1);
}

#[test]
fn a_cluster_with_segments_of_64_mb_archives_and_recovers() {
    archive_and_recover(64);
}

/// Returns a command of `walkeep` on an archive.
fn walkeep(sandbox: &Sandbox, command: &str, archive: &ArchiveDirectory, options: &[&str]) -> Command {
    let mut walkeep = sandbox.walkeep();
    walkeep.args([command, "--archive", archive.url()]).args(options);
    walkeep
}

/// Returns the exit status of verify, and the kinds and files of its failures.
fn failures(sandbox: &Sandbox, archive: &ArchiveDirectory) -> (i32, Vec<(String, String)>) {
    let output = CallOutput::of(walkeep(sandbox, "verify", archive, &["--deep", "--json"]));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let findings = json["findings"].as_array().unwrap().iter();
    let failures = findings.filter(|finding| finding["severity"] == "failure");
    (output.status, failures.map(|found| (text(found, "kind"), text(found, "file"))).collect())
}

/// Changes the segment size of a cluster that continues to archive into the same archive, and applies both remedies.
fn change_the_size(from: u64, to: u64) {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = Cluster::initialised_with(&sandbox, "primary", &[&format!("--wal-segsize={from}")]);
    // Two segments of the larger size.
    primary.set("min_wal_size", "32MB");
    primary.archive_into(&archive);
    primary.start();
    let system = primary.system_identifier();
    primary.sql("create table orders (id int)");
    primary.base_backup("before");
    primary.sql("insert into orders values (1)");
    primary.archive_segment();
    primary.stop(Shutdown::Fast);
    let old_files = archive.all_names(system);

    let mut resetwal = sandbox.command(postgres::program("pg_resetwal"));
    output_of(resetwal.arg(format!("--wal-segsize={to}")).arg("-D").arg(primary.data()));
    primary.start();
    primary.base_backup("after");
    primary.sql("insert into orders values (2)");
    primary.archive_segment();

    let all = archive.all_names(system);
    for policy in [["--keep-backups", "1"], ["--keep-days", "0"], ["--before", "000000010000000000000099"]] {
        let output = CallOutput::of(walkeep(&sandbox, "prune", &archive, &policy));
        assert_eq!(output.status, 1, "{}", output.text());
        assert!(output.stderr.contains("pg_resetwal has changed the size of segments"), "{}", output.stderr);
    }
    assert_eq!(archive.all_names(system), all);
    let (status, found) = failures(&sandbox, &archive);
    let segments: Vec<&String> = old_files.iter().filter(|name| name.len() == 24).collect();
    let range = format!("{} to {}", segments.first().unwrap(), segments.last().unwrap());
    assert_eq!((status, found), (1, vec![("other_size".to_owned(), range)]));

    // Remedy 1: a new archive, and a base backup in it.
    let new_place = Sandbox::new();
    let new_archive = ArchiveDirectory::new(&new_place);
    primary.stop(Shutdown::Fast);
    primary.archive_into(&new_archive);
    primary.start();
    let mut recovered = primary.base_backup("in_the_new_one");
    primary.sql("insert into orders values (3)");
    primary.archive_segment();
    assert_eq!(failures(&sandbox, &new_archive), (0, vec![]));
    output_of(&mut walkeep(&sandbox, "prune", &new_archive, &["--keep-backups", "1"]));
    primary.stop(Shutdown::Immediate);
    recovered.recover_from(&new_archive, &[]);
    recovered.start();
    assert_eq!(recovered.sql("select count(*) from orders"), "3");

    // Remedy 2: the old files moved out of the archive.
    for file in &old_files {
        fs::remove_file(archive.file(system, file)).unwrap();
    }
    assert_eq!(failures(&sandbox, &archive), (0, vec![]));
    output_of(&mut walkeep(&sandbox, "prune", &archive, &["--keep-backups", "1"]));
}

#[test]
fn larger_segments_prevent_deletion_and_are_reported_until_the_archive_has_one_size() {
    change_the_size(1, 16);
}

#[test]
fn smaller_segments_prevent_deletion_and_are_reported_until_the_archive_has_one_size() {
    change_the_size(16, 1);
}
