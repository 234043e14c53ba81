//! `walkeep cat`.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use super::arguments::{self, Common};
use super::exit::ExitStatuses;
use super::log;
use super::output::{Output, has_reader};
use super::print::READER_LEFT;
use super::supervise::supervise;
use crate::archive::ArchivedName;
use crate::call::unless_stopped;
use crate::config::Settings;
use crate::denied::cannot_write;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::restore::{cannot_give_name, if_taken, read_verified};
use crate::whole_file::Readers;

const TIMEOUT: &str =
    "Time limit, such as 30s, for a 16 MB segment; more in proportion for larger ones [default: 5m]";

/// Print the original content of one archived file, verified
#[derive(Debug, clap::Args)]
#[command(mut_arg("timeout", |timeout| timeout.help(TIMEOUT)))]
pub(super) struct Cat {
    #[command(flatten)]
    common: Common,

    /// Name of the file, as printed by "walkeep list files"
    #[arg(value_name = "NAME")]
    name: OsString,

    /// Write to this file instead of standard output; it appears only once it is complete
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Cat {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let started = Instant::now();
        let given = self.common.given();
        let format = given.log_format.unwrap_or_default();
        let early = |error: Error| ExitStatuses::OfTool.report_early(program, format, &error);
        let settings = Settings::load(&given).map_err(early)?;
        log::start_with(program, &settings, self.common.verbose);
        let name = arguments::name::<ArchivedName>(&self.name, ErrorKind::Configuration).map_err(early)?;
        let is_stdout = |path: &PathBuf| path == Path::new("-") || path == Path::new("/dev/stdout");
        let output = self.output.filter(|path| !is_stdout(path));
        if output.is_none() && name.segment().is_some() && io::stdout().is_terminal() {
            let error = Error::new(
                ErrorKind::Configuration,
                format!("{name} is binary, and the output is a terminal"),
            );
            return Err(early(error.hint("redirect it, or write into a file with --output FILE")).into());
        }
        let limit = TimeLimit::new(started, settings.restore.timeouts.recovery);
        let system = settings.system;
        let written = supervise(&limit, async |stop| {
            let stopped = "stopped before the file was written";
            let reading = read_verified(&settings.archive, name, system, &limit);
            let (_, content) = unless_stopped(&stop, reading, stopped).await?;
            let has_reader = output.as_deref().is_none_or(has_reader);
            let writing = crate::blocking::blocking(move || write(content, output.as_deref()));
            // Finishing a file is quick. A reader of a pipe may never finish.
            if has_reader { unless_stopped(&stop, writing, stopped).await } else { writing.await }
        });
        Ok(written.map_err(|ended| ExitStatuses::OfTool.report_ended(&ended))?.into())
    }
}

/// Writes the content and returns the exit status.
fn write(mut content: impl Read, output: Option<&Path>) -> Result<u8, Error> {
    match output {
        None => {
            let mut stdout = io::stdout().lock();
            match io::copy(&mut content, &mut stdout).and_then(|_| stdout.flush()) {
                Ok(()) => Ok(0),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(READER_LEFT),
                Err(error) => {
                    Err(Error::new(ErrorKind::Local, "cannot write standard output").because(error))
                }
            }
        }
        Some(path) => {
            let output = Output { readers: Readers::Owner, durable: true, if_taken: if_taken(path) };
            output.write(path, content).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => cannot_give_name(path)(error),
                _ => cannot_write(path, error),
            })?;
            Ok(0)
        }
    }
}
