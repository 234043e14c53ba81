//! Log lines on standard error, which ends up in the server's log for the server's commands.

use std::fmt;
use std::time::Instant;

use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Settings};
use crate::frame::Header;
use crate::prune::AUDIT;
use crate::wal::{SystemIdentifier, SystemNames, WalName};

/// Starts the log. Debug lines are shown only with `verbose`, and deleted files only with that or in JSON.
pub(super) fn start(program: &'static str, format: LogFormat, verbose: bool) {
    let level = if verbose { Level::DEBUG } else { Level::INFO };
    // A full or closed standard error must not fail the call: lines that cannot be written are dropped.
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .log_internal_errors(false);
    // Messages of libraries about connections are for developers, and may contain secrets.
    let audited = verbose || format == LogFormat::Json;
    let audit = if audited { Level::INFO } else { Level::WARN };
    let ours = Targets::new().with_target("walkeep", level).with_target(AUDIT, audit);
    // Only the first call in a process starts the log.
    let _ = match format {
        LogFormat::Text => builder.event_format(Line { program }).finish().with(ours).try_init(),
        LogFormat::Json => {
            builder.json().flatten_event(true).with_target(false).finish().with(ours).try_init()
        }
    };
}

/// Starts the log as the settings say, with a warning of each variable that is perhaps a misspelt one.
pub(super) fn start_with(program: &'static str, settings: &Settings, verbose: bool) {
    start(program, settings.log_format, verbose);
    for ignored in &settings.ignored {
        tracing::warn!("{ignored}");
    }
}

/// Returns the context of work on one of several systems, which each line then names.
pub(super) fn of_system(format: LogFormat, system: SystemIdentifier, names: &SystemNames) -> Span {
    match (format, names.name(system)) {
        (LogFormat::Text, _) => tracing::info_span!("system", "{}", names.shown(system)),
        // The span itself has the key `name`.
        (LogFormat::Json, Some(name)) => {
            tracing::info_span!("system", system_identifier = %system, system_name = name)
        }
        (LogFormat::Json, None) => tracing::info_span!("system", system_identifier = %system),
    }
}

/// Logs a file that was archived or looked up, for `-v`.
pub(super) fn file_done(what: &str, header: &Header, stored_size: u64, started: Instant) {
    tracing::debug!(
        name = %header.name,
        size = header.original_size,
        stored = stored_size,
        ms = milliseconds(started),
        "{what}",
    );
}

/// Logs a file that was restored from the archive, for `-v`.
pub(super) fn restored(header: &Header, stored_size: u64, started: Instant) {
    let ms = milliseconds(started);
    let (name, size) = (&header.name, header.original_size);
    tracing::debug!(%name, size, stored = stored_size, from = "archive", ms, "restored");
}

/// Logs a file that had been prefetched, for `-v`.
pub(super) fn restored_prefetched(name: WalName, size: u64, started: Instant) {
    tracing::debug!(%name, size, from = "prefetcher", ms = milliseconds(started), "restored");
}

/// Logs a file that an earlier call has archived, for `-v`.
pub(super) fn acknowledged(name: WalName, started: Instant) {
    tracing::debug!(%name, ms = milliseconds(started), "archived by an earlier call");
}

// A `u128` would be a string in JSON.
fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Formats `walkeep-archive: error: what happened`, like PostgreSQL's own programs. Without a time: neighbouring
/// lines of the server's log have one.
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
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(to, "{} {fields}: ", span.name())?;
            }
        }
        context.format_fields(to.by_ref(), event)?;
        writeln!(to)
    }
}
