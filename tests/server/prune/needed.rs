//! WAL that a lagging standby or a running recovery still needs stays: given as a position, or by running servers
//! about themselves and their slots.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::process::Stdio;

use serde_json::{Value, json};
use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    kept::{Kept, name, position},
    orders::{count_orders, primary, segments, take_orders},
    postgres,
    push::SYSTEM,
    sandbox::Sandbox,
    store_cluster::CallOutput,
    wait_until,
};
use walkeep::wal::Lsn;

fn prune(sandbox: &Sandbox, archive: &ArchiveDirectory, options: &[&str]) -> CallOutput {
    let mut prune = sandbox.walkeep();
    prune.args(["prune", "--json", "--archive", archive.url(), "--timeout", "5s"]);
    // Everything was archived just now.
    prune.args(["--backup-may-take", "0s", "--backup-label", "*"]).args(options);
    postgres::with_clients(&mut prune).stdout(Stdio::piped());
    CallOutput::of(prune)
}

/// Returns the segment of 1 MB on the first timeline that contains a position. At the start of a segment,
/// `pg_walfile_name` returns the one before.
fn segment_of(position: &str) -> String {
    let (high, low) = position.split_once('/').unwrap();
    let number = |digits| u64::from_str_radix(digits, 16).unwrap();
    name(1, (number(high) << 32 | number(low)) >> 20)
}

#[test]
fn a_position_limits_every_policy_on_every_timeline() {
    let policies: [(&[&str], u64); 4] = [
        (&["--keep-backups", "1"], 15),
        (&["--before", "00000001000000000000000E"], 14),
        (&["--before", "000000010000000000000012", "--keep-backups", "1"], 15),
        (&["--keep-days", "1"], 15),
    ];
    for (policy, begins_at) in policies {
        for (number, offset) in [(7, 0x28), (30, 0x28)] {
            let kept = Kept::new();
            kept.segments(1, 1..=20, 0);
            kept.segments(2, 5..=20, 0);
            kept.history(2, &[(1, position(5, 0x100))]);
            kept.backup(2, 15, 15, 2);
            let from = position(number, offset);
            let held =
                kept.json("prune", &[policy, &["--backup-may-take", "0s", "--keep-from", &from]].concat());
            assert_eq!(held["needed"], json!({ "from": from, "by": "what was given as --keep-from" }));
            let first = number.min(begins_at);
            for timeline in [1, 2] {
                let there = |number: &u64| kept.archive.file(SYSTEM, &name(timeline, *number)).exists();
                let left: Vec<u64> = (1..=20).filter(there).collect();
                let expected: Vec<u64> = (first.max(if timeline == 1 { 1 } else { 5 })..=20).collect();
                assert_eq!(left, expected, "{policy:?} {from} {timeline}");
            }
        }
    }
    let kept = Kept::new();
    kept.segments(1, 1..=20, 2);
    kept.fails(2, "prune", &["--keep-from", "0/300028"], "nothing says what is to be kept");
    kept.fails(2, "prune", &["--keep-from", "yesterday", "--before", &name(1, 9)], "yesterday");
    let said = kept.said("prune", &["--keep-from", "0/300028", "--before", &name(1, 9), "--dry-run"]);
    assert!(said.contains("keeps all from 0/300028 on: what was given as --keep-from\n"), "{said}");
    assert!(said.contains("would delete 2 files, "), "{said}");
}

#[test]
fn wal_for_the_standby_of_a_slot_stays_only_if_its_primary_is_asked() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    let system = primary.system_identifier();
    primary.sql("select pg_create_physical_replication_slot('lagging', true)");
    let mut standby = primary.base_backup("standby");
    standby.stream_from(&primary);
    standby.set("primary_slot_name", "lagging");
    standby.restore_from(&archive);
    standby.start();
    take_orders(&primary);
    let expected = count_orders(&primary);
    wait_until("the standby has all rows", || {
        standby.try_sql("select count(*) from orders") == Ok(expected.clone())
    });
    standby.stop(Shutdown::Fast);
    let restart = primary.sql("select restart_lsn from pg_replication_slots");
    let segment = segment_of(&restart);
    (0..3).for_each(|_| drop(take_orders(&primary)));
    // The newest base backup needs less than the standby that lags.
    primary.base_backup("newest");
    take_orders(&primary);

    let output = prune(&sandbox, &archive, &["--keep-backups", "1", "--pg-url", &primary.connection()]);
    assert_eq!((output.status, &*output.stderr), (0, ""), "{}", output.text());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    // From version 19 on the server pads positions.
    let position = |text: &str| text.parse::<Lsn>().unwrap();
    assert_eq!(position(json["needed"]["from"].as_str().unwrap()), position(&restart), "{json:#}");
    assert!(json["needed"]["by"].as_str().unwrap().contains("physical slot \"lagging\""), "{json:#}");
    assert_eq!(segments(&archive, system)[0], segment, "{json:#}");
    // It continues from the archive alone.
    let expected = count_orders(&primary);
    standby.set("primary_conninfo", "");
    standby.set("primary_slot_name", "");
    standby.start();
    wait_until("the standby has caught up", || {
        standby.try_sql("select count(*) from orders") == Ok(expected.clone())
    });

    let output = prune(&sandbox, &archive, &["--keep-backups", "1"]);
    assert_eq!(output.status, 0, "{}", output.text());
    assert!(segments(&archive, system)[0] > segment, "what nobody has spoken for goes");
}

