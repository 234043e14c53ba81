//! Incremental base backups, which `pg_basebackup` takes from version 17 on.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use serde_json::{Value, json};
use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    orders::{commit_orders, count_orders, primary, take_orders},
    output_of, postgres,
    sandbox::Sandbox,
};

/// Takes a base backup, on top of another one if that is named.
fn take(sandbox: &Sandbox, primary: &Cluster, name: &str, on: Option<&str>) {
    let mut command = primary.client("pg_basebackup");
    command.args(["--no-sync", "--checkpoint=fast", "--wal-method=none", "--label", name, "-D"]);
    command.arg(sandbox.join(name));
    if let Some(other) = on {
        command.arg("--incremental").arg(sandbox.join(other).join("backup_manifest"));
    }
    output_of(&mut command);
}

#[test]
fn an_incremental_backup_recovers_after_a_prune_by_its_own_start_and_the_files_of_those_below_it() {
    if postgres::version() < 17 {
        return; // takes none
    }
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    primary.set("summarize_wal", "on");
    primary.stop(Shutdown::Fast);
    primary.start();
    take(&sandbox, &primary, "sunday", None);
    take_orders(&primary);
    take(&sandbox, &primary, "monday", Some("sunday"));
    take_orders(&primary);
    take(&sandbox, &primary, "tuesday", Some("monday"));
    take_orders(&primary);
    commit_orders(&primary);
    primary.stop(Shutdown::Fast);

    let json_of = |command: &[&str]| -> Value {
        let mut walkeep = sandbox.walkeep();
        walkeep.args(command).args(["--json", "--archive", archive.url()]);
        serde_json::from_str(&output_of(&mut walkeep)).unwrap()
    };
    let listed = json_of(&["list", "backups"]);
    let of = |label: &str| {
        let backups = listed["backups"].as_array().unwrap();
        backups.iter().find(|backup| backup["label"] == label).unwrap()
    };
    assert_eq!(of("sunday")["builds_on"], Value::Null, "{listed:#}");
    assert_eq!(of("monday")["builds_on"]["start_segment"], of("sunday")["start_segment"], "{listed:#}");
    assert_eq!(of("tuesday")["builds_on"]["backup"], of("monday")["name"], "{listed:#}");
    assert_eq!(of("tuesday")["complete"], true, "{listed:#}");

    let pruned = json_of(&["prune", "--keep-backups", "1", "--backup-may-take", "0s"]);
    assert_eq!(pruned["begins_at"], of("tuesday")["start_segment"], "{pruned:#}");
    let forgotten = pruned["forgotten_backups"].as_array().unwrap();
    assert!(forgotten.len() == 2 && forgotten.iter().all(|backup| backup["files_must_stay"] == json!(true)));
    let text = output_of(sandbox.walkeep().args(["list", "backups", "--archive", archive.url()]));
    assert!(text.contains("also keep the files of"), "{text}");
    let verified = json_of(&["verify", "--deep"]);
    // Prune has deleted the backup history files of those below it.
    let findings = verified["findings"].as_array().unwrap();
    let kinds: Vec<_> = findings.iter().map(|finding| &finding["kind"]).collect();
    assert_eq!((kinds, &verified["ok"]), (vec![&json!("unknown_base")], &json!(true)), "{verified:#}");

    let mut combine = sandbox.command(postgres::program("pg_combinebackup"));
    combine.args(["--no-sync", "-o"]).arg(sandbox.join("recovered"));
    output_of(combine.args(["sunday", "monday", "tuesday"].map(|name| sandbox.join(name))));
    let mut recovered = Cluster::in_directory(&sandbox, "recovered");
    recovered.recover_from(&archive, &[]);
    recovered.start();
    assert_eq!(count_orders(&recovered), "400");
}
