//! Settings for restoring.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::given::Given;
use super::limit;
use crate::prefetch::PrefetchBounds;

const RECOVERY_TIMEOUT: Duration = Duration::from_mins(5);
const STANDBY_TIMEOUT: Duration = Duration::from_secs(30);
const PREFETCH_SIZE: u64 = 256 << 20;
const PREFETCH_IDLE: Duration = Duration::from_mins(2);

/// Settings of `walkeep-restore`, of its prefetcher, and of `walkeep cat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSettings {
    /// Time limits.
    pub timeouts: Timeouts,
    /// Limits of prefetching.
    pub prefetch: PrefetchBounds,
}

/// Time limits of a restore, each for a segment of 16 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Limit in recovery, where waiting is better than stopping.
    pub recovery: Duration,
    /// Limit on a standby, which retries anyway.
    pub standby: Duration,
}

impl RestoreSettings {
    pub(super) fn merge(given: &Given, file: &Given, connections: NonZeroUsize) -> Self {
        Self {
            timeouts: Timeouts {
                recovery: limit(given, file, file.recovery_timeout, RECOVERY_TIMEOUT),
                standby: limit(given, file, file.standby_timeout, STANDBY_TIMEOUT),
            },
            prefetch: PrefetchBounds {
                bytes: given.prefetch_size.or(file.prefetch_size).map_or(PREFETCH_SIZE, |bytes| bytes.0),
                idle: file.prefetch_idle.map_or(PREFETCH_IDLE, |idle| idle.0),
                connections,
            },
        }
    }
}
