//! Paths that are not UTF-8, as flags and as variables.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::Command,
};

use serde_json::Value;
use support::{
    data_directory::{DataDirectory, SEGMENT},
    push::SYSTEM,
    restore::TARGET,
    running::outcome_of,
    sandbox::Sandbox,
    store_cluster::CallOutput,
};

const ODD: &[u8] = b"\xFFodd \xE9";

fn odd_directory(sandbox: &Sandbox, name: &str) -> PathBuf {
    let directory = sandbox.directory(name);
    let odd = directory.with_file_name(OsStr::from_bytes(&[name.as_bytes(), ODD].concat()));
    fs::rename(directory, &odd).unwrap();
    odd
}

fn succeeds(command: Command) {
    let outcome = outcome_of(command);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
}

#[test]
fn every_path_may_have_any_bytes() {
    for by_variables in [false, true] {
        let sandbox = Sandbox::new();
        let [archive, spool, backups] =
            ["archive", "spool", "backups"].map(|name| odd_directory(&sandbox, name));
        let data = DataDirectory::new(&sandbox, "data", SYSTEM);
        let content = data.segment(SEGMENT, 0);
        let configuration = sandbox.file("toml", "keep_backups = 1\n");
        let odd_configuration = configuration.with_file_name(OsStr::from_bytes(ODD));
        fs::rename(configuration, &odd_configuration).unwrap();
        let with = |mut command: Command, flags: &[(&str, &PathBuf)]| {
            for (name, path) in flags {
                if by_variables {
                    command.env(format!("WALKEEP_{}", name.to_uppercase()), path);
                } else {
                    command.arg(format!("--{name}")).arg(path);
                }
            }
            command
        };
        let all = [("archive", &archive), ("spool", &spool), ("config", &odd_configuration)];
        let mut push = with(data.run(sandbox.walkeep_archive()), &all);
        push.arg(format!("pg_wal/{SEGMENT}"));
        succeeds(push);
        let mut restore = with(data.run(sandbox.walkeep_restore()), &all);
        restore.args([SEGMENT, TARGET]).env("WALKEEP_PREFETCH_SIZE", "0MB");
        succeeds(restore);
        assert!(fs::read(data.join(TARGET)).unwrap() == content);

        let tool = [all[0], all[2]];
        let list = |mut command: Command| {
            command.args(["list", "--json"]);
            command
        };
        let mut listed = with(list(sandbox.walkeep()), &tool);
        let odd_data = data.join("").with_file_name(OsStr::from_bytes(b"data\xFF"));
        std::os::unix::fs::symlink(data.join(""), &odd_data).unwrap();
        listed.arg("--pgdata").arg(&odd_data);
        let listed = CallOutput::of(listed);
        assert_eq!((listed.status, listed.stderr.as_str()), (0, ""));
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed["archive"], archive.to_string_lossy().as_ref(), "what is no text is replaced");

        let mut cat = sandbox.walkeep();
        cat.arg("cat");
        let output = archive.with_file_name(OsStr::from_bytes(b"output\xFF"));
        let mut cat = with(cat, &tool);
        cat.arg(SEGMENT).arg("-o").arg(&output);
        succeeds(cat);
        assert!(fs::read(&output).unwrap() == content);

        let mut prune = sandbox.walkeep();
        prune.arg("prune");
        let mut prune = with(prune, &tool);
        if by_variables {
            prune.env("WALKEEP_BACKUP_DIRS", &backups);
        } else {
            prune.arg("--backup-dir").arg(&backups);
        }
        let outcome = outcome_of(prune);
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        let words = format!("there is no base backup of this cluster in {}", backups.display());
        assert!(outcome.stderr.contains(&words), "{}", outcome.stderr);
    }
}

#[test]
fn a_url_that_is_no_text_and_one_with_too_few_slashes_are_refused_with_the_right_one() {
    let sandbox = Sandbox::new();
    for (url, words) in [
        (OsString::from("file:/mnt/archive"), "write file:///mnt/archive"),
        (OsString::from("s3:/bucket"), "write s3://bucket"),
        (OsStr::from_bytes(b"s3://\xFF").to_owned(), "is not an absolute path"),
    ] {
        let mut list = sandbox.walkeep();
        list.args(["list", "--archive"]).arg(&url);
        let outcome = outcome_of(list);
        assert_eq!(outcome.status, 2, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}
