//! Acknowledgements: that a file which the server has not handed over yet was archived, durably.
//!
//! One is written only after the file is durable there, and is about one very file: whatever has become of it since, a
//! change of its content or its place included, makes the acknowledgement worthless. What cannot be read, is not whole,
//! or is of another version is no acknowledgement.
//!
//! It tells what was, not what is: whether the archive still has the file, the archive has to be asked. Only for
//! [`COUNTS_FOR`] may that be left out, where asking costs a connection.

use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{Moment, Spool};
use crate::archive::StoredFile;
use crate::wal::WalName;

/// Far more than one is long.
const MAX_BYTES: u64 = 1_024;

/// How long an acknowledgement may count without a question to the archive. The server comes to the file within seconds, or
/// after the minute that it rests when others have failed.
const COUNTS_FOR: Duration = Duration::from_mins(3);

/// After that, nobody will ask for it any more: what still waits has been looked at again, and noted anew.
const MAX_AGE: Duration = Duration::from_hours(24);

/// How the names of acknowledgements end.
const ARCHIVED: &str = ".archived";

/// How those begin that are still being written.
pub(super) const STAGED: &str = "staged.";

/// What tells a file from every other, and from itself after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since 1970, of the last change of its content.
    modified: (i64, i64),
    /// Likewise, of its inode: the file system sets it, and nobody can set it back.
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

/// That a file was archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// What the archive had then.
    pub stored: StoredFile,
    written: Moment,
}

impl Acknowledgement {
    /// Whether it is so young that it may count without a question to the archive.
    #[must_use]
    pub fn is_young(&self, now: &Moment) -> bool {
        self.written.is_within(COUNTS_FOR, now)
    }

    /// All of it, as it is written.
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

    /// Reads one, if it is about that very file, and whole.
    fn parse(text: &str, name: WalName, file: &FileIdentity) -> Option<Self> {
        let mut lines = text.lines().rev();
        let written = Moment::parse(lines.next()?.strip_prefix("written ")?)?;
        let (bytes, blake3) = lines.next()?.strip_prefix("stored ")?.split_once(' ')?;
        let stored = StoredFile { bytes: bytes.parse().ok()?, blake3: blake3.parse().ok()? };
        Some(Self { stored, written }).filter(|read| read.to_text(name, file) == text)
    }
}

impl Spool {
    /// Notes that the file is in the archive, durably.
    pub fn acknowledge(
        &self,
        name: WalName,
        file: &FileIdentity,
        stored: StoredFile,
        now: Moment,
    ) -> io::Result<()> {
        let text = Acknowledgement { stored, written: now }.to_text(name, file);
        let mut staged = tempfile::Builder::new().prefix(STAGED).tempfile_in(&self.directory)?;
        staged.write_all(text.as_bytes())?;
        staged.persist(self.place_of(name)).map(drop).map_err(|error| error.error)
    }

    /// What is noted of this very file.
    #[must_use]
    pub fn acknowledgement(&self, name: WalName, file: &FileIdentity) -> Option<Acknowledgement> {
        let found = fs::File::open(self.place_of(name)).ok()?;
        let mut text = String::new();
        found.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        Acknowledgement::parse(&text, name, file)
    }

    /// Removes an acknowledgement that has served.
    pub fn forget(&self, name: WalName) {
        // What is left is never wrong, and goes when it is old.
        let _ = fs::remove_file(self.place_of(name));
    }

    /// Removes acknowledgements that nobody will ask for any more.
    pub fn forget_old(&self, now: SystemTime) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let is_ours = |name: &str| name.ends_with(ARCHIVED) || name.starts_with(STAGED);
        for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_ours)) {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
            if age.is_some_and(|age| age > MAX_AGE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn place_of(&self, name: WalName) -> PathBuf {
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

    /// A spool that has acknowledged a file as the segment [`SEGMENT`].
    fn acknowledged(place: &Path) -> (Spool, PathBuf, Moment) {
        let (spool, now) = (spool(place), Moment::now());
        let file = place.join("file");
        fs::write(&file, "one").unwrap();
        spool.acknowledge(name(SEGMENT), &identity(&file), stored(), now.clone()).unwrap();
        (spool, file, now)
    }

    const SEGMENT: &str = "000000010000000000000001";

    #[test]
    fn an_acknowledgement_is_about_one_name_and_one_very_file() {
        let place = tempfile::tempdir().unwrap();
        let (spool, file, now) = acknowledged(place.path());
        let (segment, partial) = (name(SEGMENT), name("000000010000000000000001.partial"));
        let found = spool.acknowledgement(segment, &identity(&file)).unwrap();
        assert_eq!((found.stored, found.is_young(&now)), (stored(), true));
        let is_acknowledged =
            |name: WalName, file: &Path| spool.acknowledgement(name, &identity(file)).is_some();
        assert!(!is_acknowledged(partial, &file), "another name");
        fs::rename(spool.place_of(segment), spool.place_of(partial)).unwrap();
        assert!(!is_acknowledged(partial, &file), "what was noted of another name");
        fs::rename(spool.place_of(partial), spool.place_of(segment)).unwrap();

        let copy = place.path().join("copy");
        fs::copy(&file, &copy).unwrap();
        assert!(!is_acknowledged(segment, &copy), "another file of the same content");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "two").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        assert!(!is_acknowledged(segment, &file), "changed, and its time set back");
    }

    #[test]
    fn what_is_not_whole_is_none() {
        let place = tempfile::tempdir().unwrap();
        let (spool, file, _) = acknowledged(place.path());
        let is_acknowledged = || spool.acknowledgement(name(SEGMENT), &identity(&file)).is_some();
        let path = spool.place_of(name(SEGMENT));
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
    fn it_serves_once_and_goes_when_it_is_old() {
        let place = tempfile::tempdir().unwrap();
        let (spool, file, now) = acknowledged(place.path());
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
