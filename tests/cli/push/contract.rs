//! `walkeep-archive`: what it archives, and what it never replaces. Exit statuses 0 and 3.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use serde_json::Value;
use support::{
    data_directory::{DataDirectory, SEGMENT, SEGMENT_BYTES, segment},
    forged::resealed,
    push::{
        BACKUP, BACKUP_CONTENT, HISTORY, HISTORY_CONTENT, OTHER_SYSTEM, Pusher, SEGMENT_KEY, SYSTEM, fails,
        pusher_with_archived_segment, succeeds,
    },
    running::outcome_of,
    wrapper::in_shell,
};

/// Creates a data directory with a file of each kind; returns their names and contents.
fn pusher_with_all_kinds() -> (Pusher, [(&'static str, Vec<u8>); 4]) {
    const PARTIAL: &str = "000000010000000000000002.partial";
    let pusher = Pusher::new();
    let files = [
        (SEGMENT, pusher.data.segment(SEGMENT, 0)),
        (PARTIAL, pusher.data.segment(PARTIAL, 0)),
        (HISTORY, HISTORY_CONTENT.into()),
        (BACKUP, BACKUP_CONTENT.into()),
    ];
    for (name, content) in &files {
        pusher.data.file(&format!("pg_wal/{name}"), content);
    }
    (pusher, files)
}

/// Returns the JSON in an archived file's header.
fn header(stored: &[u8]) -> Value {
    serde_json::from_slice(&stored[8..1024 - 66]).unwrap()
}

// Exit status 0: archived durably, or already archived with the same content.

#[test]
fn variables_of_other_programs_do_not_stop_the_archiving() {
    let (pusher, _) = pusher_with_all_kinds();
    for name in ["WALKEEPER_CONNECTIONS", "WALKEEP2_ARCHIVE", "WALKEEPS_CONFIG", "WALKEEP_REGION"] {
        let mut push = pusher.push(SEGMENT);
        let output = push.env(name, "5").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let warns = said.contains("unknown variable WALKEEP_REGION; did you mean WALKEEP_STORE_REGION?");
        assert_eq!((warns, said.is_empty()), (name == "WALKEEP_REGION", name != "WALKEEP_REGION"), "{said}");
    }
}

#[test]
fn all_four_kinds_are_archived_silently_under_their_keys_and_restored() {
    let (pusher, files) = pusher_with_all_kinds();
    for (name, content) in &files {
        let output = pusher.push(name).output().unwrap();
        assert_eq!((output.status.code(), output.stdout, output.stderr), (Some(0), vec![], vec![]), "{name}");
        assert!(pusher.original(name) == *content, "{name}");
    }
    let keys = [
        "7381092445103374871/backups/000000010000000000000001.00000028.backup",
        "7381092445103374871/timelines/00000002.history",
        SEGMENT_KEY,
        "7381092445103374871/wal/0000000100000000/000000010000000000000002.partial",
    ];
    assert_eq!(pusher.files(), keys);
}

#[test]
fn an_identical_resend_succeeds_and_leaves_the_archives_file_alone() {
    let (pusher, files) = pusher_with_all_kinds();
    for (name, _) in &files {
        succeeds(pusher.push(name));
        let before = (pusher.stored(name), fs::metadata(pusher.file(name)).unwrap());
        // The compression does not matter.
        succeeds(pusher.push_with(&["--compression", "none"], name));
        succeeds(pusher.push(name));
        let after = (pusher.stored(name), fs::metadata(pusher.file(name)).unwrap());
        assert!(before.0 == after.0, "{name}");
        assert_eq!((before.1.ino(), before.1.modified().ok()), (after.1.ino(), after.1.modified().ok()));
    }
    assert_eq!(pusher.files().len(), files.len());
}

#[test]
fn segments_of_1_mb_and_of_64_mb_are_archived() {
    for megabytes in [1, 64] {
        let pusher = Pusher::new();
        let content = segment(SEGMENT, SYSTEM, megabytes << 20, 0);
        pusher.data.file(&format!("pg_wal/{SEGMENT}"), &content);
        succeeds(pusher.push(SEGMENT));
        assert!(pusher.original(SEGMENT) == content, "{megabytes} MB");
    }
}

#[test]
fn wal_of_a_newer_server_is_archived_and_mentioned_in_the_debug_log() {
    let pusher = Pusher::new();
    let mut content = pusher.data.segment(SEGMENT, 0);
    content[..2].copy_from_slice(&0xD2FFu16.to_ne_bytes());
    pusher.data.file(&format!("pg_wal/{SEGMENT}"), &content);
    let outcome = outcome_of(pusher.push_with(&["-v"], SEGMENT));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let mentions = |line: &str| {
        line.starts_with("walkeep-archive: debug: ") && line.contains("newer") && line.contains("D2FF")
    };
    assert!(outcome.stderr.lines().any(mentions), "{}", outcome.stderr);
    assert!(pusher.original(SEGMENT) == content);
    succeeds(pusher.push(SEGMENT));
}

#[test]
fn the_first_segment_of_a_timeline_may_start_with_pages_of_its_parent() {
    let pusher = Pusher::new();
    let child = "000000020000000000000001";
    pusher.data.file(&format!("pg_wal/{child}"), segment(SEGMENT, SYSTEM, SEGMENT_BYTES, 0));
    succeeds(pusher.push(child));
}

#[test]
fn the_name_may_differ_from_the_last_part_of_the_path() {
    let pusher = Pusher::new();
    let content = pusher.data.segment(SEGMENT, 0);
    pusher.data.file("pg_wal/copy", &content);
    let mut push = pusher.push("copy");
    push.arg(SEGMENT);
    succeeds(push);
    assert!(pusher.original(SEGMENT) == content);
}

#[test]
fn flags_take_precedence_over_the_environment_and_that_over_the_file() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let [flag, variable, file] = ["flag", "variable", "file"].map(|name| pusher.sandbox.directory(name));
    // The configuration contains a URL; other tests give a path.
    let text = format!("archive = 'file://{}'\ncompression = 'none'", file.display());
    let config = pusher.sandbox.file("walkeep.toml", text);
    let codec_in = |directory: &Path| {
        fs::read(directory.join(SEGMENT_KEY)).map(|stored| header(&stored)["codec"].to_string()).ok()
    };

    let mut push = pusher.program();
    push.env("WALKEEP_CONFIG", &config).arg(format!("pg_wal/{SEGMENT}"));
    succeeds(push);
    assert_eq!(codec_in(&file).as_deref(), Some("\"none\""));

    let mut push = pusher.program();
    push.env("WALKEEP_CONFIG", "/nowhere").env("WALKEEP_ARCHIVE", &variable);
    push.env("WALKEEP_COMPRESSION", "zstd").arg("--config").arg(&config).arg(format!("pg_wal/{SEGMENT}"));
    succeeds(push);
    assert_eq!(codec_in(&variable).as_deref(), Some("\"zstd\""));

    let mut push = pusher.program();
    push.env("WALKEEP_ARCHIVE", &variable).env("WALKEEP_COMPRESSION", "zstd").arg("--archive").arg(&flag);
    push.args(["--compression=none", &format!("pg_wal/{SEGMENT}")]);
    succeeds(push);
    assert_eq!(codec_in(&flag).as_deref(), Some("\"none\""));
    assert_eq!(pusher.files(), [""; 0]);
}

#[test]
fn every_codec_can_be_decompressed_without_walkeep() {
    let pusher = Pusher::new();
    let content = pusher.data.segment(SEGMENT, 0);
    let stored_with = |options: &[&str]| {
        succeeds(pusher.push_with(options, SEGMENT));
        let stored = pusher.stored(SEGMENT);
        let zstd = Command::new("zstd").arg("-dc").stdin(File::open(pusher.file(SEGMENT)).unwrap()).output();
        assert!(pusher.original(SEGMENT) == content, "{options:?}");
        fs::remove_file(pusher.file(SEGMENT)).unwrap();
        (stored, zstd.expect("this test needs zstd: apt-get install zstd").stdout)
    };
    let mut lengths = Vec::new();
    for level in ["-7", "1", "19"] {
        let (stored, original) = stored_with(&["--compression-level", level]);
        assert!(original == content, "level {level}");
        lengths.push(stored.len());
    }
    assert!(
        lengths[0] > lengths[1] && lengths[1] != lengths[2],
        "the level makes no difference: {lengths:?}"
    );
    let (stored, _) = stored_with(&["--compression", "none"]);
    assert!(stored[1024..] == content);
}

#[test]
fn others_get_no_access_and_the_group_only_if_the_cluster_allows_it() {
    for (umask, of_files, of_directories) in
        [("022", 0o600, 0o700), ("077", 0o600, 0o700), ("027", 0o640, 0o750)]
    {
        let (pusher, files) = pusher_with_all_kinds();
        for (name, _) in &files {
            succeeds(in_shell(&pusher.sandbox, &format!("umask {umask}; exec \"$@\""), &pusher.push(name)));
            let file = pusher.file(name);
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode(&file), of_files, "{name} with umask {umask}");
            let above = file.ancestors().skip(1).take_while(|path| *path != Path::new(pusher.archive.url()));
            for directory in above {
                assert_eq!(mode(directory), of_directories, "{} with umask {umask}", directory.display());
            }
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_changes_no_exit_status() {
    for script in ["exec \"$@\" 2>/dev/full", "exec \"$@\" 2>&-", "exec \"$@\" <&- >&- 2>&-"] {
        let (pusher, content) = pusher_with_archived_segment();
        let run = |command: &Command| outcome_of(in_shell(&pusher.sandbox, script, command)).status;
        fs::remove_file(pusher.file(SEGMENT)).unwrap();
        for format in ["text", "json"] {
            // A new file, then an existing one.
            let push = pusher.push_with(&["-v", "--log-format", format], SEGMENT);
            assert_eq!(run(&push), 0, "{script}");
        }
        assert!(pusher.original(SEGMENT) == content, "{script}");
        assert_eq!(run(&pusher.push("000000010000000000000009")), 1, "{script}");
        assert_eq!(run(&pusher.push_with(&["--no-such-option"], SEGMENT)), 2, "{script}");
        pusher.data.segment(SEGMENT, 1);
        assert_eq!(run(&pusher.push(SEGMENT)), 3, "{script}");
        pusher.data.file("pg_wal/00000003.history", "");
        assert_eq!(run(&pusher.push("00000003.history")), 4, "{script}");
    }
}

#[test]
fn verbose_logs_one_line_per_file_with_sizes_and_time() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    for what in ["archived", "already archived"] {
        let outcome = outcome_of(pusher.push_with(&["-v"], SEGMENT));
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        let line = outcome.stderr.strip_suffix('\n').unwrap();
        let rest = line
            .strip_prefix(&format!("walkeep-archive: debug: {what} "))
            .unwrap_or_else(|| panic!("{line}"));
        let stored = pusher.stored(SEGMENT).len();
        let facts = format!("name={SEGMENT} size={SEGMENT_BYTES} stored={stored} ms=");
        let milliseconds = rest.strip_prefix(&facts).unwrap_or_else(|| panic!("{line}"));
        assert!(milliseconds.parse::<u32>().is_ok(), "{line}");
    }
}

#[test]
fn a_json_log_has_one_object_per_line() {
    let (pusher, _) = pusher_with_archived_segment();
    let one_object = |command: Command, status: i32, level: &str| {
        let outcome = outcome_of(command);
        assert_eq!(outcome.status, status, "{}", outcome.stderr);
        let object: Value = serde_json::from_str(outcome.stderr.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(object["level"], level, "{object}");
        object
    };
    let line = one_object(pusher.push_with(&["-v", "--log-format=json"], SEGMENT), 0, "DEBUG");
    assert_eq!((&line["name"], &line["size"]), (&SEGMENT.into(), &SEGMENT_BYTES.into()), "{line}");
    let mut push = pusher.push(SEGMENT);
    push.env("WALKEEP_LOG_FORMAT", "json").arg("not-a-name");
    let line = one_object(push, 4, "ERROR");
    assert!(line["message"].as_str().is_some_and(|text| text.contains("not-a-name")), "{line}");
    let config = pusher.sandbox.file("walkeep.toml", "log_format = 'json'");
    let mut push = pusher.push("missing");
    push.arg(SEGMENT).arg("--config").arg(config);
    one_object(push, 1, "ERROR");
    one_object(pusher.push_with(&["--log-format=json", "--compression-level=20"], SEGMENT), 2, "ERROR");
}

// Exit status 3: the archive has different content under this name.

#[test]
fn push_never_overwrites_different_content() {
    let (pusher, files) = pusher_with_all_kinds();
    for (name, content) in &files {
        succeeds(pusher.push(name));
        let stored = pusher.stored(name);
        // Both `.partial` files are kept.
        if name.ends_with(".partial") {
            continue;
        }
        let ours = format!("pg_wal/{name}");
        let mut different = content.clone();
        *different.last_mut().unwrap() ^= 1;
        pusher.data.file(&ours, &different);
        let theirs = pusher.file(name);
        fails(3, pusher.push(name), &[name, "different content", &ours, theirs.to_str().unwrap()]);
        assert!(pusher.stored(name) == stored && pusher.original(name) == *content, "{name}");
    }
    assert_eq!(pusher.files().len(), files.len());
}

#[test]
fn a_second_promotion_to_the_same_timeline_is_refused() {
    let pusher = Pusher::new();
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    succeeds(pusher.push(HISTORY));
    let elsewhere = DataDirectory::new(&pusher.sandbox, "elsewhere", SYSTEM);
    elsewhere.file(&format!("pg_wal/{HISTORY}"), "1\t0/300000\tno recovery target specified\n");
    let push = elsewhere.run(pusher.push(HISTORY));
    fails(3, push, &[HISTORY, "whether two servers share the archive"]);
    assert_eq!(pusher.original(HISTORY), HISTORY_CONTENT.as_bytes());
}

#[test]
fn a_damaged_archived_file_does_not_count_as_archived() {
    let (pusher, _) = pusher_with_archived_segment();
    let sound = pusher.stored(SEGMENT);
    let flipped = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        bytes
    };
    let extended = [&sound[..], b"\0"].concat();
    let damages = [
        ("empty", Vec::new()),
        ("cut in the length", sound[..5].to_vec()),
        ("cut in the header", sound[..500].to_vec()),
        ("cut after the header", sound[..1024].to_vec()),
        ("cut in the body", sound[..sound.len() - 1].to_vec()),
        ("magic", flipped(0)),
        ("length", flipped(5)),
        ("JSON", flipped(30)),
        ("seal", flipped(1000)),
        ("beginning of the body", flipped(1024)),
        ("middle of the body", flipped(1024 + (sound.len() - 1024) / 2)),
        ("end of the body", flipped(sound.len() - 1)),
        ("extended", extended),
        ("zeros", vec![0; sound.len()]),
        ("not packed", segment(SEGMENT, SYSTEM, SEGMENT_BYTES, 0)),
    ];
    for (what, damaged) in damages {
        fs::write(pusher.file(SEGMENT), &damaged).unwrap();
        let theirs = pusher.file(SEGMENT);
        let error = fails(
            3,
            pusher.push(SEGMENT),
            &[theirs.to_str().unwrap(), SEGMENT, "move the archive's file away"],
        );
        assert!(error.contains("damaged"), "{what}: {error}");
        assert!(pusher.stored(SEGMENT) == damaged, "{what}");
        assert_eq!(pusher.files(), [SEGMENT_KEY], "{what}");
    }
    // The advice in the message.
    fs::remove_file(pusher.file(SEGMENT)).unwrap();
    succeeds(pusher.push(SEGMENT));
    // Equal except for the time.
    assert_eq!(pusher.stored(SEGMENT).len(), sound.len());
}

#[test]
fn damage_of_an_uncompressed_archived_file_is_found_too() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push_with(&["--compression=none"], SEGMENT));
    let mut damaged = pusher.stored(SEGMENT);
    damaged[1024 + SEGMENT_BYTES / 2] ^= 1;
    fs::write(pusher.file(SEGMENT), &damaged).unwrap();
    fails(3, pusher.push(SEGMENT), &["damaged"]);
    assert!(pusher.stored(SEGMENT) == damaged);
}

