//! What `walkeep status` says where it knows nothing: a report that cannot be read, a verify that could not be done, and a server
//! whose data directory was not named.
#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use support::{
    data_directory::SEGMENT,
    files::Permissions,
    push::{Pusher, SYSTEM, succeeds},
    status::{DATA, noted, quiet_output, status},
    store_cluster::CallOutput,
};

fn archived() -> Pusher {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    pusher
}

#[test]
fn a_report_that_cannot_be_read_is_not_taken_for_none() {
    let pusher = archived();
    let reports = PathBuf::from(format!("{}/{SYSTEM}/reports", pusher.archive.url()));
    fs::create_dir_all(&reports).unwrap();
    let _closed = Permissions::set(&reports, 0o000);
    let said = CallOutput::of(status(&pusher, &["--max-verify-age", "8d"]));
    assert_eq!(said.status, 1, "{}", said.text());
    for words in [
        "last prune       not known, because its report cannot be read",
        "last verify      not known, because its report cannot be read",
        "the last verify is not known, because its report cannot be read (--max-verify-age 8d)",
    ] {
        assert!(said.text().contains(words), "{words:?} is not in {}", said.text());
    }
    let metrics = CallOutput::of(status(&pusher, &["--prometheus"])).text();
    let up = format!("walkeep_up{{system_identifier=\"{SYSTEM}\"}} 0\n");
    assert!(metrics.contains(&up), "the alert for what could not be found out comes: {metrics}");
}

#[test]
fn a_verify_that_could_not_be_done_does_not_read_as_good() {
    let pusher = archived();
    let report = r#"{"at":"2001-02-02T02:00:00Z","ok":false,"error":"cannot look at x","deep":false,"checked_files":0,
        "failures":0,"notes":0}"#;
    noted(&pusher, "verify", report);
    let text = quiet_output(status(&pusher, &[]));
    assert!(!text.contains("no failure"), "{text}");
    for words in [
        ": could not be done: cannot look at x\n",
        "! the last verify, at 2001-02-02T02:00:00Z, could not be done: cannot look at x\n",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

#[test]
fn what_is_known_of_a_server_only_has_a_metric_only_with_its_data_directory() {
    let pusher = archived();
    for (arguments, is_there) in
        [(&["--prometheus"][..], false), (&[&DATA[..], &["--prometheus"]].concat(), true)]
    {
        let metrics = CallOutput::of(status(&pusher, arguments)).text();
        for metric in ["walkeep_history_missing{", "walkeep_server_left_behind{"] {
            assert_eq!(metrics.contains(metric), is_there, "{metric} {metrics}");
        }
    }
}
