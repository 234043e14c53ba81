//! The prefetcher as a process: its start, and its own entry point.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::process::{Command, ExitCode, Stdio};

use super::exit::{ExitStatuses, exit_on_panic};
use super::supervise::Signals;
use super::umask;
use crate::config::Settings;
use crate::error::{Error, ErrorKind};
use crate::prefetch::prefetch;
use crate::restore::RestoreRequest;
use crate::wal::SegmentSize;

/// Starts the same program again as a prefetcher. Arguments and environment are the same, so it finds the same
/// settings.
pub(super) fn start(size: SegmentSize) -> io::Result<()> {
    let arguments = std::env::args_os().skip(1);
    let after = OsString::from(format!("--prefetch-after={}", size.bytes()));
    Command::new(std::env::current_exe()?)
        .arg(after)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// Prefetches what follows the requested segment, which has `size` bytes.
///
/// The exit status is always 0 or 1, and no signal that can be caught ends the process. A server that is the first
/// process of a container inherits this process, and would take any other end for the crash of one of its children.
pub(super) fn main(
    program: &'static str,
    size: u64,
    prepare: impl FnOnce() -> Result<(Settings, RestoreRequest), Error>,
) -> ExitCode {
    exit_on_panic(program, ExitStatuses::OfTool);
    umask::keep_others_out();
    let outcome = prepare().and_then(|(settings, request)| prefetch_after(&settings, &request, size));
    // No message: nobody would read it.
    outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn prefetch_after(settings: &Settings, request: &RestoreRequest, size: u64) -> Result<(), Error> {
    let cannot = |error: io::Error| Error::new(ErrorKind::Local, "cannot prefetch").because(error);
    detach().map_err(cannot)?;
    // Resolves relative paths before the working directory is left.
    let Some(job) = settings.prefetching().job_after(request, size)? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().map_err(cannot)?;
        // Lets the directory in which the process was started be unmounted or removed.
        let leave = || std::env::set_current_dir("/");
        tokio::select! {
            outcome = prefetch(job, leave) => outcome,
            _ = signals.next() => Ok(()),
        }
    });
    // Threads are not waited for: they may hang in a file system, and their work is no longer needed.
    std::mem::forget(runtime);
    outcome
}

/// Leaves the server's session and closes inherited files, such as the server's log.
fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The listing's own descriptor is closed by now.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
