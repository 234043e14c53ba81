//! Settings: flags take precedence over environment variables, and these over the configuration file.
//!
//! Flags and environment variables arrive together in [`Given`]: clap has merged them.

mod units;

use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::archive::{ArchiveOptions, ArchiveUrl, StoreOptions};
use crate::catalog::{LabelPattern, Labels};
use crate::error::{Error, ErrorKind};
use crate::frame::{Codec, Level};
use crate::prefetch::PrefetchBounds;
use crate::push::LookAhead;
use crate::retention::{BackupPolicy, BranchPolicy, Policy};
use crate::spool::Spool;
use crate::wal::TimelineId;

use units::StoreValue;
pub use units::{Bytes, LongTime, Timeline, Timeout};

/// Configuration file that is read by default, if it exists.
pub const DEFAULT_FILE: &str = "/etc/walkeep/walkeep.toml";

/// Settings from flags and environment variables.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// URL of the archive.
    pub archive: Option<String>,
    /// Path of the configuration file.
    pub file: Option<PathBuf>,
    /// Compression method.
    pub compression: Option<Compression>,
    /// Compression level.
    pub compression_level: Option<i64>,
    /// Directory in which spools are created.
    pub spool: Option<PathBuf>,
    /// Amount of WAL that is prefetched during recovery.
    pub prefetch_size: Option<Bytes>,
    /// Number of base backups to keep.
    pub keep_backups: Option<NonZeroUsize>,
    /// Recovery window in days.
    pub keep_days: Option<u32>,
    /// Days for which WAL is kept if no base backups are known.
    pub keep_wal_days: Option<u32>,
    /// Directories that contain base backups.
    pub backup_dirs: Vec<PathBuf>,
    /// Maximum duration of a base backup.
    pub backup_may_take: Option<LongTime>,
    /// Timelines that nobody needs to recover any more.
    pub given_up_timelines: Vec<Timeline>,
    /// Timelines that stay recoverable.
    pub held_timelines: Vec<Timeline>,
    /// Labels of the base backups in the archive that count.
    pub backup_labels: Vec<LabelPattern>,
    /// Time limit of any call.
    pub timeout: Option<Duration>,
    /// Format of the log.
    pub log_format: Option<LogFormat>,
}

/// The effective settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Location of the archive, and how to reach it.
    pub archive: ArchiveOptions,
    /// Compression of new files; `None` adapts the level to the backlog.
    pub codec: Option<Codec>,
    /// Time limits of calls.
    pub timeouts: Timeouts,
    /// Limits of the look-ahead of a push.
    pub look_ahead: LookAhead,
    /// Limits of prefetching.
    pub prefetch: PrefetchBounds,
    /// Directory in which spools are created.
    pub spool: PathBuf,
    /// Retention policy of `walkeep prune`.
    pub keep: Policy,
    /// Directories that contain base backups, in addition to those that the archive knows.
    pub backup_dirs: Vec<PathBuf>,
    /// Labels of the base backups in the archive that count.
    pub backup_labels: Labels,
    /// Format of the log.
    pub log_format: LogFormat,
    /// Path and permissions of the configuration file that was read.
    pub file: Option<(PathBuf, u32)>,
}

/// Time limits, each for a segment of 16 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Limit of a push. A server that shuts down waits for it.
    pub push: Duration,
    /// Limit of a restore in recovery, where waiting is better than stopping.
    pub recovery: Duration,
    /// Limit of a restore on a standby, which retries anyway.
    pub standby: Duration,
}

/// Compression methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// zstd at a fixed level.
    Zstd,
    /// No compression.
    None,
    /// zstd at a level that rises as the backlog shrinks.
    Auto,
}

/// Formats of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    archive: Option<String>,
    compression: Option<Compression>,
    compression_level: Option<i64>,
    timeout: Option<Timeout>,
    push_timeout: Option<Timeout>,
    recovery_timeout: Option<Timeout>,
    standby_timeout: Option<Timeout>,
    require_mount: Option<bool>,
    look_ahead_files: Option<usize>,
    look_ahead_time: Option<Timeout>,
    look_ahead_memory: Option<Bytes>,
    connections: Option<NonZeroUsize>,
    prefetch_size: Option<Bytes>,
    prefetch_idle: Option<Timeout>,
    spool: Option<PathBuf>,
    keep_backups: Option<NonZeroUsize>,
    keep_days: Option<u32>,
    keep_wal_days: Option<u32>,
    #[serde(default)]
    backup_dirs: Vec<PathBuf>,
    backup_may_take: Option<LongTime>,
    #[serde(default)]
    given_up_timelines: Vec<Timeline>,
    #[serde(default)]
    held_timelines: Vec<Timeline>,
    #[serde(default)]
    backup_labels: Vec<LabelPattern>,
    log_format: Option<LogFormat>,
    #[serde(default)]
    store: BTreeMap<String, StoreValue>,
    /// Path and permissions of the file; set after reading.
    #[serde(skip)]
    origin: Option<(PathBuf, u32)>,
}

