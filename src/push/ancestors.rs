//! Check of waiting segments of a timeline's ancestors before its history file is published.
//!
//! A server that has diverged from the archive, such as a clone, is blocked by its first segment that differs. Once
//! it is promoted, the history file of its new timeline is archived before that segment. It would send every recovery
//! to a timeline whose segments can never follow. Waiting segments of its ancestors that the archive also has must
//! therefore be the same. And if the archive has the first segment of the new timeline, which is archived after the
//! history file, that must be this server's.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::{StreamExt, stream};

use super::ahead::{Neighbour, examine_neighbour};
use super::conflict::{FIND_OUT, Held, compare, conflict_of_ancestor, same_bytes};
use super::marks::{mark, ready};
use super::{PushRequest, compress};
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::call::{retry, warning};
use crate::error::{Error, ErrorKind};
use crate::frame::{Codec, MAX_TEXT_BYTES};
use crate::limit::TimeLimit;
use crate::wal::{
    Ancestor, LONG_HEADER_BYTES, LongPageHeader, Lsn, SegmentName, SegmentSize, SystemIdentifier,
    TimelineHistory, WalName,
};
use crate::whole_file::{open_regular, open_with_metadata};

/// Number of names asked for at a time.
const AT_ONCE: usize = 16;

/// Maximum distance from the start of a timeline to the end of its first record's checksum: a record header, and
/// before or in it a page header. The record contains the time of the promotion, so it is unique, and it is flushed
/// before the archiver runs.
const FIRST_RECORD: u64 = 64;

/// A segment that differs in the archive, and the resulting error for the history file.
pub(super) struct Parted {
    pub(super) segment: WalName,
    pub(super) error: Error,
}

/// A waiting segment of an ancestor.
struct Waiting {
    segment: SegmentName,
    start: Lsn,
    /// Position at which its timeline was left. The rest of the segment belongs to nobody.
    left_at: Lsn,
}

/// Calls [`parted`], with retries within `limit` for a store.
pub(super) async fn parted_with_retries(
    archive: &Archive,
    system: SystemIdentifier,
    request: &PushRequest,
    limit: &TimeLimit,
) -> Result<Option<Parted>, Error> {
    if !archive.is_store() {
        return parted(archive, system, request, limit).await;
    }
    let waiting = warning(|| limit.left_as_text());
    retry(limit, waiting, async || parted(archive, system, request, limit).await).await
}

/// Returns a waiting segment of an ancestor that differs in the archive, or the first segment of the timeline itself
/// if it does. Checks history files only.
pub(super) async fn parted(
    archive: &Archive,
    system: SystemIdentifier,
    request: &PushRequest,
    limit: &TimeLimit,
) -> Result<Option<Parted>, Error> {
    if !matches!(request.name, WalName::History(_)) {
        return Ok(None);
    }
    let parted = match taken_by_another(archive, system, request).await? {
        Some(parted) => parted,
        None => match ancestor_parted(archive, system, request, limit).await? {
            Some(parted) => parted,
            None => return Ok(None),
        },
    };
    // A history file that exists is compared, and can do no further harm.
    Ok((!is_there(archive, system, request.name).await?).then_some(parted))
}

/// Compares at most two segments of each ancestor: the first that waits, which is the one that blocks a server, and
/// the last that the archive has. Each segment continues the previous one, so if the last is the same, all are.
async fn ancestor_parted(
    archive: &Archive,
    system: SystemIdentifier,
    request: &PushRequest,
    limit: &TimeLimit,
) -> Result<Option<Parted>, Error> {
    let ancestors = {
        let request = request.clone();
        blocking(move || waiting(&request)).await
    };
    // A backlog too large for this must not block the server forever.
    let deadline = Instant::now() + limit.left() / 2;
    for segments in ancestors {
        let asking = |(index, waiting): (usize, Waiting)| async move {
            (index, is_there(archive, system, WalName::Segment(waiting.segment)).await, waiting)
        };
        let asked = stream::iter(segments.into_iter().enumerate()).map(asking).buffered(AT_ONCE);
        let mut asked = std::pin::pin!(asked);
        while let Some((index, is_there, waiting)) = asked.next().await {
            if Instant::now() >= deadline {
                tracing::warn!(
                    "no time to compare all that waits of the ancestors of {} with the archive",
                    request.name
                );
                return Ok(None);
            }
            if !is_there? {
                continue;
            }
            let parted = differs(archive, system, request, &waiting, limit).await?;
            if parted.is_some() {
                return Ok(parted);
            }
            if index > 0 {
                break;
            }
        }
    }
    Ok(None)
}

/// Returns, for each ancestor, the ready segments with WAL of it: the first one, followed by the others, last first.
fn waiting(request: &PushRequest) -> Vec<Vec<Waiting>> {
    let path = &request.path;
    let Some(history) = history(request) else { return Vec::new() };
    let mut ready = ready(path);
    ready.sort_unstable();
    let of_ancestor = |ancestor: &Ancestor| {
        let waits = |name: &WalName| {
            let WalName::Segment(segment) = *name else { return None };
            if segment.timeline() != ancestor.timeline {
                return None;
            }
            let size = fs::metadata(beside(path, *name)).ok()?.len();
            let start = segment.start(SegmentSize::new(size).ok()?)?;
            (start < ancestor.left_at).then_some(Waiting { segment, start, left_at: ancestor.left_at })
        };
        let mut segments: Vec<Waiting> = ready.iter().filter_map(waits).collect();
        if let Some((_, rest)) = segments.split_first_mut() {
            rest.reverse();
        }
        segments
    };
    history.ancestors.iter().map(of_ancestor).filter(|segments| !segments.is_empty()).collect()
}

