//! Forms that settings must have, because `object_store` panics at others once it makes a request of them, or refuses them late
//! and without their name. Pure.
//!
//! In object_store 0.14.2, `retryable_request` (src/client/retry.rs) expects a valid URL and valid headers, and
//! `try_authorize` (src/aws/credential.rs) unwraps its own reading of the URL. Errors there would replace this module.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use url::Url;

use super::google;
use super::issued::ends_too_late;

/// Settings that are addresses of servers.
const ADDRESSES: [&str; 10] = [
    "aws_endpoint",
    "aws_endpoint_url_s3",
    "aws_endpoint_url_sts",
    "aws_metadata_endpoint",
    "aws_container_credentials_full_uri",
    "google_base_url",
    "azure_storage_endpoint",
    "azure_storage_authority_host",
    "azure_msi_endpoint",
    "azure_fabric_token_service_url",
];

/// Settings that become a part of an address, with what is before and after them.
const PARTS: [(&str, &str, &str); 6] = [
    ("aws_region", "https://sts.", ".amazonaws.com"),
    ("aws_default_region", "https://sts.", ".amazonaws.com"),
    ("aws_container_credentials_relative_uri", "http://169.254.170.2", ""),
    ("azure_storage_account_name", "https://", ".blob.core.windows.net"),
    ("azure_storage_tenant_id", "https://host/", "/oauth2/v2.0/token"),
    ("azure_fabric_workload_host", "https://", ""),
];

/// Settings that are keys in base64, with their lengths in bytes, if that is fixed.
const KEYS: [(&str, Option<usize>); 3] = [
    ("azure_storage_account_key", None),
    ("azure_storage_encryption_key", Some(32)),
    ("aws_sse_customer_key_base64", Some(32)),
];

/// Checks the value of a setting, given by its canonical name. The error quotes no password.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    // JSON, which has line feeds, and is parsed at once.
    if value.contains(char::is_control) && name != "google_service_account_key" {
        return Err("it holds a line feed or another control character; write it without".to_owned());
    }
    if ADDRESSES.contains(&name) && !is_web_address(value) {
        return Err(no_address(value));
    }
    // Another text would continue the name of the host before it.
    if name == "aws_container_credentials_relative_uri" && !value.starts_with('/') {
        return Err("it must begin with \"/\"".to_owned());
    }
    if let Some((_, length)) = KEYS.iter().find(|(key, _)| *key == name) {
        return check_base64(value, *length);
    }
    if name == "azure_storage_sas_key" {
        let mut parts = value.trim_start_matches('?').split('&').filter(|part| !part.trim().is_empty());
        let is_token = parts.all(|part| part.contains('=') || part.contains("%3D") || part.contains("%3d"));
        return if is_token {
            Ok(())
        } else {
            Err("it is no SAS token, such as sv=…&sig=…; copy it whole".to_owned())
        };
    }
    // The library counts to the end of such a token.
    if name == "azure_storage_token" && ends_too_late(value) {
        return Err("it is a token that ends later than any that can be meant".to_owned());
    }
    if name == "google_service_account_key" {
        return google::check_key(value);
    }
    let composed = |(part, before, after): &(&str, &str, &str)| {
        *part != name || is_web_address(&format!("{before}{value}{after}"))
    };
    if PARTS.iter().all(composed) {
        Ok(())
    } else {
        Err("it holds a character that the address of a server must not have; write it without".to_owned())
    }
}

/// Checks a key in base64. The error does not quote it.
fn check_base64(value: &str, length: Option<usize>) -> Result<(), String> {
    match (BASE64_STANDARD.decode(value), length) {
        (Err(_), _) => Err("it is no key in base64; copy it whole, with the \"=\" at its end".to_owned()),
        (Ok(key), Some(length)) if key.len() != length => {
            Err(format!("it must be a key of {length} bytes in base64, and has {}", key.len()))
        }
        _ => Ok(()),
    }
}

/// Returns what is wrong with a value that is not an address, and what to write.
fn no_address(value: &str) -> String {
    let shown = without_password(value);
    let with_scheme = format!("https://{}", shown.trim());
    let proposal = if !shown.contains(':') || shown.contains("//") || !is_web_address(&with_scheme) {
        "https://HOST or https://HOST:PORT"
    } else {
        &with_scheme
    };
    format!(
        "{shown:?} is not a URL of a server; write {proposal}; http:// also needs allow_http = true in [store]"
    )
}

