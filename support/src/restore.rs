//! Calls of `walkeep-restore` and `walkeep cat` on an archive that a test may damage.

use std::{fs, path::PathBuf, process::Command};

use super::{
    archive::ArchiveDirectory,
    data_directory::{DataDirectory, SEGMENT},
    files::names_in,
    output_of,
    running::{Running, outcome_of},
    sandbox::Sandbox,
    wrapper::wrapped,
};

/// System identifier of the archived files.
pub const SYSTEM: u64 = 7_381_092_445_103_374_871;

/// Value of `%p` for a segment.
pub const TARGET: &str = "pg_wal/RECOVERYXLOG";

/// Long enough for a second attempt, short enough for a test.
const TIMEOUT: &str = "1s";

/// An archive, and three data directories of one cluster: the source of its WAL, one in recovery, one of a standby.
pub struct Scene {
    pub archive: ArchiveDirectory,
    pub primary: DataDirectory,
    pub recovery: DataDirectory,
    pub standby: DataDirectory,
    pub sandbox: Sandbox,
}

impl Scene {
    /// Creates an archive without files of the cluster.
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let archive = ArchiveDirectory::new(&sandbox);
        let [primary, recovery, standby] =
            ["primary", "recovery", "standby"].map(|name| DataDirectory::new(&sandbox, name, SYSTEM));
        recovery.file("recovery.signal", "");
        standby.file("standby.signal", "");
        Self { archive, primary, recovery, standby, sandbox }
    }

    /// Creates an archive with [`SEGMENT`], and returns the segment's content.
    pub fn with_segment() -> (Self, Vec<u8>) {
        let scene = Self::new();
        let content = scene.primary.segment(SEGMENT, 0);
        scene.push(&scene.primary, SEGMENT);
        (scene, content)
    }

    /// Archives a file of `pg_wal`.
    pub fn push(&self, server: &DataDirectory, name: &str) {
        self.push_with(server, name, &[]);
    }

    /// Archives a file of `pg_wal` with additional options.
    pub fn push_with(&self, server: &DataDirectory, name: &str, options: &[&str]) {
        let mut push = server.run(self.sandbox.walkeep_archive());
        output_of(push.args(["--archive", self.archive.url()]).args(options).arg(format!("pg_wal/{name}")));
    }

    /// Returns the path of the archived file `name`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.archive.file(SYSTEM, name)
    }

    /// Returns the stored bytes of the archived file `name`.
    pub fn archived(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    /// Writes bytes under a name in the archive, replacing any file.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let file = self.file(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    /// Returns the command in its server's data directory, with an archive and a short time limit.
    pub fn command(&self, server: &DataDirectory) -> Command {
        let mut command = server.run(self.sandbox.walkeep_restore());
        command.args(["--archive", self.archive.url(), "--timeout", TIMEOUT]);
        command
    }

    /// Returns the command as run by the server.
    pub fn restore(&self, server: &DataDirectory, name: &str) -> Command {
        self.restore_with(&[], server, name)
    }

    /// Does the same as [`Scene::restore`] with additional options.
    pub fn restore_with(&self, options: &[&str], server: &DataDirectory, name: &str) -> Command {
        let mut command = self.command(server);
        command.args(options).args([name, TARGET]);
        command
    }

    /// Returns the command under strace, which delays a system call by microseconds: `delay_enter=` or `delay_exit=`.
    pub fn slowed(&self, system_calls: &str, delay: &str, command: &Command) -> Command {
        let mut strace = self.sandbox.command("strace");
        // As a grandchild (-D), so that a signal to the child reaches the command itself.
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={system_calls}")]);
        strace.args(["-e", &format!("inject={system_calls}:{delay}")]);
        let mut slowed = wrapped(strace, command);
        // Cargo's, in whose many directories the loader would search for libraries, with every search delayed.
        slowed.env_remove("LD_LIBRARY_PATH");
        slowed
    }

    /// Restores `name` in recovery, which must succeed; removes `%p` and returns its content.
    pub fn restored(&self, name: &str) -> Vec<u8> {
        let outcome = outcome_of(self.restore(&self.recovery, name));
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{name}");
        let content = fs::read(self.recovery.join(TARGET)).unwrap();
        fs::remove_file(self.recovery.join(TARGET)).unwrap();
        content
    }

    /// Asserts that a restore of `name` reports an unknown answer in each mode, with a message that contains `words`,
    /// and leaves nothing.
    pub fn cannot_tell(&self, name: &str, words: &str) {
        self.cannot_tell_when(&|server| self.restore(server, name), words);
    }

    /// Does the same as [`Scene::cannot_tell`] for the command that `call` creates.
    pub fn cannot_tell_when(&self, call: &dyn Fn(&DataDirectory) -> Command, words: &str) {
        let calls = [(&self.recovery, 255), (&self.standby, 75)];
        let calls = calls.map(|(server, status)| (Running::start(call(server)), server, status));
        for (running, server, status) in calls {
            let outcome = running.end();
            assert_eq!(outcome.status, status, "{}", outcome.stderr);
            let error = outcome.stderr.lines().last().unwrap_or_default();
            assert!(error.starts_with("walkeep-restore: error: ") && error.contains(words), "{error}");
            let others = &outcome.stderr[..outcome.stderr.len() - error.len() - 1];
            let is_warning = |line: &str| line.starts_with("walkeep-restore: warning: ");
            assert!(others.lines().count() < 2 && others.lines().all(is_warning), "{}", outcome.stderr);
            assert_eq!(names_in(&server.join("pg_wal")), [""; 0]);
        }
    }
}
