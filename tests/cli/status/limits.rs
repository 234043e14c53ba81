//! Limits of `walkeep status`: it fails if one is exceeded, and names it; an idle server exceeds none.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::fs;

use jiff::{SignedDuration, Timestamp};
use support::{
    aged::{set_archived, set_time},
    data_directory::{SEGMENT_BYTES, control},
    push::{BACKUP_CONTENT, Pusher, SYSTEM, succeeds},
    status::{DATA, idle, json_of, marked, metrics, noted, quiet_output, says, status},
    store_cluster::CallOutput,
};

const FIRST: &str = "000000010000000000000001";
const SECOND: &str = "000000010000000000000002";
const THIRD: &str = "000000010000000000000003";
const FOURTH: &str = "000000010000000000000004";

/// Returns the time that many hours and a few minutes ago.
fn hours_ago(hours: i64) -> String {
    let then = Timestamp::now() - SignedDuration::from_hours(hours) - SignedDuration::from_mins(5);
    Timestamp::from_second(then.as_second()).unwrap().to_string()
}

/// Creates an archive whose newest segment is the second one, archived 50 hours ago, and a server that writes the
/// third.
fn archive() -> Pusher {
    let pusher = Pusher::new();
    for (seed, name) in (0..).zip([FIRST, SECOND, THIRD]) {
        pusher.data.segment(name, seed);
    }
    for name in [FIRST, SECOND] {
        succeeds(pusher.push(name));
        set_archived(&pusher.file(name), &hours_ago(50));
    }
    idle(&pusher);
    pusher
}

/// Adds the data directory to the arguments.
fn with_data<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&DATA[..], arguments].concat()
}

#[test]
fn an_idle_server_with_a_known_data_directory_does_not_lag() {
    let pusher = archive();
    assert_eq!(json_of(status(&pusher, &with_data(&["--max-lag", "1m", "--json"])), 0)["lag_seconds"], 0);
    // Without a data directory, this is unknown.
    let line = "✗ the newest segment was archived 2d 2h ago, which is longer than --max-lag 2d\n";
    says(status(&pusher, &["--max-lag", "2d"]), 1, &[line]);
    says(status(&pusher, &["--max-lag", "3d"]), 0, &["lag              2d 2h\n"]);
}

#[test]
fn a_file_that_waits_too_long_exceeds_the_lag() {
    let pusher = archive();
    pusher.data.segment(FOURTH, 4);
    set_time(&pusher.data.join(&format!("pg_wal/{THIRD}")), &hours_ago(3));
    marked(&pusher, THIRD, &hours_ago(2));
    // Just marked; the age of the one before does not matter.
    marked(&pusher, "00000002.history", &Timestamp::now().to_string());
    says(
        status(&pusher, &with_data(&["--max-lag", "4h"])),
        0,
        &["2 files, 1 MB, the oldest ready for 2h 5m"],
    );
    let line = "✗ a finished file has been waiting to be archived for 3h 5m";
    says(status(&pusher, &with_data(&["--max-lag", "3h"])), 1, &[line, "longer than --max-lag 3h"]);
    fs::remove_file(pusher.data.join(&format!("pg_wal/{THIRD}"))).unwrap();
    let line = "✗ a finished file has been waiting to be archived for 2h 5m";
    says(status(&pusher, &with_data(&["--max-lag", "2h"])), 1, &[line, "longer than --max-lag 2h"]);
    quiet_output(status(&pusher, &with_data(&["--max-lag", "3h"])));
    // Only WAL files that are ready count.
    fs::remove_file(pusher.data.join(&format!("pg_wal/archive_status/{THIRD}.ready"))).unwrap();
    marked(&pusher, "readme", &hours_ago(9));
    let done = format!("pg_wal/archive_status/{SECOND}.done");
    set_time(&pusher.data.file(&done, ""), &hours_ago(9));
    let json = json_of(status(&pusher, &with_data(&["--max-lag", "1m", "--json"])), 0);
    assert_eq!((&json["backlog"]["files"], &json["backlog"]["bytes"]), (&1.into(), &0.into()), "{json:#}");
}

