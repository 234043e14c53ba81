//! A drill by the guide publishes nothing; and a recovery to the latest after one that did.

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    guide,
    orders::{commit_orders, count_orders, primary},
    recovery::Role,
    sandbox::Sandbox,
};

const GUIDE: &str = "docs/guide/drills.md";

/// Returns the number of orders after a recovery to `timeline` that archives nothing.
fn count_on(timeline: &str, mut backup: Cluster, archive: &ArchiveDirectory) -> String {
    backup.recover_from(archive, &[("recovery_target_timeline", timeline), ("archive_mode", "off")]);
    backup.start();
    count_orders(&backup)
}

#[test]
fn a_drill_leaves_the_archive_alone_and_the_next_recovery_has_every_row() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let (cleaned, ended) = (sandbox.join("cleaned"), sandbox.join("ended"));
    // These are in postgresql.auto.conf. The primary does not read them again.
    for (parameter, value) in [
        ("archive_mode", "always"),
        ("archive_command", &primary.sql("show archive_command")),
        ("restore_command", "false"),
        ("primary_conninfo", &primary.connection()),
        ("archive_cleanup_command", &format!("touch {}", cleaned.display())),
        ("recovery_end_command", &format!("touch {}", ended.display())),
        ("synchronous_standby_names", "nobody"),
    ] {
        primary.sql(&format!("alter system set {parameter} = '{value}'"));
    }
    let mut drill = primary.base_backup("drill");
    // As in a base backup of a standby.
    drill.becomes(Role::Standby);
    let after_the_drill = drill.copy("after-the-drill");
    commit_orders(&primary);
    primary.archive_segment();
    let system = primary.system_identifier();
    let archived = archive.all_names(system);

    let restore = sandbox.program("walkeep-restore");
    let names = [("walkeep-restore", restore.to_str().unwrap()), (guide::ARCHIVE, archive.url())];
    let recipe = guide::block_with(&guide::page(GUIDE), "archive_mode = off");
    guide::run(&sandbox, drill.data(), &recipe, &names);
    drill.start();
    assert_eq!(count_orders(&drill), "100");
    commit_orders(&drill);
    assert_eq!(&drill.finish_segment()[..8], "00000002", "it has been promoted");
    drill.sql("checkpoint");
    drill.stop(Shutdown::Fast);
    assert_eq!(archive.all_names(system), archived);
    assert!(!cleaned.exists() && !ended.exists());

    commit_orders(&primary);
    primary.archive_segment();
    primary.stop(Shutdown::Immediate);
    let mut recovered = after_the_drill;
    guide::run(&sandbox, recovered.data(), &recipe, &names);
    recovered.start();
    assert_eq!(count_orders(&recovered), "200");
}

#[test]
fn after_a_recovery_that_archived_the_named_timeline_has_the_rows() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut first = primary.base_backup("first");
    let [to_the_latest, mut second, after_the_second, after_it_was_moved] =
        ["to-the-latest", "second", "after-the-second", "after-it-was-moved"].map(|name| first.copy(name));
    commit_orders(&primary);
    primary.sql("select pg_create_restore_point('too early')");
    primary.archive_segment();
    first.recover_from(&archive, &[("recovery_target_name", "too early")]);
    first.start();
    assert_eq!(&first.archive_segment()[..8], "00000002", "published by a recovery that archives");
    first.stop(Shutdown::Fast);
    for _ in 0..3 {
        commit_orders(&primary);
        primary.archive_segment();
    }
    primary.stop(Shutdown::Immediate);

    assert_eq!(count_on("latest", to_the_latest, &archive), "100", "and 300 are cut off");
    assert!(guide::section(GUIDE, "## A second attempt").contains("\nrecovery_target_timeline = '1'\n"));
    second.recover_from(&archive, &[("recovery_target_timeline", "1")]);
    second.start();
    assert_eq!(count_orders(&second), "400");
    commit_orders(&second);
    assert_eq!(&second.archive_segment()[..8], "00000003");
    second.stop(Shutdown::Immediate);
    assert_eq!(count_on("latest", after_the_second, &archive), "500");

    for timeline in ["00000003", "00000002"] {
        guide::move_aside(&sandbox, &archive, ".history /mnt/aside", &[("00000002", timeline)]);
    }
    assert_eq!(count_on("latest", after_it_was_moved, &archive), "400");
}
