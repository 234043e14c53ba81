//! Prefetchers started by restores, observed through /proc.

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

/// All prefetchers started in a sandbox; killed on drop.
pub struct Prefetchers {
    sandbox: PathBuf,
}

/// A prefetcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetcher(i32);

impl Prefetchers {
    pub fn of(sandbox: &Sandbox) -> Self {
        Self { sandbox: sandbox.path().to_owned() }
    }

    /// Lists the running prefetchers. A zombie has no command line any more.
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
            // strace's own command line contains that of the program.
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name != "strace\n")
            })
            .map(Prefetcher)
            .collect()
    }

    /// Waits until exactly one prefetcher is ready for calls.
    pub fn only(&self) -> Prefetcher {
        let mut all = Vec::new();
        wait_until("there is one prefetcher", || {
            all = self.all();
            all.len() == 1 && all[0].is_met()
        });
        all[0]
    }

    /// Waits until there is exactly one, with that many complete segments of 1 MiB.
    pub fn wait_until_held(&self, segments: usize) -> Prefetcher {
        let mut prefetcher = None;
        wait_until(&format!("a prefetcher holds {segments} segments"), || {
            let all = self.all();
            prefetcher = all.first().copied();
            all.len() == 1 && all[0].held() == segments
        });
        prefetcher.unwrap()
    }

    /// Sends a signal to all of them; any may have ended.
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
        // A call in progress may start another one.
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
    /// Returns the sizes of its open unnamed files.
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

    /// Returns the number of its complete segments of 1 MiB.
    pub fn held(self) -> usize {
        self.unnamed_files().into_iter().filter(|size| *size == SEGMENT_BYTES as u64).count()
    }

    /// Lists its open files: the target, and the path in /proc.
    pub fn open_files(self) -> Vec<(PathBuf, PathBuf)> {
        let Ok(entries) = fs::read_dir(self.proc("fd")) else { return Vec::new() };
        let open = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((fs::read_link(&path).ok()?, path))
        });
        open.collect()
    }

    /// Returns `true` if it has opened its meeting point. It then also handles signals.
    pub fn is_met(self) -> bool {
        let seen = |path: &Path| self.proc("root").join(path.strip_prefix("/").unwrap());
        self.spool().is_some_and(|spool| seen(&spool).join("prefetcher.socket").exists())
    }

    /// Returns the directory of its lock, as the prefetcher sees the path.
    pub fn spool(self) -> Option<PathBuf> {
        let lock = self.open_files().into_iter().map(|(path, _)| path);
        lock.filter(|path| path.ends_with("prefetcher.lock")).find_map(|path| Some(path.parent()?.to_owned()))
    }

    pub fn signal(self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Does the same as [`Prefetcher::signal`], unless it has ended.
    pub fn try_signal(self, signal: Signal) {
        let _ = kill_process(self.pid(), signal);
    }

    /// Kills it and waits until all its threads are gone: until then its files are open and take space.
    pub fn kill(self) {
        self.try_signal(Signal::KILL);
        wait_until("the prefetcher is gone", || {
            let threads = fs::read_dir(self.proc("task")).map_or(0, Iterator::count);
            threads == 0 || threads == 1 && self.field(3) == "Z"
        });
    }

    /// Stops it with SIGSTOP.
    pub fn stop(self) {
        self.signal(Signal::STOP);
        wait_until("the prefetcher is stopped", || self.field(3) == "T");
    }

    /// Returns the process ID.
    pub fn id(self) -> u32 {
        self.0.try_into().unwrap()
    }

    pub fn lives(self) -> bool {
        fs::read(self.proc("cmdline")).is_ok_and(|text| !text.is_empty())
    }

    /// Returns a field of `/proc/PID/stat`, counted from 1 as in its manual; from the third on.
    pub fn field(self, number: usize) -> String {
        let stat = fs::read_to_string(self.proc("stat")).unwrap_or_default();
        let after_the_name = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        after_the_name.split(' ').nth(number - 3).unwrap_or_default().to_owned()
    }

    /// Returns its arguments, as everybody can read them.
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

/// Source of a restored file, according to `-v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Archive,
    Prefetcher,
}

impl From {
    /// Parses the standard error of a call with `-v`.
    pub fn logged_in(stderr: &str) -> Self {
        let is_from = |from: &str| stderr.contains(&format!(" from=\"{from}\" ms="));
        match (is_from("archive"), is_from("prefetcher")) {
            (true, false) => Self::Archive,
            (false, true) => Self::Prefetcher,
            _ => panic!("where does it come from? {stderr}"),
        }
    }
}

/// Returns the name of a segment on the first timeline.
pub fn name(number: usize) -> String {
    format!("0000000100000000{number:08X}")
}

