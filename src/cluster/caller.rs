//! The server that calls.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::DataDirectory;

/// The server whose WAL file is at a path. Its data directory is looked up at its first use, and once: clones share it.
#[derive(Debug, Clone)]
pub struct Caller {
    path: PathBuf,
    data: Arc<OnceLock<DataDirectory>>,
}

impl Caller {
    /// The server whose WAL file is at `path`. Nothing is looked up yet, as a file system may hang.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, data: Arc::default() }
    }

    /// Returns its data directory. May block.
    #[must_use]
    pub fn data(&self) -> &DataDirectory {
        self.data.get_or_init(|| DataDirectory::of(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_data_directory_is_looked_up_once_and_not_before_it_is_needed() {
        let cluster = tempfile::tempdir().unwrap();
        let caller = Caller::at(cluster.path().join("pg_wal/RECOVERYXLOG"));
        let clone = caller.clone();
        fs::create_dir(cluster.path().join("global")).unwrap();
        fs::write(cluster.path().join("global/pg_control"), [0; 16]).unwrap();
        assert_eq!(caller.data().path(), cluster.path().join(""));
        fs::remove_dir_all(cluster.path().join("global")).unwrap();
        assert_eq!(clone.data(), caller.data(), "it is not looked up again");
        assert_eq!(Caller::at(cluster.path().join("pg_wal/x")).data(), &DataDirectory::current());
    }
}
