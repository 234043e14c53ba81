//! Bringing one WAL file back.
//!
//! The file appears under its final name complete and checked, or not at all. It is not flushed to disk: the server
//! does that itself with every segment it takes, and asks for all of them again after a crash.

mod absence;
mod astray;
mod history;
mod place;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempPath;

use crate::archive::{Archive, ArchiveOptions, ArchiveUrl, ArchivedName, retry};
use crate::archived_file::{Threads, decode_verified};
use crate::blocking::blocking;
use crate::cluster::{DataDirectory, RecoveryMode};
use crate::error::{Error, ErrorKind};
use crate::frame::Header;
use crate::limit::TimeLimit;
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, WalName};

use absence::{Answer, explain};
pub use history::{cannot_exist, restore_own_history};
pub use place::Verified;
pub(crate) use place::publish;
use place::{cannot_write, directory_of, stage};
use watch::while_it_moves;
pub(crate) use watch::{Progress, Watched};

/// What is wanted, and where.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The name of the file.
    pub name: WalName,
    /// Where to put it; relative to the working directory, as PostgreSQL's `%p` is.
    pub path: PathBuf,
    /// The system identifier, where no data directory tells it.
    pub system: Option<SystemIdentifier>,
    /// What the server does when it is told that there is no more.
    pub mode: RecoveryMode,
    /// Segments at which recovery is to end although later ones were written.
    pub accept_gaps: Vec<SegmentName>,
    /// Take an archive that holds nothing of the system for one that is new.
    pub accept_empty: bool,
}

/// What was restored.
#[derive(Debug)]
pub enum Restored {
    /// The archive's file.
    FromArchive {
        /// What it says of itself.
        header: Header,
        /// Its size in the archive, in bytes.
        stored_size: u64,
    },
    /// A copy of what had been prefetched.
    Prefetched {
        /// Its size, in bytes.
        size: u64,
    },
    /// The server's own copy of a timeline history file, because the archive could not give it.
    OwnCopy,
}

/// Restores one file, trying again within `limit` while the archive cannot be asked. What has been `prefetched` of it is
/// copied, if that can be done.
///
/// A timeline history file that the archive cannot give is taken from where the server itself keeps it. The server asks
/// for its parents' when it is promoted, at a moment when it has given up being a standby already: stopping it there
/// would leave it to come up again on its old timeline, writable.
pub async fn restore(
    options: &ArchiveOptions,
    request: &RestoreRequest,
    prefetched: Option<Verified>,
    limit: &TimeLimit,
) -> Result<Restored, Error> {
    let RestoreRequest { name, path, .. } = request;
    if let Some(verified) = prefetched {
        let (size, path) = (verified.size, path.clone());
        match blocking(move || verified.copy(&path)).await {
            Ok(()) => return Ok(Restored::Prefetched { size }),
            Err(error) => tracing::debug!("asks the archive instead: {}", error.report()),
        }
    }
    if cannot_exist(*name) {
        return Err(Error::new(
            ErrorKind::Absent,
            format!("{name} does not exist: timeline 1 has no parents"),
        ));
    }
    let waiting = |error: &Error| {
        tracing::warn!("{}; trying again for up to {}", error.report(), limit.patience_as_text());
    };
    retry(limit, waiting, async || {
        let progress = Progress::default();
        let restoring = restore_from_archive(options, request, limit, progress.clone());
        let from_archive = match &options.url {
            ArchiveUrl::Directory(_) => while_it_moves(limit, &progress, restoring).await,
            // It is watched where its bytes arrive.
            ArchiveUrl::Store(_) => restoring.await,
        };
        let Err(error) = from_archive else { return from_archive };
        // A directory may be mounted while it is waited for. Nobody will fill a store meanwhile.
        let error = match (error.kind(), &options.url) {
            (ErrorKind::Empty, ArchiveUrl::Directory(_)) => error.of_kind(ErrorKind::Unavailable),
            _ => error,
        };
        // A mistake in the settings of a store shows only here.
        if error.kind() != ErrorKind::Absent {
            let (name, path) = (*name, path.clone());
            if blocking(move || restore_own_history(name, &path)).await? {
                tracing::warn!("{}; the server is given its own copy of {name}", error.report());
                return Ok(Restored::OwnCopy);
            }
        }
        Err(error)
    })
    .await
}

async fn restore_from_archive(
    options: &ArchiveOptions,
    request: &RestoreRequest,
    limit: &TimeLimit,
    progress: Progress,
) -> Result<Restored, Error> {
    let archive = Archive::open(options).await?;
    archive.heed(limit);
    let system = system_to_restore(&archive, request.path.clone(), request.system).await?;
    let (header, stored_size, file) = fetch_or_explain(&archive, system, request, limit, &progress).await?;
    let (path, name, location) = (request.path.clone(), request.name, archive.location(system, request.name));
    let size = header.original_size;
    let publishing = blocking(move || {
        check_size(&path, name, size, &location)?;
        publish(file, &path)
    });
    publishing.await?;
    Ok(Restored::FromArchive { header, stored_size })
}

