//! The first line of `walkeep verify`: whether the WAL written now can be recovered, and from when to when.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::process::{Command, Stdio};

use jiff::Timestamp;
use serde_json::{Value, json};
use support::{
    kept::{Kept, archived_segment, days_ago, name, position},
    store_cluster::CallOutput,
    verified::VerifyOutput,
};

fn command(kept: &Kept, options: &[&str]) -> Command {
    let mut command = kept.walkeep("verify", options);
    command.stdout(Stdio::piped());
    command
}

fn verify(kept: &Kept, options: &[&str]) -> VerifyOutput {
    VerifyOutput::of(command(kept, options))
}

fn first_line(kept: &Kept, options: &[&str]) -> String {
    let output = CallOutput::of(command(kept, options)).text();
    output.lines().next().unwrap().to_owned()
}

/// Creates segments 1 to 9, and base backups from 2 and from 6.
fn two_backups() -> Kept {
    let kept = Kept::new();
    kept.segments(1, 1..=8, 5);
    kept.segments(1, 9..=9, 2);
    kept.backup(1, 2, 2, 5);
    kept.backup(1, 6, 6, 3);
    kept
}

/// All that timeline 2 wrote is lost, but for the backup history file of a base backup that was taken there.
#[test]
fn a_timeline_does_not_end_before_what_a_base_backup_proves() {
    let kept = Kept::new();
    kept.segments(1, 1..=8, 5);
    kept.backup(1, 2, 2, 5);
    kept.history(2, &[(1, position(8, 0x100))]);
    let listed = || {
        let mut list = kept.walkeep("list", &["backups"]);
        list.stdout(Stdio::piped());
        CallOutput::of(list).text()
    };
    assert_eq!(verify(&kept, &[]).json["present"]["recoverable"], true);
    assert!(
        listed().contains(&format!("recoverable to {}, the end of timeline 2", name(1, 8))),
        "{}",
        listed()
    );

    let file = kept.backup(2, 12, 13, 1);
    let verdict = verify(&kept, &[]);
    assert_eq!(verdict.json["present"]["recoverable"], false, "{:#}", verdict.json["present"]);
    let lost = format!("{} to {}", name(2, 8), name(2, 13));
    verdict.says(&[("failure", "backup_incomplete", &file), ("failure", "gap", &lost)]);
    let line = first_line(&kept, &[]);
    assert!(line.contains("on timeline 2, CANNOT be recovered") && line.contains(&name(1, 7)), "{line}");
    let to_a_gap = format!("recoverable to {}, a gap on the way to timeline 2", name(1, 7));
    assert!(listed().contains(&to_a_gap), "{}", listed());
}

#[test]
fn the_recoverable_time_starts_at_the_end_of_the_oldest_backup_without_a_later_gap() {
    let kept = two_backups();
    // File times of a copied archive are newer than its headers.
    kept.put(&name(1, 9), archived_segment(&name(1, 9), days_ago(2)), Timestamp::now());
    let verdict = verify(&kept, &[]);
    verdict.says(&[]);
    let backup = format!("the backup \"5 days ago\" from {}", name(1, 2));
    let expected = json!({
        "timeline": 1, "recoverable": true, "from": days_ago(5), "to": days_ago(2), "backup": backup, "why": null,
        "others": [],
    });
    let present = &verdict.json["present"];
    // A second may have passed.
    let at = |field: &str| present[field].as_str().unwrap().parse::<Timestamp>().unwrap().as_second();
    assert!(
        days_ago(5).as_second() - at("from") < 60 && days_ago(2).as_second() - at("to") < 60,
        "{present:#}"
    );
    let mut without = present.clone();
    (without["from"], without["to"]) = (expected["from"].clone(), expected["to"].clone());
    assert_eq!(without, expected);
    let (from, to) = (present["from"].as_str().unwrap(), present["to"].as_str().unwrap());
    let line = format!(
        "what is written now, on timeline 1, can be recovered: from {from}, when {backup} had ended, to what had been \
         archived by {to}"
    );
    assert_eq!(first_line(&kept, &[]), line);
    let by_names = first_line(&kept, &["--names-only"]);
    assert!(by_names.contains("can be recovered, as far as names tell: from"), "{by_names}");

    std::fs::remove_file(kept.archive.file(support::push::SYSTEM, &name(1, 4))).unwrap();
    let verdict = verify(&kept, &[]);
    verdict.says(&[("failure", "gap", &name(1, 4))]);
    assert_eq!(verdict.json["present"]["recoverable"], true);
    assert!(first_line(&kept, &[]).contains("\"3 days ago\""));
}

