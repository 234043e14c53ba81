//! An archive that hangs is waited for once, and not by every call anew: the calls of one run of a server leave a note
//! for each other.
//!
//! The note says how long to wait, and nothing else: every call asks.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::spool::patiently;
use crate::cluster::DataDirectory;
use crate::config::Settings;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::spool::{Spool, SpoolOwner};
use crate::wal::SystemIdentifier;

const SUBJECT: &str = "archive-hangs";

/// How long a note counts. One that is made anew by every call would starve a server whose archive is merely slow.
const COUNTS_FOR: Duration = Duration::from_secs(30);

/// How long failures are waited out where the server asks again by itself: the brief ones of a store.
const BRIEFLY: Duration = Duration::from_secs(2);

/// How long nothing may move while the server is being shut down, unless less is usual.
const AT_SHUTDOWN: Duration = Duration::from_secs(10);

/// How long nothing may move while a hanging archive is noted.
const WHILE_NOTED: Duration = Duration::from_secs(2);

/// What the calls of one run of a server tell each other about their archive.
#[derive(Debug, Clone)]
pub(super) struct Hangs {
    place: Option<(Spool, String)>,
    /// Whether it was noted when this call began.
    noted: bool,
}

impl Hangs {
    /// What has been noted for the server whose file is at `path`.
    pub(super) fn look(settings: &Settings, path: &Path, system: Option<SystemIdentifier>) -> Self {
        let (settings, path) = (settings.clone(), path.to_owned());
        let place = patiently(move || place(&settings, &path, system));
        let noted = place.as_ref().and_then(|(spool, run)| spool.noted(SUBJECT, run, SystemTime::now()));
        Self { place, noted: noted.is_some_and(|note| note.age < COUNTS_FOR) }
    }

    /// From now on a call waits for brief failures to pass, and for what hangs as long as is usual, once; in all other
    /// things it has as much time as before.
    pub(super) fn hurry(&self, limit: &TimeLimit) {
        limit.lose_patience(BRIEFLY, if self.noted { WHILE_NOTED } else { Duration::MAX });
    }

    /// As [`Hangs::hurry`], for a call whose usual time may have been set to hours, while its server is being shut down.
    pub(super) fn hurry_at_shutdown(&self, limit: &TimeLimit) {
        limit.lose_patience(BRIEFLY, if self.noted { WHILE_NOTED } else { AT_SHUTDOWN });
    }

    /// Notes what has become of a call.
    pub(super) fn remember(&self, failure: Option<&Error>, limit: &TimeLimit) {
        let Some((spool, run)) = &self.place else { return };
        match failure {
            None => spool.forget_note(SUBJECT),
            // It has answered.
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

/// The spool of the server's calls, and its run. Nobody looks at the archive for that: it may hang.
fn place(settings: &Settings, path: &Path, system: Option<SystemIdentifier>) -> Option<(Spool, String)> {
    let data = DataDirectory::of(path);
    let run = data.run().ok()?;
    let system = system.or(data.system_identifier().ok().flatten())?;
    let archive = settings.archive.url.to_string();
    let directory = if data.path() == Path::new("") { Path::new(".") } else { data.path() };
    let owner = SpoolOwner { system, data: directory, archive: &archive };
    Some((Spool::open(&settings.spool, &owner).ok()?, run))
}
