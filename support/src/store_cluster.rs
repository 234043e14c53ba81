//! An archive in a store, and its users: data directories without a server, real servers, a configuration file; and a
//! server on this machine that issues credentials.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

use super::{
    cluster::Cluster,
    data_directory::{DataDirectory, SEGMENT},
    push::{BACKUP, BACKUP_CONTENT, SEGMENT_KEY, SYSTEM},
    recovery::Role,
    restore::TARGET,
    sandbox::Sandbox,
    store::Store,
};

/// URL of the archive: a prefix in the bucket of the tests' stores.
pub const ARCHIVE: &str = "s3://wal/main";

/// A client's variables for a store.
pub type Environment = [(&'static str, String)];

/// Returns the key of [`SEGMENT`] in the store.
pub fn segment_key() -> String {
    format!("main/{SEGMENT_KEY}")
}

/// Data directories of one cluster with a segment to archive, and their calls.
pub struct StoreUsers {
    pub primary: DataDirectory,
    pub recovery: DataDirectory,
    pub standby: DataDirectory,
    pub segment: Vec<u8>,
    pub sandbox: Sandbox,
}

impl StoreUsers {
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        let [primary, recovery, standby] =
            ["primary", "recovery", "standby"].map(|name| DataDirectory::new(&sandbox, name, SYSTEM));
        recovery.file("recovery.signal", "");
        standby.file("standby.signal", "");
        let segment = primary.segment(SEGMENT, 0);
        Self { primary, recovery, standby, segment, sandbox }
    }

    /// Returns the push of [`SEGMENT`], with only the URL of the store.
    pub fn push(&self) -> Command {
        self.push_of(SEGMENT)
    }

    /// Returns the push of a backup history file.
    pub fn push_of_backup(&self) -> Command {
        self.primary.file(&format!("pg_wal/{BACKUP}"), BACKUP_CONTENT);
        self.push_of(BACKUP)
    }

    fn push_of(&self, name: &str) -> Command {
        let mut push = with_archive(self.primary.run(self.sandbox.walkeep_archive()));
        push.arg(format!("pg_wal/{name}"));
        push
    }

    /// Returns the restore of the segment, in recovery.
    pub fn restore(&self) -> Command {
        self.restore_in(&self.recovery)
    }

    /// Returns the restore of the segment, in one of the data directories.
    pub fn restore_in(&self, data: &DataDirectory) -> Command {
        let mut restore = with_archive(data.run(self.sandbox.walkeep_restore()));
        restore.args([SEGMENT, TARGET]);
        restore
    }

    pub fn cat(&self) -> Command {
        let mut cat = self.sandbox.walkeep();
        cat.arg("cat");
        let mut cat = with_archive(cat);
        cat.arg(SEGMENT);
        cat
    }

    pub fn check(&self) -> Command {
        let mut check = self.sandbox.walkeep();
        check.arg("check");
        with_archive(check)
    }

    /// Returns all calls, in both log formats, as verbose as possible.
    pub fn all_calls(&self) -> Vec<Command> {
        let calls = [Self::push, Self::restore, Self::cat, Self::check];
        let both = calls.iter().flat_map(|call| ["text", "json"].map(|format| (call(self), format)));
        both.map(|(mut command, format)| {
            command.args(["-v", "--log-format", format]);
            command
        })
        .collect()
    }

    /// Returns the file restored in recovery, and removes it.
    pub fn restored(&self) -> Vec<u8> {
        let target = self.recovery.join(TARGET);
        let content = fs::read(&target).unwrap();
        fs::remove_file(target).unwrap();
        content
    }

    /// Writes a configuration file with these permissions.
    pub fn configuration(&self, text: &str, mode: u32) -> PathBuf {
        configuration(&self.sandbox, text, mode)
    }
}

/// Sets short time limits.
fn with_archive(mut command: Command) -> Command {
    command.args(["--archive", ARCHIVE]).envs([
        ("WALKEEP_TIMEOUT", "3s"),
        ("AWS_CONNECT_TIMEOUT", "1s"),
        ("AWS_READ_TIMEOUT", "1s"),
    ]);
    command
}

/// Adds an environment to the command.
pub fn knowing(mut command: Command, environment: &Environment) -> Command {
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    command
}

/// Returns a client's variables for a store, without the key.
pub fn without_key(store: &Store) -> Vec<(&'static str, String)> {
    let is_key = |name: &str| matches!(name, "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY");
    store.environment().into_iter().filter(|(name, _)| !is_key(name)).collect()
}

/// Returns the environment with another value of one variable.
pub fn changed(environment: &Environment, name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    let others = environment.iter().filter(|(variable, _)| *variable != name).cloned();
    others.chain([(name, value.to_owned())]).collect()
}

/// Adds a configuration file to the command.
pub fn configured(mut command: Command, file: &Path) -> Command {
    command.arg("--config").arg(file);
    command
}

/// Writes `walkeep.toml` with these permissions.
pub fn configuration(sandbox: &Sandbox, text: &str, mode: u32) -> PathBuf {
    let file = sandbox.file("walkeep.toml", text);
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    file
}

/// Returns the section of a configuration file that corresponds to the environment of a store's client, and `more`.
pub fn store_section(environment: &Environment, more: &str) -> String {
    let names = [
        ("AWS_ENDPOINT_URL", "endpoint"),
        ("AWS_REGION", "region"),
        ("AWS_ACCESS_KEY_ID", "access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
    ];
    let value = |variable: &str| &environment.iter().find(|(name, _)| *name == variable).unwrap().1;
    let lines = names.map(|(variable, name)| format!("{name} = \"{}\"\n", value(variable)));
    let mut section = format!("[store]\n{}", lines.concat());
    if environment.iter().any(|(name, _)| *name == "AWS_ALLOW_HTTP") {
        section.push_str("allow_http = true\n");
    }
    section + more
}

/// Makes the cluster archive with `configuration`.
pub fn archive_by(sandbox: &Sandbox, cluster: &Cluster, configuration: &Path) {
    let program = sandbox.program("walkeep-archive");
    cluster.set("archive_mode", "on");
    let command = format!("{} --config {} %p", program.display(), configuration.display());
    cluster.set("archive_command", &command);
}

/// Makes the cluster, once started, restore with `configuration`.
pub fn restore_by(sandbox: &Sandbox, cluster: &Cluster, configuration: &Path, role: Role) {
    let program = sandbox.program("walkeep-restore");
    let command = format!("{} --config {} %f %p", program.display(), configuration.display());
    cluster.set("restore_command", &command);
    cluster.set("recovery_target_action", "promote");
    cluster.becomes(role);
}

/// Status and output of a call.
#[derive(Debug)]
pub struct CallOutput {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl CallOutput {
    pub fn of(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { status: output.status.code().unwrap(), stdout: output.stdout, stderr }
    }

    /// Returns all output as text.
    pub fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), self.stderr)
    }

    /// Asserts the status, and that the last line of standard error is an error with these words.
    pub fn is_error(&self, status: i32, words: &[&str]) {
        let line = self.stderr.lines().last().unwrap_or_default();
        assert_eq!(self.status, status, "{}", self.text());
        assert!(line.contains(": error: "), "{line}");
        for word in words {
            assert!(line.contains(word), "{word:?} is not in {line}");
        }
    }
}

/// A server that answers each request, given by its head, with a status and a body. Ends on drop.
pub struct Answering {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    pub fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, ending) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let thread = thread::spawn({
            let (heads, ending) = (Arc::clone(&heads), Arc::clone(&ending));
            move || {
                for socket in listener.incoming() {
                    if ending.load(SeqCst) {
                        break;
                    }
                    // Fails for a client that has disconnected.
                    let _ = socket.and_then(|socket| serve(&socket, &answer, &heads));
                }
            }
        });
        Self { address, heads, ending, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(
    socket: &TcpStream,
    answer: &impl Fn(&str) -> (u16, String),
    heads: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(socket);
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    if head.is_empty() {
        return Ok(());
    }
    heads.lock().unwrap().push(head.clone());
    let (status, body) = answer(&head);
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    (&*socket).write_all(answer.as_bytes())
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.ending.store(true, SeqCst);
        // Wakes the thread up. Both fail only if it has ended, and then nothing is left to do.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}
