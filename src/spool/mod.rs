//! The spool: data that one call leaves for the next. It only saves time, so removing it is always safe.
//!
//! One exception limits the claim that answers do not depend on it: an acknowledgement is trusted for minutes, even
//! if the file disappears from a store in that time.
//!
//! A spool belongs to one user, one data directory and one archive. Its directory is named after a digest of them, so
//! a copy of the data directory, another cluster on the host, or another archive uses a different spool.

mod acknowledgement;
mod meeting;
mod moment;
mod note;
mod overflow;
mod state;

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::archive::ArchiveOptions;
use crate::call::found_within;
use crate::wal::SystemIdentifier;
use crate::whole_file::{IfTaken, Readers, WholeFile};

pub use acknowledgement::{Acknowledgement, FileIdentity};
pub use meeting::Meeting;
pub use moment::Moment;
pub use note::Note;
pub use overflow::OverflowDirectory;
pub use state::SpoolState;

/// Way to write the files of a spool: readable only for their user, and not flushed, because an incomplete one is ignored.
const LEFT: WholeFile =
    WholeFile { prefix: "staged.", readers: Readers::Owner, durable: false, if_taken: IfTaken::Replace };

/// Time limit for reading a few files. Much longer than that takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns the result of `look`, or the default if it takes too long.
pub fn patiently<T: Default + Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    found_within(PATIENCE, look)
}

/// Identity of a spool.
#[derive(Debug, Clone, Copy)]
pub struct SpoolOwner<'a> {
    /// System identifier of the cluster.
    pub system: SystemIdentifier,
    /// Data directory of the cluster; empty for the working directory.
    pub data: &'a Path,
    /// Everything that determines the location of the archive.
    pub archive: &'a str,
}

/// A private directory.
#[derive(Debug, Clone)]
pub struct Spool {
    directory: PathBuf,
    system: SystemIdentifier,
}

impl Spool {
    /// Returns the default directory for spools. It survives a restart of the machine, and is not in the data
    /// directory, which gets copied.
    #[must_use]
    pub fn default_base() -> PathBuf {
        Self::default_base_of(rustix::process::geteuid().as_raw())
    }

    /// Returns the default directory for spools of the user with that number.
    #[must_use]
    pub fn default_base_of(user: u32) -> PathBuf {
        PathBuf::from(format!("/var/tmp/walkeep-{user}"))
    }

    /// Opens the spool of the server with that data directory below `base`; `None` if it is unavailable, which only makes
    /// walkeep slower.
    #[must_use]
    pub fn of_server(
        base: &Path,
        archive: &ArchiveOptions,
        data: &Path,
        system: SystemIdentifier,
    ) -> Option<Self> {
        // The call itself reports an archive that cannot even be named.
        let archive = archive.identity().ok()?;
        Self::open(base, &SpoolOwner { system, data, archive: &archive })
            .inspect_err(|error| tracing::debug!("goes without a spool in {}: {error}", base.display()))
            .ok()
    }

    /// Opens the spool of `owner` below `base`. Creates missing directories, and refuses existing ones to which other
    /// users have access.
    pub fn open(base: &Path, owner: &SpoolOwner<'_>) -> io::Result<Self> {
        private_directory(base)?;
        let directory = base.join(owner.directory_name()?);
        private_directory(&directory)?;
        Ok(Self { directory, system: owner.system })
    }

    /// Returns the system identifier of the cluster.
    #[must_use]
    pub fn system(&self) -> SystemIdentifier {
        self.system
    }
}

impl SpoolOwner<'_> {
    fn directory_name(&self) -> io::Result<String> {
        let data = if self.data == Path::new("") { Path::new(".") } else { self.data }.canonicalize()?;
        let mut digest = blake3::Hasher::new();
        let parts = [
            self.system.to_string().into_bytes(),
            data.into_os_string().into_encoded_bytes(),
            self.archive.as_bytes().to_vec(),
        ];
        for part in parts {
            // With its length, so that different lists of parts never hash the same bytes.
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(&part);
        }
        Ok(digest.finalize().to_hex().chars().take(32).collect())
    }
}

/// Creates a directory that is accessible to this user only. An existing one must be so already.
fn private_directory(path: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Not through a symbolic link, which could lead to a directory of other users.
    let found = std::fs::symlink_metadata(path)?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o777 == 0o700;
    if found.is_dir() && is_ours {
        Ok(())
    } else {
        let what = format!("{} is not a directory of this user alone", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Creates a spool below `parent`.
    pub(super) fn spool(parent: &Path) -> Spool {
        let system = SystemIdentifier::new(7).unwrap();
        let owner = SpoolOwner { system, data: parent, archive: "/archive" };
        Spool::open(&parent.join("spool"), &owner).unwrap()
    }

    fn name(system: u64, data: &Path, archive: &str) -> String {
        SpoolOwner { system: SystemIdentifier::new(system).unwrap(), data, archive }.directory_name().unwrap()
    }

    #[test]
    fn every_owner_has_its_own_spool() {
        let temporary = tempfile::tempdir().unwrap();
        for directory in ["a", "b"] {
            fs::create_dir(temporary.path().join(directory)).unwrap();
        }
        std::os::unix::fs::symlink("a", temporary.path().join("link")).unwrap();
        let data = |name: &str| temporary.path().join(name);
        let names = [
            name(1, &data("a"), "/archive"),
            name(2, &data("a"), "/archive"),
            name(1, &data("b"), "/archive"),
            name(1, &data("a"), "/archive2"),
        ];
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(names[0], name(1, &data("link"), "/archive"), "the directory counts, not the way to it");
        let here = std::env::current_dir().unwrap();
        assert_eq!(name(1, Path::new(""), "/archive"), name(1, &here, "/archive"));
    }

    #[test]
    fn a_directory_that_other_users_can_access_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let spool = temporary.path().join("spool");
        private_directory(&spool).unwrap();
        assert_eq!(fs::metadata(&spool).unwrap().permissions().mode() & 0o777, 0o700);
        private_directory(&spool).unwrap();
        fs::set_permissions(&spool, fs::Permissions::from_mode(0o710)).unwrap();
        assert_eq!(private_directory(&spool).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&spool, fs::Permissions::from_mode(0o700)).unwrap();
        let link = temporary.path().join("link");
        std::os::unix::fs::symlink(&spool, &link).unwrap();
        assert_eq!(private_directory(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::write(temporary.path().join("file"), "").unwrap();
        assert!(private_directory(&temporary.path().join("file")).is_err());
    }
}
