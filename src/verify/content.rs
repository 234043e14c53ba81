//! Verification of one file: that it is intact, and the one that its name says.

use std::io;
use std::time::Duration;

use jiff::Timestamp;

use crate::archive::{Archive, ArchivedName, Fetched, Mismatch};
use crate::archived_file::{Beginning, check_content, header_of, unusable};
use crate::blocking::blocking;
use crate::catalog::Reading;
use crate::error::{Error, ErrorKind, chain, joined};
use crate::frame::{Archived, FrameError};
use crate::reports::FindingKind;
use crate::wal::{LongPageHeader, SegmentSize, SystemIdentifier, TimelineId, WalName};

/// Thoroughness of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The header, and the digest of the stored bytes.
    Stored,
    /// The original content as well: decompressed, and compared with digest and name. Also the timeline of the first
    /// page, if known.
    Original(Option<TimelineId>),
}

/// Result of a verification.
#[derive(Debug)]
pub(super) enum Verdict {
    Sound,
    /// Deleted in the meantime.
    Gone,
    Bad(FindingKind, String),
    /// The archive answers, but does not return the file.
    Unreadable(Error),
}

/// Verifies a file, with retries while they may help. `size` is the segment size by which the name was interpreted.
/// An error concerns the whole archive.
pub(super) async fn check(
    archive: &Archive,
    system: SystemIdentifier,
    name: ArchivedName,
    size: Option<SegmentSize>,
    depth: Depth,
    reading: Reading,
) -> Result<Verdict, Error> {
    let checked = reading.retry(async || attempt(archive, system, name, size, depth).await).await;
    let Err(error) = checked else { return checked };
    if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Refused) {
        return Err(error);
    }
    // Without retries: the time for them has passed.
    let impatient = Reading { patience: Duration::ZERO, ..reading };
    match impatient.retry(async || archive.holds(system, name).await).await {
        Ok(true) => Ok(Verdict::Unreadable(error)),
        Ok(false) => Ok(Verdict::Gone),
        // A file that this user may not open is a finding, and no reason to end.
        Err(_) if archive.denies(system, name).await => Ok(Verdict::Unreadable(error)),
        Err(_) => Err(error),
    }
}

async fn attempt(
    archive: &Archive,
    system: SystemIdentifier,
    name: ArchivedName,
    size: Option<SegmentSize>,
    depth: Depth,
) -> Result<Verdict, Error> {
    let mut fetched = match archive.fetch(system, name).await {
        Ok(fetched) => fetched,
        Err(error) if error.kind() == ErrorKind::Absent => {
            if archive.holds(system, name).await? {
                let what = format!("{name} is there one moment and absent the next");
                return Err(Error::new(ErrorKind::Unavailable, what).because(error));
            }
            return Ok(Verdict::Gone);
        }
        // A pipe or a directory under its name.
        Err(error) if error.kind() == ErrorKind::Damaged => {
            return Ok(Verdict::Bad(FindingKind::Unreadable, joined(chain(&error))));
        }
        Err(error) => return Err(error),
    };
    let _transfer = fetched.transfer.take();
    blocking(move || judge(fetched, system, name, size, depth)).await
}

/// Returns the archiving time in the header of a file.
pub(super) async fn archived_at(
    archive: &Archive,
    system: SystemIdentifier,
    name: WalName,
    reading: Reading,
) -> Result<Timestamp, Error> {
    Ok(reading.retry(async || header_of(archive, system, name).await).await?.archived_at)
}

fn judge(
    fetched: Fetched,
    system: SystemIdentifier,
    name: ArchivedName,
    size: Option<SegmentSize>,
    depth: Depth,
) -> Result<Verdict, Error> {
    let location = fetched.location;
    let failed = |error: FrameError| match error {
        FrameError::Damaged(_) => Ok(Verdict::Bad(FindingKind::Damaged, error.to_string())),
        FrameError::Newer { .. } | FrameError::Encrypted => {
            Ok(Verdict::Bad(FindingKind::Unreadable, error.to_string()))
        }
        FrameError::Read(_) | FrameError::Write(_) => Err(unusable(&location, error)),
    };
    let wrong = |kind, what: String| Ok(Verdict::Bad(kind, what));
    let archived = match Archived::open(fetched.reader, fetched.stored_size) {
        Ok(archived) => archived,
        Err(error) => return failed(error),
    };
    let header = archived.header();
    if let Err(mismatch) = name.check(system, header) {
        let by = header.host.as_ref().map(|host| format!(", archived by host {host}")).unwrap_or_default();
        let what = match mismatch {
            Mismatch::System => format!("it is {} of system {}{by}", header.name, header.system_identifier),
            Mismatch::Name => format!("it is {}{by}", header.name),
            Mismatch::Content => format!("it is one of BLAKE3 {}", header.blake3),
        };
        return wrong(FindingKind::WrongPlace, what);
    }
    if let Some(size) = size.filter(|size| header.original_size != size.bytes()) {
        let what = format!("it has {} bytes, where segments are of {size}", header.original_size);
        return wrong(FindingKind::OtherSize, what);
    }
    let Depth::Original(writer) = depth else {
        return archived.check_body().map_or_else(failed, |_| Ok(Verdict::Sound));
    };
    let mut sink = io::sink();
    let mut beginning = Beginning::new(&mut sink, name.wal());
    let header = match archived.on_one_thread().decode(&mut beginning) {
        Ok(header) => header,
        Err(error) => return failed(error),
    };
    let kept = beginning.kept;
    if let Err(why) = check_content(&header, &kept) {
        let kind = if name.segment().is_some() { FindingKind::WrongPlace } else { FindingKind::Damaged };
        return wrong(kind, why);
    }
    let page = name.segment().and_then(|_| LongPageHeader::parse(&kept).ok());
    if let (Some(page), Some(writer)) = (page, writer)
        && page.timeline != writer
    {
        let what = format!("timeline {} has written it, where timeline {writer} should have", page.timeline);
        return wrong(FindingKind::WrongTimeline, what);
    }
    Ok(Verdict::Sound)
}
