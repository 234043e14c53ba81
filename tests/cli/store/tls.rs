//! TLS to a store: trusted certificates, and errors for all others; and an archive in a directory, for which no
//! certificate is read and no connection opened.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    data_directory::SEGMENT,
    output_of,
    push::{Pusher, succeeds},
    restore::TARGET,
    running::outcome_of,
    sandbox::Sandbox,
    store::{Store, dead_end::DeadEnd, identity::Identity},
    store_cluster::{CallOutput, StoreUsers, configured, knowing, segment_key},
    wrapper::wrapped,
};

/// Returns the command with the settings of a store, but not of its certificate.
fn with_settings_of(store: &Store, command: Command) -> Command {
    knowing(command, &store.environment())
}

/// Writes a configuration file that trusts that certificate.
fn trusting(users: &StoreUsers, ca_file: &Path) -> PathBuf {
    users.configuration(&format!("[store]\nca_file = \"{}\"\n", ca_file.display()), 0o644)
}

/// Returns a client's settings for a store at another endpoint.
fn elsewhere(store: &Store, endpoint: String) -> Vec<(&'static str, String)> {
    let mut environment = store.environment();
    environment.retain(|(name, _)| !matches!(*name, "AWS_ENDPOINT_URL" | "AWS_ALLOW_HTTP"));
    environment.push(("AWS_ENDPOINT_URL", endpoint));
    environment
}

/// Asserts that all calls are refused with these words, and that the check says the same.
fn is_refused(users: &StoreUsers, with: &dyn Fn(Command) -> Command, words: &[&str]) {
    CallOutput::of(with(users.push())).is_error(2, words);
    CallOutput::of(with(users.restore())).is_error(255, words);
    CallOutput::of(with(users.restore_in(&users.standby))).is_error(75, words);
    let check = CallOutput::of(with(users.check()));
    assert_eq!(check.status, 1, "{}", check.text());
    for word in words {
        assert!(check.text().contains(word), "{word:?} is not in {}", check.text());
    }
}

/// Asserts that push and restore succeed without messages.
fn works(users: &StoreUsers, store: &Store, with: &dyn Fn(Command) -> Command) {
    succeeds(with(users.push()));
    assert!(store.get(&segment_key()).is_some());
    succeeds(with(users.restore()));
    assert!(users.restored() == users.segment);
}

#[test]
fn a_certificate_with_an_issuer_in_the_ca_file_is_trusted() {
    let users = StoreUsers::new();
    let identity = Identity::new(&users.sandbox);
    let store = Store::with_tls(&identity);
    let file = trusting(&users, identity.ca_file());
    works(&users, &store, &|command| configured(with_settings_of(&store, command), &file));
    let store = Store::with_tls(&identity);
    works(&users, &store, &|command| {
        let mut command = with_settings_of(&store, command);
        command.env("AWS_CA_BUNDLE", identity.ca_file());
        command
    });
}

#[test]
fn the_profile_of_the_aws_tools_names_a_ca_bundle_too() {
    let users = StoreUsers::new();
    let identity = Identity::new(&users.sandbox);
    let store = Store::with_tls(&identity);
    let config = format!("[default]\nca_bundle = {}\n", identity.ca_file().display());
    users.sandbox.directory(".aws");
    users.sandbox.file(".aws/config", config);
    works(&users, &store, &|command| with_settings_of(&store, command));
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_refused_with_all_causes_and_the_remedy() {
    let users = StoreUsers::new();
    let store = Store::with_tls(&Identity::new(&users.sandbox));
    let words = ["invalid peer certificate: UnknownIssuer", "ca_file in [store]"];
    is_refused(&users, &|command| with_settings_of(&store, command), &words);
    // The ca_file contains another authority, and no other is trusted.
    let other_sandbox = Sandbox::new();
    let file = trusting(&users, Identity::new(&other_sandbox).ca_file());
    is_refused(
        &users,
        &|call| configured(with_settings_of(&store, call), &file),
        &["invalid peer certificate"],
    );
    assert_eq!(store.requests(), []);
}

#[test]
fn an_authoritys_certificate_is_refused_as_a_servers() {
    let users = StoreUsers::new();
    let identity = Identity::self_signed_ca(&users.sandbox);
    let store = Store::with_tls(&identity);
    let file = trusting(&users, identity.ca_file());
    let words = ["CaUsedAsEndEntity", "CA:FALSE"];
    is_refused(&users, &|command| configured(with_settings_of(&store, command), &file), &words);
    assert_eq!(store.requests(), []);
}

#[test]
fn an_expired_certificate_is_refused() {
    let users = StoreUsers::new();
    let identity = Identity::expired(&users.sandbox);
    let store = Store::with_tls(&identity);
    let file = trusting(&users, identity.ca_file());
    let words = ["certificate expired", "the store's certificate has expired"];
    is_refused(&users, &|command| configured(with_settings_of(&store, command), &file), &words);
    assert_eq!(store.requests(), []);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let users = StoreUsers::new();
    let identity = Identity::new(&users.sandbox);
    let store = Store::with_tls(&identity);
    let file = trusting(&users, identity.ca_file());
    // The same server, by a name that is not in its certificate.
    let other_name = elsewhere(&store, format!("https://[::ffff:127.0.0.1]:{}", store.address().port()));
    let words = ["not valid for name", "another name than the endpoint's"];
    is_refused(&users, &|command| configured(knowing(command, &other_name), &file), &words);
    assert_eq!(store.requests(), []);
}

#[test]
fn a_server_without_tls_is_distinguished_from_one_with_a_wrong_certificate() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let encrypted = elsewhere(&store, store.endpoint().replace("http://127.0.0.1", "https://localhost"));
    let words = ["does not speak TLS", "http://", "allow_http"];
    is_refused(&users, &|command| knowing(command, &encrypted), &words);
    assert_eq!(store.requests(), []);
}

