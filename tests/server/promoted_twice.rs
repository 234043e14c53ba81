//! Failovers of real servers that leave two files of one name: no server's archiving is blocked for good, and no WAL
//! that a recovery needs is lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, process::Command};

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of,
    sandbox::Sandbox,
    wait_until,
};

fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> Cluster<'a> {
    let mut primary = Cluster::new(sandbox, "primary");
    primary.archive_into(archive);
    // pg_rewind requires it.
    primary.set("wal_log_hints", "on");
    primary.start();
    primary.sql("create table orders (taken_by text)");
    primary
}

/// Creates a standby of another server that also restores from the archive.
fn standby<'a>(upstream: &Cluster<'a>, archive: &ArchiveDirectory, name: &str) -> Cluster<'a> {
    let standby = upstream.streaming_backup(name);
    standby.stream_from(upstream);
    standby.restore_from(archive);
    standby
}

fn take_order(cluster: &Cluster, taken_by: &str) {
    cluster.sql(&format!("insert into orders values ('{taken_by}')"));
}

fn wait_until_replayed(upstream: &Cluster, standby: &Cluster) {
    let position = upstream.sql("select pg_current_wal_flush_lsn()");
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{position}'");
    wait_until("the standby has replayed it", || standby.sql(&replayed) == "t");
}

fn walkeep(sandbox: &Sandbox, archive: &ArchiveDirectory, arguments: &[&str]) -> Command {
    let mut walkeep = sandbox.walkeep();
    walkeep.arg(arguments[0]).args(["--archive", archive.url()]).args(&arguments[1..]);
    walkeep
}

#[test]
fn after_two_promotions_within_one_segment_both_servers_continue_to_archive() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut first = primary(&sandbox, &archive);
    let mut second = standby(&first, &archive, "second");
    let mut third = standby(&first, &archive, "third");
    second.start();
    third.start();
    first.archive_segment();
    take_order(&first, "first");
    for standby in [&second, &third] {
        wait_until_replayed(&first, standby);
    }
    let partial = first.current_segment() + ".partial";

    // As in a network partition: the first one continues for a while, in the same segment.
    second.promote();
    take_order(&second, "second");
    second.archive_segment();
    let contents = fs::read(second.wal(&partial)).unwrap();
    take_order(&first, "first");
    wait_until_replayed(&first, &third);
    first.stop(Shutdown::Immediate);
    third.promote();
    take_order(&third, "third");
    let newest = third.archive_segment();
    assert_eq!(&newest[..8], "00000003");
    assert!(third.log().contains("walkeep-archive: warning: the archive already holds"), "{}", third.log());
    assert_eq!((second.failed_count(), third.failed_count()), (0, 0));

    let system = third.system_identifier();
    let names = archive.all_names(system);
    let partials: Vec<&String> = names.iter().filter(|name| name.contains(".partial")).collect();
    assert_eq!((partials.len(), partials[0]), (2, &partial), "{names:?}");
    assert!(partials[1].starts_with(&format!("{partial}.")), "{names:?}");
    let third_content = fs::read(third.wal(&partial)).unwrap();
    for (name, content) in partials.iter().zip([contents, third_content]) {
        let read = walkeep(&sandbox, &archive, &["cat", name]).output().unwrap();
        assert!(read.stdout == content, "{name}");
    }
    let verified = output_of(&mut walkeep(&sandbox, &archive, &["verify", "--deep"]));
    assert!(!verified.contains("wrong") && !verified.contains("partial."), "{verified}");
    for cluster in [&mut second, &mut third] {
        cluster.stop(Shutdown::Immediate);
    }
}

/// Returns the log line about a conflict.
fn conflict_line(cluster: &Cluster) -> String {
    let mut line = None;
    wait_until("a conflict is told", || {
        let log = cluster.log();
        line = log.lines().find(|line| line.contains("with different content")).map(str::to_owned);
        line.is_some()
    });
    line.unwrap()
}

#[test]
fn a_conflict_at_a_fork_with_archive_mode_always_is_recognized_and_the_advice_works() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut first = primary(&sandbox, &archive);
    let mut second = standby(&first, &archive, "second");
    second.start();
    let mut third = standby(&second, &archive, "third");
    third.set("archive_mode", "always");
    third.start();
    take_order(&first, "first");
    first.archive_segment();
    take_order(&first, "first");
    for standby in [&second, &third] {
        wait_until_replayed(&first, standby);
    }
    let forked = first.current_segment();
    first.stop(Shutdown::Immediate);
    second.promote();
    // The third one follows, and archives the segment in which timeline 1 was left under its full name.
    take_order(&second, "second");
    second.archive_segment();
    wait_until_replayed(&second, &third);
    let system = second.system_identifier();
    wait_until("the forked segment is archived", || archive.file(system, &forked).exists());

    // The old primary returns as a primary.
    first.start();
    take_order(&first, "lost");
    let conflicting = first.finish_segment();
    assert_eq!(conflicting, forked);
    let line = conflict_line(&first);
    for words in
        ["timeline 2 left timeline 1 at", "knows nothing of timeline 2", "pg_rewind -c --target-pgdata"]
    {
        assert!(line.contains(words), "{words:?} is not in {line}");
    }

    // The advice. pg_rewind uses the checkpoint at the end of a promotion.
    first.stop(Shutdown::Immediate);
    second.sql("checkpoint");
    first.restore_from(&archive);
    output_of(
        sandbox
            .command(support::postgres::program("pg_rewind"))
            .args(["-c", "--no-sync", "--source-server", &second.connection(), "--target-pgdata"])
            .arg(first.data()),
    );
    first.set("archive_mode", "on");
    first.stream_from(&second);
    first.start();
    take_order(&second, "second");
    wait_until_replayed(&second, &first);
    assert_eq!(first.sql("select count(*) from orders where taken_by = 'lost'"), "0");
    // Once promoted, it continues to archive.
    second.stop(Shutdown::Fast);
    first.promote();
    take_order(&first, "first");
    assert_eq!(&first.finish_segment()[..8], "00000003");
    // A newer pg_rewind leaves the mark of the segment in which the timeline was left. Then that advice works, too.
    let mark = first.wal(format!("archive_status/{forked}.ready"));
    wait_until("all is archived", || {
        if mark.exists() && first.log().contains("tell this server that the segment is archived: mv ") {
            fs::rename(&mark, mark.with_extension("done")).unwrap();
            // Wakes the archiver, which pauses after three failures.
            first.sql("select pg_reload_conf()");
        }
        first.backlog().is_empty()
    });
    first.stop(Shutdown::Immediate);
}