#[test]
fn a_server_that_archives_nothing_or_elsewhere_lags_without_a_mark() {
    let pusher = archive();
    // Files prepared for reuse still start as under their old names.
    let old = fs::read(pusher.data.join(&format!("pg_wal/{FIRST}"))).unwrap();
    for (name, content) in [(FOURTH, old), ("000000010000000000000005", vec![0; 1 << 20])] {
        let file = pusher.data.file(&format!("pg_wal/{name}"), content);
        set_time(&file, &hours_ago(9));
    }
    set_time(&pusher.data.join(&format!("pg_wal/{THIRD}")), &hours_ago(2));
    quiet_output(status(&pusher, &with_data(&["--max-lag", "1m"])));
    // Now the fourth one is being written.
    pusher.data.segment(FOURTH, 4);
    let finished = format!("1 segment from {THIRD} on, finished 2h 5m");
    says(
        status(&pusher, &with_data(&["--max-lag", "3h"])),
        0,
        &["nothing waits to be archived, but", &finished],
    );
    let line = format!("✗ {THIRD} was finished 2h 5m");
    says(
        status(&pusher, &with_data(&["--max-lag", "2h"])),
        1,
        &[&line, "--max-lag 2h", "does the server archive"],
    );
    let json = json_of(status(&pusher, &with_data(&["--json"])), 0);
    assert_eq!(
        (&json["unarchived"]["first_segment"], &json["unarchived"]["segments"]),
        (&THIRD.into(), &1.into())
    );
    // Once it is archived, all is well.
    succeeds(pusher.push(THIRD));
    quiet_output(status(&pusher, &with_data(&["--max-lag", "1m"])));
}

#[test]
fn a_long_backlog_is_reported_and_needs_a_data_directory() {
    let pusher = archive();
    marked(&pusher, THIRD, &hours_ago(0));
    marked(&pusher, "00000002.history", &hours_ago(0));
    says(status(&pusher, &with_data(&["--max-backlog", "2"])), 0, &["2 files"]);
    let line = "✗ 2 files waiting to be archived, more than --max-backlog 1\n";
    says(status(&pusher, &with_data(&["--max-backlog", "1"])), 1, &[line]);
    CallOutput::of(status(&pusher, &["--max-backlog", "1"])).is_error(2, &["--pgdata"]);
    for wrong in
        [["--max-lag", "soon"], ["--max-lag", "-1h"], ["--max-backlog", "-1"], ["--max-prune-age", "1mo"]]
    {
        assert_eq!(CallOutput::of(status(&pusher, &with_data(&wrong))).status, 2, "{wrong:?}");
    }
}

fn pruned(at: &str, rest: &str) -> String {
    format!("{{\"at\":\"{at}\",\"deleted_files\":3,\"deleted_bytes\":4096,{rest}}}")
}

fn verified(at: &str, rest: &str) -> String {
    format!("{{\"at\":\"{at}\",\"deep\":true,\"checked_files\":12,\"notes\":0,{rest}}}")
}

