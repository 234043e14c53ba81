//! Base backups that are kept elsewhere keep what they need, however pg_basebackup has written them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

mod support;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use support::{
    files::Permissions,
    kept::{Kept, days_ago, name, position, touch},
    push::SYSTEM,
};

/// A file of a base backup: its name and content.
type Member<'a> = (&'a str, Vec<u8>);

/// The log, and directories of base backups.
fn scene() -> (Kept, PathBuf) {
    let kept = Kept::new();
    kept.segments(1, 1..=40, 1);
    let place = kept.sandbox.directory("backups");
    (kept, place)
}

fn label(start: u64) -> String {
    format!(
        "START WAL LOCATION: {} (file {})\nCHECKPOINT LOCATION: {}\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
         START TIME: 2026-01-02 03:04:05 UTC\nLABEL: nightly\nSTART TIMELINE: 1\n",
        position(start, 0x28),
        name(1, start),
        position(start, 0x60)
    )
}

/// As version 17 writes it.
fn manifest(start: u64, stop: u64, system: u64) -> String {
    format!(
        "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {system},\n\"Files\": [\n\
         {{ \"Path\": \"backup_label\", \"Size\": 227, \"Last-Modified\": \"2026-01-02 03:04:05 GMT\" }}\n],\n\
         \"WAL-Ranges\": [\n{{ \"Timeline\": 1, \"Start-LSN\": \"{}\", \"End-LSN\": \"{}\" }}\n],\n\
         \"Manifest-Checksum\": \"00\"}}\n",
        position(start, 0x28),
        position(stop, 0x138)
    )
}

