//! Base backups in directories keep the WAL that they need, in every format of pg_basebackup.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use support::{
    base_backup::{
        Member, backup, base_tar, gzipped, label, labelled, manifest, manifest_of, plain, tar_of, wal_tar,
        written, zstd,
    },
    data_directory::{SEGMENT_BYTES, control},
    files::Permissions,
    kept::{Kept, days_ago, name, position},
    push::SYSTEM,
    running::outcome_of,
};

/// Creates an archive, and a directory for base backups.
fn scene() -> (Kept, PathBuf) {
    let kept = Kept::new();
    kept.segments(1, 1..=40, 2);
    let backups = kept.sandbox.directory("backups");
    (kept, backups)
}

fn first(kept: &Kept) -> u64 {
    (1..=40).find(|number| kept.archive.file(SYSTEM, &name(1, *number)).exists()).unwrap()
}

#[test]
fn every_format_of_pg_basebackup_is_understood() {
    let shapes: [(&str, Vec<Member>); 8] = [
        ("plain", plain(10, SYSTEM).to_vec()),
        ("plain without a manifest", plain(10, SYSTEM)[..2].to_vec()),
        (
            "tar",
            vec![
                ("base.tar", base_tar(10, SYSTEM)),
                ("backup_manifest", manifest(10, 11, Some(SYSTEM))),
                ("base.tar.sha256", b"00".to_vec()),
            ],
        ),
        ("tar without a manifest", vec![("base.tar", base_tar(10, SYSTEM))]),
        ("gzip without a manifest", vec![("base.tar.gz", gzipped(&base_tar(10, SYSTEM)))]),
        ("zstd without a manifest", vec![("base.tar.zst", zstd(&base_tar(10, SYSTEM)))]),
        ("lz4", vec![("base.tar.lz4", b"x".to_vec()), ("backup_manifest", manifest(10, 11, Some(SYSTEM)))]),
        (
            "lz4 before version 17",
            vec![
                ("base.tar.lz4", b"x".to_vec()),
                ("backup_manifest", manifest(10, 11, None)),
                ("pg_wal.tar", wal_tar(10, SYSTEM)),
            ],
        ),
    ];
    let (kept, _) = scene();
    for (shape, files) in shapes {
        let backups = kept.sandbox.directory(shape);
        let at = days_ago(3);
        let directory = written(&backups, "one", &files, at);
        written(&backups, "sound", &plain(30, SYSTEM), days_ago(2));
        let sound = backups.join("sound");
        for named in [[&directory, &sound], [&backups, &sound]] {
            let [one, other] = named.map(|named| named.to_str().unwrap());
            let output = kept.json("prune", &["--dry-run", "--backup-dir", one, "--backup-dir", other]);
            assert_eq!(output["begins_at"], name(1, 10), "{shape}");
            let output = &output["kept_backups"][0];
            assert_eq!(output["why"][0], "its files are still there", "{shape}");
            assert_eq!(output["title"], format!("the backup in {}", directory.display()), "{shape}");
            assert_eq!(output["ended"], at.to_string(), "{shape}");
        }
    }
}

#[test]
fn an_incremental_backup_needs_wal_from_its_own_start_on() {
    let (kept, backups) = scene();
    let mut incremental = label(20);
    incremental.extend(b"INCREMENTAL FROM LSN: 0/A00028\nINCREMENTAL FROM TLI: 1\n");
    let files = [
        ("backup_label", incremental),
        ("backup_manifest", manifest(20, 20, Some(SYSTEM))),
        ("base/1/INCREMENTAL.1259", vec![7; 100]),
    ];
    backup(&backups, "incremental", &files, 1);
    backup(&backups, "full", &plain(10, SYSTEM), 2);
    let output = kept.json("prune", &["--backup-dir", backups.to_str().unwrap()]);
    assert_eq!(first(&kept), 10, "what it is to be combined with is there, too");
    assert_eq!(output["kept_backups"][1]["start_segment"], name(1, 20));
    fs::remove_dir_all(backups.join("full")).unwrap();
    kept.said("prune", &["--backup-dir", backups.to_str().unwrap()]);
    assert_eq!(first(&kept), 20);
}

