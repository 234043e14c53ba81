//! A hot standby fed only by the archive, its promotion, and the return of the old primary.

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of,
    sandbox::Sandbox,
    wait_until,
};

/// A running primary and its running standby, without a connection between them.
struct Pair<'a> {
    primary: Cluster<'a>,
    standby: Cluster<'a>,
}

impl<'a> Pair<'a> {
    fn start(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> Self {
        let mut primary = Cluster::new(sandbox, "primary");
        primary.archive_into(archive);
        // pg_rewind requires it.
        primary.set("wal_log_hints", "on");
        primary.start();
        primary.sql("create table orders (taken_by text)");
        let mut standby = primary.base_backup("standby");
        standby.follow(archive);
        standby.start();
        Self { primary, standby }
    }
}

fn take_orders(cluster: &Cluster, taken_by: &str) {
    cluster.sql(&format!("insert into orders select '{taken_by}' from generate_series(1, 100)"));
}

/// Returns the number of orders per server.
fn orders(cluster: &Cluster) -> Result<String, String> {
    cluster.try_sql("select taken_by, count(*) from orders group by 1 order by 1")
}

fn wait_for_orders(cluster: &Cluster, expected: &str) {
    wait_until(&format!("the orders are {expected:?}"), || orders(cluster).as_deref() == Ok(expected));
}

#[test]
fn a_standby_fed_by_the_archive_alone_follows_is_promoted_and_archives_its_timeline() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Pair { mut primary, standby } = Pair::start(&sandbox, &archive);
    for total in ["primary|100", "primary|200"] {
        take_orders(&primary, "primary");
        primary.archive_segment();
        wait_for_orders(&standby, total);
    }
    take_orders(&primary, "primary");
    // A fast shutdown archives the last segment, too.
    primary.stop(Shutdown::Fast);
    wait_for_orders(&standby, "primary|300");

    standby.promote();
    take_orders(&standby, "standby");
    let segment = standby.archive_segment();
    assert_eq!(&segment[..8], "00000002");
    let system = standby.system_identifier();
    assert!(archive.file(system, &segment).exists());
    assert_eq!(archive.names(system, "timelines"), ["00000002.history"]);
    // All of it was routine, including the many requests for segments not archived so far: walkeep logged nothing.
    for log in [primary.log(), standby.log()] {
        assert!(!log.contains("walkeep-archive: ") && !log.contains("walkeep-restore: "));
    }
}

#[test]
fn a_standby_with_archive_mode_always_may_archive_restored_files_again() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Pair { primary, mut standby } = Pair::start(&sandbox, &archive);
    standby.stop(Shutdown::Fast);
    standby.set("archive_mode", "always");
    standby.start();
    take_orders(&primary, "primary");
    primary.archive_segment();
    wait_for_orders(&standby, "primary|100");
    standby.wait_until_archived();
    let counts = standby.sql("select archived_count > 0, failed_count from pg_stat_archiver");
    assert_eq!(counts, "t|0");
}

#[test]
fn a_standby_survives_an_archive_that_is_away_for_longer_than_the_time_limit() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Pair { primary, mut standby } = Pair::start(&sandbox, &archive);
    standby.stop(Shutdown::Fast);
    standby.restore_with("--timeout 1s", &archive);
    standby.start();

    archive.vanish();
    let gave_up = || standby.log().matches("walkeep-restore: error: ").count();
    wait_until("walkeep-restore has given up twice", || gave_up() >= 2);
    assert_eq!(orders(&standby).as_deref(), Ok(""));
    archive.come_back();
    take_orders(&primary, "primary");
    primary.archive_segment();
    wait_for_orders(&standby, "primary|100");
}

#[test]
fn a_fast_shutdown_does_not_wait_for_an_archive_that_is_away() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Pair { mut standby, .. } = Pair::start(&sandbox, &archive);
    standby.stop(Shutdown::Fast);
    standby.restore_with("--timeout 1h", &archive);
    standby.start();

    archive.vanish();
    wait_until("walkeep-restore waits", || standby.log().contains("walkeep-restore: warning: "));
    standby.stop(Shutdown::Fast);
}

