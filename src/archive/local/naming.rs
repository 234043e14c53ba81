//! Giving a staged file its final name in one step that replaces nothing.
//!
//! A hard link does so everywhere but on FAT, some network file systems and most of FUSE. `renameat2` with
//! `RENAME_NOREPLACE` serves most of those. A file system that has neither cannot hold an archive.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat_with, statat};
use rustix::io::Errno;

use super::below::Below;
use crate::whole_file::link_open_file_at;

/// The file system has no way to name a file without possibly replacing another.
#[derive(Debug, thiserror::Error)]
#[error("link: {link}; renameat2 with RENAME_NOREPLACE: {rename}")]
pub(super) struct NoWay {
    link: io::Error,
    rename: io::Error,
}

/// Way in which a file system names a file without replacing another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A hard link.
    Link,
    /// `renameat2` with `RENAME_NOREPLACE`.
    Rename,
}

/// Gives the open file `file`, whose name is `staged`, the name `name` in the same directory. Afterwards it may keep its old
/// name beside the new one, which is harmless. Fails with [`io::ErrorKind::AlreadyExists`] only if `name` exists, and with
/// [`NoWay`] inside if the file system cannot do it.
///
/// Another process may have taken `staged` away, and a third have created a file of that name: that file gets no name here.
pub(super) fn give_name(file: &File, directory: &Below, staged: &Path, name: &Path) -> io::Result<Way> {
    give_name_by(file, directory, staged, name, link, rename_without_replacing)
}

fn give_name_by(
    file: &File,
    directory: &Below,
    staged: &Path,
    name: &Path,
    link: impl Fn(&File, &Below, &Path, &Path) -> io::Result<()>,
    rename: impl Fn(&Below, &Path, &Path) -> io::Result<()>,
) -> io::Result<Way> {
    let no_link = match link(file, directory, staged, name) {
        Ok(()) => {
            // A leftover staging file is recognizable.
            let _ = directory.remove(staged);
            return Ok(Way::Link);
        }
        Err(error) if means_no_links(&error) => error,
        Err(error) => return Err(error),
    };
    let renamed = refuses_to_replace(directory, staged, &rename)
        .and_then(|()| check_name(file, directory, staged))
        .and_then(|()| rename(directory, staged, name))
        .and_then(|()| {
            // Another push may have taken the staging name in between: what is half of its file must not stay.
            check_name(file, directory, name).inspect_err(|_| drop(directory.remove(name)))
        });
    renamed.map(|()| Way::Rename).map_err(|error| {
        if means_no_such_rename(&error) {
            io::Error::other(NoWay { link: no_link, rename: error })
        } else {
            error
        }
    })
}

fn link(file: &File, directory: &Below, staged: &Path, name: &Path) -> io::Result<()> {
    match link_open_file_at(file, directory, name) {
        // Without `/proc`, there is only the name.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !Path::new("/proc/self/fd").exists() => {
            check_name(file, directory, staged)?;
            Ok(linkat(directory, staged, directory, name, AtFlags::empty())?)
        }
        linked => linked,
    }
}

/// Checks that the name still is that of the open file.
fn check_name(file: &File, directory: &Below, name: &Path) -> io::Result<()> {
    let (file, named) = (file.metadata()?, statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?);
    if (file.dev(), file.ino()) == (named.st_dev, named.st_ino) {
        return Ok(());
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn rename_without_replacing(directory: &Below, from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE)?)
}

/// Tries the rename on an existing file, because a server of FUSE may ignore the flag and replace that.
///
/// A call that is killed meanwhile leaves that file. So its name is one that no later call needs, and that tells it apart as a
/// staging file.
fn refuses_to_replace(
    directory: &Below,
    staged: &Path,
    rename: impl Fn(&Below, &Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = staged.as_os_str().to_owned();
    name.push(fastrand::u64(..).to_string());
    let taken = Path::new(&name);
    directory.create_new(taken).map_err(|error| match error.kind() {
        // The caller takes this kind for a conflict.
        io::ErrorKind::AlreadyExists => io::Error::other(error),
        _ => error,
    })?;
    let renamed = rename(directory, staged, taken);
    directory.remove(taken)?;
    match renamed {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::from(Errno::INVAL)),
    }
}

/// Returns `true` for the errors of file systems without hard links: of FAT, FUSE, SMB.
fn means_no_links(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::IO | Errno::MLINK)
    )
}

