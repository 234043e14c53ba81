//! Errors of permissions and resources in a directory, with hints.

use std::error::Error as StdError;
use std::io;

use rustix::io::Errno;

use crate::archive::failure::Asked;
use crate::error::{Error, ErrorKind, chain};

/// Creates the error for a failure during a call of PostgreSQL's, which may be temporary.
pub(super) fn failed(what: String, asked: Asked, error: impl StdError + Send + Sync + 'static) -> Error {
    let hint = hint_for(asked, &error);
    let failure = Error::new(ErrorKind::Unavailable, what).because(error);
    if let Some(hint) = hint { failure.hint(hint) } else { failure }
}

/// Creates the error for a failure of a maintenance command. Missing permission is permanent.
pub(super) fn failed_for_good(
    what: String,
    asked: Asked,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    let cause = chain(&error).find_map(|error| error.downcast_ref::<io::Error>());
    let denied = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
    if !denied {
        return failed(what, asked, error);
    }
    let hint = format!(
        "this user may not {}: run this as the user that runs the server, which owns the archive",
        right(asked)
    );
    Error::new(ErrorKind::Local, what).because(error).hint(hint)
}

/// Returns a hint for the user.
fn hint_for(asked: Asked, error: &(dyn StdError + 'static)) -> Option<String> {
    let cause = chain(error).find_map(|error| error.downcast_ref::<io::Error>())?;
    let makes_a_file = matches!(asked, Asked::Create | Asked::Write);
    match Errno::from_io_error(cause)? {
        Errno::NOSPC | Errno::DQUOT if makes_a_file => Some("free some space there".to_owned()),
        Errno::ROFS => Some("the file system is mounted read-only".to_owned()),
        Errno::ACCESS => Some(format!("the user that runs the server must be able to {}", right(asked))),
        Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS if asked == Asked::Create => Some(
            "walkeep publishes a file by a hard link, which never replaces anything; this file system seems to \
             have none, so choose another one"
                .to_owned(),
        ),
        Errno::PERM if asked == Asked::Delete => Some(
            "only the owner may delete there, or the file is protected (chattr); run this as the user that runs the server"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Describes the permission that the request needs.
fn right(asked: Asked) -> &'static str {
    match asked {
        Asked::Create | Asked::Write => "write there",
        Asked::Look => "look there, so enter every directory above",
        Asked::Read => "read it, and enter every directory above",
        Asked::List => "list what is there, and enter every directory above",
        Asked::Delete => "delete there, which is up to the directory's permissions, not the file's",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Asked; 6] =
        [Asked::Create, Asked::Write, Asked::Look, Asked::Read, Asked::List, Asked::Delete];

    #[test]
    fn a_missing_permission_is_named() {
        let denied = || io::Error::from(Errno::ACCESS);
        for asked in ALL {
            for error in
                [failed(String::new(), asked, denied()), failed_for_good(String::new(), asked, denied())]
            {
                let text = error.report();
                for (word, those) in [
                    ("write", &[Asked::Create, Asked::Write][..]),
                    ("look", &[Asked::Look]),
                    ("read", &[Asked::Read]),
                    ("list", &[Asked::List]),
                    ("delete", &[Asked::Delete]),
                ] {
                    assert_eq!(
                        text.contains(&format!(" {word} ")),
                        those.contains(&asked),
                        "{asked:?}: {text}"
                    );
                }
            }
        }
    }

    #[test]
    fn hard_links_and_space_matter_only_when_a_file_is_created() {
        let hint = |asked, errno| hint_for(asked, &io::Error::from(errno)).unwrap_or_default();
        for asked in ALL {
            let makes = matches!(asked, Asked::Create | Asked::Write);
            assert_eq!(hint(asked, Errno::NOSPC).contains("space"), makes, "{asked:?}");
            for errno in [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS] {
                let about_links = hint(asked, errno).contains("hard link");
                assert_eq!(about_links, asked == Asked::Create, "{asked:?} {errno:?}");
            }
        }
        assert!(hint(Asked::Delete, Errno::PERM).contains("owner"));
    }
}
