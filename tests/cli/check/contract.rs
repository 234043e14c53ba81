//! `walkeep check` of an archive and a data directory: it finds problems before archiving starts, and leaves nothing
//! behind.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::process::Command;

use serde_json::Value;
use support::{
    data_directory::{DataDirectory, SEGMENT},
    files::Permissions,
    push::{BACKUP, BACKUP_CONTENT, OTHER_SYSTEM, Pusher, SYSTEM, files_below, succeeds},
    status::idle,
    store::{
        Store,
        dead_end::DeadEnd,
        fault::{Fault, Matching},
        identity::Identity,
    },
    store_cluster::{CallOutput, Environment, StoreUsers, changed, configured, knowing},
};

use super::remedies::can_be_typed;

/// Output of `walkeep check --json`.
struct Report {
    status: i32,
    json: Value,
}

impl Report {
    fn of(mut check: Command) -> Self {
        check.arg("--json");
        let output = CallOutput::of(check);
        let is_retry =
            |line: &str| line.starts_with("walkeep: warning: ") && line.contains("; trying again for up to ");
        assert!(output.stderr.lines().all(is_retry), "{}", output.stderr);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["ok"], output.status == 0, "{json:#}");
        can_be_typed(&json);
        Self { status: output.status, json }
    }

    fn checks(&self) -> &[Value] {
        self.json["checks"].as_array().unwrap()
    }

    fn finding(&self, name: &str) -> &Value {
        let finding = self.checks().iter().find(|finding| finding["name"] == name);
        finding.unwrap_or_else(|| panic!("{name} is not in {:#}", self.json))
    }

    /// Asserts the outcome of the check `name`, and words in its detail or hint.
    fn says(&self, outcome: &str, name: &str, words: &[&str]) {
        let finding = self.finding(name);
        assert_eq!(finding["outcome"], outcome, "{finding:#}");
        let text =
            format!("{} {}", finding["detail"].as_str().unwrap(), finding["hint"].as_str().unwrap_or(""));
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
    }

    /// Asserts the exit status and the names of the failed checks.
    fn fails(&self, names: &[&str]) {
        let failed: Vec<_> = self.checks().iter().filter(|finding| finding["outcome"] == "fail").collect();
        let failed: Vec<_> = failed.iter().map(|finding| finding["name"].as_str().unwrap()).collect();
        assert_eq!(failed, names, "{:#}", self.json);
        assert_eq!(self.status, i32::from(!names.is_empty()));
    }
}

fn check_of(users: &StoreUsers, store: &Store) -> Report {
    Report::of(knowing(users.check(), &store.environment()))
}

/// Checks a store with an additional line in its section of the configuration file.
fn check_with(users: &StoreUsers, store: &Store, line: &str) -> Report {
    let file = users.configuration(&format!("[store]\n{line}\n"), 0o644);
    Report::of(configured(knowing(users.check(), &store.environment()), &file))
}

/// Returns the check of a directory.
fn check_of_directory(pusher: &Pusher) -> Command {
    let mut check = pusher.sandbox.walkeep();
    check.args(["check", "--archive", pusher.archive.url()]);
    check
}

fn refusal(status: u16, code: &'static str) -> Fault {
    Fault::Answer { status, code, message: "No" }
}

#[test]
fn a_usable_directory_passes_and_nothing_is_left_in_it() {
    let pusher = Pusher::new();
    let report = Report::of(check_of_directory(&pusher));
    report.fails(&[]);
    assert_eq!(report.json["archive"], pusher.archive.url());
    for name in ["configuration", "archive", "create", "read", "list", "conditional", "delete"] {
        report.says("pass", name, &[]);
        assert_eq!(report.finding(name).get("hint"), None);
    }
    assert_eq!(files_below(pusher.archive.url().as_ref()), [""; 0]);
    let output = CallOutput::of(check_of_directory(&pusher));
    assert_eq!((output.status, &*output.stderr), (0, ""));
    let text = output.text();
    // What the machine's own disk is like is another matter.
    let of_machine = |line: &&str| ["file_system", "space", "→"].iter().any(|word| line.contains(word));
    let mut lines = text.lines().filter(|line| !of_machine(line));
    assert!(text.lines().count() >= 7 && lines.all(|line| line.starts_with("✓ ")), "{text}");
}

