//! Collection of the status with a few requests to the archive.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::forks::{Hole, Line, Parallel, QUEUE_OF_PROMOTED, WithoutHistory};
use super::left::Left;
use super::look::Look;
use super::{ArchiveStatus, Backlog, Beside, Chore, backlog, standby};
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::catalog::{Reading, Sizes, Texts, backups_elsewhere, concerns_one_file, known_backups, texts};
use crate::cluster::DataDirectory;
use crate::coverage::{BaseBackup, Chain};
use crate::error::{Error, ErrorKind};
use crate::reports::{PruneReport, VerifyReport};
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId, WalName};

/// Asks the archive. Fails if it contains nothing of the cluster.
pub(super) async fn ask(
    archive: &Archive,
    system: SystemIdentifier,
    beside: Beside,
    reading: Reading,
) -> Result<ArchiveStatus, Error> {
    match ask_if_any(archive, system, beside, reading).await? {
        Some(status) => Ok(status),
        None => Err(archive.holds_nothing_of(system, ErrorKind::Unavailable).await),
    }
}

/// Asks the archive; `None` if it contains nothing of the cluster.
pub async fn ask_if_any(
    archive: &Archive,
    system: SystemIdentifier,
    beside: Beside,
    reading: Reading,
) -> Result<Option<ArchiveStatus>, Error> {
    let mut look = Look::begin(archive, system, reading).await?;
    let newest = look.newest();
    let Texts { histories, backups, unreadable, .. } = texts(archive, system, reading).await?;
    if newest.is_empty() && histories.is_empty() && backups.is_empty() && unreadable.is_empty() {
        return Ok(None);
    }
    for link in archive.links(system).await {
        tracing::warn!("{}/{} is a symbolic link; {}", archive.url(), link.key, link.advice());
    }
    let mut unreadable: Vec<String> =
        unreadable.iter().map(|(name, error)| format!("{name}: {}", error.report())).collect();
    let prune = report(archive, reading, async || PruneReport::read(archive, system).await).await;
    let mut not_known = Vec::new();
    not_known.extend(prune.is_err().then_some(Chore::Prune));
    let prune = readable(prune, &mut unreadable);
    let verify = report(archive, reading, async || VerifyReport::read(archive, system).await).await;
    not_known.extend(verify.is_err().then_some(Chore::Verify));
    let verify = readable(verify, &mut unreadable);
    let Beside { data, backup_directories, labels, next } = beside;
    let size = match data.clone().and_then(|data| data.segment_size()) {
        Some(size) => Some(size),
        None => look.segment_size().await?,
    };
    // Without segments, their size does not matter.
    let size = size.or(newest.is_empty().then_some(SegmentSize::DEFAULT));
    let elsewhere = match size {
        Some(size) if !backup_directories.is_empty() => {
            let found = blocking(move || backups_elsewhere(&backup_directories, system, size)).await;
            found.unwrap_or_else(|error| {
                unreadable.push(error.report());
                Vec::new()
            })
        }
        _ => Vec::new(),
    };
    let sizes = Sizes::only(size.unwrap_or(SegmentSize::DEFAULT));
    let known = known_backups(&backups, &elsewhere, &labels, &sizes);
    let backups: Vec<BaseBackup> = known.iter().filter(|backup| backup.counts).cloned().collect();
    let before_next = match next {
        Some(next) => archived_before(&mut look, next).await?,
        None => None,
    };
    let (oldest_backup, newest_backup, gone) = usable(&look, &backups).await?;
    let together = [&oldest_backup, &newest_backup]
        .map(|backup| backup.as_ref().and_then(|backup| Chain::below(backup, &known.iter()).together()));
    let mut status = ArchiveStatus {
        newest,
        together,
        before_next,
        oldest_backup,
        newest_backup,
        backups: (backups.len(), gone),
        prune,
        verify,
        not_known,
        unreadable,
        ..ArchiveStatus::default()
    };
    if let Some(size) = size {
        let oldest = look.oldest().await?;
        if let (Some(line), Some(oldest)) = (Line::of(&histories, size), oldest) {
            status.holes = holes(&mut look, &line, size, &backups, oldest).await?;
            status.parallel = parallel(&look, &line, size).await?;
        }
        if let Some(data) = data.clone() {
            status.standby =
                standby::needs(&mut look, data, size, &histories, &status.newest, oldest).await?;
        }
    }
    if let Some(data) = data {
        let left = left_behind(data.clone(), &histories).await;
        let is_shown =
            |left: &Left| status.parallel.iter().any(|other| other.newest.timeline() == left.timeline);
        status.left = left.filter(|left| !is_shown(left));
        status.without_history = without_history(&look, data.clone(), &histories).await?;
        // After the archive was asked: files archived in the meantime have not waited for long.
        let newest = status.newest.clone();
        status.unarchived = blocking(move || backlog::unarchived(&data, system, &newest)).await;
    }
    Ok(Some(status))
}

/// Returns the time when the archive got the last of the segments of the same timeline that the server archives before `next`.
/// What look-ahead has archived comes after it.
async fn archived_before(look: &mut Look<'_>, next: WalName) -> Result<Option<Timestamp>, Error> {
    let (WalName::Segment(segment) | WalName::Partial(segment) | WalName::Backup { segment, .. }) = next
    else {
        return Ok(None);
    };
    let mut archived = look.group(&segment.group()).await?;
    archived.extend(look.newest());
    let comes_before = |name: WalName| {
        name.segment().is_some_and(|name| name.timeline() == segment.timeline())
            && name.archiving_order() < next.archiving_order()
    };
    Ok(archived.iter().filter(|file| comes_before(file.name.wal())).map(|file| file.since).max())
}

