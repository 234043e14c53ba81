//! Directories of a cluster in which this user may not create files, although they are there: nothing is written to find that.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, accessat};

use super::Local;
use super::below::Below;
use super::fresh::read_dir;
use super::rights::failed;
use crate::archive::failure::Asked;
use crate::archive::key::{self, DIRECTORIES};
use crate::blocking::blocking;
use crate::error::Error;
use crate::wal::SystemIdentifier;

/// A directory that denies this user to create files in it.
#[derive(Debug)]
pub struct DeniedDirectory {
    /// The directory.
    pub path: PathBuf,
    /// The denial.
    pub error: Error,
    /// `true` if pushes write there.
    pub is_pushed_into: bool,
}

impl Local {
    /// Returns the directories of the cluster, its own among them, that deny this user to create files. Links are none: they are
    /// refused as such.
    pub(in crate::archive) async fn denied_directories(
        &self,
        system: SystemIdentifier,
    ) -> Vec<DeniedDirectory> {
        let root = self.root().to_owned();
        blocking(move || denied(&root, system)).await
    }
}

fn denied(root: &Path, system: SystemIdentifier) -> Vec<DeniedDirectory> {
    let own = root.join(key::of_system(system).as_ref());
    let wal = root.join(key::wal(system).as_ref());
    // In that of a cluster nothing else is created but these.
    let is_whole = DIRECTORIES.iter().all(|name| *name == "reports" || own.join(name).is_dir());
    let fixed = DIRECTORIES.iter().map(|name| (own.join(name), *name != "reports"));
    let newest = newest_groups(&wal).into_iter().map(|group| (wal.join(group), true));
    let all = std::iter::once((own.clone(), !is_whole)).chain(fixed).chain(newest);
    let denied = all.filter_map(|(path, is_pushed_into)| {
        let error = try_access(root, &path).err()?;
        let what = format!("cannot create files in {}", path.display());
        Some(DeniedDirectory { error: failed(what, &path, Asked::Create, error), path, is_pushed_into })
    });
    denied.collect()
}

/// Returns the directory of the newest segments of each timeline: the next segment goes there, or into a new one.
fn newest_groups(wal: &Path) -> Vec<String> {
    let entries = read_dir(wal).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut groups: Vec<String> = names.filter(|name| key::is_group(name)).collect();
    groups.sort_unstable_by(|one, other| other.cmp(one));
    groups.dedup_by(|later, kept| later.get(..8) == kept.get(..8));
    groups
}

fn try_access(root: &Path, directory: &Path) -> io::Result<()> {
    // What is absent is created, where that is allowed, and a link is not entered.
    let is_denied = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    };
    let tried = Below::open(root, directory).and_then(|opened| {
        accessat(opened, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(io::Error::from)
    });
    match tried {
        Err(error) if is_denied(&error) => Err(error),
        // A link, or what is no directory, is reported by others.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir_all, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_newest_directory_of_each_timeline_counts() {
        let temporary = tempfile::tempdir().unwrap();
        for name in ["0000000100000000", "0000000100000001", "0000000200000000", "other"] {
            create_dir_all(temporary.path().join(name)).unwrap();
        }
        assert_eq!(newest_groups(temporary.path()), ["0000000200000000", "0000000100000001"]);
    }

    #[test]
    fn a_directory_that_denies_is_named_and_what_is_absent_is_not() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let group = root.join("7/wal/0000000100000000");
        create_dir_all(&group).unwrap();
        let of = || denied(&root, SystemIdentifier::new(7).unwrap());
        assert!(of().is_empty(), "{:?}", of());
        set_permissions(&group, Permissions::from_mode(0o555)).unwrap();
        // Root may write everywhere; whole programs are tried as another user.
        if !nix::unistd::geteuid().is_root() {
            let [found] = &of()[..] else { panic!("{:?}", of()) };
            assert_eq!(found.path, group);
            assert!(found.is_pushed_into && found.error.report().contains("chmod"), "{found:?}");
        }
        set_permissions(&group, Permissions::from_mode(0o755)).unwrap();
    }
}
