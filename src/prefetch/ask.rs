//! What a call asks of the prefetcher, and tells it.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::wire::{Message, receive};
use crate::limit::TimeLimit;
use crate::restore::Verified;
use crate::spool::Spool;
use crate::wal::{SegmentName, SegmentSize};

/// How long a file that is on its way is waited for while it does not move. Its prefetcher may be stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for a segment. An error wherever it is not to be had, or not in time: then it is to be fetched from the archive.
pub fn ask(spool: &Spool, run: &str, name: SegmentName, limit: &TimeLimit) -> io::Result<Verified> {
    let stream = say(spool, run, Message::Want(name))?;
    // What is left must do for the archive, also where the limit is short.
    stream.set_read_timeout(Some(PATIENCE.min(limit.left() / 2)))?;
    receive(&stream, || limit.left() > limit.total() / 2)
}

/// Tells where recovery is. An error where there is nobody to be told.
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
