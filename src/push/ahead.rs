//! Look-ahead: the call for one file also archives the files that the server will pass next.
//!
//! The call's result depends only on its own file. It records the other files in the spool, where their own calls
//! find them. Those calls also archive the files that failed here, or that the [`Fence`] excludes, and report failures.
//! The server's `.ready` files are never touched.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::ancestors::{Parted, parted};
use super::earlier::Earlier;
use super::fence::Fence;
use super::interrupted::TakingAlong;
use super::marks::ready;
use super::memory::affordable;
use super::neighbours::{Standing, neighbours};
use super::pace::Pace;
use super::{Examined, MOST_IN_MEMORY, PushReport, PushRequest, compress, examine, publish};
use crate::archive::{Archive, Created, StoredFile};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::Encoded;
use crate::limit::TimeLimit;
use crate::spool::{FileIdentity, Moment, Spool};
use crate::wal::WalName;

/// Limits of the look-ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookAhead {
    /// Maximum number of additional files; 0 turns the look-ahead off.
    pub files: usize,
    /// Time after which no further file is started.
    pub time: Duration,
    /// Total uncompressed size of files in progress, in bytes. One file is always allowed.
    pub memory: u64,
    /// Maximum number of concurrent requests to a store.
    pub connections: NonZeroUsize,
}

/// Time for publications in progress to finish after `stop`. Shorter than the time left to the call, which must still
/// report that its own file is archived.
const PUBLISHING: Duration = Duration::from_secs(1);

/// Totals of the additional files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenAlong {
    /// Number of files.
    pub files: u64,
    /// Uncompressed size in bytes.
    pub bytes: u64,
    /// Size in the archive, in bytes.
    pub stored: u64,
}

impl TakenAlong {
    fn add(&mut self, report: &PushReport) {
        self.files += 1;
        self.bytes += report.header.original_size;
        self.stored += report.stored_size;
    }

    /// Logs the totals for `-v`, if any file was archived.
    pub fn log(&self) {
        if self.files > 0 {
            tracing::debug!(files = self.files, size = self.bytes, stored = self.stored, "taken along");
        }
    }
}

/// Result for the requested file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was archived.
    New,
    /// The archive already had it. It may have others of the files to come, in whatever version.
    There,
    /// It is unacceptable.
    Unacceptable,
    /// The archive has a different file under this name: its own, or, for a history file, that of an ancestor's
    /// segment.
    Conflict(WalName),
}

