//! Directory lookups that bypass caches.
//!
//! The client of a network file system answers lookups from its cache, absences included, for up to a minute. It
//! compares names with the server's once it notices that their directory has changed. Opening the directory makes it
//! notice, except in a file system mounted with `nocto`. A `statx` that asks the server works there, too. A plain
//! `stat` works nowhere.

use std::fs::{self, ReadDir};
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::rights::failed;
use crate::archive::failure::Asked;
use crate::error::Error;

/// Opens a directory with the names that the server has; `None` if it does not exist.
pub(super) fn open(directory: &Path) -> Result<Option<ReadDir>, Error> {
    match read_dir(directory) {
        Ok(listing) => Ok(Some(listing)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_list(directory)(error)),
    }
}

/// Does the same as `std::fs::read_dir`, with the names that the server has.
pub(super) fn read_dir(directory: &Path) -> io::Result<ReadDir> {
    compare(directory);
    fs::read_dir(directory)
}

/// Makes later lookups below `root` return the server's names, in `directory` and in all directories above it.
pub(super) fn compare_down_to(root: &Path, directory: &Path) {
    let mut way: Vec<&Path> = directory.ancestors().take_while(|above| above.starts_with(root)).collect();
    way.reverse();
    way.into_iter().for_each(compare);
}

/// Errors are ignored: an old kernel may lack the call, and an error that matters recurs in the lookup itself.
fn compare(directory: &Path) {
    let _ = statx(CWD, directory, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS);
}

pub(super) fn cannot_list(directory: &Path) -> impl Fn(io::Error) -> Error {
    move |error| failed(format!("cannot list {}", directory.display()), directory, Asked::List, error)
}
