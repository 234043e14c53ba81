//! Commands that root starts: they become the user who owns the archive, before anything there is opened.
//!
//! A file that root creates in an archive cannot be read, replaced or deleted by the user that runs the server. Giving it
//! away afterwards would be worse: the owner of the directory could plant a link, and be given any file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, initgroups, setgid, setgroups, setuid};

use crate::archive::ArchiveUrl;
use crate::cluster::DataDirectory;
use crate::config::Settings;
use crate::denied::name_of;
use crate::error::{Error, ErrorKind};
use crate::spool::{Spool, patiently};
use crate::wal::SystemIdentifier;

/// Variable in which a process that runs itself again says who typed the command. It is no setting.
const TYPED_BY: &str = "_WALKEEP_TYPED_BY";

/// Returns the number of the user who typed the command.
pub(super) fn typed_by() -> u32 {
    let said = std::env::var(TYPED_BY).ok().and_then(|user| user.parse().ok());
    said.unwrap_or_else(|| Uid::effective().as_raw())
}

/// As root, becomes the user that runs the server, who owns `data`, and runs this program again: that user's files of
/// credentials and of configuration count, and its spool. Returns if there is no such user; and the error, as that user already,
/// if it cannot run the program.
pub(super) fn run_as_servers_user(data: &Path) -> Result<(), Error> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let named = data.to_owned();
    let Some(owner) = patiently(move || owner_of(&named)).filter(|owner| !owner.is_root()) else {
        return Ok(());
    };
    // Before: this process may not look at itself afterwards.
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(&called));
    become_user(owner, "", data)?;
    let mut again = Command::new(&program);
    again.arg0(&called).args(arguments).env(TYPED_BY, "0");
    if let Some(user) = User::from_uid(owner.user).ok().flatten() {
        again.env("HOME", &user.dir).env("USER", &user.name).env("LOGNAME", &user.name);
    } else {
        again.env_remove("HOME").env_remove("USER").env_remove("LOGNAME");
    }
    let error = again.exec();
    let name = name_of(owner.user.as_raw());
    let what = format!("cannot run {} as {name}, who owns {}", program.display(), data.display());
    Err(Error::new(ErrorKind::Configuration, what)
        .because(error)
        .hint("install it where that user can run it, such as /usr/local/bin"))
}

/// Becomes the user that runs the server, who owns `data`, or else the owner of the archive as [`become_owner`] does. For a test of
/// what the server can do: whom the archive belongs to is a part of the question.
pub(super) fn become_servers_user(
    settings: &mut Settings,
    data: Option<&Path>,
    system: Option<SystemIdentifier>,
) -> Result<(), Error> {
    if !Uid::effective().is_root() || !matches!(settings.archive.url, ArchiveUrl::Directory(_)) {
        return Ok(());
    }
    let named = data.map(Path::to_owned);
    let owner = patiently(move || owner_of(&named?)).filter(|owner| !owner.is_root());
    match (owner, data) {
        (Some(owner), Some(data)) => {
            let of_root = Spool::default_base();
            become_user(owner, "", data)?;
            use_own_spool(settings, &of_root);
            Ok(())
        }
        _ => become_owner(settings, data, system),
    }
}

/// Becomes the owner of the archive, if that is a directory and this process is root's. Does nothing otherwise.
///
/// The owner is that of the cluster's directory in the archive, else the user that runs the server, who owns `data`, else the
/// owner of the archive's directory.
pub(super) fn become_owner(
    settings: &mut Settings,
    data: Option<&Path>,
    system: Option<SystemIdentifier>,
) -> Result<(), Error> {
    let ArchiveUrl::Directory(directory) = &settings.archive.url else { return Ok(()) };
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let here = |data: &Path| if data.as_os_str().is_empty() { PathBuf::from(".") } else { data.to_owned() };
    let (archive, data) = (directory.clone(), data.map(here));
    let answer = patiently(move || Some(Owners::look(&archive, data.as_deref(), system)));
    let of_root = Spool::default_base();
    match answer {
        // As root, it could leave what the owner cannot use.
        None => {
            let what = format!("cannot look at {}, which does not answer", directory.display());
            return Err(Error::new(ErrorKind::Unavailable, what));
        }
        Some(Owners::Root) => return Ok(()),
        Some(Owners::One(owner)) => become_user(owner, "what is archived in ", directory)?,
        Some(Owners::Several) => {
            let what =
                format!("the clusters' directories in {} belong to several users", directory.display());
            return Err(Error::new(ErrorKind::Configuration, what).hint(
                "what root writes there, they cannot use; run this as the user that runs the server: sudo -u postgres",
            ));
        }
    }
    use_own_spool(settings, &of_root);
    Ok(())
}

