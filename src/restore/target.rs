//! Writing of a restored file: next to its final name until it is complete and verified.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use crate::error::{Error, ErrorKind};
use crate::frame::Digest;
use crate::wal::{LONG_HEADER_BYTES, LongPageHeader, SegmentName, SegmentSize, SystemIdentifier, WalName};
use crate::whole_file::{IfTaken, Readers, directory_of, link_open_file};

/// Size of the copy buffer in bytes.
const COPY_BYTES: usize = 256 << 10;

/// A complete, verified file without a name, so that no other process can change it.
#[derive(Debug)]
pub struct Verified {
    /// The open file, at an arbitrary read position.
    pub file: File,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 of the content.
    pub blake3: Digest,
}

impl Verified {
    /// Checks that the open file can be that segment of the cluster: another process has chosen it.
    ///
    /// A file with a name could still be changed under that. Nothing but a file of a segment's size is read: a device may have no
    /// end.
    pub fn check(
        &self,
        name: SegmentName,
        system: SystemIdentifier,
        size: Option<SegmentSize>,
    ) -> Result<(), String> {
        let cannot_read = |error: io::Error| format!("it cannot be read: {error}");
        let found = self.file.metadata().map_err(cannot_read)?;
        if !found.is_file() {
            return Err("it is no regular file".to_owned());
        }
        if found.nlink() != 0 {
            return Err("it has a name".to_owned());
        }
        if found.len() != self.size || size.is_some_and(|size| size.bytes() != self.size) {
            return Err(format!("it has {} bytes", found.len()));
        }
        let mut beginning = [0; LONG_HEADER_BYTES];
        self.file.read_exact_at(&mut beginning, 0).map_err(cannot_read)?;
        let page = LongPageHeader::parse(&beginning).map_err(|error| error.to_string())?;
        page.check(name, self.size).map_err(|error| error.to_string())?;
        page.check_system(system).map_err(|error| error.to_string())
    }

    /// Gives the file the name `path`, in one step.
    ///
    /// Fails if `path` exists, is on another file system, or on one that cannot link unnamed files. The caller then
    /// makes a copy.
    pub fn link(&self, path: &Path) -> io::Result<()> {
        if self.file.metadata()?.len() != self.size {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        link_open_file(&self.file, path)
    }

    /// Copies the file to `path` and verifies the copy.
    pub(super) fn copy(&self, path: &Path) -> Result<(), Error> {
        let cannot_write = cannot_write(path);
        let mut staged = stage(directory_of(path))?;
        if copy(&self.file, self.size, staged.as_file_mut()).map_err(&cannot_write)? != self.blake3 {
            return Err(cannot_write(io::Error::other("what was prefetched is not what it was")));
        }
        publish(staged.into_temp_path(), path)
    }
}

/// Copies a file, and returns the digest of the copied bytes. Copies `bytes` at most, even if the file grows meanwhile.
fn copy(from: &File, bytes: u64, to: &mut File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut copied = 0;
    loop {
        let left = usize::try_from(bytes - copied).unwrap_or(usize::MAX).min(COPY_BYTES);
        let length = match from.read_at(buffer.get_mut(..left).unwrap_or_default(), copied) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        hasher.update(read);
        to.write_all(read)?;
        copied += length as u64;
    }
    Ok((*hasher.finalize().as_bytes()).into())
}

/// File name prefix of staging files. The server removes files with it when it starts after a crash.
const PREFIX: &str = "xlogtemp.walkeep.";

/// Creates a staging file next to the final name, removed on drop.
pub(super) fn stage(directory: &Path) -> Result<NamedTempFile, Error> {
    // The umask applies, as for the server's own files: a cluster may grant access to its group.
    Readers::Umask.stage(directory, PREFIX).map_err(cannot_write(directory))
}

/// Gives a complete, verified file its final name.
pub(super) fn publish(staged: TempPath, path: &Path) -> Result<(), Error> {
    if_taken(path).give_name(staged, path).map_err(cannot_give_name(path))
}

/// Keeps an existing file with the name of a WAL file: it belongs to the running server, which requests restored files
/// under other names.
pub(crate) fn if_taken(path: &Path) -> IfTaken {
    let is_wal = |name: &OsStr| name.to_str().is_some_and(|name| name.parse::<WalName>().is_ok());
    if path.file_name().is_some_and(is_wal) { IfTaken::Keep } else { IfTaken::Replace }
}

pub(crate) fn cannot_give_name(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| {
        let is_occupied = error.kind() == io::ErrorKind::AlreadyExists;
        let failure = cannot_write(path)(error);
        if is_occupied { failure.hint("it may be the server's own, so move it away first") } else { failure }
    }
}

pub(super) fn cannot_write(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(ErrorKind::Local, format!("cannot write {}", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn digest(content: &[u8]) -> Digest {
        (*blake3::hash(content).as_bytes()).into()
    }

    fn verified(file: File, content: &[u8]) -> Verified {
        Verified { file, size: content.len() as u64, blake3: digest(content) }
    }

    #[test]
    fn an_unnamed_file_gets_a_name() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("RECOVERYXLOG");
        let mut file = tempfile::tempfile_in(temporary.path()).unwrap();
        file.write_all(b"content").unwrap();
        let verified = verified(file, b"content");
        verified.link(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
        assert_eq!(verified.link(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
        verified.file.set_len(3).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(verified.link(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn no_file_with_the_name_of_a_wal_file_is_replaced() {
        let temporary = tempfile::tempdir().unwrap();
        let staged = || {
            let mut staged = stage(temporary.path()).unwrap();
            staged.write_all(b"restored").unwrap();
            staged.into_temp_path()
        };
        for name in ["000000010000000000000001", "000000010000000000000001.partial", "00000002.history"] {
            let path = temporary.path().join(name);
            publish(staged(), &path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"restored");
            fs::write(&path, "the server's own").unwrap();
            let error = publish(staged(), &path).unwrap_err();
            assert!(error.report().contains("move it away"), "{}", error.report());
            assert_eq!(fs::read(&path).unwrap(), b"the server's own");
        }
        let path = temporary.path().join("RECOVERYXLOG");
        fs::write(&path, "left over").unwrap();
        publish(staged(), &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"restored");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 4, "no leftovers");
    }

    #[test]
    fn a_copy_replaces_an_existing_file_and_is_verified() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("RECOVERYXLOG");
        fs::write(&path, "another").unwrap();
        let content = vec![7; COPY_BYTES * 2 + 1];
        // A file that had a name and lost it cannot get another one.
        let named = temporary.path().join("named");
        let mut file = File::options().read(true).write(true).create_new(true).open(&named).unwrap();
        file.write_all(&content).unwrap();
        fs::remove_file(&named).unwrap();
        let verified = verified(file, &content);
        assert!(verified.link(&temporary.path().join("new")).is_err());
        verified.copy(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);

        verified.file.write_all_at(&[8], 12_345).unwrap();
        assert!(verified.copy(&path).unwrap_err().report().contains("not what it was"));
        assert_eq!(fs::read(&path).unwrap(), content);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    }
}
