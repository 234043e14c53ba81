//! Commands that root starts: they become the user who owns the archive, before anything there is opened.
//!
//! A file that root creates in an archive cannot be read, replaced or deleted by the user that runs the server. Giving it
//! away afterwards would be worse: the owner of the directory could plant a link, and be given any file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, initgroups, setgid, setgroups, setuid};

use crate::archive::ArchiveUrl;
use crate::config::Settings;
use crate::error::{Error, ErrorKind};
use crate::spool::{Spool, patiently};

/// Becomes the owner of the archive, if that is a directory and this process is root's. Does nothing otherwise.
///
/// `data` is the server's data directory: its owner is the user that runs the server, and goes first.
pub(super) fn become_owner(settings: &mut Settings, data: Option<&Path>) -> Result<(), Error> {
    let ArchiveUrl::Directory(directory) = &settings.archive.url else { return Ok(()) };
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let (archive, data) = (directory.clone(), data.map(Path::to_owned));
    // A file system that hangs is left to the call's time limit.
    let owner = patiently(move || {
        let of_server = data.as_deref().and_then(owner_of).filter(|owner| !owner.is_root());
        of_server.or_else(|| owner_of_archive(&archive)).filter(|owner| !owner.is_root())
    });
    let Some(owner) = owner else { return Ok(()) };
    let of_root = Spool::default_base();
    become_user(owner, directory)?;
    if settings.spool == of_root {
        settings.spool = Spool::default_base();
    }
    Ok(())
}

/// An owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    user: Uid,
    group: Gid,
}

impl Owner {
    fn is_root(self) -> bool {
        self.user.is_root()
    }
}

fn owner_of(path: &Path) -> Option<Owner> {
    let found = fs::metadata(path).ok()?;
    Some(Owner { user: Uid::from_raw(found.uid()), group: Gid::from_raw(found.gid()) })
}

/// Returns the owner of the archive directory. If that is root, everybody may write there, and the owner of a cluster's
/// directory in it decides.
fn owner_of_archive(directory: &Path) -> Option<Owner> {
    let own = owner_of(directory)?;
    if !own.is_root() {
        return Some(own);
    }
    let is_cluster = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let clusters = fs::read_dir(directory).ok()?.flatten().filter(is_cluster);
    clusters.filter_map(|entry| owner_of(&entry.path())).find(|owner| !owner.is_root()).or(Some(own))
}

fn become_user(owner: Owner, directory: &Path) -> Result<(), Error> {
    let known = User::from_uid(owner.user).ok().flatten();
    let name = known.as_ref().map_or_else(|| format!("uid {}", owner.user), |user| user.name.clone());
    let become_it = || {
        match known
            .as_ref()
            .and_then(|user| Some((std::ffi::CString::new(user.name.clone()).ok()?, user.gid)))
        {
            Some((name, group)) => {
                initgroups(&name, group)?;
                setgid(group)?;
            }
            None => {
                setgroups(&[owner.group])?;
                setgid(owner.group)?;
            }
        }
        setuid(owner.user)
    };
    become_it().map_err(|errno| {
        let what = format!("cannot become {name}, who owns {}", directory.display());
        Error::new(ErrorKind::Configuration, what)
            .because(std::io::Error::from(errno))
            .hint(format!("what root writes there, {name} cannot use; run this as that user: sudo -u {name}"))
    })?;
    tracing::info!("running as {name}, who owns {}", directory.display());
    Ok(())
}