/// Asserts the message that nothing recovers the present.
fn lost(kept: &Kept, options: &[&str], timeline: u32, why: &str) -> VerifyOutput {
    let verdict = verify(kept, options);
    let present = &verdict.json["present"];
    assert_eq!(
        (&present["timeline"], &present["recoverable"]),
        (&json!(timeline), &json!(false)),
        "{present:#}"
    );
    assert!(present["why"].as_str().unwrap().contains(why), "{present:#}");
    let file = format!("timeline {timeline}");
    assert!(verdict.findings().contains(&("failure", "present", &file)), "{:?}", verdict.findings());
    assert_eq!(verdict.status, 1);
    let line = first_line(kept, options);
    assert!(
        line.contains("CANNOT be recovered")
            && line.contains(why)
            && line.contains("walkeep backfill")
            && line.contains("then take a base backup"),
        "{line}"
    );
    verdict
}

#[test]
fn a_backup_that_leads_elsewhere_does_not_recover_the_present() {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 5);
    kept.backup(1, 5, 5, 4);
    // The server was recovered to a time before that backup.
    kept.history(2, &[(1, position(3, 0x500))]);
    kept.segments(2, 3..=6, 1);
    lost(&kept, &["--names-only"], 2, "no base backup leads there").says(&[]);
    kept.backup(2, 5, 5, 1);
    let verdict = verify(&kept, &["--names-only"]);
    verdict.says(&[]);
    assert_eq!(verdict.json["present"]["backup"], format!("the backup \"1 days ago\" from {}", name(2, 5)));
}

#[test]
fn a_given_up_timeline_is_not_the_one_written_now() {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 5);
    kept.backup(1, 5, 5, 4);
    // A drill to a time before that backup.
    kept.history(2, &[(1, position(3, 0x500))]);
    kept.segments(2, 3..=6, 1);
    lost(&kept, &["--names-only"], 2, "no base backup leads there");
    let options = ["--names-only", "--give-up-timeline", "2"];
    let verdict = verify(&kept, &options);
    verdict.says(&[]);
    let present = &verdict.json["present"];
    assert_eq!((&present["timeline"], &present["recoverable"]), (&json!(1), &json!(true)));
    let configuration = kept.sandbox.directory("conf").join("walkeep.toml");
    kept.sandbox.file(configuration.clone(), "given_up_timelines = [2]\n");
    verify(&kept, &["--names-only", "--config", configuration.to_str().unwrap()]).says(&[]);
}

#[test]
fn a_backup_whose_last_wal_may_still_arrive_is_no_danger() {
    let kept = Kept::new();
    kept.segments(1, 4..=5, 0);
    let young = kept.backup(1, 5, 6, 0);
    let verdict = verify(&kept, &["--names-only"]);
    verdict.says(&[("note", "backup_incomplete", &young)]);
    assert_eq!((verdict.status, &verdict.json["present"]["recoverable"]), (0, &Value::Null));
    let line = first_line(&kept, &["--names-only"]);
    assert!(
        line.contains("cannot be recovered yet: the last WAL of") && line.contains("on its way"),
        "{line}"
    );
}

