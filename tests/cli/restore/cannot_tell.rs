//! Unknown answers: whatever prevents `walkeep-restore` from knowing that a file exists, or from verifying it, stops
//! a recovery and makes a standby retry; `%p` stays absent.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{fs, num::NonZeroUsize, os::unix::fs::symlink, path::PathBuf, process::Command, thread};

use support::{
    data_directory::{DataDirectory, SEGMENT, SEGMENT_BYTES, segment},
    files::Permissions,
    forged::{hex, resealed},
    restore::{SYSTEM, Scene},
    running::outcome_of,
};
use walkeep::{
    frame::{Codec, Content, HeaderFields, Overflow, encode},
    wal::{SystemIdentifier, WalMagic, WalName},
};

const NEXT_SEGMENT: &str = "000000010000000000000002";
const HISTORY: &str = "00000002.history";
const BACKUP: &str = "000000010000000000000001.00000028.backup";
const OTHER_SYSTEM: u64 = 7_000_000_000_000_000_001;

/// Returns an archived file with the header of `name` and valid digests, whatever its content.
fn well_sealed(name: &str, system: u64, content: &[u8]) -> Vec<u8> {
    let name: WalName = name.parse().unwrap();
    let fields = HeaderFields {
        name,
        system: SystemIdentifier::new(system).unwrap(),
        wal_magic: name.segment().map(|_| WalMagic(0xD110)),
        archived_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        host: None,
    };
    let encoded = encode(content, &fields, Codec::default(), NonZeroUsize::MIN, Overflow::never()).unwrap();
    let Content::Memory(chunks) = encoded.content else { panic!("it is not in memory") };
    chunks.concat()
}

/// Levels of a name in the archive, from the archive itself to the file.
const LEVELS: [&str; 5] =
    ["", "SYSTEM", "SYSTEM/wal", "SYSTEM/wal/0000000100000000", "SYSTEM/wal/0000000100000000/SEGMENT"];

fn level(scene: &Scene, level: &str) -> PathBuf {
    let below = level.replace("SYSTEM", &SYSTEM.to_string()).replace("SEGMENT", SEGMENT);
    scene.sandbox.join("archive").join(below).components().collect()
}

/// Runs the cases concurrently, because each waits for the time limit of its restores.
fn for_each_at_once<T: Copy + Sync>(cases: &[T], check: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let check = &check;
            scope.spawn(move || check(*case));
        }
    });
}

#[test]
fn a_missing_archive_directory_proves_nothing() {
    for_each_at_once(&[SEGMENT, NEXT_SEGMENT, HISTORY], |name| {
        let (scene, _) = Scene::with_segment();
        scene.archive.vanish();
        scene.cannot_tell(name, "does not exist");
    });
}

#[test]
fn an_empty_archive_directory_counts_as_not_mounted() {
    for_each_at_once(&[SEGMENT, NEXT_SEGMENT, HISTORY], |name| {
        let (scene, _) = Scene::with_segment();
        scene.archive.vanish();
        scene.sandbox.directory("archive");
        scene.cannot_tell(name, "mounted");
    });
}

#[test]
fn an_archive_of_another_system_proves_nothing() {
    let scene = Scene::new();
    let other = DataDirectory::new(&scene.sandbox, "other", OTHER_SYSTEM);
    other.segment(SEGMENT, 0);
    scene.push(&other, SEGMENT);
    scene.cannot_tell(SEGMENT, &SYSTEM.to_string());
    scene.cannot_tell(NEXT_SEGMENT, &SYSTEM.to_string());
}

#[test]
fn an_archive_that_is_a_file_proves_nothing() {
    let (scene, _) = Scene::with_segment();
    scene.archive.vanish();
    scene.sandbox.file("archive", "");
    scene.cannot_tell(SEGMENT, "not a directory");
}

#[test]
fn a_missing_required_mount_proves_nothing() {
    let (scene, _) = Scene::with_segment();
    let configuration =
        format!("archive = '{}'\nrequire_mount = true\ntimeout = '1s'\n", scene.archive.url());
    let file = scene.sandbox.file("walkeep.toml", configuration);
    let call = |server: &DataDirectory| -> Command {
        let mut command = server.run(scene.sandbox.walkeep_restore());
        command.arg("--config").arg(&file).args([NEXT_SEGMENT, "pg_wal/RECOVERYXLOG"]);
        command
    };
    scene.cannot_tell_when(&call, "mount");
}

