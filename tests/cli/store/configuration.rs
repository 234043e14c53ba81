//! Configuration of a store and its credentials: configuration file, environment, files of the AWS tools, and servers
//! that issue credentials. Secrets are never printed.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{fs, path::Path, process::Command};

use support::{
    data_directory::SEGMENT,
    push::succeeds,
    running::{Running, outcome_of},
    store::{
        Store,
        dead_end::DeadEnd,
        fault::{Fault, Matching},
    },
    store_cluster::{
        ARCHIVE, Answering, CallOutput, Environment, StoreUsers, changed, configured, knowing, segment_key,
        store_section, without_key,
    },
    wait_until,
};

const SECRET: &str = "the-Secret-that-nobody/may+see";
const TOKEN: &str = "the-Token-that-nobody/may+see==";

/// Returns the value of a client's variable for the store.
pub(super) fn variable(store: &Store, name: &str) -> String {
    store.environment().into_iter().find(|(variable, _)| *variable == name).unwrap().1
}

/// Returns a file of the AWS tools with the store's key.
fn shared_credentials(store: &Store, profile: &str) -> String {
    let [key, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| variable(store, name));
    format!("[{profile}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
}

/// Returns the JSON response of a server that issues credentials.
fn handed_out(store: &Store) -> String {
    let [key, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| variable(store, name));
    format!(
        r#"{{"Code": "Success", "AccessKeyId": "{key}", "SecretAccessKey": "{secret}", "Token": "{TOKEN}", "Expiration": "2099-01-01T00:00:00Z"}}"#
    )
}

pub(super) fn is_archived(store: &Store) -> bool {
    store.get(&segment_key()).is_some()
}

/// Asserts that every call is refused because of its configuration.
pub(super) fn is_refused(users: &StoreUsers, with: &dyn Fn(Command) -> Command, words: &[&str]) {
    CallOutput::of(with(users.push())).is_error(2, words);
    CallOutput::of(with(users.restore())).is_error(255, words);
    CallOutput::of(with(users.restore_in(&users.standby))).is_error(75, words);
    let check = CallOutput::of(with(users.check()));
    assert!(check.status != 0 && words.iter().all(|word| check.text().contains(word)), "{}", check.text());
}

#[test]
fn a_configuration_file_is_all_that_is_needed() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let section = store_section(&store.environment(), "conditional_put = \"yes\"\nread_timeout = \"2s\"\n");
    let file = users.configuration(&format!("archive = \"{ARCHIVE}\"\n\n{section}"), 0o600);
    let mut push = users.primary.run(users.sandbox.walkeep_archive());
    push.arg("--config").arg(&file).arg(format!("pg_wal/{SEGMENT}"));
    succeeds(push);
    assert_eq!(store.keys(), [segment_key()]);
    // With conditional writes configured, nothing is requested before the PUT.
    assert_eq!(store.requests().iter().map(|request| &*request.method).collect::<Vec<_>>(), ["PUT"]);
    let mut restore = users.recovery.run(users.sandbox.walkeep_restore());
    restore.env("WALKEEP_CONFIG", &file).args([SEGMENT, "pg_wal/RECOVERYXLOG"]);
    succeeds(restore);
    assert!(users.restored() == users.segment);
}

#[test]
fn the_environment_takes_precedence_over_the_file() {
    let (users, store, other) = (StoreUsers::new(), Store::new(), Store::new());
    let section = store_section(&changed(&other.environment(), "AWS_SECRET_ACCESS_KEY", "wrong"), "");
    let file = users.configuration(&section, 0o600);
    CallOutput::of(configured(users.push(), &file)).is_error(2, &["403 Forbidden"]);
    succeeds(knowing(configured(users.push(), &file), &store.environment()));
    assert!(is_archived(&store) && !is_archived(&other));
    // A single variable takes precedence, too.
    let name = "AWS_SECRET_ACCESS_KEY";
    succeeds(knowing(configured(users.push(), &file), &[(name, variable(&other, name))]));
    assert!(is_archived(&other));
}

