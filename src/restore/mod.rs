//! Bringing one WAL file back.
//!
//! The file appears under its final name complete and checked, or not at all. It is not flushed to disk: the server
//! does that itself with every segment it takes, and asks for all of them again after a crash.

mod content;
mod place;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::archive::{Archive, ArchiveOptions, retry};
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::error::{Error, ErrorKind};
use crate::frame::{Header, MAX_TEXT_BYTES};
use crate::limit::TimeLimit;
use crate::wal::{SystemIdentifier, TimelineHistory, TimelineId, WalName};

pub(crate) use content::{Beginning, Threads, check_content, decode_verified, unusable};
pub use place::Verified;
use place::{cannot_write, directory_of, publish, stage};

/// What is wanted, and where.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The name of the file.
    pub name: WalName,
    /// Where to put it; relative to the working directory, as PostgreSQL's `%p` is.
    pub path: PathBuf,
    /// The system identifier, where no data directory tells it.
    pub system: Option<SystemIdentifier>,
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
    if *name == WalName::History(TimelineId::FIRST) {
        return Err(Error::new(
            ErrorKind::Absent,
            format!("{name} does not exist: timeline 1 has no parents"),
        ));
    }
    let waiting = |error: &Error| {
        tracing::warn!("{}; trying again for up to {}", error.report(), limit.left_as_text());
    };
    retry(limit, waiting, async || {
        let from_archive = restore_from_archive(options, request, limit).await;
        let Err(error) = from_archive else { return from_archive };
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Refused | ErrorKind::Damaged) {
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
) -> Result<Restored, Error> {
    let archive = Archive::open(options).await?;
    let system = system_to_restore(&archive, request).await?;
    let (header, stored_size, file) =
        fetch_verified(&archive, system, request.name, limit, directory_of(&request.path)).await?;
    let path = request.path.clone();
    blocking(move || publish(file, &path)).await?;
    Ok(Restored::FromArchive { header, stored_size })
}

/// Copies a timeline history file that the server keeps beside `path`, if there is one and it is sound. A file at `path`
/// itself is none: it is what is to be restored.
fn restore_own_history(name: WalName, path: &Path) -> Result<bool, Error> {
    let WalName::History(timeline) = name else { return Ok(false) };
    let (directory, own) = (directory_of(path), name.to_string());
    if path.file_name().is_some_and(|file_name| *file_name == *own) {
        return Ok(false);
    }
    let Ok(file) = std::fs::File::open(directory.join(own)) else { return Ok(false) };
    let mut content = Vec::new();
    let read = file.take(MAX_TEXT_BYTES).read_to_end(&mut content);
    if read.is_err() || TimelineHistory::parse(timeline, &content).is_err() {
        return Ok(false);
    }
    let mut staged = stage(&directory)?;
    staged.write_all(&content).map_err(cannot_write(path))?;
    publish(staged.into_temp_path(), path).map(|()| true)
}

/// Fetches the file `name` of the system into an unnamed place and hands it over once it is verified, to be read
/// from its beginning.
pub async fn read_verified(
    options: &ArchiveOptions,
    name: WalName,
    system: Option<SystemIdentifier>,
    limit: &TimeLimit,
) -> Result<(Header, std::fs::File), Error> {
    let request = RestoreRequest { name, path: PathBuf::new(), system };
    let archive = Archive::open(options).await?;
    let system = system_to_restore(&archive, &request).await?;
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
async fn system_to_restore(archive: &Archive, request: &RestoreRequest) -> Result<SystemIdentifier, Error> {
    if let Some(system) = request.system {
        return Ok(system);
    }
    let path = request.path.clone();
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
) -> Result<(Header, u64, TempPath), Error> {
    let mut fetched = archive.fetch(system, name).await?;
    let _transfer = fetched.transfer.take();
    let stored_size = fetched.stored_size;
    let (mut file, path) = blocking(move || stage(&directory)).await?.into_parts();
    let limit = limit.clone();
    let header =
        blocking(move || decode_verified(fetched, system, name, &limit, Threads::Two, &mut file)).await?;
    Ok((header, stored_size, path))
}
