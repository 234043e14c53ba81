//! Look-ahead with a real server that crashes repeatedly while its backlog is archived: no row is lost.

use std::fs;

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    files::names_in,
    sandbox::Sandbox,
    wait_until,
};

const ROWS_PER_SEGMENT: usize = 100;

/// Commits rows and ends their segment, `segments` times.
fn fill_segments(server: &Cluster, segments: usize) {
    for _ in 0..segments {
        server.sql(&format!("insert into orders select generate_series(1, {ROWS_PER_SEGMENT})"));
        server.finish_segment();
    }
}

#[test]
fn a_server_that_crashes_while_its_backlog_is_archived_loses_no_row() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut server = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
    server.archive_into(&archive);
    // Slow enough to be interrupted, and logging its steps.
    let program = sandbox.program("walkeep-archive");
    let command = format!("{} -v --compression-level 15 --archive {} %p", program.display(), archive.url());
    server.set("archive_command", &command);
    server.start();
    server.sql("create table orders (id int)");
    let mut recovered = server.base_backup("recovered");

    let (rounds, segments) = (4, 12);
    for round in 1..=rounds {
        server.wait_until_archived();
        archive.vanish();
        fill_segments(&server, segments);
        archive.come_back();
        // Wakes the archiver, which pauses after three failures.
        fill_segments(&server, 1);
        let backlog = server.backlog().len();
        wait_until("some of the backlog is archived", || server.backlog().len() < backlog);
        server.stop(Shutdown::Immediate);
        server.start();
        let expected = round * (segments + 1) * ROWS_PER_SEGMENT;
        assert_eq!(server.sql("select count(*) from orders"), expected.to_string());
    }
    fill_segments(&server, 1);
    server.wait_until_archived();
    assert!(server.log().contains("archived by an earlier call"), "it did look ahead");
    assert!(!server.log().contains("different content"));
    let rows = server.sql("select count(*) from orders");
    server.stop(Shutdown::Immediate);

    recovered.recover_from(&archive, &[]);
    recovered.start();
    assert_eq!(recovered.sql("select count(*) from orders"), rows);
}

/// Creates a server that has finished some segments while its archive was away; returns their names.
fn behind<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> (Cluster<'a>, Vec<String>) {
    let mut server = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    server.archive_into(archive);
    server.start();
    server.sql("create table orders (id int)");
    server.archive_segment();
    archive.vanish();
    fill_segments(&server, 5);
    let backlog = server.backlog();
    assert_eq!(backlog.len(), 5);
    (server, backlog)
}

fn archived(server: &Cluster, archive: &ArchiveDirectory) -> Vec<String> {
    archive.all_names(server.system_identifier())
}

#[test]
fn wal_after_a_damaged_segment_survives_the_server_and_archiving_continues_after_the_repair() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let (server, waiting) = behind(&sandbox, &archive);
    let damaged = server.wal(&waiting[0]);
    let sound = fs::read(&damaged).unwrap();
    sandbox.file(&damaged, &sound[..1000]);
    archive.come_back();
    fill_segments(&server, 1);
    wait_until("all but the damaged one are archived", || {
        waiting[1..].iter().all(|name| archived(&server, &archive).contains(name))
    });
    assert!(!archived(&server, &archive).contains(&waiting[0]));
    assert_eq!(server.backlog()[..5], waiting, "the server knows of none of them");
    wait_until("the log says so", || server.log().contains("its disk fills: "));
    sandbox.file(&damaged, &sound);
    server.sql("select pg_reload_conf()");
    fill_segments(&server, 1);
    server.wait_until_archived();
    assert!(waiting.iter().all(|name| archived(&server, &archive).contains(name)));
}

#[test]
fn a_conflict_on_its_timeline_excludes_a_server_until_it_is_resolved() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let (server, waiting) = behind(&sandbox, &archive);
    // Another server's segment: this one's with other rows.
    let other = sandbox.directory("other");
    let mut content = fs::read(server.wal(&waiting[0])).unwrap();
    *content.last_mut().unwrap() ^= 1;
    sandbox.file(other.join(&waiting[0]), content);
    archive.come_back();
    let mut push = sandbox.walkeep_archive();
    push.args(["--archive", archive.url(), "--system-identifier", &server.system_identifier().to_string()]);
    support::push::succeeds({
        push.arg(other.join(&waiting[0]));
        push
    });
    let before = archived(&server, &archive);
    let failed = server.failed_count();
    fill_segments(&server, 1);
    wait_until("it has failed again", || server.failed_count() > failed + 1);
    assert_eq!(archived(&server, &archive), before);
    assert!(server.log().contains("different content"));
    assert!(names_in(&server.wal("archive_status")).contains(&format!("{}.ready", waiting[4])));

    fs::remove_file(archive.file(server.system_identifier(), &waiting[0])).unwrap();
    fill_segments(&server, 1);
    server.wait_until_archived();
    assert!(waiting.iter().all(|name| archived(&server, &archive).contains(name)));
}
