//! What the file system of an archive directory can do, tried out with a file of its own, by the calls that push makes.

use std::io;
use std::path::{Path, PathBuf};

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
    let directory = Below::open(root, root)?;
    // Recognizable as a staging file, if it is left by a call that is killed.
    let name = PathBuf::from(format!("walkeep-check-{:016x}", fastrand::u64(..)));
    let staged = PathBuf::from(format!("{}#1", name.display()));
    let file = directory.create_new(&staged)?;
    let named = file.sync_all().and_then(|()| give_name(&file, &directory, &staged, &name));
    let way = match named {
        Ok(way) => {
            directory.remove(&name)?;
            Some(way)
        }
        Err(error) => {
            // Gone already if it got the other name.
            let _ = directory.remove(&staged);
            if error.get_ref().is_none_or(|inner| !inner.is::<NoWay>()) {
                return Err(error);
            }
            None
        }
    };
    Ok(Abilities { way, flushes_directories: directory.can_be_flushed()? })
}

#[cfg(test)]
mod tests {
    use std::fs;

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
