//! What earlier calls have noted of a file, and what that is worth now: the archive is asked, unless the note is young and
//! asking takes a connection.

use super::PushRequest;
use crate::archive::{Archive, ArchiveOptions, Created, StoredFile};
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::spool::{FileIdentity, Moment, Spool};
use crate::wal::WalName;

/// What earlier calls have done about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// It is archived.
    Archived,
    /// It was archived so; whether it still is, the archive has to be asked.
    Noted(StoredFile),
    /// It was archived, and the archive does not have it any more as it was.
    Gone,
    /// Nothing that could be told.
    Unknown,
}

impl Earlier {
    /// What the archive's answer makes of a note about the file.
    pub(super) fn told(name: WalName, held: Result<bool, Error>) -> Self {
        match held {
            Ok(true) => Self::Archived,
            Ok(false) => Self::Gone,
            // The push will say what is wrong.
            Err(error) => {
                tracing::debug!("cannot tell whether {name} is still archived: {}", error.report());
                Self::Unknown
            }
        }
    }

    /// Warns of a file that had to be archived twice: somebody should know that the archive has lost it.
    pub fn warn(self, name: WalName, created: Created) {
        if self == Self::Gone && created == Created::New {
            tracing::warn!("{name} was archived before, was no longer in the archive, and is archived again");
        }
    }
}

/// Looks for a note about the file, and for what it tells of where that takes no connection. A note of what is gone is
/// removed.
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
        Some(held) => without_what_is_gone(spool, name, Earlier::told(name, held)),
    }
}

/// Asks the archive whether it still has what was noted.
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
    without_what_is_gone(spool, name, Earlier::told(name, asking.await))
}

fn without_what_is_gone(spool: &Spool, name: WalName, earlier: Earlier) -> Earlier {
    if earlier == Earlier::Gone {
        spool.forget(name);
    }
    earlier
}