/// `true` if requests can be sent there: two libraries read it, and the second one is stricter.
pub(super) fn is_web_address(address: &str) -> bool {
    let is_web = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_sent = |uri: http::Uri| uri.scheme().is_some() && uri.authority().is_some();
    Url::parse(address).is_ok_and(is_web) && address.parse().is_ok_and(is_sent)
}

/// Leaves out what an address has before an `@`, for messages.
pub(super) fn without_password(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split(['?', '#']).next().unwrap_or(host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_completed() {
        for (value, proposal) in [
            ("minio.example:9000", "write https://minio.example:9000;"),
            ("127.0.0.1:9000", "write https://127.0.0.1:9000;"),
            ("localhost:9000/", "write https://localhost:9000/;"),
            ("me:secret@store:9000", "write https://store:9000;"),
            (" https://store", "write https://HOST or"),
            ("https://st\u{f6}re", "write https://HOST or"),
            ("https:store", "write https://HOST or"),
            ("ftp://store", "write https://HOST or"),
            ("https://", "write https://HOST or"),
            ("store name:1", "write https://HOST or"),
            ("", "write https://HOST or"),
        ] {
            for name in ADDRESSES {
                let error = check(name, value).unwrap_err();
                assert!(
                    error.contains(" is not a URL of a server; ") && error.contains(proposal),
                    "{value}: {error}"
                );
                assert!(!error.contains("secret"), "{error}");
            }
        }
        for name in ADDRESSES {
            assert_eq!(check(name, "https://minio.example:9000/base/"), Ok(()));
            assert_eq!(check(name, "http://[::1]:9000"), Ok(()));
        }
    }

    #[test]
    fn what_becomes_a_part_of_an_address_or_a_header_fits_into_one() {
        for (name, good, bad) in [
            ("aws_region", "eu-west-1", "eu west 1"),
            ("aws_default_region", "garage", "caf\u{e9}"),
            ("aws_container_credentials_relative_uri", "/get?x=y", "/g et"),
            ("azure_storage_account_name", "me", "m e"),
            ("azure_storage_tenant_id", "72f988bf-86f1", "72f988bf 86f1"),
            ("azure_fabric_workload_host", "host/x", "ho st"),
            ("aws_session_token", "FwoG/+=", "FwoG\n"),
            ("aws_secret_access_key", "w/+=", "w\r"),
            ("aws_role_arn", "arn:aws:iam::1:role/x", "arn\0"),
        ] {
            assert_eq!(check(name, good), Ok(()), "{name}");
            let error = check(name, bad);
            assert!(
                bad.is_empty() || error.as_ref().is_err_and(|why| why.ends_with("write it without")),
                "{name}: {error:?}"
            );
        }
    }

    #[test]
    fn a_key_that_the_library_would_refuse_late_is_refused_by_its_setting() {
        let whole = BASE64_STANDARD.encode([7; 32]);
        for (name, good, bad) in [
            ("azure_storage_account_key", "c2VjcmV0", "s3cret"),
            ("azure_storage_account_key", &whole, whole.trim_end_matches('=')),
            ("azure_storage_encryption_key", &whole, "c2VjcmV0"),
            ("aws_sse_customer_key_base64", &whole, "s3cret+"),
            ("azure_storage_sas_key", "?sv=2024&sig=s%3D", "s3cret"),
            ("azure_storage_sas_key", "sv%3D2024", "sv=2024&s3cret"),
            ("azure_storage_token", "e30.eyJleHAiOjF9.x", "e30.eyJleHAiOjE4NDQ2NzQ0MDczNzA5NTUxNjE1fQ.x"),
            ("google_service_account_key", SERVICE_ACCOUNT, "s3cret"),
            ("google_service_account_key", SERVICE_ACCOUNT, r#"{"type":"service_account"}"#),
        ] {
            assert_eq!(check(name, good), Ok(()), "{name}");
            let why = check(name, bad).unwrap_err();
            assert!(why.starts_with("it ") && !why.contains("s3cret") && !why.contains(bad), "{name}: {why}");
        }
    }

    const SERVICE_ACCOUNT: &str = r#"{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nczNjcmV0\n-----END PRIVATE KEY-----\n","private_key_id":"1","client_email":"a@b"}"#;

    #[test]
    fn a_relative_address_leaves_the_host_as_it_is() {
        for value in [".example/get", "get", "@example/get", ":1/get"] {
            assert!(check("aws_container_credentials_relative_uri", value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        assert_eq!(without_password("http://me:secret@store:9000/x"), "http://store:9000/x");
        assert_eq!(without_password("me:secret@store"), "store");
        assert_eq!(without_password("https://store"), "https://store");
        assert_eq!(without_password("localhost:80/?token=secret"), "localhost:80/");
    }
}