/// Default maximum duration of a base backup: longer than most take, and short enough that it hardly enlarges an
/// archive that is pruned daily.
const BACKUP_MAY_TAKE: SignedDuration = SignedDuration::from_hours(24);

/// Returns the timelines of both lists: those on the command line add to those in the file.
fn timelines(given: &[Timeline], file: &[Timeline]) -> Vec<TimelineId> {
    given.iter().chain(file).map(|timeline| timeline.0).collect()
}

/// Default number of connections to a store. Each request takes one round trip, mostly waiting.
const DEFAULT_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(12).unwrap();

impl Settings {
    /// Reads the configuration file, if there is one, and applies flags and environment variables over it.
    pub fn load(given: &Given) -> Result<Self, Error> {
        let file = match &given.file {
            Some(path) => read(path)?,
            None => read_if_it_exists(Path::new(DEFAULT_FILE))?,
        };
        Self::merge(given, file, environment)
    }

    /// `environment` is called only for an object store.
    fn merge(
        given: &Given,
        file: File,
        environment: impl FnOnce() -> BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let wrong = |error: String| Error::new(ErrorKind::Configuration, error);
        let url = given.archive.clone().or(file.archive).ok_or_else(|| {
            wrong("no archive is configured".to_owned())
                .hint("give --archive, set WALKEEP_ARCHIVE, or write archive = \"/mnt/archive\" into the configuration file")
        })?;
        let url: ArchiveUrl = url.parse().map_err(|error| wrong(format!("{error}")))?;
        let store = file.store.into_iter().map(|(name, value)| (name, value.into())).collect();
        let environment = match &url {
            ArchiveUrl::Directory(_) => BTreeMap::new(),
            ArchiveUrl::Store(_) => environment(),
        };
        let store = StoreOptions { file: store, environment, objects: None };
        if let (ArchiveUrl::Store(url), Some((path, mode))) = (&url, &file.origin)
            && mode & 0o004 != 0
            && store.file_holds_a_secret(url.provider)
        {
            let what = format!("{} holds a secret and can be read by everyone", path.display());
            return Err(wrong(what).hint(
                "let only the user that runs the server read it: chown root:postgres and chmod 640, for example",
            ));
        }
        let level = given.compression_level.or(file.compression_level);
        let codec = match (given.compression.or(file.compression), level) {
            (Some(Compression::Auto), None) => None,
            (Some(Compression::Auto), Some(_)) => {
                return Err(wrong("compression is \"auto\", and a level is set, too".to_owned())
                    .hint("leave one of the two out"));
            }
            (Some(Compression::None), _) => Some(Codec::None),
            (Some(Compression::Zstd) | None, None) => Some(Codec::Zstd(Level::default())),
            (Some(Compression::Zstd) | None, Some(number)) => {
                Some(Codec::Zstd(Level::new(number).map_err(|error| wrong(error.to_string()))?))
            }
        };
        let timeout = |specific: Option<Timeout>, default| {
            given.timeout.or(specific.or(file.timeout).map(|timeout| timeout.0)).unwrap_or(default)
        };
        let connections = file.connections.unwrap_or(DEFAULT_CONNECTIONS);
        let keep = Policy {
            backups: BackupPolicy {
                keep_backups: given.keep_backups.or(file.keep_backups),
                keep_days: given.keep_days.or(file.keep_days),
            },
            wal_days: given.keep_wal_days.or(file.keep_wal_days),
            backup_may_take: given
                .backup_may_take
                .or(file.backup_may_take)
                .map_or(BACKUP_MAY_TAKE, |time| time.0),
            branches: BranchPolicy {
                given_up: timelines(&given.given_up_timelines, &file.given_up_timelines),
                held: timelines(&given.held_timelines, &file.held_timelines),
            },
            ..Policy::default()
        };
        if keep.wal_days.is_some() && keep.backups != BackupPolicy::default() {
            return Err(wrong("keep_wal_days is set, and keep_backups or keep_days, too".to_owned())
                .hint("the first is for archives without base backups, and the others are for those with; leave one out"));
        }
        let backup_dirs =
            if given.backup_dirs.is_empty() { file.backup_dirs } else { given.backup_dirs.clone() };
        let backup_labels =
            if given.backup_labels.is_empty() { file.backup_labels } else { given.backup_labels.clone() };
        // A directory from the command line is relative to the working directory.
        if given.backup_dirs.is_empty()
            && let Some(relative) = backup_dirs.iter().find(|directory| directory.is_relative())
        {
            return Err(wrong(format!(
                "backup_dirs holds {}, which is no absolute path",
                relative.display()
            )));
        }
        Ok(Self {
            archive: ArchiveOptions { url, require_mount: file.require_mount.unwrap_or(false), store },
            codec,
            timeouts: Timeouts {
                push: timeout(file.push_timeout, Duration::from_mins(1)),
                recovery: timeout(file.recovery_timeout, Duration::from_mins(5)),
                standby: timeout(file.standby_timeout, Duration::from_secs(30)),
            },
            look_ahead: LookAhead {
                files: file.look_ahead_files.unwrap_or(128),
                time: file.look_ahead_time.map_or(Duration::from_secs(10), |time| time.0),
                memory: file.look_ahead_memory.map_or(256 << 20, |bytes| bytes.0),
                connections,
            },
            prefetch: PrefetchBounds {
                bytes: given.prefetch_size.or(file.prefetch_size).map_or(256 << 20, |bytes| bytes.0),
                idle: file.prefetch_idle.map_or(Duration::from_mins(2), |idle| idle.0),
                connections,
            },
            spool: given.spool.clone().or(file.spool).unwrap_or_else(Spool::default_base),
            keep,
            backup_dirs,
            backup_labels: backup_labels.into(),
            log_format: given.log_format.or(file.log_format).unwrap_or_default(),
            file: file.origin,
        })
    }
}

