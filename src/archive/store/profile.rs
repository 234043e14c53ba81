//! The shared credentials and config files of the AWS tools: static keys, `credential_process`, web identity, region,
//! endpoint, CA bundle. Every other way to credentials is refused by name: without them the machine's own role would be
//! used, which may be another account's.
//!
//! Source: "Shared config and credentials files" in the AWS SDKs and Tools Reference Guide.
//!
//! `object_store` reads none of them since version 0.6
//! (<https://github.com/apache/arrow-rs-object-store/issues/152>).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption};

use super::form;
use super::options::{self, Resolved};
use super::process::CredentialProcess;
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::whole_file::open_regular;

/// Settings of a profile, with the builder's names for them.
const CREDENTIALS: [(&str, &str); 3] = [
    ("aws_access_key_id", "aws_access_key_id"),
    ("aws_secret_access_key", "aws_secret_access_key"),
    ("aws_session_token", "aws_session_token"),
];
const WEB_IDENTITY: [(&str, &str); 3] = [
    ("web_identity_token_file", "aws_web_identity_token_file"),
    ("role_arn", "aws_role_arn"),
    ("role_session_name", "aws_role_session_name"),
];
const PLACE: [(&str, &str); 2] = [("region", "aws_region"), ("endpoint_url", "aws_endpoint")];

/// Sources of credentials that a profile may name and that would need other programs or servers.
const OTHER_WAYS: [&str; 7] = [
    "sso_session",
    "sso_start_url",
    "login_session",
    "source_profile",
    "credential_source",
    "web_identity_token_file",
    "aws_session_token",
];

/// Maximum size of a file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A file of the AWS tools.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    sections: Ini,
}

/// Adds settings that neither the environment nor walkeep's configuration contains.
pub(super) fn fill_in(resolved: &mut Resolved, environment: &BTreeMap<String, String>) -> Result<(), Error> {
    let file = |variable: &str, name: &str| {
        environment
            .get(variable)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".aws").join(name)))
    };
    // Then they are not needed, and may be somebody else's.
    let may_fail = resolved.profile.is_none() && resolved.gives_credentials();
    let read = |path: Option<PathBuf>| match path.map(|path| read(&path)).transpose() {
        Err(error) if may_fail => {
            tracing::debug!("{}", error.report());
            Ok(None)
        }
        read => read.map(Option::flatten),
    };
    let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
    let config = read(file("AWS_CONFIG_FILE", "config"))?;
    fill_in_from(resolved, credentials.as_ref(), config.as_ref())
}

/// Adds the settings of the profile in these files.
pub(super) fn fill_in_from(
    resolved: &mut Resolved,
    credentials: Option<&Shared>,
    config: Option<&Shared>,
) -> Result<(), Error> {
    let named = resolved.profile.clone();
    let name = named.as_deref().unwrap_or("default");
    let Some(profile) = Profile::find(name, credentials, config) else {
        return match named {
            Some(name) => Err(wrong(format!("there is no AWS profile \"{name}\"")).hint(
                "it is looked for in ~/.aws/credentials and ~/.aws/config, of the user that runs the command",
            )),
            None => Ok(()),
        };
    };
    // Never combines one half of a key pair with another's.
    if !resolved.gives_credentials() {
        profile.give_credentials(resolved)?;
    }
    profile.take(&PLACE, &mut resolved.provider)?;
    if resolved.connection.ca_file.is_none() {
        resolved.connection.ca_file = profile.value("ca_bundle").map(PathBuf::from);
    }
    Ok(())
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::Configuration, what)
}

/// Settings of one profile, each with the file that it stands in.
struct Profile<'a> {
    name: &'a str,
    settings: BTreeMap<String, (String, &'a Path)>,
}

