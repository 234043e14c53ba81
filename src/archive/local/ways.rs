//! What the file system of an archive directory can do, tried out with a file of its own.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::Local;
use super::below::Below;
use super::naming::{NoWay, Way, give_name};
use super::rights::failed;
use crate::archive::failure::Asked;
use crate::blocking::blocking;
use crate::error::Error;

/// What a file system can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Way in which it names a file without replacing another; `None` if it has none.
    pub way: Option<Way>,
    /// `true` if it flushes the names in a directory to disk when it is told to.
    pub flushes_directories: bool,
}

impl Local {
    /// Tries out what the file system can do. Leaves nothing behind.
    pub(in crate::archive) async fn abilities(&self) -> Result<Abilities, Error> {
        let root = self.root().to_owned();
        blocking(move || {
            let cannot = |error| {
                failed(format!("cannot publish a file in {}", root.display()), &root, Asked::Create, error)
            };
            try_out(&root).map_err(cannot)
        })
        .await
    }
}

fn try_out(root: &Path) -> io::Result<Abilities> {
    // Recognizable as a staging file, if it is left by a call that is killed.
    let staged = tempfile::Builder::new().prefix("walkeep-check-").suffix("#1").tempfile_in(root)?;
    let name = staged.path().file_name().unwrap_or_default().to_string_lossy().replace('#', ".");
    let path = root.join(name);
    let way = match give_name(staged.as_file(), &Below::open(root, root)?, staged.path(), &path) {
        Ok(way) => {
            fs::remove_file(&path)?;
            Some(way)
        }
        Err(error) if error.get_ref().and_then(|inner| inner.downcast_ref::<NoWay>()).is_some() => None,
        Err(error) => return Err(error),
    };
    Ok(Abilities { way, flushes_directories: flushes(root)? })
}

fn flushes(directory: &Path) -> io::Result<bool> {
    match File::open(directory)?.sync_all() {
        Ok(()) => Ok(true),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::BADF)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_links_and_flushes_and_nothing_stays_in_it() {
        let temporary = tempfile::tempdir().unwrap();
        let found = try_out(temporary.path()).unwrap();
        assert_eq!(found, Abilities { way: Some(Way::Link), flushes_directories: true });
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_without_room_for_files_fails() {
        assert!(try_out(Path::new("/proc/self")).is_err());
    }
}