/// A tar archive with a label, which is not its first member.
fn tarred(start: u64) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in
        [("tablespace_map", String::new()), ("backup_label", label(start)), ("PG_VERSION", "15\n".into())]
    {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzipped(content: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

/// A base backup of these files, written so many days ago.
fn backup(place: &Path, name: &str, files: &[Member], days: i64) -> PathBuf {
    written(place, name, files, days_ago(days))
}

/// As [`backup`], at that moment.
fn written(place: &Path, name: &str, files: &[Member], at: Timestamp) -> PathBuf {
    let directory = place.join(name);
    fs::create_dir(&directory).unwrap();
    support::user::hand_over(&directory);
    for (file, content) in files {
        let file = directory.join(file);
        fs::write(&file, content).unwrap();
        support::user::hand_over(&file);
        touch(&file, at);
    }
    directory
}

fn first(kept: &Kept) -> u64 {
    (1..=40).find(|number| kept.archive.file(SYSTEM, &name(1, *number)).exists()).unwrap()
}

#[test]
fn what_pg_basebackup_writes_is_understood() {
    let shapes: [(&str, Vec<Member>); 7] = [
        (
            "plain",
            vec![("backup_label", label(10).into()), ("backup_manifest", manifest(10, 11, SYSTEM).into())],
        ),
        ("plain without a manifest", vec![("backup_label", label(10).into())]),
        (
            "tar",
            vec![
                ("base.tar", b"not looked at".to_vec()),
                ("backup_manifest", manifest(10, 11, SYSTEM).into()),
            ],
        ),
        ("tar without a manifest", vec![("base.tar", tarred(10))]),
        ("gzip without a manifest", vec![("base.tar.gz", gzipped(&tarred(10)))]),
        ("zstd without a manifest", vec![("base.tar.zst", zstd::encode_all(&*tarred(10), 1).unwrap())]),
        ("lz4", vec![("base.tar.lz4", b"x".to_vec()), ("backup_manifest", manifest(10, 11, SYSTEM).into())]),
    ];
    for (shape, files) in shapes {
        for itself in [true, false] {
            let (kept, place) = scene();
            let at = days_ago(3);
            let directory = written(&place, "one", &files, at);
            let named = if itself { &directory } else { &place };
            let told = kept.json("prune", &["--backup-dir", named.to_str().unwrap()]);
            assert_eq!(first(&kept), 10, "{shape}");
            let told = &told["kept_backups"][0];
            assert_eq!(told["why"][0], "its files are still there", "{shape}");
            assert_eq!(told["title"], format!("the backup in {}", directory.display()), "{shape}");
            assert_eq!(told["ended"], at.to_string(), "{shape}");
        }
    }
}

#[test]
fn one_that_is_still_there_keeps_its_wal_whatever_the_policy() {
    let (kept, place) = scene();
    backup(&place, "old", &[("backup_label", label(10).into())], 9);
    kept.backup(1, 5, 5, 12);
    kept.backup(1, 30, 30, 1);
    let directory = place.to_str().unwrap().to_owned();
    kept.said("prune", &["--keep-backups", "1", "--backup-dir", &directory]);
    assert_eq!(first(&kept), 10);
    // Known from both sides, it is one.
    let (kept, place) = scene();
    backup(
        &place,
        "old",
        &[("backup_label", label(10).into()), ("backup_manifest", manifest(10, 10, SYSTEM).into())],
        9,
    );
    kept.backup(1, 10, 10, 9);
    kept.backup(1, 30, 30, 1);
    let file = format!("keep_backups = 1\nbackup_dirs = ['{}']\n", place.display());
    let config = kept.sandbox.file("walkeep.toml", file).to_str().unwrap().to_owned();
    let told = kept.json("prune", &["--config", &config]);
    assert_eq!(first(&kept), 10);
    assert_eq!(told["kept_backups"].as_array().unwrap().len(), 2, "{told}");
}

#[test]
fn those_of_other_clusters_do_not_count() {
    let (kept, place) = scene();
    backup(
        &place,
        "other",
        &[("backup_label", label(3).into()), ("backup_manifest", manifest(3, 3, SYSTEM + 1).into())],
        9,
    );
    let control = |system: u64| [&system.to_ne_bytes()[..], &1300u32.to_ne_bytes(), &[0; 500]].concat();
    let plain = backup(&place, "plain", &[("backup_label", label(4).into())], 9);
    fs::create_dir(plain.join("global")).unwrap();
    fs::write(plain.join("global/pg_control"), control(SYSTEM + 1)).unwrap();
    let directory = place.to_str().unwrap().to_owned();
    kept.fails(1, "prune", &["--backup-dir", &directory], "there is no base backup of this cluster in");
    backup(&place, "ours", &[("backup_label", label(20).into())], 9);
    kept.said("prune", &["--backup-dir", &directory]);
    assert_eq!(first(&kept), 20);
}

#[test]
fn one_that_cannot_be_understood_deletes_nothing() {
    let broken: [(&str, Vec<u8>, &str); 8] = [
        ("backup_label", b"LABEL: x\n".to_vec(), "backup_label"),
        ("backup_manifest", b"{ \"Files\": [".to_vec(), "backup_manifest"),
        ("backup_manifest", b"{ \"WAL-Ranges\": [] }".to_vec(), "backup_manifest"),
        (
            "backup_manifest",
            b"{ \"WAL-Ranges\": [{\"Timeline\":0,\"Start-LSN\":\"0/0\",\"End-LSN\":\"x\"}] }".to_vec(),
            "backup_manifest",
        ),
        ("base.tar", tarred(10)[..900].to_vec(), "base.tar"),
        ("base.tar", b"nothing".repeat(300), "base.tar"),
        ("base.tar.gz", b"nothing".to_vec(), "base.tar.gz"),
        ("base.tar.lz4", b"x".to_vec(), "lz4"),
    ];
    for (file, content, words) in broken {
        let (kept, place) = scene();
        backup(&place, "sound", &[("backup_label", label(30).into())], 3);
        backup(&place, "broken", &[(file, content)], 3);
        kept.fails(1, "prune", &["--backup-dir", place.to_str().unwrap()], words);
        assert_eq!(first(&kept), 1, "{file}");
    }
    let (kept, place) = scene();
    let directory = place.to_str().unwrap();
    kept.fails(1, "prune", &["--backup-dir", directory], "there is no base backup");
    kept.fails(1, "prune", &["--backup-dir", "/nonexistent"], "/nonexistent");
    let closed = backup(&place, "closed", &[("backup_label", label(30).into())], 3);
    let _closed = Permissions::set(&closed, 0o000);
    kept.fails(1, "prune", &["--backup-dir", directory], "cannot read");
    assert_eq!(first(&kept), 1);
}
