//! Acknowledgements: notes that a file which the server has not passed to `archive_command` so far is durably
//! archived.
//!
//! An acknowledgement is written only after the file is durable. It applies to one unchanged file: a change of its
//! content or inode invalidates it. Unreadable, incomplete and other versions' acknowledgements are ignored.
//!
//! It describes the past. Whether the archive still has the file must be asked, except within [`COUNTS_FOR`] for an
//! archive where asking takes a connection.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{LEFT, Moment, Spool};
use crate::archive::StoredFile;
use crate::wal::WalName;
use crate::whole_file::read_regular_text;

/// Maximum size of an acknowledgement in bytes.
const MAX_BYTES: u64 = 1_024;

/// Age up to which an acknowledgement is valid without asking the archive. The server gets to the file within
/// seconds, or after the minute that it pauses after failures.
const COUNTS_FOR: Duration = Duration::from_mins(3);

/// Age at which an acknowledgement is removed. Files that still wait have been checked again by then, and have newer
/// ones.
const MAX_AGE: Duration = Duration::from_hours(24);

/// File name suffix of acknowledgements.
const ARCHIVED: &str = ".archived";

/// Identity of a file that changes with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    /// Time of the last change of its content: seconds and nanoseconds since 1970.
    modified: (i64, i64),
    /// Time of the last change of its inode. Only the file system sets it.
    changed: (i64, i64),
}

impl From<&Metadata> for FileIdentity {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Acknowledgement that a file is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The archived file at the time of the acknowledgement.
    pub stored: StoredFile,
    written: Moment,
}

impl Acknowledgement {
    /// Returns `true` if it is young enough to be valid without asking the archive.
    #[must_use]
    pub fn is_young(&self, now: &Moment) -> bool {
        self.written.is_within(COUNTS_FOR, now)
    }

    /// Formats an acknowledgement.
    fn to_text(&self, name: WalName, file: &FileIdentity) -> String {
        let FileIdentity { device, inode, size, modified, changed } = file;
        format!(
            "walkeep acknowledgement 2\n{name}\n{device} {inode} {size}\n{}.{:09} {}.{:09}\n\
             stored {} {}\nwritten {}\n",
            modified.0,
            modified.1,
            changed.0,
            changed.1,
            self.stored.bytes,
            self.stored.blake3,
            self.written.to_text()
        )
    }

    /// Parses an acknowledgement; `None` unless it is complete and of this very file.
    fn parse(text: &str, name: WalName, file: &FileIdentity) -> Option<Self> {
        let mut lines = text.lines().rev();
        let written = Moment::parse(lines.next()?.strip_prefix("written ")?)?;
        let (bytes, blake3) = lines.next()?.strip_prefix("stored ")?.split_once(' ')?;
        let stored = StoredFile { bytes: bytes.parse().ok()?, blake3: blake3.parse().ok()? };
        Some(Self { stored, written }).filter(|read| read.to_text(name, file) == text)
    }
}

impl Spool {
    /// Records that the file is durably archived.
    pub fn acknowledge(
        &self,
        name: WalName,
        file: &FileIdentity,
        stored: StoredFile,
        now: Moment,
    ) -> io::Result<()> {
        let text = Acknowledgement { stored, written: now }.to_text(name, file);
        LEFT.write(&self.path_of(name), text.as_bytes())
    }

    /// Returns the acknowledgement of this very file.
    #[must_use]
    pub fn acknowledgement(&self, name: WalName, file: &FileIdentity) -> Option<Acknowledgement> {
        let text = read_regular_text(&self.path_of(name), MAX_BYTES).ok()?;
        Acknowledgement::parse(&text, name, file)
    }

    /// Removes an acknowledgement after use.
    pub fn forget(&self, name: WalName) {
        // A leftover is never wrong, and is removed once it is old.
        let _ = fs::remove_file(self.path_of(name));
    }

