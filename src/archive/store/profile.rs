//! The shared credentials and config files of the AWS tools: static keys, region, endpoint, CA bundle.
//!
//! Source: "Shared config and credentials files" in the AWS SDKs and Tools Reference Guide.
//!
//! `object_store` reads none of them since version 0.6
//! (<https://github.com/apache/arrow-rs-object-store/issues/152>).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption};

use super::form;
use super::options::Resolved;
use crate::error::{Error, ErrorKind};

/// Settings of a profile, with the builder's names for them.
const CREDENTIALS: [(&str, &str); 3] = [
    ("aws_access_key_id", "aws_access_key_id"),
    ("aws_secret_access_key", "aws_secret_access_key"),
    ("aws_session_token", "aws_session_token"),
];
const PLACE: [(&str, &str); 2] = [("region", "aws_region"), ("endpoint_url", "aws_endpoint")];

/// Sources of credentials that a profile may name and that would need other programs or servers.
const OTHER_WAYS: [&str; 5] =
    ["role_arn", "credential_process", "sso_session", "sso_start_url", "login_session"];

/// Adds settings that neither the environment nor walkeep's configuration contains.
pub(super) fn fill_in(resolved: &mut Resolved, environment: &BTreeMap<String, String>) -> Result<(), Error> {
    let file = |variable: &str, name: &str| {
        environment
            .get(variable)
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".aws").join(name)))
    };
    let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
    let config = read(file("AWS_CONFIG_FILE", "config"))?;
    fill_in_from(resolved, credentials.as_ref(), config.as_ref())
}

/// Adds the settings of the profile in these files.
pub(super) fn fill_in_from(
    resolved: &mut Resolved,
    credentials: Option<&Ini>,
    config: Option<&Ini>,
) -> Result<(), Error> {
    let named = resolved.profile.clone();
    let profile = profile(named.as_deref().unwrap_or("default"), credentials, config);
    let wrong = |what: String| Error::new(ErrorKind::Configuration, what);
    let Some(profile) = profile else {
        return match named {
            Some(name) => Err(wrong(format!("there is no AWS profile \"{name}\"")).hint(
                "it is looked for in ~/.aws/credentials and ~/.aws/config, of the user that runs the command",
            )),
            None => Ok(()),
        };
    };
    let has_keys = |settings: &BTreeMap<String, String>| {
        settings.contains_key("aws_access_key_id") || settings.contains_key("aws_secret_access_key")
    };
    // Never combines one half of a key pair with another's.
    if !has_keys(&resolved.provider) {
        if has_keys(&profile) {
            take(&profile, &CREDENTIALS, &mut resolved.provider).map_err(wrong)?;
        } else if let (Some(name), Some(way)) =
            (named, OTHER_WAYS.iter().find(|way| profile.contains_key(**way)))
        {
            return Err(wrong(format!(
                "the AWS profile \"{name}\" gets its credentials by {way}, which walkeep cannot"
            ))
            .hint("give it static keys, or use the role of the machine"));
        }
    }
    take(&profile, &PLACE, &mut resolved.provider).map_err(wrong)?;
    if resolved.connection.ca_file.is_none() {
        resolved.connection.ca_file = profile.get("ca_bundle").map(PathBuf::from);
    }
    Ok(())
}

/// Adds those of the settings that are not there yet. The error names a wrong one.
fn take(
    from: &BTreeMap<String, String>,
    names: &[(&str, &str)],
    into: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for (theirs, ours) in names {
        let Some(value) = from.get(*theirs) else { continue };
        if let Entry::Vacant(place) = into.entry((*ours).to_owned()) {
            form::check(ours, value).map_err(|why| format!("{theirs} of the AWS profile: {why}"))?;
            place.insert(value.clone());
        }
    }
    Ok(())
}

/// Reads a file; `None` if it does not exist. An unreadable file is an error.
fn read(path: Option<PathBuf>) -> Result<Option<Ini>, Error> {
    let Some(path) = path else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text).map(Some),
        // A server that has no access to its home directory has no profile there.
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(cannot_read(&path).because(error)),
    }
}

fn cannot_read(path: &Path) -> Error {
    Error::new(ErrorKind::Configuration, format!("cannot read {}", path.display()))
}

/// Parses the text of a file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Ini, Error> {
    // Like the AWS tools: keys contain "/" and "+" and are never quoted or escaped.
    let as_they_do = ParseOption { enabled_escape: false, enabled_quote: false, ..ParseOption::default() };
    Ini::load_from_str_opt(text, as_they_do)
        // The message does not quote the text, which contains secrets.
        .map_err(|error| cannot_read(path).because(format!("line {}: {}", error.line, error.msg)))
}

