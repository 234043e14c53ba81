//! Every field of the JSON output is explained.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use serde_json::Value;
use support::{data_directory::DataDirectory, guide, kept::Kept, push::SYSTEM};

/// The names of all fields of a document, but for those of the reports, which are the archive's own.
fn fields(document: &Value) -> Vec<String> {
    match document {
        Value::Object(object) => {
            let below = object.iter().filter(|(name, _)| !name.starts_with("last_"));
            let below = below.flat_map(|(_, value)| fields(value));
            object.keys().cloned().chain(below).collect()
        }
        Value::Array(values) => values.iter().flat_map(fields).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_field_of_the_json_is_explained() {
    let kept = Kept::new();
    kept.segments(1, 1..=14, 2);
    kept.backup(1, 3, 3, 20);
    kept.backup(1, 9, 9, 2);
    kept.segments(2, 16..=17, 1);
    let data = DataDirectory::new(&kept.sandbox, "data", SYSTEM);
    fs::create_dir(data.join("pg_wal/archive_status")).unwrap();
    let common = guide::section("docs/guide/scripting.md", "## JSON");
    let mut seen = 0;
    for command in [
        "prune --dry-run --keep-backups 1",
        "verify",
        "list",
        "list files",
        "list systems",
        "status --pgdata data",
        "backfill --pgdata data --dry-run",
        "check --pgdata data",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let output =
            kept.sandbox.walkeep().args(&words).args(["--json", "--archive", kept.archive.url()]).output();
        let document: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        let own = guide::section("docs/guide/scripting.md", &format!("### {}", words[0]));
        for field in fields(&document) {
            let explained = format!("`{field}`");
            assert!(own.contains(&explained) || common.contains(&explained), "{field} of {command}");
            seen += 1;
        }
    }
    let mut verify = kept.sandbox.walkeep();
    verify.args(["verify", "--all-systems", "--json", "--archive", kept.archive.url()]);
    let document: Value = serde_json::from_slice(&verify.output().unwrap().stdout).unwrap();
    let own = guide::section("docs/guide/scripting.md", "### All systems");
    for field in document.as_object().unwrap().keys() {
        let explained = format!("`{field}`");
        assert!(own.contains(&explained) || common.contains(&explained), "{field} of all systems");
        seen += 1;
    }
    assert!(seen > 150, "{seen}");
}
