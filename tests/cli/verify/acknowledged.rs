//! Acknowledged permanent failures are notes of `walkeep verify`, with a date; failures next to them are not.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use support::{
    kept::{Kept, archived_segment, days_ago, name},
    push::SYSTEM,
    store_cluster::CallOutput,
    verified::VerifyOutput,
};

/// Segments 1 to 12, some of which are missing; base backups from 2 and from 9.
struct Scene(Kept);

impl Scene {
    fn without(missing: &[u64]) -> Self {
        let kept = Kept::new();
        for number in (1..=12).filter(|number| !missing.contains(number)) {
            kept.segments(1, number..=number, 5);
        }
        kept.backup(1, 2, 2, 5);
        kept.backup(1, 9, 9, 3);
        Self(kept)
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = self.0.walkeep("verify", options);
        command.stdout(Stdio::piped());
        command
    }

    fn verify(&self, options: &[&str]) -> VerifyOutput {
        VerifyOutput::of(self.command(options))
    }

    fn output(&self, options: &[&str]) -> CallOutput {
        CallOutput::of(self.command(options))
    }

    fn file(&self, number: u64) -> PathBuf {
        self.0.archive.file(SYSTEM, &name(1, number))
    }

    fn remove(&self, number: u64) {
        fs::remove_file(self.file(number)).unwrap();
    }

    /// Returns the acknowledged files.
    fn known(&self) -> Vec<String> {
        let Some(known) = self.0.report("acknowledged") else { return Vec::new() };
        let known = known["acknowledged"].as_array().unwrap();
        known.iter().map(|known| known["file"].as_str().unwrap().to_owned()).collect()
    }
}

fn range(first: u64, last: u64) -> String {
    format!("{} to {}", name(1, first), name(1, last))
}

#[test]
fn an_acknowledged_gap_is_a_note_and_a_new_one_is_a_failure() {
    let scene = Scene::without(&[4, 5]);
    let gap = range(4, 5);
    scene.verify(&["--names-only"]).says(&[("failure", "gap", &gap)]);
    let named = format!("{}..{}", name(1, 4), name(1, 5));
    let verdict = scene.verify(&["--acknowledge", &named, "--reason", "the disk of May"]);
    verdict.says(&[("note", "gap", &gap)]);
    assert_eq!(verdict.json["findings"][0]["acknowledged"]["reason"], "the disk of May");
    assert_eq!(scene.0.report("verify").unwrap()["ok"], true, "which is what status goes by");
    for options in [&["--names-only"][..], &[], &["--deep"]] {
        scene.verify(options).says(&[("note", "gap", &gap)]);
    }
    let output = scene.output(&[]).text();
    let line = output.lines().find(|line| line.starts_with(&format!("note {gap}"))).unwrap();
    assert!(line.contains("\"5 days ago\"") && line.contains("acknowledged on 2"), "{line}");
    assert!(line.ends_with("Z: the disk of May"), "{line}");
    assert!(output.contains("0 failures and 1 note (1 acknowledged) in "), "{output}");

    // Failures next to the acknowledged one, and elsewhere.
    for number in [6, 8] {
        scene.remove(number);
    }
    let found = [("note", "gap", &*gap), ("failure", "gap", &name(1, 6)), ("failure", "gap", &name(1, 8))];
    scene.verify(&[]).says(&found);
}

#[test]
fn an_acknowledgement_can_be_revoked() {
    let scene = Scene::without(&[4]);
    let gap = name(1, 4);
    scene.verify(&["--names-only", "--acknowledge", &gap]).says(&[("note", "gap", &gap)]);
    assert_eq!(scene.known(), [&*gap]);
    scene.output(&["--forget", &name(1, 5)]).is_error(2, &["cannot forget", &name(1, 5), "what is", &gap]);
    scene.verify(&["--names-only", "--forget", &gap]).says(&[("failure", "gap", &gap)]);
    assert_eq!(scene.known(), [""; 0]);
    scene.verify(&["--names-only"]).says(&[("failure", "gap", &gap)]);
}

#[test]
fn only_failures_can_be_acknowledged() {
    let scene = Scene::without(&[4, 5, 12]);
    scene.remove(1);
    scene.remove(2);
    // The first backup cannot be recovered, so the gap after it is a note.
    for (named, why) in [
        (name(1, 6), "nothing is found to be wrong"),
        ("00000002.history".to_owned(), "nothing is found to be wrong"),
        (range(4, 5), "is a note"),
    ] {
        for options in [&["--names-only"][..], &[]] {
            let output = scene.output(&[options, &["--acknowledge", &named]].concat());
            output.is_error(2, &["cannot acknowledge", why]);
        }
    }
    assert_eq!(scene.known(), [""; 0]);

    let scene = Scene::without(&[4, 5]);
    let output = scene.output(&["--acknowledge", &name(1, 4)]);
    output.is_error(2, &["only a part", &format!("{}..{}", name(1, 4), name(1, 5))]);
    let more = format!("{}..{}", name(1, 3), name(1, 7));
    scene.verify(&["--names-only", "--acknowledge", &more]).says(&[("note", "gap", &range(4, 5))]);
    scene.remove(6);
    let found = [("note", "gap", &*range(4, 5)), ("failure", "gap", &name(1, 6))];
    scene.verify(&["--names-only"]).says(&found);
    scene.output(&["--reason", "why"]).is_error(2, &[]);
}

