//! Settings: flags take precedence over environment variables, and these over the configuration file.
//!
//! Each setting is a field of [`Given`], named like its key in the configuration file. Defaults are in the parts of
//! [`Settings`] that use them. `cli` declares flags and environment variables with their help texts, and clap merges
//! them.
//!
//! Every program checks all settings, so a mistake shows before the program that it concerns runs.

mod archive;
mod file;
mod given;
mod keep;
mod mistake;
mod push;
mod restore;
mod systems;
mod units;
mod variables;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::{ArchiveOptions, ArchiveUrl};
use crate::error::{Error, ErrorKind};
use crate::prefetch::Prefetching;
use crate::spool::Spool;
use crate::wal::SystemIdentifier;

pub(crate) use archive::NO_ARCHIVE;
use file::File;
pub use given::{Compression, Given, LogFormat};
pub use keep::KeepSettings;
pub use push::PushSettings;
pub use restore::{RestoreSettings, Timeouts};
pub use systems::Systems;
pub(crate) use units::without_value;
pub use units::{Bytes, LongTime, StoreValue, Timeline, Timeout};
pub(crate) use variables::all as variables;

/// Configuration file that is read by default, if it exists.
pub const DEFAULT_FILE: &str = "/etc/walkeep/walkeep.toml";

/// Default number of connections to a store. Most of a request's time is waiting for the network.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(12).unwrap();

/// The effective settings: those of every program, and a part for each kind of program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Location of the archive, and how to reach it.
    pub archive: ArchiveOptions,
    /// Cluster that was given, by its identifier or its name.
    pub system: Option<SystemIdentifier>,
    /// Directory in which spools are created.
    pub spool: PathBuf,
    /// Format of the log.
    pub log_format: LogFormat,
    /// Path and permissions of the configuration file that was read.
    pub file: Option<(PathBuf, u32)>,
    /// Archiving.
    pub push: PushSettings,
    /// Restoring.
    pub restore: RestoreSettings,
    /// Reading of an archive for maintenance.
    pub tool: ToolSettings,
    /// What is kept.
    pub keep: KeepSettings,
    /// Variables that look like a store's settings and are none, while the archive is a directory.
    pub ignored: Vec<String>,
}

/// Settings of all commands of `walkeep` that read more than one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolSettings {
    /// Time limit of `walkeep check` and `walkeep status`, and of each request of the others: that of a push.
    pub timeout: Duration,
    /// Maximum number of concurrent requests to a store.
    pub connections: NonZeroUsize,
}

impl Settings {
    /// Reads the configuration file, if there is one, and applies flags and environment variables over it.
    pub fn load(given: &Given) -> Result<Self, Error> {
        let file = match &given.file {
            Some(path) => file::read(path)?,
            None => file::read_if_it_exists(Path::new(DEFAULT_FILE))?,
        };
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let of_a_store = variables::check_names(names)?;
        let over = |file: Given, text: &str| variables::over(file, text, |name| std::env::var_os(name));
        let file = File { given: over(file.given, &file.text)?, ..file };
        Self::merge(given, file, environment)?.unless_meant(of_a_store)
    }

    /// Returns the settings that a program would load which is started with these environment variables.
    pub fn load_in(given: &Given, environment: &BTreeMap<String, String>) -> Result<Self, Error> {
        let named = environment.get("WALKEEP_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = match given.file.clone().or(named) {
            Some(path) => file::read(&path)?,
            None => file::read_if_it_exists(Path::new(DEFAULT_FILE))?,
        };
        let of_a_store = variables::check_names(environment.keys().cloned())?;
        let over = variables::over(file.given, &file.text, |name| environment.get(name).map(Into::into))?;
        Self::merge(given, File { given: over, ..file }, || environment.clone())?.unless_meant(of_a_store)
    }