#[test]
fn a_file_archived_under_another_name_does_not_count_as_this_one() {
    // A text file does not contain its name; only the archived file's header does.
    let pusher = Pusher::new();
    let other_name = "00000003.history";
    for name in [HISTORY, other_name] {
        pusher.data.file(&format!("pg_wal/{name}"), HISTORY_CONTENT);
    }
    succeeds(pusher.push(other_name));
    fs::rename(pusher.file(other_name), pusher.file(HISTORY)).unwrap();
    fails(3, pusher.push(HISTORY), &[HISTORY]);
}

#[test]
fn a_file_archived_for_another_cluster_does_not_count_as_this_clusters() {
    // A restore would refuse it.
    let pusher = Pusher::new();
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    succeeds(pusher.push(HISTORY));
    let other = DataDirectory::new(&pusher.sandbox, "other", OTHER_SYSTEM);
    other.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    succeeds(other.run(pusher.push(HISTORY)));
    fs::rename(pusher.archive.file(OTHER_SYSTEM, HISTORY), pusher.file(HISTORY)).unwrap();
    fails(3, pusher.push(HISTORY), &[HISTORY]);
}

#[test]
fn a_file_in_a_newer_format_is_not_reported_as_damaged() {
    let (pusher, _) = pusher_with_archived_segment();
    let sound = pusher.stored(SEGMENT);
    for (from, to) in
        [("\"format\":1", "\"format\":2"), ("\"encryption\":\"none\"", "\"encryption\":\"age\"")]
    {
        let theirs = resealed(&sound, from, to);
        fs::write(pusher.file(SEGMENT), &theirs).unwrap();
        let stderr = fails(1, pusher.push(SEGMENT), &["cannot compare"]);
        assert!(!stderr.contains("move"), "{stderr}");
        assert!(pusher.stored(SEGMENT) == theirs);
    }
}
