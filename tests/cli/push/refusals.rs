//! `walkeep-archive`: what it refuses, fails at or gives up, and what it leaves. Exit statuses 1, 2 and 4.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use support::{
    data_directory::{SEGMENT, SEGMENT_BYTES, segment},
    files::{Permissions, make_fifo},
    push::{
        BACKUP, BACKUP_CONTENT, HISTORY, HISTORY_CONTENT, OTHER_SYSTEM, Pusher, SEGMENT_KEY, SYSTEM, fails,
        pusher_with_archived_segment, succeeds,
    },
    running::Running,
    strace::{end_of_hanging, hanging_at},
    user,
    wrapper::in_shell,
};

// Exit status 4: not an acceptable WAL file.

/// Returns a segment with other bytes at `at`.
fn segment_with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut content = segment(SEGMENT, SYSTEM, SEGMENT_BYTES, 0);
    content[at..at + bytes.len()].copy_from_slice(bytes);
    content
}

#[test]
fn a_segment_that_contradicts_its_name_or_cluster_is_refused() {
    let sound = segment_with(0, &[]);
    let cases = [
        ("empty", Vec::new(), "bytes"),
        ("shorter than a header", sound[..39].to_vec(), "39 bytes"),
        ("a header alone", sound[..40].to_vec(), "it has 40 bytes"),
        ("short", sound[..SEGMENT_BYTES - 1].to_vec(), "it has 1048575 bytes"),
        ("long", [&sound[..], &[0]].concat(), "it has 1048577 bytes"),
        ("twice as long", [&sound[..], &sound].concat(), "it has 2097152 bytes"),
        ("zeros", vec![0; SEGMENT_BYTES], "does not begin with a WAL page header"),
        ("text", b"<html>".repeat(SEGMENT_BYTES / 6), "does not begin with a WAL page header"),
        ("wrong magic", segment_with(0, &0x10D1u16.to_ne_bytes()), "does not begin with a WAL page header"),
        ("short page header", segment_with(2, &0u16.to_ne_bytes()), "does not begin with a WAL page header"),
        ("timeline 0", segment_with(4, &0u32.to_ne_bytes()), "timeline"),
        ("a later timeline", segment_with(4, &2u32.to_ne_bytes()), "timeline 2"),
        ("another position", segment_with(8, &0x20_0000u64.to_ne_bytes()), "0/200000"),
        ("another system", segment_with(24, &OTHER_SYSTEM.to_ne_bytes()), "7381092445103374872"),
        ("system 0", segment_with(24, &0u64.to_ne_bytes()), "system identifier"),
        ("impossible segment size", segment_with(32, &(3u32 << 20).to_ne_bytes()), "segment size"),
        ("another segment size", segment_with(32, &(2u32 << 20).to_ne_bytes()), "have 2097152"),
        ("impossible page size", segment_with(36, &0u32.to_ne_bytes()), "page size"),
        ("walkeep's own file", b"\x57\x2a\x4d\x18".repeat(SEGMENT_BYTES / 4), "WAL page header"),
    ];
    for (what, content, why) in cases {
        for name in [SEGMENT.to_owned(), format!("{SEGMENT}.partial")] {
            let pusher = Pusher::new();
            let path = format!("pg_wal/{name}");
            pusher.data.file(&path, &content);
            let error = fails(4, pusher.push(&name), &[&path, "is not an acceptable WAL file"]);
            assert!(error.contains(why), "{what}: {error}");
            assert_eq!(pusher.files(), [""; 0], "{what}");
        }
    }
}

#[test]
fn a_segment_under_the_name_of_another_is_refused() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    for name in ["000000010000000000000002", "000000010000000100000001", "000000010000000000001001"] {
        let mut push = pusher.push(SEGMENT);
        push.arg(name);
        fails(4, push, &[SEGMENT, name, "0/100000"]);
    }
    let later = "000000020000000000000001";
    pusher.data.segment(later, 0);
    let mut push = pusher.push(later);
    push.arg(SEGMENT);
    fails(4, push, &[later, "timeline 2"]);
    assert_eq!(pusher.files(), [""; 0]);
}