fn history(request: &PushRequest) -> Option<TimelineHistory> {
    let mut content = Vec::new();
    open_regular(&request.path).ok()?.take(MAX_TEXT_BYTES).read_to_end(&mut content).ok()?;
    TimelineHistory::parse(request.name.timeline(), &content).ok()
}

/// Returns `true` if the archive has the first segment of this timeline from another server that uses the same
/// number. Compares only its start, because this server may still be writing it.
async fn taken_by_another(
    archive: &Archive,
    system: SystemIdentifier,
    request: &PushRequest,
) -> Result<Option<Parted>, Error> {
    let looking = {
        let request = request.clone();
        blocking(move || first_segment(&request))
    };
    let Some(First { name, own_bytes }) = looking.await else { return Ok(None) };
    if !is_there(archive, system, name).await? {
        return Ok(None);
    }
    let path = beside(&request.path, name);
    let location = archive.location(system, name);
    let same = match own_bytes {
        Some(own) => same_bytes(archive, system, name, &path).await?.map(|same| same >= own),
        None => None,
    };
    match same {
        Some(true) => Ok(None),
        Some(false) => {
            let what = format!(
                "the archive already holds {name} of another server: {location} begins otherwise than {}",
                path.display()
            );
            let error = Error::new(ErrorKind::Conflict, what).hint(FIND_OUT);
            let error = error.hint_also(format!("{} is not archived before that", request.name));
            Ok(Some(Parted { segment: name, error }))
        }
        None if is_there(archive, system, request.name).await? => Ok(None),
        None => {
            tracing::warn!(
                "the archive holds {location} without {}, and {} cannot be compared with it; find out whether another server has \
                 taken this timeline",
                request.name,
                path.display()
            );
            Ok(None)
        }
    }
}

/// The first segment of a timeline.
struct First {
    name: WalName,
    /// Length in bytes of the part that certainly belongs to this server; `None` if the file is not what its name
    /// says.
    own_bytes: Option<u64>,
}

/// Returns the first segment of the history file's timeline, if its file exists.
fn first_segment(request: &PushRequest) -> Option<First> {
    let begins_at = history(request)?.begins_at()?;
    let size = request.caller.data().segment_size()?;
    let segment = SegmentName::containing(request.name.timeline(), begins_at, size)?;
    let (name, start) = (WalName::Segment(segment), segment.start(size)?);
    let (mut file, found) = open_with_metadata(&beside(&request.path, name)).ok()?;
    let bytes = found.len();
    let mut page = Vec::new();
    (&mut file).take(LONG_HEADER_BYTES as u64).read_to_end(&mut page).ok()?;
    let is_own = LongPageHeader::parse(&page).is_ok_and(|page| page.check(segment, bytes).is_ok());
    let own_bytes = (begins_at.0 - start.0 + FIRST_RECORD).min(bytes);
    Some(First { name, own_bytes: is_own.then_some(own_bytes) })
}

fn beside(path: &Path, name: WalName) -> PathBuf {
    path.with_file_name(name.to_string())
}

async fn is_there(archive: &Archive, system: SystemIdentifier, name: WalName) -> Result<bool, Error> {
    if archive.is_store() {
        archive.holds(system, name).await
    } else {
        archive.is_known_taken(system, name).await
    }
}

/// Compares a segment with the archive's, up to where its timeline was left. A segment that its own call will refuse
/// or find missing counts as equal.
async fn differs(
    archive: &Archive,
    system: SystemIdentifier,
    history: &PushRequest,
    waiting: &Waiting,
    limit: &TimeLimit,
) -> Result<Option<Parted>, Error> {
    let Waiting { segment, start, left_at } = *waiting;
    let name = WalName::Segment(segment);
    let path = beside(&history.path, name);
    let request = PushRequest { path: path.clone(), name, codec: Codec::None, ..history.clone() };
    let reading = {
        let limit = limit.clone();
        blocking(move || {
            let Neighbour { request, examined, .. } = examine_neighbour(request, &limit)?;
            compress(examined, &request).map(|encoded| encoded.header)
        })
    };
    let ours = match reading.await {
        Ok(ours) => ours,
        Err(error) => {
            tracing::debug!("left {name} to its own call: {}", error.report());
            return Ok(None);
        }
    };
    let error = match compare(archive, &ours, name.into(), &path).await {
        Ok(Held::Same) => return Ok(None),
        Ok(Held::Other(theirs)) => {
            let needed = (left_at.0 - start.0).min(ours.original_size);
            let same = same_bytes(archive, system, name, &path).await?;
            if needed < ours.original_size && same.is_some_and(|same| same >= needed) {
                return Ok(None);
            }
            conflict_of_ancestor(&ours, &theirs, &path)
        }
        Err(error) if error.kind() == ErrorKind::Conflict => error,
        Err(error) => return Err(error),
    };
    // Once another call has archived it, the server may have reused the file for new WAL.
    if blocking(move || mark(&path, name)).await.is_none() {
        return Ok(None);
    }
    let error = error.hint_also(format!("{} is not archived before that", history.name));
    Ok(Some(Parted { segment: name, error }))
}