/// Replaces root's default directory for spools by that of this user.
fn use_own_spool(settings: &mut Settings, of_root: &Path) {
    if settings.spool == of_root {
        settings.spool = Spool::default_base();
    }
}

/// Those who own what a command may write to.
#[derive(Debug, PartialEq, Eq)]
enum Owners {
    /// Root, or nobody: there is nothing yet.
    Root,
    One(Owner),
    Several,
}

impl Owners {
    fn look(archive: &Path, data: Option<&Path>, system: Option<SystemIdentifier>) -> Self {
        let of_data = || {
            let data = DataDirectory::named(data?.to_owned());
            data.system_identifier().ok().flatten()
        };
        let of_cluster =
            system.or_else(of_data).and_then(|system| owner_of(&archive.join(system.to_string())));
        match of_cluster {
            // Root's own cluster.
            Some(owner) if owner.is_root() => return Self::Root,
            Some(owner) => return Self::One(owner),
            None => {}
        }
        let mut named = data.into_iter().chain([archive]).filter_map(owner_of);
        if let Some(owner) = named.find(|owner| !owner.is_root()) {
            return Self::One(owner);
        }
        // Everybody may write into a directory of root's: the clusters in it decide.
        let mut found = owners_of_clusters(archive).into_iter().filter(|owner| !owner.is_root());
        match (found.next(), found.next()) {
            (None, _) => Self::Root,
            (Some(one), None) => Self::One(one),
            (Some(_), Some(_)) => Self::Several,
        }
    }
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

/// Returns the owners of the clusters' directories in an archive, each once.
fn owners_of_clusters(archive: &Path) -> Vec<Owner> {
    let is_cluster = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.parse::<SystemIdentifier>().is_ok())
    };
    let entries = fs::read_dir(archive).into_iter().flatten().flatten();
    let mut owners: Vec<Owner> =
        entries.filter(is_cluster).filter_map(|entry| owner_of(&entry.path())).collect();
    owners.sort_unstable_by_key(|owner| owner.user.as_raw());
    owners.dedup_by_key(|owner| owner.user);
    owners
}

/// Becomes the owner of `directory`; `owns` says in what way.
fn become_user(owner: Owner, owns: &str, directory: &Path) -> Result<(), Error> {
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
        let what = format!("cannot become {name}, who owns {owns}{}", directory.display());
        Error::new(ErrorKind::Configuration, what)
            .because(std::io::Error::from(errno))
            .hint(format!("what root writes there, {name} cannot use; run this as that user: sudo -u {name}"))
    })?;
    tracing::info!("running as {name}, who owns {owns}{}", directory.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    const SYSTEM: u64 = 7_381_092_445_103_374_871;

    #[test]
    fn the_clusters_own_directory_decides_then_the_server_then_the_archive() {
        let temporary = tempfile::tempdir().unwrap();
        let [archive, data] = ["archive", "data"].map(|name| temporary.path().join(name));
        fs::create_dir(&archive).unwrap();
        fs::create_dir(&data).unwrap();
        if !Uid::effective().is_root() {
            // Only root gives directories away. For anybody else, there is one owner of everything.
            let own = owner_of(&archive).unwrap();
            assert_eq!(Owners::look(&archive, Some(&data), None), Owners::One(own));
            return;
        }
        let owned_by = |name: &str, user: u32| {
            let path = temporary.path().join(name);
            let _ = fs::create_dir(&path);
            chown(path, Some(user), Some(user)).unwrap();
        };
        let look = |data: Option<&Path>, system: Option<u64>| match Owners::look(
            &archive,
            data,
            system.and_then(SystemIdentifier::new),
        ) {
            Owners::One(owner) => owner.user.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(look(None, None), "Root");
        owned_by("data", 101);
        assert_eq!(look(Some(&data), None), "101");
        owned_by("archive", 102);
        assert_eq!(look(None, None), "102");
        assert_eq!(look(Some(&data), None), "101");
        owned_by(&format!("archive/{SYSTEM}"), 103);
        assert_eq!(look(Some(&data), Some(SYSTEM)), "103");
        assert_eq!(look(None, Some(SYSTEM + 1)), "102");
        owned_by("archive", 0);
        assert_eq!(look(None, None), "103");
        owned_by(&format!("archive/{}", SYSTEM + 1), 104);
        assert_eq!(look(None, None), "Several");
        assert_eq!(look(None, Some(SYSTEM + 1)), "104");
    }
}