#[test]
fn a_standby_without_a_slot_is_asked_itself() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    let system = primary.system_identifier();
    let mut standby = primary.base_backup("standby");
    standby.follow(&archive);
    standby.start();
    (0..3).for_each(|_| drop(take_orders(&primary)));
    primary.base_backup("newest");
    take_orders(&primary);
    let expected = count_orders(&primary);
    wait_until("the standby has all rows", || count_orders(&standby) == expected);
    let redo = standby.sql("select redo_wal_file from pg_control_checkpoint()");
    // Both are asked, and the one that needs more counts.
    let urls = [primary.connection(), standby.connection()];
    let both = ["--keep-backups", "1", "--pg-url", &urls[0], "--pg-url", &urls[1]];
    let output = prune(&sandbox, &archive, &both);
    assert_eq!((output.status, &*output.stderr), (0, ""), "{}", output.text());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["needed"]["by"].as_str().unwrap().contains(&urls[1]), "{json:#}");
    assert_eq!(segments(&archive, system)[0], redo, "{json:#}");
    // After a restart, it starts there.
    standby.stop(Shutdown::Immediate);
    standby.start();
    wait_until("the standby has all rows", || {
        standby.try_sql("select count(*) from orders") == Ok(expected.clone())
    });
}

#[test]
fn a_server_that_cannot_be_asked_or_is_of_another_cluster_deletes_nothing() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let system = primary.system_identifier();
    (0..3).for_each(|_| drop(take_orders(&primary)));
    primary.base_backup("newest");
    take_orders(&primary);
    let before = archive.all_names(system);
    let refused = |url: &str, status: i32, words: &[&str]| {
        let system = system.to_string();
        let options = ["--keep-backups", "1", "--system-identifier", &system, "--pg-url", url];
        let output = prune(&sandbox, &archive, &options);
        output.is_error(status, &[&["nothing is deleted"], words].concat());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["ok"], false, "{json:#}");
        assert_eq!(archive.all_names(system.parse().unwrap()), before);
    };
    let mut other = Cluster::new(&sandbox, "other");
    other.start();
    refused(&other.connection(), 2, &[&other.system_identifier().to_string(), "same cluster"]);
    // A slot that has lost its WAL: the position of its standby is unknown. Before version 13 none loses it.
    if postgres::version() > 12 {
        primary.sql("select pg_create_physical_replication_slot('lost', true)");
        primary.sql("alter system set max_slot_wal_keep_size = '1MB'");
        primary.sql("select pg_reload_conf()");
        (0..6).for_each(|_| drop(take_orders(&primary)));
        let before = archive.all_names(system);
        let lost = "select count(*) from pg_replication_slots where wal_status = 'lost'";
        wait_until("the slot is lost", || {
            primary.sql("checkpoint");
            primary.sql(lost) == "1"
        });
        let output = prune(&sandbox, &archive, &["--keep-backups", "1", "--pg-url", &primary.connection()]);
        output.is_error(1, &["nothing is deleted", "\"lost\"", "pg_drop_replication_slot('lost')"]);
        assert_eq!(archive.all_names(system), before);
    }
    // And one that is unavailable.
    let url = primary.connection();
    primary.stop(Shutdown::Fast);
    let before = archive.all_names(system);
    let output = prune(&sandbox, &archive, &["--keep-backups", "1", "--pg-url", &url]);
    output.is_error(1, &["nothing is deleted", "cannot ask the server", "is it running"]);
    assert_eq!(archive.all_names(system), before);
    let output =
        prune(&sandbox, &archive, &["--keep-backups", "1", "--pg-url", "postgres://me:secret@host/db"]);
    output.is_error(2, &["must not hold a password"]);
}
