//! Note on a hanging archive. It lets only one call in a run of a server wait for the full time.
//!
//! The note determines how long calls wait. Each call still asks the archive.

use std::time::{Duration, SystemTime};

use crate::cluster::{Caller, DataDirectory};
use crate::config::Settings;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::spool::{Spool, SpoolOwner, patiently};
use crate::wal::SystemIdentifier;

const SUBJECT: &str = "archive-hangs";

/// Age up to which a note counts. Without this limit, a server whose archive is merely slow would starve.
const COUNTS_FOR: Duration = Duration::from_secs(30);

/// Time to retry failures if the server retries by itself: enough for brief failures of a store.
const RETRY_TIME: Duration = Duration::from_secs(2);

/// Time that a transfer may stand still on a standby and during a shutdown of the server, unless the usual time is
/// shorter. Enough for a store that takes its time to answer, and short enough for either to be done within a minute.
const ONCE: Duration = Duration::from_secs(20);

/// Time that a transfer may stand still while a note on a hanging archive counts.
const WHILE_NOTED: Duration = Duration::from_secs(2);

/// The note on an archive, shared by the calls of one run of a server.
#[derive(Debug, Clone)]
pub(super) struct HangNote {
    spool_and_run: Option<(Spool, String)>,
    /// `true` if there was a note when this call began.
    noted: bool,
}

impl HangNote {
    /// Reads the note of the server that calls.
    pub(super) fn read(settings: &Settings, caller: &Caller, system: Option<SystemIdentifier>) -> Self {
        let (settings, caller) = (settings.clone(), caller.clone());
        let spool_and_run = patiently(move || spool_and_run(&settings, caller.data(), system));
        let noted =
            spool_and_run.as_ref().and_then(|(spool, run)| spool.noted(SUBJECT, run, SystemTime::now()));
        Self { spool_and_run, noted: noted.is_some_and(|note| note.age < COUNTS_FOR) }
    }

    /// Shortens waiting: failures are retried briefly, and only the first call in a run waits long for a transfer that
    /// stands still. Transfers that move keep their time.
    pub(super) fn hurry(&self, limit: &TimeLimit) {
        limit.lose_patience(RETRY_TIME, if self.noted { WHILE_NOTED } else { ONCE });
    }

    /// Records the result of a call.
    pub(super) fn remember(&self, failure: Option<&Error>, limit: &TimeLimit) {
        let Some((spool, run)) = &self.spool_and_run else { return };
        match failure {
            None => spool.forget_note(SUBJECT),
            // The archive has answered.
            Some(error) if matches!(error.kind(), ErrorKind::Absent | ErrorKind::Gap) => {
                spool.forget_note(SUBJECT);
            }
            Some(error) => {
                let out_of_time = error.kind() == ErrorKind::Stopped && limit.left().is_zero();
                if !self.noted
                    && (error.is_timeout() || out_of_time)
                    && let Err(error) = spool.note(SUBJECT, run, "")
                {
                    tracing::debug!("cannot note in the spool that the archive hangs: {error}");
                }
            }
        }
    }
}

/// Returns the spool of the server's calls, and the server's run. Does not touch the archive, which may hang.
fn spool_and_run(
    settings: &Settings,
    data: &DataDirectory,
    system: Option<SystemIdentifier>,
) -> Option<(Spool, String)> {
    let run = data.run().ok()?;
    let system = system.or(data.system_identifier().ok().flatten())?;
    let archive = settings.archive.url.to_string();
    let owner = SpoolOwner { system, data: data.path(), archive: &archive };
    Some((Spool::open(&settings.spool, &owner).ok()?, run))
}
