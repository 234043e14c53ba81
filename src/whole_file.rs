//! Files that appear under their name complete or not at all: each is written beside that name, then renamed.
//!
//! Each use states the durability, the permissions, and what happens to an existing file. Archived files are published
//! in another way: see `archive/local/staging.rs`.

use std::fs::{File, FileType, Metadata, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempPath};

/// Way to write a complete file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WholeFile {
    /// Prefix of its temporary name. It identifies the leftover of a killed process.
    pub(crate) prefix: &'static str,
    /// Access to the file.
    pub(crate) readers: Readers,
    /// `true` to flush it to disk. Otherwise a crash of the machine may leave an incomplete file. A crash of the process
    /// never does.
    pub(crate) durable: bool,
    /// Treatment of an existing file of that name.
    pub(crate) if_taken: IfTaken,
}

/// Access to a new file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Readers {
    /// Its owner only.
    Owner,
    /// According to the umask.
    Umask,
    /// Everybody, whatever the umask.
    All,
    /// As the file with these numbers of user and group, and these permission bits, as far as this user may do that.
    Like { user: u32, group: u32, mode: u32 },
}

/// Treatment of an existing file of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfTaken {
    /// It is replaced.
    Replace,
    /// It stays, and the result is an error of the kind [`io::ErrorKind::AlreadyExists`].
    Keep,
}

impl WholeFile {
    /// Writes the file `path`.
    pub(crate) fn write(self, path: &Path, mut content: impl Read) -> io::Result<()> {
        let directory = directory_of(path);
        let mut staged = self.readers.stage(directory, self.prefix)?;
        io::copy(&mut content, &mut staged)?;
        if self.durable {
            staged.as_file().sync_all()?;
        }
        self.if_taken.give_name(staged.into_temp_path(), path)?;
        if self.durable { flush(directory) } else { Ok(()) }
    }
}

impl Readers {
    /// Creates a file in the directory for these readers. It is removed when it is dropped.
    pub(crate) fn stage(self, directory: &Path, prefix: &str) -> io::Result<NamedTempFile> {
        let mode = match self {
            Self::Owner | Self::All | Self::Like { .. } => 0o600,
            Self::Umask => 0o666,
        };
        let staged = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)
            // The library's error names its own file, of which nobody knows.
            .map_err(without_name)?;
        match self {
            Self::Owner | Self::Umask => {}
            Self::All => staged.as_file().set_permissions(Permissions::from_mode(0o644))?,
            Self::Like { user, group, mode } => {
                let found = staged.as_file().metadata()?;
                let is_given = (found.uid(), found.gid()) == (user, group)
                    || fchown(staged.as_file(), Some(user), Some(group)).is_ok()
                    || fchown(staged.as_file(), None, Some(group)).is_ok();
                // Only root gives files away. Without the group, its permissions would be another group's.
                let mode = if is_given { mode } else { mode & !0o070 };
                // Last, because a change of owner clears some bits.
                staged.as_file().set_permissions(Permissions::from_mode(mode))?;
            }
        }
        Ok(staged)
    }
}

/// Returns the system's error alone, which the library hides behind one of the same kind.
fn without_name(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::NOENT.into(),
        io::ErrorKind::NotADirectory => Errno::NOTDIR.into(),
        io::ErrorKind::PermissionDenied => Errno::ACCESS.into(),
        io::ErrorKind::ReadOnlyFilesystem => Errno::ROFS.into(),
        io::ErrorKind::StorageFull => Errno::NOSPC.into(),
        io::ErrorKind::QuotaExceeded => Errno::DQUOT.into(),
        _ => error,
    }
}

impl IfTaken {
    /// Gives a complete file in the same directory its name, in one step.
    pub(crate) fn give_name(self, staged: TempPath, path: &Path) -> io::Result<()> {
        let named = match self {
            Self::Replace => staged.persist(path),
            Self::Keep => staged.persist_noclobber(path),
        };
        named.map_err(|error| error.error)
    }
}

