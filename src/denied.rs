//! Denied permissions: whom they deny, which file or directory denies, and what mends that.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, getgroups};
use rustix::io::Errno;

use crate::call::found_within;
use crate::error::{Error, ErrorKind};
use crate::whole_file::directory_of;

/// Time for looking at directories and for names of users, which may come over the network.
const PATIENCE: Duration = Duration::from_millis(500);

/// A right that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Reading a file, or listing a directory.
    Read,
    /// Changing the names in a directory.
    Change,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// The name, or the number if it has none.
    pub(crate) name: String,
    /// The number.
    pub(crate) number: u32,
}

impl Who {
    fn of(number: u32) -> Self {
        Self { name: name_of(number), number }
    }

    /// Returns `true` for root.
    pub(crate) fn is_root(&self) -> bool {
        self.number == 0
    }

    /// Returns the beginning of a command line that runs a command as this user.
    pub(crate) fn sudo(&self) -> String {
        if self.name.contains(' ') {
            format!("sudo -u '#{}'", self.number)
        } else {
            format!("sudo -u {}", self.name)
        }
    }
}

/// Shows the name with the number.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(' ') {
            f.write_str(&self.name)
        } else {
            write!(f, "{} (uid {})", self.name, self.number)
        }
    }
}

/// Returns the user's name, or the number if it has none.
pub(crate) fn name_of(user: u32) -> String {
    match User::from_uid(Uid::from_raw(user)) {
        Ok(Some(found)) => found.name.escape_debug().to_string(),
        _ => format!("uid {user}"),
    }
}

/// Returns the group's name, or the number if it has none.
fn group_name_of(group: u32) -> String {
    match Group::from_gid(Gid::from_raw(group)) {
        Ok(Some(found)) => found.name.escape_debug().to_string(),
        _ => group.to_string(),
    }
}

/// A denied request.
#[derive(Debug)]
pub(crate) struct Denied {
    /// User who asked.
    pub(crate) user: Who,
    /// Group of that user.
    pub(crate) group: String,
    /// File or directory that denies it; `None` if it cannot be told.
    pub(crate) by: Option<Barrier>,
}

/// A file or directory whose permissions deny a request.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Barrier {
    pub(crate) path: PathBuf,
    pub(crate) owner: Who,
    pub(crate) group: String,
    /// Permission bits.
    pub(crate) mode: u32,
    /// `true` if it belongs to the user who asked.
    pub(crate) is_own: bool,
    /// `true` if the user is in its group.
    pub(crate) in_group: bool,
    /// `true` if these bits allow it: something else denies it.
    pub(crate) is_allowed: bool,
    /// `true` if it is a directory above, which must be entered.
    pub(crate) is_above: bool,
}

impl Denied {
    /// Looks from the top down for what denies this user the request. Takes no longer than a message is worth.
    pub(crate) fn look(path: &Path, right: Right) -> Self {
        let path = path.to_owned();
        let found = found_within(PATIENCE, move || {
            let user = Uid::effective().as_raw();
            let group = group_name_of(Gid::effective().as_raw());
            Some(Self { user: Who::of(user), group, by: Barrier::find(&path, right, user) })
        });
        found.unwrap_or_else(|| {
            let number = Uid::effective().as_raw();
            let group = Gid::effective().to_string();
            Self { user: Who { name: format!("uid {number}"), number }, group, by: None }
        })
    }

    /// Returns what mends the permissions of a file that this user has to read: a command, if there is one.
    fn advice(&self, by: &Barrier, kept: Kept) -> String {
        let Barrier { owner, mode, is_own, in_group, is_allowed, is_above, .. } = by;
        let path = by.path.display().to_string();
        let path = shlex::try_quote(&path).unwrap_or_default();
        let user = &self.user;
        if *is_allowed {
            return ELSEWHERE.to_owned();
        }
        if is_of_kubernetes(&by.path) {
            return IN_KUBERNETES.to_owned();
        }
        if *is_own {
            let right = if *is_above { 'x' } else { 'r' };
            return format!("chmod u+{right} {path}");
        }
        if kept == Kept::ForOwner || user.is_root() {
            return format!("run this as {}: {} …", owner.name, owner.sudo());
        }
        let mode = (mode | if *is_above { 0o110 } else { 0o440 }) & 0o7777;
        match (owner.is_root(), in_group) {
            (true, true) => format!("chmod {mode:o} {path}"),
            (true, false) => format!("chown root:{} {path} && chmod {mode:o} {path}", self.group),
            // It is not this user's to take.
            (false, true) => {
                format!("run this as {}, or let its group read it: chmod {mode:o} {path}", owner.name)
            }
            (false, false) => format!(
                "run this as {0}, or make a group of {0} and {1}: chgrp GROUP {path} && chmod {mode:o} {path}",
                owner.name, user.name
            ),
        }
    }
}