#[test]
fn profiles_of_the_aws_tools_provide_keys_region_and_endpoint() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let aws = users.sandbox.directory(".aws");
    let endpoint = store.endpoint();
    let config = format!(
        "[default]\nregion = us-east-1\n\n[profile wal]\nregion = us-east-1\nendpoint_url = {endpoint}\n"
    );
    users.sandbox.file(aws.join("config"), config);
    users.sandbox.file(aws.join("credentials"), shared_credentials(&store, "wal"));
    let profile =
        [("AWS_PROFILE", "wal"), ("AWS_ALLOW_HTTP", "true")].map(|(name, value)| (name, value.to_owned()));
    succeeds(knowing(users.push(), &profile));
    assert!(is_archived(&store));
    // The profile is named in the configuration file, which then contains no secret.
    let file = users.configuration("[store]\nprofile = \"wal\"\nallow_http = true\n", 0o644);
    succeeds(configured(users.restore(), &file));
    assert!(users.restored() == users.segment);
    let nobody = [("AWS_PROFILE", "nobody".to_owned())];
    CallOutput::of(knowing(configured(users.push(), &file), &nobody)).is_error(2, &["\"nobody\""]);

    // The default profile.
    users.sandbox.file(aws.join("credentials"), shared_credentials(&store, "default"));
    succeeds(knowing(users.push(), &without_key(&store)));
}

#[test]
fn the_file_of_shared_credentials_can_be_elsewhere() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let file = users.sandbox.file("keys", shared_credentials(&store, "default"));
    let elsewhere = |command: Command| {
        let mut command = knowing(command, &without_key(&store));
        command.env("AWS_SHARED_CREDENTIALS_FILE", &file);
        command
    };
    succeeds(elsewhere(users.push()));
    succeeds(elsewhere(users.restore()));
    assert!(users.restored() == users.segment);
}

/// A source of credentials at an address, with the words that name it in an error.
struct Way {
    name: &'static str,
    place: &'static str,
    tell: fn(&StoreUsers, &mut Command, address: &str),
}

const BEARER: &str = "the-bearer-s-token";

const WAYS: [Way; 3] = [
    Way {
        name: "metadata",
        place: "/latest/api/token",
        tell: |_, command, address| {
            command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_METADATA_ENDPOINT", address);
        },
    },
    Way {
        name: "container",
        place: "/credentials",
        tell: |users, command, address| {
            command
                .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{address}/credentials"))
                .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", users.sandbox.file("bearer", BEARER));
        },
    },
    Way {
        name: "web identity",
        place: "web identity",
        tell: |users, command, address| {
            command
                .env("AWS_WEB_IDENTITY_TOKEN_FILE", users.sandbox.file("identity", BEARER))
                .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/wal")
                .env("AWS_ENDPOINT_URL_STS", address);
        },
    },
];

impl Way {
    fn push(&self, users: &StoreUsers, store: &Store, address: &str) -> Command {
        let mut push = knowing(users.push(), &without_key(store));
        push.env("WALKEEP_TIMEOUT", "1s");
        (self.tell)(users, &mut push, address);
        push
    }
}

#[test]
fn the_machines_own_role_provides_credentials() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let json = handed_out(&store);
    let metadata = Answering::start(move |head| match head.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["PUT", "/latest/api/token"] => (200, "metadata-token".to_owned()),
        _ if !head.to_ascii_lowercase().contains("x-aws-ec2-metadata-token: metadata-token") => {
            (401, String::new())
        }
        ["GET", "/latest/meta-data/iam/security-credentials/"] => (200, "wal-role".to_owned()),
        ["GET", "/latest/meta-data/iam/security-credentials/wal-role"] => (200, json.clone()),
        _ => (404, String::new()),
    });
    succeeds(WAYS[0].push(&users, &store, &metadata.endpoint()));
    assert!(is_archived(&store));
    assert_eq!(metadata.heads().len(), 3);
    // A disabled issuer is not asked.
    CallOutput::of(knowing(users.push(), &without_key(&store)))
        .is_error(2, &["AWS_ACCESS_KEY_ID", "AWS_PROFILE"]);
    assert_eq!(metadata.heads().len(), 3);
}