#[test]
fn malformed_text_files_are_refused() {
    let other_segment = BACKUP_CONTENT.replace("000000010000000000000001", "000000010000000000000002");
    let cases = [
        (HISTORY, String::new(), "names no parent timeline"),
        (HISTORY, "# a comment\n\n".to_owned(), "names no parent timeline"),
        (HISTORY, "<html>404 not found</html>".to_owned(), "line 1"),
        (HISTORY, "1\t0/200000\tx\nA\t0/300000\tx\n".to_owned(), "line 2"),
        (HISTORY, "2\t0/200000\tx\n".to_owned(), "out of order"),
        (HISTORY, HISTORY_CONTENT.repeat(2), "out of order"),
        (HISTORY, format!("{HISTORY_CONTENT}{}", "#\n".repeat(1 << 19)), "more than 1048576 bytes"),
        (BACKUP, String::new(), "START WAL LOCATION"),
        (BACKUP, HISTORY_CONTENT.to_owned(), "START WAL LOCATION"),
        (BACKUP, BACKUP_CONTENT[..20].to_owned(), "START WAL LOCATION"),
        (BACKUP, BACKUP_CONTENT.replace("STOP WAL LOCATION: 0", "STOP WAL LOCATION: "), "STOP WAL LOCATION"),
        (BACKUP, other_segment, "000000010000000000000002"),
    ];
    for (name, content, why) in cases {
        let pusher = Pusher::new();
        let path = format!("pg_wal/{name}");
        pusher.data.file(&path, &content);
        fails(4, pusher.push(name), &[&path, "is not an acceptable WAL file", why]);
        assert_eq!(pusher.files(), [""; 0], "{why}");
    }
}

#[test]
fn other_than_regular_files_are_refused_without_waiting() {
    for name in [SEGMENT, HISTORY] {
        let pusher = Pusher::new();
        let path = pusher.data.join(&format!("pg_wal/{name}"));
        fs::create_dir(&path).unwrap();
        fails(4, pusher.push(name), &[name, "not a regular file"]);
        fs::remove_dir(&path).unwrap();
        make_fifo(&path);
        fails(4, pusher.push(name), &[name, "not a regular file"]);
        assert_eq!(pusher.files(), [""; 0]);
    }
}

#[test]
fn names_of_other_files_are_refused() {
    let pusher = Pusher::new();
    let content = pusher.data.segment(SEGMENT, 0);
    let names = [
        "",
        ".",
        "..",
        "RECOVERYXLOG",
        "00000001000000000000000",
        "0000000100000000000000010",
        "00000001000000000000000a",
        "000000000000000000000001",
        "000000010000000000000001.gz",
        "000000010000000000000001.partial.partial",
        "000000010000000000000001.28.backup",
        "00000002.History",
        "../000000010000000000000001",
        "000000010000000000000001\n",
        "\u{e9}",
    ];
    for name in names {
        let mut push = pusher.push(SEGMENT);
        push.arg(name);
        fails(4, push, &["is not the name of a WAL file"]);
    }
    // The last part of %p, without %f.
    for name in ["000000010000000000000001.tmp", "archive_status"] {
        pusher.data.file(&format!("pg_wal/{name}"), &content);
        fails(4, pusher.push(name), &[name, "is not the name of a WAL file"]);
    }
    fails(4, pusher.push(".."), &["is not the name of a WAL file"]);
    let mut push = pusher.push(SEGMENT);
    push.arg::<&std::ffi::OsStr>(std::os::unix::ffi::OsStrExt::from_bytes(b"\xff"));
    fails(4, push, &["is not the name of a WAL file"]);
    assert_eq!(pusher.files(), [""; 0]);
}

// Exit status 2: wrong usage or configuration.

#[test]
fn wrong_usage_is_reported_in_one_line() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let path = format!("pg_wal/{SEGMENT}");
    let archive = pusher.archive.url();
    let cases: [(&[&str], &str); 16] = [
        (&["--archive", archive], "PATH"),
        (&["--archive", archive, "--no-such-option", &path], "--no-such-option"),
        (&["--archive", archive, &path, SEGMENT, "third"], "third"),
        (&[&path, "--archive"], "--archive"),
        (&["--archive", archive, "--compression", "lz4", &path], "lz4"),
        (&["--archive", archive, "--compression-level", "20", &path], "20"),
        (&["--archive", archive, "--compression-level", "-8", &path], "-8"),
        (&["--archive", archive, "--compression-level", "best", &path], "best"),
        (&["--archive", archive, "--timeout", "soon", &path], "soon"),
        (&["--archive", archive, "--timeout", "0s", &path], "0s"),
        (&["--archive", archive, "--log-format", "xml", &path], "xml"),
        (&["--archive", archive, "--system-identifier", "0", &path], "system"),
        (&["--archive", "", &path], "a value is required for '--archive"),
        (&["--archive", "archive", &path], "absolute"),
        (&["--archive", &format!("{archive}/../archive"), &path], ".."),
        (&["--archive", "ftp://host/prefix", &path], "ftp"),
    ];
    for (arguments, word) in cases {
        let mut push = pusher.program();
        push.args(arguments);
        fails(2, push, &[word]);
    }
    assert_eq!(pusher.files(), [""; 0]);
}

