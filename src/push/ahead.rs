//! Taking neighbours along: the call for one file also archives those that the server will hand over next.
//!
//! The call answers for its own file alone. What it has done for others it notes in the spool, where their own calls
//! find it; what has failed is left to their own calls, which will say so. It never touches the server's marks.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::neighbours::{READY, neighbours};
use super::{Examined, PushReport, PushRequest, compress, examine, publish};
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::Encoded;
use crate::limit::TimeLimit;
use crate::spool::{FileIdentity, Spool};
use crate::wal::WalName;

/// How many neighbours, and how much of the machine, a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookAhead {
    /// Neighbours a call takes along at most; none with 0.
    pub files: usize,
    /// After so long no further one is begun.
    pub time: Duration,
    /// Bytes of files in work at a time, before compression; one file is in any case.
    pub memory: u64,
    /// Requests to a store at a time.
    pub connections: NonZeroUsize,
}

/// What publishing a file may take when the call is to end. Less than what the whole call is given, which must have time to
/// say that its own file is archived.
const PUBLISHING: Duration = Duration::from_secs(1);

/// What was taken along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenAlong {
    /// Files.
    pub files: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
    /// Their bytes in the archive.
    pub stored: u64,
}

/// Archives the neighbours of the file that `asked` has brought into the archive, within all bounds, and notes each in
/// the spool. Ends early on `stop`.
pub(super) async fn take_along(
    archive: &Archive,
    asked: &PushRequest,
    spool: &Spool,
    bounds: &LookAhead,
    limit: &TimeLimit,
    stop: &CancellationToken,
) -> TakenAlong {
    let begun = Instant::now();
    let Some(directory) = asked.path.parent() else { return TakenAlong::default() };
    let names = {
        let (directory, asked, at_most, spool) =
            (directory.to_owned(), asked.clone(), bounds.files, spool.clone());
        blocking(move || {
            spool.forget_old(SystemTime::now());
            neighbours(ready_files(&directory.join("archive_status")), asked.name, at_most)
        })
        .await
    };
    if names.is_empty() {
        return TakenAlong::default();
    }
    // No more than the time that is left after what a neighbour may need, so that the answer is not lost to the limit.
    let deadline = begun + bounds.time.min(limit.left() / 2);
    let room = Room::new(asked.threads, bounds.memory, deadline, stop);
    let at_once = at_once(archive, asked, bounds);
    let neighbour = |name: WalName| {
        let request = PushRequest { path: directory.join(name.to_string()), name, ..asked.clone() };
        let room = &room;
        async move { (name, push_neighbour(archive, request, spool, limit, room).await) }
    };
    let pushes = stream::iter(names)
        .take_while(|_| std::future::ready(room.is_open()))
        .map(neighbour)
        .buffer_unordered(at_once);
    let mut pushes = std::pin::pin!(pushes);
    let mut taken = TakenAlong::default();
    // Into a directory a file that is being published is let finish, if it does so soon; a store keeps no half of one.
    let cut = async {
        stop.cancelled().await;
        if !archive.is_remote() {
            tokio::time::sleep(PUBLISHING).await;
        }
    };
    let mut cut = std::pin::pin!(cut);
    loop {
        let next = tokio::select! {
            biased;
            () = &mut cut => break,
            next = pushes.next() => next,
        };
        match next {
            None => break,
            Some((_, Ok(None))) => {}
            Some((_, Ok(Some(report)))) => {
                taken.files += 1;
                taken.bytes += report.header.original_size;
                taken.stored += report.stored_size;
            }
            Some((name, Err(error))) => {
                tracing::debug!("left {name} to its own call: {}", error.report());
                // Of an archive that is away, the others would say the same. One bad file is no reason to stop.
                if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Refused) {
                    room.ended.store(true, Ordering::Relaxed);
                }
            }
        }
    }
    taken
}

/// How many neighbours may be in work at a time, where there is memory for them: into a store as many as there are
/// connections; into a directory twice as many as there are cores, because half of them wait for the disk while the others
/// are compressed.
fn at_once(archive: &Archive, asked: &PushRequest, bounds: &LookAhead) -> usize {
    if archive.is_remote() { bounds.connections.get() } else { asked.threads.get() * 2 }
}

/// What the neighbours share, and what bounds them.
struct Room<'a> {
    cores: Semaphore,
    /// In MiB.
    memory: Semaphore,
    most_memory: u16,
    deadline: Instant,
    ended: AtomicBool,
    stop: &'a CancellationToken,
}

impl<'a> Room<'a> {
    fn new(cores: NonZeroUsize, memory: u64, deadline: Instant, stop: &'a CancellationToken) -> Self {
        let most_memory = u16::try_from(memory >> 20).unwrap_or(u16::MAX).max(1);
        let (cores, memory) = (Semaphore::new(cores.get()), Semaphore::new(most_memory.into()));
        Self { cores, memory, most_memory, deadline, ended: AtomicBool::new(false), stop }
    }

    /// Whether a further neighbour may be begun.
    fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Relaxed) && !self.stop.is_cancelled() && Instant::now() < self.deadline
    }

    /// Waits until there is memory for a file of that size; `None` if by then it must not be begun any more. A file that
    /// would need more than there is gets all.
    async fn memory_for(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let wanted = u16::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u16::MAX).min(self.most_memory);
        let memory = self.memory.acquire_many(wanted.into()).await.ok();
        memory.filter(|_| self.is_open())
    }
}

