//! Calls of the programs with an archive in an object store.

use std::{fs, process::Command, thread, time::Duration};

use super::{
    data_directory::{DataDirectory, SEGMENT},
    files::names_in,
    push::succeeds,
    restore::{SYSTEM, TARGET},
    running::{Outcome, Running, outcome_of},
    sandbox::Sandbox,
    store::Store,
};

/// The archive.
pub const URL: &str = "s3://wal/main";

/// What its keys begin with, in the bucket `wal`.
const PREFIX: &str = "main/7381092445103374871";

/// How long a hasty call may take.
pub const HASTE: Duration = Duration::from_secs(2);

/// A store, and three data directories of one system: where its WAL is made, one in recovery, one of a standby.
pub struct StoreScene {
    pub store: Store,
    pub primary: DataDirectory,
    pub recovery: DataDirectory,
    pub standby: DataDirectory,
    pub sandbox: Sandbox,
    environment: Vec<(&'static str, String)>,
    url: &'static str,
}

impl StoreScene {
    /// An empty store, of which walkeep knows nothing.
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let [primary, recovery, standby] =
            ["primary", "recovery", "standby"].map(|name| DataDirectory::new(&sandbox, name, SYSTEM));
        recovery.file("recovery.signal", "");
        standby.file("standby.signal", "");
        let store = Store::new();
        let mut environment = store.environment();
        // Every request is of the call at hand: nothing is fetched ahead, unless a test switches that on.
        environment.push(("WALKEEP_PREFETCH_SIZE", "0MB".to_owned()));
        Self { store, primary, recovery, standby, sandbox, environment, url: URL }
    }

    /// As [`StoreScene::new`], with `conditional_put` set to `auto`, `yes` or `no`.
    pub fn with_conditional_put(value: &str) -> Self {
        let mut scene = Self::new();
        scene.configure(&format!("conditional_put = \"{value}\""));
        scene
    }

    /// A store that holds [`SEGMENT`], and the segment's content; no requests have been noted.
    pub fn with_segment() -> (Self, Vec<u8>) {
        let scene = Self::new();
        let content = scene.primary.segment(SEGMENT, 0);
        succeeds(scene.push(SEGMENT));
        scene.store.forget_requests();
        (scene, content)
    }

    /// Sets a variable of the programs' environment.
    pub fn set(&mut self, variable: &'static str, value: &str) {
        self.environment.retain(|(name, _)| *name != variable);
        self.environment.push((variable, value.to_owned()));
    }

    /// Writes the lines of `[store]` in the configuration file.
    pub fn configure(&mut self, settings: &str) {
        let file = self.sandbox.file("walkeep.toml", format!("[store]\n{settings}\n"));
        self.set("WALKEEP_CONFIG", file.to_str().unwrap());
    }

    /// Archives elsewhere.
    pub fn archive_into(&mut self, url: &'static str) {
        self.url = url;
    }

    /// Looks for the store elsewhere.
    pub fn move_to(&mut self, endpoint: &str) {
        self.set("AWS_ENDPOINT_URL", endpoint);
    }

    /// Short limits, for calls that are to fail: half a second without movement, and [`HASTE`] in all.
    pub fn hurry(&mut self) {
        self.set("AWS_READ_TIMEOUT", "500ms");
        self.set("AWS_CONNECT_TIMEOUT", "1s");
        self.set("WALKEEP_TIMEOUT", "2s");
    }

    /// A short limit for time without movement, for calls that are to succeed after all: a busy machine must not pass for a
    /// store that stands still.
    pub fn cut_soon(&mut self) {
        self.set("AWS_READ_TIMEOUT", "1500ms");
    }

    /// A long limit for time without movement: a store that is to take a large file may be busy with it for long.
    pub fn wait_long(&mut self) {
        self.set("AWS_READ_TIMEOUT", "50s");
    }

    /// Ends what [`StoreScene::hurry`] began, for calls that are to succeed at once.
    pub fn relax(&mut self) {
        let short = ["AWS_READ_TIMEOUT", "AWS_CONNECT_TIMEOUT", "WALKEEP_TIMEOUT"];
        self.environment.retain(|(name, _)| !short.contains(name));
    }

