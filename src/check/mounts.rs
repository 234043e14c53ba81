//! File systems: which one a directory is on, and what its type and its mount options mean for an archive. Pure, but for
//! [`mount_of`].
//!
//! Source: proc(5) for `/proc/self/mountinfo`; nfs(5), mount.cifs(8), mount(8) and the kernel's own documentation for the options.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::shell::quoted;
use super::{CheckFinding, Open, Outcome};

const NAME: &str = "file_system";

/// Time in seconds for which a client of NFS remembers a directory at most, unless it is told otherwise.
const LONGEST_MEMORY: u64 = 60;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    id: u64,
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// Type, such as `ext4` or `fuse.rclone`.
    kind: String,
    /// Device, or what a server exports.
    source: String,
    /// Options of the mount and of the file system.
    options: Vec<String>,
}

/// Parses `/proc/self/mountinfo`. Lines of another form are left out.
fn mounts(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    // A variable number of fields comes before the dash.
    let dash = 6 + fields.get(6..)?.iter().position(|field| *field == b"-")?;
    let text = |at: usize| Some(unescaped(fields.get(at)?));
    let words = |at: usize| Some(String::from_utf8_lossy(&text(at)?).into_owned());
    let list = |at: usize| Some(words(at)?.split(',').map(str::to_owned).collect::<Vec<_>>());
    Some(Mount {
        id: words(0)?.parse().ok()?,
        point: PathBuf::from(OsString::from_vec(text(4)?)),
        kind: words(dash + 1)?,
        source: words(dash + 2)?,
        options: [list(5)?, list(dash + 3)?].concat(),
    })
}

/// Replaces each backslash with three octal digits by its byte.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let digits = others.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = others.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    bytes
}

/// Returns the mount that a path without symbolic links is on: the innermost, and of several on one point the last one.
fn innermost<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

/// Returns the mount that an existing directory is on.
pub(super) fn mount_of(directory: &Path) -> Option<Mount> {
    let known = mounts(&fs::read("/proc/self/mountinfo").ok()?);
    // By its number, because a mount may hide others.
    let open = File::open(directory).ok()?;
    let described = fs::read_to_string(format!("/proc/self/fdinfo/{}", open.as_raw_fd())).ok();
    let number = described.and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok())
    });
    let numbered = known.iter().find(|mount| Some(mount.id) == number);
    numbered.or_else(|| innermost(&known, directory)).cloned()
}

impl Mount {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|known| known == option)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Returns the number of seconds for which a directory's names are remembered, if that is much.
    fn long_memory(&self) -> Option<u64> {
        let limits = ["acregmax", "acdirmax", "actimeo"];
        let longest = limits.iter().filter_map(|name| self.value(name)?.parse().ok()).max();
        longest.filter(|seconds| *seconds > LONGEST_MEMORY)
    }

    /// Describes it in a few words.
    pub(super) fn title(&self) -> String {
        format!("{} of {}, mounted on {}", self.kind, self.source, self.point.display())
    }
}

/// Reports what the mount means for an archive on it, which is only read if `restore_only`.
pub(super) fn judge(mount: &Mount, restore_only: bool) -> CheckFinding {
    let mut concerns = Vec::new();
    if mount.has("ro") && !restore_only {
        let what = "it is mounted read-only, and nothing can be archived";
        concerns.push((Outcome::Fail, what.to_owned(), "mount it rw"));
    }
    match mount.kind.as_str() {
        "nfs" | "nfs4" => concerns.extend(of_nfs(mount)),
        "cifs" | "smb3" => concerns.extend(of_smb(mount)),
        "9p" if matches!(mount.value("cache"), Some("loose" | "fscache")) => {
            concerns.push((Outcome::Note, HIDES.to_owned(), "mount it with cache=none"));
        }
        "vboxsf" | "9p" | "virtiofs" => concerns.push((
            Outcome::Note,
            "it is a shared folder of a virtual machine: what is flushed here may be in the host's memory only"
                .to_owned(),
            "use a disk of the machine, or NFS",
        )),
        "tmpfs" | "ramfs" => concerns.push((
            Outcome::Note,
            "it is in memory, and gone with the next restart".to_owned(),
            "put the archive on a disk of another machine",
        )),
        "overlay" | "aufs" => concerns.push((
            Outcome::Note,
            "it is that of a container, and is removed with it".to_owned(),
            "mount a volume there",
        )),
        kind if kind.starts_with("fuse") => concerns.extend(of_fuse(mount)),
        _ => {}
    }
    if mount.has("nobarrier") || mount.value("barrier") == Some("0") {
        let what = "it is mounted without barriers: a power cut may take what was flushed";
        concerns.push((Outcome::Note, what.to_owned(), "mount it without nobarrier"));
    }
    let outcome = match concerns.iter().map(|(outcome, ..)| outcome).collect::<Vec<_>>() {
        all if all.contains(&&Outcome::Fail) => Outcome::Fail,
        all if all.is_empty() => Outcome::Pass,
        _ => Outcome::Note,
    };
    let title = format!("it is on {}", mount.title());
    let whats: Vec<&str> =
        [title.as_str()].into_iter().chain(concerns.iter().map(|(_, what, _)| what.as_str())).collect();
    let finding = CheckFinding::new(NAME, outcome, whats.join("; "));
    let point = quoted(&mount.point.display().to_string());
    let hints = concerns.iter().map(|(.., hint)| *hint).collect::<Vec<_>>().join("; ");
    match hints.as_str() {
        "" => finding,
        // Of a running system, as after an error of the disk.
        "mount it rw" => Open(finding).by_typing(
            "the kernel mounts a disk with errors so, and dmesg says it; once that is mended, mount it rw",
            format!("sudo mount -o remount,rw {point}"),
        ),
        hints if hints.contains("mount it") => Open(finding).by_typing(
            format!("{hints}; with the options changed in /etc/fstab"),
            format!("sudo umount {point} && sudo mount {point}"),
        ),
        hints => Open(finding)
            .by_typing(format!("{hints}; what is mounted here"), "df -hT -x tmpfs -x devtmpfs -x overlay"),
    }
}

