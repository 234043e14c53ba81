//! Forks within a segment, found in timeline history files. The rest of the segment after a fork is unused:
//! recoveries to the new timeline continue with its own segment, which starts with a copy of the part before.

use std::path::Path;

use crate::archive::{Archive, TextFiles};
use crate::archived_file::read_text;
use crate::cluster::histories;
use crate::error::{Error, ErrorKind};
use crate::wal::{Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId, WalName};
use crate::whole_file::directory_of;

/// A position at which a timeline was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fork {
    /// The timeline that left.
    pub(super) child: TimelineId,
    /// Position of the fork.
    pub(super) left_at: Lsn,
    /// `true` if the server to which the file belongs knows the fork.
    pub(super) known_here: bool,
}

/// Returns the fork within a segment according to the history file of `child`.
fn fork_in(
    segment: SegmentName,
    size: SegmentSize,
    child: TimelineId,
    history: &TimelineHistory,
) -> Option<(Lsn, TimelineId)> {
    let (left_at, child) = history.fork_of(segment.timeline(), child)?;
    let start = segment.start(size)?;
    // At the very start or end, the whole segment belongs to one timeline.
    (start < left_at && left_at.0 - start.0 < size.bytes()).then_some((left_at, child))
}

/// Returns the forks within a segment according to the history files in its directory. Unreadable ones are ignored.
pub(super) fn forks_beside(path: &Path, segment: SegmentName, size: SegmentSize) -> Vec<Fork> {
    let mut forks = Vec::new();
    for (child, history) in histories(directory_of(path)) {
        if let Some((left_at, child)) = fork_in(segment, size, child, &history) {
            add(&mut forks, Fork { child, left_at, known_here: true });
        }
    }
    forks
}

/// Adds the forks according to the archived history files. Damaged ones are ignored, and so are those of another name
/// or cluster than theirs.
pub(super) async fn add_forks_in_archive(
    forks: &mut Vec<Fork>,
    archive: &Archive,
    system: SystemIdentifier,
    segment: SegmentName,
    size: SegmentSize,
) -> Result<(), Error> {
    for file in archive.text_files(system, TextFiles::Histories).await? {
        let WalName::History(child) = file.name.wal() else { continue };
        if child <= segment.timeline() {
            continue;
        }
        let content = match read_text(archive, system, file.name.wal()).await {
            Ok((_, content)) => content,
            Err(error) if error.kind() == ErrorKind::Damaged => continue,
            Err(error) => return Err(error),
        };
        let history = TimelineHistory::parse(child, &content).ok();
        let fork = history.and_then(|history| fork_in(segment, size, child, &history));
        if let Some((left_at, child)) = fork {
            add(forks, Fork { child, left_at, known_here: false });
        }
    }
    Ok(())
}

/// Histories of descendants repeat the fork of a timeline.
fn add(forks: &mut Vec<Fork>, fork: Fork) {
    if !forks.iter().any(|known| (known.child, known.left_at) == (fork.child, fork.left_at)) {
        forks.push(fork);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: &str = "000000010000000000000002";

    fn forks(files: &[(&str, &str)]) -> Vec<(u32, u64)> {
        let temporary = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(temporary.path().join(name), content).unwrap();
        }
        let path = temporary.path().join(SEGMENT);
        let mut found: Vec<_> = forks_beside(&path, SEGMENT.parse().unwrap(), SegmentSize::MIN)
            .iter()
            .map(|fork| (fork.child.get(), fork.left_at.0))
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn forks_inside_the_segment_are_found_once_each_and_no_others() {
        let files = [
            ("00000002.history", "1\t0/200100\tx\n"),
            ("00000003.history", "1\t0/200100\tx\n2\t0/500000\tx\n"),
            ("00000004.history", "1\t0/2FFFF8\tx\n"),
            ("00000005.history", "1\t0/200000\tat its beginning\n"),
            ("00000006.history", "1\t0/300000\tat its end\n"),
            ("00000007.history", "4\t0/200100\tanother timeline\n"),
            ("00000008.history", "no history"),
            ("00000009.history.tmp", "1\t0/200100\tx\n"),
        ];
        assert_eq!(forks(&files), [(2, 0x20_0100), (4, 0x2F_FFF8)]);
        assert_eq!(forks(&[]), []);
    }

    #[tokio::test]
    async fn a_history_file_that_is_not_what_its_name_says_shows_no_fork() {
        use crate::scene::{SIZE, Scene, timeline};
        let scene = Scene::new().await;
        scene.history(2, 1, 2, 9);
        scene.history(4, 1, 2, 9);
        std::fs::rename(scene.archived("00000004.history"), scene.archived("00000003.history")).unwrap();
        std::fs::write(scene.archived("00000005.history"), "damaged").unwrap();
        let mut forks = Vec::new();
        let segment = SEGMENT.parse().unwrap();
        add_forks_in_archive(&mut forks, &scene.archive, scene.system, segment, SIZE).await.unwrap();
        assert_eq!(forks.iter().map(|fork| fork.child).collect::<Vec<_>>(), [timeline(2)]);
    }
}
