//! The archive's directory: checks that it is mounted, that a file in it is truly absent, and that all directories
//! above a file are durable.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::below::Below;
use super::fresh::open;
use super::rights::failed;
use crate::archive::failure::Asked;
use crate::archive::surroundings::holds_nothing;
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;
use crate::whole_file::flush;

/// Name of the directory of reports in that of a cluster.
const REPORTS: &str = "reports";

/// The directory of a local archive.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    /// Path without symbolic links, so that it is a prefix of each file's path.
    root: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// `true` if it must be a mount point.
    require_mount: bool,
}

impl Directory {
    /// Opens the archive in `root`, which must exist: to create it would fill the disk below an unmounted mount
    /// point.
    pub(super) fn open(root: &Path, require_mount: bool) -> Result<Self, Error> {
        let unavailable = |what: String| Error::new(ErrorKind::Unavailable, what);
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(unavailable(format!("{} is not a directory", root.display()))
                    .hint("the archive must be a directory"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unavailable(format!("the archive directory {} does not exist", root.display()))
                    .hint(
                        "mount it; create it only for a new archive, owned by the user that runs the server",
                    ));
            }
            Err(error) => {
                let what = format!("cannot look at the archive directory {}", root.display());
                return Err(failed(what, root, Asked::Look, error));
            }
        }
        if require_mount && !is_mount_point(root).unwrap_or(false) {
            let what = format!("the archive directory {} is not a mount point", root.display());
            return Err(unavailable(what).hint("mount it; require_mount is set in the configuration"));
        }
        let cannot_look = |error: io::Error| {
            failed(
                format!("cannot look at the archive directory {}", root.display()),
                root,
                Asked::Look,
                error,
            )
        };
        let root = root.canonicalize().map_err(cannot_look)?;
        let identity = identity(&root).map_err(cannot_look)?;
        Ok(Self { root, identity, require_mount })
    }

    /// Checks that the directory is still the one that was opened. Unmounting leaves an empty directory, where files
    /// would be archived on the wrong disk.
    pub(super) fn check_root(&self) -> io::Result<()> {
        if identity(&self.root)? == self.identity {
            return Ok(());
        }
        let what = format!("{} is another directory than before; was it unmounted?", self.root.display());
        Err(io::Error::other(what))
    }

    /// Returns `true` if it is a mount point and the configuration does not require one.
    pub(super) fn is_unguarded_mount(&self) -> bool {
        !self.require_mount && is_mount_point(&self.root).unwrap_or(false)
    }

    /// Returns the directory, without symbolic links.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the directory of `file`. Creates it and the directories above, and makes them durable before a name appears in it.
    ///
    /// A directory that another push has created may not be durable yet, because that push may have been killed.
    /// Every push therefore flushes all directories up to the root, unless the directory already contains an archived
    /// file: the push that created this file flushed them before.
    pub(super) fn prepare(&self, file: &Path) -> io::Result<Below> {
        let parent = file.parent().unwrap_or(&self.root);
        self.check_root()?;
        match Below::open(&self.root, parent) {
            Ok(directory) if directory.holds_archived_file()? => Ok(directory),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // Not the root: it exists, or was unmounted just now.
            _ => Below::make(&self.root, parent),
        }
    }

    /// Creates the directory of reports of a cluster, and returns it. Fails if the cluster has no directory: otherwise the
    /// new one would look like an archive while the real one is not mounted.
    pub(super) fn prepare_reports(&self, system: SystemIdentifier) -> io::Result<Below> {
        let of_system = self.root.join(system.to_string());
        Below::open(&self.root, &of_system)?.make_directory(Path::new(REPORTS))?;
        Below::open(&self.root, &of_system.join(REPORTS))
    }

    /// Flushes an archived file that another call created, and every directory above it.
    pub(super) fn make_durable(&self, file: &Path) -> io::Result<()> {
        self.check_root()?;
        flush(file)?;
        self.directories_above(file).try_for_each(flush)
    }

    /// Iterates over the directories above `file`, up to the root.
    fn directories_above<'a>(&'a self, file: &'a Path) -> impl Iterator<Item = &'a Path> {
        file.ancestors().skip(1).take_while(|directory| directory.starts_with(&self.root))
    }

    /// Returns the directory of a cluster after a fresh lookup. A missing one proves nothing: an unmounted file
    /// system leaves an empty directory.
    pub(super) fn directory_of(&self, system: SystemIdentifier) -> Result<PathBuf, Error> {
        open(&self.root)?;
        let directory = self.root.join(system.to_string());
        match fs::metadata(&directory) {
            Ok(found) if found.is_dir() => Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(failed(format!("cannot look at {}", directory.display()), &directory, Asked::Look, error))
            }
            _ => Err(holds_nothing(self.root.display(), system)),
        }
    }

    /// Checks that `file`, which was not found, is truly absent and not out of reach. Returns `false` if it exists by
    /// now: it may have been archived in between.
    pub(super) fn confirm_absent(&self, system: SystemIdentifier, file: &Path) -> Result<bool, Error> {
        let unavailable = |what: String| Error::new(ErrorKind::Unavailable, what);
        self.directory_of(system)?;
        // From the top down: a dangling name is a symbolic link to something that is not mounted.
        let mut names: Vec<&Path> = file.ancestors().take_while(|dir| *dir != self.root).collect();
        names.reverse();
        for name in names {
            // A network file system answers from its cache unless the directory is opened.
            if let Some(above) = name.parent() {
                open(above)?;
            }
            match (fs::symlink_metadata(name), fs::metadata(name)) {
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                (Ok(_), Ok(metadata)) if metadata.is_dir() && name != file => {}
                (Ok(_), Ok(metadata)) if metadata.is_file() && name == file => return Ok(false),
                (Ok(_), Ok(_)) => {
                    let what = format!("{} is not what an archive holds there", name.display());
                    return Err(unavailable(what).hint("move it away"));
                }
                (Ok(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                    let what = format!("{} is a symbolic link that leads nowhere", name.display());
                    return Err(unavailable(what).hint("is what it leads to mounted?"));
                }
                (Err(error), _) | (_, Err(error)) => {
                    return Err(failed(
                        format!("cannot look at {}", name.display()),
                        name,
                        Asked::Look,
                        error,
                    ));
                }
            }
        }
        Ok(true)
    }
}

