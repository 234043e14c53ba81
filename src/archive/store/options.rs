//! Settings for an object store: environment variables take precedence over the configuration file.
//!
//! Most settings are `object_store`'s own, under its names. A few concern the connection, which walkeep creates, or
//! walkeep itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::connection_string;
use super::form;
use super::given::Objects;
use super::process::CredentialProcess;
use super::read_later::VARIABLES;
use super::setting_names::{canonical, is_secret, refused, usual};
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
    /// Command that prints credentials.
    pub(super) process: Option<CredentialProcess>,
    /// `true` to skip the machine's metadata service when looking for credentials.
    pub(super) no_metadata: bool,
    /// `true` if the container's token was given as text, which is of no use here.
    pub(super) container_token: bool,
    /// Variables that the library reads by itself.
    pub(super) read_later: BTreeMap<String, String>,
    /// Hosts of metadata services, which are next door and speak plain HTTP.
    pub(super) metadata_hosts: Vec<String>,
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

/// Settings that make a web identity together.
pub(super) const WEB_IDENTITY: [&str; 2] = ["aws_role_arn", "aws_web_identity_token_file"];

/// Prefix of variables that set what else stands in `[store]`. They sort after the providers' own, and so go before them.
pub(super) const OWN_PREFIX: &str = "WALKEEP_STORE_";

