//! Archiving, and the tools that look at a server and its archive.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, process::Command};

use serde_json::{Value, json};
use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    orders::{commit_orders, primary, segments, take_orders},
    output_of, postgres,
    sandbox::Sandbox,
    wait_until,
};

fn walkeep(sandbox: &Sandbox, archive: &ArchiveDirectory, command: &[&str]) -> Command {
    let mut walkeep = sandbox.walkeep();
    walkeep.args(command).args(["--archive", archive.url(), "--timeout", "20s"]);
    walkeep
}

/// Returns the JSON of a command that must succeed.
fn json_of(mut command: Command) -> Value {
    serde_json::from_str(&output_of(command.arg("--json"))).unwrap()
}

#[test]
fn every_segment_is_archived_as_it_was_and_all_files_verify() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let finished: Vec<String> = (0..3).map(|_| take_orders(&primary)).collect();
    let last = finished.last().unwrap();
    let saved = fs::read(primary.wal(last)).unwrap();
    primary.base_backup("nightly");
    primary.stop(Shutdown::Fast);
    let archived = segments(&archive, primary.system_identifier());
    assert!(finished.iter().all(|segment| archived.contains(segment)), "{archived:?}");

    let original = sandbox.join("original");
    output_of(walkeep(&sandbox, &archive, &["cat", last]).arg("-o").arg(&original));
    assert!(fs::read(original).unwrap() == saved, "{last} differs");
    let verified = json_of(walkeep(&sandbox, &archive, &["verify", "--deep"]));
    assert_eq!((&verified["ok"], &verified["findings"]), (&json!(true), &json!([])), "{verified:#}");
    let listed = json_of(walkeep(&sandbox, &archive, &["list", "backups"]));
    let backup = &listed["backups"][0];
    assert_eq!((&backup["label"], &backup["complete"]), (&json!("nightly"), &json!(true)), "{listed:#}");
    assert_eq!(backup["reaches"][0]["to_the_end"], true, "{listed:#}");
}

#[test]
fn check_and_status_find_nothing_wrong_with_a_server_that_archives() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    primary.base_backup("nightly");
    commit_orders(&primary);
    let mut check = walkeep(&sandbox, &archive, &["check", "--pg-url", &primary.connection()]);
    let said = output_of(postgres::with_clients(&mut check).arg("--pgdata").arg(primary.data()));
    assert!(!said.contains('✗') && said.contains("archive_command uses this archive"), "{said}");

    let mut status = walkeep(&sandbox, &archive, &["status", "--max-lag", "1m", "--max-backlog", "0"]);
    status.args(["--max-backup-age", "1h", "--pgdata"]).arg(primary.data());
    let status = json_of(status);
    assert_eq!(status["system_identifier"], primary.system_identifier().to_string(), "{status:#}");
    assert_eq!((&status["ok"], &status["backlog"]["files"]), (&json!(true), &json!(0)), "{status:#}");
    assert_eq!(status["newest_backup"]["label"], "nightly", "{status:#}");
}

#[test]
fn a_base_backup_of_a_standby_tells_its_end_without_a_manifest() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary: Cluster = primary(&sandbox, &archive);
    let mut standby = primary.base_backup("standby");
    standby.follow(&archive);
    standby.start();
    take_orders(&primary);
    wait_until("it follows", || standby.try_sql("select count(*) from orders").as_deref() == Ok("100"));
    standby.sql("checkpoint");
    let backups = sandbox.directory("backups");
    let mut backup = standby.base_backup_command("backups/of-the-standby");
    output_of(backup.arg("--wal-method=none"));
    take_orders(&primary);
    let mut verify = walkeep(&sandbox, &archive, &["verify", "--names-only"]);
    verify.arg("--backup-dir").arg(&backups);
    let verified = json_of(verify);
    let found = verified["backups"].as_array().unwrap().iter().find(|backup| !backup["place"].is_null());
    assert_eq!(found.unwrap()["complete"], true, "{verified:#}");
}

#[test]
fn a_dry_prune_names_what_the_newest_backup_does_not_need_and_deletes_nothing() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary: Cluster = primary(&sandbox, &archive);
    let old = take_orders(&primary);
    take_orders(&primary);
    primary.base_backup("nightly");
    let after = take_orders(&primary);
    let system = primary.system_identifier();
    let archived = archive.all_names(system);
    let mut prune = walkeep(&sandbox, &archive, &["prune", "--keep-backups", "1", "--backup-may-take", "0s"]);
    prune.args(["--pg-url", &primary.connection(), "--dry-run"]);
    postgres::with_clients(&mut prune);
    let plan = json_of(prune);
    let goes: Vec<&str> =
        plan["deleted_files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(goes.contains(&&*old) && !goes.contains(&&*after), "{plan:#}");
    let begins_at = plan["kept_backups"][0]["start_segment"].as_str().unwrap();
    assert!(goes.iter().all(|name| *name < begins_at), "{plan:#}");
    assert_eq!(archive.all_names(system), archived);
}
