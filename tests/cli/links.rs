//! Links in the place of an archive's directories: read, and never written or deleted through.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use support::{
    files::names_in,
    kept::{Kept, name},
    push::{fails, files_below, pusher_with_archived_segment, succeeds},
    restore::SYSTEM,
    running::{Outcome, outcome_of},
};

const ADVICE: &str =
    "is a symbolic link; nothing is written or deleted through links below an archive's directory";

/// Creates an archive of which a prune deletes the first two segments.
fn kept() -> Kept {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 9);
    kept.backup(1, 3, 4, 5);
    kept
}

/// Puts a link in the place of a directory of the cluster, to one outside with the same content; returns that.
fn replaced_by_link(kept: &Kept, directory: &str) -> PathBuf {
    let place: PathBuf =
        Path::new(kept.archive.url()).join(format!("{SYSTEM}/{directory}")).components().collect();
    let outside = kept.sandbox.join("outside");
    fs::rename(&place, &outside).unwrap();
    symlink(&outside, &place).unwrap();
    outside
}

#[test]
fn a_prune_deletes_nothing_behind_a_link() {
    for directory in ["wal/0000000100000000", "wal", ""] {
        let kept = kept();
        let outside = replaced_by_link(&kept, directory);
        let before = files_below(&outside);
        kept.fails(1, "prune", &["--keep-backups", "1"], ADVICE);
        let mut after = files_below(&outside);
        after.retain(|file| !file.starts_with("reports/"));
        assert_eq!(after, before, "{directory}");
        // It is read.
        let listed = kept.walkeep("list", &["files"]).stdout(Stdio::piped()).output().unwrap().stdout;
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.contains(&name(1, 1)), "{directory}: {listed}");
    }
}

#[test]
fn no_report_is_written_behind_a_link() {
    let kept = kept();
    kept.said("verify", &[]);
    let outside = replaced_by_link(&kept, "reports");
    fs::remove_file(outside.join("verify.json")).unwrap();
    let Outcome { status, stderr } = outcome_of(kept.walkeep("verify", &[]));
    assert!(stderr.contains(ADVICE), "{stderr}");
    assert_eq!(status, 0, "a report is never needed: {stderr}");
    assert_eq!(names_in(&outside), [""; 0]);
}

#[test]
fn a_push_creates_nothing_behind_a_link() {
    for directory in ["wal/0000000100000000", "wal", ""] {
        let (pusher, content) = pusher_with_archived_segment();
        let archived = pusher.file("000000010000000000000001");
        let of_system = archived.ancestors().nth(3).unwrap().to_owned();
        let place: PathBuf = of_system.join(directory).components().collect();
        let outside = pusher.sandbox.join("outside");
        fs::rename(&place, &outside).unwrap();
        symlink(&outside, &place).unwrap();
        let before = files_below(&outside);
        let other = "000000010000000000000002";
        pusher.data.file(
            &format!("pg_wal/{other}"),
            support::data_directory::segment(other, SYSTEM, content.len(), 3),
        );
        let said =
            fails(2, pusher.push(other), &["cannot archive", "is a symbolic link; nothing is written"]);
        assert!(said.contains("mount the other disk there"), "{said}");
        assert_eq!(files_below(&outside), before, "{directory}");
        // What is there is found: the file may be archived already.
        succeeds(pusher.push("000000010000000000000001"));
    }
}

#[test]
fn every_command_says_which_directory_is_a_link() {
    for (directory, is_pushed_into) in
        [("wal/0000000100000000", true), ("wal", true), ("", true), ("reports", false)]
    {
        let kept = kept();
        kept.said("verify", &[]);
        replaced_by_link(&kept, directory);
        let key = format!("{SYSTEM}/{directory}");
        let key = key.trim_end_matches('/');
        let said = format!("{key} {ADVICE}");
        for command in ["list", "status"] {
            let Outcome { stderr, .. } = outcome_of(kept.walkeep(command, &[]));
            assert_eq!(stderr.matches(&said).count(), 1, "{command}, {directory}: {stderr}");
        }
        let verify = kept.walkeep("verify", &["--json"]).stdout(Stdio::piped()).output().unwrap();
        let verified: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
        let findings = verified["findings"].as_array().unwrap();
        let link = findings.iter().find(|finding| finding["kind"] == "link").unwrap();
        assert_eq!(link["file"], key);
        let (severity, status) = if is_pushed_into { ("failure", 1) } else { ("note", 0) };
        assert_eq!(link["severity"], severity, "{directory}");
        assert_eq!(verify.status.code(), Some(status), "{directory}");
        let checked = kept.walkeep("check", &["--json"]).stdout(Stdio::piped()).output().unwrap();
        let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
        let findings = checked["checks"].as_array().unwrap();
        let link = findings.iter().find(|finding| finding["name"] == "links").unwrap();
        assert_eq!(link["outcome"], if is_pushed_into { "fail" } else { "note" }, "{directory}");
        assert!(link["detail"].as_str().unwrap().ends_with(&format!("{key} is a symbolic link")), "{link}");
    }
}
