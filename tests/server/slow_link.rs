//! Real servers whose archive is a store behind a slow link: a recovery and a standby get every row over it, a promotion waits
//! for it no longer than promised, and loses nothing that the server has.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use support::{
    cluster::{Cluster, Shutdown},
    recovery::Role,
    sandbox::Sandbox,
    store::{Store, slow_relay::SlowRelay},
    store_cluster::{ARCHIVE, archive_by, changed, configuration, restore_by, store_section},
    wait_until,
};

/// The README's promise, with default settings.
const BOUND: Duration = Duration::from_mins(1);

/// A segment takes three to four seconds.
const BYTES_PER_SECOND: u32 = 250_000;

const SEGMENTS: u64 = 5;

/// Number of rows in a segment, most of which they fill with what nothing compresses.
const ROWS: u64 = 500;

/// A store, and the link by which servers reach it.
struct Scene {
    relay: SlowRelay,
    store: Store,
    sandbox: Sandbox,
}

impl Scene {
    fn new() -> Self {
        let store = Store::new();
        Self { relay: SlowRelay::start(store.address(), BYTES_PER_SECOND), store, sandbox: Sandbox::new() }
    }

    /// Writes the configuration of all servers, with these settings: they reach the store there from now on.
    fn configure(&self, endpoint: &str, settings: &str) -> PathBuf {
        let environment = changed(&self.store.environment(), "AWS_ENDPOINT_URL", endpoint);
        let section = store_section(&environment, "");
        configuration(&self.sandbox, &format!("archive = \"{ARCHIVE}\"\n{settings}\n{section}"), 0o600)
    }

    /// Creates a running primary that archives over the fast link.
    fn primary(&self) -> Cluster<'_> {
        let mut primary = Cluster::initialised_with(&self.sandbox, "primary", &["--wal-segsize=1"]);
        archive_by(&self.sandbox, &primary, &self.configure(&self.store.endpoint(), ""));
        primary.start();
        primary.sql("create table orders (id int, noise bytea)");
        primary
    }

    /// Takes a base backup, archives all segments after it, and loses the primary. What uses the backup reaches the store over
    /// the slow link, with these settings.
    fn lost(&self, settings: &str, options: &str, role: Role) -> Cluster<'_> {
        let mut primary = self.primary();
        let backup = primary.base_backup("backup");
        for _ in 0..SEGMENTS {
            take_orders(&primary);
            primary.archive_segment();
        }
        primary.stop(Shutdown::Immediate);
        let configuration = self.configure(&self.relay.endpoint(), settings);
        restore_by(&self.sandbox, &backup, &configuration, role);
        if !options.is_empty() {
            let program = self.sandbox.program("walkeep-restore");
            let (program, file) = (program.display(), configuration.display());
            backup.set("restore_command", &format!("{program} --config {file} {options} %f %p"));
        }
        backup
    }

    /// Waits until the link has carried some more of a transfer.
    fn wait_for_movement(&self) {
        let before = self.relay.carried();
        wait_until("a transfer moves", || self.relay.carried() > before + 100_000);
    }
}

/// Commits rows that nearly fill a segment.
fn take_orders(primary: &Cluster) {
    primary.sql(&format!(
        "insert into orders select row, (select string_agg(uuid_send(gen_random_uuid()), '') \
         from generate_series(1, 100) where row > 0) from generate_series(1, {ROWS}) row"
    ));
}

/// Returns the number of orders; 0 while the server does not answer.
fn orders(cluster: &Cluster) -> u64 {
    cluster.try_sql("select count(*) from orders").unwrap_or_default().parse().unwrap_or_default()
}

/// Waits for that many orders, for twice as long as the link takes for them.
fn wait_for_orders(cluster: &Cluster, count: u64) {
    let limit = BOUND + 2 * Duration::from_secs(SEGMENTS * (1 << 20) / u64::from(BYTES_PER_SECOND));
    let begun = Instant::now();
    while orders(cluster) < count {
        assert!(begun.elapsed() < limit, "{} of {count} orders: {}", orders(cluster), cluster.log());
        thread::sleep(Duration::from_millis(200));
    }
}

/// Promotes a standby; returns how long it took.
fn promoted(standby: &Cluster) -> Duration {
    let begun = Instant::now();
    standby.promote();
    begun.elapsed()
}

#[test]
fn a_recovery_over_a_slow_link_gets_every_row_beyond_its_time_limit() {
    let scene = Scene::new();
    let mut recovered = scene.lost("timeout = \"6s\"", "", Role::Recovery);
    recovered.launch();
    wait_for_orders(&recovered, SEGMENTS * ROWS);
    wait_until("it is open", || recovered.try_sql("select pg_is_in_recovery()").as_deref() == Ok("f"));
}

#[test]
fn a_standby_catches_up_over_a_slow_link_beyond_its_time_limit_and_is_promoted_with_every_row() {
    let scene = Scene::new();
    let mut standby = scene.lost("timeout = \"2s\"", "", Role::Standby);
    standby.launch();
    wait_for_orders(&standby, SEGMENTS * ROWS);
    let took = promoted(&standby);
    assert!(took < BOUND, "{took:?}");
    assert_eq!(orders(&standby), SEGMENTS * ROWS);
}

#[test]
fn a_standby_that_is_promoted_during_a_transfer_opens_within_a_minute_with_all_that_it_had() {
    let scene = Scene::new();
    let mut standby = scene.lost("", "", Role::Standby);
    standby.launch();
    wait_for_orders(&standby, ROWS);
    scene.wait_for_movement();
    let before = orders(&standby);
    let took = promoted(&standby);
    assert!(took < BOUND, "{took:?}");
    let after = orders(&standby);
    assert!(after >= before && after.is_multiple_of(ROWS), "{before}, {after}");
}

#[test]
fn a_standby_that_is_to_stop_for_what_it_cannot_get_is_promoted_once_it_has_every_row() {
    let scene = Scene::new();
    let mut standby = scene.lost("recovery_timeout = \"2s\"", "--on-error stop", Role::Standby);
    standby.launch();
    wait_for_orders(&standby, ROWS);
    scene.wait_for_movement();
    promoted(&standby);
    assert_eq!(orders(&standby), SEGMENTS * ROWS);
}

#[test]
fn a_standby_whose_slow_link_falls_silent_during_a_transfer_is_promoted_within_a_minute() {
    let scene = Scene::new();
    let mut standby = scene.lost("", "", Role::Standby);
    standby.launch();
    wait_for_orders(&standby, ROWS);
    scene.wait_for_movement();
    scene.relay.fall_silent();
    let before = orders(&standby);
    let took = promoted(&standby);
    assert!(took < BOUND, "{took:?}");
    assert!(orders(&standby) >= before, "{before}");
}
