//! Output about one system after another, as parts of one text or of one JSON document.
//!
//! Printing may block, as a pipe does whose reader pauses. It happens on a thread of its own, so that a signal still ends
//! the command.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::tally::Tally;
use crate::archive::{ArchiveOptions, ArchiveUrl};
use crate::blocking::blocking;
use crate::cli::exit::ExitStatuses;
use crate::cli::json::{self, Problem};
use crate::cli::print::{READER_LEFT, as_json, plain, try_print};
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// A text for each system under a heading, and a line at the end.
    Text,
    /// One JSON document with a list of the documents of all systems.
    Json,
    /// Nothing: the command prints by itself.
    None,
}

/// Destination of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Destination {
    /// Standard output, part by part.
    Stdout,
    /// Memory, for a file that appears as a whole.
    Memory,
}

/// JSON document of a system without a result.
#[derive(Serialize)]
struct Failed<'a> {
    system_identifier: String,
    ok: bool,
    #[serde(flatten)]
    problem: &'a Problem,
}

/// Beginning of the JSON document.
#[derive(Serialize)]
struct Head {
    archive: String,
}

/// End of the JSON document.
#[derive(Serialize)]
struct Tail<'a> {
    /// `true` if the exit status is 0.
    ok: bool,
    /// Error that ended the command, or else the first one of a system.
    #[serde(flatten)]
    problem: Option<&'a Problem>,
    /// Number of systems where all is well.
    well_systems: usize,
    failed_systems: Vec<String>,
    /// Systems that nobody has looked at.
    untried_systems: Vec<String>,
}

/// The output so far.
#[derive(Debug)]
pub(super) struct Page {
    form: Form,
    destination: Destination,
    /// Number of systems that were written.
    systems: usize,
    /// Exit status once nothing can be written any more.
    failed: Option<u8>,
    /// `true` while another thread prints.
    printing: Arc<AtomicBool>,
    held: Vec<u8>,
}

impl Page {
    pub(super) fn new(form: Form, destination: Destination) -> Self {
        let printing = Arc::new(AtomicBool::new(false));
        Self { form, destination, systems: 0, failed: None, printing, held: Vec::new() }
    }

    /// Returns the exit status of output that could not be written.
    pub(super) fn failed(&self) -> Option<u8> {
        self.failed
    }

    /// Returns `true` if nobody reads any more.
    pub(super) fn reader_left(&self) -> bool {
        self.failed == Some(READER_LEFT)
    }

    /// Returns what was to be kept in memory.
    pub(super) fn into_held(self) -> Vec<u8> {
        self.held
    }

    /// Writes what a command says of a system.
    pub(super) async fn add(&mut self, archive: &ArchiveOptions, system: SystemIdentifier, said: Vec<u8>) {
        let part = self.part(archive, system, said);
        self.write(part).await;
    }

    /// Writes that the work on a system has failed.
    pub(super) async fn add_failure(
        &mut self,
        archive: &ArchiveOptions,
        system: SystemIdentifier,
        error: &Error,
    ) {
        let part = self.failure(archive, system, error);
        self.write(part).await;
    }

    /// Writes the end, with that error of the whole command, and the system whose work it has interrupted.
    pub(super) fn end(
        &mut self,
        archive: &ArchiveOptions,
        tally: &Tally,
        interrupted: Option<SystemIdentifier>,
        error: Option<&Error>,
        summary: &str,
    ) {
        // Another thread holds standard output, and may do so for ever.
        if self.printing.load(Ordering::Acquire) {
            return;
        }
        let mut part = Vec::new();
        if let (Some(system), Some(error)) = (interrupted, error) {
            part.extend(self.failure(archive, system, error));
        }
        if self.form == Form::Json && self.systems == 0 && tally.all() > 0 {
            part.extend(head(&archive.url));
        }
        let problem = error.map(Problem::from);
        match self.form {
            Form::None => return,
            // Without a file to fill, standard error says it.
            Form::Text if tally.all() == 0 => {
                let failed = error.filter(|_| self.destination == Destination::Memory);
                let failed = failed.map(|error| format!("failed: {}\n", error.report()));
                part.extend(failed.unwrap_or_default().into_bytes());
            }
            Form::Text => part.extend_from_slice(format!("{}\n", plain(summary)).as_bytes()),
            Form::Json if tally.all() == 0 => {
                // That there is no system is an error.
                part.extend(error.map(json::failure).unwrap_or_default().into_bytes());
            }
            Form::Json => {
                let texts = |systems: &mut dyn Iterator<Item = SystemIdentifier>| {
                    systems.map(|system| system.to_string()).collect()
                };
                let tail = as_json(&Tail {
                    ok: error.is_none() && tally.status() == 0,
                    problem: problem.as_ref().or(tally.first_problem()),
                    well_systems: tally.well(),
                    failed_systems: texts(&mut tally.failed().iter().copied()),
                    untried_systems: texts(&mut tally.left()),
                });
                part.extend_from_slice(b"\n  ],\n");
                part.extend_from_slice(tail.strip_prefix("{\n").unwrap_or(&tail).as_bytes());
            }
        }
        if self.failed.is_none() {
            let written = self.keep_or(part, |part| try_print(|to| to.write_all(&part)));
            self.judge(written);
        }
    }

