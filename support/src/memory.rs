//! Memory of a command.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::running::Outcome;

/// For operations on files of a gigabyte, on a shared machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// Runs the command to its end; returns the maximum resident memory, in MiB.
///
/// Reads `VmHWM`, which never falls and starts again with each program, unlike `ru_maxrss`, which starts with the
/// value of the parent process.
pub fn peak_of(mut command: Command) -> (Outcome, u64) {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut peak = 0;
    let status = loop {
        // It disappears just before the end.
        peak = peak.max(peak_so_far(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} did not end within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(peak > 0, "{command:?} ended before it was looked at: {stderr}");
    (Outcome { status: status.code().unwrap_or(-1), stderr }, peak)
}

/// Returns the maximum resident memory of a process so far, in MiB; `None` once it has ended.
pub fn peak_so_far(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().strip_suffix(" kB")?.parse::<u64>().unwrap().div_ceil(1024))
}
