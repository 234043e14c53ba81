//! Credentials as people have them: profiles with a role or a command, parts of a pair, the files and variables of other tools,
//! and issuers that deny.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use support::{
    data_directory::SEGMENT,
    push::succeeds,
    store::Store,
    store_cluster::{Answering, CallOutput, StoreUsers, changed, configured, knowing, without_key},
};

use super::configuration::{is_archived, is_refused, variable};

const SECRET: &str = "the-Secret-that-nobody/may+see";

/// A server that no call should ask for credentials.
fn unwanted() -> Answering {
    Answering::start(|_| (500, String::new()))
}

/// Writes a program that runs these lines of a shell, and returns its path.
fn program(users: &StoreUsers, name: &str, lines: &str) -> PathBuf {
    let path = users.sandbox.file(name, format!("#!/bin/sh\n{lines}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Returns lines of a shell that print the store's key as a credential process does.
fn printing(store: &Store, end: &str) -> String {
    let [key, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| variable(store, name));
    format!(
        r#"echo '{{"Version": 1, "AccessKeyId": "{key}", "SecretAccessKey": "{secret}", "Expiration": "{end}"}}'"#
    )
}

#[test]
fn a_profile_with_a_role_never_falls_back_to_the_machines_own() {
    let (users, store, machine) = (StoreUsers::new(), Store::new(), unwanted());
    users.sandbox.directory(".aws");
    let role = "role_arn = arn:aws:iam::1:role/x\nsource_profile = base\n";
    for (profile, ways) in [
        (
            "default",
            &[role, "sso_session = s\n", "sso_start_url = https://x\n", "credential_source = Environment\n"]
                [..],
        ),
        ("wal", &[role, "login_session = x\n", "source_profile = base\n"]),
    ] {
        let section = if profile == "default" { profile.to_owned() } else { format!("profile {profile}") };
        for way in ways {
            users.sandbox.file(".aws/config", format!("[{section}]\n{way}"));
            let environment = without_key(&store);
            let with = |mut command: Command| {
                command = knowing(command, &environment);
                command.env_remove("AWS_EC2_METADATA_DISABLED");
                command.env("AWS_METADATA_ENDPOINT", machine.endpoint());
                if profile != "default" {
                    command.env("AWS_PROFILE", profile);
                }
                command
            };
            let key = way.split(' ').next().unwrap();
            let what = format!("/.aws/config gets its credentials by {key}, which walkeep cannot by itself");
            let advice = format!("export-credentials --format process --profile {profile}\" in [store]");
            is_refused(&users, &with, &[&format!("the AWS profile \"{profile}\" in "), &what, &advice]);
        }
    }
    assert_eq!((machine.heads().len(), store.connections()), (0, 0));
}

#[test]
fn a_missing_profile_is_named() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let nobody = changed(&without_key(&store), "AWS_PROFILE", "nobody");
    is_refused(&users, &|command| knowing(command, &nobody), &["\"nobody\"", "~/.aws/credentials"]);
    let file = users.configuration("[store]\nprofile = \"nobody-either\"\n", 0o600);
    let environment = without_key(&store);
    is_refused(&users, &|call| knowing(configured(call, &file), &environment), &["\"nobody-either\""]);
    assert_eq!(store.connections(), 0);
}

#[test]
fn a_command_provides_credentials_and_runs_once_for_each_call() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let runs = users.sandbox.join("runs");
    let lines = format!("echo \"$1\" >>{}\n{}", runs.display(), printing(&store, "2099-01-01T00:00:00Z"));
    let command = format!("\"{}\" 'two words'", program(&users, "get keys", &lines).display());
    users.sandbox.directory(".aws");
    users.sandbox.file(".aws/config", format!("[profile wal]\ncredential_process = {command}\n"));
    let mut push = knowing(users.push(), &without_key(&store));
    push.env("AWS_PROFILE", "wal");
    succeeds(push);
    assert!(is_archived(&store));
    assert_eq!(fs::read_to_string(&runs).unwrap(), "two words\n", "a HEAD and a PUT, and one run");

    let command = command.replace('"', "\\\"");
    let file = users.configuration(&format!("[store]\ncredential_process = \"{command}\"\n"), 0o600);
    succeeds(configured(knowing(users.restore(), &without_key(&store)), &file));
    assert!(users.restored() == users.segment);
    assert_eq!(fs::read_to_string(&runs).unwrap(), "two words\ntwo words\n");
}

#[test]
fn a_command_that_fails_is_named_with_its_errors_and_never_its_output() {
    let (users, store, machine) = (StoreUsers::new(), Store::new(), unwanted());
    let failing = format!("echo '{SECRET}'\necho 'the session has expired' >&2\nexit 3");
    let silent = format!("echo '{SECRET}'");
    for (name, lines, status, words) in [
        (
            "failing",
            &failing,
            1,
            ["failing ended with exit status: 3: the session has expired", "run the command"],
        ),
        (
            "silent",
            &silent,
            2,
            ["silent printed something else than credentials: JSON with Version", "run the command"],
        ),
    ] {
        let mut push = knowing(users.push(), &without_key(&store));
        push.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_METADATA_ENDPOINT", machine.endpoint());
        push.env("WALKEEP_STORE_CREDENTIAL_PROCESS", program(&users, name, lines))
            .env("WALKEEP_TIMEOUT", "1s");
        let output = CallOutput::of(push);
        assert!(!output.text().contains(SECRET), "{}", output.text());
        output.is_error(status, &[&["cannot get credentials"], &words[..]].concat());
    }
    let mut push = knowing(users.push(), &without_key(&store));
    push.env("WALKEEP_STORE_CREDENTIAL_PROCESS", "/nowhere/at/all x");
    CallOutput::of(push).is_error(2, &["cannot run /nowhere/at/all: No such file or directory"]);
    assert_eq!((machine.heads().len(), store.connections()), (0, 0));
}

#[test]
fn parts_of_credentials_are_named_and_nobody_else_is_asked() {
    let (users, store, machine) = (StoreUsers::new(), Store::new(), unwanted());
    for (name, words) in [
        ("AWS_ACCESS_KEY_ID", "access_key_id is set and secret_access_key is not"),
        ("AWS_SECRET_ACCESS_KEY", "secret_access_key is set and access_key_id is not"),
        ("AWS_SESSION_TOKEN", "session_token is set, and the keys that it belongs to are not"),
        ("AWS_ROLE_ARN", "role_arn is set and web_identity_token_file is not"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file is set and role_arn is not"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN is set and no address"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "container_credentials_full_uri is not"),
    ] {
        let mut push = knowing(users.push(), &without_key(&store));
        push.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_METADATA_ENDPOINT", machine.endpoint());
        push.env(name, SECRET);
        let output = CallOutput::of(push);
        assert!(!output.text().contains(SECRET), "{}", output.text());
        output.is_error(2, &["the credentials for s3://wal/main are incomplete", words]);
    }
    assert_eq!((machine.heads().len(), store.connections()), (0, 0));
}

#[test]
fn keys_in_the_environment_need_no_readable_files_of_the_aws_tools() {
    let (users, store) = (StoreUsers::new(), Store::new());
    users.sandbox.directory(".aws");
    users.sandbox.directory(".aws/credentials");
    CallOutput::of(knowing(users.push(), &without_key(&store)))
        .is_error(2, &["cannot read", "/.aws/credentials"]);
    succeeds(knowing(users.push(), &store.environment()));
    assert!(is_archived(&store));
}

#[test]
fn what_sts_denies_is_quoted_and_a_missing_token_file_is_named() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let denial = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized to perform \
                  sts:AssumeRoleWithWebIdentity; the-identity-s-token</Message></Error></ErrorResponse>";
    let sts = Answering::start(move |_| (403, denial.to_owned()));
    let push = |file: PathBuf| {
        let mut push = knowing(users.push(), &without_key(&store));
        push.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", "arn:aws:iam::1:role/wal");
        push.env("AWS_ENDPOINT_URL_STS", sts.endpoint()).env("WALKEEP_TIMEOUT", "1s");
        CallOutput::of(push)
    };
    let denied = push(users.sandbox.file("token", "the-identity-s-token"));
    denied.is_error(
        2,
        &["AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity; ***", "AWS_ROLE_ARN"],
    );
    assert_eq!(sts.heads().len(), 1, "nobody asks again what was denied");
    let missing = push(users.sandbox.join("nowhere"));
    missing.is_error(
        1,
        &["cannot get credentials: Failed to read token file", "nowhere", "No such file", "AWS_ROLE_ARN"],
    );
    assert!(!missing.stderr.contains("Generic"), "{}", missing.stderr);
}

