//! Standard output, for people and for programs.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use humansize::{WINDOWS, format_size};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::exit::ExitStatuses;
use crate::catalog::Totals;
use crate::error::{Error, ErrorKind};

/// Exit status of a program whose reader has left, as a shell shows it for others that SIGPIPE ends.
pub(super) const READER_LEFT: u8 = 128 + 13;

/// Writes to standard output. A failure is logged and has an exit status, because a reader must not mistake a part of
/// the output for all of it. A reader that has left, such as `head`, has an exit status only.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), ExitCode> {
    try_print(write).map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return READER_LEFT.into();
        }
        let error = Error::new(ErrorKind::Local, "cannot write to standard output").because(error);
        ExitStatuses::OfTool.report(&error).into()
    })
}

/// Writes to standard output.
pub(super) fn try_print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    write(&mut stdout)?;
    stdout.flush()
}

/// Writes a text to standard output.
pub(super) fn print_text(text: &str) -> Result<(), ExitCode> {
    print(|to| to.write_all(text.as_bytes()))
}

/// Formats a value as JSON, with a final line feed.
pub(super) fn as_json(value: &impl Serialize) -> String {
    // Serialization cannot fail: output consists of strings, numbers, booleans and lists of them.
    let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    without_controls(&text).into_owned()
}

/// Escapes control characters that JSON allows: a label may contain terminal commands.
fn without_controls(json: &str) -> Cow<'_, str> {
    let is_control = |character: char| ('\u{7F}'..='\u{9F}').contains(&character);
    if !json.contains(is_control) {
        return Cow::Borrowed(json);
    }
    let escaped = |character: char| {
        if is_control(character) { format!("\\u{:04x}", u32::from(character)) } else { character.to_string() }
    };
    Cow::Owned(json.chars().map(escaped).collect())
}

/// A writer that escapes as [`without_controls`] does.
struct Escaping<'a>(&'a mut dyn Write);

impl Write for Escaping<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The serializer writes whole strings.
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(without_controls(text).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes a value as JSON, with a final line feed.
pub(super) fn write_json(to: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(Escaping(&mut *to), value)?;
    writeln!(to)
}

/// Formats a size in PostgreSQL's units: `5.6 GB`.
pub(super) fn bytes(number: u64) -> String {
    format_size(number, WINDOWS)
}

/// Formats a size for a narrow column: `142.2 MB`.
pub(super) fn short_bytes(number: u64) -> String {
    format_size(number, WINDOWS.decimal_places(1))
}

/// Formats a number with a noun: `1 file`, `2 files`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Formats a time in whole seconds: `2026-11-21T12:00:00Z`.
pub(super) fn time(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment).to_string()
}

/// Formats a duration: `3m 12s`; 0 if it is negative because of differing clocks.
pub(super) fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (days, rest) = (seconds / 86_400, SignedDuration::from_secs(seconds % 86_400));
    match days {
        0 => format!("{rest:#}"),
        _ if rest.is_zero() => format!("{days}d"),
        // Seconds do not matter after days.
        _ => format!("{days}d {:#}", SignedDuration::from_hours(rest.as_hours())),
    }
}

/// Formats a compression ratio: `10.0`.
pub(super) fn ratio(totals: &Totals) -> Option<String> {
    totals.ratio().map(|ratio| format!("{ratio:.1}"))
}

/// Replaces control characters in a text from elsewhere, so that it is safe on a terminal.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_contains_no_control_character() {
        let text = ["plain \u{E9}", "\u{1B}[31m", "\u{9B}31m\u{7F}"];
        let mut written = Vec::new();
        write_json(&mut written, &text).unwrap();
        for json in [as_json(&text), String::from_utf8(written).unwrap()] {
            assert!(!json.chars().any(|c| c.is_control() && c != '\n'), "{json:?}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), text);
        }
    }

    #[test]
    fn sizes_look_like_the_servers_own() {
        assert_eq!([bytes(0), bytes(16 << 20), bytes(1_500_000_000)], ["0 B", "16 MB", "1.40 GB"]);
        assert_eq!([count(1, "file"), count(0, "file")], ["1 file", "0 files"]);
    }

    #[test]
    fn times_and_durations_have_a_useful_precision() {
        let moment: Timestamp = "2026-11-21T12:00:00.987Z".parse().unwrap();
        assert_eq!(time(moment), "2026-11-21T12:00:00Z");
        let texts =
            [-5, 0, 192, 3 * 3600 + 61, 86_400, 2 * 86_400 + 3 * 3600 + 59].map(SignedDuration::from_secs);
        assert_eq!(texts.map(duration), ["0s", "0s", "3m 12s", "3h 1m 1s", "1d", "2d 3h"]);
        assert_eq!(plain("a\u{1b}[1mb\n"), "a [1mb ");
    }
}
