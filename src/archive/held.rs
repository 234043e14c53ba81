//! What an archive holds instead of a cluster's files: those of other clusters, or plain WAL files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Archive, Backend};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::wal::{SystemIdentifier, SystemNames, WalName};

/// Time for a look that only makes a message better.
const PATIENCE: Duration = Duration::from_secs(3);

/// Maximum number of systems that a message names.
const MOST_NAMED: usize = 5;

/// What lies at the top of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Clusters that have a directory, in ascending order.
    pub systems: Vec<SystemIdentifier>,
    /// Number of plain WAL files, as `cp` leaves them: walkeep keeps none there.
    pub plain: usize,
}

impl Held {
    pub(super) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut held = Self::default();
        for name in names {
            match name.parse() {
                Ok(system) => held.systems.push(system),
                Err(_) => held.plain += usize::from(name.parse::<WalName>().is_ok()),
            }
        }
        held.systems.sort_unstable();
        held
    }

    /// Returns what to do about plain files; `None` if there are none.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        (self.plain > 0).then_some(
            "walkeep reads no plain WAL files; archive each into a new directory: walkeep-archive --archive /mnt/new \
             --system-identifier ID FILE, as the page \"Move from cp\" says",
        )
    }
}

/// Says which systems these are; how many more, if there are many.
pub(crate) fn some_of(systems: &[SystemIdentifier], names: &SystemNames) -> String {
    let shown: Vec<String> = systems.iter().take(MOST_NAMED).map(|system| names.shown(*system)).collect();
    match systems.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Names what is held, after "holds"; empty if nothing is.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with(&SystemNames::default()))
    }
}

impl Held {
    /// Does the same as its `Display`, with the names of systems.
    #[must_use]
    pub fn with(&self, names: &SystemNames) -> String {
        let mut parts = Vec::new();
        if !self.systems.is_empty() {
            let noun = if self.systems.len() == 1 { "system" } else { "systems" };
            parts.push(format!("{noun} {}", some_of(&self.systems, names)));
        }
        match self.plain {
            0 => {}
            1 => parts.push("1 plain WAL file, as cp leaves it".to_owned()),
            plain => parts.push(format!("{plain} plain WAL files, as cp leaves them")),
        }
        parts.join(" and ")
    }
}

impl Archive {
    /// Looks at what the archive holds; nothing if that takes long or fails. For messages: a fresh lookup comes before it.
    pub async fn held(&self) -> Held {
        tokio::time::timeout(PATIENCE, self.look()).await.unwrap_or_default()
    }

    async fn look(&self) -> Held {
        if let Backend::Local(local) = &self.backend {
            let root = local.root().to_owned();
            let names = blocking(move || {
                let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
                entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
            });
            return Held::of(names.await.iter().map(String::as_str));
        }
        let Ok(listing) = self.list_directory(None).await else { return Held::default() };
        let systems = listing.directories.iter().map(String::as_str);
        let files = listing.files.iter().filter_map(|file| file.key.rsplit('/').next());
        Held::of(systems.chain(files))
    }

    /// Returns the error for an archive that holds nothing of a cluster, which says what it does hold.
    pub async fn holds_nothing_of(&self, system: SystemIdentifier, kind: ErrorKind) -> Error {
        // On the heap: it is rare, and every read would carry its size.
        let held = Box::pin(self.held()).await;
        // It was asked for as one of those that are there, or its files have been removed.
        if held.systems.contains(&system) {
            let shown = format!("{}/{}", self.url, self.names.shown(system));
            return match &self.backend {
                Backend::Local(local) => {
                    let path = local.root().join(system.to_string());
                    empty(&shown, &path, leads_nowhere(path.clone()).await, kind)
                }
                Backend::Store(_) => Error::new(kind, format!("{shown} holds no archived file")).hint(LOST),
            };
        }
        let instead = match held.with(&self.names) {
            nothing if nothing.is_empty() => String::new(),
            held => format!(", but {held}"),
        };
        let system = self.names.shown(system);
        let what = format!("the archive {} holds nothing of system {system}{instead}", self.url);
        let hint = held.remedy().unwrap_or("is it mounted, and is it this cluster's archive?");
        Error::new(kind, what).hint(hint)
    }
}

