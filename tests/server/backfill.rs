//! `walkeep backfill` after a failover of real servers: it archives complete segments that no server would.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    process::{Command, Stdio},
};

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of, postgres,
    recovery::Role,
    sandbox::Sandbox,
    store_cluster::CallOutput,
    wait_until,
};
use walkeep::wal::{Lsn, RecordWalk, RecordsEnd, TimelineId};

/// Returns the rows.
fn rows(server: &Cluster) -> String {
    server.try_sql("select string_agg(id::text, ' ' order by id) from orders").unwrap_or_default()
}

fn backfill(sandbox: &Sandbox, archive: &ArchiveDirectory, server: &Cluster) -> Command {
    let mut command = sandbox.walkeep();
    command.args(["backfill", "--archive", archive.url(), "--pgdata"]).arg(server.data());
    command
}

/// Runs it, and returns its output lines.
fn backfilled(sandbox: &Sandbox, archive: &ArchiveDirectory, server: &Cluster) -> Vec<String> {
    output_of(&mut backfill(sandbox, archive, server)).lines().map(str::to_owned).collect()
}

/// A primary that failed while its archiving lagged, the standby that received all its WAL, and a base backup.
struct Dead<'a> {
    primary: Cluster<'a>,
    standby: Cluster<'a>,
    backup: Cluster<'a>,
    /// Segments that the primary had finished and not archived.
    lost: Vec<String>,
    /// Segment that it was writing.
    last: String,
}

