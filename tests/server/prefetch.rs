//! Prefetching for a real server that recovers: most segments come from the prefetcher, and every row is recovered
//! whatever happens to it.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of, postgres,
    prefetcher::Prefetchers,
    sandbox::Sandbox,
    wait_until,
};

const ROWS_PER_SEGMENT: usize = 100;

/// Enough for the prefetcher to get ahead.
const SEGMENTS: usize = 24;

/// Creates a running primary that archives small segments, with an empty table of orders.
fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> Cluster<'a> {
    let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    primary.archive_into(archive);
    primary.set("wal_log_hints", "on");
    primary.start();
    primary.sql("create table orders (id int)");
    primary
}

/// Commits rows and archives their segment, `segments` times.
fn fill_segments(server: &Cluster, segments: usize) {
    for _ in 0..segments {
        server.sql(&format!("insert into orders select generate_series(1, {ROWS_PER_SEGMENT})"));
        server.finish_segment();
    }
    server.wait_until_archived();
}

/// Returns the number of orders; empty while the server does not answer.
fn count_orders(server: &Cluster) -> String {
    server.try_sql("select count(*) from orders").unwrap_or_default()
}

fn rows_of(segments: usize) -> String {
    (segments * ROWS_PER_SEGMENT).to_string()
}

/// Returns the number of segments restored from there.
fn restored_from(server: &Cluster, place: &str) -> usize {
    server.log().lines().filter(|line| line.contains(&format!(" from=\"{place}\" ms="))).count()
}

/// Recovers with -v, to the latest point or `target`.
fn recover(server: &mut Cluster, archive: &ArchiveDirectory, target: &[(&str, &str)]) {
    server.recover_from(archive, target);
    server.restore_with("-v", archive);
    server.start();
}

/// Returns `true` if walkeep has logged no complaint.
fn is_content(server: &Cluster) -> bool {
    let log = server.log();
    !log.contains("walkeep-restore: error: ") && !log.contains("walkeep-restore: warning: ")
}

#[test]
fn recovery_to_the_latest_gets_most_segments_from_the_prefetcher_and_all_rows() {
    let sandbox = Sandbox::new();
    let prefetchers = Prefetchers::of(&sandbox);
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    fill_segments(&primary, SEGMENTS);
    primary.stop(Shutdown::Immediate);

    recover(&mut recovered, &archive, &[]);
    assert_eq!(count_orders(&recovered), rows_of(SEGMENTS));
    let served = restored_from(&recovered, "prefetcher");
    assert!(served > SEGMENTS / 2, "{served}");
    assert!(is_content(&recovered));
    // All are passed on, and the server no longer needs it.
    prefetchers.wait_until_none();
    recovered.stop(Shutdown::Fast);
}

#[test]
fn recovery_to_a_target_in_the_middle_stops_there_and_the_prefetcher_ends_with_the_server() {
    let sandbox = Sandbox::new();
    let prefetchers = Prefetchers::of(&sandbox);
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    fill_segments(&primary, SEGMENTS / 2);
    primary.sql("select pg_create_restore_point('the middle')");
    fill_segments(&primary, SEGMENTS);
    primary.stop(Shutdown::Immediate);

    recover(&mut recovered, &archive, &[("recovery_target_name", "the middle")]);
    assert_eq!(count_orders(&recovered), rows_of(SEGMENTS / 2));
    assert!(restored_from(&recovered, "prefetcher") > SEGMENTS / 4);
    assert!(is_content(&recovered));
    assert_eq!(prefetchers.all().len(), 1, "it cannot know that nobody will ask any more");
    // It is on its own timeline and affects nobody.
    fill_segments(&recovered, 2);
    assert_eq!(count_orders(&recovered), rows_of(SEGMENTS / 2 + 2));
    recovered.stop(Shutdown::Fast);
    prefetchers.wait_until_none();
}

