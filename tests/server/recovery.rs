//! Recovery: after the loss of a primary that archived, a base backup and the archive restore the rows.

use std::fs;

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    orders::{commit_orders, count_orders},
    output_of,
    sandbox::Sandbox,
    wait_until,
};

/// Creates a running primary that archives, with an empty table of orders.
fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> Cluster<'a> {
    let mut primary = Cluster::new(sandbox, "primary");
    primary.archive_into(archive);
    primary.start();
    primary.sql("create table orders (id int)");
    primary
}

#[test]
fn recovery_to_the_latest_restores_every_archived_row() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    for _ in 0..3 {
        commit_orders(&primary);
        primary.archive_segment();
    }
    primary.stop(Shutdown::Immediate);

    recovered.recover_from(&archive, &[]);
    recovered.start();
    assert_eq!(count_orders(&recovered), "300");
}

#[test]
fn recovery_to_a_time_restores_a_table_dropped_after_it() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    commit_orders(&primary);
    let before_the_mistake = primary.sql("select clock_timestamp()");
    primary.sql("drop table orders");
    primary.archive_segment();

    recovered.recover_from(&archive, &[("recovery_target_time", &before_the_mistake)]);
    recovered.start();
    assert_eq!(count_orders(&recovered), "100");
}

#[test]
fn recovery_to_a_named_restore_point_stops_there() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    commit_orders(&primary);
    primary.sql("select pg_create_restore_point('before the import')");
    commit_orders(&primary);
    primary.archive_segment();

    recovered.recover_from(&archive, &[("recovery_target_name", "before the import")]);
    recovered.start();
    assert_eq!(count_orders(&recovered), "100");
}

#[test]
fn recovery_continues_with_the_unfinished_segment_of_the_lost_primary_and_archives_it_as_partial() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    commit_orders(&primary);
    primary.archive_segment();
    commit_orders(&primary);
    let unfinished = primary.current_segment();
    primary.stop(Shutdown::Immediate);

    let saved = fs::read(primary.wal(&unfinished)).unwrap();
    sandbox.file(recovered.wal(&unfinished), &saved);
    recovered.recover_from(&archive, &[]);
    recovered.start();
    assert_eq!(count_orders(&recovered), "200");
    recovered.wait_until_archived();
    let system = recovered.system_identifier();
    assert!(archive.file(system, &format!("{unfinished}.partial")).exists());
    assert!(!archive.file(system, &unfinished).exists());
}

#[test]
fn a_backlog_left_by_an_immediate_shutdown_is_archived_and_resends_are_accepted() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = Cluster::new(&sandbox, "primary");
    primary.archive_into(&archive);
    // Keeps the segments in pg_wal for comparison with the archived ones.
    primary.set("wal_keep_size", "1GB");
    primary.start();
    primary.sql("create table orders (id int)");
    let sent_again = primary.archive_segment();

    archive.vanish();
    let mut segments = vec![sent_again.clone()];
    for _ in 0..4 {
        commit_orders(&primary);
        segments.push(primary.finish_segment());
    }
    wait_until("archive_command has failed", || primary.failed_count() > 0);
    assert_eq!(primary.backlog(), segments[1..]);
    primary.stop(Shutdown::Immediate);

    // State after a crash between the success of archive_command and PostgreSQL's record of it.
    let status = |suffix| primary.wal(format!("archive_status/{sent_again}.{suffix}"));
    fs::rename(status("done"), status("ready")).unwrap();
    archive.come_back();
    primary.start();
    primary.wait_until_archived();

    commit_orders(&primary);
    segments.push(primary.archive_segment());
    // The crash has reset the statistics, so this counts from the restart.
    assert_eq!(primary.failed_count(), 0);
    for segment in segments {
        let original = sandbox.join("original");
        output_of(sandbox.walkeep().args(["cat", "--archive", archive.url(), &segment, "-o"]).arg(&original));
        assert!(
            fs::read(&original).unwrap() == fs::read(primary.wal(&segment)).unwrap(),
            "{segment} differs"
        );
        fs::remove_file(original).unwrap();
    }
}

