//! A promotion does not hang on the archive: history files that the server has itself, or that cannot exist, need none.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

mod support;

use std::fs;

use support::{data_directory::DataDirectory, sandbox::Sandbox};

const HISTORY: &str = "1\t0/3000000\tno recovery target specified\n";

/// Asks for `name` while the archive is away, in a data directory whose `pg_wal` holds `own`. Returns the status, what
/// was restored, and standard error.
fn restore_without_archive(name: &str, own: &[(&str, &str)]) -> (i32, Option<String>, String) {
    let sandbox = Sandbox::new();
    let data = DataDirectory::new(&sandbox, "data", 7);
    for (file, content) in own {
        data.file(&format!("pg_wal/{file}"), content);
    }
    let mut command = data.run(sandbox.walkeep_restore());
    let output =
        command.args(["--archive", "/nowhere/at/all", "--timeout", "1s", name, "pg_wal/RECOVERYHISTORY"]);
    let output = output.output().unwrap();
    let restored = fs::read_to_string(data.join("pg_wal/RECOVERYHISTORY")).ok();
    let names = fs::read_dir(data.join("pg_wal")).unwrap().count();
    assert_eq!(names, own.len() + usize::from(restored.is_some()), "nothing else is left");
    (output.status.code().unwrap(), restored, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_history_file_that_the_archive_cannot_give_is_the_servers_own() {
    let (status, restored, stderr) =
        restore_without_archive("00000002.history", &[("00000002.history", HISTORY)]);
    assert_eq!((status, restored.as_deref()), (0, Some(HISTORY)), "{stderr}");
    assert!(stderr.contains("/nowhere/at/all") && stderr.contains("its own copy"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "and at once, without waiting: {stderr}");
}

#[test]
fn a_history_file_that_nobody_has_could_not_be_told() {
    for own in [&[][..], &[("00000003.history", HISTORY)], &[("00000002.history", "")]] {
        let (status, restored, stderr) = restore_without_archive("00000002.history", own);
        assert_eq!((status, restored), (255, None), "{stderr}");
    }
}

#[test]
fn the_file_that_is_to_be_restored_does_not_stand_in_for_itself() {
    let sandbox = Sandbox::new();
    let data = DataDirectory::new(&sandbox, "data", 7);
    let path = data.file("pg_wal/00000002.history", HISTORY);
    for given in ["pg_wal/00000002.history", path.to_str().unwrap()] {
        let mut command = data.run(sandbox.walkeep_restore());
        let output = command
            .args(["--archive", "/nowhere/at/all", "--timeout", "1s", "00000002.history", given])
            .output();
        assert_eq!(
            output.unwrap().status.code(),
            Some(255),
            "pg_rewind -c asks so, and wants the archive's file"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), HISTORY);
    }
}

#[test]
fn a_segment_is_never_taken_from_the_servers_own() {
    let name = "000000010000000000000001";
    let (status, restored, stderr) = restore_without_archive(name, &[(name, "x")]);
    assert_eq!((status, restored), (255, None), "{stderr}");
}

#[test]
fn the_first_timeline_has_no_history_whatever_the_archive_says() {
    let (status, restored, stderr) = restore_without_archive("00000001.history", &[]);
    assert_eq!((status, restored, stderr.as_str()), (1, None, ""));
}