/// Advice where the permission bits are not what denies a request.
pub(crate) const ELSEWHERE: &str = "look for an access list, SELinux, AppArmor, or the options of the mount";

/// Advice for a file whose permissions Kubernetes sets.
pub(crate) const IN_KUBERNETES: &str =
    "Kubernetes mounts it: give its volume defaultMode: 0440, and the pod's securityContext an fsGroup";

/// Returns `true` for a file of a Secret or another volume that Kubernetes fills: beside each is a link to all.
pub(crate) fn is_of_kubernetes(path: &Path) -> bool {
    path.with_file_name("..data").is_symlink()
}

impl Barrier {
    fn find(path: &Path, right: Right, user: u32) -> Option<Self> {
        let of = |path: &Path, found: &Metadata, is_above| {
            let is_own = found.uid() == user;
            let in_group = found.gid() == Gid::effective().as_raw()
                || getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == found.gid()));
            let needed = match right {
                _ if is_above => 0o1,
                Right::Change => 0o3,
                Right::Read => 0o4,
            };
            let class = match (is_own, in_group) {
                (true, _) => 6,
                (_, true) => 3,
                _ => 0,
            };
            Self {
                path: path.to_owned(),
                owner: Who::of(found.uid()),
                group: group_name_of(found.gid()),
                is_own,
                in_group,
                mode: found.mode() & 0o7777,
                is_allowed: (found.mode() >> class) & needed == needed,
                is_above,
            }
        };
        let mut above: Vec<&Path> = path.ancestors().filter(|above| !above.as_os_str().is_empty()).collect();
        above.reverse();
        let mut last: Option<(&Path, Metadata)> = None;
        for reached in above {
            match fs::metadata(reached) {
                Ok(found) => last = Some((reached, found)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    // A relative path's first part is denied by the working directory.
                    let (path, found) = match last {
                        Some(last) => last,
                        None => (Path::new("."), fs::metadata(".").ok()?),
                    };
                    return Some(of(path, &found, true));
                }
                Err(_) => break,
            }
        }
        let (reached, found) = last?;
        // A file's name belongs to its directory.
        if right == Right::Change && !found.is_dir() {
            let directory = reached.parent()?;
            return Some(of(directory, &fs::metadata(directory).ok()?, false));
        }
        Some(of(reached, &found, false))
    }
}

/// For whom a file or directory is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// For several users, if their administrator lets them.
    ForSeveral,
    /// For its owner alone, as a server's data directory is.
    ForOwner,
}

/// Creates the error for a file that cannot be read. `what` says which kind of file it is, such as `"the CA file"`, or nothing.
pub(crate) fn cannot_read(kind: ErrorKind, what: &str, path: &Path, kept: Kept, error: io::Error) -> Error {
    let what = if what.is_empty() { String::new() } else { format!("{what} ") };
    failed(kind, format!("cannot read {what}{}", path.display()), path, kept, error)
}

/// Creates the error for a file or directory that a request for reading has failed on. `what` says what was attempted.
pub(crate) fn failed(kind: ErrorKind, what: String, path: &Path, kept: Kept, error: io::Error) -> Error {
    if Errno::from_io_error(&error) != Some(Errno::ACCESS) {
        return Error::new(kind, what).because(error);
    }
    let denied = Denied::look(path, Right::Read);
    let failure = Error::new(kind, format!("{what} as {}", denied.user));
    let Some(by) = &denied.by else { return failure.because(error) };
    let Barrier { owner, group, mode, is_own, is_above, is_allowed, .. } = by;
    let owner = if *is_own { "that user".to_owned() } else { format!("{}:{group}", owner.name) };
    let which = if *is_above { by.path.display().to_string() } else { "it".to_owned() };
    let why = if *is_allowed { "although" } else { "because" };
    let cause = format!("Permission denied, {why} {which} belongs to {owner} and has the mode {mode:04o}");
    failure.because(cause).hint(denied.advice(by, kept))
}

