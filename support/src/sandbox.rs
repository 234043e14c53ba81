//! A temporary directory of the unprivileged user, and walkeep's programs to run in it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tempfile::TempDir;

use super::{built, output_of, user};

/// A directory owned by the unprivileged user; removed on drop.
pub struct Sandbox {
    directory: TempDir,
    programs: Arc<Programs>,
}

impl Sandbox {
    pub fn new() -> Self {
        Self { directory: temporary_directory(&env::temp_dir()), programs: Programs::shared() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the path of `name` in the sandbox, whether it exists or not.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Creates a directory owned by the unprivileged user.
    pub fn directory(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).unwrap();
        user::hand_over(&path);
        path
    }

    /// Writes a file owned by the unprivileged user.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).unwrap();
        user::hand_over(&path);
        path
    }

    /// Returns a command that runs here as the unprivileged user, without settings from outside.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        user::drop_privileges(&mut command);
        for (name, _) in env::vars_os() {
            let prefixes = ["PG", "WALKEEP_", "AWS_", "AZURE_", "GOOGLE_"];
            if name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        // A test must not ask the machine's network for credentials either.
        command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1").env("AWS_EC2_METADATA_DISABLED", "true");
        // A configuration file of this machine must not affect the tests.
        command.env("WALKEEP_CONFIG", "/dev/null").env("WALKEEP_SPOOL", self.join("spool"));
        command.current_dir(self.path()).env("HOME", self.path()).env("LC_ALL", "C");
        command
    }

    /// Returns the path of one of walkeep's programs that the unprivileged user can execute.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.directory().join(name)
    }

    pub fn walkeep_archive(&self) -> Command {
        self.command(self.program("walkeep-archive"))
    }

    pub fn walkeep_restore(&self) -> Command {
        self.command(self.program("walkeep-restore"))
    }

    pub fn walkeep(&self) -> Command {
        self.command(self.program("walkeep"))
    }
}

/// Creates a directory of the unprivileged user in `parent`.
pub fn temporary_directory(parent: &Path) -> TempDir {
    let directory = tempfile::Builder::new().prefix("walkeep-test-").tempdir_in(parent).unwrap();
    user::hand_over(directory.path());
    directory
}

/// Directory of walkeep's programs: Cargo's output or, if only root has access to that, a copy.
enum Programs {
    Built(PathBuf),
    Copied(TempDir),
}

impl Programs {
    /// Returns the copy shared by all sandboxes of this process, which the last one drops: statics are never dropped.
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Programs>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let programs = Arc::new(Self::find());
            *shared = Arc::downgrade(&programs);
            programs
        })
    }

    fn find() -> Self {
        let built = built();
        let programs = ["walkeep-archive", "walkeep-restore", "walkeep"].map(|name| built.join(name));
        if user::can_execute(&programs[0]) {
            return Self::Built(built);
        }
        let copies = temporary_directory(&env::temp_dir());
        // Not fs::copy: a command that another test starts at that moment would inherit the file open for writing,
        // and executing it would fail with "text file busy".
        output_of(Command::new("cp").args(programs).arg(copies.path()));
        Self::Copied(copies)
    }

    fn directory(&self) -> &Path {
        match self {
            Self::Built(directory) => directory,
            Self::Copied(copies) => copies.path(),
        }
    }
}
