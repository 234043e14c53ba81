//! Checks the space that is left where WAL is written.

use std::path::Path;

use rustix::fs::statvfs;

use super::shell::quoted;
use super::{CheckFinding, Open, Outcome};
use crate::wal::SegmentSize;

/// Number of segments below which archiving stops soon.
const FEW: u64 = 64;

/// Number of segments below which it stops now.
const TOO_FEW: u64 = 4;

/// Space of a file system.
#[derive(Debug, Clone, Copy)]
struct Space {
    total: u64,
    /// What this user may still write.
    free: u64,
    /// Number of files that can still be created; `None` if it has no limit.
    files: Option<u64>,
}

/// Reports on the space in a directory; `what` says what is written there, and `command` what to type to see what takes it.
pub(super) fn check(
    name: &'static str,
    what: &str,
    directory: &Path,
    size: SegmentSize,
    command: &str,
) -> CheckFinding {
    match statvfs(directory) {
        Err(error) => {
            let error = std::io::Error::from(error);
            let path = directory.display();
            CheckFinding::note(name, format!("cannot ask for the space in {path}: {error}"))
                .by_typing("to ask another way", format!("df -h {}", quoted(&path.to_string())))
        }
        Ok(found) => {
            let space = Space {
                total: found.f_blocks.saturating_mul(found.f_frsize),
                free: found.f_bavail.saturating_mul(found.f_frsize),
                files: (found.f_files > 0).then_some(found.f_favail),
            };
            judge(name, &format!("{}, for {what},", directory.display()), space, size.bytes(), command)
        }
    }
}

fn judge(name: &'static str, place: &str, space: Space, segment: u64, command: &str) -> CheckFinding {
    let Space { total, free, files } = space;
    if total == 0 {
        return CheckFinding::pass(name, format!("{place} does not say how much space it has"));
    }
    let segments = (free / segment.max(1)).min(files.unwrap_or(u64::MAX));
    let limit = match files {
        Some(files) if files == segments => format!("; {files} more files can be made there"),
        _ => String::new(),
    };
    let detail = format!(
        "{place} has room for {segments} segments of full size: {} of {} are free{limit}",
        bytes(free),
        bytes(total)
    );
    let outcome = if segments < TOO_FEW {
        Outcome::Fail
    } else if segments < FEW {
        Outcome::Note
    } else {
        Outcome::Pass
    };
    let finding = CheckFinding::new(name, outcome, detail);
    match outcome {
        Outcome::Pass => finding,
        _ => Open(finding).by_typing(
            "make room there; once an archive is full, pg_wal fills up, and once that is full, the server stops; what could go",
            command,
        ),
    }
}

fn bytes(number: u64) -> String {
    humansize::format_size(number, humansize::WINDOWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_counted_in_segments_and_few_are_a_warning() {
        use Outcome::{Fail, Note, Pass};
        const SEGMENT: u64 = 16 << 20;
        let of = |total, free, files| judge("space", "/a", Space { total, free, files }, SEGMENT, "du");
        for (segments, files, outcome) in [
            (1000, None, Pass),
            (64, Some(1000), Pass),
            (63, None, Note),
            (4, None, Note),
            (3, None, Fail),
            (0, None, Fail),
            (1000, Some(20), Note),
            (1000, Some(3), Fail),
        ] {
            let finding = of(1 << 40, segments * SEGMENT, files);
            assert_eq!(finding.outcome, outcome, "{segments} {files:?}: {finding:?}");
        }
        assert!(of(1 << 40, 1000 * SEGMENT, Some(20)).detail.contains("20 more files"));
        assert!(of(1 << 40, 70 * SEGMENT, None).detail.contains("room for 70 segments"));
        assert_eq!(of(0, 0, None).outcome, Pass, "as some file systems of FUSE say");
    }

    #[test]
    fn a_directory_that_cannot_be_asked_is_a_note() {
        let finding =
            check("space", "archived files", Path::new("/nowhere/at/all"), SegmentSize::DEFAULT, "du");
        assert_eq!(finding.outcome, Outcome::Note);
        let finding = check("space", "archived files", Path::new("/proc"), SegmentSize::DEFAULT, "du");
        assert!(finding.detail.contains("/proc"), "{finding:?}");
    }
}
