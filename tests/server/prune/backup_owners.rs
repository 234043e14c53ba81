//! Clusters of base backups: another cluster's backup decides nothing, and one of an unknown cluster deletes nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use support::{
    archive::ArchiveDirectory,
    base_backup::{
        Member, backup, base_tar, base_tar_without_an_owner, gzipped, label, manifest, plain, tar_of,
        wal_tar, zstd,
    },
    cluster::Cluster,
    data_directory::{SEGMENT_BYTES, control, segment},
    kept::{Kept, name},
    output_of,
    push::SYSTEM,
    sandbox::Sandbox,
};

const OTHER: u64 = SYSTEM + 1;

/// Creates an archive, and a directory for base backups.
fn scene() -> (Kept, PathBuf) {
    let kept = Kept::new();
    kept.segments(1, 1..=8, 2);
    let backups = kept.sandbox.directory("backups");
    (kept, backups)
}

fn first(kept: &Kept) -> u64 {
    (1..=8).find(|number| kept.archive.file(SYSTEM, &name(1, *number)).exists()).unwrap()
}

/// Returns all forms of a cluster's base backup that contain its system identifier.
fn shapes(start: u64, system: u64) -> Vec<(&'static str, Vec<Member<'static>>)> {
    let bare = || base_tar_without_an_owner(start);
    let wal = || wal_tar(start, system);
    let before_17 = || ("backup_manifest", manifest(start, start, None));
    let segment_name: &'static str = format!("pg_wal/{}", name(1, start)).leak();
    vec![
        ("plain", plain(start, system).to_vec()),
        (
            "plain of version 17",
            vec![("backup_label", label(start)), ("backup_manifest", manifest(start, start, Some(system)))],
        ),
        (
            "plain that is still written",
            vec![
                ("backup_label", label(start)),
                (segment_name, segment(&name(1, start), system, SEGMENT_BYTES, 0)),
            ],
        ),
        ("tar", vec![("base.tar", base_tar(start, system)), before_17()]),
        (
            "tar made by hand",
            vec![(
                "base.tar",
                tar_of(&[
                    ("./backup_label", label(start)),
                    ("./global/pg_control", control(system, SEGMENT_BYTES as u64)),
                ]),
            )],
        ),
        ("tar and gzip", vec![("base.tar.gz", gzipped(&base_tar(start, system))), before_17()]),
        ("tar and zstd", vec![("base.tar.zst", zstd(&base_tar(start, system))), before_17()]),
        ("its WAL", vec![("base.tar", bare()), ("pg_wal.tar", wal())]),
        ("its WAL in gzip", vec![("base.tar.gz", gzipped(&bare())), ("pg_wal.tar.gz", gzipped(&wal()))]),
        ("its WAL in zstd", vec![("base.tar.zst", zstd(&bare())), ("pg_wal.tar.zst", zstd(&wal()))]),
        ("lz4", vec![("base.tar.lz4", b"x".to_vec()), before_17(), ("pg_wal.tar", wal())]),
    ]
}

#[test]
fn another_clusters_base_backup_decides_nothing() {
    for (shape, files) in shapes(5, OTHER) {
        let (kept, backups) = scene();
        backup(&backups, "other", &files, 3);
        let directory = backups.to_str().unwrap();
        kept.fails(1, "prune", &["--backup-dir", directory], "there is no base backup of this cluster in");
        assert_eq!(first(&kept), 1, "{shape}");
        // It does not hide this cluster's backup.
        backup(&backups, "ours", &plain(3, SYSTEM), 9);
        kept.said("prune", &["--backup-dir", directory]);
        assert_eq!(first(&kept), 3, "{shape}");
    }
}

#[test]
fn this_clusters_backup_is_recognized_by_any_of_its_files() {
    for (shape, files) in shapes(5, SYSTEM) {
        let (kept, backups) = scene();
        backup(&backups, "ours", &files, 3);
        backup(&backups, "sound", &plain(7, SYSTEM), 1);
        kept.said("prune", &["--backup-dir", backups.to_str().unwrap()]);
        assert_eq!(first(&kept), 5, "{shape}");
    }
}

