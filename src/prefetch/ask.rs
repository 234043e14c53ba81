//! What a call asks of the prefetcher, and tells it.
//!
//! One that does not answer is left alone for the rest of its life: a call that has waited for it in vain says so once, and
//! leaves a note that spares the others the waiting. They ask the archive.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use super::wire::{Message, receive};
use crate::limit::TimeLimit;
use crate::restore::Verified;
use crate::spool::Spool;
use crate::wal::{SegmentName, SegmentSize};

/// How long a file that is on its way is waited for while it does not move. Its prefetcher may be stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// What notes about a prefetcher that does not answer are about.
const SUBJECT: &str = "prefetcher";

/// Asks for a segment. An error wherever it is not to be had, or not in time: then it is to be fetched from the archive.
pub fn ask(spool: &Spool, run: &str, name: SegmentName, limit: &TimeLimit) -> io::Result<Verified> {
    if is_left_alone(spool, run) {
        return Err(io::Error::from(io::ErrorKind::NotConnected));
    }
    let whom = spool.whom_to_meet();
    let asked = say(spool, run, Message::Want(name)).and_then(|stream| {
        // What is left must do for the archive, also where the limit is short.
        stream.set_read_timeout(Some(PATIENCE.min(limit.left() / 2)))?;
        receive(&stream, || limit.left() > limit.total() / 2)
    });
    // That it has moved and is too slow is another matter.
    if asked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
        tracing::warn!("the prefetcher does not answer, and is left alone from now on; killing it is safe");
        if let Some(whom) = whom
            && let Err(error) = spool.note(SUBJECT, run, &whom)
        {
            tracing::debug!("cannot note in the spool that the prefetcher does not answer: {error}");
        }
    }
    asked
}

/// Whether the prefetcher that is there is one that does not answer.
fn is_left_alone(spool: &Spool, run: &str) -> bool {
    let noted = spool.noted(SUBJECT, run, SystemTime::now());
    noted.is_some_and(|note| spool.whom_to_meet().is_some_and(|whom| whom == note.text))
}

/// Tells where recovery is. An error where there is nobody to be told; `WouldBlock` where somebody is, who does not listen.
pub fn tell_restored(spool: &Spool, run: &str, name: SegmentName, size: SegmentSize) -> io::Result<()> {
    say(spool, run, Message::Restored(name, size)).map(drop)
}

fn say(spool: &Spool, run: &str, message: Message) -> io::Result<UnixStream> {
    let mut stream = spool.visit()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(message.line(run).as_bytes())?;
    Ok(stream)
}