#[test]
fn what_an_incremental_backup_in_a_tar_that_cannot_be_opened_builds_on_may_be_any_earlier_one() {
    let (kept, backups) = scene();
    kept.backup(1, 5, 5, 12);
    let manifest = String::from_utf8(manifest(20, 20, Some(SYSTEM))).unwrap();
    let manifest = manifest.replace("\"Path\": \"backup_label\"", "\"Path\": \"base/1/INCREMENTAL.1259\"");
    let files = [("base.tar.lz4", b"x".to_vec()), ("backup_manifest", manifest.into_bytes())];
    backup(&backups, "packed", &files, 1);
    let options = ["--keep-backups", "1", "--backup-dir", backups.to_str().unwrap(), "--dry-run"];
    let output = kept.json("prune", &options);
    assert_eq!(output["kept_backups"][0]["incremental"], true, "{output:#}");
    assert_eq!(output["forgotten_backups"][0]["files_must_stay"], true, "{output:#}");
    let said = kept.said("prune", &options);
    for words in [
        "; incremental; the files of those below it are needed, which are not known\n",
        "; its files may still be needed: of one that is kept, not all is known on which it builds\n",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let verified = kept.said("verify", &options[2..4]);
    for words in
        ["\n  incremental: together with those below it, which are not known\n", "down to a full one"]
    {
        assert!(verified.contains(words), "{verified}");
    }
}

#[test]
fn a_backup_of_a_standby_that_followed_a_promotion_starts_on_the_older_timeline() {
    let (kept, backups) = scene();
    let ranges = [(2, position(22, 0), position(23, 0x138)), (1, position(20, 0x28), position(22, 0))];
    let files = [("base.tar", base_tar(20, SYSTEM)), ("backup_manifest", manifest_of(&ranges, Some(SYSTEM)))];
    backup(&backups, "followed", &files, 1);
    kept.history(2, &[(1, position(22, 0))]);
    kept.segments(2, 22..=24, 2);
    kept.said("prune", &["--backup-dir", backups.to_str().unwrap()]);
    assert_eq!(first(&kept), 20);
}

#[test]
fn an_existing_backup_keeps_its_wal_under_any_policy() {
    let (kept, backups) = scene();
    backup(&backups, "old", &plain(10, SYSTEM), 9);
    kept.backup(1, 5, 5, 12);
    kept.backup(1, 30, 30, 1);
    let directory = backups.to_str().unwrap().to_owned();
    kept.said("prune", &["--keep-backups", "1", "--backup-dir", &directory]);
    assert_eq!(first(&kept), 10);
    // A backup that is known from both sources counts once.
    let (kept, backups) = scene();
    let files = [("backup_label", label(10)), ("backup_manifest", manifest(10, 10, Some(SYSTEM)))];
    backup(&backups, "old", &files, 9);
    kept.backup(1, 10, 10, 9);
    kept.backup(1, 30, 30, 1);
    let file = format!("keep_backups = 1\nbackup_dirs = ['{}']\n", backups.display());
    let config = kept.sandbox.file("walkeep.toml", file).to_str().unwrap().to_owned();
    let output = kept.json("prune", &["--config", &config]);
    assert_eq!(first(&kept), 10);
    assert_eq!(output["kept_backups"].as_array().unwrap().len(), 2, "{output}");
}

#[test]
fn a_backup_found_twice_counts_once() {
    let (kept, backups) = scene();
    let newest = backup(&backups, "monday", &plain(30, SYSTEM), 1);
    symlink("monday", backups.join("latest")).unwrap();
    backup(&backups, "copy", &plain(30, SYSTEM), 0);
    kept.backup(1, 10, 10, 3);
    kept.backup(1, 5, 5, 4);
    let dirs = [backups.to_str().unwrap(), newest.to_str().unwrap()];
    let output =
        kept.json("prune", &["--keep-backups", "2", "--backup-dir", dirs[0], "--backup-dir", dirs[1]]);
    assert_eq!(first(&kept), 10, "{output:#}");
    assert_eq!(output["kept_backups"].as_array().unwrap().len(), 2, "{output:#}");
}

#[test]
fn an_unintelligible_backup_deletes_nothing() {
    let broken: [(&str, Vec<u8>, &str); 12] = [
        ("backup_label", b"LABEL: x\n".to_vec(), "backup_label"),
        ("backup_manifest", b"{ \"Files\": [".to_vec(), "backup_manifest"),
        ("backup_manifest", [b"{ \"Files\": ", "[".repeat(100_000).as_bytes()].concat(), "backup_manifest"),
        ("backup_manifest", b"{ \"WAL-Ranges\": [] }".to_vec(), "backup_manifest"),
        (
            "backup_manifest",
            b"{ \"WAL-Ranges\": [{\"Timeline\":0,\"Start-LSN\":\"0/0\",\"End-LSN\":\"x\"}] }".to_vec(),
            "backup_manifest",
        ),
        ("base.tar", base_tar(10, SYSTEM)[..900].to_vec(), "base.tar"),
        ("base.tar", b"nothing".repeat(300), "base.tar"),
        ("base.tar", Vec::new(), "base.tar"),
        ("base.tar.gz", b"nothing".to_vec(), "base.tar.gz"),
        ("base.tar.lz4", b"x".to_vec(), "lz4"),
        ("base.tar.xz", b"x".to_vec(), "base.tar.xz"),
        ("base.tar", tar_of(&[("../backup_label", label(5)), ("x/backup_label", label(5))]), "base.tar"),
    ];
    let (kept, backups) = scene();
    backup(&backups, "sound", &plain(30, SYSTEM), 3);
    for (file, content, words) in broken {
        let broken = backup(&backups, "broken", &[(file, content)], 3);
        kept.fails(1, "prune", &["--backup-dir", backups.to_str().unwrap()], words);
        assert_eq!(first(&kept), 1, "{file}");
        fs::remove_dir_all(&broken).unwrap();
    }
    let (kept, backups) = scene();
    let directory = backups.to_str().unwrap();
    kept.fails(1, "prune", &["--backup-dir", directory], "there is no base backup");
    kept.fails(1, "prune", &["--backup-dir", "/nonexistent"], "/nonexistent");
    let closed = backup(&backups, "closed", &plain(30, SYSTEM), 3);
    let _closed = Permissions::set(&closed, 0o000);
    kept.fails(1, "prune", &["--backup-dir", directory], "cannot read");
    assert_eq!(first(&kept), 1);
}

#[test]
fn directories_without_a_backup_are_skipped() {
    let (kept, backups) = scene();
    backup(&backups, "monday", &plain(10, SYSTEM), 3);
    let lost = backups.join("lost+found");
    fs::create_dir(&lost).unwrap();
    let _closed = Permissions::set(&lost, 0o000);
    let options = ["--backup-dir", backups.to_str().unwrap()];
    kept.said("prune", &options);
    assert_eq!(first(&kept), 10);
    // A link to a backup that its owner has deleted.
    let link = backups.join("latest");
    symlink("sunday", &link).unwrap();
    for command in ["prune", "verify"] {
        let outcome = outcome_of(kept.walkeep(command, &options));
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        let warning = format!("walkeep: warning: {} leads nowhere", link.display());
        assert!(outcome.stderr.starts_with(&warning), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    }
    // A circular link may once have led to a backup.
    symlink("round", backups.join("round")).unwrap();
    kept.fails(1, "prune", &options, "cannot look at");
}

#[test]
fn files_of_different_backups_in_one_directory_delete_nothing() {
    let control = || ("global/pg_control", control(SYSTEM, SEGMENT_BYTES as u64));
    let mixed: [Vec<Member>; 4] = [
        vec![("base.tar", base_tar(10, SYSTEM)), ("base.tar.gz", gzipped(&base_tar(20, SYSTEM)))],
        // The tar archive is of this cluster, the manifest of another.
        vec![("base.tar", base_tar(10, SYSTEM)), ("backup_manifest", manifest(20, 20, Some(SYSTEM + 1)))],
        vec![("backup_label", label(10)), control(), ("backup_manifest", manifest(20, 20, None))],
        vec![("backup_label", label(20)), control(), ("base.tar", base_tar(10, SYSTEM))],
    ];
    let (kept, backups) = scene();
    backup(&backups, "sound", &plain(30, SYSTEM), 3);
    for files in mixed {
        let directory = backup(&backups, "mixed", &files, 3);
        let words = format!("different base backups in {}", directory.display());
        kept.fails(1, "prune", &["--backup-dir", backups.to_str().unwrap()], &words);
        assert_eq!(first(&kept), 1);
        fs::remove_dir_all(&directory).unwrap();
    }
    // A backup that is being compressed still counts.
    let packed = gzipped(&base_tar(10, SYSTEM));
    let half = packed[..packed.len() / 2].to_vec();
    let files = [
        ("base.tar", base_tar(10, SYSTEM)),
        ("base.tar.gz", half),
        ("backup_manifest", manifest(10, 10, Some(SYSTEM))),
    ];
    backup(&backups, "twice", &files, 3);
    kept.said("prune", &["--backup-dir", backups.to_str().unwrap()]);
    assert_eq!(first(&kept), 10);
}

#[test]
fn a_label_of_several_lines_is_harmless() {
    let (kept, backups) = scene();
    let other = format!("x\nSTART WAL LOCATION: 0/1400028 (file {})", name(1, 20));
    let files = [
        ("backup_label", labelled(10, &other)),
        ("global/pg_control", control(SYSTEM, SEGMENT_BYTES as u64)),
        ("backup_manifest", manifest(10, 10, None)),
    ];
    backup(&backups, "one", &files, 3);
    kept.said("prune", &["--backup-dir", backups.to_str().unwrap()]);
    assert_eq!(first(&kept), 10);
}
