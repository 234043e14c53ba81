//! A temporary PostgreSQL cluster that archives and recovers with walkeep.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    PATIENCE, archive::ArchiveDirectory, output_of, postgres, sandbox::Sandbox, sandbox::temporary_directory,
    try_output_of, user, wait_until,
};

/// Settings for a small server without fsync, which matters only in a crash of the machine.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("shared_buffers", "16MB"),
    ("max_connections", "10"),
    ("max_wal_senders", "4"),
    ("autovacuum", "off"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("log_line_prefix", "%m [%p] %b "),
];

/// Mode of a shutdown.
#[derive(Clone, Copy)]
pub enum Shutdown {
    /// With a shutdown checkpoint, and everything archived.
    Fast,
    /// As in a crash.
    Immediate,
}

/// A data directory and, once started, its server, reached through its own socket.
pub struct Cluster<'a> {
    sandbox: &'a Sandbox,
    name: String,
    data: PathBuf,
    // Not in the sandbox, whose path may exceed the 107 bytes of a socket's name.
    socket: TempDir,
    server: Option<Child>,
}

impl<'a> Cluster<'a> {
    /// Creates a cluster with initdb's defaults, and so 16 MB segments.
    pub fn new(sandbox: &'a Sandbox, name: &str) -> Self {
        Self::initialised_with(sandbox, name, &[])
    }

    /// Creates a cluster with additional arguments of initdb, such as `--wal-segsize=1`.
    pub fn initialised_with(sandbox: &'a Sandbox, name: &str, initdb_arguments: &[&str]) -> Self {
        let cluster = Self::without_data(sandbox, name);
        postgres::initialise(&cluster.data, initdb_arguments);
        for (setting, value) in SETTINGS {
            cluster.set(setting, value);
        }
        cluster
    }

    fn without_data(sandbox: &'a Sandbox, name: &str) -> Self {
        Self {
            sandbox,
            name: name.to_owned(),
            data: sandbox.join(name),
            socket: temporary_directory(Path::new("/tmp")),
            server: None,
        }
    }

    /// Copies this data directory, whose server must not be running: a base backup is used several times.
    pub fn copy(&self, name: &str) -> Self {
        assert!(self.server.is_none(), "a running cluster cannot be copied");
        let copy = Self::without_data(self.sandbox, name);
        postgres::copy_directory(&self.data, &copy.data);
        copy
    }

    /// Returns the cluster in a directory of the sandbox, such as a base backup.
    pub fn in_directory(sandbox: &'a Sandbox, name: &str) -> Self {
        Self::without_data(sandbox, name)
    }

    /// Copies a base backup from another sandbox; it archives nothing.
    pub fn from_backup(sandbox: &'a Sandbox, name: &str, backup: &Path) -> Self {
        let cluster = Self::without_data(sandbox, name);
        postgres::copy_directory(backup, &cluster.data);
        cluster.set("archive_mode", "off");
        cluster
    }

    /// Takes a base backup without WAL, which the archive must provide.
    pub fn base_backup(&self, name: &str) -> Self {
        // With --wal-method=none, PostgreSQL would wait for the archive, and look at it once a second.
        output_of(self.base_backup_command(name).arg("--wal-method=fetch"));
        let backup = Self::without_data(self.sandbox, name);
        for entry in fs::read_dir(backup.data.join("pg_wal")).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        backup
    }

    /// Takes a base backup with the WAL that it needs.
    pub fn streaming_backup(&self, name: &str) -> Self {
        output_of(self.base_backup_command(name).arg("--wal-method=stream"));
        Self::without_data(self.sandbox, name)
    }

    /// Returns a `pg_basebackup` into the sandbox, labeled with its name, without a WAL method.
    pub fn base_backup_command(&self, name: &str) -> Command {
        let mut command = self.client("pg_basebackup");
        command.args(["--no-sync", "--no-manifest", "--checkpoint=fast", "--label", name]);
        command.arg("-D").arg(self.sandbox.join(name));
        command
    }

    /// Returns the segment being written.
    pub fn current_segment(&self) -> String {
        self.sql("select pg_walfile_name(pg_current_wal_lsn())")
    }