    fn failure(&mut self, archive: &ArchiveOptions, system: SystemIdentifier, error: &Error) -> Vec<u8> {
        let said = match self.form {
            Form::Json => {
                let (system_identifier, problem) = (system.to_string(), &Problem::from(error));
                as_json(&Failed { system_identifier, ok: false, problem })
            }
            Form::Text | Form::None => format!("failed: {}\n", error.report()),
        };
        self.part(archive, system, said.into_bytes())
    }

    /// Returns the part about a system as it goes into the output.
    fn part(&mut self, archive: &ArchiveOptions, system: SystemIdentifier, said: Vec<u8>) -> Vec<u8> {
        let mut part = Vec::new();
        match self.form {
            Form::None => return part,
            Form::Text => {
                part.extend_from_slice(format!("system {}\n\n", archive.names.shown(system)).as_bytes());
                part.extend(said);
                part.push(b'\n');
            }
            Form::Json => {
                part.extend(if self.systems == 0 { head(&archive.url) } else { b",\n".to_vec() });
                indent(&named(archive.names.name(system), said), &mut part);
            }
        }
        self.systems += 1;
        part
    }

    async fn write(&mut self, part: Vec<u8>) {
        if self.failed.is_some() || part.is_empty() {
            return;
        }
        if self.destination == Destination::Memory {
            self.held.extend(part);
            return;
        }
        if self.form == Form::Json {
            json::document_begun();
        }
        let printing = Arc::clone(&self.printing);
        printing.store(true, Ordering::Release);
        let written = blocking(move || {
            let written = try_print(|to| to.write_all(&part));
            printing.store(false, Ordering::Release);
            written
        });
        let written = written.await;
        self.judge(written);
    }

    fn keep_or(&mut self, part: Vec<u8>, print: impl FnOnce(Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        match self.destination {
            Destination::Memory => {
                self.held.extend(part);
                Ok(())
            }
            Destination::Stdout => print(part),
        }
    }

    /// Notes a failure to write. Nothing is written after it: a part in the middle must not be missing.
    fn judge(&mut self, written: io::Result<()>) {
        let Err(error) = written else { return };
        self.failed = Some(if error.kind() == io::ErrorKind::BrokenPipe {
            READER_LEFT
        } else {
            let error = Error::new(ErrorKind::Local, "cannot write to standard output").because(error);
            ExitStatuses::OfTool.report(&error)
        });
    }
}

/// Returns the beginning of the JSON document, up to the list of systems.
fn head(archive: &ArchiveUrl) -> Vec<u8> {
    let head = as_json(&Head { archive: archive.to_string() });
    let head = head.trim_end().trim_end_matches('}').trim_end();
    format!("{head},\n  \"systems\": [\n").into_bytes()
}

/// Adds the name of a system, which no JSON has to escape, to its document.
fn named(name: Option<&str>, said: Vec<u8>) -> Vec<u8> {
    match (name, said.strip_prefix(b"{\n")) {
        (Some(name), Some(rest)) => [format!("{{\n  \"name\": \"{name}\",\n").as_bytes(), rest].concat(),
        _ => said,
    }
}

/// Appends a JSON document two levels further in. It has line feeds only between its parts.
fn indent(document: &[u8], to: &mut Vec<u8>) {
    let lines = document.trim_ascii_end().split(|byte| *byte == b'\n');
    for (number, line) in lines.enumerate() {
        if number > 0 {
            to.push(b'\n');
        }
        to.extend_from_slice(b"    ");
        to.extend_from_slice(line);
    }
}