#[test]
fn a_malformed_ca_file_is_a_configuration_error() {
    let users = StoreUsers::new();
    let identity = Identity::new(&users.sandbox);
    let store = Store::with_tls(&identity);
    let empty = users.sandbox.file("empty.pem", "");
    let no_certificate = users.sandbox.file("key.pem", "This is no certificate.\n");
    let missing = users.sandbox.join("missing.pem");
    for path in [&empty, &no_certificate, &missing] {
        let file = trusting(&users, path);
        let words = [path.to_str().unwrap()];
        CallOutput::of(configured(with_settings_of(&store, users.push()), &file)).is_error(2, &words);
        CallOutput::of(configured(with_settings_of(&store, users.restore()), &file)).is_error(255, &words);
        let mut push = with_settings_of(&store, users.push());
        push.env("AWS_CA_BUNDLE", path);
        CallOutput::of(push).is_error(2, &words);
    }
    assert_eq!(store.connections(), 0);
}

#[test]
fn an_unreadable_certificate_is_named_by_its_file() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let broken = users.sandbox.file(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n",
    );
    let file = trusting(&users, &broken);
    CallOutput::of(configured(with_settings_of(&store, users.push()), &file))
        .is_error(2, &[broken.to_str().unwrap()]);
}

#[test]
fn certificates_are_not_verified_if_turned_off() {
    let users = StoreUsers::new();
    let file = users.configuration("[store]\nallow_invalid_certificates = true\n", 0o644);
    let identities = [
        Identity::new(&users.sandbox),
        Identity::expired(&users.sandbox),
        Identity::self_signed_ca(&users.sandbox),
    ];
    for identity in identities {
        let store = Store::with_tls(&identity);
        works(&users, &store, &|command| configured(with_settings_of(&store, command), &file));
    }
}

#[test]
fn a_connection_that_ends_in_the_handshake_is_retried() {
    let (users, end) = (StoreUsers::new(), DeadEnd::cuts_tls());
    let store = Store::new();
    let cut = elsewhere(&store, end.https());
    for (call, status) in [(users.push(), 1), (users.restore(), 255), (users.restore_in(&users.standby), 75)]
    {
        let outcome = outcome_of(knowing(call, &cut));
        assert_eq!(outcome.status, status, "{}", outcome.stderr);
        assert!(
            outcome.stderr.lines().next().unwrap().contains("; trying again for up to "),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains("handshake eof"), "{}", outcome.stderr);
    }
}

/// Returns the files that a command opens and the sockets that it creates, according to strace.
fn opened(sandbox: &Sandbox, command: &Command) -> String {
    let log = sandbox.join("strace.log");
    let mut strace = sandbox.command("strace");
    strace.args(["-f", "-e", "trace=?open,openat,socket,connect", "-o"]).arg(&log).arg("--");
    output_of(&mut wrapped(strace, command));
    fs::read_to_string(log).unwrap()
}

fn is_for_a_connection(line: &str) -> bool {
    ["AF_INET", "/ssl", "/certs", "ca-certificates", ".pem", ".crt", "resolv.conf", ".aws"]
        .iter()
        .any(|part| line.contains(part))
}

#[test]
fn an_archive_in_a_directory_needs_no_certificate_and_no_connection() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let Pusher { archive, data, sandbox } = &pusher;
    let file = sandbox
        .file("walkeep.toml", "[store]\nca_file = \"/nowhere/ca.pem\"\nendpoint = \"https://nowhere\"\n");
    let mut restore = data.run(sandbox.walkeep_restore());
    restore.args(["--archive", archive.url(), SEGMENT, TARGET]);
    let versions =
        [sandbox.walkeep_archive(), sandbox.walkeep_restore(), sandbox.walkeep()].map(|mut command| {
            command.arg("--version");
            command
        });
    for mut command in [pusher.push(SEGMENT), pusher.push(SEGMENT), restore].into_iter().chain(versions) {
        // Other programs that share the environment and the configuration may need them.
        command.env("AWS_CA_BUNDLE", "/nowhere/bundle.pem").env("AWS_PROFILE", "nobody");
        command.env("WALKEEP_CONFIG", &file);
        let log = opened(sandbox, &command);
        let wrong: Vec<_> = log.lines().filter(|line| is_for_a_connection(line)).collect();
        assert!(wrong.is_empty(), "{command:?}: {wrong:?}");
        assert!(log.contains("+++ exited with 0 +++"), "{log}");
    }
    assert!(pusher.file(SEGMENT).exists());
}

/// Proves that the previous test would find something.
#[test]
fn an_archive_in_a_store_needs_both() {
    let users = StoreUsers::new();
    let identity = Identity::new(&users.sandbox);
    let store = Store::with_tls(&identity);
    let push = configured(with_settings_of(&store, users.push()), &trusting(&users, identity.ca_file()));
    let log = opened(&users.sandbox, &push);
    assert!(log.contains("socket(AF_INET") && log.contains("ca.pem"), "{log}");
}
