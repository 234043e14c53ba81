//! Errors of permissions and resources in a directory, with hints.

use std::error::Error as StdError;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Uid, User};
use rustix::io::Errno;

use super::below::ThroughLink;
use super::links::THROUGH_LINK;
use super::naming::NoWay;
use crate::archive::failure::{Asked, without_library};
use crate::call::found_within;
use crate::error::{Error, ErrorKind, chain, joined};

/// Creates the error for a failed request about `path` during a call of PostgreSQL's. It may be temporary unless somebody
/// has to change something first: permissions, a read-only mount, the kind of file system.
pub(super) fn failed(
    what: String,
    path: &Path,
    asked: Asked,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    failed_as(ErrorKind::Refused, what, path, asked, error)
}

/// Creates the error for a failure of a maintenance command.
pub(super) fn failed_for_good(
    what: String,
    path: &Path,
    asked: Asked,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    failed_as(ErrorKind::Local, what, path, asked, error)
}

fn failed_as(
    permanent: ErrorKind,
    what: String,
    path: &Path,
    asked: Asked,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    let (kind, hint) = if contains::<NoWay>(&error) {
        (permanent, Some(NO_WAY.to_owned()))
    } else if contains::<ThroughLink>(&error) {
        (permanent, Some(THROUGH_LINK.to_owned()))
    } else {
        match cause(&error).and_then(Errno::from_io_error) {
            Some(Errno::ACCESS) => {
                // What cannot be read may be a mount point whose file system is on its way.
                let may_change = !writes(asked) && permanent == ErrorKind::Refused;
                let kind = if may_change { ErrorKind::Unavailable } else { permanent };
                (kind, Some(Denied::look(path, asked).to_string()))
            }
            Some(Errno::ROFS) => (permanent, Some("the file system is mounted read-only".to_owned())),
            errno => (ErrorKind::Unavailable, errno.and_then(|errno| hint_for(asked, errno))),
        }
    };
    let failure = Error::new(kind, what).because(plain(error));
    if let Some(hint) = hint { failure.hint(hint) } else { failure }
}

/// Advice for a file system that cannot name a file without possibly replacing another.
const NO_WAY: &str = "this file system has neither hard links nor a rename that never replaces a file, so an archived file \
                      could be overwritten in it; keep the archive on a local disk or NFS, or give the URL of an object store";

fn contains<T: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    let inside = |error: &io::Error| error.get_ref()?.downcast_ref::<T>().map(drop);
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| inside(error).is_some())
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    chain(error).find_map(|error| error.downcast_ref::<io::Error>())
}

/// Returns the system's error without the words that `object_store` puts around it.
pub(super) fn plain(error: impl StdError + Send + Sync + 'static) -> io::Error {
    match cause(&error) {
        Some(cause) => match cause.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(cause.kind(), cause.to_string()),
        },
        None => io::Error::other(joined(without_library(&error))),
    }
}

fn writes(asked: Asked) -> bool {
    matches!(asked, Asked::Create | Asked::Write | Asked::Delete)
}

/// Returns a hint for the user.
fn hint_for(asked: Asked, errno: Errno) -> Option<String> {
    let makes_a_file = matches!(asked, Asked::Create | Asked::Write);
    match errno {
        Errno::NOSPC | Errno::DQUOT if makes_a_file => Some("free some space there".to_owned()),
        Errno::PERM if asked == Asked::Delete => Some(
            "only the owner may delete there, or the file is protected (chattr); run this as the user that runs the server"
                .to_owned(),
        ),
        _ => None,
    }
}

/// A denied request: who asked, and what stands in the way.
#[derive(Debug)]
struct Denied {
    user: String,
    asked: Asked,
    /// `None` if it cannot be told.
    by: Option<Barrier>,
}

/// A file or directory whose permissions deny a request.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Barrier {
    path: String,
    owner: String,
    is_own: bool,
    /// Permission bits.
    mode: u32,
    /// `true` if these bits allow it: something else denies it.
    is_allowed: bool,
    /// `true` if it is a cluster's directory or below: the archive is mounted.
    is_in_cluster: bool,
    /// `true` if it is a directory above, which must be entered.
    is_above: bool,
}

/// Time for looking at directories and for the name of a user, which may come over the network.
const PATIENCE: Duration = Duration::from_millis(500);

