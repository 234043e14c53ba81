//! A real server archives into the stand-in for Google's store, and recovers its rows from there.

use support::{
    cluster::{Cluster, Shutdown},
    orders::commit_orders,
    recovery::Role,
    sandbox::Sandbox,
    store::{Store, google::ServiceAccount},
    store_cluster::{archive_by, configuration, restore_by},
};

#[test]
fn googles_store_restores_every_archived_row() {
    let (sandbox, store) = (Sandbox::new(), Store::of_google());
    let settings = format!(
        "archive = \"gs://wal/main\"\n[store]\nbase_url = \"{}\"\nallow_http = true\nservice_account = \"{}\"\n",
        store.endpoint(),
        ServiceAccount::known().file(&sandbox).display()
    );
    let configuration = configuration(&sandbox, &settings, 0o600);
    let mut primary = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
    archive_by(&sandbox, &primary, &configuration);
    primary.start();
    primary.sql("create table orders (id int)");
    let mut recovered = primary.base_backup("recovered");
    for _ in 0..3 {
        commit_orders(&primary);
        primary.archive_segment();
    }
    assert_eq!(primary.failed_count(), 0);
    primary.stop(Shutdown::Immediate);

    restore_by(&sandbox, &recovered, &configuration, Role::Recovery);
    recovered.start();
    assert_eq!(recovered.sql("select count(*) from orders"), "300");
    // Promoted, it continues to archive into the same archive.
    recovered.wait_until_archived();
    assert!(store.keys().iter().any(|key| key.ends_with("/timelines/00000002.history")));
    let logs = primary.log() + &recovered.log();
    let complaints = ["walkeep-archive: ", "walkeep-restore: warning", "walkeep-restore: error"];
    assert!(!complaints.iter().any(|complaint| logs.contains(complaint)), "{logs}");
}