/// Archives the files that follow the requested one, within all limits, and records each in the spool. If the
/// requested file failed, archives those that are not excluded. Ends early on `stop`.
pub(super) async fn take_along(
    archive: &Archive,
    asked: &PushRequest,
    fate: Fate,
    (spool, bounds): (&Spool, &LookAhead),
    limit: &TimeLimit,
    stop: &CancellationToken,
) -> TakenAlong {
    let begun = Instant::now();
    limit.own_file_is_done();
    // Its transfer took more than the limit. Nothing may come between it and the success.
    if limit.left().is_zero() {
        return TakenAlong::default();
    }
    let Some(directory) = asked.path.parent() else { return TakenAlong::default() };
    let choosing = {
        let (asked, at_most, spool) = (asked.clone(), bounds.files, spool.clone());
        blocking(move || {
            let (names, fence) = choose(&asked, fate, at_most, &spool);
            if names.is_empty() {
                return None;
            }
            let mark = TakingAlong::begin(&spool).map(|mark| (mark, affordable().unwrap_or(u64::MAX)));
            Some((names, fence, mark))
        })
    };
    let Some((names, fence, mark)) = choosing.await else { return TakenAlong::default() };
    let Some((_mark, affordable)) = mark else {
        tracing::warn!(
            "a call was killed while it archived other files with its own, perhaps for its memory; this one archives its own only"
        );
        return TakenAlong::default();
    };
    // Leaves time for one more file, so that the time limit never cuts off the result.
    let deadline = begun + bounds.time.min(limit.left() / 2);
    let pace = archive.is_store().then(|| Pace::new(limit.pace(), begun + limit.left() * 3 / 4));
    let resources =
        Resources { pace, ..Resources::new(asked.threads, bounds.memory, affordable, deadline, stop) };
    let at_once = at_once(archive, asked, bounds);
    let neighbour = |name: WalName| {
        let request = PushRequest { path: directory.join(name.to_string()), name, ..asked.clone() };
        let resources = &resources;
        let fence = &fence;
        async move { (name, push_neighbour(archive, request, spool, fence, limit, resources).await) }
    };
    let dividing = divide(archive, fate, spool, names, &fence, at_once);
    let Some(groups) = stop.run_until_cancelled(dividing).await else { return TakenAlong::default() };
    let [there, histories, rest] = groups;
    let pushing = |names, at_once| {
        stream::iter(names)
            .take_while(|_| std::future::ready(resources.is_open()))
            .map(neighbour)
            .buffer_unordered(at_once)
    };
    let pushes = pushing(there, at_once).chain(pushing(histories, 1)).chain(pushing(rest, at_once));
    // A publication into a directory may finish if it does so soon. A store never keeps half a file.
    let cut_off = async {
        stop.cancelled().await;
        if !archive.is_store() {
            tokio::time::sleep(PUBLISHING).await;
        }
    };
    add_up(pushes, cut_off, |name, error| leave_to_own_call(name, &error, &fence, &resources)).await
}

/// Adds up the archived files until all are done, or until `cut_off`. Passes failures on to `failed`.
async fn add_up(
    pushes: impl Stream<Item = (WalName, Result<Option<PushReport>, Error>)>,
    cut_off: impl Future<Output = ()>,
    failed: impl Fn(WalName, Error),
) -> TakenAlong {
    let (mut pushes, mut cut_off) = (std::pin::pin!(pushes), std::pin::pin!(cut_off));
    let mut taken = TakenAlong::default();
    loop {
        let next = tokio::select! {
            biased;
            () = &mut cut_off => break,
            next = pushes.next() => next,
        };
        match next {
            None => break,
            Some((_, Ok(None))) => {}
            Some((_, Ok(Some(report)))) => taken.add(&report),
            Some((name, Err(error))) => failed(name, error),
        }
    }
    taken
}

/// Handles the failure of one file: excludes files that must not be archived before it, or ends the look-ahead.
fn leave_to_own_call(name: WalName, error: &Error, fence: &Fence, resources: &Resources<'_>) {
    tracing::debug!("left {name} to its own call: {}", error.report());
    match error.kind() {
        // An unavailable archive fails for all files. One bad file is no reason to stop.
        ErrorKind::Unavailable | ErrorKind::Refused => resources.ended.store(true, Ordering::Relaxed),
        ErrorKind::Conflict => fence.raise(name),
        // Whatever the failure of a history file, nothing of its timeline is archived before it.
        _ if matches!(name, WalName::History(_)) => fence.raise(name),
        _ => {}
    }
}

/// Selects the files to look at, and creates the fence. It is raised if the requested file is in conflict, or an
/// unacceptable history file.
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

