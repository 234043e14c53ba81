//! Archiving of one WAL file, and of those that follow it (`ahead`).
//!
//! The order guarantees safety: the file is read and checked, the archive publishes it durably under its name, and
//! only then success is reported. If the name is taken, the contents are compared; a file is never replaced.

mod ahead;
mod ancestors;
mod conflict;
mod earlier;
mod effort;
mod fence;
mod fork;
mod host;
mod interrupted;
mod marks;
mod memory;
mod neighbours;
mod one;
mod pace;
mod stuck;
mod system;

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, ArchiveOptions, ArchivedName, Created};
use crate::blocking::{Steady, blocking};
use crate::call::{retry, unless_stopped, warning};
use crate::cluster::Caller;
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::frame::{
    Codec, Content, EncodeError, Encoded, Header, HeaderFields, HostName, MAX_TEXT_BYTES, Overflow, encode,
};
use crate::limit::{Part, TimeLimit};
use crate::spool::{FileIdentity, OverflowDirectory, Spool};
use crate::wal::{
    BackupHistory, LONG_HEADER_BYTES, LongPageHeader, Pages, SegmentSize, SystemIdentifier, TimelineHistory,
    WalName,
};
use crate::whole_file::{is_not_regular, open_with_metadata};

use ahead::{Fate, take_along};
pub use ahead::{LookAhead, TakenAlong};
use ancestors::{Parted, parted_with_retries};
use conflict::{Held, Other, compare_if_there, conflict, gone_in_between, warn_of_second};
pub use earlier::{Earlier, ask, look_up};
pub use effort::codec_for_backlog;
pub use fence::Fence;
use fork::forks_beside;
pub use host::this_host;
pub use marks::backlog;
pub use one::push_unchanged;
use stuck::{explained, is_stuck};
use system::{system_of_data_directory, system_of_text};

/// Maximum size of a compressed file in memory, in bytes: enough for an incompressible segment of 64 MB, which grows
/// a little.
const MOST_IN_MEMORY: u64 = 65 << 20;

/// Maximum number of attempts to compare a file that is reported as present and then missing.
const TRIES_TO_COMPARE: usize = 3;

/// A file to archive, with settings.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// Path of the file, relative to the working directory, as PostgreSQL's `%p`.
    pub path: PathBuf,
    /// The server that it belongs to.
    pub caller: Caller,
    /// Name to archive it under.
    pub name: WalName,
    /// System identifier to assume for a text file outside of a data directory.
    pub system: Option<SystemIdentifier>,
    /// Compression of the file.
    pub codec: Codec,
    /// Maximum number of threads for compression.
    pub threads: NonZeroUsize,
    /// Where to spill compressed data larger than `MOST_IN_MEMORY`.
    pub overflow: OverflowDirectory,
    /// Time to record.
    pub now: Timestamp,
    /// Host to record, if known.
    pub host: Option<HostName>,
}

/// Report of an archived file.
#[derive(Debug)]
pub struct PushReport {
    /// Header of the archived file.
    pub header: Header,
    /// Size in the archive, in bytes.
    pub stored_size: u64,
    /// Result: created, or existing with the same content.
    pub created: Created,
    /// Totals of the additional files archived by the same call.
    pub along: TakenAlong,
}

/// Archives one file.
///
/// For a store, it is retried within `limit`, and `stop` ends the work at any time. For a directory there is one
/// attempt. Once a file is compressed, its publication into a directory always finishes, because that is quick, and
/// an interruption would leave a staging file. (A file too large for memory may be interrupted; it leaves no staging
/// file.)
///
/// Once the file is archived, the files that follow are archived and recorded in `spool`, if there is one. The same
/// happens if the file is stuck until a person acts, because that may take long.
pub async fn push(
    options: &ArchiveOptions,
    request: PushRequest,
    spool: Option<(&Spool, &LookAhead)>,
    limit: &TimeLimit,
    stop: &CancellationToken,
) -> Result<PushReport, Error> {
    let asked = request.clone();
    // The file that blocks this one if it fails.
    let mut at_fault = request.name;
    let failed = match Box::pin(push_asked(options, request, &mut at_fault, limit, stop)).await {
        Ok((archive, report)) => {
            let fate = if report.created == Created::New { Fate::New } else { Fate::There };
            let along = match spool {
                Some(spool) => take_along(&archive, &asked, fate, spool, limit, stop).await,
                None => TakenAlong::default(),
            };
            return Ok(PushReport { along, ..report });
        }
        Err(error) => error,
    };
    if !is_stuck(failed.kind()) {
        return Err(failed);
    }
    // If the archive cannot be opened, nothing can be done for the other files.
    if let (Some(spool), Ok(archive)) = (spool, Archive::open(options).await) {
        let is_conflict = failed.kind() == ErrorKind::Conflict;
        let fate = if is_conflict { Fate::Conflict(at_fault) } else { Fate::Unacceptable };
        take_along(&archive, &asked, fate, spool, limit, stop).await.log();
    }
    Err(explained(failed, &asked, at_fault, options, spool.map(|(spool, _)| spool.system())).await)
}

