//! Base backups of both kinds, and recovery: to a name, to a time, to the end, to a target that never comes, and without the
//! archive.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    orders::{commit_orders, count_orders, primary, take_orders},
    output_of, postgres,
    sandbox::Sandbox,
};

/// Copies the data directory of a running server between the calls that begin and end a base backup.
fn backup_by_hand<'a>(sandbox: &'a Sandbox, primary: &Cluster<'a>, name: &str) -> Cluster<'a> {
    let (copy, label) = (sandbox.join(name), sandbox.join("label"));
    let (begin, end) = postgres::backup_functions("'by hand'");
    // All in one session.
    let script = format!(
        "select {begin};\n\\! cp -a {} {}\n\\o {}\nselect labelfile from {end};\n",
        primary.data().display(),
        copy.display(),
        label.display(),
    );
    let mut psql: Command = primary.client("psql");
    psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1"]).stdin(Stdio::piped());
    let mut psql = psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(psql.wait().unwrap().success());
    let backup = Cluster::in_directory(sandbox, name);
    sandbox.file(copy.join("backup_label"), fs::read(label).unwrap());
    fs::remove_file(copy.join("postmaster.pid")).unwrap();
    let is_file = |entry: &fs::DirEntry| entry.file_type().unwrap().is_file();
    for segment in fs::read_dir(backup.wal("")).unwrap().map(Result::unwrap).filter(is_file) {
        fs::remove_file(segment.path()).unwrap();
    }
    backup
}

#[test]
fn a_base_backup_by_hand_recovers_to_a_named_point() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    commit_orders(&primary);
    let mut recovered = backup_by_hand(&sandbox, &primary, "recovered");
    commit_orders(&primary);
    primary.sql("select pg_create_restore_point('before the import')");
    take_orders(&primary);
    primary.stop(Shutdown::Immediate);
    let backups = archive.names(primary.system_identifier(), "backups");
    assert_eq!(backups.len(), 1, "{backups:?}");
    recovered.recover_from(&archive, &[("recovery_target_name", "before the import")]);
    recovered.start();
    assert_eq!(count_orders(&recovered), "200");
}

#[test]
fn a_base_backup_recovers_to_a_time_and_to_the_end() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut to_a_time = primary.base_backup("to-a-time");
    let mut to_the_end = to_a_time.copy("to-the-end");
    let mut again = to_a_time.copy("again");
    commit_orders(&primary);
    let before_the_mistake = primary.sql("select clock_timestamp()");
    primary.sql("delete from orders");
    for _ in 0..3 {
        take_orders(&primary);
    }
    // What a fast shutdown ends is archived, too.
    commit_orders(&primary);
    primary.stop(Shutdown::Fast);

    to_the_end.recover_from(&archive, &[]);
    to_the_end.start();
    assert_eq!(count_orders(&to_the_end), "400");
    to_the_end.wait_until_archived();
    let to_before = [("recovery_target_time", &*before_the_mistake), ("recovery_target_timeline", "1")];
    to_a_time.recover_from(&archive, &to_before);
    to_a_time.start();
    assert_eq!(count_orders(&to_a_time), "100");
    to_a_time.wait_until_archived();
    let system = primary.system_identifier();
    assert_eq!(archive.names(system, "timelines"), ["00000002.history", "00000003.history"]);
    // The newest timeline is followed, across what the first recovery wrote.
    to_a_time.stop(Shutdown::Fast);
    again.recover_from(&archive, &[]);
    again.start();
    assert_eq!(count_orders(&again), "100");
    assert_eq!(&again.current_segment()[..8], "00000004");
}

#[test]
fn a_target_after_the_last_transaction_is_fatal_from_13_on_and_before_that_the_end() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    take_orders(&primary);
    let later = primary.sql("select clock_timestamp() + '1 hour'");
    primary.stop(Shutdown::Immediate);
    recovered.recover_from(&archive, &[("recovery_target_time", &later)]);
    if postgres::version() < 13 {
        recovered.start();
        assert_eq!(count_orders(&recovered), "100");
    } else {
        recovered.launch();
        assert!(!recovered.wait_for_exit().success());
        let said = "FATAL:  recovery ended before configured recovery target was reached";
        assert!(recovered.log().contains(said), "{}", recovered.log());
        assert!(archive.names(primary.system_identifier(), "timelines").is_empty());
    }
}

#[test]
fn an_archive_that_goes_away_in_the_middle_of_recovery_stops_the_server_and_loses_nothing() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive);
    let mut recovered = primary.base_backup("recovered");
    let segments: Vec<String> = (0..3).map(|_| take_orders(&primary)).collect();
    primary.stop(Shutdown::Immediate);
    let lost = &segments[1];
    let failing = format!(
        "[ $1 != {lost} ] || mv {archive} {away}\nexec {restore} --archive {archive} --timeout 1s $1 $2\n",
        archive = archive.url(),
        away = archive.away(),
        restore = sandbox.program("walkeep-restore").display(),
    );
    let failing = sandbox.file("failing-restore", failing);
    recovered.recover_from(&archive, &[]);
    recovered.set("restore_command", &format!("sh {} %f %p", failing.display()));
    recovered.launch();
    assert!(!recovered.wait_for_exit().success());
    let log = recovered.log();
    assert!(log.contains(&format!("restored log file \"{}\" from archive", segments[0])), "{log}");
    assert!(log.contains(&format!("FATAL:  could not restore file \"{lost}\" from archive")), "{log}");
    assert!(!recovered.wal("00000002.history").exists());
    archive.come_back();
    assert!(archive.names(primary.system_identifier(), "timelines").is_empty());
    recovered.restore_from(&archive);
    recovered.start();
    assert_eq!(count_orders(&recovered), "300");
    let listed = output_of(sandbox.walkeep().args(["list", "timelines", "--archive", archive.url()]));
    assert!(listed.contains("archived"), "{listed}");
}
