//! Words for a segment that is missing: the log ends before it, or why recovery must not end there.

use crate::archive::Archive;
use crate::coverage::{Absence, Evidence};
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier};

pub(super) fn end_of_wal(
    archive: &Archive,
    absent: &Error,
    absence: Absence,
    segment: SegmentName,
    partial: bool,
) -> String {
    let why = match absence {
        Absence::Outside => "its timeline does not need it",
        _ => "nothing that comes after it is there, so the log ends before it",
    };
    format!("{}: {why}{}", absent.report(), partial_hint(archive, segment, partial))
}

/// Describes how to use the `.partial` that a promotion left at the end of a timeline. It is for the next recovery: this
/// one has continued without it.
fn partial_hint(archive: &Archive, segment: SegmentName, partial: bool) -> String {
    if !partial {
        return String::new();
    }
    format!(
        "; {segment}.partial is there, the unfinished end of timeline {timeline}, which no server asks for. To recover that \
         timeline to its very end, begin again with a copy of the base backup: run walkeep cat --archive {url} \
         {segment}.partial -o pg_wal/{segment} in it, set recovery_target_timeline = '{timeline}', and start it",
        timeline = segment.timeline(),
        url = archive.url()
    )
}

/// Creates the error for an archive that holds text files of the cluster and none of its WAL: the directory of the WAL may be
/// elsewhere, and out of reach.
pub(super) fn holds_no_segment(archive: &Archive, system: SystemIdentifier) -> Error {
    let what = format!(
        "the archive {} holds history files of system {system}, but no segment at all",
        archive.url()
    );
    Error::new(ErrorKind::Empty, what)
}

/// Creates the error for a missing segment with which the base backup being recovered starts.
pub(super) fn no_backup_without(
    archive: &Archive,
    segment: SegmentName,
    lowest: Option<SegmentName>,
) -> Error {
    let begins = lowest.map_or_else(
        || format!("nothing of timeline {} from there on is", segment.timeline()),
        |lowest| format!("the archive begins at {lowest} of that timeline"),
    );
    let what = format!(
        "{segment}, in which this base backup begins, is not in the archive {}: {begins}, so this base backup cannot be \
         recovered from it",
        archive.url()
    );
    Error::new(ErrorKind::Gap, what).hint(
        format!(
            "do NOT remove backup_label, whatever the server advises: that corrupts the data; walkeep list backups --archive \
             {} shows the base backups that can be recovered",
            archive.url()
        ),
    )
}

pub(super) fn gap(
    archive: &Archive,
    segment: SegmentName,
    evidence: Evidence,
    lowest: Option<SegmentName>,
    partial: bool,
) -> Error {
    let url = archive.url();
    let before = lowest.filter(|lowest| segment < *lowest);
    let what = match (evidence, before) {
        (_, Some(lowest)) => format!(
            "{segment} is not in the archive {url}, which begins at {lowest} of that timeline; what comes before has been \
             removed, or was never archived"
        ),
        (Evidence::Later(later), None) => {
            format!(
                "{segment} is missing in the archive {url}, which holds {later} of the same timeline: a gap"
            )
        }
        (Evidence::Own(later), None) => format!(
            "{segment} is missing in the archive {url} and in the server's own pg_wal, which holds {later} of the same \
             timeline: a gap"
        ),
        (Evidence::History { descendant, left_at }, None) => format!(
            "{segment} is missing in the archive {url}, and {:08X}.history says that timeline {} went on up to {left_at}: a \
             gap",
            descendant.get(),
            segment.timeline()
        ),
        (Evidence::Backup { file, last }, None) => format!(
            "{segment} is missing in the archive {url}, which holds the backup history file {file}: that base backup proves WAL \
             up to {last} of the same timeline: a gap"
        ),
    };
    let hint = match before {
        Some(_) => {
            "take a newer base backup, for a standby as well: promoted now, it would lose what is missing"
                .to_owned()
        }
        None => format!(
            "recovery must not end here, with rows missing: put the segment back, by walkeep backfill from the pg_wal of a \
             server that has it, or from another archive. To end here on purpose, give walkeep-restore --accept-gap {segment}, \
             and take the recovery target away. If the target is a position before it, set recovery_prefetch = off: from \
             version 15 on the server reads ahead{}",
            partial_hint(archive, segment, partial)
        ),
    };
    Error::new(ErrorKind::Gap, what).hint(hint)
}
