//! `walkeep check` where not everything may be done, and the policies that it prints.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::Value;
use support::{
    data_directory::SEGMENT,
    push::{Pusher, files_below, succeeds},
    store::{Store, fault::Right},
    store_cluster::{CallOutput, StoreUsers, knowing, segment_key},
    wrapper::{in_shell, wrapped},
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

/// Lets another user restore by what is printed for a directory, and archives by that umask before and after.
fn another_user_restores(umask: &str, recipe: impl Fn(&str) -> String) {
    const LATER: &str = "000000030000000200000001";
    // Only root can be two users.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let pusher = Pusher::new();
    let others = pusher.sandbox.directory("others");
    fs::set_permissions(pusher.sandbox.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |name: &str| {
        let mut restore = pusher.sandbox.walkeep_restore();
        restore.args(["--archive", pusher.archive.url(), name, "restored"]).current_dir(&others);
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
        let mut shell = wrapped(nobody, &restore);
        shell.env("WALKEEP_SPOOL", "/nowhere/at/all").env("WALKEEP_TIMEOUT", "2s");
        CallOutput::of(shell)
    };
    let archived = |name: &str| {
        pusher.data.segment(name, 0);
        succeeds(in_shell(&pusher.sandbox, &format!("umask {umask}; exec \"$@\""), &pusher.push(name)));
    };
    fs::set_permissions(&others, fs::Permissions::from_mode(0o777)).unwrap();
    archived(SEGMENT);
    assert_ne!(as_nobody(SEGMENT).status, 0, "nobody may read it before");
    let mut policy = pusher.sandbox.walkeep();
    policy.args(["check", "--archive", pusher.archive.url(), "--print-policy", "restore"]);
    let script = recipe(&CallOutput::of(policy).text()).replace("GROUP", "nogroup");
    assert!(Command::new("sh").args(["-e", "-c", &script]).status().unwrap().success(), "{script}");
    // In a directory that did not exist.
    archived(LATER);
    for name in [SEGMENT, LATER] {
        let output = as_nobody(name);
        assert_eq!(output.status, 0, "{name}: {}\n{script}", output.stderr);
        fs::remove_file(others.join("restored")).unwrap();
    }
    let mode = fs::metadata(pusher.file(LATER)).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "nobody else may read it");
}

#[test]
fn a_group_that_was_let_in_by_an_access_list_reads_what_is_archived_later() {
    another_user_restores("077", |text| {
        text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    });
}

#[test]
fn a_group_that_was_let_in_by_the_servers_umask_reads_what_is_archived_later() {
    another_user_restores("027", |text| {
        let commands = ["# chgrp ", "# chmod ", "# find "];
        let lines = text.lines().filter(|line| commands.iter().any(|start| line.starts_with(start)));
        lines.map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join("\n")
    });
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
