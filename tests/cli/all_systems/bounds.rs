//! Memory of a command for all systems: that of one system, however many there are.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]
#![allow(clippy::print_stdout, reason = "figures for --nocapture")]

use std::{fs, path::Path, process::Stdio};

use support::{
    data_directory::SEGMENT,
    kept::name,
    memory::peak_of,
    several::{SYSTEMS, Several},
};

/// Number of segments of each cluster.
const SEGMENTS: u64 = 2_000;

/// Creates an archive of that many clusters. Only the first segments of each have a content: no other is read.
fn archive_of(systems: u64) -> Several {
    let several = Several::new();
    for system in SYSTEMS[0]..SYSTEMS[0] + systems {
        if !SYSTEMS.contains(&system) {
            several.add(system);
        }
        let segment = several.archive.file(system, SEGMENT);
        for number in support::several::SEGMENTS + 1..=SEGMENTS {
            fs::hard_link(&segment, Path::new(&several.archive.file(system, &name(1, number)))).unwrap();
        }
    }
    several
}

#[test]
fn sixty_systems_take_no_more_memory_than_three() {
    let (few, many) = (archive_of(3), archive_of(60));
    let commands: [&[&str]; 3] = [
        &["verify", "--names-only", "--json"],
        &["prune", "--keep-wal-days", "9", "--dry-run", "--json"],
        &["status"],
    ];
    for command in commands {
        let [of_few, of_many] = [&few, &many].map(|several| {
            let mut command = several.command(command[0], &command[1..]);
            command.stdout(Stdio::null());
            let (outcome, peak) = peak_of(command);
            assert!(outcome.status <= 1, "{}", outcome.stderr);
            peak
        });
        println!("{}: {of_few} MiB for 3 systems, {of_many} MiB for 60", command[0]);
        assert!(of_many <= of_few + of_few / 4 + 2, "{}: {of_few} and {of_many} MiB", command[0]);
    }
}