/// Gives an open file that has or had no other name than a temporary one the name `path`, unless that exists.
///
/// The very file gets the name, whatever is under its temporary one by now. Fails with [`io::ErrorKind::NotFound`] if it has
/// lost its name meanwhile.
pub(crate) fn link_open_file(file: &File, path: &Path) -> io::Result<()> {
    link_open_file_at(file, CWD, path)
}

/// Does the same with a path below an open directory.
pub(crate) fn link_open_file_at(file: &File, directory: impl AsFd, path: &Path) -> io::Result<()> {
    // Through `/proc/self/fd`, because linking a descriptor directly needs a privilege.
    let open_file = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, &open_file, directory, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Flushes a file, or the names in a directory, to disk.
pub(crate) fn flush(path: &Path) -> io::Result<()> {
    let file = open_at_once(path)?;
    match file.sync_all() {
        Err(error) if cannot_be_flushed(&error) && file.metadata().is_ok_and(|found| found.is_dir()) => {
            Ok(())
        }
        flushed => flushed,
    }
}

/// Returns `true` for the errors of file systems that cannot flush a directory. PostgreSQL accepts them, too
/// (`fsync_fname_ext` in `fd.c`).
pub(crate) fn cannot_be_flushed(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::BADF))
}

/// What is under the name of a file, and is none.
#[derive(Debug, thiserror::Error)]
#[error("it is {0}, not a regular file")]
struct NotRegular(&'static str);

impl From<NotRegular> for io::Error {
    fn from(other: NotRegular) -> Self {
        Self::new(io::ErrorKind::InvalidInput, other)
    }
}

/// Returns `true` if something was not opened because it is no regular file.
pub(crate) fn is_not_regular(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<NotRegular>)
}

/// Checks that it is a regular file.
pub(crate) fn check_regular(found: FileType) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let name = if found.is_dir() {
        "a directory"
    } else if found.is_fifo() {
        "a named pipe"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(NotRegular(name).into())
}

/// Opens a regular file for reading. Anything else is an error at once: opening a pipe would wait for somebody who writes, and a
/// device may have no end.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    open_with_metadata(path).map(|(file, _)| file)
}

/// Does the same as [`open_regular`], and returns what the open file is.
pub(crate) fn open_with_metadata(path: &Path) -> io::Result<(File, Metadata)> {
    let file = open_at_once(path)?;
    let found = file.metadata()?;
    check_regular(found.file_type())?;
    Ok((file, found))
}

/// Opens whatever it is, without waiting for anybody.
fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match openat(CWD, path, flags | OFlags::NONBLOCK, Mode::empty()) {
        // Sockets, and devices without a driver.
        Err(Errno::NXIO) => {
            check_regular(std::fs::metadata(path)?.file_type())?;
            Err(Errno::NXIO)
        }
        // A file server has leased the file to a client, and gets it back from there.
        Err(Errno::WOULDBLOCK) if std::fs::metadata(path)?.is_file() => {
            openat(CWD, path, flags, Mode::empty())
        }
        opened => opened,
    };
    Ok(File::from(opened?))
}

/// Reads a regular file that has at most so many bytes.
pub(crate) fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, found) = open_with_metadata(path)?;
    // One more, so that the end is noticed without another buffer.
    let expected = usize::try_from(found.len().min(most)).unwrap_or(0).saturating_add(1);
    let mut content = Vec::with_capacity(expected);
    file.take(most.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(content)
}

