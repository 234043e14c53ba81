//! A look at a directory that no cache answers.
//!
//! On a network file system the client answers a look-up from what it has seen, absences included, for up to a minute.
//! Names are compared with the server's as soon as their directory has turned out to be another than before. Opening it
//! finds that out, but not where it is mounted with `nocto`; a `statx` that asks the server does so there, too, and a
//! plain `stat` nowhere.

use std::fs::{self, ReadDir};
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::rights::failed;
use crate::archive::failure::Asked;
use crate::error::Error;

/// Opens a directory, so that its names are as the server has them; `None` where there is none.
pub(super) fn open(directory: &Path) -> Result<Option<ReadDir>, Error> {
    match read_dir(directory) {
        Ok(listing) => Ok(Some(listing)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_list(directory)(error)),
    }
}

/// As `std::fs::read_dir`, so that the names are as the server has them.
pub(super) fn read_dir(directory: &Path) -> io::Result<ReadDir> {
    compare(directory);
    fs::read_dir(directory)
}

/// Has whoever looks for something below `root` from now on find what the server has, in `directory` and on the way down
/// to it.
pub(super) fn compare_down_to(root: &Path, directory: &Path) {
    let mut way: Vec<&Path> = directory.ancestors().take_while(|above| above.starts_with(root)).collect();
    way.reverse();
    way.into_iter().for_each(compare);
}

/// What fails here, on a kernel without such a call for one, fails for whoever then looks, if it matters.
fn compare(directory: &Path) {
    let _ = statx(CWD, directory, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS);
}

pub(super) fn cannot_list(directory: &Path) -> impl Fn(io::Error) -> Error {
    move |error| failed(format!("cannot list {}", directory.display()), Asked::List, error)
}
