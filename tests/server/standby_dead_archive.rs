//! Standbys of real servers whose archive is away, hangs, fails briefly or is slow: they start and are promoted
//! within a minute, and lose nothing that the archive would have provided.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use support::{
    cluster::{Cluster, Shutdown},
    recovery::Role,
    sandbox::Sandbox,
    store::{
        Store,
        dead_end::DeadEnd,
        fault::{Fault, Matching},
    },
    store_cluster::{ARCHIVE, archive_by, changed, configuration, restore_by, store_section},
    wait_until,
};

/// The README's promise, with default settings.
const BOUND: Duration = Duration::from_mins(1);

fn configure(sandbox: &Sandbox, store: &Store) -> PathBuf {
    let section = store_section(&store.environment(), "");
    configuration(sandbox, &format!("archive = \"{ARCHIVE}\"\n{section}"), 0o600)
}

fn primary<'a>(sandbox: &'a Sandbox, configuration: &Path) -> Cluster<'a> {
    let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    archive_by(sandbox, &primary, configuration);
    primary.start();
    primary.sql("create table orders (id int)");
    primary
}

/// Creates a running standby fed only by the archive, which it asks at that interval.
fn standby<'a>(
    sandbox: &'a Sandbox,
    primary: &Cluster<'a>,
    configuration: &Path,
    interval: &str,
) -> Cluster<'a> {
    let mut standby = primary.base_backup("standby");
    restore_by(sandbox, &standby, configuration, Role::Standby);
    standby.set("wal_retrieve_retry_interval", interval);
    standby.start();
    standby
}

/// Commits a hundred orders in a segment that is archived; returns its name.
fn take_orders(primary: &Cluster) -> String {
    primary.sql("insert into orders select generate_series(1, 100)");
    primary.archive_segment()
}

fn orders(cluster: &Cluster) -> Result<String, String> {
    cluster.try_sql("select count(*) from orders")
}

fn wait_for_orders(cluster: &Cluster, count: &str) {
    wait_until(&format!("there are {count} orders"), || orders(cluster).as_deref() == Ok(count));
}

#[test]
fn a_failure_at_the_moment_of_a_promotion_loses_nothing() {
    for fault in [Fault::Answer { status: 503, code: "SlowDown", message: "No" }, Fault::ResetBeforeReading] {
        let sandbox = Sandbox::new();
        let store = Store::new();
        let configuration = configure(&sandbox, &store);
        let mut primary = primary(&sandbox, &configuration);
        take_orders(&primary);
        // Once it has reached the end, it asks no more until it is promoted.
        let standby = standby(&sandbox, &primary, &configuration, "1h");
        wait_for_orders(&standby, "100");
        wait_until("it waits", || standby.log().contains("waiting for WAL to become available"));
        take_orders(&primary);
        primary.stop(Shutdown::Immediate);
        store.break_times(2, Matching::Gets, fault.clone());
        standby.promote();
        assert_eq!(orders(&standby).as_deref(), Ok("200"), "{fault:?}");
        assert!(standby.log().contains("walkeep-restore: warning: "), "it was met with: {}", standby.log());
    }
}

#[test]
fn a_slow_store_still_feeds_a_standby_after_a_hang() {
    let sandbox = Sandbox::new();
    let store = Store::new();
    let configuration = configure(&sandbox, &store);
    let primary = primary(&sandbox, &configuration);
    let standby = standby(&sandbox, &primary, &configuration, "100ms");
    store.break_with(Matching::Gets, Fault::Hang);
    let says = |seconds| format!("nothing was sent or received for {seconds} seconds");
    wait_until("it hangs", || standby.log().contains(&says(20)));
    wait_until("that is known", || standby.log().contains(&says(2)));
    take_orders(&primary);
    store.heal();
    store.break_with(Matching::Gets, Fault::Late(Duration::from_secs(3)));
    wait_for_orders(&standby, "100");
}

/// Starts a stopped standby and promotes it, both while the archive is away, and without the primary.
fn starts_and_is_promoted(break_it: impl Fn(&Sandbox, &Store, &Path) -> Option<DeadEnd>) {
    let sandbox = Sandbox::new();
    let store = Store::new();
    let configuration = configure(&sandbox, &store);
    let mut primary = primary(&sandbox, &configuration);
    take_orders(&primary);
    // At the interval of a server's default.
    let mut standby = standby(&sandbox, &primary, &configuration, "5s");
    wait_for_orders(&standby, "100");
    standby.stop(Shutdown::Fast);
    primary.stop(Shutdown::Immediate);
    let _dead_end = break_it(&sandbox, &store, &configuration);
    let started = Instant::now();
    standby.start();
    let start = started.elapsed();
    let promoted = Instant::now();
    standby.promote();
    let promotion = promoted.elapsed();
    assert!(start < BOUND && promotion < BOUND, "{start:?} {promotion:?}");
    assert_eq!(orders(&standby).as_deref(), Ok("100"));
    assert!(standby.log().contains("walkeep-restore: error: "), "{}", standby.log());
}

fn move_to(sandbox: &Sandbox, store: &Store, endpoint: &str) {
    let environment = changed(&store.environment(), "AWS_ENDPOINT_URL", endpoint);
    let section = store_section(&environment, "");
    configuration(sandbox, &format!("archive = \"{ARCHIVE}\"\n{section}"), 0o600);
}

#[test]
fn a_standby_starts_and_is_promoted_within_a_minute_although_its_store_refuses() {
    starts_and_is_promoted(|sandbox, store, _| {
        let dead_end = DeadEnd::refused();
        move_to(sandbox, store, &dead_end.http());
        Some(dead_end)
    });
}

#[test]
fn a_standby_starts_and_is_promoted_within_a_minute_although_its_store_hangs() {
    starts_and_is_promoted(|sandbox, store, _| {
        let dead_end = DeadEnd::silent();
        move_to(sandbox, store, &dead_end.http());
        Some(dead_end)
    });
}

#[test]
fn a_standby_starts_and_is_promoted_within_a_minute_although_its_directory_is_missing() {
    starts_and_is_promoted(|sandbox, _, _| {
        configuration(sandbox, "archive = \"/nowhere/at/all\"\n", 0o600);
        None
    });
}