#[test]
fn a_missing_permission_proves_nothing() {
    let wanted_above_the_file = LEVELS[..4].iter().map(|at| (*at, NEXT_SEGMENT));
    let cases: Vec<_> = LEVELS.map(|at| (at, SEGMENT)).into_iter().chain(wanted_above_the_file).collect();
    for_each_at_once(&cases, |(at, name)| {
        let (scene, _) = Scene::with_segment();
        let _closed = Permissions::set(&level(&scene, at), 0o000);
        scene.cannot_tell(name, "Permission denied");
    });
}

#[test]
fn a_dangling_symbolic_link_proves_nothing() {
    for_each_at_once(&LEVELS, |at| {
        let (scene, _) = Scene::with_segment();
        let path = level(&scene, at);
        let elsewhere = scene.sandbox.join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_eq!(outcome_of(scene.restore(&scene.primary, SEGMENT)).status, 0, "links are followed: {at}");
        fs::rename(&elsewhere, scene.sandbox.join("unmounted")).unwrap();
        scene.cannot_tell(SEGMENT, "mount");
    });
}

#[test]
fn a_symbolic_link_to_itself_proves_nothing() {
    for_each_at_once(&LEVELS, |at| {
        let (scene, _) = Scene::with_segment();
        let path = level(&scene, at);
        fs::rename(&path, scene.sandbox.join("elsewhere")).unwrap();
        symlink(&path, &path).unwrap();
        scene.cannot_tell(SEGMENT, "symbolic link");
    });
}

#[test]
fn a_file_or_directory_out_of_place_proves_nothing() {
    let (scene, _) = Scene::with_segment();
    fs::remove_file(scene.file(SEGMENT)).unwrap();
    fs::create_dir(scene.file(SEGMENT)).unwrap();
    scene.cannot_tell(SEGMENT, SEGMENT);
    fs::write(level(&scene, "SYSTEM").join("timelines"), "").unwrap();
    scene.cannot_tell(HISTORY, "timelines");
}

#[test]
fn a_damaged_header_or_body_is_not_served() {
    let (scene, _) = Scene::with_segment();
    let sound = scene.archived(SEGMENT);
    for at in [0, 4, 8, 500, 958, 959, 1023, 1024, 1030, sound.len() / 2, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        scene.put(SEGMENT, damaged);
        scene.cannot_tell(SEGMENT, SEGMENT);
    }
}

#[test]
fn a_cut_or_extended_file_is_not_served() {
    let (scene, _) = Scene::with_segment();
    let sound = scene.archived(SEGMENT);
    for length in [0, 1, 7, 8, 1023, 1024, sound.len() / 2, sound.len() - 1] {
        scene.put(SEGMENT, &sound[..length]);
        scene.cannot_tell(SEGMENT, "damaged");
    }
    for more in [&b"\0"[..], &sound] {
        scene.put(SEGMENT, [&sound, more].concat());
        scene.cannot_tell(SEGMENT, "damaged");
    }
}

#[test]
fn a_file_that_walkeep_did_not_archive_is_not_served() {
    let (scene, content) = Scene::with_segment();
    scene.put(SEGMENT, content);
    scene.cannot_tell(SEGMENT, "walkeep's header");
    scene.put(HISTORY, "1\t0/3000000\tno recovery target specified\n");
    scene.cannot_tell(HISTORY, "damaged");
    scene.put(BACKUP, "<html><body>502 Bad Gateway</body></html>");
    scene.cannot_tell(BACKUP, "damaged");
}

#[test]
fn a_file_renamed_or_copied_within_the_archive_is_not_served() {
    let (scene, _) = Scene::with_segment();
    let bytes = scene.archived(SEGMENT);
    for name in
        [NEXT_SEGMENT, "000000020000000000000001", "000000010000000000000001.partial", HISTORY, BACKUP]
    {
        scene.put(name, &bytes);
        scene.cannot_tell(name, SEGMENT);
    }
}