/// Returns the fork by which another server has left the one behind whose data directory this is. One that is in recovery or was
/// stopped writes nothing.
async fn left_behind(data: DataDirectory, histories: &BTreeMap<TimelineId, TimelineHistory>) -> Option<Left> {
    let (timeline, at) = blocking(move || data.written_up_to()).await?;
    Left::find(timeline, at, histories)
}

/// Returns the server's timeline if its history file is neither archived nor waiting to be.
async fn without_history(
    look: &Look<'_>,
    data: DataDirectory,
    histories: &BTreeMap<TimelineId, TimelineHistory>,
) -> Result<Option<WithoutHistory>, Error> {
    let found = blocking(move || {
        let timeline = data.timeline().filter(|timeline| *timeline > TimelineId::FIRST)?;
        let waits = Backlog::is_marked(&data, WalName::History(timeline));
        Some(timeline).filter(|_| !waits)
    });
    let Some(timeline) = found.await.filter(|timeline| !histories.contains_key(timeline)) else {
        return Ok(None);
    };
    // An unreadable history file exists, and so may one that waited a moment ago.
    let held = look.holds(WalName::History(timeline)).await?;
    Ok((!held).then_some(WithoutHistory(timeline)))
}

/// Reads a report. A directory is asked once: what denies a report today denies it in a second, too.
async fn report<T>(
    archive: &Archive,
    reading: Reading,
    read: impl AsyncFn() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    if archive.is_store() { reading.retry(read).await } else { read().await }
}

/// Returns a report, if any. Nothing depends on one, so whatever keeps it from being read is added to `unreadable`, once.
fn readable<T>(report: Result<Option<T>, Error>, unreadable: &mut Vec<String>) -> Option<T> {
    report.unwrap_or_else(|error| {
        let is_first = unreadable.is_empty() || concerns_one_file(error.kind());
        unreadable.extend(is_first.then(|| error.report()));
        None
    })
}

/// Returns the oldest and the newest base backup whose first segment exists, and the number of older ones without
/// theirs.
async fn usable(
    look: &Look<'_>,
    backups: &[BaseBackup],
) -> Result<(Option<BaseBackup>, Option<BaseBackup>, usize), Error> {
    for (gone, oldest) in backups.iter().enumerate() {
        if look.holds(WalName::Segment(oldest.start())).await? {
            let mut newest = oldest;
            for backup in backups.iter().skip(gone + 1).rev() {
                if look.holds(WalName::Segment(backup.start())).await? {
                    newest = backup;
                    break;
                }
            }
            return Ok((Some(oldest.clone()), Some(newest.clone()), gone));
        }
    }
    Ok((None, None, backups.len()))
}

/// Returns the holes on the path to the newest timeline that affect a recovery.
async fn holes(
    look: &mut Look<'_>,
    line: &Line,
    size: SegmentSize,
    backups: &[BaseBackup],
    oldest: SegmentName,
) -> Result<Vec<Hole>, Error> {
    let newest: Vec<SegmentName> = look.newest().iter().filter_map(|file| file.name.segment()).collect();
    let mut holes = Vec::new();
    for ancestor in &line.ancestors {
        let Some(last) = ancestor.last(size).filter(|last| last.order() >= oldest.order()) else { continue };
        let neighbours = look.group(&last.group()).await?;
        let neighbours: Vec<SegmentName> = neighbours.iter().filter_map(|file| file.name.segment()).collect();
        let newest = newest.iter().find(|segment| segment.timeline() == ancestor.timeline).copied();
        let hole = ancestor.hole(size, &neighbours, newest, oldest);
        holes.extend(hole.and_then(|hole| line.matters(hole, backups, oldest)));
    }
    Ok(holes)
}

/// Returns the timelines whose newest segment was written after the timeline that follows them had begun.
async fn parallel(look: &Look<'_>, line: &Line, size: SegmentSize) -> Result<Vec<Parallel>, Error> {
    let mut parallel = Vec::new();
    for file in look.newest() {
        let Some(newest) = file.name.segment() else { continue };
        let Some((beside, left_at)) = line.beside(newest, size) else { continue };
        let Some(header) = look.header(WalName::Segment(newest)).await? else { continue };
        if begun(look, line, beside, size).await?.is_some_and(|begun| header.archived_at > begun) {
            parallel.push(Parallel { newest, archived_at: header.archived_at, beside, left_at });
        }
    }
    Ok(parallel)
}

/// Returns the time by which a server promoted to that timeline had archived its backlog of the previous one: it
/// archives its own first segment afterwards. Uses headers, because copies lose the times of files.
async fn begun(
    look: &Look<'_>,
    line: &Line,
    timeline: TimelineId,
    size: SegmentSize,
) -> Result<Option<Timestamp>, Error> {
    if let Some(first) = line.first_of(timeline, size)
        && let Some(header) = look.header(WalName::Segment(first)).await?
    {
        return Ok(Some(header.archived_at));
    }
    let history = look.header(WalName::History(timeline)).await?;
    Ok(history.map(|header| header.archived_at + QUEUE_OF_PROMOTED))
}