    /// A command in a data directory, which knows where the archive is.
    pub fn command(&self, server: &DataDirectory, program: Command) -> Command {
        let mut command = server.run(program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("WALKEEP_ARCHIVE", self.url);
        command
    }

    /// Archives a file of the primary's `pg_wal`.
    pub fn push(&self, name: &str) -> Command {
        self.push_from(&self.primary, name)
    }

    pub fn push_from(&self, server: &DataDirectory, name: &str) -> Command {
        let mut command = self.command(server, self.sandbox.walkeep_archive());
        command.args(["--archive", self.url]).arg(format!("pg_wal/{name}"));
        command
    }

    /// Restores a file as the server does.
    pub fn restore(&self, server: &DataDirectory, name: &str) -> Command {
        let mut command = self.command(server, self.sandbox.walkeep_restore());
        command.args(["--archive", self.url, name, TARGET]);
        command
    }

    /// Writes the original of an archived file to standard output.
    pub fn cat(&self, name: &str) -> Command {
        let mut command = self.command(&self.primary, self.sandbox.walkeep());
        command.args(["cat", "--archive", self.url, "--system-identifier", &SYSTEM.to_string(), name]);
        command
    }

    /// The original of an archived file, verified.
    pub fn original(&self, name: &str) -> Vec<u8> {
        let output = self.cat(name).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The object as it is stored; `None` when there is none.
    pub fn stored(&self, name: &str) -> Option<Vec<u8>> {
        self.store.get(&key(name))
    }

    /// What the store was asked for, all of it about the file `name`: methods, `PUT if new` for a conditional one.
    pub fn asked(&self, name: &str) -> Vec<String> {
        let requests = self.store.requests();
        assert!(requests.iter().all(|request| request.query.is_none()), "{requests:?}");
        self.asked_besides_listings(name)
    }

    /// As [`StoreScene::asked`], with listings left out.
    pub fn asked_besides_listings(&self, name: &str) -> Vec<String> {
        let requests = self.store.requests().into_iter().filter(|request| request.query.is_none());
        let asked = requests.map(|request| {
            assert_eq!(request.path, format!("/wal/{}", key(name)));
            if request.conditional { format!("{} if new", request.method) } else { request.method }
        });
        asked.collect()
    }

    /// Restores in recovery, which must succeed after at most one warning with `words`.
    pub fn restored(&self, name: &str, words: &str) -> Vec<u8> {
        warns("walkeep-restore", self.restore(&self.recovery, name), words);
        let content = fs::read(self.recovery.join(TARGET)).unwrap();
        fs::remove_file(self.recovery.join(TARGET)).unwrap();
        assert_eq!(names_in(&self.recovery.join("pg_wal")), [""; 0]);
        content
    }

    /// Asserts that a restore tells the server of each mode that it could not tell and leaves nothing; all of `words`
    /// are in what it writes.
    pub fn cannot_tell(&self, name: &str, words: &[&str]) {
        let calls = [(&self.recovery, 255), (&self.standby, 75)]
            .map(|(server, status)| (Running::start(self.restore(server, name)), server, status));
        for (running, server, status) in calls {
            let Outcome { status: ended, stderr } = running.end();
            assert_eq!(ended, status, "{stderr}");
            check_lines("walkeep-restore", &stderr, words);
            assert_eq!(names_in(&server.join("pg_wal")), [""; 0]);
        }
    }
}

/// Where the store keeps the system's file `name`.
pub fn key(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, "history")) => format!("{PREFIX}/timelines/{name}"),
        Some((_, "backup")) => format!("{PREFIX}/backups/{name}"),
        _ => format!("{PREFIX}/wal/{}/{name}", &name[..16]),
    }
}

/// Runs a command, which must succeed: without a word if `words` are empty, else with one warning that contains them.
pub fn warns(program: &str, command: Command, words: &str) {
    let description = format!("{command:?}");
    let Outcome { status, stderr } = outcome_of(command);
    assert_eq!(status, 0, "{description}: {stderr}");
    if words.is_empty() {
        assert_eq!(stderr, "", "{description}");
    } else {
        let is_warning = stderr.lines().count() == 1 && stderr.starts_with(&format!("{program}: warning: "));
        assert!(is_warning && stderr.contains(words), "{description}: {words:?} is not in {stderr}");
    }
}

/// Asserts that there is one error, after at most one warning, and that all of `words` are in them.
pub fn check_lines(program: &str, stderr: &str, words: &[&str]) {
    let lines: Vec<_> = stderr.lines().collect();
    let (error, others) = lines.split_last().expect("it says why");
    assert!(error.starts_with(&format!("{program}: error: ")), "{stderr}");
    let warning = format!("{program}: warning: ");
    assert!(others.len() < 2 && others.iter().all(|line| line.starts_with(&warning)), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

/// Runs the cases beside each other, because many of them wait.
pub fn at_once<Case: Sync>(cases: &[Case], check: impl Fn(&Case) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let check = &check;
            scope.spawn(move || check(case));
        }
    });
}