/// Returns `true` for the errors of file systems and kernels without such a rename.
fn means_no_such_rename(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    type Rename<'a> = &'a dyn Fn(&Below, &Path, &Path) -> io::Result<()>;

    fn fails(errno: Errno) -> impl Fn(&Below, &Path, &Path) -> io::Result<()> {
        move |_, _, _| Err(errno.into())
    }

    fn directory_of(path: &Path) -> Below {
        let directory = path.parent().unwrap().canonicalize().unwrap();
        Below::open(&directory, &directory).unwrap()
    }

    /// Names a staged file by a link that fails with `errno`, or else by `rename`.
    fn without_links(staged: &Path, path: &Path, errno: Errno, rename: Rename) -> io::Result<Way> {
        let file = File::open(staged).unwrap();
        give_name_by(&file, &directory_of(path), staged, path, |_, _, _, _| Err(errno.into()), rename)
    }

    fn is_no_way(error: &io::Error) -> bool {
        error.get_ref().and_then(|inner| inner.downcast_ref::<NoWay>()).is_some()
    }

    fn scene() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let [staged, path] = ["name#1", "name"].map(|name| directory.path().join(name));
        fs::write(&staged, "staged").unwrap();
        (directory, staged, path)
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_gets_its_name_by_a_link_or_else_by_a_rename() {
        for errno in [None, Some(Errno::PERM), Some(Errno::OPNOTSUPP), Some(Errno::IO), Some(Errno::INVAL)] {
            let (directory, staged, path) = scene();
            let way = match errno {
                None => {
                    give_name(&File::open(&staged).unwrap(), &directory_of(&path), &staged, &path).unwrap()
                }
                Some(errno) => without_links(&staged, &path, errno, &rename_without_replacing).unwrap(),
            };
            assert_eq!(way, if errno.is_none() { Way::Link } else { Way::Rename }, "{errno:?}");
            assert_eq!(fs::read(&path).unwrap(), b"staged", "{errno:?}");
            assert_eq!(names(directory.path()), ["name"], "{errno:?}");
        }
    }

    #[test]
    fn neither_way_replaces_a_file() {
        for by_rename in [false, true] {
            let (directory, staged, path) = scene();
            fs::write(&path, "archived").unwrap();
            let given = if by_rename {
                without_links(&staged, &path, Errno::PERM, &rename_without_replacing)
            } else {
                give_name(&File::open(&staged).unwrap(), &directory_of(&path), &staged, &path)
            };
            assert_eq!(given.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&path).unwrap(), b"archived");
            assert_eq!(names(directory.path()), ["name", "name#1"]);
        }
    }

    #[test]
    fn a_file_that_has_taken_the_staged_ones_name_is_not_published() {
        for by_rename in [false, true] {
            let (_directory, staged, path) = scene();
            let file = File::open(&staged).unwrap();
            fs::remove_file(&staged).unwrap();
            fs::write(&staged, "half of another").unwrap();
            let given = if by_rename {
                give_name_by(
                    &file,
                    &directory_of(&path),
                    &staged,
                    &path,
                    |_, _, _, _| Err(Errno::PERM.into()),
                    rename_without_replacing,
                )
            } else {
                give_name(&file, &directory_of(&path), &staged, &path)
            };
            assert_eq!(given.unwrap_err().kind(), io::ErrorKind::NotFound, "{by_rename}");
            assert!(!path.exists(), "{by_rename}");
        }
    }

    #[test]
    fn a_file_that_takes_the_staged_ones_name_at_the_last_moment_does_not_stay() {
        let (directory, staged, path) = scene();
        let rename = |directory: &Below, from: &Path, to: &Path| {
            if to == path {
                fs::remove_file(from).unwrap();
                fs::write(from, "half of another").unwrap();
            }
            rename_without_replacing(directory, from, to)
        };
        let error = without_links(&staged, &path, Errno::PERM, &rename).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn what_a_killed_call_has_left_of_its_try_hinders_no_other() {
        let (directory, staged, path) = scene();
        let killed = |_: &Below, _: &Path, to: &Path| {
            fs::hard_link(to, directory.path().join("name#10")).unwrap();
            Err(Errno::IO.into())
        };
        assert!(without_links(&staged, &path, Errno::PERM, &killed).is_err());
        without_links(&staged, &path, Errno::PERM, &rename_without_replacing).unwrap();
        assert_eq!(names(directory.path()), ["name", "name#10"]);
    }

    #[test]
    fn a_rename_that_would_replace_is_not_used() {
        let (directory, staged, path) = scene();
        fs::write(&path, "archived").unwrap();
        let replacing = |_: &Below, from: &Path, to: &Path| fs::rename(from, to);
        let error = without_links(&staged, &path, Errno::PERM, &replacing).unwrap_err();
        assert!(is_no_way(&error), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"archived");
        assert_eq!(names(directory.path()), ["name"]);
    }

    #[test]
    fn a_file_system_with_neither_way_is_told_from_one_that_fails() {
        let (_directory, staged, path) = scene();
        let given = |link, rename| {
            let error = without_links(&staged, &path, link, &fails(rename)).unwrap_err();
            (is_no_way(&error), error.kind())
        };
        assert!(given(Errno::PERM, Errno::INVAL).0);
        assert!(given(Errno::OPNOTSUPP, Errno::NOSYS).0);
        assert_eq!(given(Errno::NOSPC, Errno::INVAL), (false, io::ErrorKind::StorageFull));
        assert_eq!(given(Errno::IO, Errno::NOSPC), (false, io::ErrorKind::StorageFull));
        assert!(!given(Errno::IO, Errno::IO).0, "a disk that is broken");
        assert!(!path.exists());
    }
}
