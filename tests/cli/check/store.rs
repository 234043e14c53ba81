//! `walkeep check` of a store by root: it becomes the server's user, whose files and spool are what counts.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use support::{
    push::succeeds,
    store::Store,
    store_cluster::{ARCHIVE, CallOutput, StoreUsers, knowing, store_section},
    user,
};

/// Returns the check as root types it, with nothing of root's own but this.
fn by_root(users: &StoreUsers, store: &Store) -> Command {
    let mut check = Command::new(users.sandbox.program("walkeep"));
    check.args(["check", "--archive", ARCHIVE, "--pgdata"]).arg(users.primary.join(""));
    check.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/root").current_dir("/");
    check.env("WALKEEP_SPOOL", users.sandbox.join("spool"));
    knowing(check, &store.environment())
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find(|line| line.split_whitespace().nth(1) == Some(name)).unwrap_or_default()
}

#[test]
fn root_becomes_the_servers_user_for_a_store_as_well() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (users, store) = (StoreUsers::new(), Store::new());
    succeeds(knowing(users.push(), &store.environment()));
    let text = CallOutput::of(by_root(&users, &store)).text();
    assert!(line(&text, "user").starts_with("✓ user"), "{text}");
    // What is typed is typed by root.
    assert!(text.contains(": sudo -u "), "{text}");
}

#[test]
fn a_configuration_that_only_root_can_read_is_none_for_the_server() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (users, store) = (StoreUsers::new(), Store::new());
    let text = format!("archive = \"{ARCHIVE}\"\n{}", store_section(&store.environment(), ""));
    let file = users.sandbox.join("root.toml");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut check = by_root(&users, &store);
    check.arg("--config").arg(&file);
    CallOutput::of(check).is_error(2, &["root.toml", "Permission denied"]);
    user::hand_over(&file);
    let mut check = by_root(&users, &store);
    check.arg("--config").arg(&file);
    let text = CallOutput::of(check).text();
    assert!(line(&text, "create").starts_with("✓ create"), "{text}");
}

#[test]
fn credentials_are_looked_for_in_the_home_of_the_servers_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (users, store) = (StoreUsers::new(), Store::new());
    // Root's own profile, which the server does not have.
    let home = users.sandbox.directory("home_of_root");
    fs::create_dir(home.join(".aws")).unwrap();
    let keys = store.environment();
    let value = |name: &str| keys.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    let [id, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(value);
    let profile = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    fs::write(home.join(".aws/credentials"), profile).unwrap();
    let mut check = by_root(&users, &store);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        check.env_remove(name);
    }
    check.env("HOME", &home).env("AWS_EC2_METADATA_DISABLED", "true").args(["--timeout", "5s"]);
    check.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
    let text = CallOutput::of(check).text();
    assert!(!text.contains("home_of_root") && line(&text, "archive").starts_with("✗ archive"), "{text}");
}
