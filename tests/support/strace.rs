//! The system calls of a command, as strace sees them, and failures that strace makes them meet.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    restore::{Outcome, outcome_of},
    sandbox::Sandbox,
    wrapper::wrapped,
};

/// The command under strace with these options; what strace itself says goes to `log` in the sandbox.
pub(crate) fn under_strace(sandbox: &Sandbox, log: &str, options: &[&str], command: &Command) -> Command {
    let installed = Command::new("strace").arg("--version").stdout(Stdio::null()).status();
    assert!(installed.is_ok(), "these tests need strace: apt-get install strace");
    let mut strace = sandbox.command("strace");
    strace.args(["-f", "-q", "-y", "-s", "0", "-o"]).arg(sandbox.join(log)).args(options).arg("--");
    wrapped(strace, command)
}

/// Runs the command and gives the calls of these names, such as `fsync,?link,linkat`, and its last, `exit_group`. A
/// question mark says that not every architecture has the call.
pub(crate) fn trace(sandbox: &Sandbox, calls: &str, command: &Command) -> (Outcome, Vec<Call>) {
    let outcome =
        outcome_of(under_strace(sandbox, "trace", &["-e", &format!("trace={calls},exit_group")], command));
    let text = fs::read_to_string(sandbox.join("trace")).unwrap();
    (outcome, parse(&text))
}

/// One system call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// As strace writes them, descriptors with their paths: `3</a/file>, "/a/path"`.
    arguments: String,
    /// Likewise: `0`, `-1 ENOSPC (…)`, `?`.
    result: String,
    /// The lines of strace's log in which it begins and ends.
    began: usize,
    ended: usize,
}

impl Call {
    /// Whether this one had ended when the other one began.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        self.ended < other.began
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.result == "0"
    }

    /// The path of the descriptor that is the first argument.
    pub(crate) fn descriptor(&self) -> Option<&Path> {
        let (number, rest) = self.arguments.split_once('<')?;
        let path = rest.split_once('>')?.0;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| Path::new(path))
    }

    /// The arguments that are paths.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        self.arguments.split('"').skip(1).step_by(2).map(Path::new).collect()
    }

    /// Whether this flushes `path`, successfully.
    pub(crate) fn flushes(&self, path: &Path) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync")
            && self.descriptor() == Some(path)
            && self.succeeded()
    }

    /// The status that the process ended with, if this is its last call.
    pub(crate) fn exit_status(&self) -> Option<&str> {
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
    Call { name: name.to_owned(), arguments: arguments.to_owned(), result: result.to_owned(), began, ended }
}
