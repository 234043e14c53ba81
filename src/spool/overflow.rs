//! Room on disk for what is too large for memory. Nothing of it is left to the next call, nor when this one is killed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::private_directory;

/// Where files go that are too large for memory.
#[derive(Debug, Clone)]
pub struct OverflowPlace {
    base: PathBuf,
}

impl OverflowPlace {
    /// The directory in which spools are made: unlike that of temporary files it is on disk. Where it cannot be used, that
    /// of temporary files.
    #[must_use]
    pub fn new(base: &Path) -> Self {
        Self { base: base.to_owned() }
    }

    /// A new file without a name, which therefore goes with the process, and the directory that it takes its room from.
    pub fn open(&self) -> io::Result<(File, PathBuf)> {
        let in_base = private_directory(&self.base).and_then(|()| tempfile::tempfile_in(&self.base));
        let error = match in_base {
            Ok(file) => return Ok((file, self.base.clone())),
            Err(error) => error,
        };
        let temporary = std::env::temp_dir();
        tracing::debug!("cannot use {}, but {}: {error}", self.base.display(), temporary.display());
        match tempfile::tempfile_in(&temporary) {
            Ok(file) => Ok((file, temporary)),
            // Of the two, this is the one that somebody has chosen.
            Err(_) => Err(io::Error::new(error.kind(), format!("{}: {error}", self.base.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn the_file_has_no_name_and_its_directory_is_of_this_user_alone() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().join("spool");
        let (mut file, directory) = OverflowPlace::new(&base).open().unwrap();
        file.write_all(b"content").unwrap();
        assert_eq!(directory, base);
        let (found, above) = (file.metadata().unwrap(), fs::metadata(&base).unwrap());
        assert_eq!((found.len(), found.nlink(), found.dev()), (7, 0, above.dev()));
        assert_eq!(above.permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
    }

    #[test]
    fn a_base_that_cannot_be_used_is_replaced_by_the_directory_of_temporary_files() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for base in [&file, place.path(), &place.path().join("missing/spool")] {
            let (_, directory) = OverflowPlace::new(base).open().unwrap();
            assert_eq!(directory, std::env::temp_dir(), "{}", base.display());
        }
    }
}