#[test]
fn the_last_prune_must_be_new_enough_and_must_not_have_failed() {
    let pusher = archive();
    let demands = ["--max-prune-age", "1d"];
    says(status(&pusher, &demands), 1, &["✗ no prune is known of (--max-prune-age 1d)\n"]);
    noted(&pusher, "prune", &pruned(&hours_ago(23), "\"ok\":true"));
    says(status(&pusher, &demands), 0, &["deleted 3 files, 4 kB"]);
    let then = hours_ago(24);
    noted(&pusher, "prune", &pruned(&then, "\"ok\":true"));
    let line = format!("✗ the last prune, at {then}, was 1d");
    says(status(&pusher, &demands), 1, &[&line, "longer than --max-prune-age 1d\n"]);
    noted(&pusher, "prune", &pruned(&hours_ago(1), "\"ok\":false,\"error\":\"no\\u001bway\""));
    says(status(&pusher, &demands), 1, &["✗ the last prune", "failed: no way\n"]);
    says(status(&pusher, &["--max-verify-age", "1d"]), 1, &["✗ no verify is known of"]);
    says(status(&pusher, &[]), 0, &["failed: no way\n"]);
    assert_eq!(
        json_of(status(&pusher, &["--json", "--max-prune-age", "1d"]), 1)["problems"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn the_last_verify_must_be_new_enough_and_must_not_have_failed() {
    let pusher = archive();
    let demands = ["--max-verify-age", "7d"];
    noted(&pusher, "verify", &verified(&hours_ago(6 * 24), "\"ok\":true,\"failures\":0"));
    says(status(&pusher, &demands), 0, &["no failure, 0 notes, 12 files checked"]);
    noted(&pusher, "verify", &verified(&hours_ago(7 * 24), "\"ok\":true,\"failures\":0"));
    says(status(&pusher, &demands), 1, &["✗ the last verify, at ", "longer than --max-verify-age 7d\n"]);
    noted(&pusher, "verify", &verified(&hours_ago(1), "\"ok\":false,\"failures\":2"));
    says(status(&pusher, &demands), 1, &["✗ the last verify, at ", "failed: 2 failures found\n"]);
    noted(&pusher, "verify", &verified(&hours_ago(1), "\"ok\":false,\"failures\":0,\"error\":\"stopped\""));
    says(status(&pusher, &demands), 1, &["failed: stopped\n"]);
    quiet_output(status(&pusher, &["--max-lag", "9d"]));
    // A partial verification without findings does not outweigh a failure of a full one.
    let full = |ok| {
        format!(
            "{{\"at\":\"{}\",\"ok\":{ok},\"deep\":true,\"checked_files\":12,\"failures\":{},\"notes\":0}}",
            hours_ago(30),
            if ok { 0 } else { 2 }
        )
    };
    let part = |ok| format!("\"ok\":true,\"failures\":0,\"scope\":\"names\",\"last_full\":{}", full(ok));
    noted(&pusher, "verify", &verified(&hours_ago(1), &part(false)));
    says(status(&pusher, &demands), 1, &["failed: 2 failures found\n"]);
    let output = CallOutput::of(status(&pusher, &["--prometheus"]));
    assert_eq!(output.status, 1, "it is a danger without any limit");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(metrics(&text)["walkeep_last_verify_success"], "0");
    noted(&pusher, "verify", &verified(&hours_ago(1), &part(true)));
    says(status(&pusher, &demands), 0, &["no failure"]);
    assert_eq!(metrics(&told_prometheus(&pusher))["walkeep_last_verify_success"], "1");
    // It does not renew the full one either.
    says(status(&pusher, &["--max-verify-age", "24h"]), 1, &["longer than --max-verify-age"]);
}

#[test]
fn a_running_verify_does_not_replace_the_last_result() {
    let pusher = archive();
    let demands = ["--max-verify-age", "7d"];
    let last = |ok, hours| {
        format!(
            "{{\"at\":\"{}\",\"ok\":{ok},\"deep\":true,\"checked_files\":12,\"failures\":2,\"notes\":0}}",
            hours_ago(hours)
        )
    };
    let at_work = |last: &str| format!("\"ok\":false,\"failures\":0,\"at_work\":true,\"last_full\":{last}");
    noted(&pusher, "verify", &verified(&hours_ago(0), &at_work(&last(true, 30))));
    says(status(&pusher, &demands), 0, &["12 files checked"]);
    noted(&pusher, "verify", &verified(&hours_ago(0), &at_work(&last(true, 8 * 24))));
    says(status(&pusher, &demands), 1, &["longer than --max-verify-age 7d"]);
    noted(&pusher, "verify", &verified(&hours_ago(0), &at_work(&last(false, 30))));
    says(status(&pusher, &demands), 1, &["failed: 2 failures found\n"]);
    noted(&pusher, "verify", &verified(&hours_ago(0), "\"ok\":false,\"failures\":0,\"at_work\":true"));
    says(status(&pusher, &demands), 1, &["no verify has come to its end yet"]);
}

#[test]
fn the_newest_base_backup_must_be_new_enough_and_must_have_its_first_segment() {
    let pusher = archive();
    let demands = ["--max-backup-age", "2d"];
    let none = "✗ no base backup is known (--max-backup-age 2d); take one";
    says(status(&pusher, &demands), 1, &[none, "newest backup    none"]);
    assert_eq!(json_of(status(&pusher, &["--json"]), 0)["newest_backup"], serde_json::Value::Null);
    let newest_at = "walkeep_newest_backup_timestamp_seconds";
    assert!(!metrics(&told_prometheus(&pusher)).contains_key(newest_at));
    let backup = |start: &str, label: &str, at: &str| {
        let digit = &start[23..];
        let content = BACKUP_CONTENT.replace("000000001)", &format!("00000000{digit})"));
        let content = content.replace("0/1", &format!("0/{digit}")).replace("nightly", label);
        // The time zone is ambiguous, so the archiving time counts.
        let content = content.replace("UTC", "CET");
        let name = format!("{start}.00000028.backup");
        pusher.data.file(&format!("pg_wal/{name}"), content);
        succeeds(pusher.push(&name));
        set_archived(&pusher.file(&name), at);
    };
    let ended = hours_ago(47);
    backup(FIRST, "nightly", &ended);
    says(
        status(&pusher, &demands),
        0,
        &[&format!("newest backup    \"nightly\" from {FIRST}, ended {ended}, 1d 23h ago\n")],
    );
    let json = json_of(status(&pusher, &["--json"]), 0);
    assert_eq!(
        (&json["newest_backup"]["ended"], &json["newest_backup"]["label"]),
        (&ended.as_str().into(), &"nightly".into())
    );
    let seconds = ended.parse::<Timestamp>().unwrap().as_second().to_string();
    assert_eq!(metrics(&told_prometheus(&pusher))[newest_at], seconds);
    let line = format!(
        "✗ the newest base backup, \"nightly\" from {FIRST}, ended at {ended}, 1d 23h ago, longer than --max-backup-age 1d; take one"
    );
    says(status(&pusher, &["--max-backup-age", "1d"]), 1, &[&line]);
    // A newer one counts while its first segment exists.
    backup(SECOND, "newer", &hours_ago(3));
    says(status(&pusher, &["--max-backup-age", "1d"]), 0, &["\"newer\""]);
    let second = fs::read(pusher.file(SECOND)).unwrap();
    fs::remove_file(pusher.file(SECOND)).unwrap();
    says(status(&pusher, &["--max-backup-age", "1d"]), 1, &[&line]);
    fs::write(pusher.file(SECOND), second).unwrap();
    fs::remove_file(pusher.file(FIRST)).unwrap();
    says(status(&pusher, &["--max-backup-age", "1d"]), 0, &["\"newer\""]);
    fs::remove_file(pusher.file(SECOND)).unwrap();
    let line = "✗ of 2 base backups known, the first segment is missing (--max-backup-age 1d); take one";
    says(status(&pusher, &["--max-backup-age", "1d"]), 1, &[line]);
}

#[test]
fn a_base_backup_in_a_directory_counts() {
    let pusher = archive();
    let place = pusher.sandbox.directory("nightly");
    fs::write(place.join("backup_label"), BACKUP_CONTENT.replace("STOP", "OTHER")).unwrap();
    fs::create_dir(place.join("global")).unwrap();
    fs::write(place.join("global/pg_control"), control(SYSTEM, SEGMENT_BYTES as u64)).unwrap();
    let place = place.to_str().unwrap();
    let demands = ["--max-backup-age", "2d", "--backup-dir", place];
    says(status(&pusher, &demands), 0, &["newest backup    the backup in ", place]);
    // An unavailable directory is reported, and its backups do not count.
    fs::remove_dir_all(place).unwrap();
    says(status(&pusher, &demands), 1, &["! cannot look into", "✗ no base backup is known"]);
}

fn told_prometheus(pusher: &Pusher) -> String {
    quiet_output(status(pusher, &["--prometheus"]))
}
