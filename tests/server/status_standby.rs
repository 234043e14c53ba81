//! `walkeep status` of a standby: whether the archive still has the WAL that it will request next.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{fs, process::Command, process::Stdio};

use jiff::Timestamp;
use serde_json::json;
use support::{
    archive::ArchiveDirectory,
    cluster::Shutdown,
    data_directory::DataDirectory,
    kept::{Kept, name, position, touch},
    orders,
    push::SYSTEM,
    sandbox::Sandbox,
    status::{json_of, metrics, quiet_output, says},
    store_cluster::CallOutput,
    wait_until,
};

/// Creates a standby whose restart point is in segment 5, and an archive of ten segments.
fn scene() -> (Kept, DataDirectory) {
    let kept = Kept::new();
    kept.segments(1, 1..=10, 3);
    kept.backup(1, 2, 2, 3);
    let standby = DataDirectory::new(&kept.sandbox, "standby", SYSTEM);
    standby.set_restart_point(1, (5 << 20) + 0x28);
    standby.file("standby.signal", "");
    standby.file("postgresql.conf", "");
    fs::create_dir(standby.join("pg_wal/archive_status")).unwrap();
    (kept, standby)
}

fn status(kept: &Kept, standby: &DataDirectory, arguments: &[&str]) -> Command {
    let mut status = kept.walkeep("status", arguments);
    status.arg("--pgdata").arg(standby.join("")).stdout(Stdio::piped());
    status
}

fn remove(kept: &Kept, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        fs::remove_file(kept.archive.file(SYSTEM, &name(1, number))).unwrap();
    }
}

