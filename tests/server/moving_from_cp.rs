//! A server that archived with cp switches by the guide's recipe, and loses no row from either time.

use std::fs;

use support::{archive::ArchiveDirectory, cluster::Cluster, guide, orders::commit_orders, sandbox::Sandbox};

#[test]
fn files_archived_by_cp_and_later_ones_are_recovered_to_a_point_in_time() {
    let sandbox = Sandbox::new();
    let (archive, plain) = (ArchiveDirectory::new(&sandbox), sandbox.directory("cp-archive"));
    let mut primary = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
    primary.set("archive_mode", "on");
    primary.set("archive_command", &format!("cp %p {}/%f", plain.display()));
    primary.start();
    primary.sql("create table orders (id int)");
    let mut backup = primary.base_backup("backup");
    commit_orders(&primary);
    let segment = primary.archive_segment();
    // As cp leaves a file when the disk is full.
    let half = "0000000100000000000000FF";
    let bytes = fs::read(plain.join(segment)).unwrap();
    sandbox.file(plain.join(half), &bytes[..bytes.len() / 2]);

    primary.archive_into(&archive);
    primary.sql("select pg_reload_conf()");
    commit_orders(&primary);
    primary.archive_segment();
    let system = primary.system_identifier().to_string();
    let recipe = guide::block_with(&guide::page("docs/guide/from-cp.md"), "for file in");
    let names = [
        ("/mnt/cp-archive", plain.to_str().unwrap()),
        (guide::ARCHIVE, archive.url()),
        (guide::SYSTEM, &system),
    ];
    let output = guide::run(&sandbox, sandbox.path(), &recipe, &names);
    assert_eq!(output, format!("not archived: {half}"));

    let noted = primary.sql("select clock_timestamp()");
    primary.sql("drop table orders");
    primary.archive_segment();
    let recipe = guide::block_with(&guide::page("docs/guide/recovery.md"), "recovery_target_time");
    let restore = sandbox.program("walkeep-restore");
    let names = [
        ("walkeep-restore", restore.to_str().unwrap()),
        (guide::ARCHIVE, archive.url()),
        ("2026-01-02 03:04:05+00", &noted),
    ];
    guide::run(&sandbox, backup.data(), &recipe, &names);
    backup.set("archive_mode", "off");
    backup.start();
    assert_eq!(backup.sql("select count(*) from orders"), "200");
}
