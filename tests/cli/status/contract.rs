//! `walkeep status`: output for people, programs and Prometheus, exit status, and an archive that cannot be asked.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    aged::{set_archived, set_time, without_ages},
    files::names_in,
    push::{BACKUP, BACKUP_CONTENT, HISTORY, HISTORY_CONTENT, OTHER_SYSTEM, Pusher, SYSTEM, succeeds},
    status::{DATA, json_of, marked, metrics, noted, quiet_output, says, status},
    store::fault::{Fault, Matching},
    store_cluster::CallOutput,
    store_scene::{StoreScene, key},
};

const FIRST: &str = "000000010000000000000001";
const SECOND: &str = "000000010000000000000002";
const THIRD: &str = "000000010000000000000003";
const ON_2: &str = "000000020000000000000002";
const EVENING: &str = "2001-02-03T20:00:00Z";
const NIGHT: &str = "2001-02-03T23:00:00Z";

const PRUNED: &str = r#"{"at":"2001-02-01T02:00:00Z","ok":true,"deleted_files":3,"deleted_bytes":4096,
    "totals":{"files":9,"segments":8,"stored_bytes":1048576,"original_bytes":8388608}}"#;
const VERIFIED: &str = r#"{"at":"2001-02-02T02:00:00Z","ok":true,"deep":true,"checked_files":12,"failures":0,"notes":1,
    "totals":{"files":12,"segments":10,"stored_bytes":4194304,"original_bytes":10485760}}"#;

/// Creates two segments, a promotion after them, and a base backup; archived long ago.
fn archive() -> Pusher {
    let pusher = Pusher::new();
    for (seed, name) in (0..).zip([FIRST, SECOND, ON_2]) {
        pusher.data.segment(name, seed);
    }
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    pusher.data.file(&format!("pg_wal/{BACKUP}"), BACKUP_CONTENT);
    for name in [FIRST, SECOND, HISTORY, BACKUP] {
        succeeds(pusher.push(name));
        set_archived(&pusher.file(name), EVENING);
    }
    succeeds(pusher.push(ON_2));
    set_archived(&pusher.file(ON_2), NIGHT);
    // The server has removed them.
    for name in [FIRST, SECOND, ON_2] {
        fs::remove_file(pusher.data.join("pg_wal").join(name)).unwrap();
    }
    pusher
}

/// Creates [`archive`], pruned and verified, and with two waiting files.
fn archive_with_everything() -> Pusher {
    let pusher = archive();
    noted(&pusher, "prune", PRUNED);
    noted(&pusher, "verify", VERIFIED);
    for (name, moment) in [(THIRD, "2001-02-03T23:30:00Z"), (HISTORY, "2001-02-03T23:40:00Z")] {
        marked(&pusher, name, moment);
    }
    pusher.data.segment(THIRD, 3);
    pusher
}

#[test]
fn text_output_contains_everything() {
    let pusher = archive_with_everything();
    let text = without_ages(&quiet_output(status(&pusher, &DATA)));
    let expected = format!(
        "archive          {}, system 7381092445103374871
newest segment   000000020000000000000002 on timeline 2, archived 2001-02-03T23:00:00Z, AGE ago
                 000000010000000000000002 on timeline 1, archived 2001-02-03T20:00:00Z, AGE ago
backlog          2 files, 1.00 MB, the oldest ready for AGE
lag              AGE
size             10 MB of 12 files in 4 MB, ratio 2.5, as of the last verify, 2001-02-02T02:00:00Z
recovery window  2001-02-03T20:00:00Z, the end of \"nightly\" from {FIRST}, to the last commit in {ON_2}, archived 2001-02-03T23:00:00Z; gaps are found by \"walkeep verify\" (well at 2001-02-02T02:00:00Z)
newest backup    \"nightly\" from {FIRST}, ended 2001-02-03T20:00:00Z, AGE ago
last prune       2001-02-01T02:00:00Z, AGE ago: deleted 3 files, 4 kB
last verify      2001-02-02T02:00:00Z, AGE ago: no failure, 1 note, 12 files checked
! the server's disk fills since 2001-02-03T23:30:00Z: it hands over {HISTORY} next, and nothing else before that is archived; as the server's user, type: cd {} && walkeep-archive --archive {} pg_wal/{HISTORY}
",
        pusher.archive.url(),
        pusher.sandbox.join("data").display(),
        pusher.archive.url()
    );
    assert_eq!(text, expected);
}

