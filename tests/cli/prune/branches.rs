//! Pruning with several timelines: the WAL written now stays recoverable under any policy, and WAL for a base backup
//! in progress stays.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use serde_json::{Value, json};
use support::{
    kept::{Kept, archived_history, archived_segment, days_ago, name, position},
    push::SYSTEM,
};

const ONE: [&str; 2] = ["--keep-backups", "1"];

/// Creates backups in segments 5 and 15 of timeline 1, which continues to 20; `days` days ago, the server was
/// recovered from the first backup to a time in segment 8, and has not archived anything since.
fn back_in_the_past(days: i64) -> Kept {
    let kept = Kept::new();
    kept.segments(1, 1..=20, days + 1);
    kept.backup(1, 5, 5, days + 7);
    kept.backup(1, 15, 15, days + 3);
    let (file, bytes) = archived_history(2, &[(1, position(8, 0x900))], days_ago(days));
    kept.put(&file, bytes, days_ago(days));
    kept
}

fn first(kept: &Kept) -> u64 {
    (1..100).find(|number| kept.archive.file(SYSTEM, &name(1, *number)).exists()).unwrap()
}

/// Asserts that a prune fails with a doubt and deletes nothing.
fn refuses(kept: &Kept, policy: &[&str], words: &str) {
    let before = kept.files();
    kept.fails(1, "prune", policy, words);
    assert_eq!(kept.files(), before, "{words}");
}

#[test]
fn the_only_backup_that_leads_to_a_timeline_without_a_segment_stays_under_every_policy() {
    for policy in [&ONE[..], &["--keep-days", "1"], &["--keep-backups", "1", "--keep-days", "2"]] {
        let kept = back_in_the_past(0);
        let output = kept.json("prune", policy);
        assert_eq!(first(&kept), 5, "{policy:?}");
        assert_eq!(
            output["kept_backups"][0]["why"],
            json!(["the newest that leads to the end of timeline 2"]),
            "{policy:?}"
        );
    }
    // The newest timeline is wanted at any age; the other end has been inactive for long.
    let kept = back_in_the_past(90);
    kept.json("prune", &ONE);
    assert_eq!(first(&kept), 5);
}

