//! Where credentials come from. What is set but incomplete is refused: the library would ask the machine's own role
//! instead, which may be another account's. Pure.

use std::collections::BTreeMap;

use super::google::{self, Kind};
use super::options::{Resolved, truth};
use crate::archive::url::{Provider, StoreUrl};
use crate::error::{Error, ErrorKind};

type Settings = BTreeMap<String, String>;

/// Source of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The settings themselves, or none are needed.
    Settings,
    /// `credential_process`.
    Process,
    /// Security token service of Amazon's, for a web identity.
    WebIdentity,
    /// The container's host, at a path or at a URL.
    Container,
    ContainerAt,
    /// Google, for a service account's key or a person's login.
    GoogleKey,
    GoogleLogin,
    /// Microsoft Entra ID, for a secret or for a token from a file.
    EntraSecret,
    EntraToken,
    /// The Azure CLI, which is refused: object_store 0.14.2 runs it in a way that stops time limits and signals.
    AzureCli,
    /// The machine's own role or identity.
    Machine(Provider),
}

impl Source {
    /// Returns the hint for credentials that could not be had.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Settings => "look at the credentials in [store] and the environment",
            Self::Process => "run the command of credential_process as this user to see what it says",
            Self::WebIdentity => {
                "they were asked for by web identity; see AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, and whether the \
                 role trusts that identity"
            }
            Self::Container => {
                "they were asked of the container's host; see AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
            }
            Self::ContainerAt => {
                "they were asked of the container's host; see AWS_CONTAINER_CREDENTIALS_FULL_URI and \
                 AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
            }
            Self::GoogleKey => {
                "they were asked of Google with the service account's key; is that key still valid, and this machine's \
                 clock right?"
            }
            Self::GoogleLogin => {
                "they were asked of Google for the person who logged in; gcloud auth application-default login renews them"
            }
            Self::EntraSecret => {
                "they were asked of Microsoft Entra ID; see client_id, client_secret and tenant_id in [store], or \
                 AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID"
            }
            Self::EntraToken => {
                "they were asked of Microsoft Entra ID by workload identity; see AZURE_FEDERATED_TOKEN_FILE, \
                 AZURE_CLIENT_ID and AZURE_TENANT_ID"
            }
            Self::AzureCli => {
                "az has no time limit; set client_id, client_secret and tenant_id in [store], or AZURE_STORAGE_SAS_TOKEN, or \
                 give the machine a managed identity"
            }
            Self::Machine(Provider::S3) => {
                "none are configured, so the machine's own role was asked for; set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or credential_process in [store]"
            }
            Self::Machine(Provider::Google) => {
                "none are configured, so the machine's own service account was asked for; set \
                 GOOGLE_APPLICATION_CREDENTIALS, or service_account in [store]"
            }
            Self::Machine(Provider::Azure) => {
                "none are configured, so the machine's own managed identity was asked for; set AZURE_STORAGE_KEY, \
                 AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, or client_id, client_secret and tenant_id in \
                 [store]"
            }
        }
    }

    /// Determines the source, in the library's order.
    pub(super) fn of(url: &StoreUrl, resolved: &Resolved) -> Result<Self, Error> {
        let incomplete = |(what, hint): (String, &str)| {
            let what = format!("the credentials for {url} are incomplete: {what}");
            Error::new(ErrorKind::Configuration, what).hint(hint)
        };
        match url.provider {
            Provider::S3 => of_s3(resolved).map_err(incomplete),
            Provider::Google => of_google(url, resolved),
            Provider::Azure => match of_azure(&resolved.provider).map_err(incomplete)? {
                Self::AzureCli => {
                    let what = format!("walkeep gets no credentials for {url} from the Azure CLI");
                    Err(Error::new(ErrorKind::Configuration, what).hint(Self::AzureCli.hint()))
                }
                usable => Ok(usable),
            },
        }
    }
}

