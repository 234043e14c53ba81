//! What means one system is refused beside `--all-systems`.
#![allow(clippy::indexing_slicing, reason = "a failed expectation is the point")]

use support::{
    kept::name,
    several::{SYSTEMS, Several},
};

#[test]
fn flags_that_mean_one_system_are_refused() {
    let several = Several::new();
    let system = SYSTEMS[0].to_string();
    let segment = name(1, 3);
    let cases: [(&str, &[&str]); 13] = [
        ("verify", &["--system-identifier", &system]),
        ("verify", &["--pgdata", "data"]),
        ("verify", &["--give-up-timeline", "3"]),
        ("verify", &["--acknowledge", &segment]),
        ("verify", &["--forget", &segment]),
        ("prune", &["--keep-backups", "1", "--system-identifier", &system]),
        ("prune", &["--keep-backups", "1", "--pgdata", "data"]),
        ("prune", &["--before", &segment]),
        ("prune", &["--keep-backups", "1", "--keep-from", "0/3000028"]),
        ("prune", &["--keep-backups", "1", "--pg-url", "postgres://host/db"]),
        ("prune", &["--keep-backups", "1", "--give-up-timeline", "3"]),
        ("prune", &["--keep-backups", "1", "--hold-timeline", "3"]),
        ("status", &["--pgdata", "data"]),
    ];
    for (command, flags) in cases {
        let output = several.output(command, flags);
        let flag = flags[flags.len() - 2];
        output.is_error(2, &["--all-systems", flag, "cannot be used with"]);
        assert!(output.stdout.is_empty(), "{}", output.text());
    }
    let output = several.output("status", &["--max-backlog", "3"]);
    output.is_error(2, &["--all-systems", "--max-backlog", "cannot be used with"]);
    assert!(!several.directory(SYSTEMS[0]).join("reports").exists(), "nothing was done");
}

#[test]
fn timelines_of_one_system_in_the_configuration_are_refused() {
    let several = Several::new();
    for setting in ["given_up_timelines", "held_timelines"] {
        let file = several.sandbox.file("walkeep.toml", format!("keep_backups = 1\n{setting} = [3]\n"));
        for command in ["prune", "verify"] {
            let output = several.output(command, &["--config", file.to_str().unwrap_or_default()]);
            output.is_error(2, &[setting, "of one system", "--system-identifier"]);
        }
    }
    assert!(!several.directory(SYSTEMS[0]).join("reports").exists(), "nothing was done");
}

#[test]
fn what_is_kept_must_be_said_for_all_systems_too() {
    let output = Several::new().output("prune", &[]);
    output.is_error(2, &["nothing says what is to be kept"]);
}
