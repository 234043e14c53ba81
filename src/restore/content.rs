//! Whether what the archive gave is the file that is wanted: the digests, then what the content says of itself.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::archive::{Archive, ArchivedName, Fetched};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::{Archived, FrameError, Header};
use crate::limit::TimeLimit;
use crate::wal::{
    BackupHistory, LONG_HEADER_BYTES, LongPageHeader, SegmentSize, SystemIdentifier, TimelineHistory, WalName,
};

/// How many threads decode a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// Where there is another file for every other core.
    One,
    /// Where it is waited for.
    Two,
}

/// Decodes into `file` and checks that the content is what the name says.
pub(crate) fn decode_verified(
    fetched: Fetched,
    system: SystemIdentifier,
    name: WalName,
    limit: &TimeLimit,
    threads: Threads,
    file: &mut (impl Write + Send),
) -> Result<Header, Error> {
    let location = fetched.location;
    let mut beginning = Beginning::new(file, name);
    let decoded = Archived::open(fetched.reader, fetched.stored_size).and_then(|archived| {
        limit.allow_for(archived.header().original_size);
        match threads {
            Threads::One => archived.on_one_thread().decode(&mut beginning),
            Threads::Two => archived.decode(&mut beginning),
        }
    });
    let header = decoded.map_err(|error| unusable(&location, error))?;
    check_content(&header, system, name, &beginning.kept).map_err(|why| {
        let hint = "it has been renamed or moved in the archive, or was archived from another server";
        Error::new(ErrorKind::Damaged, format!("{location} is not {name} of system {system}: {why}"))
            .hint(hint)
    })?;
    Ok(header)
}

/// Reads a whole text file, verified.
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

/// What the header of an archived file says.
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

/// The size of a cluster's segments, as an archived one of them says.
pub(crate) async fn size_of(
    archive: &Archive,
    system: SystemIdentifier,
    name: impl Into<ArchivedName>,
) -> Result<SegmentSize, Error> {
    Ok(size_and_time_of(archive, system, name).await?.0)
}

/// The size of an archived segment, and when it was archived, as its header says. What is another file than its name says tells
/// nothing.
pub(crate) async fn size_and_time_of(
    archive: &Archive,
    system: SystemIdentifier,
    name: impl Into<ArchivedName>,
) -> Result<(SegmentSize, Timestamp), Error> {
    let name = name.into();
    let header = header_of(archive, system, name).await?;
    let cannot_use =
        || Error::new(ErrorKind::Damaged, format!("cannot use {}", archive.location(system, name)));
    if (header.name, header.system_identifier) != (name.wal(), system) {
        let what = format!("it is {} of system {}", header.name, header.system_identifier);
        return Err(cannot_use().because(what));
    }
    let size = SegmentSize::new(header.original_size).map_err(|error| cannot_use().because(error))?;
    Ok((size, header.archived_at))
}

/// What a failure to decode what is at `location` means.
pub(crate) fn unusable(location: &str, error: FrameError) -> Error {
    let timed_out = matches!(&error, FrameError::Read(error) if error.kind() == io::ErrorKind::TimedOut);
    let (kind, what) = match error {
        FrameError::Read(_) => (ErrorKind::Unavailable, format!("cannot read {location}")),
        FrameError::Write(_) => (ErrorKind::Local, format!("cannot write the content of {location}")),
        FrameError::Damaged(_) | FrameError::Newer { .. } | FrameError::Encrypted => {
            (ErrorKind::Damaged, format!("cannot use {location}"))
        }
    };
    Error::new(kind, what).because(error).timed_out(timed_out)
}

/// How much of a file's beginning the checks want to see.
fn bytes_to_check(name: WalName) -> usize {
    if name.segment().is_some() { LONG_HEADER_BYTES } else { usize::MAX }
}

/// Checks a verified file's content against the name it is wanted for.
pub(crate) fn check_content(
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
pub(crate) struct Beginning<'a, W> {
    file: &'a mut W,
    /// As much of the beginning as [`check_content`] wants to see.
    pub(crate) kept: Vec<u8>,
    keep: usize,
}

impl<'a, W> Beginning<'a, W> {
    /// For a file of that name.
    pub(crate) fn new(file: &'a mut W, name: WalName) -> Self {
        Self { file, kept: Vec::new(), keep: bytes_to_check(name) }
    }
}

impl<W: Write> Write for Beginning<'_, W> {
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