impl<'a> Profile<'a> {
    /// Collects the settings of a profile, with the credentials file taking precedence over the config file; `None` if
    /// neither contains it.
    fn find(name: &'a str, credentials: Option<&'a Shared>, config: Option<&'a Shared>) -> Option<Self> {
        let in_config = [format!("profile {name}"), name.to_owned()];
        // There, only the default profile may omit the word before its name.
        let in_config = in_config.iter().take(if name == "default" { 2 } else { 1 });
        let section = |file: &'a Shared, name: &str| Some((&*file.path, file.sections.section(Some(name))?));
        let in_config = config.and_then(|file| in_config.clone().find_map(|name| section(file, name)));
        let in_credentials = credentials.and_then(|file| section(file, name));
        if in_config.is_none() && in_credentials.is_none() {
            return None;
        }
        let settings = [in_config, in_credentials].into_iter().flatten().flat_map(|(path, section)| {
            let cleaned = move |(name, value): (&str, &str)| {
                (name.trim().to_ascii_lowercase(), (value.trim().to_owned(), path))
            };
            section.iter().map(cleaned)
        });
        Some(Self { name, settings: settings.collect() })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|(value, _)| value.as_str())
    }

    /// Says where a setting of this profile stands.
    fn place(&self, name: &str) -> String {
        match self.settings.get(name) {
            Some((_, path)) => format!("the AWS profile \"{}\" in {}", self.name, path.display()),
            None => format!("the AWS profile \"{}\"", self.name),
        }
    }

    /// Adds the credentials, or says why they cannot be had. Adds nothing if the profile has none.
    fn give_credentials(&self, resolved: &mut Resolved) -> Result<(), Error> {
        // Before its keys, as with the AWS tools: the keys are those that assume the role.
        if self.value("role_arn").is_some() {
            if self.value("web_identity_token_file").is_none() {
                return Err(self.refused("role_arn"));
            }
            // Whole: a token file must not prove an identity to the role of another source.
            for name in options::WEB_IDENTITY {
                resolved.provider.remove(name);
            }
            return self.take(&WEB_IDENTITY, &mut resolved.provider);
        }
        let halves = ["aws_access_key_id", "aws_secret_access_key"];
        match halves.map(|half| self.value(half).is_some()) {
            [true, true] => return self.take(&CREDENTIALS, &mut resolved.provider),
            [false, false] => {}
            [true, false] => return Err(self.half(halves)),
            [false, true] => return Err(self.half([halves[1], halves[0]])),
        }
        if let Some(line) = self.value("credential_process") {
            let process = CredentialProcess::parse(line).map_err(|why| {
                wrong(format!("credential_process of {}: {why}", self.place("credential_process")))
            })?;
            resolved.process = Some(process);
            return Ok(());
        }
        match OTHER_WAYS.iter().find(|way| self.value(way).is_some()) {
            Some(way) => Err(self.refused(way)),
            None => Ok(()),
        }
    }

    fn half(&self, [given, missing]: [&str; 2]) -> Error {
        wrong(format!("{} has {given} and no {missing}", self.place(given)))
            .hint("the two belong together; write both")
    }

    fn refused(&self, way: &str) -> Error {
        let name = shlex::try_quote(self.name).unwrap_or_default();
        let place = self.place(way);
        wrong(format!("{place} gets its credentials by {way}, which walkeep cannot by itself")).hint(format!(
            "let the AWS CLI get them: credential_process = \"aws configure export-credentials --format process \
             --profile {name}\" in [store]; or give static keys"
        ))
    }

    /// Adds those of the settings that are not there yet. The error names a wrong one.
    fn take(&self, names: &[(&str, &str)], into: &mut BTreeMap<String, String>) -> Result<(), Error> {
        for (theirs, ours) in names {
            let Some(value) = self.value(theirs) else { continue };
            if let Entry::Vacant(place) = into.entry((*ours).to_owned()) {
                form::check(ours, value)
                    .map_err(|why| wrong(format!("{theirs} of {}: {why}", self.place(theirs))))?;
                place.insert(value.to_owned());
            }
        }
        Ok(())
    }
}

/// Reads a file; `None` if it does not exist. An unreadable file is an error.
fn read(path: &Path) -> Result<Option<Shared>, Error> {
    let text = |mut file: File| {
        let mut text = String::new();
        (&mut file).take(MAX_BYTES + 1).read_to_string(&mut text).map(|_| text)
    };
    // Users tell the AWS tools by this that there is no file.
    if path == Path::new("/dev/null") {
        return Ok(None);
    }
    match open_regular(path).and_then(text) {
        Ok(text) if text.len() as u64 > MAX_BYTES => {
            Err(cannot_read(path).because(format!("it is larger than {MAX_BYTES} bytes")))
        }
        Ok(text) => parse(path, &text).map(Some),
        // A server that has no access to its home directory has no profile there.
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            Err(cannot_read(path).because(error))
        }
        Err(error) => {
            let kind = ErrorKind::Configuration;
            Err(denied::cannot_read(kind, "", path, Kept::ForSeveral, error)
                .hint_also("without it, other credentials might be used"))
        }
    }
}

