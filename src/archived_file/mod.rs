//! Reading and verification of one archived file: digests first, then header and content.
//!
//! A file is returned only if its content is what its name says.

mod content;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::archive::{Archive, ArchivedName, Fetched, Mismatch};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::{Archived, FrameError, Header};
use crate::limit::TimeLimit;
use crate::wal::{SegmentSize, SystemIdentifier, WalName};

pub(crate) use content::{Beginning, check_content};

/// Number of threads that decode a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// For callers with a file for each core.
    One,
    /// For callers that wait for the file.
    Two,
}

/// Decodes into `file`, and checks that the content is what the name says.
pub(crate) fn decode_verified(
    fetched: Fetched,
    system: SystemIdentifier,
    name: impl Into<ArchivedName>,
    limit: &TimeLimit,
    threads: Threads,
    file: &mut (impl Write + Send),
) -> Result<Header, Error> {
    let (location, name) = (fetched.location, name.into());
    let mut beginning = Beginning::new(file, name.wal());
    let decoded = Archived::open(fetched.reader, fetched.stored_size).and_then(|archived| {
        limit.allow_for(archived.header().original_size);
        match threads {
            Threads::One => archived.on_one_thread().decode(&mut beginning),
            Threads::Two => archived.decode(&mut beginning),
        }
    });
    let header = decoded.map_err(|error| unusable(&location, error))?;
    let checked = match name.check(system, &header) {
        Err(Mismatch::Name) => Err(format!("its header says {}", header.name)),
        Err(Mismatch::System) => Err(format!("its header says system {}", header.system_identifier)),
        Err(Mismatch::Content) => Err(format!("its content has BLAKE3 {}", header.blake3)),
        Ok(()) => check_content(&header, &beginning.kept),
    };
    checked.map_err(|why| {
        let hint = "it has been renamed or moved in the archive, or was archived from another server";
        Error::new(ErrorKind::Damaged, format!("{location} is not {name} of system {system}: {why}"))
            .hint(hint)
    })?;
    Ok(header)
}

/// Reads and verifies a whole text file.
pub(crate) async fn read_text(
    archive: &Archive,
    system: SystemIdentifier,
    name: WalName,
) -> Result<(Header, Vec<u8>), Error> {
    let mut fetched = archive.fetch(system, name).await?;
    let _transfer = fetched.transfer.take();
    blocking(move || {
        let mut content = Vec::new();
        let no_limit = TimeLimit::new(Instant::now(), Duration::MAX);
        let header = decode_verified(fetched, system, name, &no_limit, Threads::One, &mut content)?;
        Ok((header, content))
    })
    .await
}

/// Reads the header of an archived file.
pub(crate) async fn header_of(
    archive: &Archive,
    system: SystemIdentifier,
    name: impl Into<ArchivedName>,
) -> Result<Header, Error> {
    let mut fetched = archive.fetch(system, name).await?;
    let _transfer = fetched.transfer.take();
    blocking(move || {
        let location = fetched.location;
        let archived = Archived::open(fetched.reader, fetched.stored_size);
        archived.map(|archived| archived.header().clone()).map_err(|error| unusable(&location, error))
    })
    .await
}

/// Reads size and archiving time of a segment from its header. A file that is not what its name says is an error.
pub(crate) async fn size_and_time_of(
    archive: &Archive,
    system: SystemIdentifier,
    name: impl Into<ArchivedName>,
) -> Result<(SegmentSize, Timestamp), Error> {
    let name = name.into();
    let header = header_of(archive, system, name).await?;
    let cannot_use =
        || Error::new(ErrorKind::Damaged, format!("cannot use {}", archive.location(system, name)));
    // The name of a second partial segment contains the digest of its content, which does not affect the size.
    if matches!(name.check(system, &header), Err(Mismatch::System | Mismatch::Name)) {
        let what = format!("it is {} of system {}", header.name, header.system_identifier);
        return Err(cannot_use().because(what));
    }
    let size = SegmentSize::new(header.original_size).map_err(|error| cannot_use().because(error))?;
    Ok((size, header.archived_at))
}

/// Converts a failure to decode the file at `location`.
pub(crate) fn unusable(location: &str, error: FrameError) -> Error {
    let timed_out = matches!(&error, FrameError::Read(error) if error.kind() == io::ErrorKind::TimedOut);
    let (kind, what) = match error {
        FrameError::Read(_) => (ErrorKind::Unavailable, format!("cannot read {location}")),
        FrameError::Write(_) => (ErrorKind::Local, format!("cannot write the content of {location}")),
        FrameError::Damaged(_) | FrameError::Newer { .. } | FrameError::Encrypted => {
            (ErrorKind::Damaged, format!("cannot use {location}"))
        }
    };
    let failure = Error::new(kind, what);
    let failure = match error {
        FrameError::Damaged(_) => {
            failure.hint("move it aside and archive a sound copy: see \"A damaged file\" in guide/damage.md")
        }
        _ => failure,
    };
    failure.because(error).timed_out(timed_out)
}
