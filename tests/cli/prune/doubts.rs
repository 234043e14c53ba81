//! Doubts: a prune in doubt deletes nothing, says why, and reports it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, os::unix::fs::symlink, path::Path};

use support::{
    files::Permissions,
    forged::resealed,
    kept::{Kept, archived, archived_segment, days_ago, name},
    push::SYSTEM,
    running::{Outcome, outcome_of},
};

/// Creates two backups, and the WAL since then.
fn weeks() -> Kept {
    let kept = Kept::new();
    kept.segments(1, 1..=30, 2);
    kept.backup(1, 5, 5, 20);
    kept.backup(1, 20, 20, 3);
    kept
}

/// Asserts that a prune fails, deletes nothing and reports that.
fn deletes_nothing(kept: &Kept, policy: &[&str], words: &str) {
    let before = kept.files();
    kept.fails(1, "prune", policy, words);
    kept.fails(1, "prune", &[policy, &["--dry-run"]].concat(), words);
    assert_eq!(kept.files(), before, "{words}");
    let report = kept.report("prune").unwrap();
    assert_eq!(report["ok"], false, "{report}");
    assert!(report["error"].as_str().unwrap().contains(words), "{report}");
    assert_eq!(report["deleted_files"], 0);
}

const ONE: [&str; 2] = ["--keep-backups", "1"];
const WEEK: [&str; 2] = ["--keep-days", "7"];

#[test]
fn no_complete_backup() {
    let kept = Kept::new();
    kept.segments(1, 1..=5, 2);
    for policy in [ONE, WEEK] {
        deletes_nothing(&kept, &policy, "no base backup was found");
    }
    // A backup with a gap in its WAL, which cannot be recovered.
    kept.backup(1, 3, 9, 1);
    deletes_nothing(&kept, &ONE, "no complete base backup was found, but 1 that lack WAL");
}

#[test]
fn an_unreadable_backup_history_file() {
    let sound = weeks();
    let name = sound.backup(1, 10, 10, 9);
    let bytes = fs::read(sound.archive.file(SYSTEM, &name)).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let other =
        archived(&name, b"START WAL LOCATION: 0/100028 (file 000000010000000000000001)\n", days_ago(9));
    let html = archived(&name, b"<html>Please log in</html>", days_ago(9));
    let newer = resealed(&bytes, "\"format\":1", "\"format\":9");
    for content in [&b""[..], b"\n", &bytes[..500], &flipped, &other, &html, &newer] {
        let kept = weeks();
        kept.put(&name, content, days_ago(9));
        for policy in [&ONE[..], &WEEK, &["--before", "00000001000000000000000A"]] {
            deletes_nothing(&kept, policy, &name);
        }
    }
}

#[test]
fn an_unreadable_timeline_history_file() {
    for content in [&b""[..], b"1\t0/300000\tx\n"] {
        let kept = weeks();
        kept.put("00000002.history", content, days_ago(9));
        deletes_nothing(&kept, &ONE, "00000002.history");
    }
}

#[test]
fn an_archive_that_cannot_be_listed_completely() {
    let kept = weeks();
    kept.segments(1, 5_000..=5_001, 2);
    let group = Path::new(kept.archive.url()).join(format!("{SYSTEM}/wal/0000000100000001"));
    {
        let _closed = Permissions::set(&group, 0o000);
        kept.fails(2, "prune", &ONE, "cannot look at");
    }
    let moved = kept.sandbox.join("moved");
    fs::rename(&group, &moved).unwrap();
    symlink(kept.sandbox.join("nowhere"), &group).unwrap();
    deletes_nothing(&kept, &ONE, "symbolic link that leads nowhere");
    fs::remove_file(&group).unwrap();
    symlink(&moved, &group).unwrap();
    kept.said("prune", &ONE);
    assert_eq!(fs::read_dir(&moved).unwrap().count(), 2, "one that leads somewhere is followed");

    let kept = weeks();
    let system = Path::new(kept.archive.url()).join(SYSTEM.to_string());
    let away = kept.sandbox.join("away");
    fs::rename(&system, &away).unwrap();
    let id = SYSTEM.to_string();
    kept.fails(1, "prune", &["--system-identifier", &id, "--keep-backups", "1"], "holds nothing of system");
    assert!(!system.exists(), "nothing is noted where there is nothing");
    fs::create_dir(&system).unwrap();
    kept.fails(1, "prune", &["--system-identifier", &id, "--keep-backups", "1"], "holds no archived file");
    kept.archive.vanish();
    kept.fails(1, "prune", &ONE, "does not exist");
}

