//! A recovery that is about to go astray.
//!
//! The server looks for each segment on the newest timeline first, and takes that of an older one where there is none. It does
//! not look where the older one was left (`XLogFileReadAnyTLI` in `access/transam/xlogrecovery.c`). So while a timeline has
//! archived nothing yet, a recovery to it replays what its parent wrote behind that place: rows that somebody had gone back
//! to be rid of. Whether that is meant nobody but he can tell: the new timeline may be one that nobody wants.

use crate::archive::Archive;
use crate::error::Error;
use crate::wal::{Ancestor, SegmentName, SegmentSize, SystemIdentifier, TimelineHistory};

/// What there is to say of a segment that is absent, the first one of its timeline, if the archive has more of the parent than
/// the two have in common.
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
    let copy =
        SegmentName::from_number(parent, number, size).filter(|_| segment.number(size) == Some(number));
    let Some(copy) = copy else { return Ok(None) };
    let around = archive.surroundings(system, copy).await?;
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