/// Archives the file itself. Frees its compressed data before it returns, because the other files need the memory.
/// Sets `at_fault` to another file if that is the cause of the failure.
async fn push_asked(
    options: &ArchiveOptions,
    request: PushRequest,
    at_fault: &mut WalName,
    limit: &TimeLimit,
    stop: &CancellationToken,
) -> Result<(Archive, PushReport), Error> {
    let name = request.name;
    let (path, asked) = (request.path.clone(), request.clone());
    let stopped = format!("stopped before {name} was archived");
    let prepared = unless_stopped(stop, prepare(options, request, limit), &stopped).await?;
    let Prepared { archive, taken, encoded: Encoded { header, content } } = prepared;
    let stored_size = content.size();
    let comparing = parted_with_retries(&archive, header.system_identifier, &asked, limit);
    let comparing = limit.during(Part::Archive, comparing);
    if let Some(Parted { segment, error }) = unless_stopped(stop, comparing, &stopped).await? {
        *at_fault = segment;
        return Err(error);
    }
    let publishing = publish_patiently(&archive, taken, &header, content, &path, limit);
    let publishing = limit.during(Part::Archive, publishing);
    let created = if archive.is_store() {
        unless_stopped(stop, publishing, &stopped).await?
    } else {
        publishing.await?
    };
    Ok((archive, PushReport { header, stored_size, created, along: TakenAlong::default() }))
}

/// Publishes the file: with retries within `limit` for a store, once for a directory. `taken` is the archive's answer
/// about the name.
async fn publish_patiently(
    archive: &Archive,
    taken: Result<bool, Error>,
    header: &Header,
    content: Content<File>,
    path: &Path,
    limit: &TimeLimit,
) -> Result<Created, Error> {
    if !archive.is_store() {
        return publish(archive, taken?, header, content, path).await;
    }
    let waiting = warning(|| limit.left_as_text());
    let mut taken = match taken {
        // A question that hung has taken the time of a call without patience.
        Err(error) if error.is_timeout() && limit.patience_with_failures().is_some() => return Err(error),
        taken => Some(taken),
    };
    retry(limit, waiting, async || {
        // Asked again before each retry: an attempt whose answer was lost may have succeeded.
        let taken = match taken.take() {
            Some(taken) => taken,
            None => archive.is_known_taken(header.system_identifier, header.name).await,
        };
        publish(archive, taken?, header, content.clone(), path).await
    })
    .await
}

/// Creates the file, or compares it with the one that has its name.
///
/// Another `.partial` of the same name is no conflict: two servers promoted within one segment create one each, with
/// rows that the other lacks, and no recovery reads either by itself. So both are kept.
async fn publish(
    archive: &Archive,
    taken: bool,
    header: &Header,
    content: Content<File>,
    path: &Path,
) -> Result<Created, Error> {
    let (system, name) = (header.system_identifier, header.name);
    let theirs = match publish_as(archive, name.into(), taken, header, content.clone(), path).await? {
        Ok(created) => return Ok(created),
        Err(theirs) => theirs,
    };
    let Some(second) = ArchivedName::by_content(name, header.blake3) else {
        return Err(Box::pin(conflict(archive, header, theirs, path)).await);
    };
    let taken = archive.is_known_taken(system, second).await?;
    match publish_as(archive, second, taken, header, content, path).await? {
        Ok(created) => {
            warn_of_second(&theirs, header, &archive.location(system, second), path);
            Ok(created)
        }
        Err(theirs) => Err(Box::pin(conflict(archive, header, theirs, path)).await),
    }
}

/// Creates the file under that name, or finds the same one, or finds a different one, which is the inner error.
async fn publish_as(
    archive: &Archive,
    name: ArchivedName,
    taken: bool,
    header: &Header,
    content: Content<File>,
    path: &Path,
) -> Result<Result<Created, Other>, Error> {
    let system = header.system_identifier;
    let mut taken = taken;
    for _ in 0..TRIES_TO_COMPARE {
        if !taken && archive.create(system, name, content.clone()).await? == Created::New {
            return Ok(Ok(Created::New));
        }
        match compare_if_there(archive, header, name, path).await? {
            Some(Held::Same) if archive.make_durable(system, name).await? => return Ok(Ok(Created::Exists)),
            Some(Held::Other(theirs)) => return Ok(Err(theirs)),
            // A prune has deleted it. A store is asked for the name once more before the file is sent.
            Some(Held::Same) | None if archive.is_store() => break,
            Some(Held::Same) | None => taken = false,
        }
    }
    Err(gone_in_between(path))
}

