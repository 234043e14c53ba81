//! A real server archives into a store and recovers its rows from there, over TLS: a store that fails on demand, and
//! Garage, which has no conditional writes.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    cluster::{Cluster, Shutdown},
    data_directory::{DataDirectory, SEGMENT},
    orders::commit_orders,
    push::{SYSTEM, succeeds},
    recovery::Role,
    running::{Outcome, Running, outcome_of},
    sandbox::Sandbox,
    store::{
        Store,
        fault::{Fault, Matching},
        garage::Garage,
        identity::Identity,
        tls_proxy::TlsProxy,
    },
    store_cluster::{
        ARCHIVE, CallOutput, Environment, StoreUsers, archive_by, configuration, configured, restore_by,
        store_section,
    },
    wait_until,
};

/// Writes a configuration file for an archive in a store with the identity's certificate.
fn configure(sandbox: &Sandbox, identity: &Identity, environment: &Environment, more: &str) -> PathBuf {
    let timeouts = "connect_timeout = \"2s\"\nread_timeout = \"5s\"\n";
    let ca_file = format!("ca_file = \"{}\"\n{timeouts}", identity.ca_file().display());
    let section = store_section(environment, &ca_file);
    configuration(sandbox, &format!("archive = \"{ARCHIVE}\"\n{more}\n{section}"), 0o600)
}

/// Creates a running primary that archives, with an empty table of orders.
fn primary<'a>(sandbox: &'a Sandbox, configuration: &Path) -> Cluster<'a> {
    // Small segments, because their size does not matter here.
    let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    archive_by(sandbox, &primary, configuration);
    primary.start();
    primary.sql("create table orders (id int)");
    primary
}

fn count_orders(cluster: &Cluster) -> Result<String, String> {
    cluster.try_sql("select count(*) from orders")
}

/// Lists the archived files of one kind, such as `wal/0000000100000000`.
fn names(store: &Store, cluster: &Cluster, kind: &str) -> Vec<String> {
    let prefix = format!("main/{}/{kind}/", cluster.system_identifier());
    store.keys().iter().filter_map(|key| Some(key.strip_prefix(&prefix)?.to_owned())).collect()
}

/// Archives three segments with that configuration, and recovers from them.
fn archives_and_recovers(sandbox: &Sandbox, configuration: &Path) {
    let mut primary = primary(sandbox, configuration);
    let mut recovered = primary.base_backup("recovered");
    for _ in 0..3 {
        commit_orders(&primary);
        primary.archive_segment();
    }
    assert_eq!(primary.failed_count(), 0);
    primary.stop(Shutdown::Immediate);

    restore_by(sandbox, &recovered, configuration, Role::Recovery);
    recovered.start();
    assert_eq!(count_orders(&recovered).as_deref(), Ok("300"));
    // Promoted, it continues to archive into the same archive.
    recovered.wait_until_archived();
    let logs = primary.log() + &recovered.log();
    // Recovery logs the missing segment at the end of the WAL.
    let complaints = ["walkeep-archive: ", "walkeep-restore: warning", "walkeep-restore: error"];
    assert!(!complaints.iter().any(|complaint| logs.contains(complaint)), "{logs}");
}

#[test]
fn a_store_over_tls_restores_every_archived_row() {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let store = Store::with_tls(&identity);
    let configuration = configure(&sandbox, &identity, &store.environment(), "");
    archives_and_recovers(&sandbox, &configuration);
    assert!(store.keys().iter().any(|key| key.ends_with("/timelines/00000002.history")));
}

#[test]
fn garage_over_tls_restores_every_archived_row() {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let garage = Garage::start(&sandbox);
    let proxy = TlsProxy::start(garage.address(), &identity);
    let configuration = configure(&sandbox, &identity, &behind(&garage, &proxy), "");
    archives_and_recovers(&sandbox, &configuration);
}

