//! What every finding of `walkeep check` that is not all well has to say: one thing to type.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use serde_json::Value;

/// Beginnings of what can be typed, without `sudo -u USER`.
const PROGRAMS: [&str; 21] = [
    "aws s3api ",
    "cd ",
    "df ",
    "du ",
    "findmnt ",
    "head ",
    "ls ",
    "namei ",
    "pg_basebackup ",
    "pg_ctl ",
    "pg_isready",
    "psql ",
    "readlink ",
    "sh -c ",
    "sudo chmod ",
    "sudo mount ",
    "sudo timedatectl ",
    "sudo umount ",
    "walkeep ",
    "walkeep-archive ",
    "walkeep-restore ",
];

/// Findings for which nothing can be typed: what a store can do, and which version a server has, no command changes.
const WITHOUT: [&str; 2] = ["conditional", "version"];

/// Asserts that each finding of a report can be acted upon.
pub(super) fn can_be_typed(report: &Value) {
    for finding in report["checks"].as_array().unwrap() {
        if finding["outcome"] == "pass" {
            continue;
        }
        let hint = finding["hint"].as_str().unwrap_or_default();
        assert!(!hint.is_empty(), "{finding:#}");
        let Some(command) = finding["command"].as_str() else {
            assert!(WITHOUT.contains(&finding["name"].as_str().unwrap()), "{finding:#}");
            continue;
        };
        assert!(hint.ends_with(&format!(": {command}")), "{finding:#}");
        let mut words = command.splitn(4, ' ');
        let typed = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("sudo"), Some("-u"), Some(_), Some(rest)) => rest,
            _ => command,
        };
        // Or it is a line of the configuration, or a flag.
        let is_setting = typed.contains(" = ") || typed.starts_with("--pg-url ");
        assert!(is_setting || PROGRAMS.iter().any(|program| typed.starts_with(program)), "{finding:#}");
        // What a shell reads is whole.
        let words = shlex::split(command);
        assert!(is_setting || words.is_some_and(|words| !words.is_empty()), "{finding:#}");
    }
}