    /// Removes outdated acknowledgements.
    pub fn forget_old(&self, now: SystemTime) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let is_ours = |name: &str| name.ends_with(ARCHIVED) || name.starts_with(LEFT.prefix);
        for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_ours)) {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
            if age.is_some_and(|age| age > MAX_AGE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path_of(&self, name: WalName) -> PathBuf {
        self.directory.join(format!("{name}{ARCHIVED}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Digest;
    use crate::spool::tests::spool;
    use std::path::Path;

    fn identity(path: &Path) -> FileIdentity {
        FileIdentity::from(&fs::metadata(path).unwrap())
    }

    fn name(text: &str) -> WalName {
        text.parse().unwrap()
    }

    fn stored() -> StoredFile {
        StoredFile { bytes: 2_000, blake3: Digest::from([7; 32]) }
    }

    /// Creates a spool that has acknowledged a file as the segment [`SEGMENT`].
    fn acknowledged(parent: &Path) -> (Spool, PathBuf, Moment) {
        let (spool, now) = (spool(parent), Moment::now());
        let file = parent.join("file");
        fs::write(&file, "one").unwrap();
        spool.acknowledge(name(SEGMENT), &identity(&file), stored(), now.clone()).unwrap();
        (spool, file, now)
    }

    const SEGMENT: &str = "000000010000000000000001";

    #[test]
    fn a_pipe_in_its_place_is_none_and_not_waited_for() {
        let temporary = tempfile::tempdir().unwrap();
        let (spool, file, _) = acknowledged(temporary.path());
        let note = spool.path_of(name(SEGMENT));
        fs::remove_file(&note).unwrap();
        nix::unistd::mkfifo(&note, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(spool.acknowledgement(name(SEGMENT), &identity(&file)), None);
    }

    #[test]
    fn an_acknowledgement_is_of_one_name_and_one_unchanged_file() {
        let temporary = tempfile::tempdir().unwrap();
        let (spool, file, now) = acknowledged(temporary.path());
        let (segment, partial) = (name(SEGMENT), name("000000010000000000000001.partial"));
        let found = spool.acknowledgement(segment, &identity(&file)).unwrap();
        assert_eq!((found.stored, found.is_young(&now)), (stored(), true));
        let is_acknowledged =
            |name: WalName, file: &Path| spool.acknowledgement(name, &identity(file)).is_some();
        assert!(!is_acknowledged(partial, &file), "another name");
        fs::rename(spool.path_of(segment), spool.path_of(partial)).unwrap();
        assert!(!is_acknowledged(partial, &file), "what was noted of another name");
        fs::rename(spool.path_of(partial), spool.path_of(segment)).unwrap();

        let copy = temporary.path().join("copy");
        fs::copy(&file, &copy).unwrap();
        assert!(!is_acknowledged(segment, &copy), "another file of the same content");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "two").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        assert!(!is_acknowledged(segment, &file), "changed, and its time set back");
    }

    #[test]
    fn an_incomplete_acknowledgement_is_ignored() {
        let temporary = tempfile::tempdir().unwrap();
        let (spool, file, _) = acknowledged(temporary.path());
        let is_acknowledged = || spool.acknowledgement(name(SEGMENT), &identity(&file)).is_some();
        let path = spool.path_of(name(SEGMENT));
        let whole = fs::read(&path).unwrap();
        assert!((whole.len() as u64) < MAX_BYTES / 2);
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(!is_acknowledged(), "{length}");
        }
        for odd in [[&whole[..], b" "].concat(), [&whole[..], b"\n"].concat(), [&whole[..], &whole].concat()]
        {
            fs::write(&path, odd).unwrap();
            assert!(!is_acknowledged());
        }
        let text = String::from_utf8(whole).unwrap();
        for (from, to) in [("acknowledgement 2", "acknowledgement 1"), ("stored 2000", "stored 02000")] {
            assert!(text.contains(from));
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            assert!(!is_acknowledged(), "{to}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(!is_acknowledged(), "a failure to read is no acknowledgement");
    }

    #[test]
    fn it_is_used_once_and_removed_when_old() {
        let temporary = tempfile::tempdir().unwrap();
        let (spool, file, now) = acknowledged(temporary.path());
        let [one, two] = [SEGMENT, "000000010000000000000002"].map(name);
        spool.acknowledge(two, &identity(&file), stored(), now).unwrap();
        spool.forget(one);
        assert!(spool.acknowledgement(one, &identity(&file)).is_none());
        spool.forget_old(SystemTime::now());
        assert!(spool.acknowledgement(two, &identity(&file)).is_some());
        spool.forget_old(SystemTime::now() + MAX_AGE * 2);
        assert!(spool.acknowledgement(two, &identity(&file)).is_none());
    }
}
