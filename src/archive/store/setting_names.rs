//! Names of settings: those of `object_store`, those that users cannot set, and those whose values are secrets. Pure.

use object_store::ClientConfigKey;
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;

use crate::archive::url::Provider;

/// Settings of `object_store` that would contradict the URL or the way walkeep works.
const RESERVED: &[(&str, &str)] = &[
    ("aws_bucket", "the archive's URL names the bucket"),
    ("google_bucket", "the archive's URL names the bucket"),
    ("azure_container_name", "the archive's URL names the container"),
    ("aws_copy_if_not_exists", "walkeep copies nothing"),
    ("timeout", "the time limit of a call is \"timeout\" outside of [store]"),
];

/// Settings whose values are secrets.
const SECRET: &[&str] = &[
    "aws_secret_access_key",
    "aws_session_token",
    "aws_sse_customer_key_base64",
    "azure_storage_account_key",
    "azure_storage_client_secret",
    "azure_storage_sas_key",
    "azure_storage_token",
    "azure_storage_encryption_key",
    "azure_fabric_session_token",
    "google_service_account_key",
    "google_bearer_token",
];

/// Returns `true` if the value of a setting, given by its canonical name, is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET.contains(&name)
}

/// Returns `true` if this is a setting of any provider's store.
pub(crate) fn is_store_setting(name: &str) -> bool {
    let providers = [Provider::S3, Provider::Google, Provider::Azure];
    providers.into_iter().any(|provider| usual(provider).any(|known| known == name))
}

/// Returns the settings that the guide names, for suggestions.
pub(super) fn usual(provider: Provider) -> impl Iterator<Item = &'static str> {
    const ALL: [&str; 9] = [
        "ca_file",
        "conditional_put",
        "storage_class",
        "tags",
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "read_timeout",
        "proxy_url",
    ];
    let own: &[&str] = match provider {
        Provider::S3 => &[
            "endpoint",
            "region",
            "access_key_id",
            "secret_access_key",
            "session_token",
            "profile",
            "credential_process",
            "virtual_hosted_style_request",
            "server_side_encryption",
            "sse_kms_key_id",
        ],
        Provider::Google => {
            &["service_account", "service_account_key", "application_credentials", "base_url"]
        }
        Provider::Azure => &[
            "account_name",
            "account_key",
            "sas_token",
            "connection_string",
            "client_id",
            "client_secret",
            "tenant_id",
            "endpoint",
        ],
    };
    ALL.iter().chain(own).copied()
}

/// Returns the reason why a setting, given by its canonical name, cannot be set; `None` if it can.
pub(super) fn refused(name: &str) -> Option<&'static str> {
    const CONNECTION: [&str; 6] = [
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "read_timeout",
        "proxy_url",
        "proxy_excludes",
    ];
    if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
        Some(why)
    } else if name.parse::<ClientConfigKey>().is_ok() && !CONNECTION.contains(&name) {
        Some("walkeep makes its connections itself, and has no use for it")
    } else {
        None
    }
}

/// Returns the canonical name of a setting, for which `object_store` accepts several.
pub(super) fn canonical(provider: Provider, name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    match provider {
        Provider::S3 => name.parse::<AmazonS3ConfigKey>().ok().map(|key| key.as_ref().to_owned()),
        Provider::Google => name.parse::<GoogleConfigKey>().ok().map(|key| key.as_ref().to_owned()),
        Provider::Azure => name.parse::<AzureConfigKey>().ok().map(|key| key.as_ref().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_may_be_suggested_exists() {
        for provider in [Provider::S3, Provider::Google, Provider::Azure] {
            for name in usual(provider) {
                let is_own = [
                    "ca_file",
                    "conditional_put",
                    "storage_class",
                    "tags",
                    "profile",
                    "credential_process",
                    "connection_string",
                ]
                .contains(&name);
                let canonical = canonical(provider, name);
                assert!(
                    is_own || canonical.is_some_and(|name| refused(&name).is_none()),
                    "{provider:?} {name}"
                );
            }
        }
    }
}