#[test]
fn a_missing_or_inaccessible_directory_fails() {
    let pusher = Pusher::new();
    {
        let _closed = Permissions::set(pusher.archive.url().as_ref(), 0o500);
        let report = Report::of(check_of_directory(&pusher));
        report.fails(&["create"]);
        report.says("fail", "create", &["Permission denied"]);
    }
    pusher.archive.vanish();
    let report = Report::of(check_of_directory(&pusher));
    report.fails(&["archive"]);
    report.says("fail", "archive", &[pusher.archive.url()]);
    let text = CallOutput::of(check_of_directory(&pusher)).text();
    assert!(text.lines().any(|line| line.starts_with("✗ archive ")), "{text}");
}

#[test]
fn a_usable_store_passes_and_nothing_is_left_in_it() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let report = check_of(&users, &store);
    report.fails(&[]);
    report.says("pass", "archive", &["s3://wal/main", "holds nothing yet"]);
    for name in ["create", "read", "list", "delete", "clock"] {
        report.says("pass", name, &[]);
    }
    report.says("pass", "conditional", &["conditional_put = \"yes\""]);
    let address = format!("requests go to {}, bucket wal", store.endpoint());
    report.says("pass", "contact", &[&address, "with the access key AKIA", "from AWS_ACCESS_KEY_ID"]);
    report.says("note", "tls", &[&store.endpoint(), "not encrypted"]);
    assert_eq!(store.keys(), [""; 0]);
    let writes = store.requests().into_iter().filter(|request| request.method == "PUT");
    assert!(
        writes.clone().count() >= 2
            && writes.clone().all(|put| put.path.starts_with("/wal/main/walkeep-check-"))
    );

    let report = check_with(&users, &store, "conditional_put = \"yes\"");
    report.fails(&[]);
    report.says("pass", "conditional", &[]);
    assert_eq!(report.finding("conditional").get("hint"), None);
    check_with(&users, &store, "conditional_put = \"no\"").says("note", "conditional", &["\"yes\""]);
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn a_store_that_ignores_conditions_is_noted_and_fails_if_configured_otherwise() {
    let (users, store) = (StoreUsers::new(), Store::new());
    store.ignore_conditions();
    let report = check_of(&users, &store);
    report.fails(&[]);
    report.says("note", "conditional", &["cannot refuse to overwrite", "two servers"]);
    let report = check_with(&users, &store, "conditional_put = \"yes\"");
    report.fails(&["conditional"]);
    report.says("fail", "conditional", &["overwrites what exists", "\"auto\""]);
    check_with(&users, &store, "conditional_put = \"no\"").fails(&[]);
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn a_store_that_refuses_conditions_is_noted_and_fails_if_configured_otherwise() {
    let (users, store) = (StoreUsers::new(), Store::new());
    store.refuse_conditions();
    let report = check_of(&users, &store);
    report.fails(&[]);
    report.says("note", "conditional", &["no conditional writes", "conditional_put = \"no\""]);
    let report = check_with(&users, &store, "conditional_put = \"yes\"");
    report.fails(&["conditional"]);
    report.says("fail", "conditional", &["no conditional writes", "conditional_put = \"no\""]);
    check_with(&users, &store, "conditional_put = \"no\"").fails(&[]);
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn an_unavailable_store_fails_and_nothing_else_is_tried() {
    let (users, store, refused) = (StoreUsers::new(), Store::new(), DeadEnd::refused());
    let environment = store.environment();
    let fails = |environment: &Environment, words: &[&str]| {
        let report = Report::of(knowing(users.check(), environment));
        report.fails(&["archive"]);
        report.says("fail", "archive", words);
    };
    let wrong = changed(&environment, "AWS_SECRET_ACCESS_KEY", "wrong");
    fails(&wrong, &["SignatureDoesNotMatch", "secret key"]);
    let unknown = changed(&environment, "AWS_ACCESS_KEY_ID", "AKIAUNKNOWN");
    fails(&unknown, &["InvalidAccessKeyId", "access key"]);
    let nobody = changed(&environment, "AWS_ENDPOINT_URL", &refused.http());
    fails(&nobody, &["Connection refused"]);
    store.break_with(Matching::Method("GET"), refusal(403, "AccessDenied"));
    fails(&environment, &["403 Forbidden (AccessDenied", "credentials do not allow it"]);
    store.heal();
    std::fs::remove_dir(store.file("")).unwrap();
    fails(&environment, &["NoSuchBucket", "bucket does not exist"]);
    assert!(store.requests().iter().all(|request| request.method == "GET"));
}

#[test]
fn missing_permissions_are_named() {
    let (users, store) = (StoreUsers::new(), Store::new());
    store.break_with(Matching::Puts, refusal(403, "AccessDenied"));
    let report = check_of(&users, &store);
    report.fails(&["create"]);
    report.says("fail", "create", &["403 Forbidden (AccessDenied"]);
    store.heal();
    store.break_with(Matching::Gets, refusal(403, "AccessDenied"));
    let report = check_of(&users, &store);
    report.fails(&["read"]);
    report.says("fail", "read", &["403 Forbidden (AccessDenied"]);
    assert_eq!(store.keys(), [""; 0], "whatever else has failed");
}

#[test]
fn a_file_that_cannot_be_deleted_is_named_and_is_no_failure() {
    let (users, store) = (StoreUsers::new(), Store::new());
    // The method for one key, and for several at once.
    for method in ["DELETE", "POST"] {
        store.break_with(Matching::Method(method), refusal(403, "AccessDenied"));
    }
    let report = check_of(&users, &store);
    report.fails(&[]);
    let keys = store.keys();
    let left = keys[0].strip_prefix("main/").unwrap();
    assert_eq!(keys.len(), 1);
    report.says("note", "delete", &["403 Forbidden (AccessDenied", "nothing can be pruned", left]);
}

#[test]
fn a_file_that_the_store_has_not_deleted_is_no_failure_either() {
    let (users, store) = (StoreUsers::new(), Store::new());
    // S3's answer to the deletion of several keys without permission.
    let body = "<?xml version=\"1.0\"?><DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code>\
                <Message>Access Denied</Message></Error></DeleteResult>";
    store.break_with(Matching::Method("POST"), Fault::Raw { status: 200, headers: Vec::new(), body });
    let report = check_of(&users, &store);
    report.fails(&[]);
    if store.keys().is_empty() {
        // One key was deleted separately.
        assert!(store.requests().iter().all(|request| request.method != "POST"));
    } else {
        report.says("note", "delete", &["AccessDenied", "nothing can be pruned"]);
    }
}

#[test]
fn content_that_reads_back_differently_fails() {
    let (users, store) = (StoreUsers::new(), Store::new());
    store.break_with(Matching::Gets, Fault::FlipByte(3));
    let report = check_of(&users, &store);
    report.fails(&["read"]);
    report.says("fail", "read", &["differently"]);
    assert_eq!(store.keys(), [""; 0]);
}

#[test]
fn a_wrong_clock_fails_before_the_store_refuses_requests() {
    let (users, store) = (StoreUsers::new(), Store::new());
    store.set_clock_offset(600);
    let report = check_of(&users, &store);
    report.fails(&["clock"]);
    let detail = report.finding("clock")["detail"].as_str().unwrap();
    // A second may pass in between.
    assert!(detail.contains("10m behind") || detail.contains("9m 59s behind"), "{detail}");
    report.says("fail", "clock", &["NTP"]);
    store.set_clock_offset(-120);
    let report = check_of(&users, &store);
    report.fails(&[]);
    report.says("note", "clock", &["ahead of the store's", "NTP"]);
}

#[test]
fn a_store_with_a_verified_certificate_passes() {
    let users = StoreUsers::new();
    let identity = Identity::new(&users.sandbox);
    let store = Store::with_tls(&identity);
    let report = check_with(&users, &store, &format!("ca_file = \"{}\"", identity.ca_file().display()));
    report.fails(&[]);
    report.says("pass", "tls", &[&store.endpoint()]);
    let report = check_with(&users, &store, "allow_invalid_certificates = true");
    report.fails(&[]);
    report.says("note", "tls", &["not been asked", "ca_file"]);
    let report = check_of(&users, &store);
    report.fails(&["archive"]);
    report.says("fail", "archive", &["UnknownIssuer", "ca_file"]);
}

#[test]
fn a_world_writable_configuration_file_fails() {
    let (users, store) = (StoreUsers::new(), Store::new());
    for (mode, outcome) in [(0o646, "fail"), (0o602, "fail"), (0o644, "pass"), (0o600, "pass")] {
        let file = users.configuration("compression = \"zstd\"\n", mode);
        let report = Report::of(configured(knowing(users.check(), &store.environment()), &file));
        report.says(outcome, "configuration", &[file.to_str().unwrap()]);
        report.fails(if outcome == "fail" { &["configuration"] } else { &[] });
    }
}

/// Checks a directory, and a data directory with this `postgresql.conf`.
fn check_of_data(pusher: &Pusher, configuration: &str) -> Report {
    idle(pusher);
    pusher.data.file("postgresql.conf", configuration);
    let mut check = check_of_directory(pusher);
    check.arg("--pgdata").arg(pusher.data.join(""));
    Report::of(check)
}

#[test]
fn the_settings_of_the_data_directory_must_let_walkeep_archive() {
    let pusher = Pusher::new();
    let ours = "archive_command = 'walkeep-archive %p'\n";
    let report = check_of_data(&pusher, &format!("archive_mode = on\n{ours}"));
    report.fails(&[]);
    report.says("pass", "archive_mode", &[]);
    report.says("pass", "archive_command", &["walkeep-archive %p"]);
    for (settings, failed, words) in [
        (format!("archive_mode = off\n{ours}"), "archive_mode", &["archive_mode = on", "restart"][..]),
        (ours.to_owned(), "archive_mode", &["archive_mode is off"]),
        ("archive_mode = on\n".to_owned(), "archive_command", &["empty", "pg_wal"]),
        (
            "archive_mode = on\narchive_command = 'cp %p /mnt/%f'\n".to_owned(),
            "archive_command",
            &["cp %p /mnt/%f", "walkeep-archive --archive"],
        ),
        (
            format!("archive_mode = on\n{ours}archive_library = 'basic_archive'\n"),
            "archive_command",
            &["basic_archive"],
        ),
    ] {
        let report = check_of_data(&pusher, &settings);
        report.fails(&[failed]);
        report.says("fail", failed, words);
    }
    // A setting of ALTER SYSTEM takes precedence.
    pusher.data.file("postgresql.auto.conf", "archive_mode = 'off'\n");
    check_of_data(&pusher, &format!("archive_mode = on\n{ours}")).fails(&["archive_mode"]);
}

/// Debian keeps the configuration in `/etc`, also before the first start.
#[test]
fn a_configuration_that_is_not_in_the_data_directory_is_noted() {
    let pusher = Pusher::new();
    idle(&pusher);
    let mut check = check_of_directory(&pusher);
    check.arg("--pgdata").arg(pusher.data.join(""));
    let report = Report::of(check);
    report.fails(&[]);
    report.says("note", "archive_mode", &["postgresql.conf", "--pg-url"]);
}

#[test]
fn a_replica_that_does_not_archive_is_noted() {
    let pusher = Pusher::new();
    pusher.data.file("standby.signal", "");
    let report = check_of_data(&pusher, "archive_mode = off\n");
    report.fails(&[]);
    report.says("note", "archive_mode", &["archive_mode is off", "promoted"]);
    // A standby that will archive once it is promoted must be able to.
    check_of_data(&pusher, "archive_mode = on\n").fails(&["archive_command"]);
}

#[test]
fn the_cluster_of_the_archive_and_its_newest_segment_are_reported() {
    let pusher = Pusher::new();
    let settings = "archive_mode = on\narchive_command = 'walkeep-archive %p'\n";
    let report = check_of_data(&pusher, settings);
    report.says("note", "system", &[&SYSTEM.to_string()]);
    report.says("note", "newest", &["no segment"]);
    report.says("note", "backup", &["this alone is left to do"]);
    pusher.data.segment(SEGMENT, 0);
    pusher.data.file(&format!("pg_wal/{BACKUP}"), BACKUP_CONTENT);
    succeeds(pusher.push(SEGMENT));
    check_of_data(&pusher, settings).fails(&["backup"]);
    succeeds(pusher.push(BACKUP));
    let report = check_of_data(&pusher, settings);
    report.fails(&[]);
    report.says("pass", "system", &[&SYSTEM.to_string()]);
    report.says("pass", "newest", &[SEGMENT]);
    Report::of(check_of_directory(&pusher)).says("pass", "newest", &[SEGMENT]);

    let other = DataDirectory::new(&pusher.sandbox, "other", OTHER_SYSTEM);
    other.file("postgresql.conf", settings);
    std::fs::create_dir(other.join("pg_wal/archive_status")).unwrap();
    let mut check = check_of_directory(&pusher);
    check.arg("--pgdata").arg(other.join(""));
    let report = Report::of(check);
    report.fails(&[]);
    report.says("note", "system", &["no WAL of system", &OTHER_SYSTEM.to_string()]);
}

#[test]
fn a_directory_that_is_no_data_directory_fails() {
    let pusher = Pusher::new();
    let mut check = check_of_directory(&pusher);
    check.arg("--pgdata").arg(pusher.sandbox.path());
    let report = Report::of(check);
    report.fails(&["system"]);
    report.says("fail", "system", &["no data directory"]);
}

#[test]
fn a_missing_archive_is_a_usage_error() {
    let pusher = Pusher::new();
    let mut check = pusher.sandbox.walkeep();
    check.arg("check");
    CallOutput::of(check).is_error(2, &["no archive is configured"]);
    let mut check = check_of_directory(&pusher);
    check.arg("--pgdat");
    CallOutput::of(check).is_error(2, &["--pgdat"]);
}