#[test]
fn a_wrong_environment_is_wrong_usage() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    // A value may be a secret that was meant for another variable.
    for (variable, value, named) in [
        ("WALKEEP_COMPRESSION", "lz4", "WALKEEP_COMPRESSION"),
        ("WALKEEP_COMPRESSION_LEVEL", "20", "level 20"),
        ("WALKEEP_TIMEOUT", "soon", "WALKEEP_TIMEOUT"),
        ("WALKEEP_LOG_FORMAT", "xml", "WALKEEP_LOG_FORMAT"),
        ("WALKEEP_CONFIG", "/nowhere/walkeep.toml", "/nowhere/walkeep.toml"),
    ] {
        let mut push = pusher.push(SEGMENT);
        push.env(variable, value);
        fails(2, push, &[named]);
    }
    assert_eq!(pusher.files(), [""; 0]);
}

#[test]
fn a_wrong_configuration_file_is_named() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let push_with = |text: &str| {
        let config = pusher.sandbox.file("walkeep.toml", text);
        let mut push = pusher.program();
        push.arg("--config").arg(config).arg(format!("pg_wal/{SEGMENT}"));
        push
    };
    let archive = format!("archive = '{}'", pusher.archive.url());
    for line in ["compresion = 'none'", "compression = 'lz4'", "timeout = 30", "require_mount = 'yes'", "}"] {
        fails(2, push_with(&format!("{archive}\n{line}\n")), &["walkeep.toml, line 2"]);
    }
    fails(2, push_with("archive = 'archive'"), &["absolute"]);
    fails(2, push_with(&format!("{archive}\ncompression_level = 20")), &["20"]);
    fails(2, push_with("# nothing"), &["no archive is configured", "--archive", "WALKEEP_ARCHIVE"]);
    let push = push_with(&archive);
    {
        let _unreadable = Permissions::set(&pusher.sandbox.join("walkeep.toml"), 0o000);
        fails(2, push, &["walkeep.toml", "Permission denied"]);
    }
    assert_eq!(pusher.files(), [""; 0]);
    succeeds(push_with(&archive));
}

#[test]
fn without_a_data_directory_a_text_file_needs_the_system_identifier_and_a_segment_does_not() {
    let pusher = Pusher::new();
    pusher.sandbox.directory("loose");
    pusher.sandbox.file(format!("loose/{HISTORY}"), HISTORY_CONTENT);
    let content = segment(SEGMENT, SYSTEM, SEGMENT_BYTES, 0);
    pusher.sandbox.file(format!("loose/{SEGMENT}"), &content);
    let push = |name: &str, options: &[&str]| {
        let mut push = pusher.sandbox.walkeep_archive();
        push.args(["--archive", pusher.archive.url()]).args(options).arg(format!("loose/{name}"));
        push
    };
    fails(2, push(HISTORY, &[]), &["cannot tell which cluster", HISTORY, "--system-identifier"]);
    fails(4, push(SEGMENT, &["--system-identifier", "7"]), &["not to system 7"]);
    assert_eq!(pusher.files(), [""; 0]);
    succeeds(push(HISTORY, &["--system-identifier", &SYSTEM.to_string()]));
    succeeds(push(SEGMENT, &[]));
    assert_eq!(pusher.original(HISTORY), HISTORY_CONTENT.as_bytes());
    assert!(pusher.original(SEGMENT) == content);
}

#[test]
fn a_system_identifier_that_contradicts_the_data_directory_is_refused() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    for name in [SEGMENT, HISTORY] {
        let push = pusher.push_with(&["--system-identifier", "7"], name);
        fails(2, push, &["7381092445103374871", "not of 7"]);
    }
    assert_eq!(pusher.files(), [""; 0]);
}