/// Returns the segment with the last checkpoint.
fn segment_of_last_checkpoint(sandbox: &Sandbox, server: &Cluster) -> String {
    let control = output_of(sandbox.command(postgres::program("pg_controldata")).arg(server.data()));
    let line = control.lines().find(|line| line.starts_with("Latest checkpoint's REDO WAL file:")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

impl<'a> Dead<'a> {
    fn new(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> Self {
        let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
        primary.archive_into(archive);
        // Otherwise a promoted standby removes marked segments at its first checkpoint.
        primary.set("wal_keep_size", "64MB");
        primary.start();
        primary.sql("create table orders (id int)");
        let backup = primary.base_backup("backup");
        let mut standby = backup.copy("standby");
        standby.set("primary_conninfo", &primary.connection());
        standby.becomes(Role::Standby);
        standby.start();
        let write = |id: u32| drop(primary.sql(&format!("insert into orders values ({id})")));
        write(1);
        primary.archive_segment();
        // Nothing is archived from here on.
        primary.set("archive_command", "false");
        primary.sql("select pg_reload_conf()");
        wait_until("it has heard", || primary.sql("show archive_command") == "false");
        let mut lost = Vec::new();
        for id in 2..=5 {
            write(id);
            lost.push(primary.finish_segment());
        }
        write(6);
        lost.push(primary.current_segment());
        wait_until("the standby has all rows", || rows(&standby) == "1 2 3 4 5 6");
        // A fast shutdown ends the segment and begins the next. The standby receives all of it, the archive nothing.
        primary.stop(Shutdown::Fast);
        let current = segment_of_last_checkpoint(sandbox, &primary);
        let dead = Self { primary, standby, backup, lost, last: current };
        for segment in &dead.lost {
            assert!(dead.standby.wal(format!("archive_status/{segment}.done")).exists(), "{segment}");
            assert!(!dead.is_archived(archive, segment), "{segment}");
        }
        dead
    }

    fn is_archived(&self, archive: &ArchiveDirectory, segment: &str) -> bool {
        archive.file(self.standby.system_identifier(), segment).exists()
    }
}

#[test]
fn after_a_failover_the_new_primary_fills_the_hole_and_a_recovery_gets_every_row() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut dead = Dead::new(&sandbox, &archive);
    dead.standby.promote();
    dead.standby.sql("insert into orders values (7)");
    dead.standby.archive_segment();
    assert!(
        !dead.lost.iter().any(|segment| dead.is_archived(&archive, segment)),
        "nobody fills it by himself"
    );
    let looks = [&["status"][..], &["check", "--pgdata", dead.standby.data().to_str().unwrap()]];
    let look = |arguments: &[&str]| {
        let mut look = sandbox.walkeep();
        look.args(arguments).args(["--archive", archive.url()]);
        CallOutput::of(look)
    };
    let hole = format!(
        "{} to {} ({} segments) are missing",
        dead.lost[0],
        dead.lost.last().unwrap(),
        dead.lost.len()
    );
    for arguments in looks {
        let told = look(arguments);
        assert!(told.status == 1 && told.text().contains(&hole), "{hole}: {}", told.text());
    }

    let lines = backfilled(&sandbox, &archive, &dead.standby);
    for segment in &dead.lost {
        assert!(lines.contains(&format!("archived {segment}")), "{segment}: {lines:?}");
    }
    assert!(!dead.is_archived(&archive, &dead.last), "the segment of the fork is not complete");
    for arguments in looks {
        let told = look(arguments);
        assert_eq!(told.status, 0, "{}", told.text());
    }
    output_of(sandbox.walkeep().args(["verify", "--deep", "--archive", archive.url()]));
    dead.standby.wait_until_archived();
    assert_eq!(dead.standby.failed_count(), 0);
    dead.standby.stop(Shutdown::Immediate);

    dead.backup.recover_from(&archive, &[]);
    dead.backup.start();
    assert_eq!(rows(&dead.backup), "1 2 3 4 5 6 7");
}

#[test]
fn the_segment_of_the_fork_is_left_on_a_standby_that_has_marked_it() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let dead = Dead::new(&sandbox, &archive);
    let mut second = dead.backup.copy("second");
    second.set("primary_conninfo", &dead.standby.connection());
    second.becomes(Role::Standby);
    second.start();
    wait_until("the second standby has all rows", || rows(&second) == "1 2 3 4 5 6");
    // It is still a standby: the segment being received stays.
    let left = format!("left {}: incomplete: its records end at ", dead.last);
    let lines = backfilled(&sandbox, &archive, &second);
    assert!(lines.iter().any(|line| line.starts_with(&left)), "{lines:?}");
    assert!(dead.lost.iter().all(|segment| dead.is_archived(&archive, segment)), "{lines:?}");

    dead.standby.promote();
    dead.standby.sql("insert into orders values (7)");
    wait_until("it follows", || rows(&second) == "1 2 3 4 5 6 7");
    let mark = format!("archive_status/{}.done", dead.last);
    wait_until("it has marked the segment", || second.wal(&mark).exists());
    let lines = backfilled(&sandbox, &archive, &second);
    assert!(lines.iter().any(|line| line.starts_with(&left)), "{lines:?}");
    assert!(!dead.is_archived(&archive, &dead.last));
}

#[test]
fn the_failed_primarys_own_files_are_archived_up_to_the_switched_segment() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut dead = Dead::new(&sandbox, &archive);
    dead.primary.start();
    dead.primary.sql("insert into orders values (7)");
    let switched = dead.primary.finish_segment();
    dead.primary.stop(Shutdown::Immediate);
    let lines = backfilled(&sandbox, &archive, &dead.primary);
    for segment in dead.lost.iter().chain([&switched]) {
        assert!(lines.contains(&format!("archived {segment}")), "{segment}: {lines:?}");
    }
    // A server that returns finds its files there.
    dead.primary.archive_into(&archive);
    dead.primary.start();
    dead.primary.wait_until_archived();
    assert_eq!(dead.primary.failed_count(), 0);

    dead.primary.stop(Shutdown::Immediate);
    dead.backup.recover_from(&archive, &[]);
    dead.backup.start();
    assert_eq!(rows(&dead.backup), "1 2 3 4 5 6 7");
}

/// Returns the ends of the records in each of these consecutive segments.
fn ends(server: &Cluster, names: &[String]) -> Vec<RecordsEnd> {
    let content = |name: &String| fs::read(server.wal(name)).unwrap();
    let mut walk = RecordWalk::new(&content(&names[0]), TimelineId::FIRST).unwrap();
    let mut end_of = |name: &String| {
        content(name).chunks(walk.page_bytes()).for_each(|page| walk.page(page));
        walk.end()
    };
    names.iter().map(&mut end_of).collect()
}