/// How many files are ready to be archived beside the one at `path`, itself included if the server has marked it.
#[must_use]
pub fn backlog(path: &Path) -> usize {
    let Some(directory) = path.parent() else { return 0 };
    ready_files(&directory.join("archive_status"))
        .iter()
        .filter(|name| name.strip_suffix(READY).is_some())
        .count()
}

/// The names in a directory of marks; none where it cannot be read, as outside a data directory.
fn ready_files(status: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(status) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A neighbour that is to be archived, and which very file it is.
struct Neighbour {
    request: PushRequest,
    identity: FileIdentity,
    examined: Examined,
}

/// Archives one neighbour and notes it; `None` when that has been done before, or cannot be begun in time.
async fn push_neighbour(
    archive: &Archive,
    request: PushRequest,
    spool: &Spool,
    limit: &TimeLimit,
    room: &Room<'_>,
) -> Result<Option<PushReport>, Error> {
    let (name, path) = (request.name, request.path.clone());
    let looking = {
        let (spool, limit) = (spool.clone(), limit.clone());
        blocking(move || look_at(request, &spool, &limit))
    };
    let Some(Neighbour { request, identity, examined }) = looking.await? else { return Ok(None) };
    let system = examined.facts.system;
    // Until it is archived.
    let Some(_memory) = room.memory_for(examined.size).await else { return Ok(None) };
    let compressing = async {
        // Never closed.
        let _core = room.cores.acquire().await;
        blocking(move || compress_unchanged(examined, &request, identity)).await
    };
    let (taken, compressed) = tokio::join!(archive.is_taken(system, name), compressing);
    let (encoded, identity) = compressed?;
    let Encoded { header, content } = encoded;
    let stored_size = content.size();
    let created = publish(archive, taken?, &header, content, &path).await?;
    let spool = spool.clone();
    // An acknowledgement of a file that has changed since is worth nothing, and does no harm.
    if let Err(error) = blocking(move || spool.acknowledge(name, &identity)).await {
        tracing::debug!("cannot note in the spool that {name} is archived: {error}");
    }
    Ok(Some(PushReport { header, stored_size, created, along: TakenAlong::default() }))
}

/// Checks a neighbour, unless it has been archived before.
fn look_at(request: PushRequest, spool: &Spool, limit: &TimeLimit) -> Result<Option<Neighbour>, Error> {
    let identity = identity(&request.path)?;
    if spool.is_acknowledged(request.name, &identity) {
        return Ok(None);
    }
    let request = PushRequest { threads: NonZeroUsize::MIN, ..request };
    let examined = examine(&request, limit)?;
    Ok(Some(Neighbour { request, identity, examined }))
}

/// Compresses the file, and makes sure that it still is the very same: a call that the server no longer waits for may be
/// overtaken, others have archived the file, and the server has taken it for new WAL while it was read.
fn compress_unchanged(
    examined: Examined,
    request: &PushRequest,
    identity: FileIdentity,
) -> Result<(Encoded<File>, FileIdentity), Error> {
    let encoded = compress(examined, request)?;
    if self::identity(&request.path)? == identity {
        Ok((encoded, identity))
    } else {
        let what = format!("{} changed while it was read", request.path.display());
        Err(Error::new(ErrorKind::Local, what))
    }
}

fn identity(path: &Path) -> Result<FileIdentity, Error> {
    let found = std::fs::metadata(path).map_err(|error| {
        Error::new(ErrorKind::Local, format!("cannot look at {}", path.display())).because(error)
    })?;
    Ok(FileIdentity::from(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn room(memory: u64, stop: &CancellationToken) -> Room<'_> {
        Room::new(NonZeroUsize::MIN, memory, Instant::now() + Duration::from_hours(1), stop)
    }

    #[test]
    fn files_get_memory_by_their_sizes_and_one_of_any_size_gets_some() {
        let stop = CancellationToken::new();
        run(async {
            let room = room(256 * MIB, &stop);
            let taken = [room.memory_for(16 * MIB).await.unwrap(), room.memory_for(1).await.unwrap()];
            assert_eq!(room.memory.available_permits(), 256 - 17);
            drop(taken);
            let largest = room.memory_for(1 << 30).await.unwrap();
            assert_eq!(room.memory.available_permits(), 0, "one at a time");
            drop(largest);
        });
        for memory in [0, 1, MIB, u64::MAX] {
            let room = room(memory, &stop);
            assert!(run(room.memory_for(1 << 30)).is_some(), "{memory}");
        }
    }

    #[test]
    fn who_has_waited_for_memory_until_it_is_too_late_is_not_begun() {
        let stop = CancellationToken::new();
        run(async {
            let room = room(MIB, &stop);
            let taken = room.memory_for(MIB).await.unwrap();
            let (waited, ()) = tokio::join!(room.memory_for(MIB), async {
                room.ended.store(true, Ordering::Relaxed);
                drop(taken);
            });
            assert!(waited.is_none());
            assert_eq!(room.memory.available_permits(), 1);
        });
    }
}
