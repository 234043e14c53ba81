//! Log lines on standard error, which for the server's commands is the server's log.

use std::fmt;
use std::time::Instant;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use crate::frame::Header;
use crate::prune::AUDIT;
use crate::wal::WalName;

/// Starts logging. All but debug lines are always shown, and these with `verbose`; what is deleted with that, and to programs.
pub(super) fn start(program: &'static str, format: LogFormat, verbose: bool) {
    let level = if verbose { Level::DEBUG } else { Level::INFO };
    // A full or closed standard error must not fail the call: lines that cannot be written are dropped.
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .log_internal_errors(false);
    // What libraries say of connections is for their own developers, and might tell more than it should.
    let audited = verbose || format == LogFormat::Json;
    let audit = if audited { Level::INFO } else { Level::WARN };
    let ours = Targets::new().with_target("walkeep", level).with_target(AUDIT, audit);
    // Only the first caller in a process starts the log.
    let _ = match format {
        LogFormat::Text => builder.event_format(Line { program }).finish().with(ours).try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_target(false).finish().with(ours).try_init()
        }
    };
}

/// The line that `-v` adds for a file that was archived or looked up.
pub(super) fn file_done(what: &str, header: &Header, stored_size: u64, started: Instant) {
    tracing::debug!(
        name = %header.name,
        size = header.original_size,
        stored = stored_size,
        ms = milliseconds(started),
        "{what}",
    );
}

/// The line that `-v` adds for a file that was restored from the archive.
pub(super) fn restored(header: &Header, stored_size: u64, started: Instant) {
    let ms = milliseconds(started);
    let (name, size) = (&header.name, header.original_size);
    tracing::debug!(%name, size, stored = stored_size, from = "archive", ms, "restored");
}

/// The line that `-v` adds for a file that had been prefetched.
pub(super) fn restored_prefetched(name: WalName, size: u64, started: Instant) {
    tracing::debug!(%name, size, from = "prefetcher", ms = milliseconds(started), "restored");
}

/// The line that `-v` adds for a file that an earlier call has archived.
pub(super) fn acknowledged(name: WalName, started: Instant) {
    tracing::debug!(%name, ms = milliseconds(started), "archived by an earlier call");
}

// As u128 JSON would have it as text.
fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `walkeep-archive: error: what happened`, after the fashion of PostgreSQL's own programs. The server's log adds
/// no time to it, but stands between lines that have one.
struct Line {
    program: &'static str,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        write!(to, "{}: {level}: ", self.program)?;
        context.format_fields(to.by_ref(), event)?;
        writeln!(to)
    }
}
