//! Ends of base backups: a backup counts as complete if all WAL up to its end is archived. A backup with an unknown
//! end is incomplete.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use support::{
    archive::ArchiveDirectory,
    base_backup::{
        Member, backup, base_tar_without_an_owner, control_of_standby, gzipped, label, label_of_standby,
        manifest, tar_of, wal_tar,
    },
    data_directory::{SEGMENT_BYTES, control},
    kept::{Kept, name},
    orders, output_of,
    postgres::program,
    push::SYSTEM,
    sandbox::Sandbox,
    wait_until,
};
use walkeep::wal::{Lsn, SegmentName, SegmentSize, recovery_end_of_control_file};

/// Creates forty segments, an older complete backup, and a directory for base backups.
fn scene() -> (Kept, PathBuf) {
    let kept = Kept::new();
    kept.segments(1, 1..=40, 2);
    kept.backup(1, 10, 10, 5);
    let backups = kept.sandbox.directory("backups");
    (kept, backups)
}

/// Returns the dry run of a prune that keeps one backup.
fn plan(kept: &Kept, backups: &Path) -> Value {
    kept.json("prune", &["--dry-run", "--keep-backups", "1", "--backup-dir", backups.to_str().unwrap()])
}

/// Returns a backup of a primary, without a manifest.
fn of_primary(start: u64) -> [Member<'static>; 2] {
    [("backup_label", label(start)), ("global/pg_control", control(SYSTEM, SEGMENT_BYTES as u64))]
}

/// Returns a backup of a standby, without a manifest, that ends in a segment.
fn of_standby(start: u64, end: u64) -> [Member<'static>; 2] {
    [
        ("backup_label", label_of_standby(start)),
        ("global/pg_control", control_of_standby(SYSTEM, (end << 20) + 0x138)),
    ]
}

#[test]
fn a_backup_with_an_unknown_end_does_not_count_and_keeps_its_wal() {
    let (kept, backups) = scene();
    backup(&backups, "unknown", &of_primary(30), 1);
    let output = plan(&kept, &backups);
    assert_eq!(output["begins_at"], name(1, 10), "{output:#}");
    assert_eq!(output["kept_backups"].as_array().unwrap().len(), 2, "{output:#}");
    // Older than the requested ones, but its files exist.
    backup(&backups, "older", &of_primary(4), 9);
    assert_eq!(plan(&kept, &backups)["begins_at"], name(1, 4));

    // A single one does not count.
    let kept = Kept::new();
    kept.segments(1, 1..=40, 2);
    kept.fails(1, "prune", &["--backup-dir", backups.to_str().unwrap()], "no complete base backup was found");
}

#[test]
fn the_archive_contains_the_end_of_a_primarys_backup() {
    let (kept, backups) = scene();
    backup(&backups, "joined", &of_primary(30), 1);
    kept.backup(1, 30, 31, 1);
    assert_eq!(plan(&kept, &backups)["begins_at"], name(1, 30));
    let (kept, backups) = scene();
    backup(&backups, "lacking", &of_primary(30), 1);
    kept.backup(1, 30, 41, 1);
    assert_eq!(plan(&kept, &backups)["begins_at"], name(1, 10));
}

