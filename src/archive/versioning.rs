//! Versions that a bucket keeps of what is deleted or replaced in it.

use std::time::Duration;

use jiff::Timestamp;

use super::{Archive, Backend};
use crate::error::Error;
use crate::wal::SystemIdentifier;

/// How a bucket keeps what is deleted or replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versioning {
    /// `true` if it keeps versions.
    pub keeps: bool,
    /// Object lock.
    pub lock: Option<Lock>,
    /// When the store removes older versions by itself.
    pub expiry: Expiry,
}

/// Object lock of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Mode of the default retention, in the store's words.
    pub mode: String,
    /// Days for which each new file is locked by default.
    pub days: Option<u32>,
}

/// When a store removes older versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expiry {
    /// It does not say.
    #[default]
    Unknown,
    /// No rule removes them.
    Never,
    /// A rule removes some, but keeps this many older versions of each file for ever. An archived file has one, since it is
    /// never replaced.
    AllButNewest(u32),
    /// This many days after they were deleted or replaced.
    AfterDays(u32),
}

/// Older versions of archived files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// `true` if all of them were counted.
    pub whole: bool,
    /// Their number.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// When the newest of them was written.
    pub newest: Option<Timestamp>,
}

impl Versioning {
    /// Describes what removes older versions, after "the bucket keeps versions".
    #[must_use]
    pub fn how_long(&self) -> String {
        let lock = self.lock.as_ref().map_or_else(String::new, |Lock { mode, days }| match days {
            Some(days) => format!(", locked for {days} days each ({mode})"),
            None => ", and can lock them".to_owned(),
        });
        match self.expiry {
            Expiry::Unknown => lock,
            Expiry::Never => format!("{lock}, and no rule removes the older ones"),
            Expiry::AllButNewest(number) => format!(
                "{lock}, and no rule removes what was deleted, because the rule for older ones keeps {number} of each file"
            ),
            Expiry::AfterDays(days) => {
                format!("{lock}, and removes the older ones {days} days after they were deleted")
            }
        }
    }
}

impl Archive {
    /// Returns how the bucket keeps what is deleted or replaced; `None` if it does not say, as one that speaks another protocol
    /// than S3, or that does not let these credentials ask. The log of details says why.
    pub async fn versioning(&self) -> Option<Versioning> {
        match &self.backend {
            Backend::Local(_) => None,
            Backend::Store(store) => store.versioning().await,
        }
    }

    /// Counts the older versions of a cluster's files, or as many as can be counted in that time and with a few requests.
    pub async fn retained(&self, system: SystemIdentifier, within: Duration) -> Result<Retained, Error> {
        match &self.backend {
            Backend::Local(_) => Ok(Retained { whole: true, ..Retained::default() }),
            Backend::Store(store) => store.retained(system, within).await,
        }
    }
}
