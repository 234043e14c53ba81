//! A promotion does not depend on the archive: history files that the server has itself, or that cannot exist, need
//! none.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    data_directory::{DataDirectory, IN_ARCHIVE_RECOVERY, SEGMENT},
    sandbox::Sandbox,
};

const HISTORY: &str = "1\t0/3000000\tno recovery target specified\n";

const AWAY: &[&str] = &["--archive", "/nowhere/at/all", "--timeout", "1s"];

/// Requests `name` while the archive is away, in a data directory whose `pg_wal` contains `own`. Returns the status,
/// the restored content, and standard error.
fn restore_without_archive(name: &str, own: &[(&str, &str)]) -> (i32, Option<String>, String) {
    restore_in(|_, _| (), AWAY, name, own)
}

/// Requests `name` with these flags, in a data directory set up by `prepared` whose `pg_wal` contains `own`.
fn restore_in(
    prepare: impl Fn(&Sandbox, &DataDirectory),
    flags: &[&str],
    name: &str,
    own: &[(&str, &str)],
) -> (i32, Option<String>, String) {
    let sandbox = Sandbox::new();
    let data = DataDirectory::new(&sandbox, "data", 7);
    prepare(&sandbox, &data);
    for (file, content) in own {
        data.file(&format!("pg_wal/{file}"), content);
    }
    let mut command = data.run(sandbox.walkeep_restore());
    let output = command.args(flags).args([name, "pg_wal/RECOVERYHISTORY"]);
    let output = output.output().unwrap();
    let restored = fs::read_to_string(data.join("pg_wal/RECOVERYHISTORY")).ok();
    let names = fs::read_dir(data.join("pg_wal")).unwrap().count();
    assert_eq!(names, own.len() + usize::from(restored.is_some()), "nothing else is left");
    (output.status.code().unwrap(), restored, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_history_file_that_the_archive_cannot_provide_comes_from_the_server() {
    let (status, restored, stderr) =
        restore_without_archive("00000002.history", &[("00000002.history", HISTORY)]);
    assert_eq!((status, restored.as_deref()), (0, Some(HISTORY)), "{stderr}");
    assert!(stderr.contains("/nowhere/at/all") && stderr.contains("its own copy"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "and at once, without waiting: {stderr}");
}

#[test]
fn a_history_file_that_nobody_has_is_unknown() {
    for own in [&[][..], &[("00000003.history", HISTORY)], &[("00000002.history", "")]] {
        let (status, restored, stderr) = restore_without_archive("00000002.history", own);
        assert_eq!((status, restored), (255, None), "{stderr}");
    }
}

#[test]
fn the_target_file_does_not_count_as_the_servers_own_copy() {
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
fn a_segment_is_never_copied_from_the_server() {
    let name = "000000010000000000000001";
    let (status, restored, stderr) = restore_without_archive(name, &[(name, "x")]);
    assert_eq!((status, restored), (255, None), "{stderr}");
}

#[test]
fn the_first_timeline_has_no_history_whatever_the_archive_says() {
    let (status, restored, stderr) = restore_without_archive("00000001.history", &[]);
    assert_eq!((status, restored, stderr.as_str()), (1, None, ""));
}

/// Mistakes that end a call before it can ask an archive.
const MISTAKES: [&[&str]; 5] = [
    &["--no-such-flag"],
    &["--archive"],
    &["--config", "../syntax.toml"],
    &["--config", "../missing.toml"],
    &["--config", "../certificates.toml"],
];

fn mistaken(sandbox: &Sandbox) {
    sandbox.file("syntax.toml", "archive = \"/a\"\noops");
    let store = "access_key_id = \"x\"\nsecret_access_key = \"y\"\nca_file = \"/nowhere\"\n";
    let file = sandbox.file("certificates.toml", format!("archive = \"s3://wal/main\"\n[store]\n{store}"));
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn answers_that_need_no_archive_survive_any_mistake() {
    for mistake in MISTAKES {
        for file in ["recovery.signal", "standby.signal"] {
            let prepare = |sandbox: &Sandbox, data: &DataDirectory| {
                mistaken(sandbox);
                data.file(file, "");
            };
            let (status, restored, stderr) =
                restore_in(prepare, mistake, "00000002.history", &[("00000002.history", HISTORY)]);
            assert_eq!((status, restored.as_deref()), (0, Some(HISTORY)), "{mistake:?}: {stderr}");
            let said =
                stderr.starts_with("walkeep-restore: warning: ") && stderr.contains("; the server is given");
            assert!(said && stderr.lines().count() == 1, "{stderr}");

            let (status, restored, stderr) = restore_in(prepare, mistake, "00000001.history", &[]);
            assert_eq!((status, restored), (1, None), "{mistake:?}: {stderr}");

            let could_not_tell = if file == "standby.signal" { 75 } else { 255 };
            for (name, own) in [("00000002.history", &[][..]), (SEGMENT, &[(SEGMENT, "x")])] {
                let (status, restored, stderr) = restore_in(prepare, mistake, name, own);
                assert_eq!((status, restored), (could_not_tell, None), "{mistake:?}: {stderr}");
                assert!(stderr.starts_with("walkeep-restore: error: "), "{stderr}");
            }
        }
    }
}

#[test]
fn a_server_in_the_last_step_of_a_promotion_is_never_stopped() {
    let at_the_end = |sandbox: &Sandbox, data: &DataDirectory| {
        mistaken(sandbox);
        data.set_state(IN_ARCHIVE_RECOVERY);
    };
    let stop = [AWAY, &["--on-error", "stop"]].concat();
    for flags in MISTAKES.iter().copied().chain([AWAY, &stop]) {
        let (status, restored, stderr) = restore_in(at_the_end, flags, "00000002.history", &[]);
        assert_eq!((status, restored), (75, None), "{flags:?}: {stderr}");
        assert!(stderr.lines().last().unwrap().starts_with("walkeep-restore: error: "), "{stderr}");
        // Removing such a file by hand does not end a recovery.
        let (status, _, stderr) = restore_in(at_the_end, flags, SEGMENT, &[]);
        assert_eq!(status, 255, "{flags:?}: {stderr}");
    }
}

#[test]
fn a_file_unknown_to_the_servers_version_is_ignored() {
    for (version, files, status) in [
        ("11\n", &[("standby.signal", "")][..], 255),
        ("11\n", &[("recovery.conf", "standby_mode = on")], 75),
        ("12\n", &[("standby.signal", "")], 75),
        ("15\n", &[("recovery.conf", "standby_mode = on")], 255),
        ("?", &[("standby.signal", ""), ("recovery.conf", "standby_mode = on")], 255),
    ] {
        let prepare = |_: &Sandbox, data: &DataDirectory| {
            data.file("PG_VERSION", version);
            for (name, text) in files {
                data.file(name, text);
            }
        };
        let (found, _, stderr) = restore_in(prepare, AWAY, SEGMENT, &[]);
        assert_eq!(found, status, "{version:?} {files:?}: {stderr}");
    }
}