#[test]
fn the_data_directory_is_found_from_anywhere_and_through_a_linked_pg_wal() {
    let pusher = Pusher::new();
    let wal = pusher.sandbox.join("wal");
    fs::rename(pusher.data.join("pg_wal"), &wal).unwrap();
    std::os::unix::fs::symlink(&wal, pusher.data.join("pg_wal")).unwrap();
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    let mut push = pusher.sandbox.walkeep_archive();
    push.args(["--archive", pusher.archive.url()]).arg(pusher.data.join(&format!("pg_wal/{HISTORY}")));
    push.current_dir("/");
    succeeds(push);
    succeeds(pusher.push(HISTORY));
    assert_eq!(pusher.files(), ["7381092445103374871/timelines/00000002.history"]);
}

// Exit status 1: failed; a retry may help.

#[test]
fn an_unreadable_file_is_a_failure() {
    let pusher = Pusher::new();
    for (name, content) in [(SEGMENT, segment_with(0, &[])), (HISTORY, HISTORY_CONTENT.into())] {
        let path = pusher.data.file(&format!("pg_wal/{name}"), content);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        fails(1, pusher.push(name), &["cannot read", name, "Permission denied"]);
        fs::remove_file(&path).unwrap();
        fails(1, pusher.push(name), &["cannot read", name, "No such file"]);
    }
    assert_eq!(pusher.files(), [""; 0]);
}

#[test]
fn an_unreadable_control_file_is_a_failure() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    let control = pusher.data.join("global/pg_control");
    for name in [SEGMENT, HISTORY] {
        let _unreadable = Permissions::set(&control, 0o000);
        fails(1, pusher.push(name), &["cannot read", "global/pg_control", "Permission denied"]);
    }
    pusher.data.file("global/pg_control", [0; 7]);
    fails(1, pusher.push(SEGMENT), &["cannot read", "global/pg_control", "7 bytes"]);
    assert_eq!(pusher.files(), [""; 0]);
}

#[test]
fn a_missing_archive_directory_is_not_created() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    pusher.archive.vanish();
    fails(1, pusher.push(SEGMENT), &[pusher.archive.url(), "does not exist", "mount it"]);
    assert!(!Path::new(pusher.archive.url()).exists());
    pusher.archive.come_back();
    succeeds(pusher.push(SEGMENT));
}

#[test]
fn an_archive_that_is_no_directory_is_a_failure() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let file = pusher.sandbox.file("file", "mine");
    let mut push = pusher.program();
    push.arg("--archive").arg(&file).arg(format!("pg_wal/{SEGMENT}"));
    fails(1, push, &[file.to_str().unwrap(), "is not a directory"]);
    assert_eq!(fs::read(file).unwrap(), b"mine");
}

#[test]
fn an_archive_without_write_permission_is_a_failure_with_a_hint() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let hint = "may not write in";
    {
        let _read_only = Permissions::set(Path::new(pusher.archive.url()), 0o555);
        fails(
            2,
            pusher.push(SEGMENT),
            &[SEGMENT, pusher.archive.url(), "Permission denied", hint, "chmod u+rwX"],
        );
    }
    assert_eq!(pusher.files(), [""; 0]);
    succeeds(pusher.push(SEGMENT));
    // An existing directory.
    let next = "000000010000000000000002";
    pusher.data.segment(next, 0);
    {
        let _read_only = Permissions::set(pusher.file(SEGMENT).parent().unwrap(), 0o555);
        fails(2, pusher.push(next), &[next, pusher.archive.url(), "Permission denied", hint]);
    }
    assert_eq!(pusher.files(), [SEGMENT_KEY]);
    succeeds(pusher.push(next));
}

#[test]
fn an_archived_file_that_cannot_be_compared_is_a_failure() {
    let (pusher, _) = pusher_with_archived_segment();
    {
        let _unreadable = Permissions::set(&pusher.file(SEGMENT), 0o000);
        fails(1, pusher.push(SEGMENT), &[SEGMENT, pusher.archive.url(), "Permission denied"]);
    }
    assert_eq!(pusher.files(), [SEGMENT_KEY]);
    succeeds(pusher.push(SEGMENT));
}

