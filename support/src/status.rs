//! Calls of `walkeep status`, their input, and a strict parser of their Prometheus output.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

use super::{
    aged::set_time,
    push::{Pusher, SYSTEM},
    store_cluster::CallOutput,
    user,
};

/// Argument for the server's data directory.
pub const DATA: [&str; 2] = ["--pgdata", "data"];

pub fn status(pusher: &Pusher, arguments: &[&str]) -> Command {
    let mut status = pusher.sandbox.walkeep();
    status.args(["status", "--archive", pusher.archive.url(), "--timeout", "20s"]).args(arguments);
    status
}

/// Creates a data directory where nothing waits to be archived.
pub fn idle(pusher: &Pusher) {
    let marks = pusher.data.join("pg_wal/archive_status");
    if !marks.exists() {
        fs::create_dir(&marks).unwrap();
        user::hand_over(&marks);
    }
}

/// Marks a file as ready to be archived since `moment`.
pub fn marked(pusher: &Pusher, name: &str, moment: &str) {
    idle(pusher);
    set_time(&pusher.data.file(&format!("pg_wal/archive_status/{name}.ready"), ""), moment);
}

/// Writes a report of a prune or a verify.
pub fn noted(pusher: &Pusher, work: &str, text: &str) {
    let reports = Path::new(pusher.archive.url()).join(SYSTEM.to_string()).join("reports");
    fs::create_dir_all(&reports).unwrap();
    fs::write(reports.join(format!("{work}.json")), text).unwrap();
}

/// Returns the output of a call that must succeed without messages.
pub fn quiet_output(command: Command) -> String {
    let output = CallOutput::of(command);
    assert_eq!((output.status, &*output.stderr), (0, ""), "{}", output.text());
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the JSON of a call that must end with this status.
pub fn json_of(command: Command, status: i32) -> Value {
    let output = CallOutput::of(command);
    assert_eq!(output.status, status, "{}", output.text());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], status == 0, "{json:#}");
    json
}

/// Asserts the exit status of a call, and that its output contains all of these words.
pub fn says(command: Command, status: i32, words: &[&str]) {
    let output = CallOutput::of(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((output.status, &*output.stderr), (status, ""), "{text}");
    assert_eq!(text.contains('✗'), status != 0, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

/// Parses an exposition by all rules of the text format, and returns the samples by name, with the timeline if there
/// is one.
pub fn metrics(text: &str) -> BTreeMap<String, String> {
    metrics_by(&["timeline"], text)
}

/// Does the same as [`metrics`], with the values of these labels.
pub fn metrics_by(labelled: &[&str], text: &str) -> BTreeMap<String, String> {
    assert!(text.ends_with('\n'), "{text:?}");
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (family, help) =
            line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("{line}")).split_once(' ').unwrap();
        assert!(families.insert(family), "{family} comes twice");
        assert!(family.starts_with("walkeep_") && !family.ends_with("_total"), "{family} counts nothing");
        assert!(family.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{family}");
        assert!(help.ends_with('.') && !help.contains('\\'), "{help}");
        assert_eq!(lines.next().unwrap(), format!("# TYPE {family} gauge"));
        let before = samples.len();
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, value) = sample.rsplit_once(' ').unwrap();
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            assert_eq!(name, family);
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{sample}"));
            let mut key = name.to_owned();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").unwrap();
                let value = value.strip_suffix('"').unwrap();
                assert!(!value.contains(['"', '\\', ',']), "{sample}");
                if labelled.contains(&label) {
                    key = format!("{key} {value}");
                }
            }
            assert!(value.parse::<f64>().is_ok(), "{sample}");
            assert_eq!(samples.insert(key, value.to_owned()), None, "{sample} comes twice");
        }
        assert!(samples.len() > before, "{family} has no sample");
    }
    samples
}