type Incomplete = (String, &'static str);

/// Returns an error if one of the two is set alone.
fn both(settings: &Settings, one: &str, other: &str, hint: &'static str) -> Result<bool, Incomplete> {
    // The names of [store], which are the library's without the provider's.
    let shown = |name: &str| {
        let name = name.trim_start_matches("azure_storage_");
        name.trim_start_matches("azure_").trim_start_matches("aws_").to_owned()
    };
    match (settings.contains_key(one), settings.contains_key(other)) {
        (true, false) => Err((format!("{} is set and {} is not", shown(one), shown(other)), hint)),
        (false, true) => Err((format!("{} is set and {} is not", shown(other), shown(one)), hint)),
        (both, _) => Ok(both),
    }
}

fn is_on(settings: &Settings, name: &str) -> bool {
    settings.get(name).is_some_and(|value| truth(value) == Ok(true))
}

fn of_s3(resolved: &Resolved) -> Result<Source, Incomplete> {
    let settings = &resolved.provider;
    let keys = "set both, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in [store]";
    if is_on(settings, "aws_skip_signature")
        || both(settings, "aws_access_key_id", "aws_secret_access_key", keys)?
    {
        return Ok(Source::Settings);
    }
    if settings.contains_key("aws_session_token") {
        return Err(("session_token is set, and the keys that it belongs to are not".to_owned(), keys));
    }
    if resolved.process.is_some() {
        return Ok(Source::Process);
    }
    let role = "walkeep assumes a role only with AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE together; for any other way \
                set credential_process in [store]";
    if both(settings, "aws_role_arn", "aws_web_identity_token_file", role)? {
        return Ok(Source::WebIdentity);
    }
    if settings.contains_key("aws_container_credentials_relative_uri") {
        return Ok(Source::Container);
    }
    let container = "walkeep asks a container's host with AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, or with \
                     AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE together";
    let [address, file] = ["aws_container_credentials_full_uri", "aws_container_authorization_token_file"];
    if both(settings, address, file, container)? {
        return Ok(Source::ContainerAt);
    }
    if resolved.container_token {
        return Err((
            "AWS_CONTAINER_AUTHORIZATION_TOKEN is set and no address to use it at".to_owned(),
            container,
        ));
    }
    Ok(Source::Machine(Provider::S3))
}

fn of_google(url: &StoreUrl, resolved: &Resolved) -> Result<Source, Error> {
    let settings = &resolved.provider;
    let has = |name: &str| settings.contains_key(name);
    if has("google_bearer_token") || is_on(settings, "google_skip_signature") {
        return Ok(Source::Settings);
    }
    if let Some(key) = settings.get("google_service_account_key") {
        google::refuse_other_store(url, key.as_bytes(), settings)?;
        return Ok(Source::GoogleKey);
    }
    Ok(match google::kind_of_credentials(url, settings)? {
        Some(Kind::ServiceAccount) => Source::GoogleKey,
        Some(Kind::Person) => Source::GoogleLogin,
        None => Source::Machine(Provider::Google),
    })
}

fn of_azure(settings: &Settings) -> Result<Source, Incomplete> {
    let has = |name: &str| settings.contains_key(name);
    if is_on(settings, "azure_storage_use_emulator") {
        return Ok(Source::Settings);
    }
    if !has("azure_storage_account_name") {
        return Err((
            "account_name is not set".to_owned(),
            "set AZURE_STORAGE_ACCOUNT, or account_name in [store], to the storage account's name",
        ));
    }
    match settings.get("azure_credential_type").map(String::as_str) {
        Some("azure_cli") => return Ok(Source::AzureCli),
        None | Some("auto") => {}
        // Names its source itself.
        Some(_) => return Ok(Source::Settings),
    }
    let given = ["azure_storage_token", "azure_storage_account_key", "azure_fabric_session_token"];
    if given.into_iter().any(has) || is_on(settings, "azure_skip_signature") {
        return Ok(Source::Settings);
    }
    let [client, tenant] = ["azure_storage_client_id", "azure_storage_tenant_id"];
    let whole = |secret: &str| -> Result<bool, Incomplete> {
        let hint = "set AZURE_CLIENT_ID and AZURE_TENANT_ID with AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, or \
                    their likes in [store]";
        for other in [client, tenant] {
            if has(secret) {
                both(settings, secret, other, hint)?;
            }
        }
        Ok(has(secret))
    };
    if has("azure_storage_sas_key") && !(has(client) && has(tenant)) {
        return Ok(Source::Settings);
    }
    if whole("azure_federated_token_file")? {
        Ok(Source::EntraToken)
    } else if whole("azure_storage_client_secret")? {
        Ok(Source::EntraSecret)
    } else if has("azure_storage_sas_key") {
        Ok(Source::Settings)
    } else if is_on(settings, "azure_use_azure_cli") {
        Ok(Source::AzureCli)
    } else {
        Ok(Source::Machine(Provider::Azure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ArchiveUrl;

    fn source(url: &str, names: &[&str]) -> Result<Source, String> {
        let Ok(ArchiveUrl::Store(url)) = url.parse() else { panic!("{url}") };
        let mut resolved = Resolved::default();
        for name in names {
            resolved.provider.insert((*name).to_owned(), "true".to_owned());
        }
        Source::of(&url, &resolved).map_err(|error| error.report())
    }

    #[test]
    fn half_of_what_belongs_together_is_named_and_never_passed_over() {
        for (url, names, words) in [
            (
                "s3://b",
                &["aws_access_key_id"][..],
                "access_key_id is set and secret_access_key is not; set both",
            ),
            (
                "s3://b",
                &["aws_secret_access_key"],
                "secret_access_key is set and access_key_id is not; set both",
            ),
            ("s3://b", &["aws_session_token"], "session_token is set, and the keys"),
            (
                "s3://b",
                &["aws_role_arn"],
                "role_arn is set and web_identity_token_file is not; walkeep assumes a role",
            ),
            (
                "s3://b",
                &["aws_web_identity_token_file"],
                "web_identity_token_file is set and role_arn is not",
            ),
            (
                "s3://b",
                &["aws_container_credentials_full_uri"],
                "container_credentials_full_uri is set and container_authorization_token_file is not",
            ),
            ("s3://b", &["aws_container_authorization_token_file"], "container_credentials_full_uri is not"),
            ("az://b", &[], "account_name is not set; set AZURE_STORAGE_ACCOUNT"),
            (
                "az://b",
                &["azure_storage_account_name", "azure_storage_client_secret"],
                "client_secret is set and client_id is not",
            ),
            (
                "az://b",
                &["azure_storage_account_name", "azure_storage_client_secret", "azure_storage_client_id"],
                "client_secret is set and tenant_id is not",
            ),
            (
                "az://b",
                &["azure_storage_account_name", "azure_federated_token_file", "azure_storage_client_id"],
                "federated_token_file is set and tenant_id is not",
            ),
        ] {
            let error = source(url, names).unwrap_err();
            let begin = format!("the credentials for {url} are incomplete: ");
            assert!(error.starts_with(&begin) && error.contains(words), "{names:?}: {error}");
        }
    }

    #[test]
    fn complete_credentials_have_their_source() {
        let azure = |more: &[&str]| source("az://b", &[&["azure_storage_account_name"], more].concat());
        assert_eq!(source("s3://b", &["aws_access_key_id", "aws_secret_access_key"]), Ok(Source::Settings));
        assert_eq!(source("s3://b", &["aws_skip_signature"]), Ok(Source::Settings));
        assert_eq!(
            source("s3://b", &["aws_role_arn", "aws_web_identity_token_file"]),
            Ok(Source::WebIdentity)
        );
        assert_eq!(source("s3://b", &["aws_container_credentials_relative_uri"]), Ok(Source::Container));
        let at = ["aws_container_credentials_full_uri", "aws_container_authorization_token_file"];
        assert_eq!(source("s3://b", &at), Ok(Source::ContainerAt));
        assert_eq!(source("s3://b", &[]), Ok(Source::Machine(Provider::S3)));
        assert_eq!(source("gs://b", &["google_bearer_token"]), Ok(Source::Settings));
        assert_eq!(source("gs://b", &["google_service_account_key"]), Ok(Source::GoogleKey));
        assert_eq!(azure(&["azure_storage_account_key"]), Ok(Source::Settings));
        assert_eq!(azure(&["azure_storage_sas_key", "azure_storage_client_id"]), Ok(Source::Settings));
        let person = ["azure_storage_client_id", "azure_storage_tenant_id"];
        assert_eq!(azure(&[&person[..], &["azure_storage_client_secret"]].concat()), Ok(Source::EntraSecret));
        assert_eq!(azure(&[&person[..], &["azure_federated_token_file"]].concat()), Ok(Source::EntraToken));
        assert_eq!(azure(&["azure_storage_client_id"]), Ok(Source::Machine(Provider::Azure)));
        assert_eq!(source("az://b", &["azure_storage_use_emulator"]), Ok(Source::Settings));
    }

    #[test]
    fn the_azure_cli_is_refused_wherever_it_would_be_run() {
        let error = |settings: &[(&str, &str)]| {
            let Ok(ArchiveUrl::Store(url)) = "az://b".parse() else { panic!() };
            let mut resolved = Resolved::default();
            for (name, value) in [&[("azure_storage_account_name", "me")], settings].concat() {
                resolved.provider.insert(name.to_owned(), value.to_owned());
            }
            Source::of(&url, &resolved).err().map(|error| error.report()).unwrap_or_default()
        };
        let on = ("azure_use_azure_cli", "true");
        for settings in [
            &[on][..],
            &[on, ("azure_credential_type", "auto")],
            &[("azure_credential_type", "azure_cli")],
            &[("azure_credential_type", "azure_cli"), ("azure_storage_account_key", "x")],
        ] {
            let error = error(settings);
            assert!(
                error.starts_with(
                    "walkeep gets no credentials for az://b from the Azure CLI; az has no time limit"
                ) && error.contains("set client_id, client_secret and tenant_id in [store]"),
                "{settings:?}: {error}"
            );
        }
        for settings in [
            &[on, ("azure_storage_account_key", "x")][..],
            &[("azure_use_azure_cli", "false")],
            &[on, ("azure_credential_type", "managed_identity")],
        ] {
            assert_eq!(error(settings), "", "{settings:?}");
        }
    }

    #[test]
    fn a_containers_token_as_text_is_refused() {
        let Ok(ArchiveUrl::Store(url)) = "s3://b".parse() else { panic!() };
        let resolved = Resolved { container_token: true, ..Resolved::default() };
        let error = Source::of(&url, &resolved).unwrap_err().report();
        assert!(error.contains("AWS_CONTAINER_AUTHORIZATION_TOKEN is set and no address"), "{error}");
    }

    #[test]
    fn every_hint_of_a_source_is_that_providers() {
        for (source, word) in [
            (Source::WebIdentity, "AWS_ROLE_ARN"),
            (Source::GoogleKey, "Google"),
            (Source::EntraSecret, "Entra"),
            (Source::EntraToken, "AZURE_FEDERATED_TOKEN_FILE"),
            (Source::Machine(Provider::S3), "AWS_ACCESS_KEY_ID"),
            (Source::Machine(Provider::Google), "GOOGLE_APPLICATION_CREDENTIALS"),
            (Source::Machine(Provider::Azure), "AZURE_STORAGE_KEY"),
        ] {
            let hint = source.hint();
            assert!(hint.contains(word), "{hint}");
            let others =
                ["AWS_", "GOOGLE_", "AZURE_"].iter().filter(|prefix| hint.contains(**prefix)).count();
            assert!(others <= 1, "{hint}");
        }
    }
}