#[test]
fn a_gap_or_damage_after_the_newest_backup_is_printed_first() {
    let kept = two_backups();
    let last = kept.archive.file(support::push::SYSTEM, &name(1, 9));
    let sound = std::fs::read(&last).unwrap();
    std::fs::write(&last, "rubbish").unwrap();
    let why =
        format!("\"3 days ago\" from {} can be recovered up to {}, and not beyond", name(1, 6), name(1, 8));
    lost(&kept, &[], 1, &why).says(&[("failure", "damaged", &name(1, 9))]);
    std::fs::write(&last, sound).unwrap();
    std::fs::remove_file(kept.archive.file(support::push::SYSTEM, &name(1, 7))).unwrap();
    lost(&kept, &[], 1, "up to").says(&[("failure", "gap", &name(1, 7))]);
}

#[test]
fn without_a_base_backup_the_answer_is_unknown() {
    let kept = Kept::new();
    kept.segments(1, 1..=3, 5);
    let verdict = verify(&kept, &[]);
    verdict.says(&[("note", "no_backup", "base backups")]);
    verdict.means("base backups", &["--backup-dir"]);
    assert_eq!((verdict.status, &verdict.json["present"]["recoverable"]), (0, &Value::Null));
    let line = first_line(&kept, &[]);
    assert!(
        line.contains("cannot be told: no base backup is known; take one") && line.contains("--backup-dir"),
        "{line}"
    );
}

#[test]
fn the_backup_that_ended_last_is_a_failure_if_it_cannot_be_recovered() {
    let kept = Kept::new();
    // It started before the other one, and a prune deleted WAL that it needs.
    kept.segments(1, 4..=9, 2);
    let long = kept.backup(1, 2, 7, 1);
    kept.backup(1, 4, 4, 2);
    let verdict = verify(&kept, &["--names-only"]);
    let gap = format!("{} to {}", name(1, 2), name(1, 3));
    verdict.says(&[("note", "gap", &gap), ("failure", "backup_incomplete", &long)]);
    verdict.means(&long, &["none that can be has ended since", "take another one"]);
    assert_eq!(verdict.json["present"]["recoverable"], true);
    kept.backup(1, 8, 8, 0);
    verify(&kept, &["--names-only"]).says(&[("note", "gap", &gap), ("note", "backup_incomplete", &long)]);
}

#[test]
fn another_recently_written_timeline_is_named() {
    let kept = Kept::new();
    kept.segments(1, 1..=5, 5);
    kept.backup(1, 2, 2, 5);
    kept.history(2, &[(1, position(4, 0x500))]);
    kept.segments(2, 4..=6, 1);
    assert_eq!(verify(&kept, &["--names-only"]).json["present"]["others"], json!([]));
    // The file was copied recently, but written long ago.
    kept.put(&name(1, 6), archived_segment(&name(1, 6), days_ago(5)), Timestamp::now());
    assert_eq!(verify(&kept, &["--names-only"]).json["present"]["others"], json!([]));
    kept.segments(1, 7..=7, 0);
    let line = first_line(&kept, &["--names-only"]);
    assert!(
        line.contains("on timeline 2, can")
            && line.ends_with("timeline 1 was written on lately, too, and is not meant"),
        "{line}"
    );
    // Timeline 1 is in use, and the drill's is the newest.
    kept.backup(1, 6, 6, 0);
    let verdict = verify(&kept, &["--names-only"]);
    assert_eq!(verdict.findings(), [("failure", "present", "timeline 1")]);
    assert_eq!((verdict.status, &verdict.json["present"]["recoverable"]), (1, &json!(true)));
    verdict.means("timeline 1", &["recovery_target_timeline = '1'", "given_up_timelines = [2]"]);
    let verdict = verify(&kept, &["--names-only", "--give-up-timeline", "2"]);
    verdict.says(&[]);
    assert_eq!(verdict.json["present"]["timeline"], 1);
}