#[test]
fn a_file_of_another_system_is_not_served() {
    let (scene, _) = Scene::with_segment();
    let other = DataDirectory::new(&scene.sandbox, "other", OTHER_SYSTEM);
    for (name, content) in [
        (SEGMENT, &other.segment(SEGMENT, 0)[..]),
        (HISTORY, b"1\t0/3000000\tno recovery target specified\n"),
    ] {
        other.file(&format!("pg_wal/{name}"), content);
        scene.push(&other, name);
        scene.put(name, fs::read(scene.archive.file(OTHER_SYSTEM, name)).unwrap());
        scene.cannot_tell(name, &OTHER_SYSTEM.to_string());
    }
}

#[test]
fn a_file_with_valid_digests_and_the_wrong_content_is_not_served() {
    let (scene, content) = Scene::with_segment();
    let segment_of = |name: &str, system| segment(name, system, SEGMENT_BYTES, 0);
    let mut other_magic = content.clone();
    other_magic[..2].copy_from_slice(&0xD113u16.to_ne_bytes());
    for (name, content, words) in [
        (SEGMENT, segment_of(NEXT_SEGMENT, SYSTEM), "not where segment"),
        (SEGMENT, segment_of("000000020000000000000001", SYSTEM), "timeline 2"),
        (SEGMENT, segment_of(SEGMENT, OTHER_SYSTEM), "7000000000000000001"),
        (SEGMENT, segment(SEGMENT, SYSTEM, 2 << 20, 0)[..1 << 20].to_vec(), "1048576 bytes"),
        (SEGMENT, [&content[..], &content].concat(), "2097152 bytes"),
        (SEGMENT, vec![0; SEGMENT_BYTES], "WAL page header"),
        (SEGMENT, other_magic, "magic D113"),
        ("000000010000000000000001.partial", segment_of(NEXT_SEGMENT, SYSTEM), "not where segment"),
        (HISTORY, Vec::new(), "parent"),
        (HISTORY, b"<html><body>404 Not Found</body></html>".to_vec(), "line 1"),
        (HISTORY, b"2\t0/3000000\tits own parent\n".to_vec(), "out of order"),
        (BACKUP, Vec::new(), "START WAL LOCATION"),
        (BACKUP, b"START WAL LOCATION: 0/200028 (file 000000010000000000000002)\n".to_vec(), "segment"),
    ] {
        scene.put(name, well_sealed(name, SYSTEM, &content));
        scene.cannot_tell(name, words);
    }
    scene.put(SEGMENT, well_sealed(SEGMENT, SYSTEM, &content));
    assert!(scene.restored(SEGMENT) == content, "the forgery itself is well-formed");
}

#[test]
fn a_valid_header_that_does_not_match_its_body_is_not_served() {
    let (scene, content) = Scene::with_segment();
    let sound = scene.archived(SEGMENT);
    let of_content = blake3::hash(&content).to_hex();
    let of_body = hex(<sha2::Sha256 as sha2::Digest>::digest(&sound[1024..]).into());
    let other = hex([7; 32]);
    for (from, to, words) in [
        (of_content.as_str(), other.as_str(), "BLAKE3"),
        (&of_body, &other, "SHA-256"),
        ("\"original_size\":1048576", "\"original_size\":2097152", "damaged"),
        ("\"codec\":\"zstd\"", "\"codec\":\"none\"", "damaged"),
    ] {
        scene.put(SEGMENT, resealed(&sound, from, to));
        scene.cannot_tell(SEGMENT, words);
    }
}

#[test]
fn a_file_in_a_newer_format_names_the_walkeep_it_needs() {
    let (scene, _) = Scene::with_segment();
    let sound = scene.archived(SEGMENT);
    let walkeep = format!("\"walkeep\":\"{}\"", env!("CARGO_PKG_VERSION"));
    let newer = resealed(&sound, &walkeep, "\"walkeep\":\"47.11.0\"");
    scene.put(SEGMENT, &newer);
    assert_eq!(outcome_of(scene.restore(&scene.primary, SEGMENT)).status, 0, "a newer walkeep's format 1");
    scene.put(SEGMENT, resealed(&newer, "\"format\":1", "\"format\":2"));
    scene.cannot_tell(SEGMENT, "needs walkeep 47.11.0");
}

#[test]
fn an_encrypted_file_is_reported_as_encrypted() {
    let (scene, _) = Scene::with_segment();
    let sound = scene.archived(SEGMENT);
    scene.put(SEGMENT, resealed(&sound, "\"encryption\":\"none\"", "\"encryption\":\"age\""));
    scene.cannot_tell(SEGMENT, "encrypted");
}
