//! `walkeep prune` as a standby's `archive_cleanup_command`, and next to everything else that uses an archive.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    orders::{count_orders, primary, segments, take_orders},
    output_of,
    running::outcome_of,
    sandbox::Sandbox,
    wait_until,
};

/// Creates a standby that deletes what it no longer needs; `environment` is that of the command, in shell syntax.
fn standby<'a>(
    backup: Cluster<'a>,
    sandbox: &Sandbox,
    archive: &ArchiveDirectory,
    environment: &str,
) -> Cluster<'a> {
    let mut standby = backup;
    standby.follow(archive);
    let prune = sandbox.program("walkeep");
    standby.set("archive_cleanup_command", &format!("{environment} {} prune --before %r", prune.display()));
    standby.start();
    standby
}

/// Makes the standby replay up to a checkpoint of the primary and restart from there. Returns the segment with which
/// it would start.
fn restartpoint(primary: &Cluster, standby: &Cluster) -> String {
    take_orders(primary);
    primary.sql("checkpoint");
    take_orders(primary);
    let expected = count_orders(primary);
    wait_until("the standby has all rows", || count_orders(standby) == expected);
    // Returns after the cleanup command.
    standby.sql("checkpoint");
    standby.sql("select redo_wal_file from pg_control_checkpoint()")
}

#[test]
fn a_standby_deletes_wal_that_it_no_longer_needs_and_continues() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let system = primary.system_identifier();
    let environment = format!("WALKEEP_ARCHIVE={}", archive.url());
    let mut standby = standby(primary.base_backup("standby"), &sandbox, &archive, &environment);
    let mut begins = segments(&archive, system)[0].clone();
    for _ in 0..2 {
        let first = restartpoint(&primary, &standby);
        assert!(first > begins, "{first} {begins}");
        assert_eq!(segments(&archive, system)[0], first, "exactly as far as it has come");
        begins = first;
    }
    assert!(!standby.log().contains("archive_cleanup_command"), "{}", standby.log());
    // The oldest remaining segment is the one with which it restarts.
    standby.stop(Shutdown::Immediate);
    take_orders(&primary);
    standby.start();
    let expected = count_orders(&primary);
    wait_until("the standby has all rows", || count_orders(&standby) == expected);
    primary.stop(Shutdown::Fast);
    standby.promote();
    assert_eq!(&take_orders(&standby)[..8], "00000002");
}

#[test]
fn wal_kept_by_the_configured_policy_stays_although_the_standby_no_longer_needs_it() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let system = primary.system_identifier();
    let oldest = primary.base_backup("oldest");
    drop(oldest);
    take_orders(&primary);
    let configuration = sandbox.file(
        "walkeep.toml",
        format!("archive = \"{}\"\nkeep_backups = 1\nbackup_may_take = \"0s\"\n", archive.url()),
    );
    let environment = format!("WALKEEP_CONFIG={}", configuration.display());
    let standby = standby(primary.base_backup("standby"), &sandbox, &archive, &environment);
    let mut newest = primary.base_backup("newest");
    let start = {
        primary.wait_until_archived();
        let names = archive.names(system, "backups");
        names.last().unwrap()[..24].to_owned()
    };
    assert!(restartpoint(&primary, &standby) > start);
    assert_eq!(segments(&archive, system)[0], start, "all that the newest backup needs, and no more");
    assert_eq!(archive.names(system, "backups").len(), 1);

    let expected = count_orders(&primary);
    primary.stop(Shutdown::Immediate);
    newest.recover_from(&archive, &[]);
    newest.start();
    assert_eq!(count_orders(&newest), expected);
}

#[test]
fn pruning_next_to_pushes_recoveries_and_other_prunes_causes_no_failure() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    let system = primary.system_identifier();
    for number in 0..20 {
        primary.base_backup(&format!("backup-{number}"));
        take_orders(&primary);
    }
    let backup = primary.base_backup("kept");
    (0..20).for_each(|_| drop(take_orders(&primary)));
    let prune = || {
        let mut prune = sandbox.walkeep();
        prune.args(["prune", "--keep-backups", "1", "--backup-may-take", "0s", "--archive", archive.url()]);
        prune.args(["--backup-label", "*"]);
        prune.stdout(Stdio::null());
        prune
    };
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let prunes = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut outcomes = vec![outcome_of(prune())];
                while !enough.load(Ordering::Relaxed) {
                    outcomes.push(outcome_of(prune()));
                }
                outcomes
            })
        });
        let recovery = scope.spawn(|| {
            let mut recovered = backup;
            recovered.set("archive_mode", "off");
            recovered.recover_from(&archive, &[]);
            recovered.start();
            assert!(count_orders(&recovered).parse::<u32>().unwrap() >= 4000);
        });
        (0..40).for_each(|_| drop(take_orders(&primary)));
        recovery.join().unwrap();
        enough.store(true, Ordering::Relaxed);
        for outcome in prunes.into_iter().flat_map(|prunes| prunes.join().unwrap()) {
            assert_eq!(outcome.status, 0, "{}", outcome.stderr);
            assert_eq!(outcome.stderr, "");
        }
    });
    assert_eq!(primary.failed_count(), 0);
    assert_eq!(archive.names(system, "backups").len(), 1);
    output_of(prune().arg("--dry-run"));
}
