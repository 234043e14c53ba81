//! What goes to standard output, for people and for programs.

use std::io::{self, BufWriter, Write};

use humansize::{WINDOWS, format_size};
use serde::Serialize;

use super::exit::Failure;
use crate::error::{Error, ErrorKind};

/// Writes to standard output, or exits: whoever reads it must not take a part for the whole.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let mut stdout = BufWriter::new(io::stdout().lock());
    if let Err(error) = write(&mut stdout).and_then(|()| stdout.flush()) {
        let error = Error::new(ErrorKind::Local, "cannot write to standard output").because(error);
        std::process::exit(Failure::OfTool.report(&error));
    }
}

/// Writes JSON, with a line end.
pub(super) fn write_json(to: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, value)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_the_servers_own() {
        assert_eq!([bytes(0), bytes(16 << 20), bytes(1_500_000_000)], ["0 B", "16 MB", "1.40 GB"]);
        assert_eq!([count(1, "file"), count(0, "file")], ["1 file", "0 files"]);
    }
}
