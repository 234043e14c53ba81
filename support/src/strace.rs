//! System calls of a command, observed with strace, and signals and failures injected into them.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    running::{Outcome, Running, outcome_of},
    sandbox::Sandbox,
    wait_until,
    wrapper::wrapped,
};
use rustix::process::{Pid, Signal, kill_process};

/// Calls that change a file system, or make a change durable. A question mark marks those that not every architecture
/// has.
pub const CHANGES: &str =
    "?mkdir,mkdirat,openat,write,fsync,fdatasync,?link,linkat,?unlink,unlinkat,?rename,renameat,renameat2";

/// Runs the command and returns its [`CHANGES`], and its last call, `exit_group`.
pub fn trace(sandbox: &Sandbox, command: &Command) -> (Outcome, Vec<Call>) {
    trace_calls(CHANGES, sandbox, command)
}

/// Does the same as [`trace`] for other calls.
pub fn trace_calls(names: &str, sandbox: &Sandbox, command: &Command) -> (Outcome, Vec<Call>) {
    let options = ["-e", &format!("trace={names},exit_group")];
    let outcome = outcome_of(under_strace(sandbox, &options, command));
    (outcome, parse(&fs::read_to_string(log(sandbox)).unwrap()))
}

/// Runs the command, which may fail, and returns its system calls `names`, and its last one, `exit_group`.
pub fn calls_of(sandbox: &Sandbox, names: &[&str], command: &Command) -> Vec<Call> {
    let options = ["-e", &format!("trace={},exit_group", names.join(","))];
    outcome_of(under_strace(sandbox, &options, command));
    parse(&fs::read_to_string(log(sandbox)).unwrap())
}

/// Returns the command with these effects on all calls of a kind, such as `linkat:error=EPERM`.
pub fn with_effects(effects: &[&str], sandbox: &Sandbox, command: &Command) -> Command {
    let effects: Vec<String> = effects.iter().map(|effect| format!("inject={effect}")).collect();
    let traced = format!("trace={CHANGES},exit_group");
    let options = effects.iter().chain([&traced]).flat_map(|option| ["-e", option.as_str()]);
    let options: Vec<&str> = options.collect();
    under_strace(sandbox, &options, command)
}

/// Returns the command, which hangs as soon as it opens the file, as on a mount whose server does not answer. `path` is the
/// file as the command names it. It is the started process itself; strace is none of its parents. [`end_of_hanging`] takes its end.
pub fn hanging_at(path: &Path, sandbox: &Sandbox, command: &Command) -> Command {
    let forever = Duration::from_mins(30).as_micros();
    let inject = format!("inject=?open,openat,?openat2:delay_enter={forever}");
    let trace =
        ["-D", "-qq", "-P", path.to_str().unwrap(), "-e", "trace=?open,openat,?openat2", "-e", &inject];
    let mut hanging = under_strace(sandbox, &trace, command);
    // Cargo's, in whose many directories the loader would search for libraries.
    hanging.env_remove("LD_LIBRARY_PATH");
    hanging
}

/// Waits for the end of a command that hangs. strace would keep the thread that does for as long as it delays the call, and
/// complains that it ends.
pub fn end_of_hanging(running: Running) -> Outcome {
    let_go(running.id());
    let Outcome { status, stderr } = running.end();
    let lines = stderr.split_inclusive('\n').filter(|line| !line.starts_with("strace: "));
    Outcome { status, stderr: lines.collect() }
}