#[test]
fn a_backup_of_an_unknown_cluster_deletes_nothing() {
    let whole = base_tar(5, SYSTEM);
    let packed = gzipped(&whole);
    let some = segment(&name(1, 5), SYSTEM, SEGMENT_BYTES, 0);
    let large = tar_of(&[("backup_label", label(5)), ("base/1/1", some)]);
    let cut = |bytes: &[u8]| bytes[..bytes.len() - bytes.len() / 4].to_vec();
    let before_17 = || ("backup_manifest", manifest(5, 5, None));
    let cases: Vec<(&str, Vec<Member>)> = vec![
        ("plain without pg_control", vec![("backup_label", label(5)), before_17()]),
        ("no more than a manifest", vec![before_17()]),
        ("an early end", vec![("base.tar", whole[..4_000].to_vec()), before_17()]),
        ("an early end in gzip", vec![("base.tar.gz", cut(&packed))]),
        ("an early end in zstd", vec![("base.tar.zst", cut(&zstd(&large)))]),
        (
            "WAL of elsewhere",
            vec![("base.tar", base_tar_without_an_owner(5)), ("pg_wal.tar", wal_tar(6, SYSTEM))],
        ),
        (
            "WAL that has not come",
            vec![
                ("base.tar", base_tar_without_an_owner(5)),
                ("pg_wal.tar", tar_of(&[(&name(1, 5), vec![0; SEGMENT_BYTES])])),
            ],
        ),
        (
            "no owner's name",
            vec![("base.tar", tar_of(&[("backup_label", label(5)), ("global/pg_control", vec![0; 512])]))],
        ),
        ("lz4 before version 17", vec![("base.tar.lz4", b"x".to_vec()), before_17()]),
        (
            "a member without end",
            vec![("base.tar", {
                let mut header = tar::Header::new_gnu();
                header.set_path("base/1/1").unwrap();
                header.set_size(u64::MAX >> 1);
                header.set_cksum();
                let label = tar_of(&[("backup_label", label(5))]);
                [&label[..1024], header.as_bytes()].concat()
            })],
        ),
    ];
    for (case, files) in cases {
        let (kept, backups) = scene();
        backup(&backups, "sound", &plain(7, SYSTEM), 3);
        let doubtful = backup(&backups, "doubtful", &files, 3);
        let options = ["--backup-dir", backups.to_str().unwrap()];
        for command in ["prune", "verify"] {
            kept.fails(
                1,
                command,
                &options,
                &format!("cannot tell whose base backup is in {}", doubtful.display()),
            );
        }
        kept.fails(1, "prune", &options, "nothing is deleted, because");
        assert_eq!(first(&kept), 1, "{case}");
        if case.starts_with("lz4") {
            kept.fails(1, "prune", &options, "base.tar.lz4");
        }
        fs::remove_dir_all(&doubtful).unwrap();
        kept.said("prune", &options);
        assert_eq!(first(&kept), 7, "{case}");
    }
}

/// Takes backups with the installed pg_basebackup, in all its formats.
#[test]
fn backups_of_a_real_server_are_recognized() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut cluster = Cluster::initialised_with(&sandbox, "cluster", &["--wal-segsize=1"]);
    cluster.archive_into(&archive);
    cluster.start();
    let shapes: [&[&str]; 7] = [
        &["-Fp", "-Xnone"],
        &["-Ft", "-Xnone"],
        &["-Ft", "-Xfetch", "--compress=client-gzip"],
        &["-Ft", "-Xstream", "--compress=client-gzip"],
        &["-Ft", "-Xstream", "--compress=server-zstd"],
        &["-Ft", "-Xstream", "--compress=client-lz4"],
        &["-Ft", "-Xnone", "--no-manifest", "--compress=client-zstd"],
    ];
    let (kept, _) = scene();
    let backups = sandbox.join("backup");
    let options = ["--dry-run", "--backup-dir", backups.to_str().unwrap()];
    for shape in shapes {
        output_of(
            cluster.client("pg_basebackup").args(["--no-sync", "-cfast", "-D"]).arg(&backups).args(shape),
        );
        cluster.wait_until_archived();
        let mut prune = sandbox.walkeep();
        // Everything was archived just now.
        prune.args(["prune", "--json", "--archive", archive.url(), "--backup-may-take", "0s"]).args(options);
        let output: Value = serde_json::from_str(&output_of(&mut prune)).unwrap();
        let last = output["kept_backups"].as_array().unwrap().last().unwrap();
        assert_eq!(last["why"], json!(["its files are still there"]), "{shape:?}: {output:#}");
        assert_eq!(output["begins_at"], last["start_segment"], "{shape:?}: {output:#}");
        kept.fails(1, "prune", &options, "there is no base backup of this cluster in");
        fs::remove_dir_all(&backups).unwrap();
    }
}