impl Denied {
    /// Looks from the top down for what denies this user the request. Takes no longer than a message is worth.
    fn look(path: &Path, asked: Asked) -> Self {
        let path = path.to_owned();
        let found = found_within(PATIENCE, move || {
            let user = Uid::effective();
            Some(Self { user: name_of(user), asked, by: barrier(&path, asked, user) })
        });
        found.unwrap_or_else(|| Self { user: format!("uid {}", Uid::effective()), asked, by: None })
    }
}

fn barrier(path: &Path, asked: Asked, user: Uid) -> Option<Barrier> {
    let of = |path: &Path, found: &Metadata, is_above| {
        let is_own = found.uid() == user.as_raw();
        let needed = match asked {
            _ if is_above => 0o1,
            Asked::Create | Asked::Write | Asked::Delete => 0o3,
            Asked::Look | Asked::Read | Asked::List => 0o4,
        };
        Barrier {
            path: path.display().to_string(),
            owner: name_of(Uid::from_raw(found.uid())),
            is_own,
            mode: found.mode() & 0o7777,
            is_allowed: (found.mode() >> if is_own { 6 } else { 0 }) & needed == needed,
            is_above,
            // A cluster's directory is named by its system identifier.
            is_in_cluster: path.components().any(|part| {
                part.as_os_str().to_str().is_some_and(|name| name.len() > 9 && name.parse::<u64>().is_ok())
            }),
        }
    };
    let mut above: Vec<&Path> = path.ancestors().filter(|above| !above.as_os_str().is_empty()).collect();
    above.reverse();
    let mut last: Option<(&Path, Metadata)> = None;
    for reached in above {
        match fs::metadata(reached) {
            Ok(found) => last = Some((reached, found)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let (path, found) = last?;
                return Some(of(path, &found, true));
            }
            Err(_) => break,
        }
    }
    let (reached, found) = last?;
    // A file's name belongs to its directory.
    if writes(asked) && !found.is_dir() {
        let directory = reached.parent()?;
        return Some(of(directory, &fs::metadata(directory).ok()?, false));
    }
    Some(of(reached, &found, false))
}