/// Returns a client's settings for Garage behind TLS.
fn behind(garage: &Garage, proxy: &TlsProxy) -> Vec<(&'static str, String)> {
    let mut environment = garage.environment();
    environment.retain(|(name, _)| !matches!(*name, "AWS_ENDPOINT_URL" | "AWS_ALLOW_HTTP"));
    environment.push(("AWS_ENDPOINT_URL", proxy.endpoint()));
    environment
}

/// A primary whose last three segments contain a hundred orders each, and a base backup from before.
struct Lost<'a> {
    recovered: Cluster<'a>,
    segments: [String; 3],
}

fn lose<'a>(sandbox: &'a Sandbox, configuration: &Path) -> Lost<'a> {
    let mut primary = primary(sandbox, configuration);
    let recovered = primary.base_backup("recovered");
    let segments = [(); 3].map(|()| {
        commit_orders(&primary);
        primary.archive_segment()
    });
    primary.stop(Shutdown::Immediate);
    Lost { recovered, segments }
}

/// Recovers while the store fails from the second segment on, which must stop the server; then from the working
/// store.
fn stops_and_goes_on(fault: &Fault) {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let store = Store::with_tls(&identity);
    // Prefetched segments would arrive before the store fails.
    let settings = "timeout = \"1s\"\nprefetch_size = \"0MB\"";
    let configuration = configure(&sandbox, &identity, &store.environment(), settings);
    let Lost { mut recovered, segments: [before, lost, _] } = lose(&sandbox, &configuration);
    restore_by(&sandbox, &recovered, &configuration, Role::Recovery);
    // The command replaces the rest of the archive by a failing store: the test says from which segment on.
    let failing = sandbox.join("failing");
    let restore = sandbox.program("walkeep-restore");
    let script = format!(
        "[ $1 != {} ] || {{ touch {failing}; while [ -e {failing} ]; do sleep 0.05; done; }}\nexec {} --config {} $1 $2\n",
        lost,
        restore.display(),
        configuration.display(),
        failing = failing.display(),
    );
    let script = sandbox.file("restore-command", script);
    recovered.set("restore_command", &format!("sh {} %f %p", script.display()));
    recovered.launch();
    wait_until("recovery comes to the second segment", || failing.exists());
    store.break_with(Matching::Any, fault.clone());
    fs::remove_file(&failing).unwrap();
    assert!(!recovered.wait_for_exit().success());
    let log = recovered.log();
    assert!(log.contains(&format!("restored log file \"{before}\" from archive")), "{log}");
    let fatal = format!("FATAL:  could not restore file \"{lost}\" from archive");
    assert!(log.contains(&fatal), "{log}");
    assert!(log.contains("walkeep-restore: error: "), "{log}");
    assert!(!recovered.wal("00000002.history").exists());
    assert_eq!(names(&store, &recovered, "timelines"), [""; 0]);

    store.heal();
    restore_by(&sandbox, &recovered, &configuration, Role::Recovery);
    recovered.start();
    assert_eq!(count_orders(&recovered).as_deref(), Ok("300"));
}

#[test]
fn a_store_that_answers_503_in_the_middle_of_recovery_stops_the_server_and_does_not_promote_it() {
    stops_and_goes_on(&Fault::Answer { status: 503, code: "SlowDown", message: "Please reduce" });
}

#[test]
fn a_store_that_resets_connections_in_the_middle_of_recovery_stops_the_server_and_does_not_promote_it() {
    stops_and_goes_on(&Fault::ResetBeforeReading);
}

#[test]
fn a_bucket_that_vanishes_in_the_middle_of_recovery_stops_the_server_and_does_not_promote_it() {
    stops_and_goes_on(&Fault::Answer { status: 404, code: "NoSuchBucket", message: "No such bucket" });
}

