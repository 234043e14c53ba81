//! `walkeep cat`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use super::arguments::{self, Common};
use super::exit::ExitStatuses;
use super::log;
use super::supervise::supervise;
use crate::archive::ArchivedName;
use crate::call::unless_stopped;
use crate::config::Settings;
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::restore::{read_verified, write_durably};

/// Print the original content of one archived file, verified
#[derive(Debug, clap::Args)]
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
        log::start(program, settings.log_format, self.common.verbose);
        let name = arguments::name::<ArchivedName>(&self.name, ErrorKind::Configuration).map_err(early)?;
        let limit = TimeLimit::new(started, settings.restore.timeouts.recovery);
        let output = self.output;
        let system = self.common.system_identifier;
        let written = supervise(&limit, async |stop| {
            let stopped = "stopped before the file was written";
            let reading = read_verified(&settings.archive, name, system, &limit);
            let (_, content) = unless_stopped(&stop, reading, stopped).await?;
            let to_stdout = output.is_none();
            let writing = crate::blocking::blocking(move || write(content, output.as_deref()));
            // Finishing a file is quick. A reader of standard output may never finish.
            if to_stdout { unless_stopped(&stop, writing, stopped).await } else { writing.await }
        });
        written.map_err(|ended| ExitStatuses::OfTool.report_ended(&ended))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write(mut content: impl Read, output: Option<&Path>) -> Result<(), Error> {
    match output {
        None => {
            let mut stdout = io::stdout().lock();
            let written = io::copy(&mut content, &mut stdout).and_then(|_| stdout.flush());
            written
                .map_err(|error| Error::new(ErrorKind::Local, "cannot write standard output").because(error))
        }
        Some(path) => write_durably(path, content),
    }
}