/// Returns the user's name with its number, or the number alone.
fn name_of(user: Uid) -> String {
    match User::from_uid(user) {
        Ok(Some(found)) => format!("{} (uid {user})", found.name.escape_debug()),
        _ => format!("uid {user}"),
    }
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, asked, by } = self;
        let denied = match asked {
            Asked::Create | Asked::Write => "may not write in",
            Asked::Look | Asked::Read => "may not read",
            Asked::List => "may not list",
            Asked::Delete => "may not delete in",
        };
        let Some(by) = by else {
            return write!(f, "{user} {denied} it, or may not enter a directory above it");
        };
        let Barrier { path, owner, is_own, mode, is_allowed, is_above, is_in_cluster } = by;
        let denied = if *is_above { "may not enter" } else { denied };
        let owner = if *is_own { "it" } else { owner };
        let name = user.split_whitespace().next().unwrap_or(user);
        write!(f, "{user} {denied} {path}, which belongs to {owner} and has the mode {mode:04o}; ")?;
        if !is_in_cluster {
            write!(f, "is the archive mounted there? if it is, ")?;
        }
        match (is_allowed, is_own, is_above) {
            (true, ..) => {
                write!(f, "look for an access list, SELinux, AppArmor, or the options of the mount")
            }
            (_, true, _) => write!(f, "chmod u+rwX {path}"),
            (.., true) if *is_in_cluster => write!(f, "chown -R {name}: {path}"),
            (.., true) => write!(f, "chown -R {name}: {path} if that is the archive, else chmod o+x {path}"),
            _ => write!(f, "chown -R {name}: {path}, if {name} is the user that runs the server"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Asked; 6] =
        [Asked::Create, Asked::Write, Asked::Look, Asked::Read, Asked::List, Asked::Delete];

    fn of(errno: Errno, asked: Asked) -> Error {
        failed("cannot".to_owned(), Path::new("/"), asked, io::Error::from(errno))
    }

    fn denied(by: Option<Barrier>, asked: Asked) -> String {
        Denied { user: "postgres (uid 101)".to_owned(), asked, by }.to_string()
    }

    fn barrier_of(owner: &str, mode: u32, is_above: bool) -> Barrier {
        let is_own = owner == "postgres";
        Barrier {
            path: "/mnt/a".to_owned(),
            owner: owner.to_owned(),
            is_own,
            mode,
            is_allowed: false,
            is_in_cluster: true,
            is_above,
        }
    }

    #[test]
    fn what_somebody_has_to_change_first_is_not_tried_again() {
        for (errno, kind) in [
            (Errno::ROFS, ErrorKind::Refused),
            (Errno::IO, ErrorKind::Unavailable),
            (Errno::NOSPC, ErrorKind::Unavailable),
            (Errno::STALE, ErrorKind::Unavailable),
        ] {
            for asked in ALL {
                assert_eq!(of(errno, asked).kind(), kind, "{errno:?} {asked:?}");
            }
        }
        let for_good =
            failed_for_good(String::new(), Path::new("/"), Asked::List, io::Error::from(Errno::ACCESS));
        assert_eq!(for_good.kind(), ErrorKind::Local);
    }

    #[test]
    fn a_denial_names_the_user_the_owner_and_the_way_out() {
        for (asked, right) in
            ALL.into_iter().zip(["write in", "write in", "read", "read", "list", "delete in"])
        {
            let text = denied(Some(barrier_of("root (uid 0)", 0o700, false)), asked);
            assert!(
                text.starts_with(&format!(
                    "postgres (uid 101) may not {right} /mnt/a, which belongs to root (uid 0) and has the mode 0700; "
                )),
                "{text}"
            );
            assert!(text.contains("chown"), "{text}");
            assert!(denied(None, asked).contains(right));
        }
        let above = denied(Some(barrier_of("root (uid 0)", 0o700, true)), Asked::Read);
        assert!(
            above.contains("may not enter /mnt/a,") && above.contains("chown -R postgres: /mnt/a"),
            "{above}"
        );
        let own = denied(Some(barrier_of("postgres", 0o500, false)), Asked::Create);
        assert!(own.contains("which belongs to it") && own.contains("chmod u+rwX /mnt/a"), "{own}");
        for is_above in [true, false] {
            let outside = Barrier { is_in_cluster: false, ..barrier_of("root (uid 0)", 0o700, is_above) };
            assert!(
                denied(Some(outside), Asked::Create).contains("; is the archive mounted there? if it is, ")
            );
        }
        let allowed = Barrier { is_allowed: true, ..barrier_of("postgres", 0o700, false) };
        let allowed = denied(Some(allowed), Asked::Create);
        assert!(allowed.contains("SELinux") && !allowed.contains("chmod"), "{allowed}");
    }

    #[test]
    fn the_file_or_the_directory_that_denies_is_found() {
        let temporary = tempfile::tempdir().unwrap();
        let file = temporary.path().join("file");
        fs::write(&file, "").unwrap();
        let path = |path: &Path, asked| barrier(path, asked, Uid::effective()).unwrap().path;
        assert_eq!(path(&file, Asked::Read), file.display().to_string());
        let own = barrier(&file, Asked::Read, Uid::effective()).unwrap();
        assert!(own.is_own && own.is_allowed && !own.is_in_cluster, "{own:?}");
        let others = barrier(&file, Asked::Create, Uid::from_raw(54_321)).unwrap();
        assert!(!others.is_own && !others.is_allowed, "{others:?}");
        for asked in [Asked::Create, Asked::Delete] {
            assert_eq!(path(&file, asked), temporary.path().display().to_string(), "{asked:?}");
        }
        assert_eq!(
            path(&temporary.path().join("new"), Asked::Create),
            temporary.path().display().to_string()
        );
    }

    #[test]
    fn the_libraries_words_are_left_out() {
        let source = Box::new(io::Error::from(Errno::NOSPC));
        let error = object_store::Error::Generic { store: "LocalFileSystem", source };
        let text = failed("cannot write x".to_owned(), Path::new("/x"), Asked::Write, error).report();
        assert_eq!(text, "cannot write x: No space left on device (os error 28); free some space there");
        let source = Box::<dyn StdError + Send + Sync>::from("it is odd");
        let error = object_store::Error::Generic { store: "LocalFileSystem", source };
        let text = failed("cannot write x".to_owned(), Path::new("/x"), Asked::Write, error).report();
        assert_eq!(text, "cannot write x: it is odd");
    }

    #[test]
    fn space_matters_only_when_a_file_is_created() {
        for asked in ALL {
            let makes = matches!(asked, Asked::Create | Asked::Write);
            assert_eq!(of(Errno::NOSPC, asked).report().contains("space there"), makes, "{asked:?}");
        }
        assert!(of(Errno::PERM, Asked::Delete).report().contains("owner"));
    }
}