#[test]
fn a_base_backup_ends_only_when_its_backup_history_file_is_archived() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    primary.archive_segment();

    archive.vanish();
    let mut backup = primary.base_backup_command("sunday").arg("--wal-method=none").spawn().unwrap();
    wait_until("the base backup waits for the archive", || {
        primary.sql("select count(*) from pg_stat_activity where wait_event = 'BackupWaitWalArchive'") == "1"
    });
    archive.come_back();
    // Wakes the archiver, which otherwise pauses for a minute after three failures.
    commit_orders(&primary);
    primary.finish_segment();
    assert!(backup.wait().unwrap().success());

    let backups = archive.names(primary.system_identifier(), "backups");
    assert_eq!(backups.len(), 1, "{backups:?}");
    let history = output_of(sandbox.walkeep().args(["cat", "--archive", archive.url(), &backups[0]]));
    let (segment, _) = backups[0].split_once('.').unwrap();
    assert!(history.contains(&format!("(file {segment})")), "{history}");
    assert!(history.contains("LABEL: sunday"), "{history}");
}

#[test]
fn a_second_recovery_follows_the_timeline_that_the_first_one_archived() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut first = primary.base_backup("first");
    let mut second = first.copy("second");
    commit_orders(&primary);
    primary.archive_segment();
    primary.stop(Shutdown::Immediate);

    first.recover_from(&archive, &[]);
    first.start();
    commit_orders(&first);
    assert_eq!(&first.archive_segment()[..8], "00000002");
    first.stop(Shutdown::Immediate);

    second.recover_from(&archive, &[]);
    second.start();
    assert_eq!(count_orders(&second), "200");
    second.wait_until_archived();
    let system = second.system_identifier();
    assert_eq!(archive.names(system, "timelines"), ["00000002.history", "00000003.history"]);
}

#[test]
fn a_store_that_fails_in_the_middle_of_recovery_stops_the_server_and_does_not_promote_it() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let to_a_point = primary.base_backup("to-a-point");
    let to_the_latest = to_a_point.copy("to-the-latest");
    let mut segments = Vec::new();
    for _ in 0..4 {
        commit_orders(&primary);
        segments.push(primary.archive_segment());
    }
    commit_orders(&primary);
    primary.sql("select pg_create_restore_point('the end')");
    primary.archive_segment();
    primary.stop(Shutdown::Immediate);

    let (before, lost) = (&segments[1], &segments[2]);
    let failing = sandbox.file(
        "failing-restore",
        format!(
            "[ $1 != {lost} ] || mv {archive} {away}\nexec {restore} --archive {archive} --timeout 1s $1 $2\n",
            archive = archive.url(),
            away = archive.away(),
            restore = sandbox.program("walkeep-restore").display(),
        ),
    );
    let system = primary.system_identifier();
    let mut stopped = Vec::new();
    // Without a target, PostgreSQL would promote whatever it has once it believes that the WAL ends.
    for (mut recovered, target) in
        [(to_a_point, &[("recovery_target_name", "the end")][..]), (to_the_latest, &[][..])]
    {
        recovered.recover_from(&archive, target);
        recovered.set("restore_command", &format!("sh {} %f %p", failing.display()));
        recovered.launch();
        assert!(!recovered.wait_for_exit().success());
        let log = recovered.log();
        assert!(log.contains(&format!("restored log file \"{before}\" from archive")));
        assert!(log.contains(&format!("FATAL:  could not restore file \"{lost}\" from archive")));
        assert!(!recovered.wal("00000002.history").exists());
        archive.come_back();
        stopped.push(recovered);
    }
    assert!(archive.names(system, "timelines").is_empty());

    for mut recovered in stopped {
        recovered.restore_from(&archive);
        recovered.start();
        assert_eq!(count_orders(&recovered), "500");
    }
}
