//! Directories below an archive's root, for everything that is written or deleted there: opened without following links.
//!
//! Whoever may write in an archive could replace a directory by a link to another one. A command of another user would then
//! create or delete files there. A check of the path before would be too early. So the directory is opened once, and each
//! change names a file in the open directory. What is only read may lie behind links.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, fsync, mkdirat, open, openat, openat2,
    renameat, seek, unlinkat,
};
use rustix::io::Errno;

use crate::whole_file::cannot_be_flushed;

/// An open directory at or below the root.
#[derive(Debug, Clone)]
pub(super) struct Below(Arc<OwnedFd>);

/// A directory below the root is a symbolic link.
#[derive(Debug, thiserror::Error)]
#[error("{0} is a symbolic link")]
pub(super) struct ThroughLink(String);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Permissions of new files and directories, which the umask restricts.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

impl Below {
    /// Opens a directory below `root`, which is a path without links. Fails with [`ThroughLink`] inside if it is behind one.
    pub(super) fn open(root: &Path, directory: &Path) -> io::Result<Self> {
        let opened = match openat2(CWD, directory, DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // Kernels before 5.6, and filters of system calls.
            Err(Errno::NOSYS | Errno::PERM) => return Self::walk(root, directory, false).map(|way| way.end),
            opened => opened,
        };
        opened.map(Self::of).map_err(|error| at_a_link(root, directory, error))
    }

    /// Opens a directory below `root`, and creates it with all directories above it, durably. The root must exist.
    pub(super) fn make(root: &Path, directory: &Path) -> io::Result<Self> {
        let Way { above, end } = Self::walk(root, directory, true)?;
        above.iter().rev().try_for_each(Self::flush)?;
        Ok(end)
    }