/// Refuses a segment of another size than those of the server that asks, where its data directory tells that. The server itself ends
/// its recovery with an error that does not say why, or, as a standby, asks for the segment for ever.
fn check_size(path: &Path, name: WalName, bytes: u64, location: &str) -> Result<(), Error> {
    let (WalName::Segment(_), Ok(size)) = (name, SegmentSize::new(bytes)) else { return Ok(()) };
    match DataDirectory::of(path).segment_size() {
        Some(own) if own != size => {
            let what = format!("{location} is of {size}, and the segments of this server are of {own}");
            Err(Error::new(ErrorKind::Damaged, what).hint(
                "pg_resetwal has changed the size of segments; no recovery leads from one size to the other: restore from the archive \
                 into which this base backup's server has archived",
            ))
        }
        _ => Ok(()),
    }
}

/// How often a file that is listed is asked for, although it cannot be fetched.
const MOST_CONTRADICTIONS: usize = 5;

/// The pause before the archive is asked again for what may be on its way.
const PAUSE: Duration = Duration::from_millis(500);

/// For so long a standby waits for what may be on its way.
const BRIEFLY: Duration = Duration::from_secs(2);

/// Fetches the file, or finds out what its absence means. In recovery a segment that may still be on its way is waited for.
async fn fetch_or_explain(
    archive: &Archive,
    system: SystemIdentifier,
    request: &RestoreRequest,
    limit: &TimeLimit,
    progress: &Progress,
) -> Result<(Header, u64, TempPath), Error> {
    let directory = directory_of(&request.path);
    let mut contradictions = 0;
    let mut waits_until: Option<Instant> = None;
    loop {
        let (directory, progress) = (directory.clone(), progress.clone());
        let fetched = fetch_verified(archive, system, request.name, limit, directory, progress).await;
        let absent = match fetched {
            Err(error) if error.kind() == ErrorKind::Absent => error,
            outcome => return outcome,
        };
        let absent_report = absent.report();
        match explain(archive, system, request, absent).await? {
            Answer::Final(error) => return Err(error),
            Answer::IsThere if contradictions < MOST_CONTRADICTIONS => contradictions += 1,
            Answer::IsThere => {
                let what =
                    format!("{} is listed in the archive {}, but not there", request.name, archive.url());
                return Err(Error::new(ErrorKind::Unavailable, what));
            }
            Answer::Settling(settling, gap) => {
                let end = *waits_until.get_or_insert_with(|| {
                    // A standby asks again by itself, but not when it is promoted: then this is the last question.
                    let patience = match request.mode {
                        RecoveryMode::Recovery => limit.left() / 2,
                        RecoveryMode::Standby | RecoveryMode::Ending => BRIEFLY.min(limit.left() / 2),
                    };
                    if request.mode == RecoveryMode::Recovery {
                        tracing::warn!(
                            "{absent_report}, but a later segment has just come, so it may be on its way; waiting for it"
                        );
                    }
                    Instant::now() + settling.min(patience)
                });
                if Instant::now() >= end {
                    return Err(gap);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Fetches the file `name` of the system into an unnamed place and hands it over once it is verified, to be read
/// from its beginning.
pub async fn read_verified(
    options: &ArchiveOptions,
    name: ArchivedName,
    system: Option<SystemIdentifier>,
    limit: &TimeLimit,
) -> Result<(Header, std::fs::File), Error> {
    let archive = Archive::open(options).await?;
    let system = system_to_restore(&archive, PathBuf::new(), system).await?;
    let mut fetched = archive.fetch(system, name).await?;
    let _transfer = fetched.transfer.take();
    let limit = limit.clone();
    blocking(move || {
        let mut file = tempfile::tempfile().map_err(cannot_write(&std::env::temp_dir()))?;
        let header = decode_verified(fetched, system, name, &limit, Threads::Two, &mut file)?;
        io::Seek::rewind(&mut file).map_err(cannot_write(&std::env::temp_dir()))?;
        Ok((header, file))
    })
    .await
}

/// Whose file is wanted: as given, as the data directory says, or of the only system that the archive has.
async fn system_to_restore(
    archive: &Archive,
    path: PathBuf,
    given: Option<SystemIdentifier>,
) -> Result<SystemIdentifier, Error> {
    if let Some(system) = given {
        return Ok(system);
    }
    if let Some(system) = blocking(move || DataDirectory::of(&path).system_identifier()).await? {
        return Ok(system);
    }
    archive.only_system().await
}

async fn fetch_verified(
    archive: &Archive,
    system: SystemIdentifier,
    name: WalName,
    limit: &TimeLimit,
    directory: PathBuf,
    progress: Progress,
) -> Result<(Header, u64, TempPath), Error> {
    let mut fetched = archive.fetch(system, name).await?;
    let _transfer = fetched.transfer.take();
    let stored_size = fetched.stored_size;
    let (file, path) = blocking(move || stage(&directory)).await?.into_parts();
    let mut file = Watched { file, progress };
    let limit = limit.clone();
    let header =
        blocking(move || decode_verified(fetched, system, name, &limit, Threads::Two, &mut file)).await?;
    Ok((header, stored_size, path))
}