    /// Refuses variables that name a store's settings without saying so, if the archive is in a store. If it is a directory, they
    /// are perhaps another program's, and no reason to stop archiving.
    fn unless_meant(self, of_a_store: Vec<Error>) -> Result<Self, Error> {
        let ignored = of_a_store.iter().map(Error::report).collect();
        match (&self.archive.url, of_a_store.into_iter().next()) {
            (ArchiveUrl::Store(_), Some(error)) => Err(error),
            _ => Ok(Self { ignored, ..self }),
        }
    }

    /// Returns the settings of a configuration file with this text and these permissions, and of these environment variables.
    pub fn of_text(text: &str, mode: u32, environment: BTreeMap<String, String>) -> Result<Self, Error> {
        let file = file::parse(Path::new(DEFAULT_FILE), text, mode)?;
        Self::merge(&Given::default(), file, || environment)
    }

    /// Returns the settings with which `walkeep-restore` prefetches.
    #[must_use]
    pub fn prefetching(&self) -> Prefetching {
        let (archive, spool) = (self.archive.clone(), self.spool.clone());
        Prefetching { archive, spool, bounds: self.restore.prefetch }
    }

    /// Merges the sources. `environment` is called only for an object store.
    fn merge(
        given: &Given,
        file: File,
        environment: impl FnOnce() -> BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let archive = archive::archive(given, &file, environment)?;
        let system = systems::chosen(given.system.as_ref(), &archive.names)?;
        let File { given: file, origin, .. } = file;
        let connections = file.connections.unwrap_or(CONNECTIONS);
        let spool = given.spool.clone().or(file.spool.clone()).unwrap_or_else(Spool::default_base);
        if !spool.is_absolute() {
            let what = format!("the spool \"{}\" is not an absolute path", spool.display());
            return Err(wrong(what).hint(
                "each call may run in another directory; write it out, such as /var/tmp/walkeep-spool",
            ));
        }
        Ok(Self {
            archive,
            system,
            push: PushSettings::merge(given, &file, connections)?,
            restore: RestoreSettings::merge(given, &file, connections),
            tool: ToolSettings { timeout: push::timeout(given, &file), connections },
            keep: KeepSettings::merge(given, &file)?,
            log_format: given.log_format.or(file.log_format).unwrap_or_default(),
            spool,
            file: origin,
            ignored: Vec::new(),
        })
    }
}

/// Returns a time limit. In order of precedence: that of all calls on the command line, its own in the file, that of all
/// calls in the file.
fn limit(given: &Given, file: &Given, own: Option<Timeout>, default: Duration) -> Duration {
    given.timeout.or(own).or(file.timeout).map_or(default, |timeout| timeout.0)
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, what)
}