/// Waits until the process has ended but for a thread that hangs, and lets go of that one.
pub fn let_go(process: u32) {
    let field = |name: &str| {
        // One that nobody waits for disappears.
        let status =
            fs::read_to_string(format!("/proc/{process}/status")).unwrap_or("State: Z\nTracerPid: 0".into());
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    wait_until("the command has ended", || field("State:").starts_with('Z'));
    if let Some(strace) = Pid::from_raw(field("TracerPid:").parse().unwrap()) {
        // It may have ended just now.
        let _ = kill_process(strace, Signal::KILL);
    }
}

fn under_strace(sandbox: &Sandbox, options: &[&str], command: &Command) -> Command {
    let installed = Command::new("strace").arg("--version").stdout(Stdio::null()).status();
    assert!(installed.is_ok(), "these tests need strace: apt-get install strace");
    let mut strace = sandbox.command("strace");
    // All threads; descriptors with their paths; the lengths of buffers instead of their contents.
    strace.args(["-f", "-y", "-s", "0", "-o"]).arg(log(sandbox)).args(options).arg("--");
    wrapped(strace, command)
}

/// Returns the path of strace's log, because standard error is the command's.
fn log(sandbox: &Sandbox) -> PathBuf {
    sandbox.join("strace.log")
}

/// One of the [`CHANGES`] that a command makes in a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    call: String,
    pub path: PathBuf,
    /// What strace knows the call by: the path, or the open directory in which it names a file.
    at: PathBuf,
    /// Rank among such calls.
    count: usize,
}

impl Change {
    /// Returns the command with this change replaced by `effect`: `signal=KILL` or an error such as `error=EIO`.
    pub fn replaced(&self, effect: &str, sandbox: &Sandbox, command: &Command) -> Command {
        let Self { call, path: _, at, count } = self;
        let inject = format!("inject={call}:{effect}:when={count}");
        under_strace(sandbox, &["-P", at.to_str().unwrap(), "-e", &inject], command)
    }

    /// Returns the command with a pause before this change. It is the started process itself; strace is none of its
    /// parents.
    pub fn held(&self, pause: Duration, sandbox: &Sandbox, command: &Command) -> Command {
        let Self { call, path: _, at, count } = self;
        let inject = format!("inject={call}:delay_enter={}:when={count}", pause.as_micros());
        under_strace(sandbox, &["-D", "-P", at.to_str().unwrap(), "-e", &inject], command)
    }

    pub fn is(&self, call: &str, path: &Path) -> bool {
        self.call.trim_end_matches("at") == call && self.path == path
    }
}

/// Returns the changes made to `root` and everything below, in order.
pub fn changes_of(calls: &[Call], root: &Path) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        let is_change = call.name != "openat" || call.arguments.contains("O_CREAT");
        if let Some(path) = call.path().filter(|path| is_change && path.starts_with(root)) {
            let at = call.at.clone().unwrap_or_else(|| path.to_owned());
            let like_it = |other: &&Call| other.name == call.name && other.is_at(&at);
            let count = calls[..=index].iter().filter(like_it).count();
            changes.push(Change { call: call.name.clone(), path: path.to_owned(), at, count });
        }
    }
    changes
}

/// Returns the [`CHANGES`] of the last command that ran under strace, and its end.
pub fn parse_log(sandbox: &Sandbox) -> Vec<Call> {
    parse(&fs::read_to_string(log(sandbox)).unwrap())
}

/// One system call.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    /// Arguments as strace prints them, descriptors with their paths: `3</a/file>, "/a/path"`.
    arguments: String,
    /// Result as strace prints it: `0`, `-1 ENOSPC (…)`, `?`.
    result: String,
    /// The path that it is about.
    path: Option<PathBuf>,
    /// The open directory in which it names that path.
    at: Option<PathBuf>,
    /// Lines of strace's log in which it starts and ends.
    began: usize,
    ended: usize,
}

impl Call {
    /// Returns `true` if this call had ended when the other one started.
    pub fn is_before(&self, other: &Self) -> bool {
        self.ended < other.began
    }

    pub fn succeeded(&self) -> bool {
        self.result == "0"
    }

    /// Returns the path of the call: the last one it names, or that of the descriptor in its first argument.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns `true` if an argument is that path, or a descriptor of it.
    fn is_at(&self, path: &Path) -> bool {
        let path = path.display();
        self.arguments.contains(&format!("<{path}>")) || self.arguments.contains(&format!("\"{path}\""))
    }

