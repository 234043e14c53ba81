//! Directories of a cluster that are symbolic links: read, and never written or deleted through.

use std::path::Path;

use super::Local;
use super::fresh::{compare_down_to, read_dir};
use crate::archive::key::{self, DIRECTORIES};
use crate::blocking::blocking;
use crate::wal::{SystemIdentifier, TimelineHistory, TimelineId};

/// Advice for a link in the place of a directory.
pub(super) const THROUGH_LINK: &str = "nothing is written or deleted through links below an archive's directory, because whoever made the link \
                                       could choose what; move the files back, or mount the other disk there";

/// A directory of a cluster that is a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedDirectory {
    /// Path below the archive.
    pub key: String,
    /// `true` if pushes may still archive there, and are refused.
    is_pushed_into: bool,
}

impl LinkedDirectory {
    /// Returns `true` if pushes still archive there, and are refused. A timeline from which one of these histories leads on has
    /// ended: somebody may well have moved its last segments to another disk.
    pub fn is_pushed_into<'a>(&self, histories: impl IntoIterator<Item = &'a TimelineHistory>) -> bool {
        let has_ended = |timeline| histories.into_iter().any(|history| history.left(timeline).is_some());
        self.is_pushed_into && !self.timeline().is_some_and(has_ended)
    }

    /// Returns the timeline of a directory of segments.
    #[must_use]
    pub fn timeline(&self) -> Option<TimelineId> {
        let (_, group) = self.key.split_once("/wal/").filter(|(_, name)| key::is_group(name))?;
        TimelineId::new(u32::from_str_radix(group.get(..8)?, 16).ok()?)
    }

    /// Returns the consequences, and what to do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        THROUGH_LINK
    }
}

impl Local {
    /// Returns the directories of a cluster that are links, its own among them. What cannot be looked at is none.
    pub(in crate::archive) async fn links(&self, system: SystemIdentifier) -> Vec<LinkedDirectory> {
        let root = self.root().to_owned();
        blocking(move || links(&root, system)).await
    }
}

pub(super) fn links(root: &Path, system: SystemIdentifier) -> Vec<LinkedDirectory> {
    let wal = root.join(key::wal(system).as_ref());
    compare_down_to(root, &wal);
    let own = key::of_system(system).to_string();
    let fixed = DIRECTORIES.iter().map(|name| (format!("{own}/{name}"), *name != "reports"));
    let fixed = std::iter::once((own.clone(), true)).chain(fixed);
    let is_link = |(key, _): &(String, bool)| root.join(key).is_symlink();
    let mut links: Vec<(String, bool)> = fixed.filter(is_link).collect();
    let entries = read_dir(&wal).into_iter().flatten().flatten();
    let mut groups: Vec<(String, bool)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| key::is_group(name))?;
            Some((name, entry.file_type().ok()?.is_symlink()))
        })
        .collect();
    groups.sort_unstable();
    links.extend(linked_groups(&groups).map(|(name, last)| (format!("{own}/wal/{name}"), last)));
    let of_key = |(key, is_pushed_into)| LinkedDirectory { key, is_pushed_into };
    links.into_iter().map(of_key).collect()
}

/// Returns those of the sorted names that are links, each with `true` if it is the last one of its timeline: later segments
/// belong there, or into a new directory.
fn linked_groups(groups: &[(String, bool)]) -> impl Iterator<Item = (&str, bool)> {
    let timeline = |at: usize| groups.get(at).and_then(|(name, _)| name.get(..8));
    let linked = groups.iter().enumerate().filter(|(_, (_, is_link))| *is_link);
    linked.map(move |(at, (name, _))| (name.as_str(), timeline(at) != timeline(at + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn found(root: &Path) -> Vec<(String, bool)> {
        let links = links(root, SystemIdentifier::new(7).unwrap());
        links.into_iter().map(|link| (link.key, link.is_pushed_into)).collect()
    }

    #[test]
    fn each_directory_that_is_a_link_is_found_and_no_other() {
        for (link, is_pushed_into) in [
            ("7", true),
            ("7/wal", true),
            ("7/timelines", true),
            ("7/backups", true),
            ("7/reports", false),
            ("7/wal/0000000100000000", false),
            ("7/wal/0000000100000001", true),
            ("7/wal/0000000200000001", true),
        ] {
            let temporary = tempfile::tempdir().unwrap();
            let [root, outside] = ["root", "outside"].map(|name| temporary.path().join(name));
            for directory in ["timelines", "backups", "reports", "other"] {
                fs::create_dir_all(root.join("7").join(directory)).unwrap();
            }
            for group in ["0000000100000000", "0000000100000001", "0000000200000001"] {
                fs::create_dir_all(root.join("7/wal").join(group)).unwrap();
            }
            symlink("/nowhere", root.join("7/elsewhere")).unwrap();
            symlink("/nowhere", root.join("7/wal/elsewhere")).unwrap();
            assert_eq!(found(&root), []);
            fs::rename(root.join(link), &outside).unwrap();
            symlink(&outside, root.join(link)).unwrap();
            assert_eq!(found(&root), [(link.to_owned(), is_pushed_into)]);
        }
    }

    #[test]
    fn the_last_directory_of_a_timeline_that_was_left_is_pushed_into_no_more() {
        let link = |key: &str| LinkedDirectory { key: key.to_owned(), is_pushed_into: true };
        let [first, second] = [1, 2].map(|number| TimelineId::new(number).unwrap());
        let from = |timeline| TimelineHistory {
            ancestors: vec![crate::wal::Ancestor { timeline, left_at: crate::wal::Lsn(1 << 24) }],
        };
        let of_first = link("7/wal/0000000100000001");
        assert_eq!(of_first.timeline(), Some(first));
        assert!(of_first.is_pushed_into([]));
        assert!(of_first.is_pushed_into(&[from(second)]));
        assert!(!of_first.is_pushed_into(&[from(second), from(first)]));
        // An identifier of sixteen digits is no timeline.
        for key in ["7", "0000000100000001", "7/wal", "7/timelines"] {
            assert!(link(key).is_pushed_into(&[from(first)]), "{key}");
        }
        let of_old = LinkedDirectory { is_pushed_into: false, ..of_first };
        assert!(!of_old.is_pushed_into([]));
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let temporary = tempfile::tempdir().unwrap();
        assert_eq!(found(temporary.path()), []);
        assert_eq!(found(&temporary.path().join("none")), []);
    }
}
