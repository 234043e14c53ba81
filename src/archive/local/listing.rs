//! Listing of one directory of an archive.
//!
//! Not `object_store`'s (0.14.2, `list_with_delimiter` in its src/local.rs): one name that is not UTF-8 or has a line feed, or one
//! link that leads in a circle, makes its listing fail, and the archive would be out of sight.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use object_store::path::Path as Key;

use super::Local;
use super::fresh::{compare_down_to, read_dir};
use super::rights::failed_for_good;
use crate::archive::failure::Asked;
use crate::archive::inventory::{Listing, OtherFile};
use crate::archive::key::is_of_an_archive;
use crate::blocking::{blocking, step};
use crate::error::Error;
use crate::wal::SystemIdentifier;

impl Local {
    /// Returns the clusters that have a directory, or a link to one, wherever it leads.
    pub(in crate::archive) async fn systems(&self) -> Result<Vec<SystemIdentifier>, Error> {
        let root = self.root().to_owned();
        blocking(move || {
            compare_down_to(&root, &root);
            systems(&root)
        })
        .await
    }

    /// Lists a directory, or the archive's own. One that does not exist is empty.
    pub(in crate::archive) async fn list(&self, directory: Option<&Key>) -> Result<Listing, Error> {
        let root = self.root().to_owned();
        let above = directory.map(|key| format!("{key}/")).unwrap_or_default();
        let directory = directory.map_or_else(|| root.clone(), |key| root.join(key.as_ref()));
        blocking(move || {
            compare_down_to(&root, &directory);
            list(&directory, &above)
        })
        .await
    }
}

/// A directory that nobody may enter, and a link to what is not mounted, may hold files: they hide nothing else.
fn systems(root: &Path) -> Result<Vec<SystemIdentifier>, Error> {
    let cannot_list =
        |error| failed_for_good(format!("cannot list {}", root.display()), root, Asked::List, error);
    let mut systems = Vec::new();
    for entry in read_dir(root).map_err(cannot_list)? {
        step();
        let entry = entry.map_err(cannot_list)?;
        let Some(system) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let is_file = fs::metadata(entry.path()).is_ok_and(|found| !found.is_dir());
        let is_gone =
            || fs::symlink_metadata(entry.path()).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if !is_file && !is_gone() {
            systems.push(system);
        }
    }
    Ok(systems)
}

/// Names of staging files are left out, and names that are no text: no file of an archive has such a name.
fn list(directory: &Path, above: &str) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    let cannot = |what: &str, path: &Path, asked, error| {
        failed_for_good(format!("cannot {what} {}", path.display()), path, asked, error)
    };
    let cannot_list = |error| cannot("list", directory, Asked::List, error);
    let entries = match read_dir(directory) {
        Ok(entries) => entries,
        // A file in its place holds no archived file, either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(listing);
        }
        Err(error) => return Err(cannot_list(error)),
    };
    for entry in entries {
        step();
        let entry = entry.map_err(cannot_list)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !is_staged(name)) else { continue };
        let path = entry.path();
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            // Deleted meanwhile, or a link to what is not mounted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) if !is_of_an_archive(name) => continue,
            Err(error) => {
                return Err(cannot("look at", &path, Asked::Look, error));
            }
        };
        if found.is_dir() {
            listing.directories.push(name.to_owned());
        } else if found.is_file() {
            let since = found.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
            let (since, size) = (since.unwrap_or(Timestamp::MAX), found.len());
            listing.files.push(OtherFile { key: format!("{above}{name}"), since, size });
        }
    }
    Ok(listing)
}

fn is_staged(name: &str) -> bool {
    let staged = name.split_once('#').filter(|(_, number)| !number.is_empty());
    staged.is_some_and(|(_, number)| number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn odd_names_and_links_hide_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| temporary.path().join(OsStr::from_bytes(name));
        for name in [&b"a\nb"[..], b"\xFF\xFE", b"00000002.history", b"00000003.history#1", &[b'x'; 255]] {
            fs::write(at(name), "12").unwrap();
        }
        fs::create_dir(at(b"17")).unwrap();
        fs::create_dir(at(b"\xFFd")).unwrap();
        symlink("round", at(b"round")).unwrap();
        symlink("/nowhere", at(b"00000004.history")).unwrap();
        let mut listing = list(temporary.path(), "7/timelines/").unwrap();
        listing.files.sort_by(|one, other| one.key.cmp(&other.key));
        let names: Vec<_> = listing.files.iter().map(|file| (&file.key[..], file.size)).collect();
        let long = format!("7/timelines/{}", "x".repeat(255));
        assert_eq!(names, [("7/timelines/00000002.history", 2), ("7/timelines/a\nb", 2), (&long, 2)]);
        assert_eq!(listing.directories, ["17"]);
        for nothing in [&b"none"[..], b"00000002.history"] {
            assert_eq!(list(&at(nothing), "").unwrap(), Listing::default());
        }
    }

    #[test]
    fn a_cluster_out_of_reach_is_listed_and_hides_no_other() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| temporary.path().join(OsStr::from_bytes(name));
        for directory in [&b"7"[..], b"007", b"lost+found", b"0", b"\xFF", b"18446744073709551616"] {
            fs::create_dir(at(directory)).unwrap();
        }
        fs::write(at(b"8"), "a file").unwrap();
        symlink("7", at(b"9")).unwrap();
        symlink("10", at(b"10")).unwrap();
        symlink("/nowhere", at(b"11")).unwrap();
        let mut found = systems(temporary.path()).unwrap();
        found.sort_unstable();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["7", "9", "10", "11"]);
        assert!(systems(&at(b"none")).unwrap_err().report().contains("cannot list"));
    }

    #[test]
    fn a_file_of_an_archive_that_cannot_be_looked_at_is_an_error() {
        let temporary = tempfile::tempdir().unwrap();
        let name = "00000002.history";
        symlink(name, temporary.path().join(name)).unwrap();
        assert!(list(temporary.path(), "").unwrap_err().report().contains(name));
    }
}
