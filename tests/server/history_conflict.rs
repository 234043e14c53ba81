//! Two servers archive into one archive under the same names; the guide's recipe keeps the files of the one that
//! stays.

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    guide, output_of,
    recovery::Role,
    sandbox::Sandbox,
    wait_until,
};

/// Name in the guide.
const SEGMENT: &str = "00000001000000000000002A";

fn take_orders(cluster: &Cluster, taken_by: &str) {
    cluster.sql(&format!("insert into orders select '{taken_by}' from generate_series(1, 100)"));
}

/// Returns the number of orders per server.
fn orders(cluster: &Cluster) -> String {
    cluster.try_sql("select taken_by, count(*) from orders group by 1 order by 1").unwrap_or_default()
}

fn wait_for_orders(cluster: &Cluster, expected: &str) {
    wait_until(&format!("the orders are {expected:?}"), || orders(cluster) == expected);
}

/// Creates a primary that archives, with an empty table of orders, and a base backup of it.
fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> (Cluster<'a>, Cluster<'a>) {
    let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    primary.archive_into(archive);
    primary.set("wal_keep_size", "1GB");
    primary.start();
    primary.sql("create table orders (taken_by text)");
    let backup = primary.base_backup("backup");
    (primary, backup)
}

fn wait_until_stuck(server: &Cluster, name: &str) {
    let stuck = "select last_failed_wal from pg_stat_archiver";
    wait_until(&format!("{name} is refused"), || server.sql(stuck) == name);
    assert!(server.log().contains("archive command failed with exit code 3"));
}

/// Returns the rows after a recovery of `backup` to the latest.
fn recovered(mut backup: Cluster, archive: &ArchiveDirectory) -> String {
    backup.recover_from(archive, &[]);
    backup.set("archive_mode", "off");
    backup.start();
    orders(&backup)
}

/// Asserts that the remaining server has archived everything it kept, and that it can be recovered from before and
/// after the conflict.
fn assert_kept(
    sandbox: &Sandbox,
    archive: &ArchiveDirectory,
    server: &Cluster,
    before: Cluster,
    expected: &str,
) {
    take_orders(server, "later");
    // Wakes the archiver, which otherwise pauses for a minute after three failures.
    server.archive_segment();
    output_of(sandbox.walkeep().args(["verify", "--names-only", "--archive", archive.url()]));
    let after = server.base_backup("after");
    take_orders(server, "later");
    server.archive_segment();
    assert_eq!(orders(server), expected);
    assert_eq!(recovered(before, archive), expected);
    assert_eq!(recovered(after, archive), expected);
}

#[test]
fn of_two_servers_promoted_to_one_timeline_the_one_that_stays_is_kept_whole() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let (mut primary, before) = primary(&sandbox, &archive);
    let mut other = primary.base_backup("other");
    other.follow(&archive);
    other.start();
    // Streams, and does not use the archive before it is promoted.
    let mut stays = primary.base_backup("stays");
    stays.set("primary_conninfo", &primary.connection());
    stays.becomes(Role::Standby);
    stays.start();
    take_orders(&primary, "primary");
    primary.archive_segment();
    wait_for_orders(&other, "primary|100");

    other.promote();
    for _ in 0..3 {
        take_orders(&other, "other");
        other.archive_segment();
    }
    take_orders(&primary, "primary");
    primary.archive_segment();
    wait_for_orders(&stays, "primary|200");
    primary.stop(Shutdown::Immediate);
    stays.promote();
    take_orders(&stays, "stays");
    stays.finish_segment();
    wait_until_stuck(&stays, "00000002.history");

    other.stop(Shutdown::Fast);
    guide::move_aside(&sandbox, &archive, ".history /mnt/aside", &[]);
    assert_kept(&sandbox, &archive, &stays, before, "later|200\nprimary|200\nstays|100");
}

#[test]
fn of_two_servers_that_write_one_timeline_the_one_that_stays_is_kept_whole() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let (mut stays, before) = primary(&sandbox, &archive);
    take_orders(&stays, "stays");
    stays.stop(Shutdown::Fast);
    let mut clone = stays.copy("clone");
    stays.start();
    clone.start();
    // Further than the other will get, so that its segments would follow those archived.
    for _ in 0..4 {
        take_orders(&clone, "clone");
        clone.archive_segment();
    }
    take_orders(&stays, "stays");
    let stuck = stays.finish_segment();
    wait_until_stuck(&stays, &stuck);
    take_orders(&stays, "stays");
    stays.finish_segment();

    let theirs = sandbox.join("theirs");
    let look = guide::block_with(&guide::conflict(), "pg_waldump");
    let names =
        [(guide::ARCHIVE, archive.url()), (SEGMENT, &stuck), ("/tmp/theirs", theirs.to_str().unwrap())];
    let seen = guide::run(&sandbox, stays.data(), &look, &names);
    assert!(seen.lines().filter(|line| line.contains("COMMIT")).count() >= 2, "{seen}");

    clone.stop(Shutdown::Fast);
    guide::move_aside(&sandbox, &archive, "sort -r", &[(SEGMENT, &stuck)]);
    assert_kept(&sandbox, &archive, &stays, before, "later|200\nstays|300");
}

#[test]
fn a_blocked_clone_announces_no_timeline_after_its_promotion() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let (mut stays, before) = primary(&sandbox, &archive);
    take_orders(&stays, "stays");
    stays.stop(Shutdown::Fast);
    let mut clone = stays.copy("clone");
    stays.start();
    take_orders(&stays, "stays");
    stays.archive_segment();
    clone.start();
    take_orders(&clone, "clone");
    let stuck = clone.finish_segment();
    wait_until_stuck(&clone, &stuck);

    clone.stop(Shutdown::Fast);
    clone.becomes(Role::Standby);
    clone.start();
    clone.promote();
    wait_until_stuck(&clone, "00000002.history");
    assert!(clone.log().contains("00000002.history is not archived before that"));
    clone.stop(Shutdown::Fast);
    assert_eq!(recovered(before, &archive), "stays|200");
}