#[test]
fn a_timeline_is_given_up_by_age_or_setting_and_held_by_setting() {
    let kept = back_in_the_past(2);
    let output = kept.json("prune", &["--keep-backups", "1", "--give-up-timeline", "2", "--dry-run"]);
    assert_eq!((&output["begins_at"], &output["given_up_timelines"]), (&json!(name(1, 15)), &json!([2])));
    let said = kept.said("prune", &["--keep-backups", "1", "--give-up-timeline", "2", "--dry-run"]);
    assert!(said.contains("gives up timeline 2, last written on "), "{said}");

    // Timeline 2 has its own backup, and timeline 1 is an end that was inactive for 15 days.
    let went_on = |days| {
        let kept = back_in_the_past(days);
        kept.segments(2, 8..=20, days - 1);
        kept.backup(2, 18, 18, 1);
        kept
    };
    let old = went_on(14);
    let output = old.json("prune", &["--keep-backups", "1", "--dry-run"]);
    assert_eq!((&output["begins_at"], &output["given_up_timelines"]), (&json!(name(1, 18)), &json!([1])));
    let held = old.json("prune", &["--keep-backups", "1", "--hold-timeline", "1", "--dry-run"]);
    assert_eq!((&held["begins_at"], &held["given_up_timelines"]), (&json!(name(1, 15)), &json!([])));
    assert_eq!(went_on(12).json("prune", &["--keep-backups", "1", "--dry-run"])["begins_at"], name(1, 15));

    // Both settings in the configuration file.
    let config = |line: &str| {
        let text = format!("archive = \"{}\"\nkeep_backups = 1\n{line}\n", old.archive.url());
        old.sandbox.file("walkeep.toml", text)
    };
    let with = |line: &str| -> Value {
        let mut prune = old.sandbox.walkeep();
        prune.args(["prune", "--json", "--dry-run", "--config"]).arg(config(line));
        serde_json::from_str(&support::output_of(&mut prune)).unwrap()
    };
    assert_eq!(with("held_timelines = [1]")["begins_at"], name(1, 15));
    assert_eq!(with("given_up_timelines = [2]\nbackup_may_take = \"30d\"")["deleted_files"], json!([]));
    for (line, words) in [
        ("held_timelines = [0]", "there is no timeline 0"),
        ("backup_may_take = \"soon\"", "is not a duration such as"),
    ] {
        let mut prune = old.sandbox.walkeep();
        prune.args(["prune", "--config"]).arg(config(line));
        let outcome = support::running::outcome_of(prune);
        assert!(outcome.status == 2 && outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    old.fails(
        2,
        "prune",
        &["--keep-backups", "1", "--hold-timeline", "A"],
        "is not the number of a timeline",
    );
}

#[test]
fn a_given_up_number_that_is_written_again_is_another_timeline() {
    let kept = back_in_the_past(0);
    let prune = |timeline: &str| {
        let options = ["--keep-backups", "1", "--give-up-timeline", timeline];
        let outcome = support::running::outcome_of(kept.walkeep("prune", &options));
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        outcome.stderr
    };
    let warning = prune("2");
    assert!(
        warning.contains("timeline 2 is not given up, because something was archived of it at"),
        "{warning}"
    );
    assert_eq!(first(&kept), 5);
    let warning = prune("9");
    assert!(warning.contains("the archive knows nothing of timeline 9"), "{warning}");
}

#[test]
fn before_cuts_off_no_active_branch() {
    // A drill has the newest timeline and a backup, while production continues on timeline 1.
    let kept = Kept::new();
    kept.segments(1, 1..=20, 2);
    kept.backup(1, 5, 5, 7);
    kept.history(2, &[(1, position(8, 0x900))]);
    kept.segments(2, 8..=14, 1);
    kept.backup(2, 13, 13, 1);
    refuses(&kept, &["--before", &name(2, 13)], "would be left that leads to the end of timeline 1");
}

#[test]
fn a_timeline_with_a_lost_history_is_a_doubt_while_older_backups_may_lead_there() {
    let kept = back_in_the_past(0);
    kept.segments(3, 16..=18, 2);
    refuses(&kept, &ONE, "nothing says where timeline 3 began");
    kept.said("prune", &["--keep-backups", "1", "--give-up-timeline", "3"]);
    assert_eq!(first(&kept), 5);
    let kept = back_in_the_past(0);
    kept.segments(3, 16..=18, 0);
    kept.backup(3, 16, 16, 0);
    kept.said("prune", &ONE);
}

#[test]
fn before_deletes_neither_the_last_backup_nor_the_last_one_that_leads_to_the_present() {
    let kept = back_in_the_past(0);
    let before = |number| ["--before".to_owned(), name(1, number)];
    let [takes_all, takes_way, slip] = [before(16), before(6), before(21)];
    let words = |options: &'static str| options;
    for (policy, why) in [
        (&takes_all, words("no complete base backup would be left: the newest one")),
        (&takes_way, words("no complete base backup would be left that leads to the end of timeline 2")),
        (&slip, words("is behind the end of the log: the last segment that is archived is")),
    ] {
        refuses(&kept, &[&policy[0], &policy[1]], why);
    }
    refuses(&kept, &[&slip[0], &slip[1], "--accept-no-backup"], "behind the end of the log");
    kept.said("prune", &["--before", &name(1, 5)]);
    assert_eq!(first(&kept), 5);
    let outcome = support::running::outcome_of(
        kept.walkeep("prune", &[&takes_all[0], &takes_all[1], "--accept-no-backup"]),
    );
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("warning: no complete base backup would be left"), "{}", outcome.stderr);
    assert_eq!(first(&kept), 16);
}

#[test]
fn wal_that_a_backup_in_progress_may_need_stays() {
    let kept = Kept::new();
    kept.segments(1, 1..=9, 9);
    kept.backup(1, 2, 2, 8);
    // One backup started in segment 10, and another one started in 20 and has ended.
    kept.segments(1, 10..=25, 0);
    kept.backup(1, 20, 20, 0);
    let said = kept.said("prune", &ONE);
    assert!(said.contains(&format!("keeps {}, archived ", name(1, 10))), "{said}");
    assert_eq!(first(&kept), 10);
    assert_eq!(kept.json("prune", &ONE)["young_from"], name(1, 10));
    let hours = kept.json("prune", &["--keep-backups", "1", "--backup-may-take", "0s"]);
    assert_eq!((first(&kept), &hours["young_from"]), (20, &Value::Null));
}

#[test]
fn a_partial_segment_is_no_sign_of_activity() {
    let kept = back_in_the_past(20);
    kept.segments(2, 8..=20, 0);
    kept.backup(2, 18, 18, 1);
    let partial = format!("{}.partial", name(1, 21));
    kept.put(&partial, archived_segment(&partial, days_ago(0)), days_ago(0));
    let output = kept.json("prune", &["--keep-backups", "1", "--backup-may-take", "0s"]);
    assert_eq!(output["begins_at"], name(1, 18));
}
