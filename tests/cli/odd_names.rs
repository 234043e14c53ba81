//! Odd names, links and pipes in an archive and beside it: reported or passed over, and never in the way of anything else.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};

use support::{
    data_directory::DataDirectory,
    files::make_fifo,
    kept::{Kept, name},
    restore::SYSTEM,
    running::outcome_of,
    store::fault::{Fault, Matching},
    user,
    verified_store::{store, verify},
};

/// Puts things with odd names into a directory, as a stranger or an accident would.
fn litter(directory: &Path) {
    let at = |name: &[u8]| directory.join(OsStr::from_bytes(name));
    for name in [&b"\xFF\xFE"[..], b"a\nb", b"tab\there", b"\x1B[31m", &[b'x'; 255], b".hidden", b"-rf"] {
        fs::write(at(name), "odd").unwrap();
    }
    fs::create_dir(at(b"\xFFdirectory")).unwrap();
    fs::create_dir(at(b"directory")).unwrap();
    make_fifo(&at(b"pipe"));
    symlink("circle", at(b"circle")).unwrap();
    symlink("/nowhere/at/all", at(b"nowhere")).unwrap();
    symlink("/root", at(b"denied")).unwrap();
}

/// Creates an archive with litter in each of its directories.
fn kept() -> Kept {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 9);
    kept.backup(1, 3, 4, 5);
    kept.said("verify", &[]);
    let root = Path::new(kept.archive.url());
    let of_system = root.join(SYSTEM.to_string());
    fs::create_dir(of_system.join("timelines")).unwrap();
    user::hand_over(&of_system.join("timelines"));
    litter(root);
    for directory in ["", "wal", "wal/0000000100000000", "timelines", "backups", "reports"] {
        litter(&of_system.join(directory));
    }
    // Where files and directories are expected.
    for directory in ["wal/0000000100000000/00000001000000000000000A", "timelines/00000003.history"] {
        fs::create_dir(of_system.join(directory)).unwrap();
    }
    fs::write(of_system.join("wal/0000000100000002"), "").unwrap();
    make_fifo(&of_system.join("wal/0000000100000000/00000001000000000000000B"));
    make_fifo(&of_system.join("timelines/00000004.history"));
    kept
}

#[test]
fn every_command_sees_the_archive_behind_odd_names() {
    let kept = kept();
    let files = kept.said("list", &["files"]);
    for number in 1..=9 {
        assert!(files.contains(&name(1, number)), "{files}");
    }
    assert!(kept.said("list", &[]).contains("5 days ago"));
    let data = DataDirectory::new(&kept.sandbox, "data", SYSTEM);
    fs::create_dir(data.join("pg_wal/archive_status")).unwrap();
    user::hand_over(&data.join("pg_wal/archive_status"));
    litter(&data.join("pg_wal"));
    litter(&data.join("pg_wal/archive_status"));
    let status = kept.said("status", &["--pgdata", data.join("").to_str().unwrap()]);
    assert!(status.contains(&name(1, 9)), "{status}");
    let output = kept.walkeep("cat", &[&name(1, 3)]).stdout(std::process::Stdio::piped()).output().unwrap();
    assert!(output.status.success() && output.stdout.len() == 1 << 20);

    let verified =
        kept.walkeep("verify", &["--json"]).stdout(std::process::Stdio::piped()).output().unwrap().stdout;
    let verified: serde_json::Value = serde_json::from_slice(&verified).unwrap();
    let with = |severity: &str| -> Vec<&str> {
        let findings = verified["findings"].as_array().unwrap().iter();
        let found = findings.filter(|finding| finding["severity"] == severity);
        found.filter_map(|finding| finding["file"].as_str()?.rsplit('/').next()).collect()
    };
    let notes = with("note");
    for odd in ["a b", "pipe", "circle", "nowhere", "directory"] {
        assert!(notes.contains(&odd), "{odd}: {notes:?}");
    }
    // A recovery would ask for these.
    let mut failures = with("failure");
    failures.sort_unstable();
    let expected =
        ["00000001000000000000000A", "00000001000000000000000B", "00000003.history", "00000004.history"];
    assert_eq!(failures, expected);
    let pruned = kept.said("prune", &["--keep-backups", "1"]);
    assert!(pruned.contains("left alone"), "{pruned}");
    let is_there = |number| kept.archive.file(SYSTEM, &name(1, number)).exists();
    assert!(!is_there(1) && is_there(3));
}

#[test]
fn a_file_of_the_archive_that_leads_nowhere_is_still_a_failure() {
    let kept = kept();
    let file = kept.archive.file(SYSTEM, &name(1, 7));
    fs::remove_file(&file).unwrap();
    symlink("/nowhere/at/all", &file).unwrap();
    kept.fails(1, "prune", &["--keep-backups", "1"], "is a symbolic link that leads nowhere");
}

#[test]
fn a_pipe_in_the_place_of_a_report_or_of_a_backups_file_is_not_waited_for() {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 9);
    kept.backup(1, 3, 4, 5);
    kept.said("verify", &[]);
    let report = kept.report_file("verify");
    fs::remove_file(&report).unwrap();
    make_fifo(&report);
    for command in ["list", "status"] {
        let outcome = outcome_of(kept.walkeep(command, &[]));
        assert_eq!(outcome.status, 0, "{command}: {}", outcome.stderr);
    }
    let backups = kept.sandbox.directory("backups");
    for file in ["backup_label", "backup_manifest", "base.tar", "base.tar.gz"] {
        let backup = backups.join("one");
        fs::create_dir(&backup).unwrap();
        user::hand_over(&backup);
        make_fifo(&backup.join(file));
        let options = ["--keep-backups", "1", "--backup-dir", backups.to_str().unwrap()];
        let outcome = outcome_of(kept.walkeep("prune", &options));
        assert_eq!(outcome.status, 1, "{file}: {}", outcome.stderr);
        let said = format!("{file}: it is a named pipe, not a regular file");
        assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
        fs::remove_dir_all(backup).unwrap();
    }
}

#[test]
fn a_store_that_lists_in_circles_is_no_archive_without_an_end() {
    let scene = store();
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>\
                <Contents><Key>archive/x</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>1</Size>\
                </Contents></ListBucketResult>";
    let headers = vec![("content-type", "application/xml".to_owned())];
    scene.store.break_with(Matching::Listings, Fault::Raw { status: 200, headers, body: page });
    let outcome = outcome_of(verify(&scene, &["--timeout", "2s"]));
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the store lists the same keys again and again"), "{}", outcome.stderr);
}
