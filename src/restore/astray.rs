//! Warning of a recovery that is about to follow the wrong timeline.
//!
//! The server looks for each segment on the newest timeline first, and uses that of an older one if there is none. It
//! ignores the position at which the older one was left (`XLogFileReadAnyTLI` in `access/transam/xlogrecovery.c`).
//! While a timeline has archived nothing, a recovery to it therefore replays what its parent wrote after the fork:
//! rows that somebody wanted to get rid of. Only people know whether that is intended: the new timeline may be
//! unwanted.

use crate::archive::Archive;
use crate::error::Error;
use crate::wal::{Ancestor, SegmentName, SegmentSize, SystemIdentifier, TimelineHistory};

/// Returns a warning for an absent segment that is the first of its timeline, if the archive has WAL that the parent
/// wrote after the fork.
pub(super) async fn astray(
    archive: &Archive,
    system: SystemIdentifier,
    segment: SegmentName,
    size: SegmentSize,
    history: &TimelineHistory,
) -> Result<Option<String>, Error> {
    let Some(Ancestor { timeline: parent, left_at }) = history.ancestors.last().copied() else {
        return Ok(None);
    };
    let number = left_at.0 / size.bytes();
    let parents_copy =
        SegmentName::from_number(parent, number, size).filter(|_| segment.number(size) == Some(number));
    let Some(parents_copy) = parents_copy else { return Ok(None) };
    let around = archive.surroundings(system, parents_copy).await?;
    let ends_there = left_at.0 > number * size.bytes() && around.later.is_none();
    if !around.is_there || ends_there {
        return Ok(None);
    }
    let timeline = segment.timeline();
    Ok(Some(format!(
        "timeline {timeline} has archived no segment, so the server goes on along timeline {parent}, behind {left_at}, where \
         timeline {timeline} left it, and brings back what was written there. If timeline {timeline} is what you want, recover to \
         where it began: recovery_target_timeline = '{parent}', recovery_target_lsn = '{left_at}' and \
         recovery_target_inclusive = off"
    )))
}