impl StoreOptions {
    /// Returns `true` if the configuration file contains a secret.
    #[must_use]
    pub fn file_holds_a_secret(&self, provider: Provider) -> bool {
        self.file.iter().any(|(name, value)| match canonical(provider, name).as_deref() {
            Some("proxy_url") => value.contains('@'),
            Some(name) => is_secret(name),
            None => name == "connection_string",
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
            "credential_process" if provider == Provider::S3 => {
                let process = CredentialProcess::parse(value);
                self.process = Some(process.map_err(|why| format!("{name} in [store]: {why}"))?);
            }
            "connection_string" if provider == Provider::Azure => {
                self.set_connection_string(value).map_err(wrong)?;
            }
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
                    // The library's own names say whose they are.
                    let short = ["aws_", "azure_storage_", "google_"];
                    let short = short.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
                    let others = [Provider::S3, Provider::Google, Provider::Azure];
                    match meant(short, usual(provider)) {
                        Some(known) => format!("{what}; did you mean {known}?"),
                        None => match others.iter().find(|other| canonical(**other, name).is_some()) {
                            Some(other) => format!("{what}; it is one for {}://", other.scheme()),
                            None => what,
                        },
                    }
                })?;
                self.set_canonical(canonical, value).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Unknown variables are ignored: other programs share the environment.
    fn set_from_environment(&mut self, provider: Provider, name: &str, value: &str) -> Result<(), String> {
        if VARIABLES.contains(&(provider, name)) {
            if provider == Provider::Google && !value.is_empty() {
                self.metadata_hosts.push(host(value).to_owned());
            }
            self.read_later.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
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
            // In this order, because the map of variables is sorted: AWS_PROFILE takes precedence.
            (Provider::S3, "AWS_DEFAULT_PROFILE" | "AWS_PROFILE") => {
                return self.set(provider, "profile", value);
            }
            (Provider::S3, "AWS_CONTAINER_AUTHORIZATION_TOKEN") => {
                self.container_token = true;
                return Ok(());
            }
            (Provider::S3, "AWS_EC2_METADATA_DISABLED") => {
                self.no_metadata = truth(value).map_err(|why| format!("{name}: {why}"))?;
                return Ok(());
            }
            (Provider::S3, _) => ("AWS_", name),
            (Provider::Google, "SERVICE_ACCOUNT") => ("", "google_service_account"),
            (Provider::Google, _) => ("GOOGLE_", name),
            (Provider::Azure, "IDENTITY_ENDPOINT") => ("", "azure_msi_endpoint"),
            // The names of Microsoft's own tools, which the library does not know.
            (Provider::Azure, "AZURE_STORAGE_ACCOUNT") => ("", "azure_storage_account_name"),
            (Provider::Azure, "AZURE_STORAGE_KEY") => ("", "azure_storage_account_key"),
            (Provider::Azure, "AZURE_STORAGE_SERVICE_ENDPOINT") => ("", "azure_storage_endpoint"),
            (Provider::Azure, "AZURE_STORAGE_CONNECTION_STRING") => {
                return self.set_connection_string(value).map_err(|why| format!("{name}: {why}"));
            }
            (Provider::Azure, _) => ("AZURE_", name),
        };
        match canonical(provider, renamed) {
            Some(canonical) if renamed.starts_with(prefix) && refused(&canonical).is_none() => {
                self.set_canonical(canonical, value).map_err(|why| format!("{name}: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// Returns `true` if there are credentials that no profile has to give, or a part of them, which no profile may complete.
    ///
    /// A web identity goes before a default profile, as with the AWS tools, but not before a profile that was named.
    pub(super) fn gives_credentials(&self) -> bool {
        let has = |names: &[&str]| names.iter().any(|name| self.provider.contains_key(*name));
        let keys = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_skip_signature"];
        self.process.is_some() || has(&keys) || self.profile.is_none() && has(&WEB_IDENTITY)
    }

    fn set_connection_string(&mut self, value: &str) -> Result<(), String> {
        for (name, value) in connection_string::settings(value)? {
            let part = |why| match name {
                "azure_storage_account_key" => format!("its AccountKey: {why}"),
                "azure_storage_account_name" => format!("its AccountName: {why}"),
                "azure_storage_sas_key" => format!("its SharedAccessSignature: {why}"),
                _ => format!("its endpoint: {why}"),
            };
            self.set_canonical(name.to_owned(), &value).map_err(part)?;
        }
        Ok(())
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
            // The library's own setting for what walkeep decides for every store.
            "aws_conditional_put" => match value {
                "disabled" => self.conditional_put = ConditionalPut::No,
                "etag" | "etag-match" => {}
                _ => {
                    return Err(
                        "it must be etag or disabled; walkeep's own setting is conditional_put".to_owned()
                    );
                }
            },
            _ => drop(self.provider.insert(name, value.to_owned())),
        }
        Ok(())
    }
}

/// Returns the host of an address, without port and path.
pub(super) fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split(['/', ':']).next().unwrap_or(rest)
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
    fn the_names_of_microsofts_own_tools_are_known() {
        let options = options(&[], &[("AZURE_STORAGE_ACCOUNT", "me"), ("AZURE_STORAGE_KEY", "c2VjcmV0")]);
        let settings = options.resolve(Provider::Azure).unwrap().provider;
        assert_eq!(settings["azure_storage_account_name"], "me");
        assert_eq!(settings["azure_storage_account_key"], "c2VjcmV0");
        let text = "AccountName=me;AccountKey=c2VjcmV0";
        for options in [
            self::options(&[], &[("AZURE_STORAGE_CONNECTION_STRING", text)]),
            self::options(&[("connection_string", text)], &[]),
        ] {
            let resolved = options.resolve(Provider::Azure).unwrap();
            assert_eq!(resolved.provider["azure_storage_account_name"], "me");
            assert!(resolved.secrets().contains(&"c2VjcmV0".to_owned()));
        }
        assert!(self::options(&[("connection_string", text)], &[]).file_holds_a_secret(Provider::Azure));
        let wrong = self::options(&[], &[("AZURE_STORAGE_CONNECTION_STRING", "s3cret")]);
        let error = wrong.resolve(Provider::Azure).err().unwrap();
        assert!(
            error.starts_with("AZURE_STORAGE_CONNECTION_STRING: ") && !error.contains("s3cret"),
            "{error}"
        );
    }

    #[test]
    fn a_key_of_azure_that_is_no_base64_is_named_by_what_gave_it() {
        let wrong = |file: &[(&str, &str)], environment: &[(&str, &str)]| {
            options(file, environment).resolve(Provider::Azure).err().unwrap()
        };
        let string = "AccountName=me;AccountKey=s3cret";
        for (error, begin) in [
            (wrong(&[], &[("AZURE_STORAGE_KEY", "s3cret")]), "AZURE_STORAGE_KEY: it is no key in base64"),
            (wrong(&[("account_key", "s3cret")], &[]), "account_key in [store]: it is no key in base64"),
            (
                wrong(&[], &[("AZURE_STORAGE_CONNECTION_STRING", string)]),
                "AZURE_STORAGE_CONNECTION_STRING: its AccountKey: it is no key in base64",
            ),
            (
                wrong(&[("connection_string", string)], &[]),
                "connection_string in [store]: its AccountKey: it is no key in base64",
            ),
            (
                wrong(&[], &[("WALKEEP_STORE_ACCOUNT_KEY", "s3cret")]),
                "WALKEEP_STORE_ACCOUNT_KEY: account_key in [store]: it is no key in base64",
            ),
        ] {
            assert!(error.starts_with(begin) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn amazons_own_setting_for_conditional_writes_is_understood() {
        for (value, expected) in [("disabled", ConditionalPut::No), ("etag", ConditionalPut::Auto)] {
            let resolved = options(&[], &[("AWS_CONDITIONAL_PUT", value)]).resolve(Provider::S3).unwrap();
            assert_eq!(resolved.conditional_put, expected);
            assert!(resolved.provider.is_empty(), "the library is not told");
        }
        let error = options(&[], &[("AWS_CONDITIONAL_PUT", "s3cret")]).resolve(Provider::S3).err().unwrap();
        assert!(error.starts_with("AWS_CONDITIONAL_PUT: it must be etag or disabled"), "{error}");
    }

    #[test]
    fn a_profile_is_named_by_either_variable_and_aws_profile_wins() {
        let profile =
            |environment: &[(&str, &str)]| options(&[], environment).resolve(Provider::S3).unwrap().profile;
        assert_eq!(profile(&[("AWS_DEFAULT_PROFILE", "a")]).as_deref(), Some("a"));
        assert_eq!(profile(&[("AWS_PROFILE", "b"), ("AWS_DEFAULT_PROFILE", "a")]).as_deref(), Some("b"));
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
