//! Taking neighbours along: the call for one file also archives those that the server will hand over next.
//!
//! The call answers for its own file alone. What it has done for others it notes in the spool, where their own calls
//! find it; what has failed is left to their own calls, which will say so, and what the [`Fence`] keeps out is left, too. It
//! never touches the server's marks.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::ancestors::{Parted, parted};
use super::earlier::Earlier;
use super::fence::Fence;
use super::marks::ready;
use super::neighbours::{Standing, neighbours};
use super::{Examined, PushReport, PushRequest, compress, examine, publish};
use crate::archive::{Archive, StoredFile};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::Encoded;
use crate::limit::TimeLimit;
use crate::spool::{FileIdentity, Moment, Spool};
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

impl TakenAlong {
    /// Adds the line that `-v` shows, if anything was.
    pub fn log(&self) {
        if self.files > 0 {
            tracing::debug!(files = self.files, size = self.bytes, stored = self.stored, "taken along");
        }
    }
}

/// What became of the file that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is new in the archive.
    New,
    /// The archive had it already. It may have others, which need not be the same.
    There,
    /// It is unacceptable.
    Unacceptable,
    /// The archive has another one of that name, which is its own, or, of a history file, that of an ancestor's segment.
    Conflict(WalName),
}

/// Archives the neighbours of the file that `asked` was about, within all bounds, and notes each in the spool; if that file has
/// failed, those that the fence lets through. Ends early on `stop`.
pub(super) async fn take_along(
    archive: &Archive,
    asked: &PushRequest,
    fate: Fate,
    (spool, bounds): (&Spool, &LookAhead),
    limit: &TimeLimit,
    stop: &CancellationToken,
) -> TakenAlong {
    let begun = Instant::now();
    let Some(directory) = asked.path.parent() else { return TakenAlong::default() };
    let choosing = {
        let (asked, at_most, spool) = (asked.clone(), bounds.files, spool.clone());
        blocking(move || choose(&asked, fate, at_most, &spool))
    };
    let (names, fence) = choosing.await;
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
        let fence = &fence;
        async move { (name, push_neighbour(archive, request, spool, fence, limit, room).await) }
    };
    let dividing = by_what_hangs_on_them(archive, fate, spool, names, &fence, at_once);
    let Some(groups) = stop.run_until_cancelled(dividing).await else { return TakenAlong::default() };
    let [there, histories, rest] = groups;
    let pushing = |names, at_once| {
        stream::iter(names)
            .take_while(|_| std::future::ready(room.is_open()))
            .map(neighbour)
            .buffer_unordered(at_once)
    };
    let pushes = pushing(there, at_once).chain(pushing(histories, 1)).chain(pushing(rest, at_once));
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
                match error.kind() {
                    // Of an archive that is away, the others would say the same. One bad file is no reason to stop.
                    ErrorKind::Unavailable | ErrorKind::Refused => room.ended.store(true, Ordering::Relaxed),
                    ErrorKind::Conflict => fence.raise(name),
                    // What else a history file fails of, nothing of its timeline goes before it.
                    _ if matches!(name, WalName::History(_)) => fence.raise(name),
                    _ => {}
                }
            }
        }
    }
    taken
}

/// Which neighbours are to be looked at, and the fence, which is raised if the file that was asked for is in conflict, or a history
/// file that is unacceptable.
fn choose(asked: &PushRequest, fate: Fate, at_most: usize, spool: &Spool) -> (Vec<WalName>, Fence) {
    spool.forget_old(SystemTime::now());
    let ready = ready(&asked.path);
    let wal = asked.path.parent().unwrap_or(Path::new(""));
    let fence = Fence::among(&ready, wal);
    match fate {
        Fate::Conflict(name) => fence.raise(name),
        Fate::Unacceptable if matches!(asked.name, WalName::History(_)) => fence.raise(asked.name),
        Fate::New | Fate::There | Fate::Unacceptable => {}
    }
    let now = Moment::now();
    let standing = |name: WalName| {
        if fence.keeps_out(name) {
            return Standing::Left;
        }
        let note =
            identity(&wal.join(name.to_string())).ok().and_then(|file| spool.acknowledgement(name, &file));
        match note {
            Some(note) if note.is_young(&now) => Standing::Left,
            Some(_) => Standing::Noted,
            None => Standing::Due,
        }
    };
    (neighbours(ready, asked.name, at_most, standing), fence)
}

