//! The prefetchers that restores leave behind, as anybody on the machine sees them: through /proc.

use std::{
    fs,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    data_directory::{DataDirectory, SEGMENT_BYTES, segment},
    files::names_in,
    push::files_below,
    restore::{SYSTEM, Scene, TARGET},
    running::outcome_of,
    sandbox::Sandbox,
    wait_until,
};

/// All prefetchers that were started in a sandbox; killed when dropped.
pub struct Prefetchers {
    sandbox: PathBuf,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetcher(i32);

impl Prefetchers {
    pub fn of(sandbox: &Sandbox) -> Self {
        Self { sandbox: sandbox.path().to_owned() }
    }

    /// Those that live. One that has ended and was not waited for has no command line any more.
    pub fn all(&self) -> Vec<Prefetcher> {
        let home = format!("HOME={}", self.sandbox.display());
        let has = |pid: i32, file: &str, line: &dyn Fn(&[u8]) -> bool| {
            fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.split(|byte| *byte == 0).any(line))
        };
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| has(*pid, "cmdline", &|word| word.starts_with(b"--prefetch-after=")))
            .filter(|pid| has(*pid, "environ", &|line| line == home.as_bytes()))
            // strace's own command line has that of the program in it.
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name != "strace\n")
            })
            .map(Prefetcher)
            .collect()
    }

    /// Waits until there is exactly one that can be met.
    pub fn only(&self) -> Prefetcher {
        let mut all = Vec::new();
        wait_until("there is one prefetcher", || {
            all = self.all();
            all.len() == 1 && all[0].is_met()
        });
        all[0]
    }

    /// Waits until there is exactly one, and it has so many complete segments of 1 MiB in hand.
    pub fn wait_until_held(&self, segments: usize) -> Prefetcher {
        let mut prefetcher = None;
        wait_until(&format!("a prefetcher holds {segments} segments"), || {
            let all = self.all();
            prefetcher = all.first().copied();
            all.len() == 1 && all[0].held() == segments
        });
        prefetcher.unwrap()
    }

    /// Sends them all a signal; one may have ended.
    pub fn signal_all(&self, signal: Signal) {
        for prefetcher in self.all() {
            prefetcher.try_signal(signal);
        }
    }

    pub fn wait_until_none(&self) {
        wait_until("no prefetcher is left", || self.all().is_empty());
    }
}