#[test]
fn a_standby_catches_up_is_promoted_and_another_one_follows_it() {
    let sandbox = Sandbox::new();
    let prefetchers = Prefetchers::of(&sandbox);
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut first = primary.base_backup("first");
    let mut second = first.copy("second");
    fill_segments(&primary, SEGMENTS);
    for standby in [&mut first, &mut second] {
        standby.follow(&archive);
        standby.restore_with("-v", &archive);
        standby.start();
    }
    for standby in [&first, &second] {
        wait_until("it has caught up", || count_orders(standby) == rows_of(SEGMENTS));
        let served = restored_from(standby, "prefetcher");
        assert!(served > SEGMENTS / 2, "{served}");
    }
    prefetchers.wait_until_none();
    primary.stop(Shutdown::Immediate);

    first.promote();
    fill_segments(&first, SEGMENTS);
    wait_until("it follows", || count_orders(&second) == rows_of(2 * SEGMENTS));
    assert!(second.log().contains("restored name=00000002"), "{}", second.log());
    assert!(is_content(&first) && is_content(&second));
    for standby in [&mut first, &mut second] {
        standby.stop(Shutdown::Fast);
    }
    prefetchers.wait_until_none();
}

#[test]
fn a_server_restarted_in_the_middle_of_recovery_continues() {
    let sandbox = Sandbox::new();
    let prefetchers = Prefetchers::of(&sandbox);
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    fill_segments(&primary, 2 * SEGMENTS);
    primary.stop(Shutdown::Immediate);

    recovered.recover_from(&archive, &[]);
    recovered.restore_with("-v", &archive);
    for (round, shutdown) in
        [Shutdown::Immediate, Shutdown::Fast, Shutdown::Immediate].into_iter().enumerate()
    {
        recovered.launch();
        wait_until("some are restored", || restored_from(&recovered, "prefetcher") > 4 * (round + 1));
        recovered.stop(shutdown);
        prefetchers.wait_until_none();
    }
    recovered.start();
    assert_eq!(count_orders(&recovered), rows_of(2 * SEGMENTS));
}

#[test]
fn killing_the_prefetcher_repeatedly_loses_no_row() {
    let sandbox = Sandbox::new();
    let prefetchers = Prefetchers::of(&sandbox);
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    fill_segments(&primary, 2 * SEGMENTS);
    primary.stop(Shutdown::Immediate);

    let recovering = AtomicBool::new(true);
    let killed = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killed = 0;
            while recovering.load(SeqCst) {
                for prefetcher in prefetchers.all() {
                    prefetcher.try_signal(Signal::KILL);
                    killed += 1;
                }
                thread::sleep(Duration::from_millis(killed * 7 % 60));
            }
            killed
        });
        recover(&mut recovered, &archive, &[]);
        recovering.store(false, SeqCst);
        killer.join().unwrap()
    });
    assert!(killed > 3, "{killed}");
    assert_eq!(count_orders(&recovered), rows_of(2 * SEGMENTS));
    assert!(is_content(&recovered));
}

#[test]
fn pg_rewind_with_the_archive_works_next_to_prefetchers() {
    let sandbox = Sandbox::new();
    let _prefetchers = Prefetchers::of(&sandbox);
    let archive = ArchiveDirectory::new(&sandbox);
    let mut old = primary(&sandbox, &archive);
    let mut new = old.base_backup("new");
    fill_segments(&old, 2);
    new.follow(&archive);
    new.start();
    wait_until("it has caught up", || count_orders(&new) == rows_of(2));
    new.promote();
    new.sql("checkpoint");
    // The old primary was not stopped. It continues until it has recycled the WAL from before the fork.
    let parted = old.current_segment();
    for _ in 0..3 {
        fill_segments(&old, 4);
        old.sql("checkpoint");
    }
    wait_until("the segment is gone", || {
        fill_segments(&old, 1);
        old.sql("checkpoint");
        !old.wal(&parted).exists()
    });
    old.stop(Shutdown::Fast);

    old.restore_with("-v", &archive);
    let mut rewind = sandbox.command(postgres::program("pg_rewind"));
    rewind.args(["--restore-target-wal", "--no-sync", "--source-server", &new.connection()]);
    let rewound = rewind.arg("--target-pgdata").arg(old.data()).output().expect("pg_rewind can be started");
    let said = String::from_utf8_lossy(&rewound.stderr);
    assert!(rewound.status.success(), "{said}");
    assert!(said.contains(" from=\""), "it has asked the archive: {said}");
    old.follow(&archive);
    old.start();
    fill_segments(&new, 2);
    wait_until("it follows", || count_orders(&old) == rows_of(4));
    output_of(old.client("psql").args(["-XAtqc", "select 1"]));
}
