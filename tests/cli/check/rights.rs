//! `walkeep check` where not everything may be done, and the policies that it prints.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{path::Path, process::Command};

use serde_json::Value;
use support::{
    data_directory::SEGMENT,
    push::{Pusher, files_below, succeeds},
    store::{Store, fault::Right},
    store_cluster::{CallOutput, StoreUsers, knowing, segment_key},
};

/// Returns `true` if nothing is wrong but that there is no base backup.
fn has_only_no_backup(text: &str) -> bool {
    text.lines().filter(|line| line.starts_with('✗')).all(|line| line.starts_with("✗ backup "))
}

#[test]
fn a_check_for_a_host_that_may_only_read_changes_nothing() {
    let (users, store) = (StoreUsers::new(), Store::new());
    succeeds(knowing(users.push(), &store.environment()));
    let before = store.keys();
    store.forget_requests();
    store.grant_only(&[Right::GetObject, Right::ListBucket]);
    let mut check = knowing(users.check(), &store.environment());
    check.arg("--restore-only");
    let text = CallOutput::of(check).text();
    assert!(has_only_no_backup(&text), "{text}");
    for line in ["✓ archive ", "✓ read ", "! untried "] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    }
    assert!(text.contains("was not tried, because of --restore-only"), "{text}");
    assert!(!["create ", "delete ", "conditional "].iter().any(|name| text.contains(name)), "{text}");
    let requests = store.requests();
    assert!(
        requests.iter().all(|request| request.method == "GET" || request.method == "HEAD"),
        "{requests:?}"
    );
    assert_eq!(store.keys(), before);
}

#[test]
fn a_check_for_reading_leaves_a_directory_as_it_is() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    let before = files_below(Path::new(pusher.archive.url()));
    let mut check = pusher.sandbox.walkeep();
    check.args(["check", "--restore-only", "--archive", pusher.archive.url()]);
    let text = CallOutput::of(check).text();
    assert!(has_only_no_backup(&text) && text.contains("! untried"), "{text}");
    assert_eq!(files_below(Path::new(pusher.archive.url())), before);
}

#[test]
fn a_check_that_may_not_delete_leaves_one_file_however_often_it_runs() {
    let (users, store) = (StoreUsers::new(), Store::new());
    store.grant_only(&[Right::PutObject, Right::GetObject, Right::ListBucket]);
    for _ in 0..3 {
        let output = CallOutput::of(knowing(users.check(), &store.environment()));
        let text = output.text();
        assert_eq!(output.status, 0, "{text}");
        for line in ["✓ create ", "✓ read ", "✓ list ", "✓ conditional ", "! delete "] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
        }
        assert!(text.contains("walkeep-check-probe stays in the archive"), "{text}");
        assert_eq!(store.keys(), ["main/walkeep-check-probe"]);
    }
    assert!(!store.keys().contains(&segment_key()));
}

#[test]
fn a_policy_is_printed_and_nobody_asked() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let printed = |archive: &str, work: &str, more: &[(&str, &str)]| {
        let mut command: Command = knowing(users.sandbox.walkeep(), &store.environment());
        command.args(["check", "--archive", archive, "--print-policy", work]).envs(more.iter().copied());
        let output = CallOutput::of(command);
        assert_eq!((output.status, &*output.stderr), (0, ""), "{archive} {work}");
        String::from_utf8(output.stdout).unwrap()
    };
    for work in ["archive", "restore", "prune", "verify"] {
        let policy: Value = serde_json::from_str(&printed("s3://wal/main", work, &[])).unwrap();
        let deletes = policy.to_string().contains("s3:DeleteObject");
        assert_eq!(deletes, work == "prune", "{policy}");
        assert!(policy.to_string().contains("arn:aws:s3:::wal/main/*"), "{policy}");
        assert!(
            printed("gs://wal/main", work, &[])
                .contains("gcloud storage buckets add-iam-policy-binding gs://wal")
        );
        let azure = printed("az://wal/main", work, &[("AZURE_STORAGE_ACCOUNT", "me")]);
        assert!(
            azure.contains("storageAccounts/me/") && azure.contains("az role assignment create"),
            "{azure}"
        );
        assert!(printed("/nowhere/at/all", work, &[]).contains("is a directory, which has no policy"));
    }
    assert_eq!(store.connections(), 0);
}
