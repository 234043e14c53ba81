//! Bringing one WAL file back.
//!
//! The file appears under its final name complete and checked, or not at all. It is not flushed to disk: the server
//! does that itself with every segment it takes, and asks for all of them again after a crash.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::archive::{Archive, ArchiveOptions, Fetched, retry};
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::error::{Error, ErrorKind};
use crate::frame::{Archived, FrameError, Header, MAX_TEXT_BYTES};
use crate::limit::TimeLimit;
use crate::wal::{
    BackupHistory, LONG_HEADER_BYTES, LongPageHeader, SystemIdentifier, TimelineHistory, TimelineId, WalName,
};

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
    /// The server's own copy of a timeline history file, because the archive could not give it.
    OwnCopy,
}

/// Restores one file, trying again within `limit` while the archive cannot be asked.
///
/// A timeline history file that the archive cannot give is taken from where the server itself keeps it. The server asks
/// for its parents' when it is promoted, at a moment when it has given up being a standby already: stopping it there
/// would leave it to come up again on its old timeline, writable.
pub async fn restore(
    options: &ArchiveOptions,
    request: &RestoreRequest,
    limit: &TimeLimit,
) -> Result<Restored, Error> {
    let RestoreRequest { name, path, .. } = request;
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
    publish(Staged { path: staged.into_temp_path() }, path).map(|()| true)
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
        let header = decode_verified(fetched, system, name, &limit, &mut file)?;
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
    let systems = archive.systems().await?;
    match systems.as_slice() {
        [only] => Ok(*only),
        [] => {
            let what = format!("the archive {} holds no system's WAL", archive.url());
            Err(Error::new(ErrorKind::Unavailable, what).hint("is it mounted, and is it the right one?"))
        }
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            let what = format!("the archive {} holds several systems: {}", archive.url(), names.join(", "));
            Err(Error::new(ErrorKind::Configuration, what).hint("give one of them with --system-identifier"))
        }
    }
}

/// A complete, checked file that has no final name yet. Dropping it removes it, whoever is still writing.
struct Staged {
    path: TempPath,
}

async fn fetch_verified(
    archive: &Archive,
    system: SystemIdentifier,
    name: WalName,
    limit: &TimeLimit,
    directory: PathBuf,
) -> Result<(Header, u64, Staged), Error> {
    let mut fetched = archive.fetch(system, name).await?;
    let _transfer = fetched.transfer.take();
    let stored_size = fetched.stored_size;
    let (mut file, path) = blocking(move || stage(&directory)).await?.into_parts();
    let limit = limit.clone();
    let header = blocking(move || {
        let header = decode_verified(fetched, system, name, &limit, &mut file)?;
        Ok(header)
    })
    .await?;
    Ok((header, stored_size, Staged { path }))
}

/// A new file beside the final name.
///
/// The server removes files of this prefix when it starts after a crash, which is when nobody else would.
fn stage(directory: &Path) -> Result<NamedTempFile, Error> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix("xlogtemp.walkeep.")
        // The umask decides, as it does for the server's own files: a cluster may grant its group access.
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(cannot_write(directory))
}

fn publish(staged: Staged, path: &Path) -> Result<(), Error> {
    staged.path.persist(path).map_err(|error| cannot_write(path)(error.error))
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn cannot_write(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(ErrorKind::Local, format!("cannot write {}", path.display())).because(error)
}

/// Decodes into `file` and checks that the content is what the name says.
fn decode_verified(
    fetched: Fetched,
    system: SystemIdentifier,
    name: WalName,
    limit: &TimeLimit,
    file: &mut std::fs::File,
) -> Result<Header, Error> {
    let location = fetched.location;
    let mut beginning = Beginning { file, kept: Vec::new(), keep: bytes_to_check(name) };
    let decoded = Archived::open(fetched.reader, fetched.stored_size).and_then(|archived| {
        limit.allow_for(archived.header().original_size);
        archived.decode(&mut beginning)
    });
    let header = decoded.map_err(|error| match error {
        FrameError::Read(_) => {
            Error::new(ErrorKind::Unavailable, format!("cannot read {location}")).because(error)
        }
        FrameError::Write(_) => {
            Error::new(ErrorKind::Local, format!("cannot write the content of {location}")).because(error)
        }
        FrameError::Damaged(_) | FrameError::Newer { .. } | FrameError::Encrypted => {
            Error::new(ErrorKind::Damaged, format!("cannot use {location}")).because(error)
        }
    })?;
    check_content(&header, system, name, &beginning.kept).map_err(|why| {
        let hint = "it has been renamed or moved in the archive, or was archived from another server";
        Error::new(ErrorKind::Damaged, format!("{location} is not {name} of system {system}: {why}"))
            .hint(hint)
    })?;
    Ok(header)
}

/// How much of a file's beginning the checks want to see.
fn bytes_to_check(name: WalName) -> usize {
    if name.segment().is_some() { LONG_HEADER_BYTES } else { usize::MAX }
}

/// Checks a verified file's content against the name it is wanted for.
fn check_content(
    header: &Header,
    system: SystemIdentifier,
    name: WalName,
    beginning: &[u8],
) -> Result<(), String> {
    if header.name != name {
        return Err(format!("its header says {}", header.name));
    }
    if header.system_identifier != system {
        return Err(format!("its header says system {}", header.system_identifier));
    }
    match name {
        WalName::Segment(segment) | WalName::Partial(segment) => {
            let page = LongPageHeader::parse(beginning).map_err(|error| error.to_string())?;
            page.check(segment, header.original_size).map_err(|error| error.to_string())?;
            page.check_system(system).map_err(|error| error.to_string())?;
            if header.wal_magic.is_some_and(|magic| magic != page.magic) {
                return Err(format!("its page has the magic {}, its header another one", page.magic));
            }
            Ok(())
        }
        WalName::History(timeline) => {
            TimelineHistory::parse(timeline, beginning).map(drop).map_err(|error| error.to_string())
        }
        WalName::Backup { segment, .. } => {
            BackupHistory::parse(segment, beginning).map(drop).map_err(|error| error.to_string())
        }
    }
}

/// Writes to the file and remembers how it begins.
struct Beginning<'a> {
    file: &'a mut std::fs::File,
    kept: Vec<u8>,
    keep: usize,
}

impl Write for Beginning<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let wanted = self.keep.saturating_sub(self.kept.len()).min(written);
        self.kept.extend(bytes.iter().take(wanted));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
