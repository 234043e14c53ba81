//! Calls of the programs with an archive in an object store.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use super::{
    data_directory::{DataDirectory, SEGMENT},
    files::names_in,
    load::as_busy,
    push::succeeds,
    restore::{SYSTEM, TARGET},
    running::{Outcome, Running, outcome_of},
    sandbox::Sandbox,
    store::{Store, google::ServiceAccount},
};

/// URL of the archive.
pub const URL: &str = "s3://wal/main";

/// Prefix of its keys, in the bucket `wal`.
const PREFIX: &str = "main/7381092445103374871";

/// Time limit of a hasty call on a quiet machine.
pub const HASTE: Duration = Duration::from_secs(2);

/// A store, and three data directories of one cluster: the source of its WAL, one in recovery, one of a standby.
pub struct StoreScene {
    pub store: Store,
    pub primary: DataDirectory,
    pub recovery: DataDirectory,
    pub standby: DataDirectory,
    pub sandbox: Sandbox,
    environment: Vec<(&'static str, String)>,
    url: String,
}

impl StoreScene {
    /// Creates an empty store, with default settings.
    pub fn new() -> Self {
        let store = Store::new();
        let environment = store.environment();
        Self::with(Sandbox::new(), store, environment, URL)
    }

    /// Does the same as [`StoreScene::new`] with the stand-in for Google's store, and a service account.
    pub fn in_google() -> Self {
        let (sandbox, store) = (Sandbox::new(), Store::of_google());
        let account = ServiceAccount::known().file(&sandbox);
        let environment = vec![
            ("GOOGLE_BASE_URL", store.endpoint()),
            ("GOOGLE_SERVICE_ACCOUNT", account.to_str().unwrap().to_owned()),
            ("WALKEEP_STORE_ALLOW_HTTP", "true".to_owned()),
            // Nothing is found by its name.
            ("GCE_METADATA_HOST", "127.0.0.1:1".to_owned()),
            ("GCE_METADATA_IP", "127.0.0.1:1".to_owned()),
        ];
        Self::with(sandbox, store, environment, "gs://wal/main")
    }

