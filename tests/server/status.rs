//! `walkeep status` of a real server: idle, behind, archiving elsewhere, and promoted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::process::Command;

use serde_json::Value;
use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of,
    sandbox::Sandbox,
    status::{json_of, metrics, quiet_output},
    store_cluster::CallOutput,
    wait_until,
};

fn status(sandbox: &Sandbox, archive: &ArchiveDirectory, server: &Cluster, arguments: &[&str]) -> Command {
    let mut status = sandbox.walkeep();
    status.args(["status", "--archive", archive.url(), "--timeout", "20s", "--pgdata"]).arg(server.data());
    status.args(arguments);
    status
}

#[test]
fn idle_lagging_and_misdirected_servers_are_recognized() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut server = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
    server.archive_into(&archive);
    server.start();
    let backup = server.base_backup("nightly");
    server.sql("create table kept as select generate_series(1, 1000) as id");
    let newest = server.archive_segment();
    let output = |arguments: &[&str], ends: i32| -> Value {
        json_of(status(&sandbox, &archive, &server, &[&["--json"], arguments].concat()), ends)
    };

    // Idle: finished segments are archived, the rest is not finished.
    let json = output(&["--max-lag", "0s", "--max-backlog", "0"], 0);
    assert_eq!(
        (&json["timelines"][0]["newest_segment"], &json["backlog"]["files"]),
        (&newest.as_str().into(), &0.into())
    );
    assert_eq!((&json["recovery_window"]["label"], &json["unarchived"]), (&"nightly".into(), &Value::Null));
    assert_eq!(json["system_identifier"], server.system_identifier().to_string());
    let mut listing = sandbox.walkeep();
    let backups = output_of(listing.args(["list", "backups", "--archive", archive.url()]));
    assert!(
        backups.contains("\"nightly\", from ")
            && backups.contains(&format!("recoverable to {newest}, the end of timeline 1")),
        "{backups}"
    );

    // Behind: the archive is away, and metrics say so.
    archive.vanish();
    server.sql("insert into kept select generate_series(1, 1000)");
    let waiting = server.finish_segment();
    assert_eq!(server.backlog(), [waiting.as_str()]);
    let away = CallOutput::of(status(&sandbox, &archive, &server, &["--prometheus"]));
    let found = metrics(std::str::from_utf8(&away.stdout).unwrap());
    assert_eq!((away.status, &*found["walkeep_up"], &*found["walkeep_backlog_files"]), (1, "0", "1"));
    assert_eq!(found["walkeep_backlog_bytes"], (1 << 20).to_string());
    archive.come_back();
    server.sql("insert into kept select generate_series(1, 1000)");
    server.archive_segment();
    assert_eq!(output(&["--max-lag", "0s"], 0)["lag_seconds"], 0);

    // Archiving elsewhere: the server believes that all is well.
    server.set("archive_command", "true");
    server.sql("select pg_reload_conf()");
    support::wait_until("it archives elsewhere", || server.sql("show archive_command") == "true");
    server.sql("insert into kept select generate_series(1, 1000)");
    let gone = server.archive_segment();
    server.sql("insert into kept values (1)");
    let json = output(&[], 0);
    assert_eq!(
        (&json["unarchived"]["first_segment"], &json["backlog"]["files"]),
        (&gone.as_str().into(), &0.into())
    );
    drop(backup);
}

#[test]
fn a_promoted_standby_continues_on_its_own_timeline() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
    primary.archive_into(&archive);
    primary.start();
    let mut standby = primary.base_backup("standby");
    primary.sql("create table kept as select generate_series(1, 1000) as id");
    let on_1 = primary.archive_segment();
    primary.stop(Shutdown::Fast);
    standby.archive_into(&archive);
    standby.follow(&archive);
    standby.start();
    let followed = status(&sandbox, &archive, &standby, &["--max-lag", "0s", "--prometheus"]);
    assert_eq!(metrics(&quiet_output(followed))["walkeep_up"], "1");
    standby.promote();
    standby.sql("insert into kept select generate_series(1, 1000)");
    let on_2 = standby.archive_segment();
    let json = json_of(status(&sandbox, &archive, &standby, &["--max-lag", "0s", "--json"]), 0);
    let newest = |index: usize| json["timelines"][index]["newest_segment"].as_str().unwrap().to_owned();
    assert!(newest(0) >= on_1, "{json:#}");
    assert_eq!((newest(1), &json["unarchived"]), (on_2, &Value::Null));
    let mut listing = sandbox.walkeep();
    let timelines = output_of(listing.args(["list", "timelines", "--archive", archive.url()]));
    assert!(timelines.contains("\ntimeline 2 left timeline 1 at 0/"), "{timelines}");
}

#[test]
fn an_old_primary_that_continues_is_reported_and_one_recovered_to_the_past_is_not() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut old = Cluster::initialised_with(&sandbox, "old", &["--wal-segsize=1"]);
    old.archive_into(&archive);
    old.start();
    let mut past = old.base_backup("past");
    let write = |server: &Cluster| {
        server.sql("select pg_create_restore_point('here')");
        server.archive_segment()
    };
    old.sql("create table kept (id int)");
    write(&old);
    let mut new = old.base_backup("new");
    write(&old);
    new.follow(&archive);
    new.start();
    new.promote();
    write(&new);
    let looked =
        |server: &Cluster, arguments: &[&str]| CallOutput::of(status(&sandbox, &archive, server, arguments));
    assert_eq!(looked(&new, &[]).status, 0, "{}", looked(&new, &[]).text());
    // The old primary continues. Archiving times have a resolution of a second.
    wait_until("a second is over", || {
        write(&old);
        looked(&new, &[]).status == 1
    });
    let text = looked(&new, &[]).text();
    assert!(text.contains("timeline 1 was written on after timeline 2 had left it at 0/"), "{text}");
    old.stop(Shutdown::Immediate);
    new.stop(Shutdown::Immediate);

    // Both are abandoned for an earlier position on the first timeline.
    past.recover_from(&archive, &[("recovery_target_name", "here"), ("recovery_target_timeline", "1")]);
    past.start();
    past.sql("create table other (id int)");
    write(&past);
    let json = json_of(status(&sandbox, &archive, &past, &["--json"]), 0);
    assert_eq!(
        (&json["parallel"], &json["holes"]),
        (&Value::Array(vec![]), &Value::Array(vec![])),
        "{json:#}"
    );
}
