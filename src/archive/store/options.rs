//! Settings for an object store: environment variables take precedence over the configuration file.
//!
//! Most settings are `object_store`'s own, under its names. A few concern the connection, which walkeep creates, or
//! walkeep itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use object_store::ClientConfigKey;
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;

use super::form;
use super::given::Objects;
use super::storage::Storage;
use crate::archive::url::Provider;
use crate::misspelt::meant;

/// Settings of an object store, as text, by the names that the user gave them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// Settings from the configuration file.
    pub file: BTreeMap<String, String>,
    /// Settings from the environment. They take precedence over the file.
    pub environment: BTreeMap<String, String>,
    /// Object store provided by code. Users cannot set it.
    pub objects: Option<Objects>,
}

/// Prints names only: a value may be a secret.
impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.file.keys().chain(self.environment.keys())).finish()
    }
}

/// Support for conditional writes, by which a store refuses to replace a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConditionalPut {
    /// Assumed for the big providers. Others are first asked whether the name is taken.
    #[default]
    Auto,
    /// Supported.
    Yes,
    /// Not supported: the store ignores or rejects the condition.
    No,
}

/// Effective settings, grouped by their users.
#[derive(Default)]
pub(super) struct Resolved {
    /// Settings for the provider's builder, by the builder's names.
    pub(super) provider: BTreeMap<String, String>,
    pub(super) connection: Connection,
    pub(super) conditional_put: ConditionalPut,
    pub(super) storage: Storage,
    /// Profile of the shared credentials files; `None` if none was named.
    pub(super) profile: Option<String>,
    /// `true` to skip the machine's metadata service when looking for credentials.
    pub(super) no_metadata: bool,
}

/// Settings of the connection.
#[derive(Clone)]
pub(super) struct Connection {
    /// Trusted certificates in PEM. No others are trusted.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) allow_http: bool,
    pub(super) allow_invalid_certificates: bool,
    /// Limit for name lookup, connecting and TLS together.
    pub(super) connect_timeout: Duration,
    /// Limit for any time in which no byte moves.
    pub(super) read_timeout: Duration,
    pub(super) proxy_url: Option<String>,
    pub(super) proxy_excludes: Option<String>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            ca_file: None,
            allow_http: false,
            allow_invalid_certificates: false,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            proxy_url: None,
            proxy_excludes: None,
        }
    }
}

/// Settings of `object_store` that would contradict the URL or the way walkeep works.
const RESERVED: &[(&str, &str)] = &[
    ("aws_bucket", "the archive's URL names the bucket"),
    ("google_bucket", "the archive's URL names the bucket"),
    ("azure_container_name", "the archive's URL names the container"),
    ("aws_copy_if_not_exists", "walkeep copies nothing"),
    ("timeout", "the time limit of a call is \"timeout\" outside of [store]"),
];

/// Prefix of variables that set what else stands in `[store]`. They sort after the providers' own, and so go before them.
const OWN_PREFIX: &str = "WALKEEP_STORE_";

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

impl StoreOptions {
    /// Returns `true` if the configuration file contains a secret.
    #[must_use]
    pub fn file_holds_a_secret(&self, provider: Provider) -> bool {
        self.file.iter().any(|(name, value)| match canonical(provider, name).as_deref() {
            Some("proxy_url") => value.contains('@'),
            Some(name) => is_secret(name),
            None => false,
        })
    }

    /// Returns the name of a wrong setting in the configuration file, and what is wrong with it.
    #[must_use]
    pub fn wrong_in_file(&self, provider: Provider) -> Option<(String, String)> {
        self.file.iter().find_map(|(name, value)| {
            Some((name.clone(), Resolved::default().set(provider, name, value).err()?))
        })
    }

    /// Groups the settings. The error names a wrong setting, and quotes no value but an address without its password.
    pub(super) fn resolve(&self, provider: Provider) -> Result<Resolved, String> {
        let mut resolved = Resolved::default();
        for (name, value) in &self.file {
            resolved.set(provider, name, value)?;
        }
        for (name, value) in &self.environment {
            resolved.set_from_environment(provider, name, value)?;
        }
        Ok(resolved)
    }
}

/// Returns `true` if the value of a setting, given by its canonical name, is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET.contains(&name)
}

impl Resolved {
    /// Returns the secrets among the settings.
    pub(super) fn secrets(&self) -> Vec<String> {
        let secrets = self.provider.iter().filter(|(name, _)| is_secret(name));
        secrets.map(|(_, secret)| secret.clone()).collect()
    }