/// Reports that the kernel does not say what `directory` is on.
pub(super) fn unknown(directory: &Path) -> CheckFinding {
    let what = "which file system the archive is on, and with which options, is not known: /proc/self/mountinfo cannot be read";
    CheckFinding::note(NAME, what).by_typing(
        "on a machine that shows it, or outside of the container",
        format!("findmnt -T {}", quoted(&directory.display().to_string())),
    )
}

const HIDES: &str = "its cache may hide what other machines have archived";

type Concern = (Outcome, String, &'static str);

fn of_nfs(mount: &Mount) -> Vec<Concern> {
    let mut concerns = Vec::new();
    if let Some(soft) = ["soft", "softerr"].into_iter().find(|option| mount.has(option)) {
        // "Silent data corruption in certain cases", says nfs(5).
        let what = format!(
            "with {soft}, a write is given up while the server does not answer, and data may be lost silently"
        );
        concerns.push((Outcome::Fail, what, "mount it with hard, the default"));
    }
    let memory = mount.long_memory();
    if memory.is_some() || mount.has("nocto") || mount.value("lookupcache") == Some("all") {
        let long = memory.map_or_else(String::new, |seconds| format!(" for up to {seconds} s"));
        let what = format!(
            "{HIDES}{long}; walkeep asks the server all the same, and other programs such as cp do not"
        );
        concerns.push((
            Outcome::Note,
            what,
            "mount it without nocto, lookupcache and longer times than usual",
        ));
    }
    if mount.value("proto") == Some("udp") {
        let what = "over UDP, data may be damaged on the way";
        concerns.push((Outcome::Note, what.to_owned(), "mount it with proto=tcp"));
    }
    concerns
}

fn of_smb(mount: &Mount) -> Vec<Concern> {
    let mut concerns = Vec::new();
    if mount.has("nostrictsync") {
        let what = "with nostrictsync, what is flushed here may be in the server's memory only";
        concerns.push((Outcome::Fail, what.to_owned(), "mount it without nostrictsync"));
    }
    if mount.value("cache") == Some("loose") || mount.long_memory().is_some() {
        concerns.push((Outcome::Note, HIDES.to_owned(), "mount it with cache=strict, and actimeo=1"));
    }
    concerns
}

fn of_fuse(mount: &Mount) -> Option<Concern> {
    const STORES: [&str; 9] =
        ["rclone", "s3fs", "gcsfuse", "mountpoint-s3", "mount-s3", "goofys", "blobfuse", "s3ql", "geesefs"];
    let names = [mount.kind.as_str(), mount.source.as_str()];
    if STORES.iter().any(|store| names.iter().any(|name| name.contains(store))) {
        let what =
            format!("it is a mounted object store: what is acknowledged may not be sent yet, and {HIDES}");
        return Some((
            Outcome::Note,
            what,
            "use the store itself: --archive s3://bucket/prefix, gs://… or az://…",
        ));
    }
    let is_remote = mount.kind.contains("sshfs") || mount.source.contains(':');
    let what = format!("it is a network file system in user space: {HIDES}");
    is_remote.then_some((Outcome::Note, what, "use NFS, or an object store"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(kind: &str, options: &str) -> Mount {
        let line = format!("36 35 98:0 / /mnt rw,noatime shared:1 master:2 - {kind} host:/x {options}");
        mount(line.as_bytes()).unwrap()
    }

    #[test]
    fn the_innermost_mount_counts_and_of_several_on_one_point_the_last() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /mnt rw - ext4 /dev/b rw\nodd line\n\
            3 2 8:3 / /mnt/a\\040b rw shared:3 - nfs4 host:/x rw,soft\n4 1 8:4 / /mnt rw - xfs /dev/c rw\n";
        let mounts = mounts(text);
        assert_eq!(mounts.len(), 4);
        let number = |path: &str| innermost(&mounts, Path::new(path)).unwrap().id;
        assert_eq!(
            ["/", "/mntx", "/mnt", "/mnt/c", "/mnt/a b", "/mnt/a b/c", "/mnt/a"].map(number),
            [1, 1, 4, 4, 3, 3, 4]
        );
        assert_eq!(mounts[2].title(), "nfs4 of host:/x, mounted on /mnt/a b");
    }

    #[test]
    fn the_mount_of_a_directory_is_found() {
        let proc = mount_of(Path::new("/proc/self")).unwrap();
        assert_eq!((proc.kind.as_str(), proc.point.as_path()), ("proc", Path::new("/proc")));
        assert_eq!(mount_of(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn types_and_options_that_endanger_an_archive_are_named() {
        use Outcome::{Fail, Note, Pass};
        for (kind, options, outcome, word) in [
            ("ext4", "rw,errors=remount-ro", Pass, "ext4"),
            ("ext4", "rw,nobarrier", Note, "power cut"),
            ("ext4", "ro", Fail, "read-only"),
            ("nfs4", "rw,vers=4.2,hard,proto=tcp,acregmax=60,acdirmax=60", Pass, "nfs4"),
            ("nfs4", "rw,soft", Fail, "with soft"),
            ("nfs4", "rw,softerr,proto=tcp", Fail, "with softerr"),
            ("nfs", "rw,hard,acdirmax=600", Note, "for up to 600 s"),
            ("nfs", "rw,hard,nocto", Note, "hide"),
            ("nfs", "rw,hard,lookupcache=all", Note, "hide"),
            ("nfs", "rw,hard,lookupcache=none", Pass, "nfs"),
            ("nfs", "rw,hard,proto=udp", Note, "UDP"),
            ("cifs", "rw,vers=3.1.1,cache=strict,actimeo=1,soft", Pass, "cifs"),
            ("cifs", "rw,cache=loose", Note, "hide"),
            ("cifs", "rw,nostrictsync", Fail, "nostrictsync"),
            ("smb3", "rw,cache=strict,actimeo=300", Note, "hide"),
            ("fuse.rclone", "rw,user_id=0", Note, "object store"),
            ("fuse.sshfs", "rw", Note, "user space"),
            ("fuseblk", "rw", Note, "user space"),
            ("9p", "rw,cache=loose", Note, "hide"),
            ("9p", "rw", Note, "virtual machine"),
            ("tmpfs", "rw,size=4k", Note, "in memory"),
            ("overlay", "rw", Note, "container"),
        ] {
            let finding = judge(&of(kind, options), false);
            assert_eq!(finding.outcome, outcome, "{kind} {options}: {finding:?}");
            assert!(finding.detail.contains(word), "{kind} {options}: {finding:?}");
            assert_eq!(finding.command.is_none(), outcome == Pass, "{finding:?}");
        }
        assert_eq!(judge(&of("ext4", "ro"), true).outcome, Pass, "reading needs no more");
        let two = judge(&of("nfs4", "ro,soft"), false);
        assert!(two.outcome == Fail && two.detail.contains("soft"), "the others are named, too: {two:?}");
    }

    fn escaped(text: &[u8]) -> Vec<u8> {
        let escape = |byte: &u8| match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
            byte => vec![*byte],
        };
        text.iter().flat_map(escape).collect()
    }

    proptest! {
        #[test]
        fn any_mount_point_is_read_back(
            name in proptest::collection::vec(1u8.., 1..30),
            id in any::<u64>(),
            optional in proptest::collection::vec("(shared|master|x):[0-9]{1,3}", 0..3),
            options in proptest::collection::vec("[a-z=0-9]{1,8}", 1..4),
        ) {
            let point = [b"/", &name[..]].concat();
            let optional = optional.iter().flat_map(|field| [field.as_str(), " "]).collect::<String>();
            let options = options.join(",");
            let line = [
                format!("{id} 1 8:1 / ").as_bytes(),
                &escaped(&point),
                format!(" rw {optional}- ext4 ").as_bytes(),
                &escaped(&name),
                format!(" {options}").as_bytes(),
            ].concat();
            let read = mount(&line).unwrap();
            prop_assert_eq!(read.id, id);
            prop_assert_eq!(read.point, PathBuf::from(OsString::from_vec(point)));
            prop_assert_eq!(read.source, String::from_utf8_lossy(&name));
            prop_assert_eq!(read.options.join(","), format!("rw,{options}"));
        }

        #[test]
        fn no_text_ends_it(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let read = mounts(&text);
            let _ = innermost(&read, Path::new("/x"));
            for mount in &read {
                let _ = judge(mount, false);
            }
        }
    }
}
