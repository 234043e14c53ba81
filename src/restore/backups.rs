//! What archived backup history files prove of a segment that is missing.

use jiff::Timestamp;

use crate::archive::Archive;
use crate::archived_file::read_text;
use crate::coverage::BackupTrace;
use crate::error::{Error, ErrorKind};
use crate::wal::{BackupHistory, SegmentName, SystemIdentifier};

/// Finds the traces of base backups that can prove that the segment was written, with the times at which their files were
/// archived. Takes one listing, and reads the newest files only if no name is proof.
pub(super) async fn traces(
    archive: &Archive,
    system: SystemIdentifier,
    segment: SegmentName,
) -> Result<Vec<(BackupTrace, Timestamp)>, Error> {
    let mut traces = archive.backups_about(system, segment).await?;
    for (trace, _) in traces.iter_mut().filter(|(trace, _)| !trace.proves_by_name(segment)) {
        let content = match read_text(archive, system, trace.name()).await {
            Ok((_, content)) => content,
            // Prune has deleted it meanwhile.
            Err(error) if error.kind() == ErrorKind::Absent => continue,
            // Its name still counts. Nobody could recover to the end of the WAL while one such file is damaged.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                tracing::warn!("{}; so it does not tell how far that base backup went", error.report());
                continue;
            }
            Err(error) => return Err(error),
        };
        // It was parsed before it was archived.
        trace.end = BackupHistory::parse(trace.segment, &content).ok().and_then(|history| history.wal.end);
    }
    Ok(traces)
}
