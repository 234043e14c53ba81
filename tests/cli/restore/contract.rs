//! Answers of `walkeep-restore` to the server: the file is restored, it is proven absent, or unknown; and in the last
//! case, the answers in recovery and on a standby.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::fs;

use support::{
    data_directory::{DataDirectory, SEGMENT},
    files::{Permissions, names_in},
    restore::{SYSTEM, Scene, TARGET},
    running::{Outcome, Running, outcome_of},
    wrapper::in_shell,
};

const NEXT_SEGMENT: &str = "000000010000000000000002";
const PARTIAL: &str = "000000010000000000000001.partial";
/// The timeline in the name is hexadecimal. Those in the content are decimal.
const HISTORY: &str = "0000000B.history";
const BACKUP: &str = "000000010000000000000001.00000028.backup";

/// Creates every kind of file, as the server does.
fn one_of_each_kind(server: &DataDirectory) -> [(&'static str, Vec<u8>); 4] {
    let history =
        b"9\t0/5000000\tno recovery target specified\n\n10\t0/6000000\tno recovery target specified\n";
    let backup = "START WAL LOCATION: 0/100028 (file 000000010000000000000001)\n\
                  STOP WAL LOCATION: 0/100138 (file 000000010000000000000001)\n\
                  CHECKPOINT LOCATION: 0/100060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
                  START TIME: 2026-01-02 03:04:05 UTC\nLABEL: nightly\nSTART TIMELINE: 1\n\
                  STOP TIME: 2026-01-02 03:04:06 UTC\nSTOP TIMELINE: 1\n";
    server.file(&format!("pg_wal/{HISTORY}"), history);
    server.file(&format!("pg_wal/{BACKUP}"), backup);
    [
        (SEGMENT, server.segment(SEGMENT, 0)),
        (PARTIAL, server.segment(PARTIAL, 1)),
        (HISTORY, history.to_vec()),
        (BACKUP, backup.into()),
    ]
}

/// Creates a file that exists but cannot be read.
fn damage(scene: &Scene, name: &str) {
    let mut bytes = scene.archived(name);
    *bytes.last_mut().unwrap() ^= 1;
    scene.put(name, bytes);
}

#[test]
fn all_four_kinds_of_file_are_restored_byte_for_byte() {
    let scene = Scene::new();
    for (name, content) in one_of_each_kind(&scene.primary) {
        scene.push(&scene.primary, name);
        assert!(scene.restored(name) == content, "{name}");
        let on_standby = outcome_of(scene.restore(&scene.standby, name));
        assert_eq!((on_standby.status, on_standby.stderr.as_str()), (0, ""), "{name}");
        assert!(fs::read(scene.standby.join(TARGET)).unwrap() == content, "{name}");
    }
    assert_eq!(names_in(&scene.standby.join("pg_wal")), ["RECOVERYXLOG"]);
}

#[test]
fn an_uncompressed_archived_segment_is_restored_too() {
    let (scene, _) = Scene::with_segment();
    let content = scene.primary.segment(NEXT_SEGMENT, 3);
    scene.push_with(&scene.primary, NEXT_SEGMENT, &["--compression", "none"]);
    assert!(scene.archived(NEXT_SEGMENT).ends_with(&content), "it is stored as it is");
    assert!(scene.restored(NEXT_SEGMENT) == content);
}

#[test]
fn an_archive_directory_may_have_any_name() {
    let (scene, content) = Scene::with_segment();
    for name in ["with space", "100%25#1?a=b", "\u{e9}\u{4e2d}'\"$HOME*"] {
        let archive = scene.sandbox.join(name);
        fs::rename(scene.archive.url(), &archive).unwrap();
        for (file, status) in [(SEGMENT, 0), (NEXT_SEGMENT, 1)] {
            let option = format!("--archive={}", archive.display());
            let mut restore = scene.recovery.run(scene.sandbox.walkeep_restore());
            restore.args([&option, file, TARGET]);
            assert_eq!(outcome_of(restore).status, status, "{name}");
        }
        assert!(fs::read(scene.recovery.join(TARGET)).unwrap() == content, "{name}");
        fs::rename(archive, scene.archive.url()).unwrap();
    }
}

#[test]
fn a_missing_file_is_absent_and_not_logged_on_a_standby() {
    let (scene, _) = Scene::with_segment();
    for server in [&scene.recovery, &scene.standby] {
        let beside_it = [NEXT_SEGMENT, PARTIAL];
        let where_nothing_was_ever_put = ["00000001000000AA00000001", HISTORY, BACKUP];
        for name in beside_it.into_iter().chain(where_nothing_was_ever_put) {
            // In recovery a missing segment matters, so it is logged.
            let leaves_a_line = name.len() == 24 && server.join("recovery.signal").exists();
            let Outcome { status, stderr } = outcome_of(scene.restore(server, name));
            assert_eq!((status, stderr.lines().count()), (1, usize::from(leaves_a_line)), "{stderr}");
            if leaves_a_line {
                assert!(stderr.starts_with("walkeep-restore: info: ") && stderr.contains(name), "{stderr}");
            }
            let Outcome { status, stderr } = outcome_of(scene.restore_with(&["-v"], server, name));
            let line = stderr.lines().last().unwrap();
            assert_eq!(status, 1, "{stderr}");
            assert!(line.starts_with("walkeep-restore: debug: ") && line.contains(name), "{stderr}");
            assert_eq!(names_in(&server.join("pg_wal")), [""; 0]);
        }
    }
}

#[test]
fn repeated_requests_get_the_same_answer() {
    let (scene, content) = Scene::with_segment();
    scene.primary.file(&format!("pg_wal/{HISTORY}"), "10\t0/6000000\tx\n");
    scene.push(&scene.primary, HISTORY);
    let before = [SEGMENT, HISTORY].map(|name| scene.archived(name));
    for _ in 0..2 {
        assert!(scene.restored(SEGMENT) == content);
        assert_eq!(outcome_of(scene.restore(&scene.recovery, NEXT_SEGMENT)).status, 1);
        assert_eq!(scene.restored(HISTORY), b"10\t0/6000000\tx\n");
    }
    assert!([SEGMENT, HISTORY].map(|name| scene.archived(name)) == before, "serving changes nothing");
}

#[test]
fn a_file_that_was_absent_is_found_once_it_has_arrived() {
    let (scene, _) = Scene::with_segment();
    assert_eq!(outcome_of(scene.restore(&scene.standby, NEXT_SEGMENT)).status, 1);
    let content = scene.primary.segment(NEXT_SEGMENT, 5);
    scene.push(&scene.primary, NEXT_SEGMENT);
    assert_eq!(outcome_of(scene.restore(&scene.standby, NEXT_SEGMENT)).status, 0);
    assert!(fs::read(scene.standby.join(TARGET)).unwrap() == content);
}

#[test]
fn a_partial_segment_is_never_served_as_the_segment_or_vice_versa() {
    let scene = Scene::new();
    let partial = scene.primary.segment(PARTIAL, 1);
    scene.push(&scene.primary, PARTIAL);
    assert_eq!(outcome_of(scene.restore(&scene.recovery, SEGMENT)).status, 1);
    assert!(scene.restored(PARTIAL) == partial);

    let segment = scene.primary.segment(SEGMENT, 0);
    scene.push(&scene.primary, SEGMENT);
    assert!(scene.restored(SEGMENT) == segment);
    fs::remove_file(scene.file(PARTIAL)).unwrap();
    assert_eq!(outcome_of(scene.restore(&scene.recovery, PARTIAL)).status, 1);
}

#[test]
fn only_a_standby_is_told_to_retry() {
    let (scene, _) = Scene::with_segment();
    damage(&scene, SEGMENT);
    let on = b"restore_command = 'walkeep-restore %f %p'\nstandby_mode = 'on'\n";
    let off = b"restore_command = 'walkeep-restore %f %p'\n#standby_mode = 'on'\n";
    let on_beside_latin_1 = b"standby_mode = 'on'\nprimary_conninfo = 'password=caf\xe9'\n";
    for (status, files) in [
        (255, &[][..]),
        (255, &[("recovery.signal", &b""[..])]),
        (75, &[("standby.signal", b"")]),
        (75, &[("standby.signal", b""), ("recovery.signal", b"")]),
        (75, &[("recovery.conf", on)]),
        (75, &[("recovery.conf", on_beside_latin_1)]),
        (255, &[("recovery.conf", off)]),
    ] {
        let server = DataDirectory::new(&scene.sandbox, "server", SYSTEM);
        for (name, content) in files {
            server.file(name, content);
        }
        if files.iter().any(|(name, _)| *name == "recovery.conf") {
            // Later versions refuse to start with such a file.
            server.file("PG_VERSION", "11\n");
        }
        let outcome = outcome_of(scene.restore(&server, SEGMENT));
        assert_eq!(outcome.status, status, "{files:?}: {}", outcome.stderr);
        fs::remove_dir_all(server.join("")).unwrap();
    }
}

#[test]
fn on_error_overrides_the_data_directory() {
    let (scene, content) = Scene::with_segment();
    let run = |server, option: &str, name| outcome_of(scene.restore_with(&[option], server, name)).status;
    for server in [&scene.recovery, &scene.standby, &scene.primary] {
        for option in ["--on-error=retry", "--on-error=stop"] {
            assert_eq!(run(server, option, NEXT_SEGMENT), 1, "absence is no error");
            assert_eq!(run(server, option, SEGMENT), 0);
            assert!(fs::read(server.join(TARGET)).unwrap() == content);
        }
    }
    damage(&scene, SEGMENT);
    for server in [&scene.recovery, &scene.standby, &scene.primary] {
        assert_eq!(run(server, "--on-error=retry", SEGMENT), 75);
        assert_eq!(run(server, "--on-error=stop", SEGMENT), 255);
    }
}

#[test]
fn a_wrong_call_is_never_taken_for_the_end_of_wal() {
    let (scene, _) = Scene::with_segment();
    for (arguments, words) in [
        (&[][..], "required arguments"),
        (&[SEGMENT], "<PATH>"),
        (&[SEGMENT, TARGET, "000000010000000000000000"], "unexpected argument"),
        (&["--retry", SEGMENT, TARGET], "--retry"),
        (&["--on-error", "promote", SEGMENT, TARGET], "promote"),
        (&["--system-identifier", "mine", SEGMENT, TARGET], "mine"),
        (&["--log-format", "xml", SEGMENT, TARGET], "xml"),
        (&["RECOVERYXLOG", TARGET], "not the name of a WAL file"),
        (&["00000001000000000000000a", TARGET], "not the name of a WAL file"),
        (&["", TARGET], "not the name of a WAL file"),
        (&[TARGET, SEGMENT], "not the name of a WAL file"),
        (&[TARGET, SEGMENT], "are %f and %p the wrong way round?"),
    ] {
        let call = |server: &DataDirectory| {
            let mut command = scene.command(server);
            command.args(arguments);
            command
        };
        scene.cannot_tell_when(&call, words);
    }
}

#[test]
fn a_wrong_setting_is_never_taken_for_the_end_of_wal() {
    let (scene, _) = Scene::with_segment();
    for (setting, value, words) in [
        ("WALKEEP_CONFIG", "/nowhere/walkeep.toml", "/nowhere/walkeep.toml"),
        ("WALKEEP_ARCHIVE", "archive", "absolute"),
        ("WALKEEP_ARCHIVE", "ftp://host/archive", "ftp"),
        ("WALKEEP_ARCHIVE", "", "archive"),
        ("WALKEEP_TIMEOUT", "soon", "WALKEEP_TIMEOUT has a value of the wrong form: it is not a time limit"),
        ("WALKEEP_LOG_FORMAT", "xml", "WALKEEP_LOG_FORMAT has a value of the wrong form: it must be one of"),
        ("HOME", "/", "no archive is configured"),
    ] {
        let call = |server: &DataDirectory| {
            let mut command = server.run(scene.sandbox.walkeep_restore());
            command.env(setting, value).args([SEGMENT, TARGET]);
            command
        };
        scene.cannot_tell_when(&call, words);
    }
}

#[test]
fn a_wrong_configuration_file_is_never_taken_for_the_end_of_wal() {
    let (scene, content) = Scene::with_segment();
    let file = scene.sandbox.file("walkeep.toml", "");
    let call = |server: &DataDirectory| {
        let mut command = server.run(scene.sandbox.walkeep_restore());
        command.arg("--config").arg(&file).args([SEGMENT, TARGET]);
        command
    };
    let right = format!("archive = '{}'\n", scene.archive.url());
    for (wrong, words) in [
        ("archives = '/a'\n", "archives"),
        ("timeout = 'soon'\n", "soon"),
        ("timeout = 30\n", "line 2"),
        ("compression = 'lz4'\n", "lz4"),
        ("[archive\n", "line 2"),
    ] {
        scene.sandbox.file("walkeep.toml", format!("{right}{wrong}"));
        scene.cannot_tell_when(&call, words);
    }
    scene.sandbox.file("walkeep.toml", b"archive = '\xff'");
    scene.cannot_tell_when(&call, "walkeep.toml");

    scene.sandbox.file("walkeep.toml", &right);
    assert_eq!(outcome_of(call(&scene.recovery)).status, 0, "and with a right one it works");
    assert!(fs::read(scene.recovery.join(TARGET)).unwrap() == content);
    fs::remove_file(scene.recovery.join(TARGET)).unwrap();

    let _unreadable = Permissions::set(&file, 0o000);
    scene.cannot_tell_when(&call, "Permission denied");
}

#[test]
fn verbose_adds_one_line_with_sizes_and_time() {
    let (scene, content) = Scene::with_segment();
    let Outcome { status, stderr } = outcome_of(scene.restore_with(&["-v"], &scene.recovery, SEGMENT));
    assert_eq!((status, stderr.lines().count()), (0, 1), "{stderr}");
    assert!(stderr.starts_with("walkeep-restore: debug: "), "{stderr}");
    let stored = scene.archived(SEGMENT).len();
    for fact in
        [SEGMENT.to_owned(), format!("size={}", content.len()), format!("stored={stored}"), "ms=".into()]
    {
        assert!(stderr.contains(&fact), "{fact}: {stderr}");
    }
}

#[test]
fn json_log_lines_are_valid() {
    let (scene, content) = Scene::with_segment();
    let run = |name: &str| {
        let restore = scene.restore_with(&["-v", "--log-format", "json"], &scene.recovery, name);
        let Outcome { status, stderr } = outcome_of(restore);
        let lines: Vec<serde_json::Value> =
            stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        (status, lines)
    };
    let (status, lines) = run(SEGMENT);
    assert_eq!((status, lines.len()), (0, 1), "{lines:?}");
    assert_eq!(lines[0]["level"], "DEBUG");
    assert_eq!(lines[0]["size"], content.len());
    assert!(lines[0]["ms"].is_u64() && lines[0]["stored"].is_u64(), "{lines:?}");
    assert_eq!(run(NEXT_SEGMENT).0, 1);

    scene.archive.vanish();
    let (status, lines) = run(SEGMENT);
    let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!((status, levels), (255, vec!["WARN", "ERROR"]), "{lines:?}");
}

#[test]
fn a_log_that_cannot_be_written_changes_no_answer() {
    let (scene, content) = Scene::with_segment();
    scene.primary.segment(NEXT_SEGMENT, 2);
    scene.push(&scene.primary, NEXT_SEGMENT);
    damage(&scene, NEXT_SEGMENT);
    let absent = "000000010000000000000003";
    let run = |server: &DataDirectory, name: &str, redirection: &str| {
        let restore = scene.restore_with(&["-v"], server, name);
        outcome_of(in_shell(&scene.sandbox, &format!("exec \"$@\" {redirection}"), &restore)).status
    };
    for redirection in ["2>&-", "2>/dev/full", "<&- >&- 2>&-", ">/dev/full 2>&1"] {
        for (server, cannot_tell) in [(&scene.recovery, 255), (&scene.standby, 75)] {
            assert_eq!(run(server, absent, redirection), 1, "{redirection}");
            assert_eq!(run(server, NEXT_SEGMENT, redirection), cannot_tell, "{redirection}");
            assert_eq!(run(server, "bad name", redirection), cannot_tell, "{redirection}");
            assert_eq!(run(server, SEGMENT, redirection), 0, "{redirection}");
            assert!(fs::read(server.join(TARGET)).unwrap() == content, "{redirection}");
        }
    }
}

#[test]
fn a_closed_log_changes_no_answer() {
    let (scene, content) = Scene::with_segment();
    let run = |name: &str| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut restore = scene.restore(&scene.standby, name);
        restore.arg("-v").stderr(writer).status().unwrap().code()
    };
    assert_eq!(run(NEXT_SEGMENT), Some(1));
    assert_eq!(run(SEGMENT), Some(0));
    assert!(fs::read(scene.standby.join(TARGET)).unwrap() == content);
    scene.archive.vanish();
    assert_eq!(run(SEGMENT), Some(75));
}

#[test]
fn concurrent_restores_do_not_disturb_each_other() {
    let (scene, content) = Scene::with_segment();
    // An orphaned command of a crashed server may still run next to that of the new one.
    let calls: Vec<_> = (0..8).map(|_| Running::start(scene.restore(&scene.recovery, SEGMENT))).collect();
    for call in calls {
        assert_eq!(call.end().status, 0);
    }
    assert!(fs::read(scene.recovery.join(TARGET)).unwrap() == content);
    assert_eq!(names_in(&scene.recovery.join("pg_wal")), ["RECOVERYXLOG"]);
}
