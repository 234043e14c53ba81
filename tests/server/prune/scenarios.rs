//! Recovery after `walkeep prune`: every kept base backup recovers to everything it did before, and one that was not
//! kept does not come up with rows missing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, process::Command, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use support::{
    archive::ArchiveDirectory,
    cluster::Cluster,
    forged::resealed,
    output_of,
    promoted::{BACKUPS, Promoted, steps},
    sandbox::Sandbox,
};

/// A copy of an archive with three timelines, to delete from.
struct Copy {
    sandbox: Sandbox,
    archive: ArchiveDirectory,
    original: Arc<Promoted>,
}

impl Copy {
    fn new() -> Self {
        let (sandbox, original) = (Sandbox::new(), Promoted::shared());
        let archive = original.archive.copy(&sandbox);
        Self { sandbox, archive, original }
    }

    /// Creates the copy with the base backups taken that many days ago.
    fn of_backups_taken(days_ago: [i64; 5]) -> Self {
        let copy = Self::new();
        for (label, days) in BACKUPS.into_iter().zip(days_ago) {
            let file = copy.archive.file(copy.original.system, &copy.original.history_of(label));
            let archived = fs::read(&file).unwrap();
            let header = String::from_utf8_lossy(&archived[8..1024]);
            let (_, rest) = header.split_once(r#""archived_at":""#).unwrap();
            let (time, _) = rest.split_once('"').unwrap();
            let earlier = Timestamp::now() - SignedDuration::from_hours(24 * days);
            fs::write(&file, resealed(&archived, time, &earlier.to_string())).unwrap();
        }
        copy
    }

    fn prune(&self, policy: &[&str]) -> Command {
        let mut prune = self.sandbox.walkeep();
        // Everything was archived just now.
        prune
            .args(["prune", "--json", "--archive", self.archive.url(), "--backup-may-take", "0s"])
            .args(policy);
        prune
    }

    /// Verifies every file, decompressed, and the paths of all base backups.
    fn assert_sound(&self) {
        output_of(self.sandbox.walkeep().args(["verify", "--deep", "--archive", self.archive.url()]));
    }

    fn names(&self) -> Vec<String> {
        self.archive.all_names(self.original.system)
    }

    /// Prunes as announced by the dry run, and returns the labels of the kept base backups, in order of their ends.
    fn pruned(&self, policy: &[&str]) -> Vec<&'static str> {
        self.assert_sound();
        let before = self.names();
        let json = |output: String| -> Value { serde_json::from_str(&output).unwrap() };
        let mut announced = json(output_of(self.prune(policy).arg("--dry-run")));
        assert_eq!(self.names(), before, "a dry run deletes nothing");
        let done = json(output_of(&mut self.prune(policy)));
        announced["dry_run"] = false.into();
        assert_eq!(announced, done);

        let after = self.names();
        let mut gone: Vec<String> = serde_json::from_value(done["deleted_files"].clone()).unwrap();
        gone.sort();
        let missing: Vec<_> = before.iter().filter(|name| !after.contains(name)).cloned().collect();
        assert_eq!(gone, missing);
        assert!(!gone.is_empty(), "this is about archives from which something goes");
        let again = json(output_of(self.prune(policy).arg("--dry-run")));
        assert_eq!(again["deleted_files"], Value::Array(Vec::new()), "all at once");
        assert_eq!(again["kept_backups"], done["kept_backups"]);
        self.assert_sound();

        let kept = done["kept_backups"].as_array().unwrap();
        let is_kept = |label: &&str| {
            kept.iter().any(|kept| kept["title"].as_str().unwrap().starts_with(&format!("\"{label}\" ")))
        };
        BACKUPS.into_iter().filter(is_kept).collect()
    }