/// Creates the error for an output file that cannot be written.
pub(crate) fn cannot_write(path: &Path, error: io::Error) -> Error {
    let failure = Error::new(ErrorKind::Local, format!("cannot write {}", path.display()));
    let directory = directory_of(path);
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => failure
            .because(format!("the directory {} does not exist", directory.display()))
            .hint("create it, or name a file elsewhere"),
        // What is not a file is written into, and its own permissions count.
        Some(Errno::ACCESS) if path.metadata().map_or(true, |found| found.is_file()) => {
            match Denied::look(directory, Right::Change) {
                Denied { user, by: Some(by), .. } => {
                    let (cause, hint) = not_writable(&user, &by);
                    failure.because(cause).hint(hint)
                }
                Denied { by: None, .. } => failure.because(error),
            }
        }
        _ => failure.because(error),
    }
}

/// Returns why the user may not write there, and what mends that.
fn not_writable(user: &Who, by: &Barrier) -> (String, String) {
    let Barrier { path, owner, mode, is_own, is_allowed, is_above, .. } = by;
    let denied = if *is_above { "may not enter" } else { "may not write in" };
    let whose = if *is_own { "it".to_owned() } else { owner.to_string() };
    let cause =
        format!("{user} {denied} {}, which belongs to {whose} and has the mode {mode:04o}", path.display());
    let path = path.display().to_string();
    let path = shlex::try_quote(&path).unwrap_or_default();
    let hint = match (is_allowed, is_own, is_above) {
        (true, ..) => ELSEWHERE.to_owned(),
        (_, true, _) => format!("chmod u+rwx {path}"),
        (.., true) => format!("as root: setfacl -m u:{}:x {path}; or name a file elsewhere", user.name),
        _ => format!("as root: setfacl -m u:{}:rwx {path}; or name a file elsewhere", user.name),
    };
    (cause, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str, number: u32) -> Who {
        Who { name: name.to_owned(), number }
    }

    /// Returns a file that postgres may not read.
    fn barrier(owner: Who, mode: u32) -> Barrier {
        Barrier {
            path: "/etc/walkeep/walkeep.toml".into(),
            is_own: owner.name == "postgres",
            owner,
            group: "root".to_owned(),
            mode,
            in_group: false,
            is_allowed: false,
            is_above: false,
        }
    }

    const SEVERAL: Kept = Kept::ForSeveral;

    fn advice(by: &Barrier) -> String {
        let denied = Denied { user: who("postgres", 101), group: "postgres".to_owned(), by: None };
        denied.advice(by, SEVERAL)
    }

    #[test]
    fn the_advice_follows_the_owner() {
        let file = "/etc/walkeep/walkeep.toml";
        let roots = barrier(who("root", 0), 0o600);
        assert_eq!(advice(&roots), format!("chown root:postgres {file} && chmod 640 {file}"));
        let of_group = Barrier { in_group: true, ..roots.clone() };
        assert_eq!(advice(&of_group), format!("chmod 640 {file}"));
        let above = Barrier { is_above: true, mode: 0o700, path: "/etc/w k".into(), ..roots.clone() };
        assert_eq!(advice(&above), "chown root:postgres '/etc/w k' && chmod 710 '/etc/w k'");
        let own = barrier(who("postgres", 101), 0o200);
        assert_eq!(advice(&own), format!("chmod u+r {file}"));
        assert_eq!(advice(&Barrier { is_allowed: true, ..roots }), ELSEWHERE);
    }

    #[test]
    fn nobody_is_told_to_take_what_belongs_to_another_user() {
        let others = barrier(who("backup", 34), 0o600);
        let file = "/etc/walkeep/walkeep.toml";
        assert_eq!(
            advice(&others),
            format!(
                "run this as backup, or make a group of backup and postgres: chgrp GROUP {file} && chmod 640 {file}"
            )
        );
        let of_group = Barrier { in_group: true, ..others.clone() };
        assert_eq!(
            advice(&of_group),
            format!("run this as backup, or let its group read it: chmod 640 {file}")
        );
        let squashed = Denied { user: who("root", 0), group: "root".to_owned(), by: None };
        assert_eq!(squashed.advice(&others, SEVERAL), "run this as backup: sudo -u backup …");
        let servers = Denied { user: who("alice", 1000), group: "alice".to_owned(), by: None };
        assert_eq!(servers.advice(&others, Kept::ForOwner), "run this as backup: sudo -u backup …");
        let nameless = Barrier { owner: who("uid 70000", 70_000), ..others };
        assert!(squashed.advice(&nameless, SEVERAL).ends_with("sudo -u '#70000' …"));
    }

    #[test]
    fn the_file_or_the_directory_that_denies_is_found() {
        let temporary = tempfile::tempdir().unwrap();
        let file = temporary.path().join("file");
        fs::write(&file, "").unwrap();
        let me = Uid::effective().as_raw();
        let path = |path: &Path, right| Barrier::find(path, right, me).unwrap().path;
        assert_eq!(path(&file, Right::Read), file);
        let own = Barrier::find(&file, Right::Read, me).unwrap();
        assert!(own.is_own && own.is_allowed && !own.is_above, "{own:?}");
        let others = Barrier::find(&file, Right::Change, 54_321).unwrap();
        assert!(!others.is_own && !others.is_allowed, "{others:?}");
        assert_eq!(path(&file, Right::Change), temporary.path());
        assert_eq!(path(&temporary.path().join("new"), Right::Change), temporary.path());
    }

    #[test]
    fn another_failure_than_a_denial_is_reported_as_it_is() {
        let error = cannot_read(
            ErrorKind::Configuration,
            "the configuration file",
            Path::new("/none.toml"),
            SEVERAL,
            io::Error::from(Errno::NOENT),
        );
        assert_eq!(
            error.report(),
            "cannot read the configuration file /none.toml: No such file or directory (os error 2)"
        );
        let error =
            cannot_read(ErrorKind::Local, "", Path::new("/"), SEVERAL, io::Error::from(Errno::ACCESS))
                .report();
        assert!(error.starts_with("cannot read / as ") && error.contains("belongs to "), "{error}");
    }

    #[test]
    fn what_kubernetes_mounts_is_mended_there() {
        let temporary = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("..2026", temporary.path().join("..data")).unwrap();
        let path = temporary.path().join("walkeep.toml");
        assert_eq!(advice(&Barrier { path, ..barrier(who("root", 0), 0o600) }), IN_KUBERNETES);
    }

    #[test]
    fn a_directory_that_may_not_be_written_is_named_with_what_mends_it() {
        let dir = Barrier { path: "/var/lib/node exporter".into(), ..barrier(who("root", 0), 0o755) };
        let (cause, hint) = not_writable(&who("postgres", 101), &dir);
        assert_eq!(
            cause,
            "postgres (uid 101) may not write in /var/lib/node exporter, which belongs to root (uid 0) and has the mode 0755"
        );
        assert_eq!(
            hint,
            "as root: setfacl -m u:postgres:rwx '/var/lib/node exporter'; or name a file elsewhere"
        );
        let own = Barrier { path: "/d".into(), ..barrier(who("postgres", 101), 0o500) };
        assert_eq!(not_writable(&who("postgres", 101), &own).1, "chmod u+rwx /d");
        let missing = Path::new("/none/file");
        assert_eq!(
            cannot_write(missing, io::Error::from(Errno::NOENT)).report(),
            "cannot write /none/file: the directory /none does not exist; create it, or name a file elsewhere"
        );
    }

    #[test]
    fn a_user_is_shown_by_name_and_number() {
        assert_eq!(who("postgres", 101).to_string(), "postgres (uid 101)");
        assert_eq!(Who::of(4_000_000_000).to_string(), "uid 4000000000");
    }
}