/// Divides the files into three groups, which are archived one after the other: files that the archive may already
/// have, which are only compared; history files, one by one; the rest. So no file excluded by a conflict is in progress
/// when the conflict is found.
///
/// A directory is always searched for the names. In a store, each name takes a request, so it is searched only if it
/// already had the requested file: then it may have others. A file whose state is unknown may be in conflict, so it is
/// left out and excludes its timeline.
async fn divide(
    archive: &Archive,
    fate: Fate,
    spool: &Spool,
    names: Vec<WalName>,
    fence: &Fence,
    at_once: usize,
) -> [Vec<WalName>; 3] {
    let system = spool.system();
    let lookup = |name: WalName| async move {
        let is_there = match fate {
            _ if !archive.is_store() => archive.is_known_taken(system, name).await,
            Fate::There | Fate::Conflict(_) => archive.holds(system, name).await,
            Fate::New | Fate::Unacceptable => Ok(false),
        };
        (name, is_there)
    };
    let answers: Vec<(WalName, Result<bool, Error>)> =
        stream::iter(names).map(lookup).buffered(at_once).collect().await;
    let mut groups = [Vec::new(), Vec::new(), Vec::new()];
    let [there, histories, rest] = &mut groups;
    for (name, is_there) in answers {
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

/// Returns the maximum number of files in progress, given enough memory. For a store, it is the number of connections.
/// For a directory, it is twice the number of cores, because half of the files wait for the disk while the others are
/// compressed.
fn at_once(archive: &Archive, asked: &PushRequest, bounds: &LookAhead) -> usize {
    if archive.is_store() { bounds.connections.get() } else { asked.threads.get() * 2 }
}

/// Resources shared by the files in progress, and their limits.
struct Resources<'a> {
    cores: Semaphore,
    /// Free memory in MiB.
    memory: Semaphore,
    most_memory: u16,
    /// Number of bytes that a single file may take.
    affordable: u64,
    /// Pace of the link to a store; `None` for a directory.
    pace: Option<Pace>,
    deadline: Instant,
    ended: AtomicBool,
    stop: &'a CancellationToken,
}

impl<'a> Resources<'a> {
    fn new(
        cores: NonZeroUsize,
        memory: u64,
        affordable: u64,
        deadline: Instant,
        stop: &'a CancellationToken,
    ) -> Self {
        let most_memory = u16::try_from(memory.min(affordable) >> 20).unwrap_or(u16::MAX).max(1);
        let (cores, memory) = (Semaphore::new(cores.get()), Semaphore::new(most_memory.into()));
        Self {
            cores,
            memory,
            most_memory,
            affordable,
            pace: None,
            deadline,
            ended: AtomicBool::new(false),
            stop,
        }
    }

    /// Returns `true` if another file may be started.
    fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Relaxed) && !self.stop.is_cancelled() && Instant::now() < self.deadline
    }

    /// Waits for memory for a file of that size. Returns `None` if it is too late to start by then. A file larger than
    /// the limit gets all of the memory, and one that the machine has no memory for gets none.
    async fn memory_for(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        if bytes.min(MOST_IN_MEMORY) > self.affordable {
            return None;
        }
        let wanted = u16::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u16::MAX).min(self.most_memory);
        let memory = self.memory.acquire_many(wanted.into()).await.ok();
        memory.filter(|_| self.is_open())
    }
}

/// A file to archive, with its identity.
pub(super) struct Neighbour {
    pub(super) request: PushRequest,
    identity: FileIdentity,
    pub(super) examined: Examined,
}

/// Archives one file and records it; `None` if that was done before, must not be done, or cannot start in time.
async fn push_neighbour(
    archive: &Archive,
    request: PushRequest,
    spool: &Spool,
    fence: &Fence,
    limit: &TimeLimit,
    resources: &Resources<'_>,
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
        blocking(move || examine_neighbour(request, &limit))
    };
    let Neighbour { request, identity, examined } = looking.await?;
    let system = examined.fields.system;
    if let Some(Parted { segment, error }) = parted(archive, system, &request, limit).await? {
        fence.raise(segment);
        return Err(error);
    }
    // Held until the file is archived.
    let Some(_memory) = resources.memory_for(examined.size).await else { return Ok(None) };
    let compressing = async {
        // The semaphore is never closed.
        let _core = resources.cores.acquire().await;
        blocking(move || compress(examined, &request)).await
    };
    let (taken, compressed) = tokio::join!(archive.is_known_taken(system, name), compressing);
    let Encoded { header, content } = compressed?;
    let stored_size = content.size();
    let room = match &resources.pace {
        None => None,
        Some(pace) => match pace.room_for(stored_size).await {
            Some(room) => Some(room),
            None => {
                tracing::debug!("left {name} to its own call: the link is too slow to send it in time, too");
                // The next ones are hardly smaller, and would be compressed for nothing.
                resources.ended.store(true, Ordering::Relaxed);
                return Ok(None);
            }
        },
    };
    // Another file may have excluded the timeline in the meantime.
    if fence.keeps_out(name) {
        return Ok(None);
    }
    let created = publish(archive, taken?, &header, content, &path).await?;
    if let (Some(room), Created::New) = (room, created) {
        room.sent();
    }
    earlier.warn(name, created);
    note(spool, name, identity, StoredFile { bytes: stored_size, blake3: header.blake3 }).await;
    Ok(Some(PushReport { header, stored_size, created, along: TakenAlong::default() }))
}