/// Returns a segment of 1 MiB with unique content.
pub fn content(name: &str) -> Vec<u8> {
    segment(name, SYSTEM, SEGMENT_BYTES, name.bytes().fold(0, u8::wrapping_add))
}

/// An archive, a server that recovers from it, and the prefetchers started by its calls.
pub struct PrefetchScene {
    // Ends before the directory is removed: fields are dropped in this order.
    pub prefetchers: Prefetchers,
    pub scene: Scene,
}

impl PrefetchScene {
    pub fn new() -> Self {
        let scene = Scene::new();
        Self { prefetchers: Prefetchers::of(&scene.sandbox), scene }
    }

    /// Creates an archive with these segments.
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
        // Separate, so that the spools are only those of the restores.
        let spool = self.scene.sandbox.join("spool-of-pushes");
        self.scene.push_with(&self.scene.primary, name, &["--spool", spool.to_str().unwrap()]);
    }

    /// Returns the command with `-v` as run by a server.
    pub fn call(&self, server: &DataDirectory, name: &str) -> Command {
        self.call_with(&[], server, name)
    }

    /// Does the same as [`PrefetchScene::call`] with additional options.
    pub fn call_with(&self, options: &[&str], server: &DataDirectory, name: &str) -> Command {
        let mut command = server.run(self.scene.sandbox.walkeep_restore());
        command.args(["--archive", self.scene.archive.url(), "-v"]).args(options).args([name, TARGET]);
        command
    }

    /// Restores a segment in recovery, which must succeed with the right bytes; returns its source.
    pub fn restored(&self, name: &str) -> From {
        restored_by(self.call(&self.scene.recovery, name), &self.scene.recovery, name)
    }

    /// Restores these segments in recovery; returns the number that came from the prefetcher.
    pub fn restored_all(&self, numbers: RangeInclusive<usize>) -> usize {
        numbers.filter(|number| self.restored(&name(*number)) == From::Prefetcher).count()
    }

    /// Asserts that a segment is proven absent.
    pub fn is_absent(&self, name: &str) {
        let outcome = outcome_of(self.call(&self.scene.recovery, name));
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        assert_eq!(names_in(&self.scene.recovery.join("pg_wal")), [""; 0]);
    }

    /// Asserts that a segment is missing although later ones exist.
    pub fn is_gap(&self, name: &str) {
        let mut call = self.call(&self.scene.recovery, name);
        call.env("WALKEEP_TIMEOUT", "2s");
        let outcome = outcome_of(call);
        assert_eq!(outcome.status, 255, "{}", outcome.stderr);
        assert_eq!(names_in(&self.scene.recovery.join("pg_wal")), [""; 0]);
    }

    /// Restores a segment from the archive, and waits until the following ones are prefetched.
    pub fn prefetched(&self, number: usize, segments: usize) -> Prefetcher {
        assert_eq!(self.restored(&name(number)), From::Archive);
        self.prefetchers.wait_until_held(segments)
    }

    /// Writes a configuration file, and returns its path.
    pub fn configuration(&self, settings: &str) -> String {
        let file = self.scene.sandbox.file("walkeep.toml", settings);
        file.to_str().unwrap().to_owned()
    }

    pub fn spool_base(&self) -> PathBuf {
        self.scene.sandbox.join("spool")
    }

    /// Asserts that a server's directories contain nothing to clean up.
    pub fn nothing_is_left(&self) {
        assert_eq!(names_in(&self.scene.recovery.join("pg_wal")), [""; 0]);
        let left = left_in_spools(&self.spool_base());
        assert_eq!(left, [""; 0], "in the spool");
    }
}

/// Lists everything in spools except locks, sockets and notes, of which there is one each.
pub fn left_in_spools(base: &Path) -> Vec<String> {
    let mut files = files_below(base);
    files.retain(|file| {
        let kept = ["/prefetcher.lock", "/prefetcher.socket", "/prefetcher.note"];
        !kept.iter().any(|end| file.ends_with(end))
    });
    files
}

/// Runs a server's call, which must restore exactly that content; returns its source. Removes the file.
pub fn restored_as(call: Command, server: &DataDirectory, name: &str, content: &[u8]) -> From {
    let outcome = outcome_of(call);
    assert_eq!(outcome.status, 0, "{name}: {}", outcome.stderr);
    let path = server.join(TARGET);
    assert!(fs::read(&path).unwrap() == content, "{name} has other bytes: {}", outcome.stderr);
    fs::remove_file(path).unwrap();
    From::logged_in(&outcome.stderr)
}

/// Does the same as [`restored_as`] for a segment with its own content, and leaves nothing in `pg_wal`.
pub fn restored_by(call: Command, server: &DataDirectory, name: &str) -> From {
    let from = restored_as(call, server, name, &content(name));
    assert_eq!(names_in(&server.join("pg_wal")), [""; 0]);
    from
}
