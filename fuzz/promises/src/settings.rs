//! Settings of a store, and its URL: whatever a person types, the answer is a store or an error that says what is wrong, in one
//! line and without secrets. Requests under these settings break no more than the settings do.

use std::collections::BTreeMap;

use walkeep::archive::canned::CannedSettings;
use walkeep::archive::{Archive, ArchiveUrl, StoreOptions};
use walkeep::error::ErrorKind;

use crate::requests::{QUESTIONS, ask, check_shown};

/// Settings whose values are never shown, by any of their names.
const SECRET: [&str; 9] = [
    "connection_string",
    "secret_access_key",
    "session_token",
    "customer_key_base64",
    "account_key",
    "client_secret",
    "sas_key",
    "service_account_key",
    "bearer_token",
];
/// A shorter one may be a part of any message.
const SHORTEST_SECRET: usize = 8;

/// Panics if the bytes break a promise.
///
/// They are lines of text: the URL, then settings as `name = value` of the file or `NAME=value` of the environment. After a zero
/// byte each come the texts of the two files of the AWS tools.
pub fn hold(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '\0');
    let mut lines = parts.next().unwrap_or_default().split('\n');
    let url = lines.next().unwrap_or_default();
    let (mut file, mut environment) = (BTreeMap::new(), BTreeMap::new());
    for line in lines {
        if let Some((name, value)) = line.split_once(" = ") {
            file.insert(name.to_owned(), value.to_owned());
        } else if let Some((name, value)) = line.split_once('=') {
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    let profiles = [parts.next(), parts.next()].map(|text| text.map(str::to_owned));
    hold_settings(
        url,
        &CannedSettings { options: StoreOptions { file, environment, objects: None }, profiles },
    );
}

/// Panics if these settings break a promise.
pub(crate) fn hold_settings(url: &str, settings: &CannedSettings) {
    let options = &settings.options;
    let all = || options.file.iter().chain(&options.environment);
    // What is named is opened, and these do not end. No program is to be run.
    let opens = |value: &str| ["/dev", "/proc", "/sys"].iter().any(|place| value.contains(place));
    if all().any(|(name, value)| opens(value) || name.to_lowercase().contains("azure_cli")) {
        return;
    }
    let url = match url.parse::<ArchiveUrl>() {
        Ok(url @ ArchiveUrl::Store(_)) => url,
        Ok(ArchiveUrl::Directory(path)) => {
            assert!(path.is_absolute());
            return;
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(url.to_string().parse::<ArchiveUrl>().as_ref(), Ok(&url), "it prints as what it is");
    let is_secret = |name: &str| SECRET.iter().any(|ending| name.to_lowercase().ends_with(ending));
    let secrets: Vec<&str> = all()
        .filter(|(name, value)| is_secret(name) && value.len() >= SHORTEST_SECRET)
        // What is no secret elsewhere, such as a name, is shown there.
        .filter(|(own, value)| !all().any(|(name, other)| name != *own && other.contains(value.as_str())))
        .map(|(_, value)| value.as_str())
        .filter(|value| !url.to_string().contains(value) && !all().any(|(name, _)| name.contains(value)))
        .collect();
    for (_, question) in QUESTIONS {
        let archive = match Archive::in_canned_store(&url, settings, Vec::new()) {
            Ok(archive) => archive,
            Err(error) => {
                check_shown(&error, secrets);
                assert_eq!(error.kind(), ErrorKind::Configuration);
                return;
            }
        };
        if let Err(error) = ask(&archive, question) {
            check_shown(&error, secrets.iter().copied());
            assert_ne!(error.kind(), ErrorKind::Absent, "nothing has answered");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Stores with what they need, and all settings by which something else could be asked for.
    const STORES: [(&str, &[(&str, &str)], &[&str]); 3] = [
        (
            "s3://bucket/prefix",
            &[("access_key_id", "AKIAEXAMPLE"), ("secret_access_key", "wJalrXUtnFEMI")],
            &[
                "access_key_id",
                "secret_access_key",
                "region",
                "default_region",
                "endpoint",
                "endpoint_url_s3",
                "token",
                "imdsv1_fallback",
                "virtual_hosted_style_request",
                "s3_express",
                "metadata_endpoint",
                "unsigned_payload",
                "checksum_algorithm",
                "container_credentials_relative_uri",
                "container_credentials_full_uri",
                "container_authorization_token_file",
                "web_identity_token_file",
                "role_arn",
                "role_session_name",
                "endpoint_url_sts",
                "skip_signature",
                "aws_conditional_put",
                "disable_tagging",
                "disable_bulk_delete",
                "request_payer",
                "aws_server_side_encryption",
                "aws_sse_kms_key_id",
                "aws_sse_bucket_key_enabled",
                "aws_sse_customer_key_base64",
                "profile",
                "credential_process",
                "ca_file",
                "conditional_put",
                "allow_http",
                "allow_invalid_certificates",
                "connect_timeout",
                "read_timeout",
                "proxy_url",
                "proxy_excludes",
            ],
        ),
        (
            "gs://bucket/prefix",
            &[("bearer_token", "ya29.EXAMPLE")],
            &[
                "bearer_token",
                "service_account",
                "service_account_key",
                "application_credentials",
                "base_url",
                "skip_signature",
            ],
        ),
        (
            "az://bucket/prefix",
            &[("account_name", "me"), ("account_key", "c2VjcmV0LWtleQ==")],
            &[
                "account_name",
                "account_key",
                "connection_string",
                "client_id",
                "client_secret",
                "tenant_id",
                "authority_host",
                "sas_key",
                "azure_storage_token",
                "use_emulator",
                "use_fabric_endpoint",
                "endpoint",
                "msi_endpoint",
                "object_id",
                "msi_resource_id",
                "federated_token_file",
                "skip_signature",
                "disable_tagging",
                "azure_fabric_token_service_url",
                "azure_fabric_workload_host",
                "azure_fabric_session_token",
                "azure_fabric_cluster_identifier",
                "azure_credential_type",
                "azure_storage_encryption_key",
            ],
        ),
    ];

    /// Text that a person may type: nearly an address, nearly a word, or anything.
    fn typed() -> impl Strategy<Value = String> {
        let address = ("(https?|ftp|HTTPS)?", "[:/]{0,4}", "[a-z0-9.:@/?#%\\[\\] -]{0,20}", "[ \t\r\n\0/é]?")
            .prop_map(|(scheme, separator, rest, end)| format!("{scheme}{separator}{rest}{end}"));
        let usual = prop::sample::select(vec![
            "https://minio.example:9000",
            "eu-west-1",
            "true",
            "secretsecret",
            "1s",
            "{}",
        ]);
        let nearly = (usual, 0..30_usize, any::<char>()).prop_map(|(text, at, odd)| {
            let mut letters: Vec<char> = text.chars().collect();
            letters.insert(at.min(letters.len()), odd);
            letters.into_iter().collect()
        });
        prop_oneof![address, nearly, any::<String>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_typed_as_a_setting_is_a_setting_or_an_error(
            which in 0..3_usize,
            with_credentials: bool,
            chosen in prop::collection::vec((any::<prop::sample::Index>(), typed()), 1..4),
        ) {
            let (url, needed, names) = STORES[which];
            let mut settings = CannedSettings::default();
            let file = &mut settings.options.file;
            for (name, value) in needed.iter().filter(|_| with_credentials) {
                file.insert((*name).to_owned(), (*value).to_owned());
            }
            for (index, value) in chosen {
                file.insert((*index.get(names)).to_owned(), value);
            }
            hold_settings(url, &settings);
        }

        #[test]
        fn whatever_is_typed_as_an_url_is_one_or_an_error(text in prop_oneof![
            any::<String>(),
            "(s3|gs|az|file|S3|ftp)?(:|://|:///)?[a-z0-9._$@:-]{0,12}/?\\PC{0,12}",
        ]) {
            hold_settings(&text, &CannedSettings::default());
        }
    }
}