/// Does the same as [`read_regular`] for a text.
pub(crate) fn read_regular_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_regular(path, most)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Returns the directory of a path, `.` for a bare file name.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PLAIN: WholeFile =
        WholeFile { prefix: "staged.", readers: Readers::Owner, durable: false, if_taken: IfTaken::Replace };

    /// Reads as these bytes, then fails.
    struct Breaks(&'static [u8]);

    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("it breaks")),
                read => Ok(read),
            }
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_error_of_a_missing_directory_names_no_file_that_nobody_knows() {
        let temporary = tempfile::tempdir().unwrap();
        let error = Readers::Owner.stage(&temporary.path().join("none"), ".tmp").unwrap_err();
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
    }

    #[test]
    fn a_failure_leaves_the_existing_file_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        for durable in [false, true] {
            let file = WholeFile { durable, ..PLAIN };
            assert_eq!(file.write(&path, Breaks(b"half")).unwrap_err().to_string(), "it breaks");
            assert_eq!(names(temporary.path()), [""; 0]);
            fs::write(&path, "old").unwrap();
            file.write(&path, Breaks(b"half")).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), b"old");
            file.write(&path, &b"new"[..]).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(names(temporary.path()), ["file"]);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn an_incomplete_file_is_next_to_its_name_with_a_known_prefix() {
        let temporary = tempfile::tempdir().unwrap();
        let staged = Readers::Owner.stage(temporary.path(), "staged.").unwrap();
        let [name] = &names(temporary.path())[..] else { panic!("not one file") };
        assert!(name.starts_with("staged.") && *name != "staged.", "{name}");
        drop(staged);
        assert_eq!(names(temporary.path()), [""; 0]);
    }

    #[test]
    fn an_existing_file_is_kept_if_requested() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        let keep = WholeFile { if_taken: IfTaken::Keep, ..PLAIN };
        keep.write(&path, &b"first"[..]).unwrap();
        let error = keep.write(&path, &b"second"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        PLAIN.write(&path, &b"third"[..]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(names(temporary.path()), ["file"]);
    }

    #[test]
    fn access_is_for_the_owner_by_the_umask_or_for_all() {
        let temporary = tempfile::tempdir().unwrap();
        let mode =
            |name: &str| fs::metadata(temporary.path().join(name)).unwrap().permissions().mode() & 0o7777;
        fs::write(temporary.path().join("by umask"), "").unwrap();
        for (readers, expected) in
            [(Readers::Owner, 0o600), (Readers::Umask, mode("by umask")), (Readers::All, 0o644)]
        {
            WholeFile { readers, ..PLAIN }.write(&temporary.path().join("file"), io::empty()).unwrap();
            assert_eq!(mode("file"), expected, "{readers:?}");
        }
    }

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        fs::write(&path, "content").unwrap();
        assert_eq!(io::read_to_string(open_regular(&path).unwrap()).unwrap(), "content");
        let [pipe, socket, none] = ["pipe", "socket", "none"].map(|name| temporary.path().join(name));
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        for (other, what) in [
            (&*pipe, "a named pipe"),
            (&*socket, "a socket"),
            (temporary.path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            for error in [open_regular(other).unwrap_err(), read_regular(other, 9).unwrap_err()] {
                assert_eq!(error.to_string(), format!("it is {what}, not a regular file"));
                assert_eq!((error.kind(), is_not_regular(&error)), (io::ErrorKind::InvalidInput, true));
            }
        }
        flush(&pipe).unwrap_err();
        let error = open_regular(&none).unwrap_err();
        assert_eq!((error.kind(), is_not_regular(&error)), (io::ErrorKind::NotFound, false));
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        fs::write(&path, "content").unwrap();
        assert_eq!(read_regular(&path, 7).unwrap(), b"content");
        assert_eq!(read_regular(&path, 6).unwrap_err().to_string(), "it has more than 6 bytes");
        // Files of the kernel's have no size.
        assert!(!read_regular_text(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
        fs::write(&path, b"\xFF").unwrap();
        assert_eq!(read_regular_text(&path, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        for (path, directory) in [("file", "."), ("./file", "."), ("a/file", "a"), ("/file", "/"), ("/", ".")]
        {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory), "{path}");
        }
    }
}