#[test]
fn metadata_services_are_asked_directly_whatever_the_proxy() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let (machine, proxy) = (unwanted(), unwanted());
    let port = machine.endpoint().rsplit_once(':').unwrap().1.to_owned();
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "WALKEEP_STORE_PROXY_URL"] {
        let mut push = knowing(users.push(), &without_key(&store));
        push.env_remove("AWS_EC2_METADATA_DISABLED").env("WALKEEP_TIMEOUT", "1s");
        push.env("AWS_METADATA_ENDPOINT", format!("http://localhost:{port}")).env(variable, proxy.endpoint());
        let before = machine.heads().len();
        CallOutput::of(push).is_error(1, &["cannot get credentials", "the answer was 500"]);
        assert!(machine.heads().len() > before, "{variable}");
        assert_eq!(proxy.heads(), [""; 0], "{variable}");
    }
}

/// Returns the push into another kind of store.
fn push_to(users: &StoreUsers, archive: &str, variables: &[(&str, &str)]) -> CallOutput {
    let mut push = users.primary.run(users.sandbox.walkeep_archive());
    push.args(["--archive", archive]).arg(format!("pg_wal/{SEGMENT}"));
    push.envs(variables.iter().copied()).env("WALKEEP_TIMEOUT", "1s");
    CallOutput::of(push)
}