#[test]
fn a_container_gets_credentials() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let json = handed_out(&store);
    let server = Answering::start(move |head| {
        let asks = head.starts_with("GET /credentials ");
        let proves = head.to_ascii_lowercase().contains(&format!("authorization: {BEARER}\r\n"));
        if asks && proves { (200, json.clone()) } else { (400, String::new()) }
    });
    succeeds(WAYS[1].push(&users, &store, &server.endpoint()));
    assert!(is_archived(&store));
}

#[test]
fn a_web_identity_is_exchanged_for_credentials() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let [key, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| variable(&store, name));
    let credentials = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><SessionToken>{TOKEN}\
         </SessionToken><SecretAccessKey>{secret}</SecretAccessKey><AccessKeyId>{key}</AccessKeyId>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    );
    let server = Answering::start(move |head| {
        let asks = ["POST ", "Action=AssumeRoleWithWebIdentity", "WebIdentityToken=the-bearer", "role%2Fwal"];
        if asks.iter().all(|part| head.contains(part)) {
            (200, credentials.clone())
        } else {
            (400, String::new())
        }
    });
    succeeds(WAYS[2].push(&users, &store, &server.endpoint()));
    assert!(is_archived(&store));
}

/// Returns the errors of pushes if the issuer of credentials repeats the request with 500 and 503, or is missing.
fn without_credentials() -> Vec<(&'static Way, String)> {
    let (users, store) = (StoreUsers::new(), Store::new());
    let refused = DeadEnd::refused();
    let failing = [500, 503].map(|status| Answering::start(move |head| (status, format!("no, {head}"))));
    let addresses: Vec<_> = failing.iter().map(Answering::endpoint).chain([refused.http()]).collect();
    let pushes = WAYS.iter().flat_map(|way| addresses.iter().map(move |address| (way, address)));
    // Concurrently, because each takes as long as it may.
    let pushes: Vec<_> =
        pushes.map(|(way, address)| (way, Running::start(way.push(&users, &store, address)))).collect();
    let ends = pushes.into_iter().map(|(way, push)| {
        let outcome = push.end();
        assert_eq!(outcome.status, 1, "{}: {}", way.name, outcome.stderr);
        (way, outcome.stderr)
    });
    let ends = ends.collect();
    assert_eq!(store.connections(), 0);
    ends
}

#[test]
fn unavailable_credentials_are_retried_and_the_error_names_the_source() {
    for (way, stderr) in without_credentials() {
        assert!(stderr.contains("; trying again for up to "), "{stderr}");
        for line in stderr.lines() {
            assert!(
                line.contains("cannot get credentials") && line.contains(way.place),
                "{}: {line}",
                way.name
            );
        }
    }
}

#[test]
fn configured_credentials_are_not_reported_as_missing() {
    for (way, stderr) in without_credentials().iter().filter(|(way, _)| way.name != WAYS[0].name) {
        assert!(!stderr.contains("none are configured"), "{}: {stderr}", way.name);
    }
}

#[test]
fn the_request_for_credentials_is_not_printed() {
    for (way, stderr) in without_credentials() {
        assert!(!stderr.contains(BEARER), "{}: {stderr}", way.name);
    }
}

#[test]
fn disabled_metadata_is_not_asked_even_with_an_incomplete_configuration() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let metadata = Answering::start(|_| (200, "x".to_owned()));
    for (name, value) in [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/without-a-token-file"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/without/a/role"),
    ] {
        let mut push = knowing(users.push(), &without_key(&store));
        push.env("AWS_METADATA_ENDPOINT", metadata.endpoint()).env(name, value);
        let output = CallOutput::of(push);
        assert_eq!(metadata.heads(), [""; 0], "{name}: {}", output.text());
        output.is_error(2, &["credentials"]);
    }
}

#[test]
fn without_any_credentials_the_error_names_the_settings() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let environment = without_key(&store);
    let words = ["no credentials", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"];
    is_refused(&users, &|command| knowing(command, &environment), &words);
    let half = changed(&environment, "AWS_SECRET_ACCESS_KEY", SECRET);
    is_refused(
        &users,
        &|command| knowing(command, &half),
        &["secret_access_key is set and access_key_id is not"],
    );
    assert_eq!(store.connections(), 0);
}

