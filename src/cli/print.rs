//! What goes to standard output, for people and for programs.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use humansize::{WINDOWS, format_size};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::exit::Failure;
use crate::catalog::Totals;
use crate::error::{Error, ErrorKind};

/// Writes to standard output. That it cannot is logged, and has an exit status: whoever reads it must not take a part for the
/// whole.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), ExitCode> {
    try_print(write).map_err(|error| {
        let error = Error::new(ErrorKind::Local, "cannot write to standard output").because(error);
        Failure::OfTool.report(&error).into()
    })
}

/// Writes to standard output.
pub(super) fn try_print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    write(&mut stdout)?;
    stdout.flush()
}

/// As [`print`], a text.
pub(super) fn print_text(text: &str) -> Result<(), ExitCode> {
    print(|to| to.write_all(text.as_bytes()))
}

/// As JSON, with a line end.
pub(super) fn as_json(value: &impl Serialize) -> String {
    // What is printed is made of texts, numbers, truths and lists of them: nothing in it can fail.
    let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    without_controls(&text).into_owned()
}

/// JSON leaves some control characters as they are, and a label may hold what a terminal takes for a command.
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

/// Escapes, on its way, what [`without_controls`] does.
struct Escaping<'a>(&'a mut dyn Write);

impl Write for Escaping<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The serializer writes whole texts.
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

/// Writes JSON, with a line end.
pub(super) fn write_json(to: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(Escaping(&mut *to), value)?;
    writeln!(to)
}

/// `5.6 GB`, in PostgreSQL's units.
pub(super) fn bytes(number: u64) -> String {
    format_size(number, WINDOWS)
}

/// `1 file`, `2 files`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `2026-11-21T12:00:00Z`: to the second, because nobody reads more.
pub(super) fn time(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment).to_string()
}

/// `3m 12s`, and 0 for what a clock has in the future.
pub(super) fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (days, rest) = (seconds / 86_400, SignedDuration::from_secs(seconds % 86_400));
    match days {
        0 => format!("{rest:#}"),
        _ if rest.is_zero() => format!("{days}d"),
        // Of what is days old, seconds are noise.
        _ => format!("{days}d {:#}", SignedDuration::from_hours(rest.as_hours())),
    }
}

/// `10.0`.
pub(super) fn ratio(totals: &Totals) -> Option<String> {
    totals.ratio().map(|ratio| format!("{ratio:.1}"))
}

/// A text from elsewhere, as it may be shown on a terminal.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_no_control_character() {
        let text = ["plain \u{E9}", "\u{1B}[31m", "\u{9B}31m\u{7F}"];
        let mut written = Vec::new();
        write_json(&mut written, &text).unwrap();
        for json in [as_json(&text), String::from_utf8(written).unwrap()] {
            assert!(!json.chars().any(|c| c.is_control() && c != '\n'), "{json:?}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), text);
        }
    }

    #[test]
    fn amounts_read_as_the_servers_own() {
        assert_eq!([bytes(0), bytes(16 << 20), bytes(1_500_000_000)], ["0 B", "16 MB", "1.40 GB"]);
        assert_eq!([count(1, "file"), count(0, "file")], ["1 file", "0 files"]);
    }

    #[test]
    fn moments_and_durations_are_told_to_a_useful_degree() {
        let moment: Timestamp = "2026-11-21T12:00:00.987Z".parse().unwrap();
        assert_eq!(time(moment), "2026-11-21T12:00:00Z");
        let texts =
            [-5, 0, 192, 3 * 3600 + 61, 86_400, 2 * 86_400 + 3 * 3600 + 59].map(SignedDuration::from_secs);
        assert_eq!(texts.map(duration), ["0s", "0s", "3m 12s", "3h 1m 1s", "1d", "2d 3h"]);
        assert_eq!(plain("a\u{1b}[1mb\n"), "a [1mb ");
    }
}