#[test]
fn variables_of_microsofts_tools_name_account_key_and_endpoint() {
    let users = StoreUsers::new();
    let azure = Answering::start(|_| (403, String::new()));
    let endpoint = azure.endpoint();
    let connection = format!("AccountName=me;AccountKey=c2VjcmV0;BlobEndpoint={endpoint}");
    let signature = format!("AccountName=me;SharedAccessSignature=sv=1&sig=x;BlobEndpoint={endpoint}");
    for (variables, words) in [
        (
            &[
                ("AZURE_STORAGE_ACCOUNT", "me"),
                ("AZURE_STORAGE_KEY", "c2VjcmV0"),
                ("AZURE_STORAGE_ENDPOINT", &*endpoint),
            ][..],
            "authorization: sharedkey me:",
        ),
        (&[("AZURE_STORAGE_CONNECTION_STRING", &*connection)], "authorization: sharedkey me:"),
        (&[("AZURE_STORAGE_CONNECTION_STRING", &*signature)], "sv=1&sig=x"),
    ] {
        let before = azure.heads().len();
        let http = [("AZURE_ALLOW_HTTP", "true")];
        push_to(&users, "az://wal", &[variables, &http].concat()).is_error(2, &["403 Forbidden"]);
        let heads = azure.heads();
        assert!(
            heads.len() > before && heads[before..].iter().all(|head| head.to_lowercase().contains(words))
        );
    }
}

#[test]
fn what_entra_denies_is_quoted_without_the_secret() {
    let users = StoreUsers::new();
    let body = format!(
        r#"{{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret {SECRET}.\r\nTrace ID: 1"}}"#
    );
    let entra = Answering::start(move |_| (401, body.clone()));
    let endpoint = entra.endpoint();
    let output = push_to(
        &users,
        "az://wal",
        &[
            ("AZURE_STORAGE_ACCOUNT", "me"),
            ("AZURE_CLIENT_ID", "1-2"),
            ("AZURE_CLIENT_SECRET", SECRET),
            ("AZURE_TENANT_ID", "3-4"),
            ("AZURE_AUTHORITY_HOST", &endpoint),
        ],
    );
    output.is_error(2, &["invalid_client: AADSTS7000215: Invalid client secret ***.", "Microsoft Entra ID"]);
    assert!(!output.text().contains(SECRET) && !output.text().contains("AWS_"), "{}", output.text());
}

#[test]
fn what_google_offers_and_walkeep_cannot_use_is_named() {
    let users = StoreUsers::new();
    let json = format!(r#"{{"type": "external_account", "credential_source": {{"x": "{SECRET}"}}}}"#);
    let file = users.sandbox.file("external.json", json);
    let file = file.to_str().unwrap();
    let output = push_to(&users, "gs://wal", &[("GOOGLE_APPLICATION_CREDENTIALS", file)]);
    output.is_error(2, &[file, "credentials of the type external_account", "service_account in [store]"]);
    assert!(!output.text().contains(SECRET), "{}", output.text());
}

/// Asserts that the first of two calls waits for a command that hangs as long as for a store that hangs, and the second briefly,
/// because of the note of the first.
fn waits_once(users: &StoreUsers, status: i32, call: impl Fn() -> Command) {
    let hanging = program(users, "hanging", "exec sleep 600");
    for seconds in [20, 2] {
        let mut call = call();
        call.env("WALKEEP_STORE_CREDENTIAL_PROCESS", &hanging).env("WALKEEP_TIMEOUT", "2m");
        let words = format!("cannot get credentials: none came for {seconds} seconds; run the command");
        CallOutput::of(call).is_error(status, &[&words]);
    }
}

#[test]
fn a_command_that_hangs_delays_a_standby_once() {
    let (users, store) = (StoreUsers::new(), Store::new());
    users.standby.file("postmaster.pid", "17\n/data\n1700000000\n");
    waits_once(&users, 75, || knowing(users.restore_in(&users.standby), &without_key(&store)));
    assert_eq!(store.connections(), 0);
}

#[test]
fn a_command_that_hangs_delays_a_shutdown_once() {
    let (users, store) = (StoreUsers::new(), Store::new());
    users.primary.file("postmaster.pid", "17\n/data\n1700000000\n5432\n/tmp\n*\n  1 1\nstopping\n");
    waits_once(&users, 1, || knowing(users.push(), &without_key(&store)));
    assert_eq!(store.connections(), 0);
}