    /// Returns a server on the base backup with that label.
    fn server(&self, label: &str) -> Cluster<'_> {
        let name = format!("{label}-{}", fs::read_dir(self.sandbox.path()).unwrap().count());
        Cluster::from_backup(&self.sandbox, &name, &self.original.backup(label))
    }

    /// Returns the rows after a recovery to a restore point or the end of a timeline.
    fn recovered(&self, label: &str, timeline: &str, point: Option<&str>) -> String {
        let mut server = self.server(label);
        let point = point.map(|point| ("recovery_target_name", point));
        let target: Vec<_> = point.into_iter().chain([("recovery_target_timeline", timeline)]).collect();
        server.recover_from(&self.archive, &target);
        server.start();
        steps(&server)
    }

    /// Asserts that the base backup with that label recovers to the end of every reachable timeline, and to points in
    /// between.
    fn assert_recovers(&self, label: &str) {
        let (first, second, third) = ("abcdefg", "abcdhij", "abcdhijklm");
        // Timeline, restore point, rows.
        let ways: &[(&str, Option<&str>, &str)] = match label {
            "monday" => &[
                ("1", None, first),
                ("2", None, second),
                ("latest", None, third),
                ("latest", Some("b"), "ab"),
                ("latest", Some("i"), "abcdhi"),
            ],
            "tuesday" => &[
                ("1", None, first),
                ("1", Some("e"), "abcde"),
                ("2", None, second),
                ("latest", None, third),
                // The start of the second timeline.
                ("latest", Some("h"), "abcdh"),
            ],
            "astray" => &[("1", None, first), ("1", Some("f"), "abcdef")],
            "wednesday" => &[
                ("2", None, second),
                ("2", Some("i"), "abcdhi"),
                ("latest", None, third),
                ("latest", Some("k"), "abcdhijk"),
            ],
            _ => &[("3", None, third), ("latest", Some("l"), "abcdhijkl")],
        };
        for (timeline, point, rows) in ways {
            assert_eq!(self.recovered(label, timeline, *point), *rows, "{label} to {point:?} of {timeline}");
        }
    }

    /// Asserts that a base backup that was not kept is refused.
    fn assert_refused(&self, label: &str) {
        let start = self.original.start_of(label);
        for timeline in [start[..8].trim_start_matches('0'), "latest"] {
            if (label, timeline) == ("astray", "latest") {
                continue;
            }
            let mut server = self.server(label);
            server.recover_from(&self.archive, &[("recovery_target_timeline", timeline)]);
            server.launch();
            assert!(!server.wait_for_exit().success());
            let log = server.log();
            // Before the server advises to remove backup_label.
            assert!(log.contains("this base backup cannot be recovered") && !log.contains("HINT"), "{log}");
            assert!(!log.contains("consistent recovery state reached"), "{log}");
        }
    }

    /// Prunes, and compares everything with the expected result.
    fn assert_kept(&self, policy: &[&str], expected: &[&str]) {
        assert_eq!(self.pruned(policy), expected);
        for label in expected {
            self.assert_recovers(label);
        }
        // The last of those before the first kept one lacks the least.
        let gone = BACKUPS.into_iter().take_while(|label| *label != expected[0]);
        gone.filter(|label| !expected.contains(label))
            .last()
            .into_iter()
            .for_each(|label| self.assert_refused(label));
    }
}

#[test]
fn the_newest_backup_alone_recovers_when_one_is_kept() {
    // The WAL of the abandoned timeline is still young.
    Copy::new().assert_kept(&["--keep-backups", "1"], &["astray", "thursday"]);
    Copy::new().assert_kept(&["--keep-backups", "1", "--give-up-timeline", "1"], &["thursday"]);
}

#[test]
fn two_backups_and_later_wal_recover_when_two_are_kept() {
    let copy = Copy::new();
    // A backup on an abandoned timeline starts later than the second newest.
    copy.assert_kept(&["--keep-backups", "2"], &["astray", "wednesday", "thursday"]);

    // The same oldest WAL, expressed in other ways: a recovery would give the same results.
    let [as_named, by_both] = [Copy::new(), Copy::of_backups_taken([30, 20, 9, 5, 2])];
    let wednesday = copy.original.start_of("wednesday");
    as_named.pruned(&["--before", &wednesday]);
    assert_eq!(as_named.names(), copy.names());
    by_both.pruned(&[
        "--before",
        &copy.original.start_of("thursday"),
        "--keep-backups",
        "3",
        "--keep-days",
        "1",
    ]);
    assert_eq!(by_both.names(), copy.names());
}

#[test]
fn after_a_recovery_to_the_past_a_backup_for_the_new_timeline_stays_despite_a_newer_one() {
    let copy = Copy::new();
    // As before the first base backup on the new timelines.
    for label in ["wednesday", "thursday"] {
        fs::remove_file(copy.archive.file(copy.original.system, &copy.original.history_of(label))).unwrap();
    }
    copy.assert_kept(&["--keep-backups", "1"], &["tuesday", "astray"]);
}

#[test]
fn every_moment_of_a_window_is_recoverable_on_any_timeline() {
    // A week ago, the second timeline had just begun, and the last backup did not lead there.
    let copy = Copy::of_backups_taken([30, 20, 9, 5, 2]);
    copy.assert_kept(&["--keep-days", "7"], &["tuesday", "astray", "wednesday", "thursday"]);
    let both = Copy::of_backups_taken([30, 20, 9, 5, 2]);
    both.pruned(&["--keep-days", "7", "--keep-backups", "2"]);
    assert_eq!(both.names(), copy.names());
}
