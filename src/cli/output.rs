//! Output files that a person names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::whole_file::{IfTaken, Readers, WholeFile, directory_of};

/// Prefix of temporary names next to an output file.
const PREFIX: &str = ".tmp";

/// Maximum number of links in a row, as of Linux.
const MAX_LINKS: usize = 40;

/// Way to write an output file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// Access to a new file.
    pub(super) readers: Readers,
    /// `true` to flush it to disk.
    pub(super) durable: bool,
    /// Treatment of an existing file.
    pub(super) if_taken: IfTaken,
}

impl Output {
    /// Writes the file. It appears under its name only once it is complete, with the owner and the mode of the file that it
    /// replaces, as far as this user may give files away. A symbolic link stays, and the file it leads to is written. A device or a pipe is written into.
    pub(super) fn write(self, path: &Path, mut content: impl Read) -> io::Result<()> {
        let readers = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
            // What is behind the names of open files must not be replaced: a shell has it open, too.
            Ok(found) if !found.is_file() || is_open_file(path) => {
                return io::copy(&mut content, &mut File::options().append(true).open(path)?).map(drop);
            }
            Ok(found) => Readers::Like { user: found.uid(), group: found.gid(), mode: found.mode() & 0o7777 },
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.readers_of_new(path),
            Err(error) => return Err(error),
        };
        let file = WholeFile { prefix: PREFIX, readers, durable: self.durable, if_taken: self.if_taken };
        file.write(&behind_links(path)?, content)
    }

    /// Returns the access to a new file. One that root makes belongs to the owner of its directory: a server cannot read, replace
    /// or remove root's files in `pg_wal`.
    fn readers_of_new(self, path: &Path) -> Readers {
        let directory = behind_links(path).map(|path| fs::metadata(directory_of(&path)));
        let mode = match self.readers {
            Readers::Owner => 0o600,
            Readers::All => 0o644,
            other @ (Readers::Umask | Readers::Like { .. }) => return other,
        };
        match directory {
            Ok(Ok(found)) if geteuid().is_root() && found.uid() != 0 => {
                Readers::Like { user: found.uid(), group: found.gid(), mode }
            }
            _ => self.readers,
        }
    }
}

/// Returns `true` for what is written into, such as a pipe: its reader may never come, or never finish.
pub(super) fn has_reader(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file())
}

fn is_open_file(path: &Path) -> bool {
    let is_below = |directory: &str| path.starts_with(directory);
    is_below("/dev/fd") || is_below("/dev/stdout") || is_below("/dev/stderr") || is_below("/proc")
}

/// Returns the path that a symbolic link leads to in the end, whether it exists or not.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            // Not a link, or nothing.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const OUTPUT: Output = Output { readers: Readers::Owner, durable: true, if_taken: IfTaken::Replace };

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_owner() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        OUTPUT.write(&path, &b"new"[..]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // Only root can give a file away.
        let given = std::os::unix::fs::chown(&path, Some(12_345), Some(54_321)).is_ok();
        OUTPUT.write(&path, &b"newer"[..]).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"newer".to_vec(), 0o640));
        assert!(!given || (found.uid(), found.gid()) == (12_345, 54_321), "{found:?}");
        assert_eq!(names(temporary.path()), ["file"]);
    }

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("pg_wal");
        fs::create_dir(&directory).unwrap();
        // Only root can give a directory away.
        let given = std::os::unix::fs::chown(&directory, Some(12_345), Some(54_321)).is_ok();
        OUTPUT.write(&directory.join("new"), &b"new"[..]).unwrap();
        let found = fs::metadata(directory.join("new")).unwrap();
        let expected = if given { (12_345, 54_321) } else { (geteuid().as_raw(), found.gid()) };
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (expected.0, expected.1, 0o600));
    }

    #[test]
    fn a_link_stays_and_leads_to_the_output() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        fs::create_dir(at("below")).unwrap();
        symlink("below/link", at("link")).unwrap();
        symlink("file", at("below/link")).unwrap();
        for content in ["dangling at first", "then not"] {
            OUTPUT.write(&at("link"), content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(at("below/file")).unwrap(), content);
        }
        assert_eq!(names(temporary.path()), ["below", "link"]);
        assert_eq!(names(&at("below")), ["file", "link"]);
        symlink("loop", at("loop")).unwrap();
        assert!(OUTPUT.write(&at("loop"), &b""[..]).is_err());
    }

    #[test]
    fn what_is_not_a_file_is_written_into_or_refused() {
        OUTPUT.write(Path::new("/dev/null"), &b"gone"[..]).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let temporary = tempfile::tempdir().unwrap();
        let error = OUTPUT.write(temporary.path(), &b""[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert_eq!(names(temporary.path()), [""; 0]);
        let (mut reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        OUTPUT.write(Path::new(&path), &b"piped"[..]).unwrap();
        drop(writer);
        let mut piped = String::new();
        reader.read_to_string(&mut piped).unwrap();
        assert_eq!(piped, "piped");
    }
}