#[test]
fn pg_control_contains_the_end_of_a_standbys_backup() {
    let tar = |start, end| {
        let [label, control] = of_standby(start, end);
        tar_of(&[label, ("base/1/1259", vec![7; 100_000]), control])
    };
    let shapes = |end: u64| -> [(&str, Vec<Member<'static>>); 4] {
        [
            ("plain", of_standby(30, end).to_vec()),
            ("tar", vec![("base.tar", tar(30, end))]),
            ("tar and its WAL", vec![("base.tar", tar(30, end)), ("pg_wal.tar", wal_tar(30, SYSTEM))]),
            ("gzip", vec![("base.tar.gz", gzipped(&tar(30, end)))]),
        ]
    };
    for (end, begins_at) in [(40, 30), (41, 10)] {
        for (shape, files) in shapes(end) {
            let (kept, backups) = scene();
            backup(&backups, "one", &files, 1);
            assert_eq!(plan(&kept, &backups)["begins_at"], name(1, begins_at), "{shape}, end in {end}");
        }
    }
    // Its manifest also contains the end, and takes precedence.
    let (kept, backups) = scene();
    let files = [of_standby(30, 41).to_vec(), vec![("backup_manifest", manifest(30, 31, Some(SYSTEM)))]];
    backup(&backups, "one", &files.concat(), 1);
    assert_eq!(plan(&kept, &backups)["begins_at"], name(1, 30));
    // A pg_control that is not a standby's, or of another time, is ignored.
    for control in [control(SYSTEM, SEGMENT_BYTES as u64), control_of_standby(SYSTEM, 29 << 20)] {
        let (kept, backups) = scene();
        backup(&backups, "odd", &[("backup_label", label_of_standby(30)), ("global/pg_control", control)], 1);
        assert_eq!(plan(&kept, &backups)["begins_at"], name(1, 10));
    }
    // A backup in progress.
    let (kept, backups) = scene();
    let files = [("base.tar", base_tar_without_an_owner(30)), ("pg_wal.tar", wal_tar(30, SYSTEM))];
    backup(&backups, "half", &files, 1);
    assert_eq!(plan(&kept, &backups)["begins_at"], name(1, 10));
}

#[test]
fn a_primarys_backup_history_file_is_not_taken_for_a_standbys_with_the_same_start() {
    let (kept, backups) = scene();
    let files = [
        ("backup_label", label_of_standby(30)),
        ("global/pg_control", control(SYSTEM, SEGMENT_BYTES as u64)),
    ];
    backup(&backups, "of a standby", &files, 1);
    kept.backup(1, 30, 30, 3);
    let output =
        kept.json("prune", &["--dry-run", "--keep-backups", "2", "--backup-dir", backups.to_str().unwrap()]);
    assert_eq!(output["kept_backups"].as_array().unwrap().len(), 3, "{output:#}");
}

#[test]
fn verify_gives_advice_about_an_unknown_end() {
    let (kept, backups) = scene();
    let unknown = backup(&backups, "unknown", &of_primary(30), 1);
    let options = ["--names-only", "--backup-dir", backups.to_str().unwrap()];
    let output = kept.json("verify", &options);
    let findings = output["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{output:#}");
    assert_eq!(findings[0]["severity"], "note");
    assert_eq!(findings[0]["file"], unknown.to_str().unwrap());
    let meaning = findings[0]["meaning"].as_str().unwrap();
    assert!(meaning.contains("keep its backup_manifest beside it"), "{meaning}");
    // Without another one, nobody can tell what can be recovered.
    let alone = Kept::new();
    alone.segments(1, 30..=40, 2);
    let output = alone.json("verify", &options);
    assert_eq!(output["present"]["recoverable"], Value::Null, "{output:#}");
}

/// Returns a value printed by pg_controldata.
fn printed(controldata: &str, what: &str) -> String {
    let line = controldata.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn a_standby_servers_backup_ends_where_its_pg_control_says() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = orders::primary(&sandbox, &archive);
    let mut standby = primary.base_backup("standby");
    standby.follow(&archive);
    standby.start();
    primary.sql("insert into orders select generate_series(1, 1000)");
    primary.sql("checkpoint");
    primary.archive_segment();
    wait_until("the standby has all rows", || standby.sql("select count(*) from orders") == "1000");
    output_of(standby.base_backup_command("of_standby").arg("--wal-method=none"));
    let directory = sandbox.join("of_standby");

    let control = directory.join("global/pg_control");
    let (timeline, end) = recovery_end_of_control_file(&fs::read(&control).unwrap()).unwrap();
    let controldata = output_of(Command::new(program("pg_controldata")).env("LC_ALL", "C").arg(&directory));
    assert_eq!(Ok(end), printed(&controldata, "Minimum recovery ending location").parse());
    assert_eq!(timeline.to_string(), printed(&controldata, "Min recovery ending loc's timeline"));
    let of_primary = fs::read(primary.data().join("global/pg_control")).unwrap();
    assert_eq!(recovery_end_of_control_file(&of_primary), None);

    let plan = || {
        let mut prune = sandbox.walkeep();
        prune.args(["prune", "--dry-run", "--json", "--archive", archive.url(), "--backup-may-take", "0s"]);
        prune.args(["--keep-backups", "1", "--backup-dir"]).arg(&directory);
        let output: Value = serde_json::from_str(&output_of(&mut prune)).unwrap();
        let last = output["kept_backups"].as_array().unwrap().last().unwrap();
        last["why"].as_array().unwrap().len()
    };
    assert_eq!(plan(), 2, "the newest, and still there");
    // The segment in which it ends is lost.
    let lost = SegmentName::containing(timeline, Lsn(end.0 - 1), SegmentSize::new(1 << 20).unwrap()).unwrap();
    fs::remove_file(archive.file(primary.system_identifier(), &lost.to_string())).unwrap();
    assert_eq!(plan(), 1, "still there");
}
