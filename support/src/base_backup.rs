//! Directories as written by `pg_basebackup`, created by hand: plain files or tar archives, with or without a
//! manifest.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    data_directory::{SEGMENT_BYTES, control, segment},
    kept::{days_ago, name, position, put_file},
};

/// A file of a base backup, as name and content.
pub type Member<'a> = (&'a str, Vec<u8>);

/// Returns the label of a backup that starts in a segment of timeline 1.
pub fn label(start: u64) -> Vec<u8> {
    labelled(start, "nightly")
}

pub fn labelled(start: u64, label: &str) -> Vec<u8> {
    let text = format!(
        "START WAL LOCATION: {} (file {})\nCHECKPOINT LOCATION: {}\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
         START TIME: 2026-01-02 03:04:05 UTC\nLABEL: {label}\nSTART TIMELINE: 1\n",
        position(start, 0x28),
        name(1, start),
        position(start, 0x60)
    );
    text.into()
}

/// Returns the label of a backup taken from a standby.
pub fn label_of_standby(start: u64) -> Vec<u8> {
    String::from_utf8(label(start)).unwrap().replace("FROM: primary", "FROM: standby").into()
}

/// Returns the `pg_control` of a standby whose data is consistent from that position of timeline 1 on.
pub fn control_of_standby(system: u64, end: u64) -> Vec<u8> {
    let mut control = control(system, SEGMENT_BYTES as u64);
    control[16..20].copy_from_slice(&5u32.to_ne_bytes());
    control[136..144].copy_from_slice(&end.to_ne_bytes());
    control[144..148].copy_from_slice(&1u32.to_ne_bytes());
    control
}

/// Returns a manifest as written by version 17 or, without a system identifier, by earlier ones.
pub fn manifest(start: u64, stop: u64, system: Option<u64>) -> Vec<u8> {
    manifest_of(&[(1, position(start, 0x28), position(stop, 0x138))], system)
}

/// Returns a manifest with these ranges of WAL: timeline, start and end.
pub fn manifest_of(ranges: &[(u32, String, String)], system: Option<u64>) -> Vec<u8> {
    let system = system.map_or_else(String::new, |system| format!("\"System-Identifier\": {system},\n"));
    let range = |(timeline, start, end): &(u32, String, String)| {
        format!("{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \"End-LSN\": \"{end}\" }}")
    };
    let ranges: Vec<String> = ranges.iter().map(range).collect();
    let text = format!(
        "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n{system}\"Files\": [\n\
         {{ \"Path\": \"backup_label\", \"Size\": 227, \"Last-Modified\": \"2026-01-02 03:04:05 GMT\" }}\n],\n\
         \"WAL-Ranges\": [\n{}\n],\n\"Manifest-Checksum\": \"00\"}}\n",
        ranges.join(",\n")
    );
    text.into()
}

/// Returns a tar archive of these members.
pub fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = tar::Header::new_ustar();
        // The library's own method refuses some paths.
        header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        tar.append(&header, &content[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Returns the `base.tar` of a cluster: the label is not the first member, and `pg_control` is the last one.
pub fn base_tar(start: u64, system: u64) -> Vec<u8> {
    tar_of(&[
        ("tablespace_map", Vec::new()),
        ("backup_label", label(start)),
        ("PG_VERSION", b"15\n".to_vec()),
        ("base/1/1259", vec![7; 100_000]),
        ("global/pg_control", control(system, SEGMENT_BYTES as u64)),
    ])
}

/// Returns a `base.tar` without `pg_control`, as one that is still being written.
pub fn base_tar_without_an_owner(start: u64) -> Vec<u8> {
    tar_of(&[("backup_label", label(start)), ("PG_VERSION", b"15\n".to_vec())])
}

/// Returns the `pg_wal.tar` of a cluster, with that segment of timeline 1.
pub fn wal_tar(number: u64, system: u64) -> Vec<u8> {
    let name = name(1, number);
    tar_of(&[
        (&name, segment(&name, system, SEGMENT_BYTES, 0)),
        (&format!("archive_status/{name}.done"), Vec::new()),
    ])
}

pub fn gzipped(content: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

pub fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

/// Writes a base backup of these files, dated that many days ago.
pub fn backup(parent: &Path, name: &str, files: &[Member], days: i64) -> PathBuf {
    written(parent, name, files, days_ago(days))
}

/// Does the same as [`backup`] with an exact time.
pub fn written(parent: &Path, name: &str, files: &[Member], at: Timestamp) -> PathBuf {
    let directory = parent.join(name);
    fs::create_dir(&directory).unwrap();
    super::user::hand_over(&directory);
    for (file, content) in files {
        put_file(&directory.join(file), content, at);
    }
    directory
}

/// Returns a plain backup of a cluster, as versions before 17 write it.
pub fn plain(start: u64, system: u64) -> [Member<'static>; 3] {
    [
        ("backup_label", label(start)),
        ("global/pg_control", control(system, SEGMENT_BYTES as u64)),
        ("backup_manifest", manifest(start, start, None)),
    ]
}
