//! Clusters whose segments are not of 16 MB archive and recover like any other.

mod support;

use std::fs;

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of, postgres,
    sandbox::Sandbox,
};

/// Archives segments across the end of log 0, where the names jump, and recovers them.
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