#[test]
fn a_file_with_a_secret_is_for_its_owner_and_group() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let environment = store.environment();
    let with_secret = store_section(&environment, "");
    for mode in [0o644, 0o604] {
        let file = users.configuration(&with_secret, mode);
        let words = ["walkeep.toml", "read by everyone", "chmod 640"];
        is_refused(&users, &|command| configured(command, &file), &words);
    }
    assert_eq!(store.connections(), 0);
    for mode in [0o640, 0o600] {
        succeeds(configured(users.push(), &users.configuration(&with_secret, mode)));
    }
    let without = users.configuration("[store]\nregion = \"us-east-1\"\naccess_key_id = \"x\"\n", 0o644);
    succeeds(knowing(configured(users.push(), &without), &environment));
}

#[test]
fn an_unknown_setting_is_named() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let environment = store.environment();
    for (line, words) in [
        ("acess_key_id = \"x\"", &["unknown setting acess_key_id", "[store]", "s3://"][..]),
        ("azure_storage_account_key = \"x\"", &["unknown setting azure_storage_account_key", "s3://"]),
        ("bucket = \"x\"", &["bucket in [store]", "URL"]),
        ("connect_timeout = 5", &["connect_timeout in [store]", "5s"]),
        ("conditional_put = \"perhaps\"", &["conditional_put in [store]", "\"auto\""]),
        ("region = [1]", &["line 2", "[store]"]),
    ] {
        let file = users.configuration(&format!("[store]\n{line}\n"), 0o600);
        is_refused(&users, &|call| knowing(configured(call, &file), &environment), words);
    }
    let plain = changed(&environment, "AWS_ALLOW_HTTP", "");
    is_refused(
        &users,
        &|command| knowing(command, &plain),
        &[&store.endpoint(), "not encrypted", "allow_http"],
    );
    assert_eq!(store.connections(), 0);
}

#[test]
fn server_side_encryption_is_requested() {
    let users = StoreUsers::new();
    let server = Answering::start(|_| (200, String::new()));
    let environment = changed(&Store::new().environment(), "AWS_ENDPOINT_URL", &server.endpoint());
    let file = users
        .configuration("[store]\nserver_side_encryption = \"AES256\"\nconditional_put = \"yes\"\n", 0o644);
    // The result does not matter: this server reads no bodies.
    outcome_of(knowing(configured(users.push(), &file), &environment));
    let heads = server.heads();
    let put = heads.iter().find(|head| head.starts_with("PUT ")).unwrap().to_ascii_lowercase();
    assert!(put.contains("x-amz-server-side-encryption: aes256\r\n"), "{put}");
}

#[test]
fn a_url_with_credentials_is_refused_and_not_repeated() {
    let (users, store) = (StoreUsers::new(), Store::new());
    for (secret, words) in [("in-the-url", &["must not hold credentials"][..]), ("in/the+url", &[])] {
        let url = format!("s3://AKIAX:{secret}@wal");
        let push = || users.primary.run(users.sandbox.walkeep_archive());
        let (mut by_flag, mut by_variable) = (push(), push());
        by_flag.args(["--archive", &url]);
        by_variable.env("WALKEEP_ARCHIVE", &url);
        let file = users.configuration(&format!("archive = \"{url}\"\n"), 0o600);
        for mut push in [by_flag, by_variable, configured(push(), &file)] {
            push.arg(format!("pg_wal/{SEGMENT}"));
            let output = CallOutput::of(knowing(push, &store.environment()));
            output.is_error(2, words);
            assert!(!output.text().contains(secret), "{}", output.text());
        }
    }
}

fn keeps_secrets(what: &str, output: &CallOutput) {
    for secret in [SECRET, TOKEN] {
        assert!(!output.text().contains(secret), "{what}: {}", output.text());
    }
}

/// Runs all calls concurrently, and asserts that none prints its secrets.
fn nobody_tells(what: &str, users: &StoreUsers, environment: &Environment) -> Vec<CallOutput> {
    let calls = users.all_calls().into_iter().map(|call| knowing(call, environment));
    let output: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = calls.map(|call| scope.spawn(|| CallOutput::of(call))).collect();
        running.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for output in &output {
        keeps_secrets(what, output);
    }
    output
}

