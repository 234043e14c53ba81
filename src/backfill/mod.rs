//! Archiving of complete files in `pg_wal` that the archive lacks, whatever their `.done` files say.
//!
//! After a failover these are the segments that the failed primary had streamed but not archived: the standby marked
//! them `.done`, so no server archives them. They are checked like in every push, made durable, and never replace a
//! file. The server and its archiver may be running.

mod decision;
mod forks;
mod look;
mod same;
mod session;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, Created, TextFiles};
use crate::blocking::blocking;
use crate::catalog::Reading;
use crate::cluster::Caller;
use crate::error::{Error, ErrorKind};
use crate::frame::{Codec, HostName};
use crate::limit::TimeLimit;
use crate::push::{Fence, PushRequest, push_unchanged};
use crate::spool::{FileIdentity, OverflowDirectory};
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, TimelineId, WalName};

pub use decision::{Look, Reason};
use decision::{decide, in_order};
use forks::Forks;
use look::{PgWal, Seen};
use same::Both;
pub use session::{Means, backfill};

/// The server whose `pg_wal` is searched.
#[derive(Debug, Clone)]
pub struct BackfillRequest {
    /// Data directory of the server.
    pub data: PathBuf,
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Settings for reading the archive.
    pub reading: Reading,
}

/// Settings for archiving.
#[derive(Debug, Clone)]
pub struct Pushing {
    /// Compression.
    pub codec: Codec,
    /// Maximum number of threads to compress a file.
    pub threads: NonZeroUsize,
    /// Maximum number of files in progress.
    pub at_once: NonZeroUsize,
    /// Where to spill compressed data that is too large for memory.
    pub overflow: OverflowDirectory,
    /// Time limit per file, for a file of 16 MiB.
    pub patience: Duration,
    /// Host to record, if known.
    pub host: Option<HostName>,
}

/// Plan of a backfill.
#[derive(Debug)]
pub struct BackfillPlan {
    system: SystemIdentifier,
    wal: PgWal,
    fence: Fence,
    /// Files to archive, in order.
    pub goes: Vec<Missing>,
    /// Files to leave, with reasons.
    pub left: Vec<(WalName, Reason)>,
    /// Number of files that the archive already has, by name.
    pub held: usize,
}

/// A complete file that the archive lacks.
#[derive(Debug, Clone)]
pub struct Missing {
    /// Name of the file.
    pub name: WalName,
    /// Size in bytes.
    pub bytes: u64,
    identity: FileIdentity,
}

impl Missing {
    /// Returns the segment size, if the file is a segment.
    fn segment_size(&self) -> Option<SegmentSize> {
        self.name.segment().and_then(|_| SegmentSize::new(self.bytes).ok())
    }
}

/// Result of a backfill.
#[derive(Debug, Default)]
pub struct Backfilled {
    /// Archived files.
    pub archived: Vec<Missing>,
    /// Files left, with reasons.
    pub left: Vec<(WalName, Reason)>,
    /// Number of files that the archive already had, or received from elsewhere in the meantime.
    pub held: usize,
    /// Files that could not be archived.
    pub failed: Vec<(WalName, Error)>,
    /// Files that were not tried.
    pub untried: Vec<WalName>,
}

