//! Whether a user can keep spools in a directory, found out without creating anything.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::denied::{self, Kept, name_of};
use crate::error::ErrorKind;
use crate::whole_file::directory_of;

/// State of a directory for spools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolState {
    /// It belongs to the user alone.
    Usable,
    /// It does not exist, and the first call creates it.
    Missing,
    /// It cannot be used, for this reason.
    Unusable(String),
}

impl SpoolState {
    /// Looks at the directory `base`, which the user with the number `user` is to keep spools in.
    #[must_use]
    pub fn of(base: &Path, user: u32) -> Self {
        let unusable = |why: String| Self::Unusable(format!("{} {why}", base.display()));
        if !base.is_absolute() {
            return unusable("is not an absolute path".to_owned());
        }
        let found = match std::fs::symlink_metadata(base) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let above = directory_of(base);
                let is_self = user == rustix::process::geteuid().as_raw();
                return match access(above, Access::WRITE_OK | Access::EXEC_OK) {
                    Err(error) if is_self => {
                        let error = std::io::Error::from(error);
                        unusable(format!("does not exist and cannot be made in {}: {error}", above.display()))
                    }
                    _ => Self::Missing,
                };
            }
            Err(error) => {
                let what = format!("{} cannot be looked at", base.display());
                let failure = denied::failed(ErrorKind::Local, what, base, Kept::ForOwner, error);
                return Self::Unusable(failure.report());
            }
        };
        if found.is_symlink() {
            unusable("is a symbolic link, which may lead to a directory of others".to_owned())
        } else if !found.is_dir() {
            unusable("is not a directory".to_owned())
        } else if found.uid() != user {
            unusable(format!("belongs to {} and not to {}", name_of(found.uid()), name_of(user)))
        } else if found.mode() & 0o777 != 0o700 {
            unusable(format!("has the mode {:04o} and not 0700", found.mode() & 0o7777))
        } else {
            Self::Usable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_spool_is_usable_only_as_a_directory_of_its_user_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path().join("spool");
        let own = rustix::process::geteuid().as_raw();
        let why = |path: &Path, user| match SpoolState::of(path, user) {
            SpoolState::Unusable(why) => why,
            other => format!("{other:?}"),
        };
        assert_eq!(why(&base, own), "Missing");
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(why(&base, own).ends_with("has the mode 0750 and not 0700"));
        fs::set_permissions(&base, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(why(&base, own), "Usable");
        assert!(why(&base, own + 12_345).contains("belongs to"), "another user squats on it");
        symlink(&base, temporary.path().join("link")).unwrap();
        assert!(why(&temporary.path().join("link"), own).contains("symbolic link"));
        fs::write(temporary.path().join("file"), "").unwrap();
        assert!(why(&temporary.path().join("file"), own).contains("not a directory"));
        assert!(why(Path::new("/proc/spool"), own).contains("cannot be made") || own == 0);
        assert!(why(Path::new("rel"), own).contains("not an absolute path"));
    }
}
