//! Requests of a restore to the prefetcher.
//!
//! A prefetcher that does not answer is ignored for the rest of its life. The call that waited for it logs this and
//! leaves a note in the spool, so that later calls ask the archive without waiting.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use super::wire::{Message, receive};
use crate::limit::TimeLimit;
use crate::restore::Verified;
use crate::spool::Spool;
use crate::wal::{SegmentName, SegmentSize};

/// Time to wait for a segment in progress that does not move. Its prefetcher may be stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Subject of notes about a prefetcher that does not answer.
const SUBJECT: &str = "prefetcher";

/// Requests a segment. Fails if it is not available in time, or not what `check` accepts. The caller then fetches it from the
/// archive.
pub(super) fn ask(
    spool: &Spool,
    run: &str,
    name: SegmentName,
    limit: &TimeLimit,
    check: impl FnOnce(&Verified) -> Result<(), String>,
) -> io::Result<Verified> {
    if is_ignored(spool, run) {
        return Err(io::Error::from(io::ErrorKind::NotConnected));
    }
    let whom = spool.whom_to_meet();
    let asked = send(spool, run, Message::Want(name)).and_then(|stream| {
        // The rest of the time must be enough for the archive, even with a short limit.
        stream.set_read_timeout(Some(PATIENCE.min(limit.left() / 2)))?;
        receive(&stream, || limit.left() > limit.total() / 2)
    });
    let ignore = || {
        if let Some(whom) = &whom
            && let Err(error) = spool.note(SUBJECT, run, whom)
        {
            tracing::debug!("cannot note in the spool that the prefetcher is left alone: {error}");
        }
    };
    // A transfer that moves but is too slow fails with another error.
    if asked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
        tracing::warn!("the prefetcher does not answer, and is left alone from now on; killing it is safe");
        ignore();
    }
    let verified = asked?;
    check(&verified).map_err(|why| {
        tracing::warn!("the prefetcher passes on what is not {name} ({why}), and is left alone from now on");
        ignore();
        io::Error::from(io::ErrorKind::InvalidData)
    })?;
    Ok(verified)
}

/// Returns `true` if a note says that the current prefetcher does not answer.
fn is_ignored(spool: &Spool, run: &str) -> bool {
    let noted = spool.noted(SUBJECT, run, SystemTime::now());
    noted.is_some_and(|note| spool.whom_to_meet().is_some_and(|whom| whom == note.text))
}

/// Reports a restored segment to the prefetcher. Fails if there is none, and with `WouldBlock` if it does not listen.
pub(super) fn report_restored(
    spool: &Spool,
    run: &str,
    name: SegmentName,
    size: SegmentSize,
) -> io::Result<()> {
    send(spool, run, Message::Restored(name, size)).map(drop)
}

fn send(spool: &Spool, run: &str, message: Message) -> io::Result<UnixStream> {
    let mut stream = spool.visit()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(message.line(run).as_bytes())?;
    Ok(stream)
}
