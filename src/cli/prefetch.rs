//! Connection of a restore to the prefetcher: requests, start, and the prefetcher's own entry point.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use super::exit::{ExitStatuses, exit_on_panic};
use super::spool::spool_of;
use super::supervise::Signals;
use super::umask;
use crate::cluster::{Caller, DataDirectory};
use crate::config::Settings;
use crate::error::{Error, ErrorKind};
use crate::frame::Header;
use crate::limit::TimeLimit;
use crate::prefetch::{self, PrefetchJob, ask, tell_restored};
use crate::restore::{RestoreRequest, Verified};
use crate::spool::Spool;
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, WalName};

/// The server that requests a segment, with the meeting point of its prefetcher.
#[derive(Debug, Clone)]
pub(super) struct Requester {
    data: DataDirectory,
    system: SystemIdentifier,
    /// Identity of the server's run.
    run: String,
    spool: Spool,
    segment: SegmentName,
}

impl Requester {
    /// Creates it; `None` outside a data directory, for files that are not segments, and if prefetching is turned
    /// off.
    pub(super) fn of(settings: &Settings, request: &RestoreRequest) -> Option<Self> {
        let WalName::Segment(segment) = request.name else { return None };
        if settings.restore.prefetch.bytes == 0 {
            return None;
        }
        let data = request.caller.data().clone();
        let own_system = data.system_identifier().ok().flatten()?;
        let system = request.system.unwrap_or(own_system);
        let run = data.run().ok()?;
        let spool = spool_of(settings, &data, system)?;
        Some(Self { data, system, run, spool, segment })
    }

    /// Requests the segment from the prefetcher.
    pub(super) fn ask(&self, limit: &TimeLimit) -> Option<Verified> {
        ask(&self.spool, &self.run, self.segment, limit).ok()
    }

    /// Returns `true` if nothing was logged about `subject` and this segment in this run of the server, and records
    /// that it is now.
    pub(super) fn is_new(&self, subject: &str) -> bool {
        let segment = self.segment.to_string();
        let said = self.spool.noted(subject, &self.run, SystemTime::now());
        if said.is_some_and(|said| said.text == segment) {
            return false;
        }
        if let Err(error) = self.spool.note(subject, &self.run, &segment) {
            tracing::debug!("cannot note in the spool what has been said: {error}");
        }
        true
    }

    /// Makes sure that a prefetcher fetches what follows the restored segment.
    pub(super) fn leave_prefetcher(&self, restored: &Header) {
        let Ok(size) = SegmentSize::new(restored.original_size) else { return };
        match tell_restored(&self.spool, &self.run, self.segment, size) {
            Ok(()) => return,
            // A prefetcher that does not answer keeps the meeting point while it lives.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {}
        }
        if let Err(error) = start(size) {
            tracing::debug!("cannot prefetch: {error}");
        }
    }
}

/// Starts the same program again as a prefetcher. Arguments and environment are the same, so it finds the same
/// settings.
fn start(size: SegmentSize) -> io::Result<()> {
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

/// Prefetches what follows the requested segment, which has that many bytes.
///
/// The exit status is always 0 or 1, and no signal that can be caught ends the process: a server that is the first
/// process of a container inherits it, and would take anything else for the crash of one of its own children.
pub(super) fn main(
    program: &'static str,
    size: u64,
    prepare: impl FnOnce() -> Result<(Settings, RestoreRequest), Error>,
) -> ExitCode {
    exit_on_panic(program, ExitStatuses::OfTool);
    umask::keep_others_out();
    let outcome = prepare().and_then(|(settings, request)| prefetch_after(settings, &request, size));
    // Nobody reads a message.
    outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn prefetch_after(settings: Settings, request: &RestoreRequest, size: u64) -> Result<(), Error> {
    let cannot = |error: io::Error| Error::new(ErrorKind::Local, "cannot prefetch").because(error);
    detach().map_err(cannot)?;
    // Relative paths refer to a directory that is left below.
    let settings = Settings { spool: std::path::absolute(&settings.spool).map_err(cannot)?, ..settings };
    let path = std::path::absolute(&request.path).map_err(cannot)?;
    let request = RestoreRequest { caller: Caller::at(path.clone()), path, ..request.clone() };
    let Some(server) = Requester::of(&settings, &request) else { return Ok(()) };
    let data = std::path::absolute(server.data.path().join(".")).map_err(cannot)?;
    let job = PrefetchJob {
        archive: settings.archive,
        system: server.system,
        data: DataDirectory::named(data),
        spool: server.spool,
        last: server.segment,
        size: SegmentSize::new(size)
            .map_err(|error| Error::new(ErrorKind::Configuration, error.to_string()))?,
        bounds: settings.restore.prefetch,
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().map_err(cannot)?;
        // So that the directory in which it was started can be unmounted or removed.
        let leave = || std::env::set_current_dir("/");
        tokio::select! {
            outcome = prefetch::prefetch(job, leave) => outcome,
            _ = signals.next() => Ok(()),
        }
    });
    // Not waited for: it may hang in a file system, and its work is no longer needed.
    std::mem::forget(runtime);
    outcome
}

/// Leaves the server's session and closes inherited files, such as the log, which would otherwise stay open as long
/// as this process.
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
