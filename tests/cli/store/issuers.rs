//! Issuers of credentials that answer something else, and what is sent to them: no text from a file, a variable or a server ends a
//! program with an internal error, and none of it is quoted.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use support::{
    data_directory::SEGMENT,
    store::Store,
    store_cluster::{Answering, CallOutput, StoreUsers, knowing, without_key},
};

use super::configuration::is_refused;

const SECRET: &str = "the-Secret-that-nobody/may+see";

#[test]
fn a_token_that_ends_with_a_line_feed_is_named_by_its_file() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let host = Answering::start(|_| (500, String::new()));
    let token = users.sandbox.file("token", format!("{SECRET}\n"));
    let with = |command| {
        let mut command = knowing(command, &without_key(&store));
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", host.endpoint());
        command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
        command
    };
    let what = format!("the token in {} cannot be sent: a line feed follows it", token.display());
    is_refused(&users, &with, &[&what, "printf %s"]);
    assert!(host.heads().is_empty() && store.connections() == 0);
    assert!(!CallOutput::of(with(users.push())).text().contains(SECRET));
}

#[test]
fn a_web_identity_is_sent_without_the_line_feed_at_its_end() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let sts = Answering::start(|_| (403, String::new()));
    let mut push = knowing(users.push(), &without_key(&store));
    push.env("AWS_WEB_IDENTITY_TOKEN_FILE", users.sandbox.file("token", "identity\n"));
    push.env("AWS_ROLE_ARN", "arn:aws:iam::1:role/wal").env("AWS_ENDPOINT_URL_STS", sts.endpoint());
    CallOutput::of(push).is_error(2, &["cannot get credentials", "the answer was 403"]);
    let heads = sts.heads();
    assert!(heads.iter().all(|head| head.contains("WebIdentityToken=identity ")), "{heads:?}");
}

#[test]
fn a_header_of_the_machines_identity_with_a_line_feed_is_named() {
    let users = StoreUsers::new();
    let mut push = users.primary.run(users.sandbox.walkeep_archive());
    push.args(["--archive", "az://wal"]).arg(format!("pg_wal/{SEGMENT}"));
    push.env("AZURE_STORAGE_ACCOUNT", "me").env("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi");
    push.env("IDENTITY_HEADER", format!("{SECRET}\nb"));
    let output = CallOutput::of(push);
    assert!(!output.text().contains(SECRET), "{}", output.text());
    output.is_error(2, &["IDENTITY_HEADER: it holds a line feed"]);
}

#[test]
fn what_is_no_credential_is_neither_sent_nor_quoted() {
    let (users, store) = (StoreUsers::new(), Store::new());
    let token = users.sandbox.file("token", SECRET);
    let json = |key: &str, token: &str| {
        let keys = format!(r#""AccessKeyId":"{key}","SecretAccessKey":"{SECRET}""#);
        format!(r#"{{{keys},"Token":"{token}","Expiration":"2099-01-01T00:00:00Z"}}"#)
    };
    for (is_of_container, body) in [
        (true, json("AKIA\\n", "t")),
        (true, json("AKIA", &format!("{SECRET}\\r"))),
        (true, SECRET.to_owned()),
        (false, SECRET.to_owned()),
        (false, format!("<a>{SECRET}</a>")),
    ] {
        let issuer = Answering::start(move |_| (200, body.clone()));
        let mut push = knowing(users.push(), &without_key(&store));
        if is_of_container {
            push.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", issuer.endpoint());
            push.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
        } else {
            push.env("AWS_ENDPOINT_URL_STS", issuer.endpoint())
                .env("AWS_ROLE_ARN", "arn:aws:iam::1:role/wal");
            push.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
        }
        let output = CallOutput::of({
            push.env("WALKEEP_TIMEOUT", "1s");
            push
        });
        assert!(!output.text().contains(SECRET), "{}", output.text());
        output.is_error(1, &["cannot get credentials", "the answer is something else than credentials: "]);
    }
    assert_eq!(store.connections(), 0);
}