/// Returns the settings of a profile, with the credentials file taking precedence over the config file; `None` if
/// neither contains it.
fn profile(name: &str, credentials: Option<&Ini>, config: Option<&Ini>) -> Option<BTreeMap<String, String>> {
    let in_config = [format!("profile {name}"), name.to_owned()];
    let in_config = config.and_then(|config| {
        // There, only the default profile may omit the word before its name.
        in_config
            .iter()
            .take(if name == "default" { 2 } else { 1 })
            .find_map(|section| config.section(Some(section)))
    });
    let in_credentials = credentials.and_then(|credentials| credentials.section(Some(name)));
    if in_config.is_none() && in_credentials.is_none() {
        return None;
    }
    let settings = [in_config, in_credentials].into_iter().flatten().flat_map(ini::Properties::iter);
    Some(settings.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(credentials: &str, config: &str) -> (tempfile::TempDir, BTreeMap<String, String>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("credentials"), credentials).unwrap();
        std::fs::write(directory.path().join("config"), config).unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let environment = [
            ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), path("credentials")),
            ("AWS_CONFIG_FILE".to_owned(), path("config")),
        ];
        (directory, environment.into())
    }

    fn filled(profile: Option<&str>, credentials: &str, config: &str) -> Result<Resolved, String> {
        let (_directory, environment) = directory(credentials, config);
        let mut resolved = Resolved { profile: profile.map(str::to_owned), ..Resolved::default() };
        fill_in(&mut resolved, &environment).map_err(|error| error.report())?;
        Ok(resolved)
    }

    const CREDENTIALS_FILE: &str = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key=a/b+c\\d\"e#f;g=\n\n\
                                    [wal]\nAWS_ACCESS_KEY_ID=AKIAWAL\naws_secret_access_key= w \naws_session_token = t\n";
    const CONFIG_FILE: &str = "[default]\nregion = here\n\n[profile wal]\nregion = there\nendpoint_url = https://store\n\
                               ca_bundle = /ca.pem\ns3 =\n  addressing_style = path\n\n[profile role]\nrole_arn = arn:x\n";

    #[test]
    fn the_default_profile_is_taken_when_none_is_named() {
        let resolved = filled(None, CREDENTIALS_FILE, CONFIG_FILE).unwrap();
        assert_eq!(resolved.provider["aws_access_key_id"], "AKIADEFAULT");
        assert_eq!(resolved.provider["aws_secret_access_key"], "a/b+c\\d\"e#f;g=");
        assert_eq!(resolved.provider["aws_region"], "here");
        assert!(!resolved.provider.contains_key("aws_session_token"));
    }

    #[test]
    fn a_named_profile_is_read_from_both_files() {
        let resolved = filled(Some("wal"), CREDENTIALS_FILE, CONFIG_FILE).unwrap();
        assert_eq!(resolved.provider["aws_access_key_id"], "AKIAWAL");
        assert_eq!(resolved.provider["aws_secret_access_key"], "w");
        assert_eq!(resolved.provider["aws_session_token"], "t");
        assert_eq!(resolved.provider["aws_region"], "there");
        assert_eq!(resolved.provider["aws_endpoint"], "https://store");
        assert_eq!(resolved.connection.ca_file, Some(PathBuf::from("/ca.pem")));
    }

    #[test]
    fn existing_settings_stay_and_keys_are_never_mixed() {
        let (_directory, environment) = directory(CREDENTIALS_FILE, CONFIG_FILE);
        let mut resolved = Resolved { profile: Some("wal".to_owned()), ..Resolved::default() };
        resolved.provider.insert("aws_access_key_id".to_owned(), "AKIAOURS".to_owned());
        resolved.provider.insert("aws_region".to_owned(), "ours".to_owned());
        fill_in(&mut resolved, &environment).unwrap();
        assert_eq!(resolved.provider["aws_access_key_id"], "AKIAOURS");
        assert_eq!(resolved.provider["aws_region"], "ours");
        assert!(!resolved.provider.contains_key("aws_secret_access_key"));
        assert!(!resolved.provider.contains_key("aws_session_token"));
    }

    #[test]
    fn a_missing_or_unsupported_profile_is_an_error() {
        assert!(filled(Some("wall"), CREDENTIALS_FILE, CONFIG_FILE).err().unwrap().contains("\"wall\""));
        assert!(filled(Some("role"), CREDENTIALS_FILE, CONFIG_FILE).err().unwrap().contains("role_arn"));
        assert!(filled(None, "", "").is_ok(), "no profile was asked for");
    }

    #[test]
    fn a_malformed_file_is_not_quoted() {
        let error = filled(None, "[default]\naws_secret_access_key s3cret\n", "").err().unwrap();
        assert!(error.contains("line") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn missing_files_change_nothing() {
        let nowhere = |name: &str| (name.to_owned(), "/nowhere/at/all".to_owned());
        let environment = [nowhere("AWS_SHARED_CREDENTIALS_FILE"), nowhere("AWS_CONFIG_FILE")].into();
        let mut resolved = Resolved::default();
        fill_in(&mut resolved, &environment).unwrap();
        assert!(resolved.provider.is_empty());
    }
}
