//! The prefetcher: a process started by a restore that fetches the next segments before they are requested.
//!
//! It fetches the segments after the one restored last, on the same timeline, within limits (`window`), and passes
//! them to calls that request them (`wire`). Prefetched files are verified like all restored files. They have no
//! names and vanish with the process, so files of an earlier recovery, another cluster or another timeline are never
//! found. The prefetcher never reports that a file is absent: for files that it does not have, the call asks the
//! archive.
//!
//! It ends once all files are fetched and passed on, when no call has come for a while, or when its server has ended.

mod ask;
mod client;
mod window;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::archive::{Archive, ArchiveOptions};
use crate::archived_file::{Threads, decode_verified};
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::restore::{Progress, Verified, Watched};
use crate::spool::{Meeting, Spool};
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, WalName};

pub use client::{PrefetchClient, Prefetching};
use window::{Limits, Window};
use wire::{COMING, LONGEST_LINE, Message, hand_over};

/// Limits of a prefetcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefetchBounds {
    /// Total size of restored segments on the spool's disk, in bytes. One segment is always allowed. 0 turns
    /// prefetching off.
    pub bytes: u64,
    /// Time without requests after which it ends.
    pub idle: Duration,
    /// Maximum number of concurrent requests to a store.
    pub connections: NonZeroUsize,
}

/// Task of a prefetcher.
#[derive(Debug, Clone)]
pub struct PrefetchJob {
    /// Archive to fetch from.
    pub archive: ArchiveOptions,
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Data directory of the server; an absolute path.
    pub data: DataDirectory,
    /// Spool with the meeting point; an absolute path.
    pub spool: Spool,
    /// Segment restored last.
    pub last: SegmentName,
    /// Segment size of the cluster.
    pub size: SegmentSize,
    /// Limits.
    pub bounds: PrefetchBounds,
    /// Maximum number of concurrent files from a directory, where decoding is the only work.
    pub threads: NonZeroUsize,
}

/// Interval between checks for progress and for the need of files.
const TICK: Duration = Duration::from_millis(250);

/// Time for a call to send its line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prefetches until there is nothing left to do, unless another prefetcher is running. Calls `ready` before the first
/// request to the archive: from then on it needs nothing of the caller's.
pub async fn prefetch(job: PrefetchJob, ready: impl FnOnce() -> io::Result<()>) -> Result<(), Error> {
    let cannot = |error: io::Error| Error::new(ErrorKind::Local, "cannot prefetch").because(error);
    let run = job.data.run()?;
    let Some(meeting) = job.spool.meet().map_err(cannot)? else { return Ok(()) };
    let listener = meeting.listener.try_clone().map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    let listener = UnixListener::from_std(listener).map_err(cannot)?;
    let archive = Archive::open(&job.archive).await?;
    ready().map_err(cannot)?;
    Prefetcher::new(job, run, archive).run(&meeting, &listener).await;
    Ok(())
}

struct Prefetcher {
    job: PrefetchJob,
    run: String,
    archive: Archive,
    window: Window<Verified>,
    fetches: JoinSet<(SegmentName, Result<Verified, Error>)>,
    coming: BTreeMap<SegmentName, Coming>,
    last_heard: Instant,
}

/// A segment in progress.
struct Coming {
    fetch: AbortHandle,
    begun: Instant,
    /// Bytes received so far.
    progress: Progress,
    /// Bytes received when waiting calls were last notified.
    reported: u64,
    /// Calls that wait for it.
    waiting: Vec<UnixStream>,
}

impl Prefetcher {
    fn new(job: PrefetchJob, run: String, archive: Archive) -> Self {
        let PrefetchBounds { bytes, connections, .. } = job.bounds;
        let limits = Limits {
            files: usize::try_from(bytes / job.size.bytes()).unwrap_or(usize::MAX),
            at_once: if archive.is_store() { connections.get() } else { job.threads.get() },
        };
        let window = Window::after(job.last, job.size, limits);
        let (fetches, coming, last_heard) = (JoinSet::new(), BTreeMap::new(), Instant::now());
        Self { job, run, archive, window, fetches, coming, last_heard }
    }

    async fn run(&mut self, meeting: &Meeting, listener: &UnixListener) {
        let mut ticks = tokio::time::interval(TICK);
        let mut calls = FuturesUnordered::new();
        loop {
            self.fetch_more();
            if self.window.is_done() && calls.is_empty() {
                break;
            }
            tokio::select! {
                Ok((call, _)) = listener.accept() => {
                    calls.push(tokio::time::timeout(PATIENCE, read_line(call)));
                }
                Some(read) = calls.next() => {
                    if let Ok(Ok((line, call))) = read && !self.answer(&line, call) {
                        break;
                    }
                }
                Some(fetched) = self.fetches.join_next() => {
                    // An error means that the fetch was cancelled, because nobody needs it any more.
                    if let Ok((name, fetched)) = fetched {
                        self.finish_fetch(name, fetched);
                    }
                }
                _ = ticks.tick() => {
                    if !meeting.is_open() || !self.is_needed().await {
                        break;
                    }
                    self.report_progress();
                }
            }
        }
    }