/// Searches `pg_wal` for files that the archive lacks. Changes nothing.
pub async fn plan(archive: &Archive, request: BackfillRequest) -> Result<BackfillPlan, Error> {
    let BackfillRequest { data, system, reading } = request;
    let wal = PgWal::of(&data, system);
    // Before the archive is listed, so that files archived and removed in between are found there.
    let (names, fence) = {
        let wal = wal.clone();
        blocking(move || {
            let mut names = wal.names()?;
            in_order(&mut names);
            let fence = Fence::among(&names, wal.directory());
            Ok((names, fence))
        })
        .await?
    };
    // The archive may have history files of timelines unknown here.
    let histories = WalName::History(TimelineId::FIRST);
    let archived = reading
        .retry(async || archive.held_among(system, names.iter().copied().chain([histories])).await)
        .await?;
    if archived.is_empty() {
        refuse_unknown(archive, system, reading).await?;
    }
    let in_wal: BTreeSet<WalName> = names.iter().copied().collect();
    let (held, missing): (Vec<WalName>, Vec<WalName>) =
        names.into_iter().partition(|name| archived.contains(name));
    let both = Both { archive, wal: &wal, system, reading };
    if missing.iter().any(|name| name.timeline() != TimelineId::FIRST) {
        both.compare_histories(&held, &fence).await?;
    }
    let mut plan = BackfillPlan {
        system,
        wal: wal.clone(),
        fence,
        goes: Vec::new(),
        left: Vec::new(),
        held: held.len(),
    };
    for name in missing {
        if plan.fence.keeps_out(name) {
            plan.left.push((name, Reason::Conflict));
            continue;
        }
        let seen = {
            let wal = wal.clone();
            blocking(move || wal.look(name)).await?
        };
        plan.add(archive, name, seen, reading).await?;
    }
    let segments = plan.goes.iter().filter_map(|file| file.name.segment());
    if let Some(oldest) = segments.map(SegmentName::timeline).min() {
        let forks = Forks::read(&both, oldest, &in_wal, &archived).await?;
        plan.leave(|file| forks.behind(file.name.segment()?, file.segment_size()?));
    }
    let unproven = both.compare_segments(&held, &archived, &plan.goes, &plan.fence).await?;
    plan.leave(|file| unproven.contains(&file.name).then_some(Reason::NothingInCommon));
    plan.leave_conflicts();
    Ok(plan)
}

impl BackfillPlan {
    /// Moves files for which `why` returns a reason to those left.
    fn leave(&mut self, why: impl Fn(&Missing) -> Option<Reason>) {
        for file in std::mem::take(&mut self.goes) {
            match why(&file) {
                Some(reason) => self.left.push((file.name, reason)),
                None => self.goes.push(file),
            }
        }
    }

    /// Moves excluded files to those left.
    fn leave_conflicts(&mut self) {
        let kept_out = self.goes.extract_if(.., |file| self.fence.keeps_out(file.name));
        self.left.extend(kept_out.map(|file| (file.name, Reason::Conflict)));
    }

    async fn add(
        &mut self,
        archive: &Archive,
        name: WalName,
        seen: Seen,
        reading: Reading,
    ) -> Result<(), Error> {
        match (decide(&seen.look), seen.file) {
            (Ok(()), Some((identity, bytes))) => self.goes.push(Missing { name, bytes, identity }),
            (Err(Reason::Gone), _) | (Ok(()), None) => {
                // Probably archived in the meantime.
                if reading.retry(async || archive.holds(self.system, name).await).await? {
                    self.held += 1;
                } else {
                    self.left.push((name, Reason::Gone));
                }
            }
            (Err(reason), _) => self.left.push((name, reason)),
        }
        Ok(())
    }

    /// Archives the planned files. Continues after the failure of one file, but not if the archive is unavailable.
    /// Calls `done` with each file that needs no more work.
    pub async fn carry_out(
        self,
        archive: &Archive,
        pushing: &Pushing,
        stop: &CancellationToken,
        mut done: impl FnMut(&Missing),
    ) -> Backfilled {
        let Self { system, wal, fence, goes, left, held } = self;
        let shared = Shared { archive, system, wal, pushing, stop, fence, ended: AtomicBool::new(false) };
        let mut outcome = Backfilled { left, held, ..Backfilled::default() };
        let shared = &shared;
        let pushes = futures_util::stream::iter(goes)
            .map(|file| async move { (shared.archive_one(&file).await, file) })
            .buffered(pushing.at_once.get());
        let mut pushes = std::pin::pin!(pushes);
        while let Some((what, file)) = pushes.next().await {
            match what {
                Became::Archived => {
                    done(&file);
                    outcome.archived.push(file);
                }
                Became::Held => {
                    done(&file);
                    outcome.held += 1;
                }
                Became::Left(reason) => outcome.left.push((file.name, reason)),
                Became::Failed(error) => outcome.failed.push((file.name, error)),
                Became::Untried => outcome.untried.push(file.name),
            }
        }
        outcome
    }
}

