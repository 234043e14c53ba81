//! Segments of real servers, whatever they went through, are archived, and so are their backup history files with any
//! label.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of, postgres,
    sandbox::Sandbox,
    wait_until,
};

/// Writes about that many megabytes of incompressible WAL.
fn write(cluster: &Cluster, megabytes: u32) {
    let rows = megabytes * 1000;
    let row = "string_agg(md5(random()::text || i || j), '') from generate_series(1, 30) as j";
    cluster.sql(&format!("insert into orders select (select {row}) from generate_series(1, {rows}) as i"));
}

fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory, segment_megabytes: u32) -> Cluster<'a> {
    let size = format!("--wal-segsize={segment_megabytes}");
    let mut primary = Cluster::initialised_with(sandbox, "primary", &[&size]);
    primary.archive_into(archive);
    // Few files, so that each is recycled often.
    primary.set("max_wal_size", &format!("{}MB", 2 * segment_megabytes.max(4)));
    primary.set("min_wal_size", &format!("{}MB", 2 * segment_megabytes.max(4)));
    primary.set("wal_log_hints", "on");
    primary.start();
    primary.sql("create table orders (item text)");
    primary
}

/// Creates a standby fed by the other server, with that archive_mode.
fn standby<'a>(upstream: &Cluster<'a>, name: &str, archive_mode: &str) -> Cluster<'a> {
    let mut standby = upstream.streaming_backup(name);
    standby.stream_from(upstream);
    standby.set("archive_mode", archive_mode);
    standby.start();
    standby
}

fn wait_until_replayed(primary: &Cluster, standby: &Cluster) {
    let position = primary.sql("select pg_current_wal_flush_lsn()");
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{position}'");
    wait_until("the standby has replayed it", || standby.sql(&replayed) == "t");
}

/// Asserts that the server has archived everything, and that the log contains only messages about crashes.
fn assert_archived(cluster: &Cluster) {
    cluster.wait_until_archived();
    let log = cluster.log();
    let said = log.lines().filter(|line| line.contains("walkeep-archive: "));
    let said: Vec<_> = said.filter(|line| !line.ends_with("stopped by SIGQUIT")).collect();
    assert!(said.is_empty(), "{said:?}");
}

/// Returns `true` if the server has recycled files.
fn has_recycled(cluster: &Cluster) -> bool {
    let log = cluster.log();
    let numbers = log.split(" recycled").filter_map(|before| before.rsplit(' ').next()?.parse::<u32>().ok());
    numbers.into_iter().any(|number| number > 0)
}

/// Archives segments that are full, that end in a switch, and that were cut off by crashes.
fn full_switched_and_crashed(cluster: &mut Cluster, megabytes: u32) {
    write(cluster, 3 * megabytes);
    for _ in 0..3 {
        cluster.sql("insert into orders values ('one')");
        cluster.finish_segment();
    }
    cluster.sql("checkpoint");
    write(cluster, 2 * megabytes);
    cluster.wait_until_archived();
    for _ in 0..2 {
        cluster.sql("insert into orders values ('one')");
        cluster.kill();
        cluster.start();
        write(cluster, megabytes);
        cluster.stop(Shutdown::Immediate);
        cluster.start();
    }
    write(cluster, 2 * megabytes);
    cluster.finish_segment();
    assert_archived(cluster);
}

#[test]
fn recycled_segments_of_1_mb_are_archived_whatever_happens_to_the_server() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive, 1);
    full_switched_and_crashed(&mut primary, 1);
    assert!(has_recycled(&primary));
}

#[test]
fn recycled_segments_of_64_mb_are_archived_whatever_happens_to_the_server() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive, 64);
    write(&primary, 70);
    primary.finish_segment();
    primary.sql("insert into orders values ('one')");
    primary.kill();
    primary.start();
    primary.finish_segment();
    write(&primary, 10);
    primary.finish_segment();
    assert_archived(&primary);
}