    fn fetch_more(&mut self) {
        while let Some(name) = self.window.begin() {
            let progress = Progress::default();
            let fetching = fetch(
                self.archive.clone(),
                self.job.system,
                name,
                self.job.size,
                self.job.spool.clone(),
                progress.clone(),
            );
            let fetch = self.fetches.spawn(async move { (name, fetching.await) });
            let begun = Instant::now();
            self.coming.insert(name, Coming { fetch, begun, progress, reported: 0, waiting: Vec::new() });
        }
    }

    /// Handles a call's message. Returns `false` if the prefetcher must end, because the server was restarted.
    fn answer(&mut self, line: &str, call: UnixStream) -> bool {
        let Some((message, run)) = Message::parse(line) else { return true };
        if run != self.run {
            return false;
        }
        self.last_heard = Instant::now();
        match message {
            Message::Want(name) => {
                if let Some(here) = self.window.here(name) {
                    if hand_over(call.as_fd(), here).is_ok() {
                        self.window.pass(name);
                    }
                } else if let Some(coming) = self.coming.get_mut(&name)
                    // Sent at once, to show the call that this prefetcher answers.
                    && call.try_write(&[COMING]).is_ok()
                {
                    coming.waiting.push(call);
                }
            }
            Message::Restored(name, size) => self.window.move_after(name, size),
        }
        self.cancel_unneeded();
        true
    }

    fn finish_fetch(&mut self, name: SegmentName, fetched: Result<Verified, Error>) {
        match fetched {
            Ok(verified) => {
                let Some(Coming { begun, waiting, .. }) = self.coming.remove(&name) else { return };
                self.window.record_arrival(name, verified, begun.elapsed());
                for call in waiting {
                    if let Some(here) = self.window.here(name)
                        && hand_over(call.as_fd(), here).is_ok()
                    {
                        self.window.pass(name);
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Absent => self.window.record_absence(name),
            Err(_) => self.window.record_failure(name),
        }
        self.cancel_unneeded();
    }

    /// Cancels fetches that nobody needs any more. Calls that wait for one see the connection close.
    fn cancel_unneeded(&mut self) {
        self.coming.retain(|name, coming| {
            let needed = self.window.is_coming(*name);
            if !needed {
                coming.fetch.abort();
            }
            needed
        });
    }

    async fn is_needed(&self) -> bool {
        let data = self.job.data.clone();
        let run = blocking(move || data.run()).await;
        self.last_heard.elapsed() < self.job.bounds.idle && run.is_ok_and(|run| run == self.run)
    }

    /// Tells the calls that wait for what has moved. If one has gone, it fetches the file itself: the link is left to it.
    fn report_progress(&mut self) {
        let mut is_left = false;
        for coming in self.coming.values_mut() {
            let bytes = coming.progress.bytes();
            if bytes != coming.reported {
                coming.reported = bytes;
                let waited = coming.waiting.len();
                coming.waiting.retain(|call| call.try_write(&[COMING]).is_ok());
                is_left |= coming.waiting.len() < waited;
            }
        }
        if is_left {
            for name in self.coming.keys() {
                self.window.record_failure(*name);
            }
            self.cancel_unneeded();
        }
    }
}

/// Reads the line that a call sends.
async fn read_line(call: UnixStream) -> io::Result<(String, UnixStream)> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        call.readable().await?;
        let mut some = [0; LONGEST_LINE];
        match call.try_read(&mut some) {
            Ok(length) if length > 0 && line.len() + length <= LONGEST_LINE => {
                line.extend(some.iter().take(length));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
    let line = String::from_utf8(line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((line, call))
}

/// Fetches and verifies one segment.
async fn fetch(
    archive: Archive,
    system: SystemIdentifier,
    name: SegmentName,
    size: SegmentSize,
    spool: Spool,
    progress: Progress,
) -> Result<Verified, Error> {
    let name = WalName::Segment(name);
    let mut fetched = archive.fetch(system, name).await?;
    let _transfer = fetched.transfer.take();
    blocking(move || {
        let file = spool
            .unnamed_file()
            .map_err(|error| Error::new(ErrorKind::Local, "cannot write into the spool").because(error))?;
        let mut watched = Watched { file, progress };
        // A fetch has no limit of its own: each call decides how long it waits.
        let no_limit = TimeLimit::new(Instant::now(), Duration::MAX);
        let header = decode_verified(fetched, system, name, &no_limit, Threads::One, &mut watched)?;
        if header.original_size != size.bytes() {
            // The segment's own call reports the problem.
            return Err(Error::new(ErrorKind::Damaged, format!("{name} is not of {size}")));
        }
        Ok(Verified { file: watched.file, size: header.original_size, blake3: header.blake3 })
    })
    .await
}