impl Drop for Prefetchers {
    fn drop(&mut self) {
        // A call that is still at work may leave another one.
        for _ in 0..100 {
            let all = self.all();
            if all.is_empty() {
                break;
            }
            for prefetcher in all {
                prefetcher.try_signal(Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Prefetcher {
    /// The sizes of the files without a name that it has open.
    pub fn unnamed_files(self) -> Vec<u64> {
        let mut sizes = Vec::new();
        for (path, file) in self.open_files() {
            if path.to_str().is_some_and(|path| path.ends_with(" (deleted)"))
                && let Ok(found) = fs::metadata(file)
                && found.nlink() == 0
            {
                sizes.push(found.len());
            }
        }
        sizes
    }

    /// How many complete segments of 1 MiB it has in hand.
    pub fn held(self) -> usize {
        self.unnamed_files().into_iter().filter(|size| *size == SEGMENT_BYTES as u64).count()
    }

    /// What it has open: where that leads, and the path in /proc.
    pub fn open_files(self) -> Vec<(PathBuf, PathBuf)> {
        let Ok(entries) = fs::read_dir(self.proc("fd")) else { return Vec::new() };
        let open = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((fs::read_link(&path).ok()?, path))
        });
        open.collect()
    }

    /// Whether it has taken the place where it is met. It has its signals in its own hands by then.
    pub fn is_met(self) -> bool {
        let seen = |path: &Path| self.proc("root").join(path.strip_prefix("/").unwrap());
        self.spool().is_some_and(|spool| seen(&spool).join("prefetcher.socket").exists())
    }

    /// The directory that its lock is in, as it sees that itself.
    pub fn spool(self) -> Option<PathBuf> {
        let lock = self.open_files().into_iter().map(|(path, _)| path);
        lock.filter(|path| path.ends_with("prefetcher.lock")).find_map(|path| Some(path.parent()?.to_owned()))
    }

    pub fn signal(self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// As [`Prefetcher::signal`], unless it has ended.
    pub fn try_signal(self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// Kills it and waits until it is gone, with all its threads: until then its files are open and take space.
    pub fn kill(self) {
        self.try_signal(Signal::KILL);
        wait_until("the prefetcher is gone", || {
            let threads = fs::read_dir(self.proc("task")).map_or(0, Iterator::count);
            threads == 0 || threads == 1 && self.field(3) == "Z"
        });
    }

    /// Stops it in its tracks.
    pub fn stop(self) {
        self.signal(Signal::STOP);
        wait_until("the prefetcher is stopped", || self.field(3) == "T");
    }

    pub fn lives(self) -> bool {
        fs::read(self.proc("cmdline")).is_ok_and(|text| !text.is_empty())
    }

    /// A field of `/proc/PID/stat`, counted from 1 as in its manual; from the third on.
    pub fn field(self, number: usize) -> String {
        let stat = fs::read_to_string(self.proc("stat")).unwrap_or_default();
        let after_the_name = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        after_the_name.split(' ').nth(number - 3).unwrap_or_default().to_owned()
    }

    /// Its arguments, as everybody can read them.
    pub fn command_line(self) -> String {
        String::from_utf8(fs::read(self.proc("cmdline")).unwrap()).unwrap()
    }

    pub fn proc(self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(file)
    }

    pub fn pid(self) -> Pid {
        Pid::from_raw(self.0).unwrap()
    }
}

/// Where a restored file came from, as `-v` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Archive,
    Prefetcher,
}

impl From {
    /// Of what a call with `-v` wrote to standard error.
    pub fn told_in(stderr: &str) -> Self {
        let told = |from: &str| stderr.contains(&format!(" from=\"{from}\" ms="));
        match (told("archive"), told("prefetcher")) {
            (true, false) => Self::Archive,
            (false, true) => Self::Prefetcher,
            _ => panic!("where does it come from? {stderr}"),
        }
    }
}

/// The name of a segment of the first log on the first timeline.
pub fn name(number: usize) -> String {
    format!("0000000100000000{number:08X}")
}

/// A segment of 1 MiB whose content no other one has.
pub fn content(name: &str) -> Vec<u8> {
    segment(name, SYSTEM, SEGMENT_BYTES, name.bytes().fold(0, u8::wrapping_add))
}

/// An archive, a server that recovers from it, and the prefetchers that its calls leave behind.
pub struct PrefetchScene {
    // Ends before the directory goes: fields are dropped in this order.
    pub prefetchers: Prefetchers,
    pub scene: Scene,
}

impl PrefetchScene {
    pub fn new() -> Self {
        let scene = Scene::new();
        Self { prefetchers: Prefetchers::of(&scene.sandbox), scene }
    }

    /// The archive holds these segments.
    pub fn with(numbers: RangeInclusive<usize>) -> Self {
        let scene = Self::new();
        scene.archive(numbers);
        scene
    }

    pub fn archive(&self, numbers: RangeInclusive<usize>) {
        numbers.for_each(|number| self.archive_one(&name(number)));
    }

    /// Archives a segment.
    pub fn archive_one(&self, name: &str) {
        self.archive_content(name, content(name));
    }

    /// Archives a file with that content.
    pub fn archive_content(&self, name: &str, content: impl AsRef<[u8]>) {
        self.scene.primary.file(&format!("pg_wal/{name}"), content);
        // Elsewhere, so that the spools are those of the restores alone.
        let spool = self.scene.sandbox.join("spool-of-pushes");
        self.scene.push_with(&self.scene.primary, name, &["--spool", spool.to_str().unwrap()]);
    }

    /// The command with `-v` as a server runs it.
    pub fn call(&self, server: &DataDirectory, name: &str) -> Command {
        self.call_with(&[], server, name)
    }

    /// As [`PrefetchScene::call`], with more options.
    pub fn call_with(&self, options: &[&str], server: &DataDirectory, name: &str) -> Command {
        let mut command = server.run(self.scene.sandbox.walkeep_restore());
        command.args(["--archive", self.scene.archive.url(), "-v"]).args(options).args([name, TARGET]);
        command
    }

    /// Restores a segment in recovery, which must succeed with the right bytes; where it came from.
    pub fn restored(&self, name: &str) -> From {
        restored_by(self.call(&self.scene.recovery, name), &self.scene.recovery, name)
    }

    /// Restores these segments in recovery; how many of them come from the prefetcher.
    pub fn restored_all(&self, numbers: RangeInclusive<usize>) -> usize {
        numbers.filter(|number| self.restored(&name(*number)) == From::Prefetcher).count()
    }

    /// Asserts that a segment is proven absent.
    pub fn is_absent(&self, name: &str) {
        let outcome = outcome_of(self.call(&self.scene.recovery, name));
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        assert_eq!(names_in(&self.scene.recovery.join("pg_wal")), [""; 0]);
    }

    /// Asserts that a segment is missing where later ones are.
    pub fn is_gap(&self, name: &str) {
        let mut call = self.call(&self.scene.recovery, name);
        call.env("WALKEEP_TIMEOUT", "2s");
        let outcome = outcome_of(call);
        assert_eq!(outcome.status, 255, "{}", outcome.stderr);
        assert_eq!(names_in(&self.scene.recovery.join("pg_wal")), [""; 0]);
    }

    /// Restores a segment from the archive, and waits until what follows is in hand.
    pub fn prefetched(&self, number: usize, segments: usize) -> Prefetcher {
        assert_eq!(self.restored(&name(number)), From::Archive);
        self.prefetchers.wait_until_held(segments)
    }

    /// Writes a configuration file, and gives its path.
    pub fn configuration(&self, settings: &str) -> String {
        let file = self.scene.sandbox.file("walkeep.toml", settings);
        file.to_str().unwrap().to_owned()
    }

    pub fn spool_base(&self) -> PathBuf {
        self.scene.sandbox.join("spool")
    }

    /// Asserts that a server's directories hold nothing that has to be cleared away.
    pub fn nothing_is_left(&self) {
        assert_eq!(names_in(&self.scene.recovery.join("pg_wal")), [""; 0]);
        let left = left_in_spools(&self.spool_base());
        assert_eq!(left, [""; 0], "in the spool");
    }
}

/// All that is in spools but for locks, sockets and notes, of which there is one each.
pub fn left_in_spools(base: &Path) -> Vec<String> {
    let mut files = files_below(base);
    files.retain(|file| {
        let kept = ["/prefetcher.lock", "/prefetcher.socket", "/prefetcher.note"];
        !kept.iter().any(|end| file.ends_with(end))
    });
    files
}

/// Runs a call of a server, which must restore exactly that; where it came from. The file is removed.
pub fn restored_as(call: Command, server: &DataDirectory, name: &str, content: &[u8]) -> From {
    let outcome = outcome_of(call);
    assert_eq!(outcome.status, 0, "{name}: {}", outcome.stderr);
    let path = server.join(TARGET);
    assert!(fs::read(&path).unwrap() == content, "{name} has other bytes: {}", outcome.stderr);
    fs::remove_file(path).unwrap();
    From::told_in(&outcome.stderr)
}

/// As [`restored_as`], for a segment with the content of its own, and leaves nothing in `pg_wal`.
pub fn restored_by(call: Command, server: &DataDirectory, name: &str) -> From {
    let from = restored_as(call, server, name, &content(name));
    assert_eq!(names_in(&server.join("pg_wal")), [""; 0]);
    from
}
