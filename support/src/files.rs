//! Directory listings, named pipes, and permissions withdrawn for a while.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::user;

/// Lists the names in a directory, sorted.
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Creates a named pipe, owned by the unprivileged user. Nobody ever writes to it.
pub fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    user::hand_over(path);
}

/// A file or directory with other permissions, restored on drop, so that its owner can remove it.
pub struct Permissions {
    path: PathBuf,
    before: fs::Permissions,
}

impl Permissions {
    pub fn set(path: &Path, mode: u32) -> Self {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        Self { path: path.to_owned(), before }
    }
}

impl Drop for Permissions {
    fn drop(&mut self) {
        fs::set_permissions(&self.path, self.before.clone()).unwrap();
    }
}