    fn walk(root: &Path, directory: &Path, create: bool) -> io::Result<Way> {
        let below = directory.strip_prefix(root).map_err(io::Error::other)?;
        let mut way = Way { above: Vec::new(), end: Self::of(open(root, DIRECTORY, Mode::empty())?) };
        for part in below.components() {
            // Nothing else is in the path of a key.
            let Component::Normal(name) = part else { continue };
            if create {
                match mkdirat(&way.end, name, DIRECTORY_MODE) {
                    Err(Errno::EXIST) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let next = openat(&way.end, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            let next = next.map_err(|error| at_a_link(root, directory, error))?;
            way.above.push(std::mem::replace(&mut way.end, Self::of(next)));
        }
        Ok(way)
    }

    fn of(opened: OwnedFd) -> Self {
        Self(Arc::new(opened))
    }

    /// Creates a directory in it, unless that exists.
    pub(super) fn make_directory(&self, name: &Path) -> io::Result<()> {
        match mkdirat(self, name, DIRECTORY_MODE) {
            Err(Errno::EXIST) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a file in it, which must not exist.
    pub(super) fn create_new(&self, name: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(File::from(openat(self, name, flags, FILE_MODE)?))
    }

    /// Gives a file in it another name, and replaces what has that.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat(self, from, self, to)?)
    }

    /// Removes a file from it.
    pub(super) fn remove(&self, name: &Path) -> io::Result<()> {
        Ok(unlinkat(self, name, AtFlags::empty())?)
    }

    /// Removes an empty directory from it.
    pub(super) fn remove_directory(&self, name: &Path) -> io::Result<()> {
        Ok(unlinkat(self, name, AtFlags::REMOVEDIR)?)
    }

    /// Flushes the names in it to disk.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.can_be_flushed().map(drop)
    }

    /// Does the same as [`flush`](Self::flush); returns `false` if the file system cannot do it.
    pub(super) fn can_be_flushed(&self) -> io::Result<bool> {
        match fsync(self).map_err(io::Error::from) {
            Ok(()) => Ok(true),
            Err(error) if cannot_be_flushed(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns `true` if a file in it has its final name. Staging files have a `#` in their names.
    pub(super) fn holds_archived_file(&self) -> io::Result<bool> {
        // The position in an open directory is kept from one reading to the next.
        seek(self, SeekFrom::Start(0))?;
        let mut space = [MaybeUninit::uninit(); 8 << 10];
        let mut entries = RawDir::new(self, &mut space);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && !name.contains(&b'#') {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl AsFd for Below {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The open directories from the root to `end`.
struct Way {
    above: Vec<Below>,
    end: Below,
}

/// Returns the error, or the link that is its cause.
fn at_a_link(root: &Path, directory: &Path, error: Errno) -> io::Error {
    // A link is no directory, either.
    if matches!(error, Errno::LOOP | Errno::NOTDIR) {
        let mut below: Vec<&Path> = directory.ancestors().take_while(|above| *above != root).collect();
        below.reverse();
        if let Some(link) = below.into_iter().find(|above| above.is_symlink()) {
            return io::Error::other(ThroughLink(link.display().to_string()));
        }
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// Creates a root with the directories `7/wal`, and a directory outside.
    fn scene() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let [root, outside] =
            ["root", "outside"].map(|name| temporary.path().canonicalize().unwrap().join(name));
        fs::create_dir_all(root.join("7/wal")).unwrap();
        fs::create_dir(&outside).unwrap();
        (temporary, root, outside)
    }

    type Opening = fn(&Path, &Path) -> io::Result<Below>;

    const WAYS: [Opening; 3] =
        [Below::open, Below::make, |root, directory| Below::walk(root, directory, false).map(|way| way.end)];

    #[test]
    fn a_directory_is_opened_and_its_files_are_changed_there() {
        for way in WAYS {
            let (_temporary, root, _) = scene();
            let below = way(&root, &root.join("7/wal")).unwrap();
            assert!(!below.holds_archived_file().unwrap());
            below.create_new(Path::new("name#1")).unwrap();
            assert!(!below.holds_archived_file().unwrap(), "staged only");
            assert_eq!(
                below.create_new(Path::new("name#1")).unwrap_err().kind(),
                io::ErrorKind::AlreadyExists
            );
            below.rename(Path::new("name#1"), Path::new("name")).unwrap();
            assert!(below.holds_archived_file().unwrap());
            assert!(root.join("7/wal/name").exists());
            below.flush().unwrap();
            below.remove(Path::new("name")).unwrap();
            below.make_directory(Path::new("below")).unwrap();
            below.make_directory(Path::new("below")).unwrap();
            below.remove_directory(Path::new("below")).unwrap();
            assert_eq!(fs::read_dir(root.join("7/wal")).unwrap().count(), 0);
        }
    }

    #[test]
    fn only_making_a_directory_creates_it() {
        let (_temporary, root, _) = scene();
        let new = root.join("7/timelines");
        assert_eq!(Below::open(&root, &new).unwrap_err().kind(), io::ErrorKind::NotFound);
        Below::make(&root, &new).unwrap();
        assert!(new.is_dir());
        assert!(Below::make(&root.join("none"), &root.join("none/7")).is_err(), "the root must exist");
    }

    #[test]
    fn no_link_below_the_root_is_followed() {
        for way in WAYS {
            for (link, directory) in [("8", "8/wal"), ("7/wal/group", "7/wal/group"), ("7/x", "7/x/y/z")] {
                let (_temporary, root, outside) = scene();
                fs::create_dir(outside.join("wal")).unwrap();
                symlink(&outside, root.join(link)).unwrap();
                let error = way(&root, &root.join(directory)).unwrap_err();
                let said = error.to_string();
                assert_eq!(said, format!("{} is a symbolic link", root.join(link).display()), "{directory}");
                let names: Vec<_> =
                    fs::read_dir(&outside).unwrap().map(|it| it.unwrap().file_name()).collect();
                assert_eq!(names, ["wal"]);
            }
        }
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_no_link() {
        let (_temporary, root, _) = scene();
        fs::write(root.join("7/x"), "").unwrap();
        for way in WAYS {
            let error = way(&root, &root.join("7/x/y")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        }
    }
}
