//! Metrics of all systems: each metric once, with a sample for each system.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    kept::name,
    several::{LAST, SECOND, SYSTEMS, Several, document},
    status::metrics_by,
};

const LABELS: [&str; 2] = ["system_identifier", "timeline"];

#[test]
fn every_metric_comes_once_with_a_sample_of_each_system() {
    let several = Several::new();
    let output = several.output("status", &["--prometheus"]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{}", output.text());
    let samples = metrics_by(&LABELS, &output.text());
    assert_eq!(samples["walkeep_systems"], "3");
    for system in SYSTEMS {
        assert_eq!(samples[&format!("walkeep_up {system}")], "1", "{samples:#?}");
        assert!(samples.contains_key(&format!("walkeep_newest_segment_timestamp_seconds {system} 1")));
        assert!(samples.contains_key(&format!("walkeep_newest_backup_timestamp_seconds {system}")));
    }
}

#[test]
fn metrics_are_written_although_a_system_fails_and_when_there_is_no_archive() {
    let several = Several::new();
    fs::remove_dir_all(several.directory(SYSTEMS[1])).unwrap();
    fs::create_dir(several.directory(SYSTEMS[1])).unwrap();
    let file = several.sandbox.join("walkeep.prom");
    let options = ["--prometheus", "--max-prune-age", "2d", "--output", file.to_str().unwrap()];
    let output = several.output("status", &options);
    assert_eq!(output.status, 1, "{}", output.text());
    assert!(output.stdout.is_empty(), "{}", output.text());
    let samples = metrics_by(&LABELS, &fs::read_to_string(&file).unwrap());
    let up = SYSTEMS.map(|system| samples[&format!("walkeep_up {system}")].clone());
    assert_eq!(up, ["1", "0", "1"]);
    let no_prune = |system: &str| format!("walkeep: error: system {system}: no prune is known of");
    assert!(output.stderr.contains(&no_prune(LAST)), "{}", output.stderr);
    assert!(
        output.stderr.ends_with(&format!("3 systems: 0 well, 3 failed: {}, {SECOND}, {LAST}\n", SYSTEMS[0]))
    );
    several.archive.vanish();
    let output = several.output("status", &options);
    output.is_error(1, &["does not exist"]);
    let samples = metrics_by(&LABELS, &fs::read_to_string(&file).unwrap());
    assert_eq!(samples.into_iter().collect::<Vec<_>>(), [("walkeep_up".to_owned(), "0".to_owned())]);
}

#[test]
fn text_and_json_go_into_a_file_as_a_whole() {
    let several = Several::new();
    let file = several.sandbox.join("status");
    let to_file = ["--output", file.to_str().unwrap()];
    let output = several.output("status", &to_file);
    assert_eq!((output.status, output.text().as_str()), (0, ""));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.ends_with("3 systems: 3 well\n"), "{text}");
    let mut output = several.output("status", &[&to_file[..], &["--json"]].concat());
    assert_eq!((output.status, output.text().as_str()), (0, ""));
    output.stdout = fs::read(&file).unwrap();
    assert_eq!(document(&output)["systems"].as_array().unwrap().len(), 3);
}

#[test]
fn a_system_that_has_a_name_is_named_everywhere() {
    let several = Several::new();
    let config = several.sandbox.file("walkeep.toml", format!("[systems]\nbilling = \"{SECOND}\"\n"));
    let with = ["--config", config.to_str().unwrap()];
    let output = several.output("status", &[&with[..], &["--prometheus"]].concat());
    let samples = metrics_by(&["system_identifier", "name"], &output.text());
    assert_eq!(samples[&format!("walkeep_up {SECOND} billing")], "1", "{samples:#?}");
    let output = several.output("status", &[&with[..], &["--json"]].concat());
    let json = document(&output);
    let names = [0, 1, 2].map(|number| json["systems"][number]["name"].as_str());
    assert_eq!(names, [None, Some("billing"), None], "{json:#}");
    several.damage(SYSTEMS[1], &name(1, 3));
    let output = several.output("verify", &with);
    let shown = format!("{SECOND} (billing)");
    assert!(output.text().contains(&format!("system {shown}\n\n")), "{}", output.text());
    assert!(output.text().contains(&format!("3 systems: 2 well, 1 failed: {shown}\n")), "{}", output.text());
    assert!(output.stderr.starts_with(&format!("walkeep: error: system {shown}: ")), "{}", output.stderr);
}