/// Returns all environment variables that are UTF-8.
fn environment() -> BTreeMap<String, String> {
    let texts = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(texts).collect()
}

/// Reads the file if it exists. An unreadable file is an error: without it, the wrong archive might be used.
fn read_if_it_exists(path: &Path) -> Result<File, Error> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        _ => read(path),
    }
}

fn read(path: &Path) -> Result<File, Error> {
    let wrong = |what: String| Error::new(ErrorKind::Configuration, what);
    let (text, mode) = read_text(path).map_err(|error| {
        wrong(format!("cannot read the configuration file {}", path.display())).because(error)
    })?;
    let file: File = toml::from_str(&text).map_err(|error| {
        // Uses only the message: the library also quotes the line, which may contain a secret.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        wrong(format!("{}, line {line}: {}", path.display(), error.message()))
    })?;
    Ok(File { origin: Some((path.to_owned(), mode)), ..file })
}

/// Reads a file, and its permissions from the same open file.
fn read_text(path: &Path) -> std::io::Result<(String, u32)> {
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok((text, mode))
}

/// Maximum size of the configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(given: &Given, file: &str) -> Result<Settings, String> {
        let file = toml::from_str(file).map_err(|error: toml::de::Error| error.message().to_owned())?;
        // All archives here are directories, which need no environment.
        Settings::merge(given, file, || panic!("looked at the environment")).map_err(|error| error.report())
    }

    #[test]
    fn an_archive_is_all_that_must_be_set() {
        let settings = merged(&Given::default(), "archive = '/a'").unwrap();
        assert_eq!(settings.archive.url.to_string(), "/a");
        assert!(!settings.archive.require_mount);
        assert_eq!(settings.codec, Some(Codec::Zstd(Level::new(1).unwrap())));
        assert_eq!(settings.timeouts.push.as_secs(), 60);
        assert_eq!(settings.timeouts.recovery.as_secs(), 300);
        assert_eq!(settings.timeouts.standby.as_secs(), 30);
        assert!(merged(&Given::default(), "").unwrap_err().contains("WALKEEP_ARCHIVE"));
    }

    #[test]
    fn flags_take_precedence_over_the_file() {
        let file = "archive = '/a'\ncompression = 'none'\ntimeout = '9s'\npush_timeout = '1m 30s'\nlog_format = 'json'";
        let settings = merged(&Given::default(), file).unwrap();
        assert_eq!(settings.codec, Some(Codec::None));
        assert_eq!(settings.timeouts.push.as_secs(), 90, "the specific limit goes before the general one");
        assert_eq!(settings.timeouts.standby.as_secs(), 9);
        assert_eq!(settings.log_format, LogFormat::Json);
        let given = Given {
            archive: Some("/b".into()),
            compression: Some(Compression::Zstd),
            compression_level: Some(3),
            timeout: Some(Duration::from_secs(2)),
            log_format: Some(LogFormat::Text),
            ..Given::default()
        };
        let settings = merged(&given, file).unwrap();
        assert_eq!(settings.archive.url.to_string(), "/b");
        assert_eq!(settings.codec, Some(Codec::Zstd(Level::new(3).unwrap())));
        assert_eq!(settings.timeouts.push.as_secs(), 2);
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
}
