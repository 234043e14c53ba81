//! A damaged segment in the archive: the guide's recipes recover, on a real server, everything that is recoverable.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::{archive::ArchiveDirectory, cluster::Cluster, guide, sandbox::Sandbox};

const GUIDE: &str = "docs/guide/damage.md";

/// Names in the guide: the damaged segment, the one before it, and their directory.
const DAMAGED: &str = "00000001000000000000002A";
const BEFORE: &str = "000000010000000000000029";

/// A primary with a base backup, followed by five segments with 100 rows each, the third of which is damaged.
struct Scene<'a> {
    primary: Cluster<'a>,
    backup: Cluster<'a>,
    before: String,
    damaged: String,
}

impl<'a> Scene<'a> {
    fn new(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> Self {
        let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
        primary.archive_into(archive);
        primary.set("wal_keep_size", "1GB");
        primary.start();
        primary.sql("create table orders (id int)");
        let backup = primary.base_backup("backup");
        let segments: Vec<_> = (0..5)
            .map(|_| {
                primary.sql("insert into orders select generate_series(1, 100)");
                primary.archive_segment()
            })
            .collect();
        let file = archive.file(primary.system_identifier(), &segments[2]);
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&file, bytes).unwrap();
        Self { primary, backup, before: segments[1].clone(), damaged: segments[2].clone() }
    }
}

/// Returns the block of the guide that contains `part`.
fn block(part: &str) -> String {
    guide::block_with(&guide::section(GUIDE, "## A damaged file"), part)
}

#[test]
fn with_an_intact_copy_of_the_damaged_segment_every_row_is_recovered() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Scene { primary, mut backup, damaged, .. } = Scene::new(&sandbox, &archive);
    let (system, aside) = (primary.system_identifier().to_string(), sandbox.join("aside"));
    let names = [
        (guide::ARCHIVE, archive.url()),
        (guide::SYSTEM, &system),
        (DAMAGED, &damaged),
        ("/mnt/aside", aside.to_str().unwrap()),
    ];
    guide::run(&sandbox, primary.data(), &block("walkeep-archive"), &names);
    backup.recover_from(&archive, &[("archive_mode", "off")]);
    backup.start();
    assert_eq!(backup.sql("select count(*) from orders"), "500");
}

#[test]
fn recovery_to_the_last_record_before_the_damaged_segment_ends_there() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Scene { mut backup, before, .. } = Scene::new(&sandbox, &archive);
    let place = sandbox.join("before");
    let names =
        [(guide::ARCHIVE, archive.url()), (BEFORE, &before), ("/tmp/before", place.to_str().unwrap())];
    let line = guide::run(&sandbox, sandbox.path(), &block("pg_waldump"), &names);
    let lsn = line.split("lsn: ").nth(1).unwrap().split(',').next().unwrap();
    backup.recover_from(&archive, &[("recovery_target_lsn", lsn), ("archive_mode", "off")]);
    // Older servers do not read ahead and do not know the setting.
    if backup.knows("recovery_prefetch") {
        backup.set("recovery_prefetch", "off");
    }
    backup.start();
    assert_eq!(backup.sql("select count(*) from orders"), "200");
}

#[test]
fn recovery_ends_at_the_segment_that_was_moved_away_if_it_is_named() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Scene { mut backup, damaged, .. } = Scene::new(&sandbox, &archive);
    fs::remove_file(archive.file(backup.system_identifier(), &damaged)).unwrap();
    backup.recover_from(&archive, &[("archive_mode", "off")]);
    let option = format!("--accept-gap {DAMAGED}");
    assert!(guide::section(GUIDE, "## A damaged file").contains(&format!("`walkeep-restore {option} …`")));
    backup.restore_with(&option.replace(DAMAGED, &damaged), &archive);
    backup.start();
    assert_eq!(backup.sql("select count(*) from orders"), "200");
}
