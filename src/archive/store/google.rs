//! Files with Google's credentials: which kinds of them work.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::archive::url::StoreUrl;
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::whole_file::open_regular;

/// Setting for the file of a service account's key.
const KEY: &str = "google_service_account";

/// Maximum size of a file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Kind of credentials that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ServiceAccount,
    /// A person who logged in with gcloud.
    Person,
}

/// Returns the kind of the credentials in the file that the library will read; `None` if there is none.
pub(super) fn kind_of_credentials(
    url: &StoreUrl,
    settings: &BTreeMap<String, String>,
) -> Result<Option<Kind>, Error> {
    let named = [KEY, "google_application_credentials"];
    let path = named.iter().find_map(|name| settings.get(*name)).map(PathBuf::from);
    let is_named = path.is_some();
    let Some(path) = path.or_else(of_gcloud) else { return Ok(None) };
    match read(&path) {
        Ok(text) => {
            refuse_other_store(url, &text, settings)?;
            let kind = kind(&text, settings.contains_key(KEY)).map_err(|why| {
                let what = format!("the credentials for {url} in {} cannot be used", path.display());
                Error::new(ErrorKind::Configuration, what).because(why).hint(WHAT_WORKS)
            })?;
            // The library takes no other kind by this name.
            if kind == Kind::Person && settings.contains_key(KEY) {
                let what = format!("{} is a person's login and no service account's key", path.display());
                return Err(Error::new(ErrorKind::Configuration, what).hint(
                    "name it as application_credentials in [store], or GOOGLE_APPLICATION_CREDENTIALS",
                ));
            }
            Ok(Some(kind))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => Ok(None),
        Err(error) => {
            let kind = ErrorKind::Configuration;
            Err(denied::cannot_read(kind, "", &path, Kept::ForSeveral, error))
        }
    }
}

/// Refuses a key that names another store: the library would go there, encrypted or not, whatever messages say.
pub(super) fn refuse_other_store(
    url: &StoreUrl,
    key: &[u8],
    settings: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let json: Value = serde_json::from_slice(key).unwrap_or_default();
    if settings.contains_key("google_base_url") || json.get("gcs_base_url").is_none_or(Value::is_null) {
        return Ok(());
    }
    let what = format!("the key for {url} has gcs_base_url, an address of another store");
    Err(Error::new(ErrorKind::Configuration, what).hint("set base_url in [store] to the store's address"))
}

const WHAT_WORKS: &str = "give a service account's key (service_account in [store]), run where the metadata service has \
                          an identity (a machine or GKE of Google's), or log in with gcloud auth application-default login";

const OF_A_KEY: &[&str] = &["private_key", "private_key_id", "client_email"];

/// Returns the file that gcloud writes.
fn of_gcloud() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .map(|home| Path::new(&home).join(".config/gcloud/application_default_credentials.json"))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_regular(path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(content)
}

/// Returns the kind of credentials in a file. The error quotes at most a kind. What is named as a service account's key need
/// not say that it is one.
fn kind(content: &[u8], is_key: bool) -> Result<Kind, String> {
    let json: Value = serde_json::from_slice(content)
        .map_err(|error| format!("it is no JSON (line {}, column {})", error.line(), error.column()))?;
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let (kind, needed): (_, &[&str]) = match text("type") {
        Some("service_account") => (Kind::ServiceAccount, OF_A_KEY),
        None if is_key => (Kind::ServiceAccount, OF_A_KEY),
        Some("authorized_user") => (Kind::Person, &["client_id", "client_secret", "refresh_token"]),
        Some(
            kind @ ("external_account"
            | "external_account_authorized_user"
            | "impersonated_service_account"
            | "gdch_service_account"),
        ) => return Err(format!("walkeep has no way to use credentials of the type {kind}")),
        Some(_) => return Err("its \"type\" is none that is known".to_owned()),
        None => return Err("it has no \"type\"".to_owned()),
    };
    if let Some(missing) = needed.iter().find(|name| text(name).is_none()) {
        return Err(format!("it has no {missing:?}"));
    }
    // The library reads it late, and names neither the file nor the setting.
    let is_key = |pem: &str| PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_ok();
    if kind == Kind::ServiceAccount && !text("private_key").is_some_and(is_key) {
        return Err("its \"private_key\" is no key in PEM; download it anew".to_owned());
    }
    Ok(kind)
}

/// Checks the text of a service account's key. The error quotes none of it.
pub(super) fn check_key(content: &str) -> Result<(), String> {
    kind(content.as_bytes(), true).and_then(|kind| match kind {
        Kind::ServiceAccount => Ok(()),
        Kind::Person => Err("it is a person's login and no service account's key".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ArchiveUrl;

    fn of_file(content: &str, setting: &str) -> Result<Option<Kind>, String> {
        let Ok(ArchiveUrl::Store(url)) = "gs://b".parse() else { panic!() };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.json");
        std::fs::write(&path, content).unwrap();
        let settings = [(setting.to_owned(), path.to_str().unwrap().to_owned())].into();
        kind_of_credentials(&url, &settings).map_err(|error| error.report())
    }

    const ACCOUNT: &str = r#"{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nczNjcmV0\n-----END PRIVATE KEY-----\n","private_key_id":"1","client_email":"a@b"}"#;
    const PERSON: &str =
        r#"{"type":"authorized_user","client_id":"i","client_secret":"s3cret","refresh_token":"r"}"#;
    const EITHER: &str = "google_application_credentials";

    #[test]
    fn a_key_and_a_login_can_be_used() {
        assert_eq!(of_file(ACCOUNT, EITHER), Ok(Some(Kind::ServiceAccount)));
        assert_eq!(of_file(ACCOUNT, "google_service_account"), Ok(Some(Kind::ServiceAccount)));
        assert_eq!(of_file(PERSON, EITHER), Ok(Some(Kind::Person)));
        let error = of_file(PERSON, "google_service_account").unwrap_err();
        assert!(error.contains("is a person's login"), "{error}");
    }

    #[test]
    fn other_kinds_are_refused_by_name_and_no_file_is_quoted() {
        for (content, words) in [
            (
                r#"{"type":"external_account","x":"s3cret"}"#,
                "the type external_account; give a service account's key",
            ),
            (r#"{"type":"impersonated_service_account"}"#, "the type impersonated_service_account"),
            (r#"{"type":"s3cret"}"#, "none that is known"),
            (r#"{"private_key":"s3cret"}"#, "no \"type\""),
            (r#"{"type":"service_account","private_key":"s3cret"}"#, "no \"private_key_id\""),
            (
                r#"{"type":"service_account","private_key":"s3cret","private_key_id":"1","client_email":"a@b"}"#,
                "its \"private_key\" is no key in PEM",
            ),
            ("\"s3cret\"", "no \"type\""),
            ("s3cret", "no JSON (line 1, column 1)"),
        ] {
            let error = of_file(content, EITHER).unwrap_err();
            assert!(
                error.contains(words) && error.contains("/key.json cannot be used: "),
                "{content}: {error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_key_does_not_choose_the_store() {
        let key = ACCOUNT.replace('}', r#","gcs_base_url":"http://elsewhere"}"#);
        let error = of_file(&key, EITHER).unwrap_err();
        assert!(error.contains("the key for gs://b has gcs_base_url"), "{error}");
        let Ok(ArchiveUrl::Store(url)) = "gs://b".parse() else { panic!() };
        let settings = [("google_base_url".to_owned(), "http://x".to_owned())].into();
        assert!(
            refuse_other_store(&url, key.as_bytes(), &settings).is_ok(),
            "the setting goes before the key"
        );
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_its_end() {
        let Ok(ArchiveUrl::Store(url)) = "gs://b".parse() else { panic!() };
        let large = tempfile::NamedTempFile::new().unwrap();
        large.as_file().set_len(1 << 40).unwrap();
        for (path, why) in [
            (large.path().to_str().unwrap(), "it is larger than"),
            ("/dev/zero", "it is a device, not a regular file"),
        ] {
            let settings = [(EITHER.to_owned(), path.to_owned())].into();
            let error = kind_of_credentials(&url, &settings).unwrap_err().report();
            assert!(error.starts_with(&format!("cannot read {path}: {why}")), "{error}");
        }
    }
}