    /// Returns the first path that the call names.
    pub fn first_path(&self) -> Option<&Path> {
        self.arguments.split('"').nth(1).map(Path::new)
    }

    /// Returns `true` if this makes a network file system ask its server for the directory `path`.
    pub fn compares(&self, path: &Path) -> bool {
        self.name == "statx" && self.path() == Some(path) && self.arguments.contains("AT_STATX_FORCE_SYNC")
    }

    /// Returns `true` if this creates a file.
    pub fn creates(&self) -> bool {
        self.name == "openat" && self.arguments.contains("O_CREAT") && !self.result.starts_with('-')
    }

    /// Returns `true` if this opens `path`, or tries to.
    pub fn opens(&self, path: &Path) -> bool {
        self.name == "openat" && self.path() == Some(path)
    }

    /// Returns `true` if this flushes `path` successfully.
    pub fn flushes(&self, path: &Path) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync") && self.path() == Some(path) && self.succeeded()
    }

    /// Returns the exit status of the process, if this is its last call.
    pub fn exit_status(&self) -> Option<&str> {
        (self.name == "exit_group").then_some(self.arguments.as_str())
    }
}

/// Reads strace's log. A call that another thread interrupts is in two lines:
///
/// ```text
/// 4711 fsync(9</a/file> <unfinished ...>
/// 4712 mkdir("/a/b", 0777)               = 0
/// 4711 <... fsync resumed>)              = 0
/// ```
fn parse(log: &str) -> Vec<Call> {
    let mut unfinished: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (line, text) in log.lines().enumerate() {
        let (thread, text) = text.split_once(' ').unwrap();
        let text = text.trim_start();
        if text.starts_with("+++") || text.starts_with("---") {
            continue;
        }
        if let Some(beginning) = text.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, (line, beginning));
        } else if let Some(resumed) = text.strip_prefix("<... ") {
            let (began, beginning) = unfinished.remove(thread).unwrap();
            let end = resumed.split_once(" resumed>").unwrap().1;
            calls.push(parse_call(&format!("{beginning}{end}"), began, line));
        } else {
            calls.push(parse_call(text, line, line));
        }
    }
    assert!(calls.iter().any(|call| call.exit_status().is_some()), "no end of the process in {log}");
    calls
}

/// Reads `fsync(9</a/file>)      = 0`.
fn parse_call(text: &str, began: usize, ended: usize) -> Call {
    let (call, result) = text.rsplit_once(" = ").unwrap_or_else(|| panic!("no system call: {text}"));
    let (name, arguments) = call.trim_end().strip_suffix(')').unwrap().split_once('(').unwrap();
    let (path, at) = path_of(arguments);
    Call {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        result: result.to_owned(),
        path,
        at,
        began,
        ended,
    }
}

/// Returns the last path in the arguments, and the open directory in which it is, if any: of `7</a>, "b", O_RDONLY` the path
/// `/a/b` and `/a`. Of `7</a/b>, ""..., 5` the path `/a/b`.
fn path_of(arguments: &str) -> (Option<PathBuf>, Option<PathBuf>) {
    let descriptor = |text: &str| Some(PathBuf::from(text.split_once('<')?.1.split_once('>')?.0));
    let mut parts = arguments.rsplitn(3, '"');
    let (_, name, before) = (parts.next(), parts.next(), parts.next());
    match (name, before) {
        (Some(name), Some(before)) if !name.is_empty() => {
            let argument = before.trim_end_matches(", ").rsplit(", ").next().unwrap_or_default();
            // A path from the top, or from the working directory, is what strace knows the call by.
            match descriptor(argument).filter(|_| !name.starts_with('/') && !argument.starts_with("AT_FDCWD"))
            {
                Some(directory) => (Some(directory.join(name)), Some(directory)),
                None => (Some(PathBuf::from(name)), None),
            }
        }
        _ => (descriptor(arguments), None),
    }
}