#[test]
fn a_standby_whose_next_segment_has_been_pruned_is_a_problem() {
    let (kept, standby) = scene();
    let needs =
        |number| format!("standby          needs {} next, which is in the archive\n", name(1, number));
    says(status(&kept, &standby, &[]), 0, &[&needs(5)]);
    remove(&kept, 1..=5);
    let words = format!("✗ the archive begins at {}, the standby needs {}", name(1, 6), name(1, 5));
    says(status(&kept, &standby, &[]), 1, &[&words, "new base backup", "do not promote"]);
    let json = json_of(status(&kept, &standby, &["--json"]), 1);
    let expected = json!({ "needs_segment": name(1, 5), "archived": false, "archive_begins_at": name(1, 6) });
    assert_eq!(json["standby"], expected);
    let output = CallOutput::of(status(&kept, &standby, &["--prometheus"]));
    let found = metrics(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(found["walkeep_standby_stranded"], "1");
    // It needs no segment that it has itself.
    standby.segment(&name(1, 5), 5);
    says(status(&kept, &standby, &[]), 0, &[&needs(6)]);
    // A file prepared for reuse does not count.
    fs::copy(
        standby.join(&format!("pg_wal/{}", name(1, 5))),
        standby.join(&format!("pg_wal/{}", name(1, 6))),
    )
    .unwrap();
    says(status(&kept, &standby, &[]), 0, &[&needs(6)]);
    // A primary needs nothing.
    fs::remove_file(standby.join("standby.signal")).unwrap();
    fs::remove_file(standby.join(&format!("pg_wal/{}", name(1, 5)))).unwrap();
    let json = json_of(status(&kept, &standby, &["--json"]), 0);
    assert_eq!(json["standby"], json!(null));
    // A running recovery does.
    standby.set_state(support::data_directory::IN_ARCHIVE_RECOVERY);
    standby.set_restart_point(1, (5 << 20) + 0x28);
    says(status(&kept, &standby, &[]), 1, &[&words]);
}

#[test]
fn a_gap_before_a_standbys_next_segment_is_a_problem_and_the_end_of_the_archive_is_none() {
    let (kept, standby) = scene();
    standby.segment(&name(1, 5), 5);
    remove(&kept, [6]);
    says(
        status(&kept, &standby, &[]),
        1,
        &["✗ the archive lacks ", &name(1, 6), "has later segments", "walkeep backfill"],
    );
    // While pushes run, a later segment may briefly exist before an earlier one.
    for number in 7..=10 {
        touch(&kept.archive.file(SYSTEM, &name(1, number)), Timestamp::now());
    }
    quiet_output(status(&kept, &standby, &[]));
    remove(&kept, 7..=10);
    says(status(&kept, &standby, &[]), 0, &["needs ", &name(1, 6), "not in the archive"]);
}

#[test]
fn a_standbys_next_segment_is_looked_for_on_its_target_timeline() {
    let (kept, standby) = scene();
    remove(&kept, 8..=10);
    kept.history(2, &[(1, position(8, 0x90))]);
    kept.segments(2, 8..=9, 1);
    for number in 5..=7 {
        standby.segment(&name(1, number), 5);
    }
    says(status(&kept, &standby, &[]), 0, &[&format!("needs {} next, which is in", name(2, 8))]);
    // Of the segment of the fork, the older timeline's is enough.
    standby.segment(&name(1, 8), 5);
    says(status(&kept, &standby, &[]), 0, &[&format!("needs {} next, which is in", name(2, 9))]);
    // Only to the end of its own timeline.
    standby.file("postgresql.conf", "recovery_target_timeline = 'current'\n");
    says(status(&kept, &standby, &[]), 0, &[&format!("needs {} next, which is not", name(1, 9))]);
}

/// A drill has recovered to an old position and archived: timeline 2 left timeline 1 before the restart point.
#[test]
fn a_timeline_that_left_before_the_restart_point_prevents_a_restart() {
    let (kept, standby) = scene();
    kept.history(2, &[(1, position(3, 0x90))]);
    kept.segments(2, 3..=4, 1);
    for number in 5..=10 {
        standby.segment(&name(1, number), 5);
    }
    let barred = [
        "✗ the standby cannot be restarted with recovery_target_timeline = 'latest' while 00000002.history is in the archive",
        "name the timeline, or move the drill's timeline out of the archive, see \"A drill has archived\" in guide/drills.md",
    ];
    let needs = |number| format!("needs {} next", name(1, number));
    says(status(&kept, &standby, &[]), 1, &[&needs(11), barred[0], barred[1]]);
    let json = json_of(status(&kept, &standby, &["--json"]), 1);
    assert_eq!(json["standby"]["barred_by_timeline"], 2, "{json:#}");
    let output = CallOutput::of(status(&kept, &standby, &["--prometheus"]));
    let found = metrics(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!((&*found["walkeep_standby_barred"], &*found["walkeep_standby_stranded"]), ("1", "0"));
    let mut check = kept.walkeep("check", &["--pgdata"]);
    check.arg(standby.join("")).stdout(Stdio::piped());
    let text = CallOutput::of(check).text();
    assert!(text.contains("✗ standby") && text.contains("cannot be restarted"), "{text}");
    // This is the remedy.
    standby.file("postgresql.conf", "recovery_target_timeline = 'current'\n");
    says(status(&kept, &standby, &[]), 0, &[&needs(11)]);
}

/// It streams on timeline 1 and has replayed more of it than the drill; its restart point is older than both.
#[test]
fn a_timeline_that_left_before_wal_in_pg_wal_is_not_followed() {
    let (kept, standby) = scene();
    kept.history(2, &[(1, position(7, 0x90))]);
    kept.segments(2, 7..=7, 1);
    for number in 5..=10 {
        standby.segment(&name(1, number), 5);
    }
    says(status(&kept, &standby, &[]), 0, &[&format!("needs {} next, which is not", name(1, 11))]);
}

/// It would follow timeline 2, and never reach the later WAL of timeline 1.
#[test]
fn segments_off_the_path_do_not_count_as_later() {
    let (kept, standby) = scene();
    kept.history(2, &[(1, position(7, 0x90))]);
    kept.segments(2, 7..=7, 1);
    for number in 5..=7 {
        standby.segment(&name(1, number), 5);
    }
    standby.segment(&name(2, 7), 5);
    says(status(&kept, &standby, &[]), 0, &[&format!("needs {} next, which is not", name(2, 8))]);
}

#[test]
fn a_base_backup_that_was_never_started_begins_at_the_start_in_its_label() {
    let (kept, standby) = scene();
    let label = format!("START WAL LOCATION: {} (file {})\n", position(3, 0x28), name(1, 3));
    standby.file("backup_label", label);
    says(status(&kept, &standby, &[]), 0, &[&format!("needs {} next", name(1, 3))]);
}

#[test]
fn the_needs_of_a_real_standby_are_printed() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = orders::primary(&sandbox, &archive);
    let mut standby = primary.base_backup("standby");
    standby.follow(&archive);
    primary.sql("insert into orders values (1)");
    primary.archive_segment();
    standby.start();
    wait_until("it follows", || standby.try_sql("select count(*) from orders").as_deref() == Ok("1"));
    primary.sql("checkpoint");
    primary.sql("insert into orders values (2)");
    let replayed = primary.archive_segment();
    wait_until("it follows", || standby.try_sql("select count(*) from orders").as_deref() == Ok("2"));
    standby.sql("checkpoint");
    standby.stop(Shutdown::Fast);
    let status = |arguments: &[&str]| {
        let mut status = sandbox.walkeep();
        status
            .args(["status", "--archive", archive.url(), "--timeout", "20s", "--pgdata"])
            .arg(standby.data());
        status.args(arguments);
        status
    };
    primary.sql("insert into orders values (3)");
    let next = primary.current_segment();
    says(status(&[]), 0, &[&format!("needs {next} next, which is not in the archive")]);
    // It continues from the position given by the server itself.
    let control =
        support::output_of(sandbox.command(support::postgres::program("pg_controldata")).arg(standby.data()));
    let line = control.lines().find(|line| line.contains("REDO WAL file")).unwrap();
    let redo = line.rsplit(' ').next().unwrap();
    assert!(redo <= &*replayed, "{redo} {replayed}");
    for name in fs::read_dir(standby.wal("")).unwrap().map(|entry| entry.unwrap().path()) {
        if name.is_file() {
            fs::remove_file(name).unwrap();
        }
    }
    says(status(&[]), 0, &[&format!("needs {redo} next, which is in the archive")]);
    let later = primary.archive_segment();
    for name in archive.all_names(primary.system_identifier()) {
        if name.len() == 24 && name < later {
            fs::remove_file(archive.file(primary.system_identifier(), &name)).unwrap();
        }
    }
    says(status(&[]), 1, &[&format!("the archive begins at {later}, the standby needs {redo}")]);
}