    /// Does the same as [`StoreScene::new`] with another server, at this URL. [`StoreScene::store`] is not used.
    pub fn elsewhere(environment: Vec<(&'static str, String)>, url: &str) -> Self {
        Self::with(Sandbox::new(), Store::new(), environment, url)
    }

    fn with(sandbox: Sandbox, store: Store, mut environment: Vec<(&'static str, String)>, url: &str) -> Self {
        let [primary, recovery, standby] =
            ["primary", "recovery", "standby"].map(|name| DataDirectory::new(&sandbox, name, SYSTEM));
        recovery.file("recovery.signal", "");
        standby.file("standby.signal", "");
        // Every request belongs to the call under test: nothing is prefetched unless a test turns that on.
        environment.push(("WALKEEP_PREFETCH_SIZE", "0MB".to_owned()));
        Self { store, primary, recovery, standby, sandbox, environment, url: url.to_owned() }
    }

    /// Does the same as [`StoreScene::new`] with `conditional_put` set to `auto`, `yes` or `no`.
    pub fn with_conditional_put(value: &str) -> Self {
        let mut scene = Self::new();
        scene.configure(&format!("conditional_put = \"{value}\""));
        scene
    }

    /// Creates a store with [`SEGMENT`], and returns the segment's content. Requests are counted from here on.
    pub fn with_segment() -> (Self, Vec<u8>) {
        let scene = Self::new();
        let content = scene.primary.segment(SEGMENT, 0);
        succeeds(scene.push(SEGMENT));
        scene.store.forget_requests();
        (scene, content)
    }

    /// Sets a variable in the programs' environment.
    pub fn set(&mut self, variable: &'static str, value: &str) {
        self.environment.retain(|(name, _)| *name != variable);
        self.environment.push((variable, value.to_owned()));
    }

    /// Removes a variable from the programs' environment.
    pub fn unset(&mut self, variable: &str) {
        self.environment.retain(|(name, _)| *name != variable);
    }

    /// Writes the lines of `[store]` in the configuration file.
    pub fn configure(&mut self, settings: &str) {
        let file = self.sandbox.file("walkeep.toml", format!("[store]\n{settings}\n"));
        self.set("WALKEEP_CONFIG", file.to_str().unwrap());
    }

    /// Archives to another URL.
    pub fn archive_into(&mut self, url: &str) {
        url.clone_into(&mut self.url);
    }

    /// Uses another endpoint for the store.
    pub fn move_to(&mut self, endpoint: &str) {
        self.set("AWS_ENDPOINT_URL", endpoint);
    }

    /// Sets short limits, for calls that should fail: on a quiet machine half a second without movement, and [`HASTE`] in all.
    /// On a busy one they are longer: the store must have time to answer.
    pub fn hurry(&mut self) {
        let all = as_busy(HASTE);
        self.set("AWS_READ_TIMEOUT", &milliseconds(all / 4));
        self.set("AWS_CONNECT_TIMEOUT", &milliseconds(all / 2));
        self.set("WALKEEP_TIMEOUT", &milliseconds(all));
    }

    /// Sets a short limit for standing still, for calls that should succeed after all: a busy machine must not count
    /// as a store that stands still.
    pub fn cut_soon(&mut self) {
        self.set("AWS_READ_TIMEOUT", &milliseconds(as_busy(Duration::from_millis(1_500))));
    }

    /// Sets a long limit for standing still: a store that receives a large file may be busy for long.
    pub fn wait_long(&mut self) {
        self.set("AWS_READ_TIMEOUT", "50s");
    }

    /// Reverts [`StoreScene::hurry`], for calls that should succeed at once.
    pub fn relax(&mut self) {
        let short = ["AWS_READ_TIMEOUT", "AWS_CONNECT_TIMEOUT", "WALKEEP_TIMEOUT"];
        self.environment.retain(|(name, _)| !short.contains(name));
    }

    /// Returns a command in a data directory, with the archive's settings.
    pub fn command(&self, server: &DataDirectory, program: Command) -> Command {
        let mut command = server.run(program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("WALKEEP_ARCHIVE", &self.url);
        command
    }

    /// Returns the push of a file of the primary's `pg_wal`.
    pub fn push(&self, name: &str) -> Command {
        self.push_from(&self.primary, name)
    }

    pub fn push_from(&self, server: &DataDirectory, name: &str) -> Command {
        let mut command = self.command(server, self.sandbox.walkeep_archive());
        command.args(["--archive", &self.url]).arg(format!("pg_wal/{name}"));
        command
    }

    /// Returns the restore of a file, as run by the server.
    pub fn restore(&self, server: &DataDirectory, name: &str) -> Command {
        let mut command = self.command(server, self.sandbox.walkeep_restore());
        command.args(["--archive", &self.url, name, TARGET]);
        command
    }

    /// Returns the command that prints the original of an archived file.
    pub fn cat(&self, name: &str) -> Command {
        let mut command = self.command(&self.primary, self.sandbox.walkeep());
        command.args(["cat", "--archive", &self.url, "--system-identifier", &SYSTEM.to_string(), name]);
        command
    }

    /// Returns the verified original of an archived file.
    pub fn original(&self, name: &str) -> Vec<u8> {
        let output = self.cat(name).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Returns the stored object; `None` if it does not exist.
    pub fn stored(&self, name: &str) -> Option<Vec<u8>> {
        self.store.get(&key(name))
    }

    /// Lists the requests to the store, all about the file `name`: methods, `PUT if new` for a conditional one.
    pub fn asked(&self, name: &str) -> Vec<String> {
        let requests = self.store.requests();
        assert!(requests.iter().all(|request| request.query.is_none()), "{requests:?}");
        self.asked_besides_listings(name)
    }

    /// Does the same as [`StoreScene::asked`] without listings.
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

    /// Asserts that a restore reports an unknown answer in each mode and leaves nothing; its messages contain all of
    /// `words`.
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

fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// Returns the key of the file `name`.
pub fn key(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, "history")) => format!("{PREFIX}/timelines/{name}"),
        Some((_, "backup")) => format!("{PREFIX}/backups/{name}"),
        _ => format!("{PREFIX}/wal/{}/{name}", &name[..16]),
    }
}

/// Runs a command, which must succeed: without messages if `words` are empty, otherwise with one warning that
/// contains them.
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

/// Asserts that there is one error, after at most one warning, and that both together contain all of `words`.
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

/// Number of cases that run at the same time: so many that their waits overlap, and so few that they do not wait for each other.
const CASES: usize = 8;

/// Runs cases concurrently, because many of them wait.
pub fn at_once<Case: Sync>(cases: &[Case], check: impl Fn(&Case) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CASES.min(cases.len()) {
            let (check, next) = (&check, &next);
            scope.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, SeqCst)) {
                    check(case);
                }
            });
        }
    });
}