#[test]
fn a_foreign_file_in_the_archives_layout_is_named_and_left() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let key = pusher.file(SEGMENT);
    fs::create_dir_all(&key).unwrap();
    for directory in key.ancestors().take_while(|path| *path != Path::new(pusher.archive.url())) {
        user::hand_over(directory);
    }
    fails(3, pusher.push(SEGMENT), &[key.to_str().unwrap(), "it is a directory", "move"]);
    fs::remove_dir(&key).unwrap();
    std::os::unix::fs::symlink("/nowhere", &key).unwrap();
    fails(1, pusher.push(SEGMENT), &[key.to_str().unwrap(), "leads nowhere"]);
    assert_eq!(fs::read_link(&key).unwrap(), Path::new("/nowhere"));
    fs::remove_file(&key).unwrap();
    let group = key.parent().unwrap();
    fs::remove_dir(group).unwrap();
    fs::write(group, "mine").unwrap();
    fails(1, pusher.push(SEGMENT), &[SEGMENT, pusher.archive.url(), "Not a directory"]);
    assert_eq!(fs::read(group).unwrap(), b"mine");
}

#[test]
fn an_archive_that_is_not_the_required_mount_point_is_a_failure() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let config = pusher.sandbox.file("walkeep.toml", "require_mount = true");
    let mut push = pusher.push(SEGMENT);
    push.env("WALKEEP_CONFIG", config);
    fails(1, push, &[pusher.archive.url(), "is not a mount point", "require_mount"]);
    assert_eq!(pusher.files(), [""; 0]);
}

/// A push that hangs in the archive, when it looks for the segment's name.
struct Hanging {
    pusher: Pusher,
}

impl Hanging {
    fn new() -> Self {
        Self { pusher: pusher_with_archived_segment().0 }
    }

    fn push(&self, options: &[&str]) -> Command {
        let push = self.pusher.push_with(options, SEGMENT);
        hanging_at(&self.pusher.file(SEGMENT), &self.pusher.sandbox, &push)
    }

    /// Starts the command, and returns once it is about to look.
    fn start(&self, command: Command) -> Running {
        let running = Running::start(command);
        running.wait_until_it_heeds_signals();
        assert_eq!(self.pusher.files(), [SEGMENT_KEY], "the name is looked at before anything is written");
        running
    }

    /// Asserts that the push has ended with status 1 and a message with `word`, and has left nothing.
    fn assert_failed(&self, running: Running, word: &str) {
        let outcome = end_of_hanging(running);
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        let line = outcome.stderr.strip_prefix("walkeep-archive: error: ").unwrap();
        assert!(line.contains(word) && line.lines().count() == 1, "{line}");
        assert_eq!(self.pusher.files(), [SEGMENT_KEY]);
    }
}

/// Much less than the push would otherwise take.
const PROMPTLY: Duration = Duration::from_secs(20);

#[test]
fn an_archive_that_never_answers_is_abandoned_at_the_time_limit() {
    let hanging = Hanging::new();
    let started = Instant::now();
    let running = hanging.start(hanging.push(&["--timeout", "2s"]));
    hanging.assert_failed(running, "gave up after 2s, the time limit");
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took < PROMPTLY, "{took:?}");
}

#[test]
fn a_signal_ends_a_hanging_push() {
    let signals = [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT"), (Signal::QUIT, "SIGQUIT")];
    // The server ignores SIGINT and others in the commands that it runs.
    let scripts = ["exec \"$@\"", "trap '' INT QUIT TERM ALRM PIPE; exec \"$@\""];
    let calls = scripts.iter().flat_map(|script| signals.map(|signal| (script, signal)));
    let hanging = calls.map(|(script, (signal, name))| {
        let hanging = Hanging::new();
        let push = hanging.push(&["--timeout", "5m"]);
        let running = hanging.start(in_shell(&hanging.pusher.sandbox, script, &push));
        (hanging, running, signal, name)
    });
    let hanging: Vec<_> = hanging.collect();
    let signalled = Instant::now();
    for (_, running, signal, _) in &hanging {
        running.signal(*signal);
    }
    for (hanging, running, _, name) in hanging {
        hanging.assert_failed(running, name);
    }
    assert!(signalled.elapsed() < PROMPTLY);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let pusher = Pusher::new();
    for (option, word) in [("--version", env!("CARGO_PKG_VERSION")), ("--help", "archive_command")] {
        let output = pusher.program().arg(option).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{option}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(word), "{option}");
    }
}
