//! Results of earlier calls for a file, as recorded in the spool. They are confirmed by the archive, unless the note
//! is young and asking takes a connection.

use super::PushRequest;
use crate::archive::{Archive, ArchiveOptions, Created, StoredFile};
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::spool::{FileIdentity, Moment, Spool};
use crate::wal::WalName;

/// Result of earlier calls for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// It is archived.
    Archived,
    /// It was archived as this file. Whether it still is must be asked.
    Noted(StoredFile),
    /// It was archived, and the archive no longer has it in that form.
    Gone,
    /// Nothing is known.
    Unknown,
}

impl Earlier {
    /// Combines a note about the file with the archive's answer.
    pub(super) fn of(name: WalName, held: Result<bool, Error>) -> Self {
        match held {
            Ok(true) => Self::Archived,
            Ok(false) => Self::Gone,
            // The push reports the problem.
            Err(error) => {
                tracing::debug!("cannot tell whether {name} is still archived: {}", error.report());
                Self::Unknown
            }
        }
    }

    /// Warns of a file that had to be archived twice, because the archive has lost it.
    pub fn warn(self, name: WalName, created: Created) {
        if self == Self::Gone && created == Created::New {
            tracing::warn!("{name} was archived before, was no longer in the archive, and is archived again");
        }
    }
}

/// Looks for a note on the file, and confirms it if that takes no connection. Removes a note on a file that has
/// disappeared.
#[must_use]
pub fn look_up(
    options: &ArchiveOptions,
    spool: &Spool,
    request: &PushRequest,
    now: impl FnOnce() -> Moment,
) -> Earlier {
    let name = request.name;
    let Ok(found) = std::fs::metadata(&request.path) else { return Earlier::Unknown };
    let Some(note) = spool.acknowledgement(name, &FileIdentity::from(&found)) else {
        return Earlier::Unknown;
    };
    match options.still_holds(spool.system(), name, note.stored) {
        None if note.is_young(&now()) => Earlier::Archived,
        None => Earlier::Noted(note.stored),
        Some(held) => without_what_is_gone(spool, name, Earlier::of(name, held)),
    }
}

/// Asks the archive whether it still has the file in the note.
pub async fn ask(
    options: &ArchiveOptions,
    spool: &Spool,
    name: WalName,
    stored: StoredFile,
    limit: &TimeLimit,
) -> Earlier {
    let asking = async {
        let archive = Archive::open(options).await?;
        archive.heed(limit);
        archive.still_holds(spool.system(), name, stored).await
    };
    without_what_is_gone(spool, name, Earlier::of(name, asking.await))
}

fn without_what_is_gone(spool: &Spool, name: WalName, earlier: Earlier) -> Earlier {
    if earlier == Earlier::Gone {
        spool.forget(name);
    }
    earlier
}