/// The neighbours in three groups, each of which is begun when the one before it is done, so that what a conflict keeps out is not
/// on its way when that is found: what the archive may have already, which is only compared; history files, which go one by one;
/// the rest.
///
/// A directory is always asked for names. A store, for which that would be a request each, only if the file that was asked for was
/// there already: then others may be. What is new to it otherwise goes in as it comes. What cannot be told may be in conflict: it is
/// left, and raises the fence.
async fn by_what_hangs_on_them(
    archive: &Archive,
    fate: Fate,
    spool: &Spool,
    names: Vec<WalName>,
    fence: &Fence,
    at_once: usize,
) -> [Vec<WalName>; 3] {
    let system = spool.system();
    let asking = |name: WalName| async move {
        let is_there = match fate {
            _ if !archive.is_remote() => archive.is_taken(system, name).await,
            Fate::There | Fate::Conflict(_) => archive.holds(system, name).await,
            Fate::New | Fate::Unacceptable => Ok(false),
        };
        (name, is_there)
    };
    let told: Vec<(WalName, Result<bool, Error>)> =
        stream::iter(names).map(asking).buffered(at_once).collect().await;
    let mut groups = [Vec::new(), Vec::new(), Vec::new()];
    let [there, histories, rest] = &mut groups;
    for (name, is_there) in told {
        match (is_there, name) {
            (Ok(true), _) => there.push(name),
            (Ok(false), WalName::History(_)) => histories.push(name),
            (Ok(false), _) => rest.push(name),
            (Err(error), _) => {
                tracing::debug!("left {name} to its own call: {}", error.report());
                fence.raise(name);
            }
        }
    }
    groups
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

/// A neighbour that is to be archived, and which very file it is.
pub(super) struct Neighbour {
    pub(super) request: PushRequest,
    identity: FileIdentity,
    pub(super) examined: Examined,
}

/// Archives one neighbour and notes it; `None` when that has been done before, is not to be done, or cannot be begun in time.
async fn push_neighbour(
    archive: &Archive,
    request: PushRequest,
    spool: &Spool,
    fence: &Fence,
    limit: &TimeLimit,
    room: &Room<'_>,
) -> Result<Option<PushReport>, Error> {
    let (name, path) = (request.name, request.path.clone());
    if fence.keeps_out(name) {
        return Ok(None);
    }
    let earlier = earlier(archive, &path, name, spool).await?;
    if earlier == Earlier::Archived {
        return Ok(None);
    }
    let looking = {
        let limit = limit.clone();
        blocking(move || look_at(request, &limit))
    };
    let Neighbour { request, identity, examined } = looking.await?;
    let system = examined.facts.system;
    if let Some(Parted { segment, error }) = parted(archive, system, &request, limit).await? {
        fence.raise(segment);
        return Err(error);
    }
    // Until it is archived.
    let Some(_memory) = room.memory_for(examined.size).await else { return Ok(None) };
    let compressing = async {
        // Never closed.
        let _core = room.cores.acquire().await;
        blocking(move || compress(examined, &request)).await
    };
    let (taken, compressed) = tokio::join!(archive.is_taken(system, name), compressing);
    let Encoded { header, content } = compressed?;
    let stored_size = content.size();
    // Others have been at work meanwhile.
    if fence.keeps_out(name) {
        return Ok(None);
    }
    let created = publish(archive, taken?, &header, content, &path).await?;
    earlier.warn(name, created);
    note(spool, name, identity, StoredFile { bytes: stored_size, blake3: header.blake3 }).await;
    Ok(Some(PushReport { header, stored_size, created, along: TakenAlong::default() }))
}

/// What earlier calls have done about the file. That it is still archived is noted anew if the archive was asked.
async fn earlier(archive: &Archive, path: &Path, name: WalName, spool: &Spool) -> Result<Earlier, Error> {
    let looking = {
        let (path, spool) = (path.to_owned(), spool.clone());
        blocking(move || identity(&path).map(|identity| (spool.acknowledgement(name, &identity), identity)))
    };
    let (Some(found), identity) = looking.await? else { return Ok(Earlier::Unknown) };
    if found.is_young(&Moment::now()) {
        return Ok(Earlier::Archived);
    }
    let held = archive.still_holds(spool.system(), name, found.stored).await?;
    if held {
        note(spool, name, identity, found.stored).await;
    }
    Ok(Earlier::told(name, Ok(held)))
}

/// Notes that a file is archived. A note about a file that has changed since is worth nothing, and does no harm.
async fn note(spool: &Spool, name: WalName, file: FileIdentity, stored: StoredFile) {
    let spool = spool.clone();
    let noting = blocking(move || spool.acknowledge(name, &file, stored, Moment::now()));
    if let Err(error) = noting.await {
        tracing::debug!("cannot note in the spool that {name} is archived: {error}");
    }
}

/// Checks a neighbour.
pub(super) fn look_at(request: PushRequest, limit: &TimeLimit) -> Result<Neighbour, Error> {
    let identity = identity(&request.path)?;
    let request = PushRequest { threads: NonZeroUsize::MIN, ..request };
    let examined = examine(&request, limit)?;
    Ok(Neighbour { request, identity, examined })
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
