//! The spool of the calling server, opened with a time limit.

use std::path::Path;
use std::time::Duration;

use crate::call::found_within;
use crate::cluster::DataDirectory;
use crate::config::Settings;
use crate::spool::{Spool, SpoolOwner};
use crate::wal::SystemIdentifier;

/// Much longer than it takes to read a few files.
const PATIENCE: Duration = Duration::from_secs(2);

/// Gives what `look` finds, and nothing where that takes too long.
pub(super) fn patiently<T: Default + Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    found_within(PATIENCE, look)
}

/// Returns the spool of that server; `None` if it is unavailable, which only makes walkeep slower.
pub(super) fn spool_of(settings: &Settings, data: &DataDirectory, system: SystemIdentifier) -> Option<Spool> {
    let data = if data.path() == Path::new("") { Path::new(".") } else { data.path() };
    // The call itself reports an archive that cannot even be named.
    let archive = settings.archive.identity().ok()?;
    let owner = SpoolOwner { system, data, archive: &archive };
    Spool::open(&settings.spool, &owner)
        .inspect_err(|error| {
            tracing::debug!("goes without a spool in {}: {error}", settings.spool.display());
        })
        .ok()
}