#[test]
fn a_standby_promoted_while_the_archive_is_away_comes_up_on_a_new_timeline() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Pair { mut primary, mut standby } = Pair::start(&sandbox, &archive);
    standby.stop(Shutdown::Fast);
    standby.restore_with("--timeout 1s", &archive);
    standby.start();

    for (timeline, ancestors) in [("00000002", 1), ("00000003", 2)] {
        // The primary's host takes the archive with it. PostgreSQL requests history files to find an unused timeline
        // and the ancestors of the new one; the latter after standby.signal has been removed.
        primary.stop(Shutdown::Fast);
        archive.vanish();
        standby.promote();
        archive.come_back();
        take_orders(&standby, timeline);
        assert_eq!(&standby.archive_segment()[..8], timeline);
        let history = format!("{timeline}.history");
        let history = output_of(sandbox.walkeep().args(["cat", "--archive", archive.url(), &history]));
        assert_eq!(history.lines().filter(|line| !line.is_empty()).count(), ancestors, "{history}");

        primary = standby;
        standby = primary.base_backup(&format!("standby-of-{timeline}"));
        standby.follow(&archive);
        standby.restore_with("--timeout 1s", &archive);
        standby.start();
    }
}

#[test]
fn an_old_primary_rewound_with_the_archive_follows_the_new_one() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Pair { primary: mut old, standby: new } = Pair::start(&sandbox, &archive);
    take_orders(&old, "old");
    old.archive_segment();
    wait_for_orders(&new, "old|100");
    new.promote();
    // pg_rewind reads the new timeline from the control file.
    new.sql("checkpoint");

    // The old primary was not stopped. It continues until it has recycled the WAL from before the fork.
    take_orders(&old, "nobody");
    let parted = old.archive_segment();
    for _ in 0..3 {
        take_orders(&old, "nobody");
        old.archive_segment();
        old.sql("checkpoint");
    }
    old.stop(Shutdown::Fast);
    assert!(!old.wal(&parted).exists(), "pg_rewind must need the archive");

    old.restore_from(&archive);
    let mut rewind = sandbox.command(support::postgres::program("pg_rewind"));
    output_of(
        rewind
            .args(["--restore-target-wal", "--no-sync", "--source-server", &new.connection()])
            .arg("--target-pgdata")
            .arg(old.data()),
    );
    old.follow(&archive);
    old.start();
    take_orders(&new, "new");
    new.archive_segment();
    wait_for_orders(&old, "new|100\nold|100");
}

#[test]
fn a_base_backup_recovers_to_a_point_on_the_old_timeline_and_to_the_end_of_the_new_one() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let Pair { mut primary, mut standby } = Pair::start(&sandbox, &archive);
    let mut on_the_new = primary.base_backup("on-the-new");
    let mut on_the_old = on_the_new.copy("on-the-old");
    take_orders(&primary, "primary");
    primary.archive_segment();
    wait_for_orders(&standby, "primary|100");
    standby.promote();
    take_orders(&standby, "standby");
    standby.archive_segment();
    standby.stop(Shutdown::Immediate);
    // The old primary continues beyond the fork.
    take_orders(&primary, "primary");
    primary.sql("select pg_create_restore_point('the wrong way')");
    take_orders(&primary, "primary");
    primary.archive_segment();
    primary.stop(Shutdown::Immediate);

    on_the_new.recover_from(&archive, &[("recovery_target_timeline", "latest")]);
    on_the_new.start();
    assert_eq!(orders(&on_the_new).as_deref(), Ok("primary|100\nstandby|100"));

    let target = [("recovery_target_timeline", "1"), ("recovery_target_name", "the wrong way")];
    on_the_old.recover_from(&archive, &target);
    on_the_old.start();
    assert_eq!(orders(&on_the_old).as_deref(), Ok("primary|200"));

    // Both found the timelines used before, so neither reused a number.
    on_the_new.wait_until_archived();
    on_the_old.wait_until_archived();
    let taken = ["00000002.history", "00000003.history", "00000004.history"];
    assert_eq!(archive.names(on_the_old.system_identifier(), "timelines"), taken);
}