    fn set(&mut self, provider: Provider, name: &str, value: &str) -> Result<(), String> {
        let wrong = |why| format!("{name} in [store]: {why}");
        match name {
            "ca_file" => self.connection.ca_file = Some(PathBuf::from(value)),
            "profile" if provider == Provider::S3 => self.profile = Some(value.to_owned()),
            "storage_class" => self.storage.set_class(provider, value).map_err(wrong)?,
            "tags" => self.storage.set_tags(provider, value).map_err(wrong)?,
            "conditional_put" => {
                self.conditional_put = match value {
                    "auto" => ConditionalPut::Auto,
                    "yes" | "true" => ConditionalPut::Yes,
                    "no" | "false" => ConditionalPut::No,
                    _ => {
                        return Err(
                            "conditional_put in [store] must be \"auto\", \"yes\" or \"no\"".to_owned()
                        );
                    }
                }
            }
            _ => {
                let canonical = canonical(provider, name).ok_or_else(|| {
                    let what = format!(
                        "unknown setting {name} in [store] for an archive in {}://",
                        provider.scheme()
                    );
                    match meant(name, usual(provider)) {
                        Some(known) => format!("{what}; did you mean {known}?"),
                        None => what,
                    }
                })?;
                self.set_canonical(canonical, value).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Unknown variables are ignored: other programs share the environment.
    fn set_from_environment(&mut self, provider: Provider, name: &str, value: &str) -> Result<(), String> {
        let (prefix, renamed) = match (provider, name) {
            _ if value.is_empty() => return Ok(()),
            _ if name.starts_with(OWN_PREFIX) => {
                let setting = name.trim_start_matches(OWN_PREFIX).to_ascii_lowercase();
                // Kubernetes sets such variables for a service of the name walkeep-store.
                if setting.starts_with("service_") || setting.starts_with("port") {
                    return Ok(());
                }
                return self.set(provider, &setting, value).map_err(|why| format!("{name}: {why}"));
            }
            (Provider::S3, "AWS_CA_BUNDLE") => return self.set(provider, "ca_file", value),
            (Provider::S3, "AWS_PROFILE") => return self.set(provider, "profile", value),
            (Provider::S3, "AWS_EC2_METADATA_DISABLED") => {
                self.no_metadata = truth(value).map_err(|why| format!("{name}: {why}"))?;
                return Ok(());
            }
            (Provider::S3, _) => ("AWS_", name),
            (Provider::Google, "SERVICE_ACCOUNT") => ("", "google_service_account"),
            (Provider::Google, _) => ("GOOGLE_", name),
            (Provider::Azure, "IDENTITY_ENDPOINT") => ("", "azure_msi_endpoint"),
            (Provider::Azure, _) => ("AZURE_", name),
        };
        match canonical(provider, renamed) {
            Some(canonical) if renamed.starts_with(prefix) && refused(&canonical).is_none() => {
                self.set_canonical(canonical, value).map_err(|why| format!("{name}: {why}"))
            }
            _ => Ok(()),
        }
    }

    fn set_canonical(&mut self, name: String, value: &str) -> Result<(), String> {
        if let Some(why) = refused(&name) {
            return Err(format!("it cannot be set; {why}"));
        }
        form::check(&name, value)?;
        let connection = &mut self.connection;
        match name.as_str() {
            "allow_http" => connection.allow_http = truth(value)?,
            "allow_invalid_certificates" => connection.allow_invalid_certificates = truth(value)?,
            "connect_timeout" => connection.connect_timeout = duration(value)?,
            "read_timeout" => connection.read_timeout = duration(value)?,
            "proxy_url" => connection.proxy_url = Some(value.to_owned()),
            "proxy_excludes" => connection.proxy_excludes = Some(value.to_owned()),
            _ => drop(self.provider.insert(name, value.to_owned())),
        }
        Ok(())
    }
}

/// Returns `true` if this is a setting of any provider's store.
pub(crate) fn is_store_setting(name: &str) -> bool {
    let providers = [Provider::S3, Provider::Google, Provider::Azure];
    providers.into_iter().any(|provider| usual(provider).any(|known| known == name))
}

/// Returns the settings that the guide names, for suggestions.
fn usual(provider: Provider) -> impl Iterator<Item = &'static str> {
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
            "client_id",
            "client_secret",
            "tenant_id",
            "endpoint",
        ],
    };
    ALL.iter().chain(own).copied()
}

/// Returns the reason why a setting, given by its canonical name, cannot be set; `None` if it can.
fn refused(name: &str) -> Option<&'static str> {
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
fn canonical(provider: Provider, name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    match provider {
        Provider::S3 => name.parse::<AmazonS3ConfigKey>().ok().map(|key| key.as_ref().to_owned()),
        Provider::Google => name.parse::<GoogleConfigKey>().ok().map(|key| key.as_ref().to_owned()),
        Provider::Azure => name.parse::<AzureConfigKey>().ok().map(|key| key.as_ref().to_owned()),
    }
}

