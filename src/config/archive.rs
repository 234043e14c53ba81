//! Settings of every program: where the archive is, and how to reach it.

use std::collections::BTreeMap;

use super::file::File;
use super::given::Given;
use super::wrong;
use crate::archive::{ArchiveOptions, ArchiveUrl, StoreOptions};
use crate::denied::{IN_KUBERNETES, is_of_kubernetes};
use crate::error::Error;

/// Error of a call that no setting gives an archive.
pub(crate) const NO_ARCHIVE: &str = "no archive is configured";

/// Merges the settings. `environment` is called only for an object store.
pub(super) fn archive(
    given: &Given,
    file: &File,
    environment: impl FnOnce() -> BTreeMap<String, String>,
) -> Result<ArchiveOptions, Error> {
    let url = given.archive.as_ref().or(file.given.archive.as_ref()).ok_or_else(|| {
        wrong(NO_ARCHIVE)
            .hint("give --archive, set WALKEEP_ARCHIVE, or write archive = \"/mnt/archive\" into the configuration file")
    })?;
    let url = ArchiveUrl::of(url.as_os_str()).map_err(|error| wrong(format!("{error}")))?;
    let settings =
        file.given.store.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let environment = match &url {
        ArchiveUrl::Directory(_) => BTreeMap::new(),
        ArchiveUrl::Store(_) => environment(),
    };
    let store = StoreOptions { file: settings, environment, objects: None };
    if let ArchiveUrl::Store(url) = &url
        && let Some((name, why)) = store.wrong_in_file(url.provider)
    {
        return Err(file.wrong_in_store(&name, &why));
    }
    if let (ArchiveUrl::Store(url), Some((path, mode))) = (&url, &file.origin)
        && mode & 0o004 != 0
        && store.file_holds_a_secret(url.provider)
    {
        let what = format!("{} holds a secret and can be read by everyone", path.display());
        return Err(wrong(what).hint(if is_of_kubernetes(path) {
            IN_KUBERNETES
        } else {
            "let only the user that runs the server read it: chown root:postgres and chmod 640, for example"
        }));
    }
    Ok(ArchiveOptions {
        url,
        require_mount: file.given.require_mount.unwrap_or(false),
        store,
        names: file.given.systems.0.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "archive = 's3://wal'\n[store]\nsecret_access_key = 'x'";

    /// Returns the outcome for a file with these permissions.
    fn read(text: &str, mode: u32) -> Result<ArchiveOptions, String> {
        let file = File {
            given: toml::from_str(text).unwrap(),
            text: text.to_owned(),
            origin: Some(("/w.toml".into(), mode)),
        };
        archive(&Given::default(), &file, BTreeMap::new).map_err(|error| error.report())
    }

    #[test]
    fn only_a_secret_keeps_everyone_from_the_file() {
        assert!(read(SECRET, 0o644).unwrap_err().starts_with("/w.toml holds a secret"));
        for (text, mode) in [
            (SECRET, 0o640),
            ("archive = 's3://wal'\n[store]\nregion = 'x'", 0o644),
            ("archive = '/a'\n[store]\nsecret_access_key = 'x'", 0o644),
        ] {
            assert!(read(text, mode).is_ok(), "{text} {mode:o}");
        }
    }

    #[test]
    fn a_wrong_setting_of_the_store_is_named_with_its_line() {
        let wrong = |setting: &str| {
            read(&format!("archive = 's3://wal'\n[store]\n{setting} = 'x'"), 0o600).unwrap_err()
        };
        assert_eq!(
            wrong("regoin"),
            "/w.toml, line 3: unknown setting regoin in [store] for an archive in s3://; did you mean region?"
        );
        assert!(
            wrong("acces_key").ends_with(" s3://; did you mean access_key_id?"),
            "{}",
            wrong("acces_key")
        );
        assert!(wrong("aws_acces_key_id").ends_with("; did you mean access_key_id?"));
        assert!(wrong("account_name").ends_with("; it is one for az://"), "{}", wrong("account_name"));
        assert!(
            wrong("read_timeout")
                .starts_with("/w.toml, line 3: read_timeout in [store]: it must be a duration")
        );
        assert!(
            read("archive = '/a'\n[store]\nregoin = 'x'", 0o600).is_ok(),
            "a directory needs none of them"
        );
    }

    #[test]
    fn only_a_store_looks_at_the_environment() {
        let environment = || BTreeMap::from([("AWS_REGION".to_owned(), "x".to_owned())]);
        for (url, number) in [("/a", 0), ("s3://wal", 1)] {
            let given = Given { archive: Some(url.into()), ..Given::default() };
            let options = archive(&given, &File::default(), environment).unwrap();
            assert_eq!(options.store.environment.len(), number, "{url}");
        }
    }
}