/// Result for one file.
enum Became {
    Archived,
    /// The archive has it from elsewhere.
    Held,
    Left(Reason),
    Failed(Error),
    Untried,
}

/// State shared by the files in progress.
struct Shared<'a> {
    archive: &'a Archive,
    system: SystemIdentifier,
    wal: PgWal,
    pushing: &'a Pushing,
    stop: &'a CancellationToken,
    fence: Fence,
    /// `true` if the archive is unavailable.
    ended: AtomicBool,
}

impl Shared<'_> {
    async fn archive_one(&self, file: &Missing) -> Became {
        if self.ended.load(Ordering::Relaxed) || self.stop.is_cancelled() {
            return Became::Untried;
        }
        if self.fence.keeps_out(file.name) {
            return Became::Left(Reason::Conflict);
        }
        let request = PushRequest {
            path: self.wal.path(file.name),
            caller: Caller::at(self.wal.path(file.name)),
            name: file.name,
            system: Some(self.system),
            codec: self.pushing.codec,
            threads: self.pushing.threads,
            overflow: self.pushing.overflow.clone(),
            now: Timestamp::now().round(jiff::Unit::Second).unwrap_or_else(|_| Timestamp::now()),
            host: self.pushing.host.clone(),
        };
        let limit = TimeLimit::new(Instant::now(), self.pushing.patience);
        let pushing = push_unchanged(self.archive, request, file.identity.clone(), &limit);
        // A publication into a directory finishes, because an interruption would leave a staging file.
        let pushed = if self.archive.is_store() {
            match self.stop.run_until_cancelled(pushing).await {
                Some(pushed) => pushed,
                None => return Became::Untried,
            }
        } else {
            pushing.await
        };
        match pushed {
            Ok(report) if report.created == Created::New => {
                let (size, stored) = (report.header.original_size, report.stored_size);
                tracing::debug!(name = %file.name, size, stored, "archived");
                Became::Archived
            }
            Ok(_) => Became::Held,
            Err(error) => self.failed(file, error).await,
        }
    }

    async fn failed(&self, file: &Missing, error: Error) -> Became {
        match error.kind() {
            ErrorKind::Conflict => self.fence.raise(file.name),
            ErrorKind::Unavailable | ErrorKind::Refused => self.ended.store(true, Ordering::Relaxed),
            // The server may have removed it, or reused it for new WAL after archiving it.
            ErrorKind::Local | ErrorKind::Unacceptable => {
                if self.archive.holds(self.system, file.name).await.unwrap_or(false) {
                    return Became::Held;
                }
                let path = self.wal.path(file.name);
                if blocking(move || matches!(path.try_exists(), Ok(false))).await {
                    return Became::Left(Reason::Gone);
                }
            }
            _ => {}
        }
        Became::Failed(error)
    }
}

/// Refuses an archive without any file of the cluster: files in the wrong archive are missing where they are needed.
async fn refuse_unknown(archive: &Archive, system: SystemIdentifier, reading: Reading) -> Result<(), Error> {
    let is_known = reading.retry(async || {
        Ok(archive.newest_segment(system).await?.is_some()
            || !archive.text_files(system, TextFiles::Histories).await?.is_empty())
    });
    if is_known.await? {
        return Ok(());
    }
    let instead = match archive.held().await.with(archive.names()) {
        nothing if nothing.is_empty() => String::new(),
        held => format!(", but {held}"),
    };
    let system = archive.names().shown(system);
    let what = format!("the archive {} holds no file of system {system}{instead}", archive.url());
    Err(Error::new(ErrorKind::Unavailable, what).hint(
        "is it mounted, and is it this cluster's archive? Into a new one, walkeep-archive puts the first file",
    ))
}