/// Parses a boolean.
pub(super) fn truth(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

fn duration(value: &str) -> Result<Duration, String> {
    value
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero() && *duration <= Duration::from_hours(1))
        .ok_or_else(|| "it must be a duration such as 5s, of at most an hour".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(file: &[(&str, &str)], environment: &[(&str, &str)]) -> StoreOptions {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        StoreOptions { file: owned(file), environment: owned(environment), objects: None }
    }

    #[test]
    fn the_environment_takes_precedence_over_the_file_under_any_name() {
        let options = options(
            &[("endpoint", "http://a"), ("allow_http", "true"), ("region", "here"), ("ca_file", "/a")],
            &[("AWS_ENDPOINT_URL", "http://b"), ("AWS_CA_BUNDLE", "/b"), ("AWS_DEFAULT_REGION", "there")],
        );
        let resolved = options.resolve(Provider::S3).unwrap();
        assert_eq!(resolved.provider["aws_endpoint"], "http://b");
        assert_eq!(resolved.provider["aws_region"], "here");
        assert!(resolved.connection.allow_http);
        assert_eq!(resolved.connection.ca_file, Some(PathBuf::from("/b")));
    }

    #[test]
    fn a_store_that_answers_after_13_seconds_is_waited_for_by_default() {
        let resolved = options(&[], &[]).resolve(Provider::S3).unwrap();
        assert_eq!(resolved.connection.read_timeout, Duration::from_secs(30));
    }

    #[test]
    fn every_setting_has_a_variable_that_goes_before_the_providers() {
        let environment = [
            ("WALKEEP_STORE_CONDITIONAL_PUT", "yes"),
            ("WALKEEP_STORE_ENDPOINT", "http://own"),
            ("WALKEEP_STORE_READ_TIMEOUT", "40s"),
            ("AWS_ENDPOINT_URL", "http://aws"),
        ];
        let resolved = options(&[("endpoint", "http://file")], &environment).resolve(Provider::S3).unwrap();
        assert_eq!(resolved.provider["aws_endpoint"], "http://own");
        assert_eq!(resolved.conditional_put, ConditionalPut::Yes);
        assert_eq!(resolved.connection.read_timeout, Duration::from_secs(40));
        let of_service =
            [("WALKEEP_STORE_SERVICE_HOST", "10.0.0.1"), ("WALKEEP_STORE_PORT_9000_TCP", "tcp://x")];
        assert!(options(&[], &of_service).resolve(Provider::S3).unwrap().provider.is_empty());
        let error = options(&[], &[("WALKEEP_STORE_REGOIN", "x")]).resolve(Provider::S3).err().unwrap();
        assert!(error.contains("WALKEEP_STORE_REGOIN") && error.contains("did you mean region?"), "{error}");
    }

    #[test]
    fn unknown_environment_variables_are_ignored() {
        let options = options(
            &[],
            &[("AWS_BUCKET", "theirs"), ("AWS_PAGER", "less"), ("AWS_TIMEOUT", "1s"), ("AWS_REGION", "")],
        );
        assert!(options.resolve(Provider::S3).unwrap().provider.is_empty());
    }

    #[test]
    fn a_wrong_setting_is_named_and_its_value_is_not() {
        for (provider, name, value) in [
            (Provider::S3, "secret_acces_key", "s3cret"),
            (Provider::S3, "bucket", "s3cret"),
            (Provider::S3, "timeout", "s3cret"),
            (Provider::S3, "http2_only", "s3cret"),
            (Provider::S3, "allow_http", "s3cret"),
            (Provider::S3, "connect_timeout", "s3cret"),
            (Provider::S3, "conditional_put", "s3cret"),
            (Provider::Google, "secret_access_key", "s3cret"),
            (Provider::Azure, "profile", "s3cret"),
        ] {
            let error = options(&[(name, value)], &[]).resolve(provider).err().unwrap();
            assert!(error.contains(name) && !error.contains(value), "{error}");
        }
    }

    #[test]
    fn every_setting_that_may_be_suggested_exists() {
        for provider in [Provider::S3, Provider::Google, Provider::Azure] {
            for name in usual(provider) {
                let is_own =
                    ["ca_file", "conditional_put", "profile", "storage_class", "tags"].contains(&name);
                let canonical = canonical(provider, name);
                assert!(
                    is_own || canonical.is_some_and(|name| refused(&name).is_none()),
                    "{provider:?} {name}"
                );
            }
        }
    }

    #[test]
    fn secrets_are_known_by_any_of_their_names_and_are_never_shown() {
        for (provider, name) in [
            (Provider::S3, "aws_secret_access_key"),
            (Provider::S3, "secret_access_key"),
            (Provider::S3, "token"),
            (Provider::Azure, "sas_token"),
            (Provider::Azure, "access_key"),
            (Provider::Google, "service_account_key"),
        ] {
            let options = options(&[(name, "s3cret")], &[]);
            assert!(options.file_holds_a_secret(provider), "{name}");
            assert!(!format!("{options:?}").contains("s3cret"));
        }
        assert!(options(&[("proxy_url", "http://me:s3cret@proxy")], &[]).file_holds_a_secret(Provider::S3));
        assert!(!options(&[("proxy_url", "http://proxy")], &[]).file_holds_a_secret(Provider::S3));
        assert!(!options(&[("access_key_id", "AKIA")], &[]).file_holds_a_secret(Provider::S3));
    }
}
