//! The settings as one source gives them. Each is declared once for all sources.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::Deserialize;

use super::systems::Systems;
use super::units::{Bytes, LongTime, StoreValue, Timeline, Timeout};
use crate::catalog::LabelPattern;
use crate::wal::SystemChoice;

/// Settings from one source: flags and environment variables, or the configuration file. The names of the fields are the
/// keys in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// Path of the configuration file. No key: a file cannot name another one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Cluster that is meant. No key: a file serves all clusters of a machine.
    #[serde(skip)]
    pub system: Option<SystemChoice>,
    /// URL or path of the archive, whose text need not be UTF-8.
    pub archive: Option<PathBuf>,
    /// Compression method.
    pub compression: Option<Compression>,
    /// Compression level.
    pub compression_level: Option<i64>,
    /// Time limit of any call.
    pub timeout: Option<Timeout>,
    /// Time limit of a push.
    pub push_timeout: Option<Timeout>,
    /// Time limit of a restore in recovery.
    pub recovery_timeout: Option<Timeout>,
    /// Time limit of a restore on a standby.
    pub standby_timeout: Option<Timeout>,
    /// `true` if the archive directory must be a mount point.
    pub require_mount: Option<bool>,
    /// Number of other files that a push takes along.
    pub look_ahead_files: Option<usize>,
    /// Time after which a push begins no further file.
    pub look_ahead_time: Option<Timeout>,
    /// Total uncompressed size of the files in progress.
    pub look_ahead_memory: Option<Bytes>,
    /// Number of concurrent requests to an object store.
    pub connections: Option<NonZeroUsize>,
    /// Amount of WAL that is prefetched during recovery.
    pub prefetch_size: Option<Bytes>,
    /// Time without requests after which prefetching ends.
    pub prefetch_idle: Option<Timeout>,
    /// Directory in which spools are created.
    pub spool: Option<PathBuf>,
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
    /// Format of the log.
    pub log_format: Option<LogFormat>,
    /// Names of clusters.
    pub systems: Systems,
    /// Settings of an object store.
    pub store: BTreeMap<String, StoreValue>,
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