#[test]
fn json_output_contains_the_same_in_a_stable_shape() {
    let pusher = archive_with_everything();
    let mut json = json_of(status(&pusher, &[&DATA[..], &["--json"]].concat()), 0);
    for age in [
        "/at",
        "/lag_seconds",
        "/backlog/oldest_age_seconds",
        "/timelines/0/age_seconds",
        "/timelines/1/age_seconds",
        "/newest_backup/age_seconds",
        "/last_prune/age_seconds",
        "/last_verify/age_seconds",
    ] {
        let age = json.pointer_mut(age).unwrap();
        assert!(age.is_string() || age.as_u64().unwrap() > 1_000_000, "{age}");
        *age = json!("AGE");
    }
    let note = json.pointer_mut("/notes/0").unwrap();
    assert!(note.as_str().unwrap().starts_with("the server's disk fills since"), "{note}");
    *note = json!("NOTE");
    let bytes = (1 << 20) + HISTORY_CONTENT.len();
    let expected = json!({
        "archive": pusher.archive.url(),
        "system_identifier": SYSTEM.to_string(),
        "at": "AGE",
        "ok": true,
        "errors": [],
        "problems": [],
        "notes": ["NOTE"],
        "lag_seconds": "AGE",
        "backlog": {
            "files": 2, "bytes": bytes, "oldest_since": "2001-02-03T23:30:00Z", "oldest_age_seconds": "AGE",
            "next_file": HISTORY, "stuck": false
        },
        "unarchived": null,
        "timelines": [
            { "timeline": 1, "newest_segment": SECOND, "archived_at": EVENING, "age_seconds": "AGE" },
            { "timeline": 2, "newest_segment": ON_2, "archived_at": NIGHT, "age_seconds": "AGE" },
        ],
        "size": {
            "as_of": "2001-02-02T02:00:00Z", "counted_by": "verify", "files": 12, "segments": 10,
            "stored_bytes": 4_194_304, "original_bytes": 10_485_760, "ratio": 2.5
        },
        "recovery_window": {
            "start": EVENING, "end": NIGHT, "end_segment": ON_2, "label": "nightly", "start_segment": FIRST
        },
        "newest_backup": {
            "ended": EVENING, "age_seconds": "AGE", "label": "nightly", "start_segment": FIRST, "directory": null
        },
        "holes": [],
        "parallel": [],
        "standby": null,
        "last_prune": {
            "age_seconds": "AGE", "at": "2001-02-01T02:00:00Z", "ok": true, "deleted_files": 3, "deleted_bytes": 4096,
            "totals": { "files": 9, "segments": 8, "stored_bytes": 1_048_576, "original_bytes": 8_388_608 }
        },
        "last_verify": {
            "age_seconds": "AGE", "at": "2001-02-02T02:00:00Z", "ok": true, "scope": "all", "deep": true,
            "checked_files": 12, "uncompared_files": 0, "failures": 0, "notes": 1, "gone_files": 0, "content_failures": 0, "content_notes": 0,
            "totals": { "files": 12, "segments": 10, "stored_bytes": 4_194_304, "original_bytes": 10_485_760 }
        },
        "unreadable": [],
    });
    assert_eq!(json, expected);
}

#[test]
fn prometheus_output_contains_the_same() {
    let pusher = archive_with_everything();
    let text = quiet_output(status(&pusher, &[&DATA[..], &["--prometheus"]].concat()));
    let found = metrics(&text);
    let system = format!("system_identifier=\"{SYSTEM}\"");
    let expected = include_str!("../../fixtures/status.prom")
        .replace("BYTES", &((1 << 20) + HISTORY_CONTENT.len()).to_string());
    let expected =
        expected.replace("VERSION", env!("CARGO_PKG_VERSION")).replace("system_identifier=\"1\"", &system);
    let expected: Vec<&str> = expected.lines().collect();
    let lines = text.lines().map(|line| match line.rsplit_once(' ') {
        Some((name, now))
            if name.starts_with("walkeep_status_timestamp_seconds{")
                || name.starts_with("walkeep_lag_seconds{") =>
        {
            assert!(now.parse::<f64>().unwrap() > 7e8, "{line}");
            format!("{name} NOW")
        }
        _ => line.to_owned(),
    });
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    assert_eq!(found.len(), expected.iter().filter(|line| !line.starts_with('#')).count());
}

