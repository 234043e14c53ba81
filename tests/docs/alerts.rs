//! The alert rules for Prometheus: `scripts/alerts` tests when they fire. Here is that they know walkeep's metrics, and the
//! guide knows them.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{collections::BTreeSet, fs};

use support::package;

fn read(path: &str) -> String {
    fs::read_to_string(package().join(path)).unwrap()
}

const RULES: &str = "packaging/prometheus/walkeep.rules.yml";

/// Returns each word in a text that begins like a metric of walkeep's.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("walkeep_")).collect()
}

/// Returns what follows `field` on the lines that begin with it.
fn fields<'a>(text: &'a str, field: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(field)).map(str::trim).collect()
}

#[test]
fn the_rules_ask_for_metrics_that_walkeep_writes() {
    let (rules, source) = (read(RULES), read("src/cli/status/prometheus.rs"));
    let asked: BTreeSet<_> = fields(&rules, "expr:").into_iter().flat_map(metrics).collect();
    assert!(asked.len() > 10, "{asked:?}");
    let written: BTreeSet<_> = source.split('"').filter(|text| text.starts_with("walkeep_")).collect();
    assert_eq!(asked.difference(&written).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn each_rule_is_tested_and_in_the_guide_with_its_severity() {
    let (rules, tests) = (read(RULES), read("packaging/prometheus/walkeep.rules.test.yml"));
    let guide = read("docs/guide/monitoring.md");
    let alerts = fields(&rules, "- alert:");
    let severities = fields(&rules, "severity:");
    assert_eq!(alerts.len(), severities.len());
    for (alert, severity) in alerts.iter().zip(&severities) {
        assert!(
            guide.contains(&format!("| `{alert}` | {severity} |")),
            "the guide lacks {alert}, {severity}"
        );
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "no test has {alert} fire");
    }
    assert_eq!(guide.lines().filter(|line| line.starts_with("| `Walkeep")).count(), alerts.len());
}