/// Returns the result of earlier calls for the file. If the archive confirms that it still has the file, the note is
/// renewed.
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
    Ok(Earlier::of(name, Ok(held)))
}

/// Records that a file is archived. A note on a file that has changed since is ignored.
async fn note(spool: &Spool, name: WalName, file: FileIdentity, stored: StoredFile) {
    let spool = spool.clone();
    let noting = blocking(move || spool.acknowledge(name, &file, stored, Moment::now()));
    if let Err(error) = noting.await {
        tracing::debug!("cannot note in the spool that {name} is archived: {error}");
    }
}

/// Checks a file before it is archived.
pub(super) fn examine_neighbour(request: PushRequest, limit: &TimeLimit) -> Result<Neighbour, Error> {
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

    fn resources(memory: u64, stop: &CancellationToken) -> Resources<'_> {
        Resources::new(NonZeroUsize::MIN, memory, u64::MAX, Instant::now() + Duration::from_hours(1), stop)
    }

    #[test]
    fn files_get_memory_by_size_and_a_file_of_any_size_gets_some() {
        let stop = CancellationToken::new();
        run(async {
            let resources = resources(256 * MIB, &stop);
            let taken =
                [resources.memory_for(16 * MIB).await.unwrap(), resources.memory_for(1).await.unwrap()];
            assert_eq!(resources.memory.available_permits(), 256 - 17);
            drop(taken);
            let largest = resources.memory_for(1 << 30).await.unwrap();
            assert_eq!(resources.memory.available_permits(), 0, "one at a time");
            drop(largest);
        });
        for memory in [0, 1, MIB, u64::MAX] {
            let resources = resources(memory, &stop);
            assert!(run(resources.memory_for(1 << 30)).is_some(), "{memory}");
        }
    }

    #[test]
    fn a_file_that_the_machine_has_no_memory_for_is_not_started() {
        let stop = CancellationToken::new();
        let deadline = Instant::now() + Duration::from_hours(1);
        let resources =
            |affordable| Resources::new(NonZeroUsize::MIN, 256 * MIB, affordable, deadline, &stop);
        assert!(run(resources(16 * MIB).memory_for(16 * MIB)).is_some());
        assert!(run(resources(16 * MIB).memory_for(17 * MIB)).is_none());
        assert!(run(resources(65 * MIB).memory_for(1 << 30)).is_some(), "the rest is not in memory");
        assert_eq!(resources(40 * MIB).memory.available_permits(), 40);
    }

    #[test]
    fn a_file_that_waited_too_long_for_memory_is_not_started() {
        let stop = CancellationToken::new();
        run(async {
            let resources = resources(MIB, &stop);
            let taken = resources.memory_for(MIB).await.unwrap();
            let (waited, ()) = tokio::join!(resources.memory_for(MIB), async {
                resources.ended.store(true, Ordering::Relaxed);
                drop(taken);
            });
            assert!(waited.is_none());
            assert_eq!(resources.memory.available_permits(), 1);
        });
    }
}
