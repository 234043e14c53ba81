//! What waits of a timeline's ancestors, before its history file is published.
//!
//! A server that has parted from the archive, as a clone has, is held up by its first segment that differs. Once it is
//! promoted, the history file of its new timeline comes before that segment. In the archive it would send every recovery to a
//! timeline of which nothing can follow. So segments of its ancestors that wait and that the archive holds have to be the same.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_util::{StreamExt, stream};

use super::ahead::{Neighbour, look_at};
use super::conflict::{Held, compare, conflict_of_ancestor, same_bytes};
use super::marks::{mark, ready};
use super::{PushRequest, compress};
use crate::archive::{Archive, retry};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::{Codec, MAX_TEXT_BYTES};
use crate::limit::TimeLimit;
use crate::wal::{Ancestor, Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineHistory, WalName};

/// How many names are asked for at a time.
const AT_ONCE: usize = 16;

/// A segment of an ancestor that is another one in the archive, and the failure of the history file for that.
pub(super) struct Parted {
    pub(super) segment: WalName,
    pub(super) error: Error,
}

/// A segment of an ancestor that waits.
struct Waiting {
    segment: SegmentName,
    start: Lsn,
    /// Where its timeline was left. What is behind that is nobody's.
    left_at: Lsn,
}

/// As [`parted`], into a store again and again within `limit`.
pub(super) async fn parted_patiently(
    archive: &Archive,
    system: SystemIdentifier,
    request: &PushRequest,
    limit: &TimeLimit,
) -> Result<Option<Parted>, Error> {
    if !archive.is_remote() {
        return parted(archive, system, request, limit).await;
    }
    let waiting = |error: &Error| {
        tracing::warn!("{}; trying again for up to {}", error.report(), limit.left_as_text());
    };
    retry(limit, waiting, async || parted(archive, system, request, limit).await).await
}

/// Whether a segment that waits beside the history file `request` is about, of one of its ancestors, is another one in the
/// archive. Nothing is asked for another kind of file.
///
/// Of each ancestor two segments at most are compared: the first that waits, which is the one that holds a server up, and the last
/// that the archive has. Each segment goes on from the one before, so with the last the others are the same.
pub(super) async fn parted(
    archive: &Archive,
    system: SystemIdentifier,
    request: &PushRequest,
    limit: &TimeLimit,
) -> Result<Option<Parted>, Error> {
    if !matches!(request.name, WalName::History(_)) {
        return Ok(None);
    }
    let ancestors = {
        let request = request.clone();
        blocking(move || waiting(&request)).await
    };
    // What is there is compared, and makes no difference any more.
    if ancestors.is_empty() || is_there(archive, system, request.name).await? {
        return Ok(None);
    }
    // A backlog that is too large for that must not hold up the server for good.
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

/// For each ancestor the segments that are ready beside the history file and hold something of it: the first one, and then the
/// last ones first.
fn waiting(request: &PushRequest) -> Vec<Vec<Waiting>> {
    let PushRequest { path, name, .. } = request;
    let mut content = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_TEXT_BYTES).read_to_end(&mut content));
    let Ok(history) = TimelineHistory::parse(name.timeline(), &content) else { return Vec::new() };
    if read.is_err() {
        return Vec::new();
    }
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

fn beside(path: &Path, name: WalName) -> PathBuf {
    path.with_file_name(name.to_string())
}

async fn is_there(archive: &Archive, system: SystemIdentifier, name: WalName) -> Result<bool, Error> {
    if archive.is_remote() { archive.holds(system, name).await } else { archive.is_taken(system, name).await }
}

/// Compares a segment with the archive's, up to where its timeline was left. What its own call will refuse, or finds gone, says
/// nothing here.
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
            let Neighbour { request, examined, .. } = look_at(request, &limit)?;
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
    // Once another call has archived it, the file may hold new WAL.
    if blocking(move || mark(&path, name)).await.is_none() {
        return Ok(None);
    }
    let error = error.hint_also(format!("{} is not archived before that", history.name));
    Ok(Some(Parted { segment: name, error }))
}