/// Returns the segments of the first timeline that the server has written to, in order.
fn written(server: &Cluster, last: &str) -> Vec<String> {
    let names =
        fs::read_dir(server.wal("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.len() == 24 && name.as_str() <= last).collect();
    names.sort();
    names
}

#[test]
fn the_end_of_records_is_the_one_that_pg_waldump_finds() {
    for recycle in ["off", "on"] {
        let sandbox = Sandbox::new();
        let mut server = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
        for (setting, value) in [("wal_recycle", recycle), ("min_wal_size", "8MB"), ("wal_keep_size", "40MB")]
        {
            // Version 11 does not know the first.
            if setting != "wal_recycle" || server.knows(setting) {
                server.set(setting, value);
            }
        }
        server.start();
        server.sql("create table orders (id bigserial primary key, filler text)");
        // Long and short records, switches, and a checkpoint that recycles old files.
        for round in 0..3 {
            server.sql("insert into orders (filler) select repeat(md5(random()::text), 20) from generate_series(1, 3000)");
            server.sql("select pg_logical_emit_message(true, 'large', repeat('x', 3500000))");
            server.sql("update orders set filler = md5(filler) where id % 7 = 0");
            server.finish_segment();
            server.sql("checkpoint");
            server.sql(&format!("select pg_logical_emit_message(false, 'small', 'round {round}')"));
        }
        let last = server.current_segment();
        server.stop(Shutdown::Immediate);
        let names = written(&server, &last);
        assert!(names.len() > 15, "{names:?}");
        let ends = ends(&server, &names);
        let (of_last, before) = ends.split_last().unwrap();
        let complete =
            |end: &RecordsEnd| !matches!(end, RecordsEnd::Middle(_) | RecordsEnd::SwitchAndMore(_));
        assert!(before.iter().all(complete), "wal_recycle {recycle}: {ends:?}");
        assert!(before.contains(&RecordsEnd::Switch), "{ends:?}");
        let RecordsEnd::Middle(found) = of_last else { panic!("{ends:?}") };

        let mut waldump = sandbox.command(postgres::program("pg_waldump"));
        let output = waldump.arg(server.wal(&names[0])).arg(server.wal(&last)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let start_of_last: Lsn = text
            .lines()
            .last()
            .unwrap()
            .split_once("lsn: ")
            .unwrap()
            .1
            .split_once(',')
            .unwrap()
            .0
            .parse()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(start_of_last < *found, "{stderr}");
        if let Some((_, at)) = stderr.split_once("invalid record length at ") {
            assert_eq!(at.split(':').next().unwrap().parse(), Ok(*found), "{stderr}");
        } else {
            assert_eq!(recycle, "on", "behind the last record of a new file are zeros: {stderr}");
        }
    }
}

#[test]
fn it_runs_next_to_the_archiver_of_a_server_under_load() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut server = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
    for (setting, value) in [("min_wal_size", "8MB"), ("max_wal_size", "16MB")] {
        server.set(setting, value);
    }
    server.archive_into(&archive);
    server.start();
    server.sql("create table orders (id bigserial primary key, filler text)");
    server.archive_segment();
    server.set("archive_command", "false");
    server.sql("select pg_reload_conf()");
    let mut backup = server.base_backup("backup");
    let order = "insert into orders (filler) select repeat(md5(random()::text), 50)\n";
    let script = sandbox.file("order.sql", order);
    let mut load = server
        .client("pgbench")
        .args(["--no-vacuum", "--client=4", "--jobs=2", "--time=600", "--file"])
        .arg(&script)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let run = || {
        let told = CallOutput::of(backfill(&sandbox, &archive, &server));
        assert_eq!(told.status, 0, "{}", told.text());
        told.text().lines().filter(|line| line.starts_with("archived 0000")).count()
    };
    // Most of a backlog while its segments are being written; then with an archiver that works on it as well.
    wait_until("there is a backlog", || server.backlog().len() > 8);
    assert!(run() > 7);
    server.archive_into(&archive);
    server.sql("select pg_reload_conf()");
    let mut last = String::new();
    for _ in 0..20 {
        let before = last.clone();
        wait_until("segments have been written", || {
            last = server.current_segment();
            last > before
        });
        run();
    }
    load.kill().unwrap();
    load.wait().unwrap();
    server.finish_segment();
    server.wait_until_archived();
    assert!(!server.log().contains("walkeep-archive: "), "its archiver has nothing to complain of");
    let count = "select count(*), md5(string_agg(id::text || filler, ',' order by id)) from orders";
    let expected = server.sql(count);
    server.stop(Shutdown::Immediate);
    backup.recover_from(&archive, &[]);
    backup.start();
    assert_eq!(backup.sql(count), expected);
}
