//! The spool of the server that calls, and how long is looked for what is in it.

use std::path::Path;
use std::time::Duration;

use crate::call::found_within;
use crate::cluster::DataDirectory;
use crate::config::Settings;
use crate::spool::{Spool, SpoolOwner};
use crate::wal::SystemIdentifier;

/// Far longer than a look at a few files takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Gives what `look` finds, and nothing where that takes too long.
pub(super) fn patiently<T: Default + Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    found_within(PATIENCE, look)
}

/// The spool of that server; none where it cannot be had, which makes walkeep slower and nothing else.
pub(super) fn spool_of(settings: &Settings, data: &DataDirectory, system: SystemIdentifier) -> Option<Spool> {
    let data = if data.path() == Path::new("") { Path::new(".") } else { data.path() };
    // An archive that cannot even be named will be complained about by the call.
    let place = settings.archive.place().ok()?;
    let owner = SpoolOwner { system, data, archive: &place };
    Spool::open(&settings.spool, &owner)
        .inspect_err(|error| {
            tracing::debug!("goes without a spool in {}: {error}", settings.spool.display());
        })
        .ok()
}