/// Returns the messages of a client with recognizable secrets that the store does not know.
fn secretive(store: &Store) -> Vec<(&'static str, String)> {
    let environment = changed(&store.environment(), "AWS_SECRET_ACCESS_KEY", SECRET);
    changed(&environment, "AWS_SESSION_TOKEN", TOKEN)
}

const REPEATS_BESIDE_THE_MESSAGE: &str = "<Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message><StringToSign>x-amz-security-token:\
     the-Token-that-nobody/may+see==</StringToSign><Token-0>the-Token-that-nobody/may+see==</Token-0>\
     <SecretKey>the-Secret-that-nobody/may+see</SecretKey></Error>";
const REPEATS_IN_THE_MESSAGE: &str = "<Error><Code>InvalidToken</Code><Message>Not good: the-Token-that-nobody/may+see== with \
     the-Secret-that-nobody/may+see.</Message></Error>";

#[test]
fn secrets_are_not_printed_on_success_or_with_unknown_keys() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let token = changed(&store.environment(), "AWS_SESSION_TOKEN", TOKEN);
    succeeds(knowing(users.push(), &token));
    succeeds(knowing(users.push_of_backup(), &token));
    assert!(nobody_tells("success", &users, &token).iter().all(|output| output.status == 0));
    let output = nobody_tells("a wrong key", &users, &secretive(&store));
    assert!(output.iter().all(|output| output.status != 0 && output.text().contains("403 Forbidden")));
    let refused = DeadEnd::refused();
    let nowhere = changed(&secretive(&store), "AWS_ENDPOINT_URL", &refused.http());
    nobody_tells("refused", &users, &nowhere);
}

#[test]
fn secrets_that_the_store_repeats_beside_its_message_are_not_printed() {
    repeated(REPEATS_BESIDE_THE_MESSAGE);
}

#[test]
fn secrets_that_the_store_repeats_in_its_message_are_not_printed() {
    repeated(REPEATS_IN_THE_MESSAGE);
}

fn repeated(body: &'static str) {
    let (users, store) = (StoreUsers::new(), Store::new());
    for status in [403, 500] {
        store.heal();
        store.break_with(Matching::Any, Fault::Raw { status, headers: Vec::new(), body });
        nobody_tells(&format!("a {status}"), &users, &secretive(&store));
    }
}

#[test]
fn a_malformed_configuration_is_not_quoted() {
    let users = StoreUsers::new();
    for line in [
        format!("secret_access_key = {SECRET}"),
        format!("secret_access_key = \"{SECRET}"),
        format!("secret_access_key = [\"{SECRET}\"]"),
        format!("\"{SECRET}\""),
        format!("allow_http = \"{SECRET}\""),
        format!("conditional_put = \"{SECRET}\""),
        format!("proxy_url = \"http://me:{SECRET}@[\""),
    ] {
        let file = users.configuration(&format!("[store]\nregion = \"here\"\n{line}\n"), 0o600);
        for call in users.all_calls() {
            let output = CallOutput::of(configured(call, &file));
            assert!([1, 2, 255].contains(&output.status), "{line}: {}", output.text());
            keeps_secrets(&line, &output);
        }
    }
}

#[test]
fn command_lines_contain_no_secrets() {
    let (users, store) = (StoreUsers::new(), Store::new());
    store.break_with(Matching::Any, Fault::Hang);
    let file = users
        .configuration(&store_section(&secretive(&store), &format!("session_token = \"{TOKEN}\"\n")), 0o600);
    let running = Running::start(configured(users.restore(), &file));
    wait_until("the store is asked", || !store.requests().is_empty());
    let lines = command_lines(&file);
    assert!(lines.iter().any(|line| line.contains("walkeep-restore")), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains(SECRET) && !line.contains(TOKEN)));
    running.end();
}

/// Returns the command lines of all processes that mention `file`, as everyone on the machine can see them.
fn command_lines(file: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = processes.filter_map(|process| fs::read(process.join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(file.to_str().unwrap())).collect()
}
