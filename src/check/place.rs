//! Checks the place of an archive directory: its file system, what that can do, and what it shares with the server's data.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::shell::{Shell, quoted};
use super::{CheckFinding, Outcome, mounts, space};
use crate::archive::{Abilities, Archive, Way};
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::wal::SegmentSize;

/// Directories of a server, without symbolic links.
struct Servers {
    data: PathBuf,
    wal: PathBuf,
    /// `true` if the archive is on the file system of the data, or of the WAL.
    shares_device: bool,
}

/// Reports on the place of the archive and, if `data` is on this machine, on the server's own disk. Writes nothing if
/// `restore_only`.
pub(super) async fn check(
    archive: &Archive,
    data: Option<DataDirectory>,
    restore_only: bool,
    shell: &Shell,
    findings: &mut Vec<CheckFinding>,
) {
    let size = data.as_ref().and_then(DataDirectory::segment_size).unwrap_or(SegmentSize::DEFAULT);
    if let Some(root) = archive.directory().map(Path::to_owned) {
        let looked = blocking({
            let (data, prune) = (data.clone(), shell.of_system("prune", "--keep-days 14 --dry-run"));
            move || {
                let system = Some(match mounts::mount_of(&root) {
                    Some(mount) => mounts::judge(&mount, restore_only),
                    None => mounts::unknown(&root),
                });
                let servers = data.and_then(|data| look(&root, data.path()));
                let place = servers.map(|servers| place(&root, &servers));
                let space =
                    (!restore_only).then(|| space::check("space", "archived files", &root, size, &prune));
                [system, place, space].into_iter().flatten().collect::<Vec<_>>()
            }
        });
        findings.extend(looked.await);
        // What kept a file from being created would only be said again.
        let is_said = findings.iter().any(|found| found.name == "create" && found.outcome == Outcome::Fail);
        let abilities = if restore_only { None } else { archive.abilities().await };
        findings.extend(match abilities {
            Some(Ok(abilities)) => Some(publishing(abilities, archive.directory())),
            Some(Err(error)) if !is_said => Some(CheckFinding::of_archive("publish", &error, shell)),
            Some(Err(_)) | None => None,
        });
    }
    if let Some(data) = data {
        let wal = data.path().join("pg_wal");
        let usage = shell.usage(data.path());
        let what = "WAL that waits to be archived";
        findings.push(blocking(move || space::check("wal_space", what, &wal, size, &usage)).await);
    }
}

fn look(root: &Path, data: &Path) -> Option<Servers> {
    let data = data.canonicalize().ok()?;
    let wal = data.join("pg_wal").canonicalize().unwrap_or_else(|_| data.join("pg_wal"));
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let archives = device(root);
    let shares_device = archives.is_some() && [device(&data), device(&wal)].contains(&archives);
    Some(Servers { data, wal, shares_device })
}

/// Lists the places to which an archive could go.
const DISKS: &str = "df -hT -x tmpfs -x devtmpfs -x overlay";

fn place(root: &Path, servers: &Servers) -> CheckFinding {
    let name = "place";
    let Servers { data, wal, shares_device } = servers;
    if let Some(inside) = [wal, data].into_iter().find(|directory| root.starts_with(directory)) {
        let (root, inside) = (root.display(), inside.display());
        let what = format!("the archive {root} is inside the server's own directory {inside}");
        return CheckFinding::fail(name, what).by_typing(
            "whatever destroys or replaces that directory takes the archive with it; put it on another disk or machine; what is \
             mounted here",
            DISKS,
        );
    }
    if *shares_device {
        let what = "the archive is on the same file system as the server's data";
        return CheckFinding::note(name, what).by_typing(
            "one broken disk takes both, and a full archive stops the server; put it on another disk or machine; what is mounted \
             here",
            DISKS,
        );
    }
    CheckFinding::pass(name, "the archive is on another file system than the server's data")
}

fn publishing(abilities: Abilities, root: Option<&Path>) -> CheckFinding {
    let name = "publish";
    let way = match abilities.way {
        Some(Way::Link) => "by a hard link",
        Some(Way::Rename) => "by renameat2 with RENAME_NOREPLACE, as there are no hard links",
        None => {
            let what = "the file system has neither hard links nor a rename that never replaces a file";
            return CheckFinding::fail(name, what)
                .by_typing(
                    "keep the archive on a local disk or NFS, or give the URL of an object store; what is mounted here",
                    DISKS,
                );
        }
    };
    let what = format!("a file gets its name in one step, {way}");
    if abilities.flushes_directories {
        CheckFinding::pass(name, what)
    } else {
        let root = root.unwrap_or(Path::new(".")).display().to_string();
        CheckFinding::note(name, format!("{what}; the file system cannot flush a directory")).by_typing(
            "PostgreSQL accepts that, too; whether a name survives a power cut is up to the file system; which one it is",
            format!("findmnt -T {}", quoted(&root)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_among_the_servers_own_files_fails_and_one_beside_them_is_noted() {
        use Outcome::{Fail, Note, Pass};
        let servers = |shares_device| Servers { data: "/data".into(), wal: "/wal/of".into(), shares_device };
        for (root, shares_device, outcome) in [
            ("/data", true, Fail),
            ("/data/archive", true, Fail),
            ("/wal/of/archive", false, Fail),
            ("/database", false, Pass),
            ("/wal/other", true, Note),
            ("/mnt/archive", false, Pass),
        ] {
            let finding = place(Path::new(root), &servers(shares_device));
            assert_eq!(finding.outcome, outcome, "{root}: {finding:?}");
        }
    }

    #[test]
    fn links_of_the_server_are_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().canonicalize().unwrap().join(name);
        for name in ["data", "wal", "wal/archive"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::os::unix::fs::symlink(at("wal"), at("data/pg_wal")).unwrap();
        let servers = look(&at("wal/archive"), &at("data")).unwrap();
        assert!(servers.shares_device);
        assert_eq!(place(&at("wal/archive"), &servers).outcome, Outcome::Fail);
        let elsewhere = look(Path::new("/proc"), &at("data")).unwrap();
        assert_eq!(place(Path::new("/proc"), &elsewhere).outcome, Outcome::Pass);
    }

    #[test]
    fn the_way_of_publishing_is_named_and_a_directory_that_cannot_be_flushed_is_noted() {
        for (way, flushes_directories, outcome, word) in [
            (Some(Way::Link), true, Outcome::Pass, "hard link"),
            (Some(Way::Rename), true, Outcome::Pass, "renameat2"),
            (Some(Way::Rename), false, Outcome::Note, "cannot flush"),
            (None, true, Outcome::Fail, "neither hard links"),
        ] {
            let finding = publishing(Abilities { way, flushes_directories }, None);
            assert_eq!(finding.outcome, outcome, "{finding:?}");
            assert!(finding.detail.contains(word), "{finding:?}");
        }
    }
}
