//! Calls of `walkeep-restore` and `walkeep cat` on an archive that a test damages as it likes.

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

/// The system that owns the archive's files.
pub const SYSTEM: u64 = 7_381_092_445_103_374_871;

/// `%p`, as the server gives it for a segment.
pub const TARGET: &str = "pg_wal/RECOVERYXLOG";

/// Long enough for a second try, short enough for a test.
const TIMEOUT: &str = "1s";

/// An archive, and three data directories of one system: where its WAL was made, one in recovery, one of a standby.
pub struct Scene {
    pub archive: ArchiveDirectory,
    pub primary: DataDirectory,
    pub recovery: DataDirectory,
    pub standby: DataDirectory,
    pub sandbox: Sandbox,
}

impl Scene {
    /// An archive that the system has not used yet.
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let archive = ArchiveDirectory::new(&sandbox);
        let [primary, recovery, standby] =
            ["primary", "recovery", "standby"].map(|name| DataDirectory::new(&sandbox, name, SYSTEM));
        recovery.file("recovery.signal", "");
        standby.file("standby.signal", "");
        Self { archive, primary, recovery, standby, sandbox }
    }

    /// An archive that holds [`SEGMENT`], and the segment's content.
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

    /// Archives a file of `pg_wal` with more options.
    pub fn push_with(&self, server: &DataDirectory, name: &str, options: &[&str]) {
        let mut push = server.run(self.sandbox.walkeep_archive());
        output_of(push.args(["--archive", self.archive.url()]).args(options).arg(format!("pg_wal/{name}")));
    }

    /// Where the archive keeps the system's file `name`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.archive.file(SYSTEM, name)
    }

    /// What the archive keeps under `name`.
    pub fn archived(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    /// Puts bytes under a name in the archive, whatever is there.
    pub fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let file = self.file(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    /// The command, in its server's data directory, with an archive and a short time limit and nothing else.
    pub fn command(&self, server: &DataDirectory) -> Command {
        let mut command = server.run(self.sandbox.walkeep_restore());
        command.args(["--archive", self.archive.url(), "--timeout", TIMEOUT]);
        command
    }

    /// The command as the server runs it.
    pub fn restore(&self, server: &DataDirectory, name: &str) -> Command {
        self.restore_with(&[], server, name)
    }

    /// As [`Scene::restore`], with more options.
    pub fn restore_with(&self, options: &[&str], server: &DataDirectory, name: &str) -> Command {
        let mut command = self.command(server);
        command.args(options).args([name, TARGET]);
        command
    }

    /// The command under strace, which delays a system call: `delay_enter=` or `delay_exit=` so many microseconds.
    pub fn slowed(&self, system_calls: &str, delay: &str, command: &Command) -> Command {
        let mut strace = self.sandbox.command("strace");
        // As a grandchild (-D), so that a signal to the child reaches the command itself.
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={system_calls}")]);
        strace.args(["-e", &format!("inject={system_calls}:{delay}")]);
        let mut slowed = wrapped(strace, command);
        // Cargo's, in whose many directories the loader would look for libraries, slowed down, too.
        slowed.env_remove("LD_LIBRARY_PATH");
        slowed
    }

    /// Restores `name` in recovery, which must succeed, and gives what is then in `%p`, which is removed.
    pub fn restored(&self, name: &str) -> Vec<u8> {
        let outcome = outcome_of(self.restore(&self.recovery, name));
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{name}");
        let content = fs::read(self.recovery.join(TARGET)).unwrap();
        fs::remove_file(self.recovery.join(TARGET)).unwrap();
        content
    }

    /// Asserts that a restore of `name` tells the server of each mode that it could not tell, with a message that
    /// contains `words`, and leaves nothing.
    pub fn cannot_tell(&self, name: &str, words: &str) {
        self.cannot_tell_when(&|server| self.restore(server, name), words);
    }

    /// As [`Scene::cannot_tell`], for the command that `call` makes for a server.
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