fn cannot_read(path: &Path) -> Error {
    wrong(format!("cannot read {}", path.display()))
}

/// Parses the text of a file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Shared, Error> {
    // Like the AWS tools: keys contain "/" and "+" and are never quoted or escaped.
    let as_they_do = ParseOption { enabled_escape: false, enabled_quote: false, ..ParseOption::default() };
    let sections = Ini::load_from_str_opt(text, as_they_do)
        // The message does not quote the text, which contains secrets.
        .map_err(|error| {
            cannot_read(path)
                .because(format!("line {}: it is neither [PROFILE] nor NAME = VALUE", error.line))
        })?;
    Ok(Shared { path: path.to_owned(), sections })
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
    fn what_a_profile_cannot_give_is_refused_by_file_profile_and_key() {
        let keys = "aws_access_key_id = A\naws_secret_access_key = s3cret\n";
        for (profile, way, lines) in [
            (None, "role_arn", "role_arn = arn:x\nsource_profile = wal\n".to_owned()),
            (None, "role_arn", "role_arn = arn:x\ncredential_source = Ec2InstanceMetadata\n".to_owned()),
            (None, "role_arn", format!("role_arn = arn:x\n{keys}")),
            (None, "sso_session", "sso_session = s\nsso_account_id = 1\n".to_owned()),
            (None, "sso_start_url", "sso_start_url = https://x\n".to_owned()),
            (None, "login_session", "login_session = arn:x\n".to_owned()),
            (None, "source_profile", "source_profile = wal\n".to_owned()),
            (Some("w l"), "credential_source", "credential_source = Environment\n".to_owned()),
            (Some("wal"), "web_identity_token_file", "web_identity_token_file = /t\n".to_owned()),
        ] {
            let name = profile.unwrap_or("default");
            let section = if name == "default" { name.to_owned() } else { format!("profile {name}") };
            let error = filled(profile, "", &format!("[{section}]\n{lines}")).err().unwrap();
            let begin = format!("the AWS profile \"{name}\" in /");
            assert!(error.starts_with(&begin), "{way}: {error}");
            assert!(
                error.contains(&format!("/config gets its credentials by {way}, which walkeep cannot")),
                "{error}"
            );
            let quoted = if name == "w l" { "'w l'" } else { name };
            let advice = format!(
                "credential_process = \"aws configure export-credentials --format process --profile {quoted}\" in [store]"
            );
            assert!(error.contains(&advice) && !error.contains("s3cret"), "{error}");
        }
        let error = filled(None, "[default]\nrole_arn = arn:x\n", "").err().unwrap();
        assert!(error.contains("/credentials gets its credentials by role_arn"), "{error}");
    }

    #[test]
    fn keys_beside_sso_are_taken_because_tools_write_them_there() {
        let resolved = filled(None, CREDENTIALS_FILE, "[default]\nsso_session = s\n").unwrap();
        assert_eq!(resolved.provider["aws_access_key_id"], "AKIADEFAULT");
    }

    #[test]
    fn half_a_pair_of_keys_is_named() {
        for (given, missing) in
            [("aws_access_key_id", "aws_secret_access_key"), ("aws_secret_access_key", "aws_access_key_id")]
        {
            let error = filled(None, &format!("[default]\n{given} = s3cret\n"), "").err().unwrap();
            assert!(error.contains(&format!("/credentials has {given} and no {missing};")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_profile_may_name_a_command_or_a_web_identity() {
        let resolved = filled(Some("p"), "", "[profile p]\ncredential_process = /x 'a b'\n").unwrap();
        assert_eq!(resolved.process, CredentialProcess::parse("/x 'a b'").ok());
        let error = filled(None, "", "[default]\ncredential_process = /x 'a\n").err().unwrap();
        assert!(error.contains("credential_process of the AWS profile \"default\" in /"), "{error}");
        let web = "[default]\nrole_arn = arn:x\nweb_identity_token_file = /t\nrole_session_name = n\n";
        let resolved = filled(None, "", web).unwrap();
        for (name, value) in
            [("aws_role_arn", "arn:x"), ("aws_web_identity_token_file", "/t"), ("aws_role_session_name", "n")]
        {
            assert_eq!(resolved.provider[name], value);
        }
    }

    /// Returns what becomes of these settings with a profile that has these lines.
    fn beside(ours: &[&str], named: bool, lines: &str) -> Result<Resolved, String> {
        let (_directory, environment) = directory("", &format!("[default]\n{lines}"));
        let profile = named.then(|| "default".to_owned());
        let mut resolved = Resolved { profile, ..Resolved::default() };
        for name in ours {
            resolved.provider.insert((*name).to_owned(), "ours".to_owned());
        }
        fill_in(&mut resolved, &environment).map_err(|error| error.report())?;
        Ok(resolved)
    }

    const KEYS: &str =
        "aws_access_key_id = theirs\naws_secret_access_key = theirs\naws_session_token = theirs\n";
    const WEB: &str = "role_arn = theirs\nweb_identity_token_file = theirs\nrole_session_name = theirs\n";

    #[test]
    fn a_web_identity_goes_before_a_default_profile_that_nobody_named() {
        let web = ["aws_role_arn", "aws_web_identity_token_file"];
        for lines in [KEYS, WEB, "credential_process = /x\n", "sso_session = s\n"] {
            let resolved = beside(&web, false, &format!("{lines}region = theirs\n")).unwrap();
            assert_eq!(web.map(|name| &*resolved.provider[name]), ["ours"; 2], "{lines}");
            assert!(resolved.process.is_none() && !resolved.provider.contains_key("aws_access_key_id"));
            assert_eq!(resolved.provider["aws_region"], "theirs");
        }
        let resolved = beside(&web, true, KEYS).unwrap();
        assert_eq!(resolved.provider["aws_access_key_id"], "theirs", "that one was asked for");
        let resolved = beside(&web, true, WEB).unwrap();
        assert_eq!(web.map(|name| &*resolved.provider[name]), ["theirs"; 2]);
        let resolved = beside(&web, true, "region = here\n").unwrap();
        assert_eq!(web.map(|name| &*resolved.provider[name]), ["ours"; 2], "it has no credentials");
    }

    #[test]
    fn halves_of_two_sources_are_never_joined() {
        for (ours, named, lines) in [
            ("aws_session_token", false, KEYS),
            ("aws_session_token", true, KEYS),
            ("aws_role_arn", false, WEB),
            ("aws_role_arn", false, KEYS),
            ("aws_web_identity_token_file", false, WEB),
        ] {
            let resolved = beside(&[ours], named, lines).unwrap();
            let all: Vec<_> = resolved.provider.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(all, [(ours, "ours")], "{lines}");
        }
        for ours in options::WEB_IDENTITY {
            let resolved = beside(&[ours], true, WEB).unwrap();
            assert!(
                resolved.provider.len() == 3 && resolved.provider.values().all(|value| value == "theirs")
            );
        }
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let (directory, mut environment) = directory("", "");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        environment.insert("AWS_CONFIG_FILE".to_owned(), fifo.to_str().unwrap().to_owned());
        let error = fill_in(&mut Resolved::default(), &environment).unwrap_err().report();
        assert_eq!(error, format!("cannot read {}: it is a named pipe, not a regular file", fifo.display()));
    }

    #[test]
    fn explicit_keys_need_no_readable_files() {
        let environment = |path: &str| {
            [("AWS_SHARED_CREDENTIALS_FILE", path), ("AWS_CONFIG_FILE", path)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        // Directories, which nobody can read as files, and a device without an end.
        for path in ["/", "/dev/zero"] {
            let mut resolved = Resolved::default();
            let error = fill_in(&mut resolved, &environment(path)).unwrap_err();
            assert!(error.report().starts_with(&format!("cannot read {path}: ")), "{}", error.report());
            for name in ["aws_access_key_id", "aws_secret_access_key"] {
                resolved.provider.insert(name.to_owned(), "x".to_owned());
            }
            assert!(fill_in(&mut resolved, &environment(path)).is_ok());
            resolved.profile = Some("wal".to_owned());
            assert!(fill_in(&mut resolved, &environment(path)).is_err(), "a profile was asked for");
        }
        assert!(fill_in(&mut Resolved::default(), &environment("/dev/null")).is_ok());
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
