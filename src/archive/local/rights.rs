//! Errors of permissions and resources in a directory, with hints.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::below::ThroughLink;
use super::links::THROUGH_LINK;
use super::naming::NoWay;
use crate::archive::failure::{Asked, without_library};
use crate::denied::{Barrier, Denied, ELSEWHERE, Right};
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
    let is_denied = cause(&error).and_then(Errno::from_io_error) == Some(Errno::ACCESS);
    let (kind, hint) = if contains::<NoWay>(&error) {
        (permanent, Some(NO_WAY.to_owned()))
    } else if contains::<ThroughLink>(&error) {
        (permanent, Some(THROUGH_LINK.to_owned()))
    } else {
        match cause(&error).and_then(Errno::from_io_error) {
            Some(Errno::ACCESS) => {
                // What cannot be read may be a mount point whose file system is on its way.
                let may_change = !writes(asked) && permanent == ErrorKind::Refused;
                let kind = match asked {
                    _ if may_change => ErrorKind::Unavailable,
                    Asked::List | Asked::Look => ErrorKind::Refused,
                    _ => permanent,
                };
                (kind, Some(advice(path, asked)))
            }
            Some(Errno::ROFS) => (permanent, Some("the file system is mounted read-only".to_owned())),
            errno => (ErrorKind::Unavailable, errno.and_then(|errno| hint_for(asked, errno))),
        }
    };
    let failure = Error::new(kind, what).because(plain(error));
    let failure = if is_denied { failure.denied() } else { failure };
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

/// Returns advice for a denied request: who asked, what stands in the way, and what mends it.
fn advice(path: &Path, asked: Asked) -> String {
    let right = if writes(asked) { Right::Change } else { Right::Read };
    text(&Denied::look(path, right), asked)
}

fn text(Denied { user, by, .. }: &Denied, asked: Asked) -> String {
    let denied = match asked {
        Asked::Create | Asked::Write => "may not write in",
        Asked::Look | Asked::Read => "may not read",
        Asked::List => "may not list",
        Asked::Delete => "may not delete in",
    };
    let Some(by) = by else {
        return format!("{user} {denied} it, or may not enter a directory above it");
    };
    let Barrier { path, owner, is_own, mode, is_allowed, is_above, .. } = by;
    let is_in_cluster = is_in_cluster(path);
    let denied = if *is_above { "may not enter" } else { denied };
    let whose = if *is_own { "it".to_owned() } else { owner.to_string() };
    let (name, path) = (&user.name, path.display());
    let mounted = if is_in_cluster { "" } else { "is the archive mounted there? if it is, " };
    let advice = match (is_allowed, is_own, is_above) {
        (true, ..) => ELSEWHERE.to_owned(),
        (_, true, _) => format!("chmod u+rwX {path}"),
        // Whoever owns it would lose what this user gets.
        _ if !owner.is_root() => format!(
            "run this as {0}, if that is the user that runs the server: {1} …; else chown -R {name}: {path}",
            owner.name,
            owner.sudo()
        ),
        (.., true) if !is_in_cluster => {
            format!("chown -R {name}: {path} if that is the archive, else chmod o+x {path}")
        }
        (.., true) => format!("chown -R {name}: {path}"),
        _ => format!("chown -R {name}: {path}, if {name} is the user that runs the server"),
    };
    let reader = if *is_allowed || *is_own || writes(asked) { "" } else { FOR_A_READER };
    format!(
        "{user} {denied} {path}, which belongs to {whose} and has the mode {mode:04o}; {mounted}{advice}{reader}"
    )
}

/// Advice for a user that is to read the archive and not to own it, such as one for monitoring.
const FOR_A_READER: &str =
    "; for a user that only reads, see walkeep check --archive ARCHIVE --print-policy restore";

/// Returns `true` for a cluster's directory, which is named by its system identifier, and below: the archive is mounted.
fn is_in_cluster(path: &Path) -> bool {
    path.components().any(|part| {
        part.as_os_str().to_str().is_some_and(|name| name.len() > 9 && name.parse::<u64>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denied::Who;

    const ALL: [Asked; 6] =
        [Asked::Create, Asked::Write, Asked::Look, Asked::Read, Asked::List, Asked::Delete];

    fn of(errno: Errno, asked: Asked) -> Error {
        failed("cannot".to_owned(), Path::new("/"), asked, io::Error::from(errno))
    }

    fn who(name: &str, number: u32) -> Who {
        Who { name: name.to_owned(), number }
    }

    fn denied(by: Option<Barrier>, asked: Asked) -> String {
        text(&Denied { user: who("postgres", 101), group: "postgres".to_owned(), by }, asked)
    }

    const IN_CLUSTER: &str = "/mnt/a/7712345678901234567";

    fn barrier_of(owner: Who, mode: u32, is_above: bool) -> Barrier {
        Barrier {
            path: IN_CLUSTER.into(),
            is_own: owner.name == "postgres",
            owner,
            group: "root".to_owned(),
            mode,
            in_group: false,
            is_allowed: false,
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
        assert_eq!(for_good.kind(), ErrorKind::Refused, "as for every other command");
    }

    #[test]
    fn a_denial_names_the_user_the_owner_and_the_way_out() {
        for (asked, right) in
            ALL.into_iter().zip(["write in", "write in", "read", "read", "list", "delete in"])
        {
            let text = denied(Some(barrier_of(who("root", 0), 0o700, false)), asked);
            assert!(
                text.starts_with(&format!(
                    "postgres (uid 101) may not {right} {IN_CLUSTER}, which belongs to root (uid 0) and has the mode 0700; "
                )),
                "{text}"
            );
            assert!(text.contains("chown"), "{text}");
            assert!(denied(None, asked).contains(right));
        }
        let above = denied(Some(barrier_of(who("root", 0), 0o700, true)), Asked::Read);
        assert!(
            above.contains(&format!("may not enter {IN_CLUSTER},"))
                && above.ends_with(&format!("; chown -R postgres: {IN_CLUSTER}{FOR_A_READER}")),
            "{above}"
        );
        let own = denied(Some(barrier_of(who("postgres", 101), 0o500, false)), Asked::Create);
        assert!(
            own.contains("which belongs to it") && own.ends_with(&format!("; chmod u+rwX {IN_CLUSTER}")),
            "{own}"
        );
        for is_above in [true, false] {
            let outside = Barrier { path: "/mnt/a".into(), ..barrier_of(who("root", 0), 0o700, is_above) };
            assert!(
                denied(Some(outside), Asked::Create).contains("; is the archive mounted there? if it is, ")
            );
        }
        let allowed = Barrier { is_allowed: true, ..barrier_of(who("postgres", 101), 0o700, false) };
        let allowed = denied(Some(allowed), Asked::Create);
        assert!(allowed.contains("SELinux") && !allowed.contains("chmod"), "{allowed}");
    }

    #[test]
    fn nobody_is_told_at_once_to_take_what_belongs_to_another_user() {
        for asked in ALL {
            let text = denied(Some(barrier_of(who("backup", 34), 0o700, false)), asked);
            let reader = if writes(asked) { "" } else { FOR_A_READER };
            assert!(
                text.ends_with(&format!(
                    "; run this as backup, if that is the user that runs the server: sudo -u backup …; else chown -R \
                     postgres: {IN_CLUSTER}{reader}"
                )),
                "{text}"
            );
        }
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
