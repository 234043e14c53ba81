//! Standbys that only the archive feeds: with it, without it, promoted, and configured in a file that another includes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    time::{Duration, Instant},
};

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    orders::{commit_orders, primary, take_orders},
    postgres,
    recovery::has_recovery_conf,
    sandbox::Sandbox,
    wait_until,
};
use walkeep::{
    cluster::DataDirectory,
    wal::{SegmentSize, SystemIdentifier},
};

/// The README's promise, with default settings.
const BOUND: Duration = Duration::from_mins(1);

fn standby<'a>(primary: &Cluster<'a>, archive: &ArchiveDirectory) -> Cluster<'a> {
    let mut standby = primary.base_backup("standby");
    standby.follow(archive);
    standby.start();
    standby
}

fn wait_for_orders(cluster: &Cluster, count: &str) {
    let orders = || cluster.try_sql("select count(*) from orders");
    wait_until(&format!("there are {count} orders"), || orders().as_deref() == Ok(count));
}

#[test]
fn a_standby_follows_the_archive_is_promoted_and_archives_its_timeline() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let standby = standby(&primary, &archive);
    for total in ["100", "200"] {
        take_orders(&primary);
        wait_for_orders(&standby, total);
    }
    commit_orders(&primary);
    primary.stop(Shutdown::Fast);
    wait_for_orders(&standby, "300");
    standby.promote();
    let segment = take_orders(&standby);
    assert_eq!(&segment[..8], "00000002");
    let system = standby.system_identifier();
    assert!(archive.file(system, &segment).exists());
    assert_eq!(archive.names(system, "timelines"), ["00000002.history"]);
    for log in [primary.log(), standby.log()] {
        assert!(!log.contains("walkeep-archive: ") && !log.contains("walkeep-restore: "), "{log}");
    }
}

#[test]
fn a_standby_is_promoted_by_its_trigger_file() {
    if postgres::version() > 15 {
        return; // has none
    }
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut standby = primary.base_backup("standby");
    let trigger = sandbox.join("trigger");
    standby.set("promote_trigger_file", trigger.to_str().unwrap());
    standby.follow(&archive);
    standby.start();
    take_orders(&primary);
    wait_for_orders(&standby, "100");
    primary.stop(Shutdown::Immediate);
    sandbox.file(&trigger, "");
    wait_until("it is promoted", || standby.try_sql("select pg_is_in_recovery()").as_deref() == Ok("f"));
    assert_eq!(&take_orders(&standby)[..8], "00000002");
}

#[test]
fn pg_control_says_the_size_of_segments_and_where_a_standby_restarts() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    let standby = standby(&primary, &archive);
    take_orders(&primary);
    primary.sql("checkpoint");
    take_orders(&primary);
    wait_for_orders(&standby, "200");
    standby.sql("checkpoint");
    let system = SystemIdentifier::new(standby.system_identifier()).unwrap();
    let data = DataDirectory::named(standby.data().to_owned());
    let bytes = primary.sql("select setting from pg_settings where name = 'wal_segment_size'");
    // Version 10 says how many blocks.
    let bytes: u64 = bytes.parse::<u64>().unwrap() * if postgres::version() == 10 { 8192 } else { 1 };
    assert_eq!(data.segment_size(), SegmentSize::new(bytes).ok());
    let restarts = standby.sql("select redo_wal_file from pg_control_checkpoint()");
    assert_eq!(data.restart_segment(system).unwrap().to_string(), restarts);
    let of_primary = DataDirectory::named(primary.data().to_owned());
    assert_eq!(of_primary.restart_segment(system), None, "it is in no recovery");
    let written = of_primary.written_up_to().unwrap().1;
    assert_eq!(primary.sql(&format!("select redo_lsn = '{written}' from pg_control_checkpoint()")), "t");
}

#[test]
fn a_standby_without_its_archive_starts_and_is_promoted_within_a_minute() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut standby = primary.base_backup("standby");
    // A server's default.
    standby.set("wal_retrieve_retry_interval", "5s");
    standby.follow(&archive);
    standby.start();
    take_orders(&primary);
    wait_for_orders(&standby, "100");
    standby.stop(Shutdown::Fast);
    primary.stop(Shutdown::Immediate);
    archive.vanish();
    let started = Instant::now();
    standby.start();
    let start = started.elapsed();
    let asked = Instant::now();
    standby.promote();
    let promotion = asked.elapsed();
    assert!(start < BOUND && promotion < BOUND, "{start:?} {promotion:?}");
    wait_for_orders(&standby, "100");
    assert!(standby.log().contains("walkeep-restore: error: "), "{}", standby.log());
}

#[test]
fn a_standby_whose_settings_are_in_an_included_file_survives_the_absence_of_its_archive() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    let mut standby = primary.base_backup("standby");
    standby.restore_with("--timeout 1s", &archive);
    standby.becomes(support::recovery::Role::Standby);
    let file = if has_recovery_conf() { "recovery.conf" } else { "postgresql.conf" };
    let settings = fs::read_to_string(standby.data().join(file)).unwrap();
    sandbox.file(standby.data().join("of-the-standby"), settings);
    sandbox.file(standby.data().join(file), "include 'of-the-standby'\n");
    archive.vanish();
    standby.launch();
    let gave_up = || standby.log().matches("walkeep-restore: error: ").count();
    wait_until("walkeep-restore has given up", || gave_up() >= 1);
    archive.come_back();
    take_orders(&primary);
    wait_for_orders(&standby, "100");
    assert_eq!(standby.sql("select pg_is_in_recovery()"), "t");
}