/// An encoded file, and the open archive.
struct Prepared {
    archive: Archive,
    /// `true` if the name is taken, as far as the archive must be asked.
    taken: Result<bool, Error>,
    encoded: Encoded<File>,
}

/// Reads, checks and compresses the file, and connects to the archive at the same time.
async fn prepare(
    options: &ArchiveOptions,
    request: PushRequest,
    limit: &TimeLimit,
) -> Result<Prepared, Error> {
    let (name, own) = (request.name, limit);
    let (examined, request) = {
        let limit = limit.clone();
        let examining = blocking(move || examine(&request, &limit).map(|examined| (examined, request)));
        own.during(Part::File, examining).await?
    };
    let system = examined.fields.system;
    let getting_in_touch = async {
        let archive = Archive::open(options).await?;
        archive.heed(limit);
        let taken = archive.is_known_taken(system, name).await;
        Ok((archive, taken))
    };
    let compressing = blocking(move || compress(examined, &request));
    let (archive, encoded) =
        tokio::join!(own.during(Part::Archive, getting_in_touch), own.during(Part::File, compressing));
    let (archive, taken) = archive?;
    Ok(Prepared { archive, taken, encoded: encoded? })
}

/// A file that was found acceptable.
struct Examined {
    fields: HeaderFields,
    /// Size in bytes.
    size: u64,
    /// Identity of the file before any of it was read.
    identity: FileIdentity,
    /// Check of a segment's pages, none of which was read.
    pages: Option<Pages>,
    /// The part of the file that was checked. It is archived from memory, because the file could change in between.
    checked: Vec<u8>,
    /// The rest of the file.
    file: File,
}

/// Checks the file: all of a text file, the first page of a segment.
fn examine(request: &PushRequest, limit: &TimeLimit) -> Result<Examined, Error> {
    let PushRequest { path, name, .. } = request;
    let cannot_read = cannot_read(path);
    let refuse = |why: String| unacceptable(path, &why);
    let opened = open_with_metadata(path);
    let (mut file, found) = opened.map_err(|error| {
        if is_not_regular(&error) { refuse(error.to_string()) } else { cannot_read(error) }
    })?;
    let (size, identity) = (found.len(), FileIdentity::from(&found));
    limit.allow_for(size);
    let mut checked = Vec::new();
    let (system, wal_magic, pages) = match name.segment() {
        Some(segment) => {
            (&mut file).take(LONG_HEADER_BYTES as u64).read_to_end(&mut checked).map_err(&cannot_read)?;
            let page = LongPageHeader::parse(&checked)
                .and_then(|page| page.check(segment, size).map(|()| page))
                .map_err(|error| refuse(error.to_string()))?;
            if let Some(expected) = system_of_data_directory(&request.caller, request.system)? {
                page.check_system(expected).map_err(|error| {
                    refuse(error.to_string())
                        .hint("it is another cluster's file; it must not be archived as this one's")
                })?;
            }
            if page.magic.version().is_none() {
                tracing::debug!(magic = %page.magic, "a version of PostgreSQL that is newer than this walkeep");
            }
            (page.system, Some(page.magic), Some(Pages::of(&page, segment)))
        }
        None => {
            (&mut file).take(MAX_TEXT_BYTES + 1).read_to_end(&mut checked).map_err(&cannot_read)?;
            check_text(*name, &checked).map_err(refuse)?;
            (system_of_text(request)?, None, None)
        }
    };
    let fields =
        HeaderFields { name: *name, system, wal_magic, archived_at: request.now, host: request.host.clone() };
    Ok(Examined { fields, size, identity, pages, checked, file })
}

fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Local, format!("{} changed while it was read", path.display()))
}

fn unacceptable(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Unacceptable, format!("{} is not an acceptable WAL file: {why}", path.display()))
}

/// Reads and compresses the file, and checks that it is unchanged and that its pages are in an order that a server
/// writes.
///
/// A call that the server no longer waits for may be too late: another call has archived the file, and the server has
/// reused it for new WAL while it was read.
fn compress(examined: Examined, request: &PushRequest) -> Result<Encoded<File>, Error> {
    let Examined { fields, size, identity, pages, checked, file } = examined;
    let path = &request.path;
    let mut content = Looked { input: Steady(Cursor::new(checked).chain(file)), pages };
    let mut overflow_directory = None;
    let open = || {
        let (file, directory) = request.overflow.open()?;
        overflow_directory = Some(directory);
        Ok(file)
    };
    let overflow = Overflow { beyond: MOST_IN_MEMORY, open };
    let encoded = encode(&mut content, &fields, request.codec, request.threads, overflow).map_err(
        |error| match error {
            EncodeError::Input(error) => cannot_read(path)(error),
            EncodeError::Overflow(error) => cannot_overflow(path, overflow_directory.as_deref(), error),
        },
    )?;
    let now = std::fs::metadata(path).map_err(cannot_read(path))?;
    if encoded.header.original_size != size || FileIdentity::from(&now) != identity {
        return Err(changed(path));
    }
    check_pages(content.pages.as_ref(), request.name, size, path)?;
    Ok(encoded)
}