#[test]
fn new_files_without_initialization_are_archived() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive, 1);
    primary.stop(Shutdown::Fast);
    // Up to version 11 files are always recycled.
    let may_be_new = primary.knows("wal_recycle");
    if may_be_new {
        primary.set("wal_recycle", "off");
        primary.set("wal_init_zero", "off");
    }
    primary.start();
    full_switched_and_crashed(&mut primary, 1);
    assert!(!may_be_new || !has_recycled(&primary));
}

#[test]
fn segments_of_standbys_and_promotions_are_archived_under_either_archive_mode() {
    for (mode, segment_megabytes) in [("on", 1), ("always", 1), ("on", 16), ("always", 16)] {
        let sandbox = Sandbox::new();
        let archive = ArchiveDirectory::new(&sandbox);
        let mut first = primary(&sandbox, &archive, segment_megabytes);
        let mut second = standby(&first, "second", mode);
        // So that the standby's files are recycled, too.
        for _ in 0..4 {
            write(&first, 2 * segment_megabytes);
            wait_until_replayed(&first, &second);
            for cluster in [&first, &second] {
                cluster.sql("checkpoint");
            }
        }
        write(&first, 1);
        wait_until_replayed(&first, &second);
        // With `always`, a regular shutdown archives the incomplete segment.
        first.stop(Shutdown::Fast);
        let mut third = standby(&second, "third", mode);
        second.promote();
        write(&second, 1);
        // A second promotion, soon after.
        wait_until_replayed(&second, &third);
        second.kill();
        third.promote();
        write(&third, segment_megabytes);
        third.finish_segment();
        assert_archived(&third);
        let names = archive.all_names(third.system_identifier());
        assert!(names.contains(&"00000003.history".to_owned()), "{mode}: {names:?}");
        third.stop(Shutdown::Immediate);
    }
}

#[test]
fn a_base_backup_may_have_any_label() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive, 1);
    let label =
        r"nightly\nSTART TIMELINE: one\nSTOP TIME: x\nSTART WAL LOCATION: 0/1 (file x)\nSTOP WAL LOCATION: y";
    let (begin, end) = postgres::backup_functions(&format!("E'{label}'"));
    primary.sql(&format!("select {begin}; select lsn from {end}"));
    primary.sql("insert into orders values ('one')");
    primary.archive_segment();
    assert_archived(&primary);
    let listed = output_of(sandbox.walkeep().args(["list", "backups", "--json", "--archive", archive.url()]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let backup = &listed["backups"][0];
    assert_eq!(backup["label"], label.replace(r"\n", "\n"), "{listed}");
    assert_eq!(backup["complete"], true, "{listed}");
    let verified =
        output_of(sandbox.walkeep().args(["verify", "--deep", "--json", "--archive", archive.url()]));
    assert!(verified.contains(r#""findings": []"#), "{verified}");
}

#[test]
fn a_history_file_that_the_server_itself_cannot_read_is_refused_and_can_be_repaired() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive, 1);
    let mut recovered = primary.base_backup("recovered");
    primary.sql(r"select pg_create_restore_point(E'one\ntwo')");
    primary.sql("insert into orders values ('one')");
    primary.archive_segment();
    primary.stop(Shutdown::Immediate);

    recovered.recover_from(&archive, &[("recovery_target_name", r"one\ntwo")]);
    recovered.start();
    let words = "00000002.history is not an acceptable WAL file: as a timeline history, line 2 is not";
    wait_until("the history file is refused", || recovered.log().contains(words));
    assert!(recovered.log().contains("the name of a restore point with a line feed"), "{}", recovered.log());
    recovered.stop(Shutdown::Immediate);
    recovered.launch();
    assert!(!recovered.wait_for_exit().success(), "it cannot read it either");

    let history = recovered.wal("00000002.history");
    let mended = fs::read_to_string(&history).unwrap().replace("one\n", "one ");
    fs::write(&history, mended).unwrap();
    recovered.start();
    recovered.sql("insert into orders values ('two')");
    recovered.archive_segment();
    assert!(archive.file(recovered.system_identifier(), "00000002.history").exists());
}
