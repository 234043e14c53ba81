//! A real server, whose backlog is archived several files a call, crashes again and again while that happens, and no row
//! is lost.

mod support;

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    sandbox::Sandbox,
    wait_until,
};

const ROWS_PER_SEGMENT: usize = 100;

/// Commits rows, and ends the segment that they are in, so many times.
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
    // Slow enough to be interrupted, and telling what it does.
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
        // Wakes the archiver, which rests after three failures.
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