/// Returns all environment variables that are UTF-8.
fn environment() -> BTreeMap<String, String> {
    let texts = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Codec, Level};

    fn merged(given: &Given, file: &str) -> Result<Settings, String> {
        let parsed = toml::from_str(file).map_err(|error: toml::de::Error| error.message().to_owned())?;
        let file = File { given: parsed, ..File::default() };
        // All archives here are directories, which need no environment.
        Settings::merge(given, file, || panic!("looked at the environment")).map_err(|error| error.report())
    }

    #[test]
    fn a_relative_spool_is_refused() {
        let given =
            |spool: &str| Given { archive: Some("/a".into()), spool: Some(spool.into()), ..Given::default() };
        let refused = merged(&given("rel"), "").unwrap_err();
        assert!(refused.starts_with("the spool \"rel\" is not an absolute path; "), "{refused}");
        assert!(merged(&given("/spool"), "").is_ok());
        assert!(merged(&Given::default(), "archive = '/a'\nspool = 'rel'").is_err());
    }

    #[test]
    fn an_archive_is_all_that_must_be_set() {
        let settings = merged(&Given::default(), "archive = '/a'").unwrap();
        assert_eq!(settings.archive.url.to_string(), "/a");
        assert!(!settings.archive.require_mount);
        assert_eq!(settings.push.codec, Some(Codec::Zstd(Level::new(1).unwrap())));
        assert_eq!(settings.push.timeout.as_secs(), 60);
        assert_eq!(settings.restore.timeouts.recovery.as_secs(), 300);
        assert_eq!(settings.restore.timeouts.standby.as_secs(), 30);
        assert!(merged(&Given::default(), "").unwrap_err().contains("WALKEEP_ARCHIVE"));
    }

    #[test]
    fn flags_take_precedence_over_the_file() {
        let file = "archive = '/a'\ncompression = 'none'\ntimeout = '9s'\npush_timeout = '1m 30s'\nlog_format = 'json'";
        let settings = merged(&Given::default(), file).unwrap();
        assert_eq!(settings.push.codec, Some(Codec::None));
        assert_eq!(settings.push.timeout.as_secs(), 90, "the specific limit goes before the general one");
        assert_eq!(settings.restore.timeouts.standby.as_secs(), 9);
        assert_eq!(settings.log_format, LogFormat::Json);
        let given = Given {
            archive: Some("/b".into()),
            compression: Some(Compression::Zstd),
            compression_level: Some(3),
            timeout: Some(Timeout(Duration::from_secs(2))),
            log_format: Some(LogFormat::Text),
            ..Given::default()
        };
        let settings = merged(&given, file).unwrap();
        assert_eq!(settings.archive.url.to_string(), "/b");
        assert_eq!(settings.push.codec, Some(Codec::Zstd(Level::new(3).unwrap())));
        assert_eq!(settings.push.timeout.as_secs(), 2);
        assert_eq!(settings.log_format, LogFormat::Text);
    }

    #[test]
    fn mistakes_are_named() {
        for (file, word) in [
            ("archive = '/a'\ncompresion = 'zstd'", "compresion"),
            ("archive = '/a'\ncompression = 'lz4'", "lz4"),
            ("archive = '/a'\ncompression_level = 20", "20"),
            ("archive = '/a'\ncompression_level = 9223372036854775807", "9223372036854775807"),
            ("archive = '/a'\ntimeout = '0s'", "0s"),
            ("archive = '/a'\ntimeout = '-5s'", "-5s"),
            ("archive = '/a'\ntimeout = 'soon'", "soon"),
            ("archive = '/a'\ntimeout = '25h'", "25h"),
            ("archive = '/a'\ntimeout = 30", "integer"),
            ("archive = 'a'", "absolute"),
            ("archive = '/a'\ncompression = 'auto'\ncompression_level = 1", "auto"),
            ("archive = '/a'\nlook_ahead_memory = '256'", "256"),
            ("archive = '/a'\nlook_ahead_memory = '99999999999GB'", "99999999999GB"),
            ("archive = '/a'\nlook_ahead_files = -1", "-1"),
            ("archive = '/a'\nconnections = 0", "nonzero"),
            ("archive = '/a'\nbackup_labels = ['night[ly']", "night[ly"),
            ("archive = '/a'\nbackup_labels = 'nightly'", "sequence"),
            ("archive = 'ftp://bucket'", "ftp"),
            ("archive = '/a'\n[store]\nregion = 1.5", "[store]"),
            ("archive = ", "expected"),
        ] {
            let error = merged(&Given::default(), file).unwrap_err();
            assert!(error.contains(word), "{file:?}: {error}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_guide() {
        let guide = include_str!("../../docs/guide/configuration.md");
        let rows = guide.lines().filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let key = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            let default = cells.nth(2)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((key, default))
        });
        let without = merged(&Given::default(), "archive = '/a'").unwrap();
        let spool = Spool::default_base();
        let mut seen = 0;
        for (key, default) in rows {
            let value = match default {
                "/var/tmp/walkeep-UID" => format!("'{}'", spool.display()),
                bare if bare.parse::<u64>().is_ok() || ["true", "false", "[]"].contains(&bare) => {
                    bare.to_owned()
                }
                text => format!("'{text}'"),
            };
            let with = merged(&Given::default(), &format!("archive = '/a'\n{key} = {value}"));
            assert_eq!(with.as_ref(), Ok(&without), "{key} = {value}");
            seen += 1;
        }
        assert_eq!(seen, 19, "a row is not read");
    }
}
