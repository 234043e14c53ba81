//! Restore of one WAL file.
//!
//! The file appears under its final name completely and verified, or not at all. It is not flushed to disk: the
//! server flushes every segment that it takes, and requests all of them again after a crash.

mod absence;
mod astray;
mod backups;
mod history;
mod target;
mod watch;
mod words;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempPath;

use crate::archive::{Archive, ArchiveOptions, ArchiveUrl, ArchivedName};
use crate::archived_file::{Threads, decode_verified};
use crate::blocking::blocking;
use crate::call::{retry, warning};
use crate::cluster::{Caller, RecoveryMode};
use crate::error::{Error, ErrorKind};
use crate::frame::Header;
use crate::limit::TimeLimit;
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, WalName};
use crate::whole_file::directory_of;

use absence::{Answer, explain};
pub use history::{cannot_exist, restore_own_history};
pub use target::Verified;
pub(crate) use target::{cannot_give_name, if_taken};
use target::{cannot_write, publish, stage};
use watch::unless_stalled;
pub(crate) use watch::{Progress, Watched};

/// A restore request.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Name of the file.
    pub name: WalName,
    /// Target path, relative to the working directory, as PostgreSQL's `%p`.
    pub path: PathBuf,
    /// The server that requests it.
    pub caller: Caller,
    /// System identifier, if no data directory provides it.
    pub system: Option<SystemIdentifier>,
    /// Behaviour of the server when it finds no more WAL.
    pub mode: RecoveryMode,
    /// Segments at which recovery may end although later ones were written.
    pub accept_gaps: Vec<SegmentName>,
    /// `true` to treat an archive without any file of the cluster as a new one.
    pub accept_empty: bool,
}

/// Result of a restore.
#[derive(Debug)]
pub enum Restored {
    /// The file came from the archive.
    FromArchive {
        /// Header of the archived file.
        header: Header,
        /// Size in the archive, in bytes.
        stored_size: u64,
    },
    /// The file had been prefetched.
    Prefetched {
        /// Size in bytes.
        size: u64,
    },
    /// The server's own copy of a timeline history file was used, because the archive could not provide it.
    OwnCopy,
}

/// Restores one file, with retries within `limit` while the archive is unavailable. Uses the file in `prefetched` if
/// that works.
///
/// A timeline history file that the archive cannot provide is copied from the server's own. During a promotion, when
/// it is no longer a standby, the server requests those of its ancestors. If such a restore failed, the server would
/// come up again on its old timeline, writable.
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
    let warn = warning(|| limit.patience_as_text());
    retry(limit, warn, async || {
        let progress = Progress::default();
        let restoring = restore_from_archive(options, request, limit, progress.clone());
        let from_archive = match &options.url {
            ArchiveUrl::Directory(_) => unless_stalled(limit, &progress, restoring).await,
            // The client of a store watches its own transfers.
            ArchiveUrl::Store(_) => restoring.await,
        };
        let Err(error) = from_archive else { return from_archive };
        // A directory may be mounted before the next attempt. An empty store stays empty.
        let error = match (error.kind(), &options.url) {
            (ErrorKind::Empty, ArchiveUrl::Directory(_)) => error.of_kind(ErrorKind::Unavailable),
            _ => error,
        };
        // Any failure counts, since a mistake in the settings of a store is noticed only here.
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
    let system = system_to_restore(&archive, request.caller.clone(), request.system).await?;
    let (header, stored_size, file) = fetch_or_explain(&archive, system, request, limit, &progress).await?;
    let (path, name, location) = (request.path.clone(), request.name, archive.location(system, request.name));
    let (size, caller) = (header.original_size, request.caller.clone());
    let publishing = blocking(move || {
        check_size(&caller, name, size, &location)?;
        publish(file, &path)
    });
    publishing.await?;
    Ok(Restored::FromArchive { header, stored_size })
}

/// Refuses a segment whose size is not that of the requesting server, if its data directory states one. The server
/// itself would end recovery with an unclear error or, as a standby, request the segment forever.
fn check_size(caller: &Caller, name: WalName, bytes: u64, location: &str) -> Result<(), Error> {
    let (WalName::Segment(_), Ok(size)) = (name, SegmentSize::new(bytes)) else { return Ok(()) };
    match caller.data().segment_size() {
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

/// Maximum number of attempts to fetch a file that is listed but missing.
const MOST_CONTRADICTIONS: usize = 5;

/// Pause before the archive is asked again for a file that may arrive.
const PAUSE: Duration = Duration::from_millis(500);

/// Time for which a standby waits for a file that may arrive.
const STANDBY_WAIT: Duration = Duration::from_secs(2);

/// Fetches the file, or determines why it is absent. In recovery, waits for a segment that may arrive.
async fn fetch_or_explain(
    archive: &Archive,
    system: SystemIdentifier,
    request: &RestoreRequest,
    limit: &TimeLimit,
    progress: &Progress,
) -> Result<(Header, u64, TempPath), Error> {
    let directory = directory_of(&request.path).to_owned();
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
                    // A standby asks again by itself. In a promotion this is its last request.
                    let patience = match request.mode {
                        RecoveryMode::Recovery => limit.left() / 2,
                        RecoveryMode::Standby | RecoveryMode::Ending => STANDBY_WAIT.min(limit.left() / 2),
                    };
                    if request.mode == RecoveryMode::Recovery {
                        tracing::warn!(
                            "{absent_report}, but a later file has just come, so it may be on its way; waiting for it"
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

/// Fetches and verifies one file, and returns it as an unnamed file, positioned at its start. Tries again within `limit` while
/// the archive is unavailable.
pub async fn read_verified(
    options: &ArchiveOptions,
    name: ArchivedName,
    system: Option<SystemIdentifier>,
    limit: &TimeLimit,
) -> Result<(Header, std::fs::File), Error> {
    let archive = Archive::open(options).await?;
    let waiting = warning(|| limit.left_as_text());
    retry(limit, waiting, async || {
        let system = system_to_restore(&archive, Caller::at(PathBuf::new()), system).await?;
        let mut fetched = archive.fetch(system, name).await.map_err(Error::for_a_person)?;
        let _transfer = fetched.transfer.take();
        let limit = limit.clone();
        blocking(move || {
            let mut file = tempfile::tempfile().map_err(cannot_write(&std::env::temp_dir()))?;
            let header = decode_verified(fetched, system, name, &limit, Threads::Two, &mut file)?;
            io::Seek::rewind(&mut file).map_err(cannot_write(&std::env::temp_dir()))?;
            Ok((header, file))
        })
        .await
    })
    .await
}

/// Returns the system identifier: as given, from the data directory, or of the only cluster in the archive.
async fn system_to_restore(
    archive: &Archive,
    caller: Caller,
    given: Option<SystemIdentifier>,
) -> Result<SystemIdentifier, Error> {
    if let Some(system) = given {
        return Ok(system);
    }
    if let Some(system) = blocking(move || caller.data().system_identifier()).await? {
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