#[test]
fn a_missing_permission_to_list_is_reported_as_such() {
    let kept = weeks();
    let (root, id) = (Path::new(kept.archive.url()), SYSTEM.to_string());
    let system = root.join(&id);
    for (closed, mode, words) in [(system.as_path(), 0o300, "may not list"), (root, 0o600, "may not enter")] {
        for command in [&["prune", "--keep-backups", "1"][..], &["verify"], &["list"]] {
            let options = [&command[1..], &["--system-identifier", &id]].concat();
            let call = kept.walkeep(command[0], &options);
            let closed_path = closed;
            let closed = Permissions::set(closed, mode);
            let Outcome { status, stderr } = outcome_of(call);
            drop(closed);
            let error = stderr.lines().last().unwrap();
            assert_eq!(status, 2, "{command:?}: {stderr}");
            assert!(error.contains("Permission denied") && error.contains(words), "{command:?}: {stderr}");
            let is_outside = closed_path == root;
            assert_eq!(error.contains("is the archive mounted there?"), is_outside, "{command:?}: {stderr}");
        }
    }
    assert_eq!(kept.files().len(), 32);
}

#[test]
fn impossible_clocks() {
    let kept = weeks();
    kept.backup(1, 25, 25, -2);
    deletes_nothing(&kept, &ONE, "a clock is wrong");
    let kept = weeks();
    kept.put(&name(1, 30), archived_segment(&name(1, 30), days_ago(0)), days_ago(-1));
    deletes_nothing(&kept, &ONE, "a clock is wrong");
    let kept = Kept::new();
    kept.segments(1, 1..=30, 30);
    kept.backup(1, 5, 5, 60);
    kept.backup(1, 20, 20, 31);
    deletes_nothing(&kept, &WEEK, "nothing has been archived since");
    // Redundancy does not depend on time.
    kept.said("prune", &ONE);
    assert!(!kept.names().contains(&name(1, 19)));
}

#[test]
fn a_limit_by_age_although_there_are_backups() {
    deletes_nothing(&weeks(), &["--keep-wal-days", "7"], "there are 2 base backups");
}

#[test]
fn names_of_another_segment_size() {
    let kept = weeks();
    let odd = "00000001000000000000FFFF";
    kept.put(odd, archived_segment(&name(1, 30), days_ago(9)), days_ago(9));
    deletes_nothing(&kept, &ONE, "no segment of 1 MB");
}

#[test]
fn segments_without_a_readable_size() {
    let kept = weeks();
    for number in 1..=30 {
        kept.put(&name(1, number), "", days_ago(1));
    }
    deletes_nothing(&kept, &ONE, "cannot use");
    // One readable segment is enough, even far from the end.
    kept.segments(1, 2..=2, 2);
    kept.said("prune", &ONE);
}

#[test]
fn a_policy_may_come_from_variables_and_one_with_a_slip_is_refused() {
    let kept = weeks();
    let with = |name: &str, value: &str| {
        let mut prune = kept.walkeep("prune", &["--dry-run"]);
        prune.env(name, value);
        outcome_of(prune)
    };
    let Outcome { status, stderr } = with("WALKEEP_KEEP_BACKUPS", "1");
    assert_eq!((status, stderr.contains("error")), (0, false), "{stderr}");
    for (name, value, words) in [
        ("WALKEEP_KEEP_BACKUP", "1", "did you mean WALKEEP_KEEP_BACKUPS?"),
        ("WALKEEP_KEEP_BACKUPS", "0", "as in WALKEEP_KEEP_BACKUPS=2"),
    ] {
        let Outcome { status, stderr } = with(name, value);
        assert!(status == 2 && stderr.contains(words), "{status}: {stderr}");
    }
}

#[test]
fn an_empty_or_contradictory_policy_is_wrong_usage() {
    let kept = weeks();
    kept.fails(2, "prune", &[], "nothing says what is to be kept");
    kept.fails(2, "prune", &["--keep-backups", "0"], "--keep-backups");
    kept.fails(2, "prune", &["--keep-days=-1"], "--keep-days");
    kept.fails(2, "prune", &["--keep-wal-days", "1", "--keep-days", "1"], "keep_wal_days is set");
    let file = |text: &str| kept.sandbox.file("walkeep.toml", text).to_str().unwrap().to_owned();
    let config = file("keep_backups = 0\n");
    kept.fails(2, "prune", &["--config", &config], "from 1 on");
    let config = file("backup_dirs = ['backups']\nkeep_backups = 1\n");
    kept.fails(2, "prune", &["--config", &config], "no absolute path");
    assert_eq!(kept.files().len(), 32);
    let config = file("keep_backups = 1\n");
    kept.said("prune", &["--config", &config, "--keep-backups", "2"]);
    assert_eq!(kept.files().len(), 32 - 4, "what is given goes before the file");
    kept.said("prune", &["--config", &config]);
    assert_eq!(kept.files().len(), 12);
}
