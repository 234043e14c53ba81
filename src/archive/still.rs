//! Check that the archive still has a file archived earlier, which an acknowledgement leaves open.

use std::fs::{File, Metadata};
use std::io;

use object_store::path::Path as Key;

use super::local::{self, Local};
use super::{Archive, ArchiveOptions, ArchiveUrl, ArchivedName, Backend, key};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::{Archived, Digest, FrameError, Header};
use crate::wal::{SystemIdentifier, WalName};

/// Properties by which an archived file is recognized without reading all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredFile {
    /// Size in the archive, in bytes.
    pub bytes: u64,
    /// BLAKE3 of the WAL file, as recorded in its header.
    pub blake3: Digest,
}

impl StoredFile {
    /// Returns `true` if the file has that size, and a header with that cluster, name and content.
    fn is(
        self,
        (file, found): (File, Metadata),
        system: SystemIdentifier,
        name: WalName,
    ) -> io::Result<bool> {
        if found.len() != self.bytes {
            return Ok(false);
        }
        let same = |header: &Header| {
            ArchivedName::from(name).check(system, header).is_ok() && header.blake3 == self.blake3
        };
        match Archived::open(file, self.bytes) {
            Ok(archived) => Ok(same(archived.header())),
            Err(FrameError::Read(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }
}

impl ArchiveOptions {
    /// Does the same as [`Archive::still_holds`] without a runtime or a client; `None` for a store.
    #[must_use]
    pub fn still_holds(
        &self,
        system: SystemIdentifier,
        name: WalName,
        stored: StoredFile,
    ) -> Option<Result<bool, Error>> {
        match &self.url {
            ArchiveUrl::Store(_) => None,
            ArchiveUrl::Directory(path) => {
                Some(local::root(path, self.require_mount).and_then(|root| {
                    in_directory(&root, &key::key(system, name.into()), system, name, stored)
                }))
            }
        }
    }
}

impl Archive {
    /// Returns `true` if the archive still has the file that was archived as `stored`. Compares size and header in a
    /// directory, and the size in a store.
    pub async fn still_holds(
        &self,
        system: SystemIdentifier,
        name: WalName,
        stored: StoredFile,
    ) -> Result<bool, Error> {
        let key = key::key(system, name.into());
        match &self.backend {
            Backend::Local(local) => {
                let root = Local::root(local).to_owned();
                blocking(move || in_directory(&root, &key, system, name, stored)).await
            }
            // Of two `.partial` files, the one under this name may be the other one and have the same size.
            Backend::Store(_) if matches!(name, WalName::Partial(_)) => Ok(false),
            Backend::Store(store) => Ok(store.size_of(&key).await? == Some(stored.bytes)),
        }
    }
}

fn in_directory(
    root: &std::path::Path,
    key: &Key,
    system: SystemIdentifier,
    name: WalName,
    stored: StoredFile,
) -> Result<bool, Error> {
    let found = local::open_file(root, key).and_then(|file| match file {
        Some(opened) => stored.is(opened, system, name),
        None => Ok(false),
    });
    found.map_err(|error| {
        let what = format!("cannot look at {}/{key}", root.display());
        Error::new(ErrorKind::Unavailable, what).because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::StoreOptions;
    use std::fs;
    use std::path::Path;

    /// Creates an archived text file: its bytes, its name, and its properties.
    fn sample() -> (Vec<u8>, SystemIdentifier, WalName, StoredFile) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1/00000002.history");
        let bytes = fs::read(path).unwrap();
        let archived = Archived::open(&bytes[..], bytes.len() as u64).unwrap();
        let header = archived.header();
        let stored = StoredFile { bytes: bytes.len() as u64, blake3: header.blake3 };
        let (system, name) = (header.system_identifier, header.name);
        (bytes, system, name, stored)
    }

    fn options(root: &Path) -> ArchiveOptions {
        let url = ArchiveUrl::Directory(root.to_owned());
        ArchiveOptions::new(url, StoreOptions::default())
    }

    #[test]
    fn a_directory_identifies_a_file_by_size_and_header() {
        let temporary = tempfile::tempdir().unwrap();
        let (bytes, system, name, stored) = sample();
        let options = options(temporary.path());
        let holds = |stored| options.still_holds(system, name, stored).unwrap().unwrap();
        assert!(!holds(stored), "nothing there");
        let file = temporary.path().join(key::key(system, name.into()).as_ref());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &bytes).unwrap();
        assert!(holds(stored));
        assert!(!holds(StoredFile { bytes: stored.bytes - 1, ..stored }));
        assert!(!holds(StoredFile { blake3: Digest::from([0; 32]), ..stored }));
        let other = SystemIdentifier::new(7).unwrap();
        let copy = temporary.path().join(key::key(other, name.into()).as_ref());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&file, copy).unwrap();
        assert!(!options.still_holds(other, name, stored).unwrap().unwrap(), "another system's");
        fs::write(&file, vec![0; bytes.len()]).unwrap();
        assert!(!holds(stored), "of the same size");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let is_held = options.still_holds(system, name, stored).unwrap();
        assert!(!is_held.is_ok_and(|held| held), "no file");
    }

    #[test]
    fn a_missing_directory_is_an_error_and_not_an_empty_archive() {
        let (_, system, name, stored) = sample();
        assert!(options(Path::new("/no/such/archive")).still_holds(system, name, stored).unwrap().is_err());
        let temporary = tempfile::tempdir().unwrap();
        let unmounted = ArchiveOptions { require_mount: true, ..options(temporary.path()) };
        assert!(unmounted.still_holds(system, name, stored).unwrap().is_err());
    }
}
