//! Whom an archive's requests go to, and whose they are, for people. No secret is part of it. Pure, but for the files that the
//! settings come from.

use super::form::without_password;
use super::options::{OWN_PREFIX, Resolved, StoreOptions};
use super::provider::address;
use super::setting_names::canonical;
use super::source::Source;
use super::{Store, resolve};
use crate::archive::url::{Provider, StoreUrl};
use crate::error::Error;

impl Store {
    /// Describes server, bucket and credentials of the requests; `None` for objects that code keeps.
    pub(in crate::archive) fn contact(
        url: &StoreUrl,
        options: &StoreOptions,
    ) -> Result<Option<String>, Error> {
        if options.objects.is_some() {
            return Ok(None);
        }
        let resolved = resolve(url, options)?;
        let source = Source::of(url, &resolved)?;
        let server = address(url, &resolved.provider);
        let container = if url.provider == Provider::Azure { "container" } else { "bucket" };
        let server = without_password(&server);
        let whose = whose(url.provider, source, options, &resolved);
        Ok(Some(format!("requests go to {server}, {container} {}, with {whose}", url.bucket)))
    }
}

/// Describes the credentials: what they are, and which setting gives them.
fn whose(provider: Provider, source: Source, options: &StoreOptions, resolved: &Resolved) -> String {
    let setting = |name: &str| resolved.provider.get(name).map(String::as_str);
    let from = |name: &str| origin(provider, name, options, resolved);
    let named = |what: &str, name: &str| match setting(name) {
        Some(value) => format!("{what} {value} from {}", from(name)),
        None => format!("{what} without a name"),
    };
    match source {
        Source::Settings => match provider {
            Provider::S3 if setting("aws_access_key_id").is_none() => "no signature".to_owned(),
            Provider::S3 => named("the access key", "aws_access_key_id"),
            Provider::Google => match setting("google_bearer_token") {
                Some(_) => format!("the token from {}", from("google_bearer_token")),
                None => "no signature".to_owned(),
            },
            Provider::Azure => named("the credentials of the account", "azure_storage_account_name"),
        },
        Source::Process => "what the command of credential_process prints".to_owned(),
        Source::WebIdentity => named("the web identity for the role", "aws_role_arn"),
        Source::Container | Source::ContainerAt => "what the container's host hands out".to_owned(),
        Source::GoogleKey => match ["google_service_account", "google_application_credentials"]
            .into_iter()
            .find(|name| setting(name).is_some())
        {
            Some(name) => named("the service account's key in", name),
            None => "the service account's key in google_service_account_key".to_owned(),
        },
        Source::GoogleLogin => "the login of a person (gcloud auth application-default login)".to_owned(),
        Source::EntraSecret => named("the client", "azure_storage_client_id"),
        Source::EntraToken => named("the workload identity of the client", "azure_storage_client_id"),
        Source::AzureCli => "the login of the Azure CLI".to_owned(),
        Source::Machine(_) => "the machine's own role or identity".to_owned(),
    }
}

/// Returns where the value of a setting, given by its canonical name, stands: the variables go before the file.
fn origin(provider: Provider, name: &str, options: &StoreOptions, resolved: &Resolved) -> String {
    let is_it = |given: &str| canonical(provider, given).as_deref() == Some(name);
    let environment = options.environment.iter().filter(|(_, value)| !value.is_empty());
    let mut names = environment.map(|(variable, _)| variable.as_str());
    // The last one counts.
    let variable = names.rfind(|variable| is_it(variable.strip_prefix(OWN_PREFIX).unwrap_or(variable)));
    match variable {
        Some(variable) => variable.to_owned(),
        None if options.file.keys().any(|given| is_it(given)) => "[store]".to_owned(),
        None if provider == Provider::S3 => {
            format!("the AWS profile {:?}", resolved.profile.as_deref().unwrap_or("default"))
        }
        None => "the environment".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ArchiveUrl;

    /// Describes the contact of an archive with these settings in the file and the environment.
    fn contact(url: &str, file: &[(&str, &str)], environment: &[(&str, &str)]) -> String {
        let Ok(ArchiveUrl::Store(url)) = url.parse() else { panic!("{url}") };
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let none = [("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"), ("AWS_CONFIG_FILE", "/dev/null")];
        let environment = owned(&[&none, environment].concat());
        let options = StoreOptions { file: owned(file), environment, objects: None };
        Store::contact(&url, &options).unwrap().unwrap()
    }

    #[test]
    fn server_bucket_and_the_setting_of_the_credentials_are_named_and_no_secret_is() {
        let keys = [("access_key_id", "AKIAFILE"), ("secret_access_key", "s3cret")];
        let own = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s3cret")];
        let preferred = [("WALKEEP_STORE_ACCESS_KEY_ID", "AKIAOWN")];
        let endpoint = ("endpoint", "https://me:s3cret@minio.example:9000");
        for (url, file, environment, expected) in [
            (
                "s3://wal/main",
                &[&keys[..], &[endpoint]].concat()[..],
                &[][..],
                "requests go to https://minio.example:9000, bucket wal, with the access key AKIAFILE from [store]",
            ),
            (
                "s3://wal",
                &keys,
                &own,
                "requests go to https://s3.us-east-1.amazonaws.com, bucket wal, with the access key AKIAENV from \
                 AWS_ACCESS_KEY_ID",
            ),
            ("s3://wal", &keys, &[&own[..], &preferred].concat(), "AKIAOWN from WALKEEP_STORE_ACCESS_KEY_ID"),
            ("s3://wal", &[], &[], "with the machine's own role or identity"),
            (
                "s3://wal",
                &[],
                &[("AWS_ROLE_ARN", "arn:x"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")],
                "with the web identity for the role arn:x from AWS_ROLE_ARN",
            ),
            (
                "az://wal",
                &[("account_name", "me"), ("account_key", "c2VjcmV0")],
                &[],
                "requests go to https://me.blob.core.windows.net, container wal, with the credentials of the account me from \
                 [store]",
            ),
            ("gs://wal", &[("bearer_token", "s3cret")], &[], "with the token from [store]"),
        ] {
            let contact = contact(url, file, environment);
            assert!(contact.contains(expected), "{contact}");
            assert!(!contact.contains("s3cret") && !contact.contains("c2VjcmV0"), "{contact}");
        }
    }
}
