//! A promotion that has begun completes: once the server is no longer a standby, neither a configuration mistake nor
//! an unavailable archive stops it half-way, from where it would come up on its old timeline, writable.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    output_of,
    recovery::Role,
    sandbox::Sandbox,
};

/// Kinds of configuration mistakes while a standby runs.
#[derive(Clone, Copy, Debug)]
enum Breaks {
    Syntax,
    Unreadable,
    OpenSecret,
    MissingCertificates,
    Flag,
}

/// Creates a primary that archives, on that timeline.
fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory, timeline: u32) -> Cluster<'a> {
    let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    primary.archive_into(archive);
    primary.start();
    primary.sql("create table orders (taken_by text)");
    for _ in 1..timeline {
        primary.stop(Shutdown::Fast);
        primary.becomes(Role::Standby);
        primary.restore_from(archive);
        primary.start();
        primary.promote();
        primary.wait_until_archived();
    }
    primary
}

fn configuration(sandbox: &Sandbox, archive: &ArchiveDirectory) -> PathBuf {
    sandbox.file("walkeep.toml", format!("archive = \"{}\"\n", archive.url()))
}

/// Breaks the configuration, and returns the flags of a command that reads it.
fn break_it(breaks: Breaks, file: &Path) -> String {
    let mut flags = format!("--config {}", file.display());
    let store = "archive = \"s3://wal/main\"\n[store]\naccess_key_id = \"x\"\nsecret_access_key = \"y\"\n";
    match breaks {
        Breaks::Syntax => fs::write(file, "archive = \"/somewhere\"\noops\n").unwrap(),
        // Owned by a user other than the server's, as after an edit by root; if the tests run as the server's user,
        // by nobody.
        Breaks::Unreadable => {
            let mode = if geteuid().is_root() { 0o600 } else { 0 };
            fs::remove_file(file).unwrap();
            fs::write(file, "").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }
        Breaks::OpenSecret => {
            fs::write(file, store).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        Breaks::MissingCertificates => {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(file, format!("{store}ca_file = \"/nowhere/ca.pem\"\n")).unwrap();
        }
        Breaks::Flag => flags.push_str(" --no-such-flag"),
    }
    flags
}

/// Restores with only these flags.
fn restore_with(sandbox: &Sandbox, cluster: &Cluster, flags: &str) {
    let program = sandbox.program("walkeep-restore");
    cluster.set("restore_command", &format!("{} {flags} %f %p", program.display()));
}

/// Promotes a standby whose configuration is broken; asserts that it comes up on the next timeline and stays there.
fn is_promoted(standby: &mut Cluster, timeline: &str) {
    standby.promote();
    assert_eq!(&standby.sql("select pg_walfile_name(pg_current_wal_lsn())")[..8], timeline);
    standby.sql("insert into orders values ('standby')");
    assert!(!standby.log().contains("FATAL:  could not restore"), "{}", standby.log());
    standby.stop(Shutdown::Immediate);
    standby.start();
    assert_eq!(
        &standby.sql("select pg_walfile_name(pg_current_wal_lsn())")[..8],
        timeline,
        "after a crash, too"
    );
}

#[test]
fn a_broken_configuration_never_turns_a_promotion_into_a_second_server_on_the_old_timeline() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive, 1);
    let backup = primary.base_backup("backup");
    let cases =
        [Breaks::Syntax, Breaks::Unreadable, Breaks::OpenSecret, Breaks::MissingCertificates, Breaks::Flag];
    for breaks in cases {
        let file = configuration(&sandbox, &archive);
        let mut standby = backup.copy(&format!("standby-{breaks:?}"));
        standby.follow(&archive);
        restore_with(&sandbox, &standby, &format!("--config {}", file.display()));
        standby.set("archive_mode", "off");
        standby.start();
        let flags = break_it(breaks, &file);
        restore_with(&sandbox, &standby, &flags);
        standby.sql("select pg_reload_conf()");
        is_promoted(&mut standby, "00000002");
        // A mistake in the settings of a store is noticed only after that question has been answered.
        if !matches!(breaks, Breaks::MissingCertificates) {
            let said = "there is no 00000001.history: timeline 1 has no parents";
            assert!(standby.log().contains(said), "{breaks:?}: {}", standby.log());
        }
        standby.stop(Shutdown::Immediate);
    }
}

#[test]
fn a_promotion_with_a_broken_configuration_knows_all_the_ancestors_from_the_servers_own_copies() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive, 2);
    let mut standby = primary.base_backup("standby");
    let file = configuration(&sandbox, &archive);
    standby.follow(&archive);
    restore_with(&sandbox, &standby, &format!("--config {}", file.display()));
    standby.set("archive_mode", "off");
    standby.start();
    assert!(standby.wal("00000002.history").exists());
    break_it(Breaks::Syntax, &file);
    is_promoted(&mut standby, "00000003");
    assert!(
        standby.log().contains("the server is given its own copy of 00000002.history"),
        "{}",
        standby.log()
    );
    let history = fs::read_to_string(standby.wal("00000003.history")).unwrap();
    assert_eq!(history.lines().filter(|line| !line.is_empty()).count(), 2, "{history}");
}

#[test]
fn a_promotion_completes_although_the_parents_history_is_unavailable() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive, 2);
    let backup = primary.base_backup("backup");
    // A choice to stop applies only before.
    for options in ["", "--on-error stop --timeout 1s"] {
        let mut standby = backup.copy(&format!("standby-{}", options.len()));
        standby.follow(&archive);
        standby.set("archive_mode", "off");
        standby.start();
        // A command that breaks only in the last step.
        let restore = sandbox.program("walkeep-restore");
        let script = format!(
            "case $1 in *.history) [ -e standby.signal ] || [ -e recovery.conf ] || a=/nowhere;; esac\n\
             exec {} --archive ${{a:-{}}} {options} $1 $2\n",
            restore.display(),
            archive.url(),
        );
        let script = sandbox.file("restore-command", script);
        standby.set("restore_command", &format!("sh {} %f %p", script.display()));
        standby.sql("select pg_reload_conf()");
        fs::remove_file(standby.wal("00000002.history")).unwrap();
        is_promoted(&mut standby, "00000003");
        assert!(
            standby.log().contains("walkeep-restore: error: the archive directory /nowhere"),
            "{}",
            standby.log()
        );
        standby.stop(Shutdown::Immediate);
    }
}

#[test]
fn with_on_error_stop_the_server_stops_while_it_is_still_a_standby() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive, 1);
    let mut standby = primary.base_backup("standby");
    standby.follow(&archive);
    standby.start();
    primary.sql("insert into orders values ('primary')");
    primary.archive_segment();
    primary.stop(Shutdown::Immediate);
    archive.vanish();
    standby.restore_with("--on-error stop --timeout 1s", &archive);
    // The server finds the archive unavailable, and stops.
    let _ = standby.try_sql("select pg_reload_conf()");
    standby.ask_for_promotion();
    assert!(!standby.wait_for_exit().success());
    assert!(standby.is_standby(), "it is a standby as before");
    archive.come_back();
    standby.start();
    standby.promote();
    let orders = standby.sql("select string_agg(taken_by, ',') from orders");
    assert_eq!(orders, "primary");
    let history = output_of(sandbox.walkeep().args(["cat", "--archive", archive.url(), "00000002.history"]));
    assert_eq!(history.lines().count(), 1, "{history}");
}
