//! Segments that wait in `pg_wal`, marked as ready, and the notes that calls leave about additional files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    data_directory::DataDirectory,
    files::names_in,
    push::{Pusher, SYSTEM},
    running::{Outcome, outcome_of},
    sandbox::Sandbox,
    user,
};

/// Returns the name of segment `number`.
pub fn name(number: usize) -> String {
    format!("0000000100000000{number:08X}")
}

pub fn names(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(name).collect()
}

/// Writes these segments to `pg_wal`, ready to be archived.
pub fn make_ready(data: &DataDirectory, numbers: impl IntoIterator<Item = usize>) {
    make_marks(data);
    for number in numbers {
        make_segment_ready(data, &name(number));
    }
}

/// Creates the directory of the server's marks.
fn make_marks(data: &DataDirectory) {
    let status = data.join("pg_wal/archive_status");
    fs::create_dir_all(&status).unwrap();
    user::hand_over(&status);
}

/// Writes a segment, or a partial one, that is ready to be archived.
pub fn make_segment_ready(data: &DataDirectory, name: &str) {
    let seed = u8::from_str_radix(&name[22..24], 16).unwrap() % 200;
    data.segment(name, seed);
    mark(data, name);
}

/// Writes a file that is ready to be archived.
pub fn make_file_ready(data: &DataDirectory, name: &str, content: &str) {
    data.file(&format!("pg_wal/{name}"), content);
    mark(data, name);
}

pub fn mark(data: &DataDirectory, name: &str) {
    make_marks(data);
    data.file(&format!("pg_wal/archive_status/{name}.ready"), "");
}

/// Removes all marks, as if the server had nothing left to archive.
pub fn unmark_all(data: &DataDirectory) {
    let status = data.join("pg_wal/archive_status");
    for mark in names_in(&status) {
        fs::remove_file(status.join(mark)).unwrap();
    }
}

pub fn pusher_with(numbers: impl IntoIterator<Item = usize>) -> Pusher {
    let pusher = Pusher::new();
    make_ready(&pusher.data, numbers);
    pusher
}

/// Lists the archived segments of timeline 1.
pub fn archived(pusher: &Pusher) -> Vec<String> {
    pusher.archive.names(SYSTEM, "wal/0000000100000000")
}

/// Runs a push with -v, which must succeed; returns its log.
pub fn said(mut push: Command) -> String {
    push.arg("-v");
    let Outcome { status, stderr } = outcome_of(push);
    assert_eq!(status, 0, "{stderr}");
    stderr
}

/// Message of a call whose file is acknowledged.
pub const BY_AN_EARLIER_CALL: &str = "archived by an earlier call";

/// Returns `true` if the push of the segment finds that an earlier call has archived it.
pub fn is_acknowledged(pusher: &Pusher, number: usize) -> bool {
    said(pusher.push(&name(number))).contains(BY_AN_EARLIER_CALL)
}

/// Returns the only spool of a sandbox.
pub fn only_spool(sandbox: &Sandbox) -> PathBuf {
    let spools = sandbox.join("spool");
    let names = names_in(&spools);
    assert_eq!(names.len(), 1, "{names:?}");
    spools.join(&names[0])
}

/// Returns the path of the note on a segment.
pub fn note(sandbox: &Sandbox, number: usize) -> PathBuf {
    only_spool(sandbox).join(format!("{}.archived", name(number)))
}

/// Rewrites all notes of a sandbox with another time in their last line: seconds since 1970, boot ID, and seconds
/// since boot.
pub fn date_notes(sandbox: &Sandbox, change: impl Fn(&mut [String; 3])) {
    let spool = only_spool(sandbox);
    for name in names_in(&spool).iter().filter(|name| name.ends_with(".archived")) {
        let path = spool.join(name);
        let text = fs::read_to_string(&path).unwrap();
        let (before, words) = text.split_once("\nwritten ").unwrap();
        let words: Vec<String> = words.trim_end().split(' ').map(str::to_owned).collect();
        let mut words: [String; 3] = words.try_into().unwrap();
        change(&mut words);
        fs::write(&path, format!("{before}\nwritten {}\n", words.join(" "))).unwrap();
        user::hand_over(&path);
    }
}

/// Adds to a number in its text form.
pub fn shift(text: &mut String, by: i64) {
    *text = (text.parse::<i64>().unwrap() + by).to_string();
}

/// Makes all notes of a sandbox an hour old.
pub fn make_notes_old(sandbox: &Sandbox) {
    date_notes(sandbox, |words| {
        shift(&mut words[0], -3600);
    });
}

/// Copies a directory of files.
pub fn copy_of_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names_in(from) {
        // Not sockets and locks, which nobody copies.
        if name.ends_with(".archived") {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
            user::hand_over(&to.join(&name));
        }
    }
}