#[test]
fn a_standby_waits_for_a_store_that_is_away_and_catches_up() {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let store = Store::with_tls(&identity);
    let configuration = configure(&sandbox, &identity, &store.environment(), "timeout = \"1s\"");
    let primary = primary(&sandbox, &configuration);
    let mut standby = primary.base_backup("standby");
    restore_by(&sandbox, &standby, &configuration, Role::Standby);
    standby.start();
    commit_orders(&primary);
    primary.archive_segment();
    wait_until("the standby follows", || count_orders(&standby).as_deref() == Ok("100"));

    store.break_with(Matching::Method("GET"), Fault::ResetBeforeReading);
    commit_orders(&primary);
    primary.archive_segment();
    wait_until("walkeep-restore has given up twice", || {
        standby.log().matches("walkeep-restore: error: ").count() >= 2
    });
    assert_eq!(standby.sql("select pg_is_in_recovery()"), "t");
    assert_eq!(count_orders(&standby).as_deref(), Ok("100"));
    store.heal();
    wait_until("the standby catches up", || count_orders(&standby).as_deref() == Ok("200"));
}

#[test]
fn on_garage_different_content_is_refused_and_the_check_names_the_limitation() {
    let users = StoreUsers::new();
    let identity = Identity::new(&users.sandbox);
    let garage = Garage::start(&users.sandbox);
    let proxy = TlsProxy::start(garage.address(), &identity);
    let configuration = configure(&users.sandbox, &identity, &behind(&garage, &proxy), "");
    let with = |command: Command| configured(command, &configuration);
    succeeds(with(users.push()));
    succeeds(with(users.push()));
    users.primary.segment(SEGMENT, 1);
    let conflict = outcome_of(with(users.push()));
    assert_eq!(conflict.status, 3, "{}", conflict.stderr);
    assert!(conflict.stderr.contains("different content"), "{}", conflict.stderr);
    succeeds(with(users.restore()));
    assert!(users.restored() == users.segment);

    succeeds(with(users.push_of_backup()));
    let check = CallOutput::of(with(users.check()));
    let text = check.text();
    assert_eq!(check.status, 0, "{text}");
    let conditional = text.lines().find(|line| line.contains("conditional ")).unwrap();
    assert!(conditional.starts_with("! ") && conditional.contains("cannot refuse to overwrite"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("✓ tls ")), "{text}");
    let versions = text.lines().find(|line| line.contains(" versions ")).unwrap_or_default();
    assert!(versions.starts_with("✓ ") && versions.contains("keeps no versions"), "{text}");
}

#[test]
fn of_racers_on_garage_the_one_whose_file_stays_succeeds() {
    let sandbox = Sandbox::new();
    let identity = Identity::new(&sandbox);
    let garage = Garage::start(&sandbox);
    let proxy = TlsProxy::start(garage.address(), &identity);
    let configuration = configure(&sandbox, &identity, &behind(&garage, &proxy), "");
    let servers = ["one", "two", "three"].map(|name| DataDirectory::new(&sandbox, name, SYSTEM));
    for round in 1..=4 {
        let name = format!("00000001000000000000000{round}");
        let contents: Vec<_> =
            servers.iter().zip(1..).map(|(server, seed)| server.segment(&name, seed)).collect();
        let call = |server: &DataDirectory, program: Command, arguments: &[&str]| {
            let mut command = configured(server.run(program), &configuration);
            command.args(arguments);
            command
        };
        let file = format!("pg_wal/{name}");
        let running = servers
            .each_ref()
            .map(|server| Running::start(call(server, sandbox.walkeep_archive(), &[&file])));
        let outcomes = running.map(Running::end);
        succeeds(call(&servers[0], sandbox.walkeep_restore(), &[&name, "restored"]));
        let held = fs::read(servers[0].join("restored")).unwrap();
        for (content, Outcome { status, stderr }) in contents.iter().zip(&outcomes) {
            // Whoever has looked again before another one wrote does not notice.
            let noticed = *status == 3 && stderr.contains("different content");
            assert!(*status == 0 || (noticed && *content != held), "{round}: {outcomes:?}");
        }
        assert!(contents.contains(&held), "{round}");
    }
}