/// What may have happened to a system without files, and what to do.
const LOST: &str =
    "were its files moved or deleted? Its server does not archive them again: take a base backup";

/// Returns the error for the directory of a system that holds no file. Some names are no system's, and people see that alone.
fn empty(shown: &str, path: &Path, leads_nowhere: bool, kind: ErrorKind) -> Error {
    if leads_nowhere {
        let what = format!("{shown} is a symbolic link that leads nowhere");
        return Error::new(kind, what).hint("is what it leads to mounted?");
    }
    let rmdir =
        format!("{LOST}; if the cluster is gone, or it is no cluster's directory: rmdir {}", path.display());
    Error::new(kind, format!("{shown} holds no archived file")).hint(rmdir)
}

/// Returns `true` for a symbolic link to what does not exist; `false` if that takes long.
async fn leads_nowhere(path: PathBuf) -> bool {
    let look = blocking(move || path.is_symlink() && matches!(path.try_exists(), Ok(false)));
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_default()
}

/// Returns `true` if the archive was found to hold nothing of the cluster.
pub(super) fn is_empty<T>(found: &Result<T, Error>) -> bool {
    found.as_ref().is_err_and(|error| error.kind() == ErrorKind::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_systems_and_plain_files_are_told_apart_and_counted() {
        let said = |names: &[&str]| Held::of(names.iter().copied()).to_string();
        assert_eq!(said(&[]), "");
        assert_eq!(said(&["lost+found", "readme"]), "");
        assert_eq!(said(&["7"]), "system 7");
        assert_eq!(said(&["9", "8"]), "systems 8, 9");
        assert_eq!(said(&["1", "2", "3", "4", "5", "6", "7"]), "systems 1, 2, 3, 4, 5 and 2 more");
        let plain =
            ["000000010000000000000001", "00000002.history", "000000010000000000000001.00000028.backup"];
        assert_eq!(said(&plain[..1]), "1 plain WAL file, as cp leaves it");
        assert_eq!(said(&plain), "3 plain WAL files, as cp leaves them");
        assert_eq!(said(&["7", plain[0]]), "system 7 and 1 plain WAL file, as cp leaves it");
        let names = [("main".parse().unwrap(), SystemIdentifier::new(8).unwrap())].into_iter().collect();
        assert_eq!(Held::of(["9", "8"]).with(&names), "systems 8 (main), 9");
        assert!(Held::of(plain).remedy().is_some() && Held::of(["7"]).remedy().is_none());
    }

    #[tokio::test]
    async fn an_empty_directory_may_have_lost_its_files_and_a_dangling_link_is_not_to_be_removed() {
        use crate::archive::{ArchiveOptions, ArchiveUrl, StoreOptions};
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("archive");
        std::fs::create_dir_all(root.join("8")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", root.join("7")).unwrap();
        let system = |number| SystemIdentifier::new(number).unwrap();
        let options = ArchiveOptions {
            url: ArchiveUrl::Directory(root.clone()),
            require_mount: false,
            store: StoreOptions::default(),
            names: [("billing".parse().unwrap(), system(8))].into_iter().collect(),
        };
        let archive = Archive::open(&options).await.unwrap();
        let root = root.display();
        assert_eq!(
            archive.holds_nothing_of(system(7), ErrorKind::Empty).await.report(),
            format!("{root}/7 is a symbolic link that leads nowhere; is what it leads to mounted?")
        );
        assert_eq!(
            archive.holds_nothing_of(system(8), ErrorKind::Empty).await.report(),
            format!(
                "{root}/8 (billing) holds no archived file; were its files moved or deleted? Its server does not archive them \
                 again: take a base backup; if the cluster is gone, or it is no cluster's directory: rmdir {root}/8"
            )
        );
    }
}
