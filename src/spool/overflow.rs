//! Temporary files for data that is too large for memory. They have no names and vanish with the process, even if it
//! is killed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::private_directory;

/// Directory in which temporary files are created.
#[derive(Debug, Clone)]
pub struct OverflowDirectory {
    base: PathBuf,
}

impl OverflowDirectory {
    /// Uses the directory of the spools, which, unlike the system's temporary directory, is on disk. The latter is
    /// the fallback.
    #[must_use]
    pub fn new(base: &Path) -> Self {
        Self { base: base.to_owned() }
    }

    /// Creates an unnamed file, and returns it with the directory whose file system it uses.
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
            // The directory that the user has chosen, of the two.
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
    fn the_file_has_no_name_and_its_directory_is_private() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path().join("spool");
        let (mut file, directory) = OverflowDirectory::new(&base).open().unwrap();
        file.write_all(b"content").unwrap();
        assert_eq!(directory, base);
        let (found, above) = (file.metadata().unwrap(), fs::metadata(&base).unwrap());
        assert_eq!((found.len(), found.nlink(), found.dev()), (7, 0, above.dev()));
        assert_eq!(above.permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
    }

    #[test]
    fn an_unusable_base_falls_back_to_the_temporary_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let file = temporary.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for base in [&file, temporary.path(), &temporary.path().join("missing/spool")] {
            let (_, directory) = OverflowDirectory::new(base).open().unwrap();
            assert_eq!(directory, std::env::temp_dir(), "{}", base.display());
        }
    }
}
