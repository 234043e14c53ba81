//! Acknowledgements: that a file which the server has not handed over yet is in the archive already, durably.
//!
//! One is written only after the file is durable there, and is about one very file: whatever has become of it since, a
//! change of its content or its place included, makes the acknowledgement worthless. What cannot be read, is not whole,
//! or is of another version is no acknowledgement.

use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::Spool;
use crate::wal::WalName;

/// Far more than one is long.
const MAX_BYTES: u64 = 1_024;

/// After that, nobody will ask for it any more: the server asks within minutes.
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

impl FileIdentity {
    /// The whole of an acknowledgement.
    fn acknowledgement(&self, name: WalName) -> String {
        let Self { device, inode, size, modified, changed } = self;
        format!(
            "walkeep acknowledgement 1\n{name}\n{device} {inode} {size}\n{}.{:09} {}.{:09}\n",
            modified.0, modified.1, changed.0, changed.1
        )
    }
}

impl Spool {
    /// Notes that the file is in the archive, durably.
    pub fn acknowledge(&self, name: WalName, file: &FileIdentity) -> io::Result<()> {
        let mut staged = tempfile::Builder::new().prefix(STAGED).tempfile_in(&self.directory)?;
        staged.write_all(file.acknowledgement(name).as_bytes())?;
        staged.persist(self.acknowledgement(name)).map(drop).map_err(|error| error.error)
    }

    /// Whether this very file is in the archive, durably.
    #[must_use]
    pub fn is_acknowledged(&self, name: WalName, file: &FileIdentity) -> bool {
        let Ok(found) = fs::File::open(self.acknowledgement(name)) else { return false };
        let mut text = String::new();
        found.take(MAX_BYTES).read_to_string(&mut text).is_ok() && text == file.acknowledgement(name)
    }

    /// Removes an acknowledgement that has served.
    pub fn forget(&self, name: WalName) {
        // What is left is never wrong, and goes when it is old.
        let _ = fs::remove_file(self.acknowledgement(name));
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

    fn acknowledgement(&self, name: WalName) -> PathBuf {
        self.directory.join(format!("{name}{ARCHIVED}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::tests::spool;
    use std::path::Path;

    fn identity(path: &Path) -> FileIdentity {
        FileIdentity::from(&fs::metadata(path).unwrap())
    }

    fn name(text: &str) -> WalName {
        text.parse().unwrap()
    }

    #[test]
    fn an_acknowledgement_is_about_one_name_and_one_very_file() {
        let place = tempfile::tempdir().unwrap();
        let spool = spool(place.path());
        let file = place.path().join("file");
        fs::write(&file, "one").unwrap();
        let (segment, partial) = (name("000000010000000000000001"), name("000000010000000000000001.partial"));
        assert!(!spool.is_acknowledged(segment, &identity(&file)));
        spool.acknowledge(segment, &identity(&file)).unwrap();
        assert!(spool.is_acknowledged(segment, &identity(&file)));
        assert!(!spool.is_acknowledged(partial, &identity(&file)), "another name");

        let copy = place.path().join("copy");
        fs::copy(&file, &copy).unwrap();
        assert!(!spool.is_acknowledged(segment, &identity(&copy)), "another file of the same content");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "two").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
        assert!(!spool.is_acknowledged(segment, &identity(&file)), "changed, and its time set back");
    }

    #[test]
    fn what_is_not_whole_is_none() {
        let place = tempfile::tempdir().unwrap();
        let spool = spool(place.path());
        let file = place.path().join("file");
        fs::write(&file, "one").unwrap();
        let segment = name("000000010000000000000001");
        spool.acknowledge(segment, &identity(&file)).unwrap();
        let path = spool.acknowledgement(segment);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(!spool.is_acknowledged(segment, &identity(&file)), "{length}");
        }
        fs::write(&path, [&whole[..], b" "].concat()).unwrap();
        assert!(!spool.is_acknowledged(segment, &identity(&file)));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(!spool.is_acknowledged(segment, &identity(&file)), "a failure to read is no acknowledgement");
    }

    #[test]
    fn it_serves_once_and_goes_when_it_is_old() {
        let place = tempfile::tempdir().unwrap();
        let spool = spool(place.path());
        let file = place.path().join("file");
        fs::write(&file, "one").unwrap();
        let [one, two] = ["000000010000000000000001", "000000010000000000000002"].map(name);
        for name in [one, two] {
            spool.acknowledge(name, &identity(&file)).unwrap();
        }
        spool.forget(one);
        assert!(!spool.is_acknowledged(one, &identity(&file)));
        spool.forget_old(SystemTime::now());
        assert!(spool.is_acknowledged(two, &identity(&file)));
        spool.forget_old(SystemTime::now() + MAX_AGE * 2);
        assert!(!spool.is_acknowledged(two, &identity(&file)));
    }
}
