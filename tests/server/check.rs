//! `walkeep check --pg-url` makes a running server end a segment, and checks that it arrives in the archive.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the point")]

use std::{
    process::Command,
    time::{Duration, Instant},
};

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    data_directory::DataDirectory,
    postgres,
    sandbox::Sandbox,
    store::Store,
    store_cluster::{ARCHIVE, CallOutput, archive_by, configuration, store_section},
    user,
};

/// Returns the check of an archive and of the server at `url`.
fn check(sandbox: &Sandbox, archive: &str, url: &str) -> Command {
    let mut check = sandbox.walkeep();
    check.args(["check", "--archive", archive, "--pg-url", url]).env("WALKEEP_TIMEOUT", "20s");
    postgres::with_clients(&mut check);
    check
}

/// Returns the line about `name`, which starts with its mark.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let is_about_it = |line: &&str| line.split_whitespace().nth(1) == Some(name);
    text.lines().find(is_about_it).unwrap_or_else(|| panic!("{name} is not in {text}"))
}

fn has(text: &str, mark: char, name: &str, words: &[&str]) {
    let line = line(text, name);
    assert!(line.starts_with(mark) && words.iter().all(|word| line.contains(word)), "{words:?}: {text}");
}

fn small_cluster<'a>(sandbox: &'a Sandbox, name: &str) -> Cluster<'a> {
    Cluster::initialised_with(sandbox, name, &["--wal-segsize=1"])
}

#[test]
fn a_server_that_archives_into_the_store_passes() {
    let (sandbox, store) = (Sandbox::new(), Store::new());
    let text = format!("archive = \"{ARCHIVE}\"\n\n{}", store_section(&store.environment(), ""));
    let file = configuration(&sandbox, &text, 0o600);
    let mut primary = small_cluster(&sandbox, "primary");
    archive_by(&sandbox, &primary, &file);
    primary.start();
    let segment = primary.current_segment();
    let mut check = check(&sandbox, ARCHIVE, &primary.connection());
    check.arg("--config").arg(&file).arg("--pgdata").arg(primary.data());
    let output = CallOutput::of(check);
    let text = output.text();
    assert_eq!(output.status, 0, "{text}");
    has(&text, '✓', "archive_mode", &["on"]);
    has(&text, '✓', "archive_command", &["walkeep-archive"]);
    has(&text, '✓', "destination", &["archive_command uses this archive"]);
    has(&text, '✓', "archiver", &[]);
    has(&text, '✓', "user", &[]);
    has(&text, '✓', "switch", &[&segment, "in the archive"]);
    assert!(store.keys().iter().any(|key| key.ends_with(&segment)), "{:?}", store.keys());
    // Nothing else is left in it.
    assert!(store.keys().iter().all(|key| key.contains("/wal/")), "{:?}", store.keys());
}

#[test]
fn a_failing_archive_command_is_reported_with_the_segment_within_the_time_limit() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = small_cluster(&sandbox, "primary");
    primary.set("archive_mode", "on");
    primary.set("archive_command", "false # walkeep-archive %p");
    primary.start();
    let segment = primary.current_segment();
    let started = Instant::now();
    let mut check = check(&sandbox, archive.url(), &primary.connection());
    check.args(["--timeout", "4s"]);
    let output = CallOutput::of(check);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let text = output.text();
    assert_eq!((output.status, &*output.stderr), (1, ""), "{text}");
    has(&text, '✗', "switch", &["has not archived", &segment, "last failure"]);
    assert!(text.contains("psql -d ") && text.contains("-c 'select * from pg_stat_archiver'"), "{text}");
}

#[test]
fn a_server_that_archives_elsewhere_fails() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = small_cluster(&sandbox, "primary");
    primary.archive_into(&archive);
    primary.start();
    let elsewhere = sandbox.directory("elsewhere");
    let segment = primary.current_segment();
    let mut check = check(&sandbox, elsewhere.to_str().unwrap(), &primary.connection());
    check.args(["--timeout", "4s"]);
    let output = CallOutput::of(check);
    let text = output.text();
    assert_eq!(output.status, 1, "{text}");
    has(&text, '✗', "switch", &[&segment]);
    has(&text, '✗', "destination", &["another archive", archive.url(), elsewhere.to_str().unwrap()]);
    assert!(text.contains("is its archive this one?"), "{text}");
}

