//! The server that runs in a data directory: its user and its environment.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{DataDirectory, LOCK_FILE, MAX_BYTES};
use crate::whole_file::read_regular_text;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Port, which is a part of the socket's name, too.
    pub port: u16,
    /// Directory of its socket, if it has one.
    pub directory: Option<String>,
}

impl DataDirectory {
    /// Returns where the server that has left the lock file listens; `None` if it does not say.
    #[must_use]
    pub fn listening(&self) -> Option<Listening> {
        let lock = self.lock()?;
        let mut lines = lock.lines().skip(3).map(str::trim);
        let port = lines.next()?.parse().ok()?;
        let directory = lines.next().filter(|directory| !directory.is_empty()).map(str::to_owned);
        Some(Listening { port, directory })
    }

    /// Returns the text of the lock file; `None` if it cannot be read.
    fn lock(&self) -> Option<String> {
        read_regular_text(&self.path().join(LOCK_FILE), MAX_BYTES).ok()
    }

    /// Returns the owner of the directory, by number. A server starts only as that user.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        fs::metadata(self.path()).ok().map(|found| found.uid())
    }

    /// Returns `true` if a server has left its lock file there, as one does that runs.
    #[must_use]
    pub fn has_lock(&self) -> bool {
        self.path().join(LOCK_FILE).exists()
    }

    /// Returns `true` unless the server that left the lock file has ended, as after a crash. One that cannot be told counts as
    /// running.
    #[must_use]
    pub fn seems_served(&self) -> bool {
        let Ok(lock) = read_regular_text(&self.path().join(LOCK_FILE), MAX_BYTES) else {
            return self.has_lock();
        };
        // A negative number is that of a server in single-user mode.
        let process = lock.lines().next().and_then(|line| line.trim().parse().ok()).map(i32::wrapping_abs);
        let Some(process) = process.filter(|process| *process > 0) else { return true };
        if kill(Pid::from_raw(process), None) == Err(Errno::ESRCH) {
            return false;
        }
        // Another process may have the number by now.
        let works_in = fs::read_link(format!("/proc/{process}/cwd"));
        works_in.ok().zip(self.path().canonicalize().ok()).is_none_or(|(works_in, here)| works_in == here)
    }

    /// Returns the environment variables with which the running server was started, which its commands inherit; `None` if no
    /// server runs here, or this user may not look.
    #[must_use]
    pub fn environment(&self) -> Option<BTreeMap<String, String>> {
        let lock = self.lock()?;
        let process: u32 = lock.lines().next()?.trim().parse().ok()?;
        let process = PathBuf::from(format!("/proc/{process}"));
        // Its lock file may be older than the process: a server works in its data directory.
        let (works_in, here) = (fs::read_link(process.join("cwd")).ok()?, self.path().canonicalize().ok()?);
        if works_in != here {
            return None;
        }
        let environment = fs::read(process.join("environ")).ok()?;
        let variable = |text: &[u8]| {
            let (name, value) = std::str::from_utf8(text).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Some(environment.split(|byte| *byte == 0).filter_map(variable).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_that_of_the_process_that_works_in_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDirectory::named(temporary.path().to_owned());
        assert_eq!((data.environment(), data.has_lock()), (None, false));
        let mut server = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(temporary.path())
            .env("WALKEEP_ARCHIVE", "/a=b")
            .spawn()
            .unwrap();
        let lock = |process: u32| {
            fs::write(temporary.path().join(LOCK_FILE), format!("{process}\n/data\n")).unwrap();
        };
        lock(server.id());
        let is_empty =
            |found: &Option<BTreeMap<String, String>>| found.as_ref().is_none_or(BTreeMap::is_empty);
        // It has none for a moment, while its program is being replaced.
        let environment =
            std::iter::repeat_with(|| data.environment()).find(|found| !is_empty(found)).flatten();
        lock(std::process::id());
        let of_another = data.environment();
        assert!(!data.seems_served(), "its number has gone to another process");
        lock(server.id());
        assert!(data.seems_served());
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(!data.seems_served(), "it has crashed");
        fs::write(temporary.path().join(LOCK_FILE), "").unwrap();
        assert!(data.seems_served(), "unknown");
        assert_eq!(environment.unwrap()["WALKEEP_ARCHIVE"], "/a=b");
        assert_eq!(of_another, None, "it works elsewhere");
        assert!(data.has_lock());
    }
}