/// Refuses a segment with pages in an order that no server writes. The rest of a segment after a fork is unused, and
/// a `.partial` is only a start, whose length only a history file contains.
fn check_pages(pages: Option<&Pages>, name: WalName, size: u64, path: &Path) -> Result<(), Error> {
    let Some(fault) = pages.and_then(Pages::fault) else { return Ok(()) };
    let (Some(segment), Ok(size)) = (name.segment(), SegmentSize::new(size)) else { return Ok(()) };
    let forks = forks_beside(path, segment, size);
    let is_behind_a_fork = forks.iter().any(|fork| fork.left_at <= fault.begins_at());
    let may_be_anything = forks.is_empty() && matches!(name, WalName::Partial(_));
    if is_behind_a_fork || may_be_anything {
        return Ok(());
    }
    Err(unacceptable(path, &fault.to_string()).hint(
        "the file has lost what was written, or was mixed with another: look at the disk, and take a new base backup, \
         because what this segment held is needed to recover from any older one",
    ))
}

/// A reader that checks the pages it reads.
struct Looked<R> {
    input: R,
    pages: Option<Pages>,
}

impl<R: Read> Read for Looked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buffer)?;
        if let (Some(pages), Some(read)) = (&mut self.pages, buffer.get(..got)) {
            pages.feed(read);
        }
        Ok(got)
    }
}

/// `directory` is the directory of the overflow file. The error names it if it is known.
fn cannot_overflow(path: &Path, directory: Option<&Path>, error: io::Error) -> Error {
    let within = directory.map(|directory| format!(" in {}", directory.display())).unwrap_or_default();
    let what = format!("cannot keep what {} was compressed to{within}", path.display());
    Error::new(ErrorKind::Local, what)
        .because(error)
        .hint("free some space there, or set spool to a directory on a disk with room for several segments")
}

fn cannot_read(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| denied::cannot_read(ErrorKind::Local, "", path, Kept::ForOwner, error)
}

/// Checks a timeline history or backup history file.
fn check_text(name: WalName, bytes: &[u8]) -> Result<(), String> {
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(format!("it has more than {MAX_TEXT_BYTES} bytes"));
    }
    match name {
        // The reason contains the name of the restore point at which a recovery ended. If that name contains a line
        // feed, the server writes a file that neither it nor a recovery can read.
        WalName::History(timeline) => TimelineHistory::parse(timeline, bytes).map(drop).map_err(|e| {
            format!(
                "as a timeline history, {e}, so no server can start with it; if the name of a restore point with a line \
                 feed is in it, make that one line"
            )
        }),
        WalName::Backup { segment, .. } => {
            BackupHistory::parse(segment, bytes).map(drop).map_err(|e| format!("as a backup history, {e}"))
        }
        WalName::Segment(_) | WalName::Partial(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{ArchiveUrl, StoreOptions};
    use crate::frame::Overflow;

    #[test]
    fn a_file_deleted_before_its_comparison_is_archived_by_the_same_call() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::create_dir(temporary.path().join("7")).unwrap();
        let url = ArchiveUrl::Directory(temporary.path().to_owned());
        let options = ArchiveOptions::new(url, StoreOptions::default());
        let (name, system) = ("00000002.history".parse().unwrap(), SystemIdentifier::new(7).unwrap());
        let fields =
            HeaderFields { name, system, wal_magic: None, archived_at: Timestamp::UNIX_EPOCH, host: None };
        let overflow: Overflow<fn() -> io::Result<File>> =
            Overflow { beyond: MOST_IN_MEMORY, open: || Err(io::Error::other("it is small")) };
        let content = &b"1\t0/600000\tx\n"[..];
        let Encoded { header, content } =
            encode(content, &fields, Codec::default(), NonZeroUsize::MIN, overflow).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let archive = Archive::open(&options).await.unwrap();
            let publish = async |taken| {
                let path = Path::new("pg_wal/00000002.history");
                publish_as(&archive, name.into(), taken, &header, content.clone(), path).await.unwrap().ok()
            };
            assert_eq!(publish(true).await, Some(Created::New), "a prune has deleted what was there");
            assert_eq!(publish(true).await, Some(Created::Exists));
            assert_eq!(publish(false).await, Some(Created::Exists));
        });
    }
}