#[test]
fn an_acknowledged_gap_still_prevents_recovery() {
    let scene = Scene::without(&[11]);
    let gap = name(1, 11);
    scene.output(&["--names-only", "--acknowledge", "timeline 1"]).is_error(2, &["take a base backup"]);
    let verdict = scene.verify(&["--acknowledge", &gap]);
    verdict.says(&[("note", "gap", &gap)]);
    assert_eq!((verdict.status, &verdict.json["present"]["recoverable"]), (1, &json!(false)));
    assert!(scene.output(&[]).text().starts_with("what is written now, on timeline 1, CANNOT be recovered"));
}

#[test]
fn outdated_acknowledgements_are_removed_and_reported_once() {
    let scene = Scene::without(&[4, 6]);
    scene
        .verify(&["--acknowledge", &name(1, 4), "--acknowledge", &name(1, 6)])
        .says(&[("note", "gap", &name(1, 4)), ("note", "gap", &name(1, 6))]);
    // One gap is closed, as by a backfill.
    scene.0.put(&name(1, 4), archived_segment(&name(1, 4), days_ago(5)), days_ago(5));
    let output = scene.output(&["--names-only"]).text();
    assert!(output.contains(&format!("{} is not wrong any more", name(1, 4))), "{output}");
    assert_eq!(scene.known(), [name(1, 6)]);
    assert!(!scene.output(&["--names-only"]).text().contains("any more"));
    // The other gap is pruned.
    for number in (1..=8).filter(|number| *number != 6) {
        scene.remove(number);
    }
    fs::remove_file(scene.0.archive.file(SYSTEM, &format!("{}.00000028.backup", name(1, 2)))).unwrap();
    let verdict = scene.verify(&["--names-only"]);
    verdict.says(&[]);
    assert_eq!(
        (&verdict.json["dropped"][0]["file"], &verdict.json["acknowledged"]),
        (&json!(name(1, 6)), &json!([]))
    );
    assert_eq!(scene.known(), [""; 0]);
}

#[test]
fn acknowledged_damage_is_a_note_in_every_kind_of_verification() {
    let scene = Scene::without(&[]);
    let sound = fs::read(scene.file(4)).unwrap();
    fs::write(scene.file(4), "rubbish").unwrap();
    let damaged = name(1, 4);
    scene.output(&["--names-only", "--acknowledge", &damaged]).is_error(2, &["nothing is found to be wrong"]);
    scene.verify(&["--acknowledge", &damaged]).says(&[("note", "damaged", &damaged)]);
    scene.verify(&["--names-only"]).says(&[]);
    scene.verify(&["--deep"]).says(&[("note", "damaged", &damaged)]);
    // Somebody has removed it.
    scene.remove(4);
    scene.verify(&[]).says(&[("note", "gap", &damaged)]);
    // Only a deep verification finds some damage of contents.
    fs::write(scene.file(4), &sound).unwrap();
    scene.verify(&[]).says(&[]);
    assert_eq!(scene.known(), [&*damaged]);
    scene.verify(&["--deep"]).says(&[]);
    assert_eq!(scene.known(), [""; 0]);
}

#[test]
fn an_unrecoverable_backup_can_be_acknowledged() {
    let scene = Scene::without(&[1, 2, 3]);
    scene.0.segments(1, 2..=2, 5);
    let broken = scene.0.backup(1, 3, 8, 1);
    let gap = name(1, 3);
    scene
        .verify(&["--names-only"])
        .says(&[("failure", "gap", &gap), ("failure", "backup_incomplete", &broken)]);
    let both = ["--names-only", "--acknowledge", &gap, "--acknowledge", &broken];
    scene.verify(&both).says(&[("note", "gap", &gap), ("note", "backup_incomplete", &broken)]);
}

#[test]
fn unreadable_acknowledgements_do_not_count_and_are_not_replaced() {
    let scene = Scene::without(&[4]);
    let gap = name(1, 4);
    scene.verify(&["--acknowledge", &gap]).says(&[("note", "gap", &gap)]);
    fs::write(scene.0.report_file("acknowledged"), "{").unwrap();
    let mut verdict = scene.verify(&[]);
    assert!(verdict.stderr.contains("warning: what was acknowledged cannot be read"), "{}", verdict.stderr);
    verdict.stderr.clear();
    verdict.says(&[("failure", "gap", &gap)]);
    for flag in ["--acknowledge", "--forget"] {
        scene.output(&[flag, &gap]).is_error(1, &["what was acknowledged cannot be read"]);
    }
    assert_eq!(fs::read_to_string(scene.0.report_file("acknowledged")).unwrap(), "{");
    let report: Value = scene.0.report("verify").unwrap();
    assert_eq!(report["ok"], false);
}