#[test]
fn a_stuck_file_is_found_although_look_ahead_brings_the_new_segment() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = small_cluster(&sandbox, "primary");
    primary.archive_into(&archive);
    primary.start();
    primary.archive_segment();
    let history = "00000009.history";
    for (name, content) in
        [(history.to_owned(), "no history"), (format!("archive_status/{history}.ready"), "")]
    {
        std::fs::write(primary.wal(&name), content).unwrap();
        user::hand_over(&primary.wal(&name));
    }
    let output = CallOutput::of(check(&sandbox, archive.url(), &primary.connection()));
    let text = output.text();
    assert_eq!(output.status, 1, "{text}");
    has(&text, '✓', "switch", &["in the archive"]);
    has(&text, '✗', "archiver", &["failed, for 00000009.history", "nothing else is handed over"]);
    // The very command of the server, which says why.
    let typed = text.lines().find_map(|line| line.split_once("to see it here: ")).unwrap().1;
    let mut shell = sandbox.command("sh");
    shell.args(["-c", typed]);
    let output = CallOutput::of(shell);
    assert_ne!(output.status, 0, "{typed}");
    assert!(
        output.stderr.contains("not an acceptable WAL file") && output.stderr.contains(history),
        "{}",
        output.stderr
    );
}

#[test]
fn a_standby_cannot_end_a_segment_which_is_noted() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = small_cluster(&sandbox, "primary");
    primary.archive_into(&archive);
    primary.start();
    let mut standby = primary.base_backup("standby");
    primary.archive_segment();
    primary.stop(Shutdown::Fast);
    standby.follow(&archive);
    standby.start();
    let output = CallOutput::of(check(&sandbox, archive.url(), &standby.connection()));
    let text = output.text();
    assert_eq!(output.status, 0, "{text}");
    has(&text, '!', "switch", &["in recovery"]);
}

#[test]
fn an_unavailable_server_or_one_of_another_cluster_fails() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = small_cluster(&sandbox, "primary");
    let output = CallOutput::of(check(&sandbox, archive.url(), &primary.connection()));
    assert_eq!(output.status, 1);
    has(&output.text(), '✗', "server", &["cannot ask the server"]);
    assert_eq!(output.text().matches("cannot ask the server").count(), 1, "{}", output.text());

    primary.archive_into(&archive);
    primary.start();
    let other = DataDirectory::new(&sandbox, "other", primary.system_identifier() + 1);
    let mut check = check(&sandbox, archive.url(), &primary.connection());
    check.arg("--pgdata").arg(other.join(""));
    let output = CallOutput::of(check);
    assert_eq!(output.status, 1);
    has(&output.text(), '✗', "system", &[&primary.system_identifier().to_string(), "same cluster"]);
}

/// Asserts that the check refuses each URL without repeating it.
fn are_refused_for_their_password(urls: &[&str]) {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let output = urls.iter().map(|url| CallOutput::of(check(&sandbox, archive.url(), url)));
    let output: Vec<_> = output.collect();
    let repeated: Vec<_> =
        output.iter().map(CallOutput::text).filter(|text| text.contains("s3cret")).collect();
    assert!(repeated.is_empty(), "{}", repeated.join("\n"));
    for output in output {
        output.is_error(2, &["password", "PGPASSWORD"]);
    }
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    are_refused_for_their_password(&[
        "postgres://walkeep:s3cret@localhost/postgres",
        "host=localhost password=s3cret",
        "postgres://localhost/postgres?user=walkeep&password=s3cret",
        "postgres://localhost/postgres?sslpassword=s3cret",
    ]);
}

/// As libpq parses them. The last one is no password to libpq, which would repeat it as a port.
#[test]
fn a_password_in_an_unusual_place_is_refused_and_not_repeated() {
    are_refused_for_their_password(&[
        "postgres://walkeep:s3cret?x@localhost/postgres",
        "host=localhost password = s3cret",
        "postgres://localhost/postgres?user=walkeep&pass%77ord=s3cret",
        "postgresql://walkeep:s3cret/with@localhost/postgres",
    ]);
}