    /// Returns the sandbox of the data directory.
    pub(super) fn sandbox(&self) -> &'a Sandbox {
        self.sandbox
    }

    /// Returns the data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the path of a file in `pg_wal`.
    pub fn wal(&self, name: impl AsRef<Path>) -> PathBuf {
        self.data.join("pg_wal").join(name)
    }

    /// Returns the system identifier, from `pg_control`.
    pub fn system_identifier(&self) -> u64 {
        let control = fs::read(self.data.join("global/pg_control")).unwrap();
        u64::from_ne_bytes(control[..8].try_into().unwrap())
    }

    /// Sets a parameter in the file in which the server's version reads it; a running server is not told.
    pub fn set(&self, parameter: &str, value: &str) {
        let file = self.data.join(self.configuration_of(parameter));
        let (parameter, value) = postgres::as_known_to_the_server(parameter, value);
        let mut configuration = File::options().create(true).append(true).open(&file).unwrap();
        writeln!(configuration, "{parameter} = '{}'", value.replace('\'', "''")).unwrap();
        user::hand_over(&file);
    }

    /// Returns `true` if the server has a parameter. It need not be running.
    pub fn knows(&self, parameter: &str) -> bool {
        let mut command = self.sandbox.command(postgres::program("postgres"));
        try_output_of(command.arg("-D").arg(&self.data).args(["-C", parameter])).is_ok()
    }

    /// Configures archiving with `walkeep-archive`.
    pub fn archive_into(&self, archive: &ArchiveDirectory) {
        let program = self.sandbox.program("walkeep-archive");
        self.set("archive_mode", "on");
        self.set("archive_command", &format!("{} --archive {} %p", program.display(), archive.url()));
    }

    /// Starts the server and waits until it accepts queries: a standby as such, any other after its recovery.
    pub fn start(&mut self) {
        let in_recovery = if self.is_standby() { "t" } else { "f" };
        self.launch();
        wait_until(&format!("{} has started", self.name), || {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended while it was starting", self.name);
            self.accepts_connections()
                && self.try_sql("select pg_is_in_recovery()").as_deref() == Ok(in_recovery)
        });
    }

    /// Starts the server without waiting.
    pub fn launch(&mut self) {
        assert!(self.server.is_none(), "{} is running", self.name);
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let server = self
            .sandbox
            .command(postgres::program("postgres"))
            .arg("-D")
            .arg(&self.data)
            // Not in postgresql.conf, which base backups and pg_rewind copy to other clusters.
            .arg("-k")
            .arg(self.socket.path())
            .args(["-c", "listen_addresses="])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
    }

    /// Returns `true` if postmaster.pid says that the server accepts connections, which it may in recovery, too.
    fn accepts_connections(&self) -> bool {
        let file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<_> = file.lines().map(str::trim).collect();
        let own_pid = self.server.as_ref().map(|server| server.id().to_string());
        lines.first().copied() == own_pid.as_deref() && lines.get(7) == Some(&"ready")
    }

    /// Stops the server and waits for its end.
    pub fn stop(&mut self, shutdown: Shutdown) {
        signal(self.server.as_ref().expect("the server is running"), shutdown);
        self.wait_for_exit();
    }

    /// Kills the server and all of its processes, but not the archiver's children.
    pub fn kill(&mut self) {
        let server = self.server.as_ref().expect("the server is running");
        let children = children_of(server.id());
        let server = Pid::from_child(server);
        for process in [server].into_iter().chain(children) {
            // A child may have ended with its parent.
            let _ = kill_process(process, Signal::KILL);
        }
        self.wait_for_exit();
    }

    /// Waits for the server to end by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let server = self.server.as_mut().expect("the server is running");
        let mut status = None;
        wait_until(&format!("{} has ended", self.name), || {
            status = server.try_wait().unwrap();
            status.is_some()
        });
        self.server = None;
        status.unwrap()
    }

    /// Returns the server's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.sandbox.join(format!("{}.log", self.name))
    }

    /// Returns one of PostgreSQL's client programs, with this server's address.
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.sandbox.command(postgres::program(program));
        command.env("PGHOST", self.socket.path()).env("PGUSER", "walkeep").env("PGDATABASE", "postgres");
        command
    }

    /// Returns the connection string.
    pub fn connection(&self) -> String {
        format!("host={} user=walkeep dbname=postgres", self.socket.path().display())
    }

    /// Runs a statement, which must succeed; columns separated by `|`, rows by newlines.
    pub fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Does the same as [`Cluster::sql`] with psql's message as the error.
    pub fn try_sql(&self, statement: &str) -> Result<String, String> {
        try_output_of(self.client("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement]))
    }

    /// Ends the current segment, which must not be empty, and returns its name; it is ready to be archived.
    pub fn finish_segment(&self) -> String {
        self.sql("select pg_walfile_name(pg_switch_wal())")
    }

    /// Ends the current segment and waits until PostgreSQL has recorded it as archived.
    pub fn archive_segment(&self) -> String {
        let name = self.finish_segment();
        self.wait_until_archived();
        name
    }

    /// Lists the files that PostgreSQL wants to archive, sorted.
    pub fn backlog(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.wal("archive_status"))
            .unwrap()
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                Some(name.strip_suffix(".ready")?.to_owned())
            })
            .collect();
        names.sort();
        names
    }

    /// Waits until nothing is left to archive.
    pub fn wait_until_archived(&self) {
        wait_until(&format!("{} has archived everything", self.name), || self.backlog().is_empty());
    }

    /// Returns the number of failures of `archive_command` since the statistics were last reset, as a crash does.
    pub fn failed_count(&self) -> u64 {
        self.sql("select failed_count from pg_stat_archiver").parse().unwrap()
    }
}

fn children_of(parent: u32) -> Vec<Pid> {
    let is_child = |stat: &str| {
        // The name, in parentheses, may contain anything.
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        after_name.split_whitespace().nth(1).unwrap() == parent.to_string()
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let process = entry.unwrap().file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            is_child(&stat).then(|| Pid::from_raw(process).unwrap())
        })
        .collect()
}

fn signal(server: &Child, shutdown: Shutdown) {
    let signal = match shutdown {
        Shutdown::Fast => Signal::INT,
        Shutdown::Immediate => Signal::QUIT,
    };
    kill_process(Pid::from_child(server), signal).unwrap();
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // A server that has ended receives no signal.
        if let Some(server) = &mut self.server
            && server.try_wait().unwrap().is_none()
        {
            signal(server, Shutdown::Immediate);
            let deadline = Instant::now() + PATIENCE;
            while server.try_wait().unwrap().is_none() {
                if Instant::now() > deadline {
                    server.kill().unwrap();
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        if thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}