/// Returns device and inode.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Returns `true` if a file system is mounted on this directory.
fn is_mount_point(directory: &Path) -> io::Result<bool> {
    let found = statx(CWD, directory, AtFlags::empty(), StatxFlags::BASIC_STATS)?;
    if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // Kernels before 5.8 do not report it. There, the device differs from the parent's for all mounts except bind
    // mounts.
    let parent = statx(CWD, directory.join(".."), AtFlags::empty(), StatxFlags::BASIC_STATS)?;
    Ok((found.stx_dev_major, found.stx_dev_minor) != (parent.stx_dev_major, parent.stx_dev_minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> (tempfile::TempDir, Directory, SystemIdentifier) {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path(), false).unwrap();
        (root, directory, SystemIdentifier::new(7).unwrap())
    }

    #[test]
    fn absence_needs_the_systems_own_directory() {
        let (root, directory, system) = archive();
        let file = root.path().join("7/wal/0000000100000000/000000010000000000000001");
        assert_eq!(directory.confirm_absent(system, &file).unwrap_err().kind(), ErrorKind::Empty);
        fs::create_dir(root.path().join("7")).unwrap();
        assert!(directory.confirm_absent(system, &file).is_ok());
    }

    #[test]
    fn a_dangling_link_is_not_absent() {
        for level in ["wal", "wal/0000000100000000", "wal/0000000100000000/000000010000000000000001"] {
            let (root, directory, system) = archive();
            let link = root.path().join("7").join(level);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink("/nowhere/at/all", &link).unwrap();
            let file = root.path().join("7/wal/0000000100000000/000000010000000000000001");
            let error = directory.confirm_absent(system, &file).unwrap_err();
            assert!(error.report().contains("leads nowhere"), "{}", error.report());
        }
    }

    #[test]
    fn a_directory_or_a_file_out_of_place_is_not_absent() {
        let (root, directory, system) = archive();
        let file = root.path().join("7/wal/0000000100000000/000000010000000000000001");
        fs::create_dir_all(&file).unwrap();
        assert!(directory.confirm_absent(system, &file).is_err(), "a directory under the file's name");
        let other = root.path().join("7/timelines/00000002.history");
        fs::write(root.path().join("7/timelines"), "").unwrap();
        assert!(directory.confirm_absent(system, &other).is_err(), "a file where a directory should be");
    }

    #[test]
    fn directories_are_created_and_flushed_up_to_a_root_behind_a_link() {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("root")).unwrap();
        std::os::unix::fs::symlink(temporary.path().join("root"), temporary.path().join("link")).unwrap();
        let directory = Directory::open(&temporary.path().join("link"), false).unwrap();
        let file = directory.root().join("7/timelines/00000002.history");
        directory.prepare(&file).unwrap();
        fs::write(&file, "").unwrap();
        directory.make_durable(&file).unwrap();
        let flushed: Vec<&Path> = directory.directories_above(&file).collect();
        let expected =
            ["7/timelines", "7", ""].map(|name| directory.root().join(name).components().collect());
        assert_eq!(flushed, expected.each_ref().map(PathBuf::as_path));
    }

    #[test]
    fn a_directory_that_replaced_the_archive_receives_no_file() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("root");
        fs::create_dir(&path).unwrap();
        let directory = Directory::open(&path, false).unwrap();
        let file = directory.root().join("7/timelines/00000002.history");
        fs::rename(&path, temporary.path().join("away")).unwrap();
        assert!(directory.prepare(&file).is_err(), "gone");
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        assert!(directory.prepare(&file).unwrap_err().to_string().contains("unmounted"));
        assert!(directory.check_root().is_err());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_mount_point_that_is_not_required_is_unguarded() {
        let unguarded =
            |path: &str, require| Directory::open(Path::new(path), require).unwrap().is_unguarded_mount();
        assert!(unguarded("/proc", false));
        assert!(!unguarded("/proc", true));
        assert!(!unguarded("/proc/self", false));
    }

    #[test]
    fn a_plain_directory_is_no_mount_point() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(tempfile::tempdir().unwrap().path()).unwrap());
    }
}