#[test]
fn unknown_values_are_left_out() {
    let pusher = archive();
    let text = quiet_output(status(&pusher, &[]));
    for words in [
        "size             unknown until \"walkeep prune\"",
        "(never run)",
        "last prune       none",
        "last verify      none",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(!text.contains("backlog"), "{text}");
    let json = json_of(status(&pusher, &["--json"]), 0);
    for null in ["backlog", "unarchived", "size", "last_prune", "last_verify"] {
        assert_eq!(json.get(null), Some(&Value::Null), "{null}");
    }
    let text = quiet_output(status(&pusher, &["--prometheus"]));
    let found = metrics(&text);
    assert_eq!(found["walkeep_up"], "1");
    for absent in ["backlog", "archive_files", "prune", "verify"] {
        assert!(!found.keys().any(|name| name.contains(absent)), "{absent} in {text}");
    }
}

#[test]
fn the_recovery_window_starts_with_a_backup_whose_first_segment_exists() {
    let pusher = archive();
    let newer = "000000010000000000000002.00000028.backup";
    let content = BACKUP_CONTENT
        .replace("000000001)", "000000002)")
        .replace("0/1", "0/2")
        .replace("nightly", "new\u{1b}er");
    pusher.data.file(&format!("pg_wal/{newer}"), content);
    succeeds(pusher.push(newer));
    set_archived(&pusher.file(newer), "2001-02-03T21:00:00Z");
    let window = |label: &str, start: &str| {
        let json = json_of(status(&pusher, &["--json"]), 0);
        assert_eq!(
            [&json["recovery_window"]["label"], &json["recovery_window"]["start"]],
            [label, start],
            "{json:#}"
        );
    };
    window("nightly", EVENING);
    fs::remove_file(pusher.file(FIRST)).unwrap();
    window("new\u{1b}er", "2001-02-03T21:00:00Z");
    assert!(quiet_output(status(&pusher, &[])).contains("\"new er\""));
    fs::remove_file(pusher.file(SECOND)).unwrap();
    let text = quiet_output(status(&pusher, &[]));
    assert!(
        text.contains("recovery window  none: of 2 base backups known, the first segment is missing"),
        "{text}"
    );
    assert_eq!(json_of(status(&pusher, &["--json"]), 0)["recovery_window"], Value::Null);
}

#[test]
fn reports_of_a_newer_walkeep_are_read_and_unreadable_ones_are_reported() {
    let pusher = archive();
    noted(&pusher, "prune", &PRUNED.replace("\"ok\"", "\"new\":[1],\"ok\""));
    noted(&pusher, "verify", "{\"at\":");
    let text = quiet_output(status(&pusher, &[]));
    for words in [
        "deleted 3 files, 4 kB",
        "as of the last prune",
        "! what the last verify has noted of itself cannot be read",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let json = json_of(status(&pusher, &["--json"]), 0);
    assert_eq!((json["unreadable"].as_array().unwrap().len(), &json["last_verify"]), (1, &Value::Null));
    says(
        status(&pusher, &["--max-verify-age", "2d"]),
        1,
        &["✗ the last verify is not known, because its report cannot be read (--max-verify-age 2d)"],
    );
    fs::write(pusher.file(HISTORY), "damage").unwrap();
    assert!(quiet_output(status(&pusher, &[])).contains("! 00000002.history: "));
}

#[test]
fn a_time_in_the_future_has_no_age() {
    let pusher = archive();
    set_time(&pusher.file(ON_2), "2200-01-01T00:00:00Z");
    let json = json_of(status(&pusher, &["--json", "--max-lag", "0s"]), 0);
    assert_eq!(
        (json["lag_seconds"].as_i64(), json["timelines"][1]["age_seconds"].as_i64()),
        (Some(0), Some(0))
    );
    assert!(quiet_output(status(&pusher, &[])).contains("2200-01-01T00:00:00Z, 0s ago"));
}

#[test]
fn metrics_are_written_while_the_archive_is_away() {
    let pusher = archive_with_everything();
    pusher.archive.vanish();
    let with_data = [&DATA[..], &["--prometheus", "--max-backlog", "1"]].concat();
    let output = CallOutput::of(status(&pusher, &with_data));
    assert_eq!(output.status, 1);
    for words in [pusher.archive.url(), "2 files waiting to be archived, more than --max-backlog 1"] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let found = metrics(&text);
    assert_eq!([&found["walkeep_up"], &found["walkeep_backlog_files"]], ["0", "2"]);
    assert!(!found.keys().any(|name| name.contains("lag") || name.contains("newest")), "{text}");
    let json = json_of(status(&pusher, &[&DATA[..], &["--json"]].concat()), 1);
    assert_eq!(
        (&json["ok"], &json["timelines"], &json["backlog"]["files"]),
        (&json!(false), &Value::Null, &json!(2))
    );
    assert!(json["errors"][0].as_str().unwrap().contains(pusher.archive.url()), "{json:#}");
    CallOutput::of(status(&pusher, &DATA)).is_error(1, &[pusher.archive.url()]);
}

#[test]
fn a_wrong_data_directory_or_cluster_is_reported() {
    let pusher = archive();
    let away = pusher.sandbox.join("away");
    let away = ["--pgdata", away.to_str().unwrap()];
    CallOutput::of(status(&pusher, &away)).is_error(1, &["there is no global/pg_control in ", away[1]]);
    let output = CallOutput::of(status(&pusher, &[&away[..], &["--prometheus"]].concat()));
    assert_eq!(
        (output.status, &*metrics(std::str::from_utf8(&output.stdout).unwrap())["walkeep_up"]),
        (1, "0")
    );
    let other = ["--system-identifier", &OTHER_SYSTEM.to_string()];
    CallOutput::of(status(&pusher, &other)).is_error(1, &["holds nothing of system", other[1], "mounted"]);
    let both = [&DATA[..], &other].concat();
    CallOutput::of(status(&pusher, &both)).is_error(2, &["is of system", &SYSTEM.to_string(), other[1]]);
    // Nobody has created it.
    CallOutput::of(status(&pusher, &DATA)).is_error(1, &["cannot list ", "pg_wal/archive_status"]);
}

#[test]
fn a_file_is_replaced_in_one_step_for_everybody_to_read() {
    let pusher = archive();
    let directory = pusher.sandbox.directory("metrics");
    let file = directory.join("walkeep.prom");
    let arguments = |format: &'static str| [format, "--output", file.to_str().unwrap()].map(str::to_owned);
    for format in ["--prometheus", "--json", "--prometheus"] {
        let arguments = arguments(format);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(quiet_output(status(&pusher, &arguments)), "");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(names_in(&directory), ["walkeep.prom"]);
    }
    assert_eq!(metrics(&fs::read_to_string(&file).unwrap())["walkeep_up"], "1");
    // Even if there are problems, which are logged.
    let output =
        CallOutput::of(status(&pusher, &["--output", file.to_str().unwrap(), "--max-prune-age", "1d"]));
    output.is_error(1, &["no prune is known of"]);
    assert!(fs::read_to_string(&file).unwrap().contains("✗ no prune"));
    assert_eq!(quiet_output(status(&pusher, &["--output", "/dev/null"])), "");
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    for (path, words) in [("metrics", "directory"), ("no/such", "the directory no does not exist")] {
        CallOutput::of(status(&pusher, &["--output", path])).is_error(1, &["cannot write", path, words]);
    }
    CallOutput::of(status(&pusher, &["--json", "--prometheus"])).is_error(2, &["--prometheus"]);
}

/// Creates a store with two groups of segments on timeline 1, one on timeline 2, and a backup.
fn store() -> StoreScene {
    let scene = StoreScene::new();
    let later = "000000010000000100000000";
    for name in [FIRST, SECOND, later, ON_2] {
        scene.primary.segment(name, 0);
    }
    scene.primary.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    scene.primary.file(&format!("pg_wal/{BACKUP}"), BACKUP_CONTENT);
    for name in [FIRST, SECOND, later, ON_2, HISTORY, BACKUP] {
        succeeds(scene.push(name));
    }
    scene.store.put(&format!("main/{SYSTEM}/reports/prune.json"), PRUNED);
    scene.store.forget_requests();
    scene
}

fn status_of(scene: &StoreScene, arguments: &[&str]) -> Command {
    let mut status = scene.command(&scene.primary, scene.sandbox.walkeep());
    status.args(["status", "--system-identifier", &SYSTEM.to_string()]).args(arguments);
    status
}

#[test]
fn only_the_newest_segments_of_a_store_are_listed() {
    let scene = store();
    let json = json_of(status_of(&scene, &["--json"]), 0);
    let newest: Vec<_> = json["timelines"].as_array().unwrap().iter().map(|t| &t["newest_segment"]).collect();
    assert_eq!(newest, ["000000010000000100000000", ON_2]);
    let requests = scene.store.requests();
    let listings = requests
        .iter()
        .filter_map(|request| request.query.as_ref().filter(|query| query.contains("list-type")));
    let mut prefixes: Vec<String> = listings
        .map(|query| {
            let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            assert!(pairs.contains(&("delimiter".into(), "/".into())), "{query}");
            pairs.into_iter().find(|(name, _)| name == "prefix").unwrap().1
        })
        .collect();
    prefixes.sort();
    // The first directory of timeline 1 contains the start of the WAL, and its content at the fork of timeline 2.
    let expected = [
        "backups/",
        "timelines/",
        "wal/",
        "wal/0000000100000000/",
        "wal/0000000100000001/",
        "wal/0000000200000000/",
    ];
    assert_eq!(prefixes, expected.map(|prefix| format!("main/{SYSTEM}/{prefix}")));
    // Plus the text files, the two reports, the first segment of the oldest backup, and the newest segment's size.
    // Timeline 1 continues after its fork, so the times of that and of timeline 2's start are requested.
    let mut others: Vec<_> = requests.iter().filter(|request| request.query.is_none()).collect();
    others.sort_by_key(|request| request.path.clone());
    let asked: Vec<String> =
        others.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    let below = |rest: &str| format!("/wal/main/{SYSTEM}/{rest}");
    let mut expected = [
        format!("GET {}", below(&format!("backups/{BACKUP}"))),
        format!("GET {}", below("reports/prune.json")),
        format!("GET {}", below("reports/verify.json")),
        format!("GET {}", below(&format!("timelines/{HISTORY}"))),
        format!("HEAD /wal/{}", key(FIRST)),
        format!("GET /wal/{}", key("000000010000000100000000")),
        format!("GET /wal/{}", key(ON_2)),
        format!("GET /wal/{}", key(ON_2)),
    ];
    expected.sort_by_key(|line| line.split_once(' ').unwrap().1.to_owned());
    assert_eq!(asked, expected);
}

#[test]
fn a_store_that_does_not_answer_takes_the_time_limit_and_hides_no_local_metric() {
    let mut scene = store();
    fs::create_dir(scene.primary.join("pg_wal/archive_status")).unwrap();
    scene.primary.file(&format!("pg_wal/archive_status/{THIRD}.ready"), "");
    scene.store.break_with(Matching::Any, Fault::Hang);
    let data = scene.primary.join("");
    let arguments = ["--prometheus", "--pgdata", data.to_str().unwrap(), "--timeout", "2s"];
    let begun = Instant::now();
    let output = CallOutput::of(status_of(&scene, &arguments));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    output.is_error(1, &["gave up after 2s"]);
    let found = metrics(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!([&found["walkeep_up"], &found["walkeep_backlog_files"]], ["0", "1"]);
    // A refusal is reported before the limit ends, with the reason.
    scene.hurry();
    scene.move_to("http://127.0.0.1:1");
    let output = CallOutput::of(status_of(&scene, &["--prometheus", "--timeout", "4s"]));
    output.is_error(1, &["refused"]);
    assert_eq!(metrics(std::str::from_utf8(&output.stdout).unwrap())["walkeep_up"], "0");
}
