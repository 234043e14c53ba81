//! `walkeep`, for people.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, Subcommand};

use super::arguments::{self, Common};
use super::check::Check;
use super::exit::{Failure, exit_on_panic};
use super::{log, supervise};
use crate::config::{LogFormat, Settings};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::restore::read_verified;

const PROGRAM: &str = "walkeep";

/// Look after an archive of PostgreSQL's write-ahead log
///
/// Exit status: 0 all well; 1 a problem was found, or the work failed; 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cat(Cat),
    Check(Check),
}

/// Write one archived file's original bytes, verified
#[derive(Debug, clap::Args)]
struct Cat {
    #[command(flatten)]
    common: Common,

    /// The name of the file
    #[arg(value_name = "NAME")]
    name: OsString,

    /// Write here instead of to standard output; the file appears complete or not at all
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Does what the command line says, and exits.
pub fn main() -> ! {
    exit_on_panic(PROGRAM, Failure::OfTool);
    let arguments: Arguments = arguments::parse().unwrap_or_else(|error| fail(&error, LogFormat::default()));
    match arguments.command {
        Command::Cat(command) => command.run(),
        Command::Check(command) => command.run(),
    }
    std::process::exit(0)
}

pub(super) fn fail(error: &Error, format: LogFormat) -> ! {
    log::start(PROGRAM, format, false);
    std::process::exit(Failure::OfTool.report(error))
}

impl Cat {
    fn run(self) {
        let started = Instant::now();
        let given = self.common.given();
        let format = given.log_format.unwrap_or_default();
        let settings = Settings::load(&given).unwrap_or_else(|error| fail(&error, format));
        log::start(PROGRAM, settings.log_format, self.common.verbose);
        let name = arguments::wal_name(&self.name, ErrorKind::Configuration)
            .unwrap_or_else(|error| fail(&error, format));
        let limit = TimeLimit::new(started, settings.timeouts.recovery);
        let output = self.output;
        let system = self.common.system_identifier;
        supervise::supervise(Failure::OfTool, &limit, async |stop| {
            let stopped = || Error::new(ErrorKind::Stopped, "stopped before the file was written");
            let reading = read_verified(&settings.archive, name, system, &limit);
            let (_, content) = stop.run_until_cancelled(reading).await.ok_or_else(stopped)??;
            let to_stdout = output.is_none();
            let writing = crate::blocking::blocking(move || write(content, output.as_deref()));
            // A file is let finish, as that is quick; whoever reads from standard output may take for ever.
            if to_stdout {
                stop.run_until_cancelled(writing).await.ok_or_else(stopped)?
            } else {
                writing.await
            }
        });
    }
}

fn write(mut content: impl Read, output: Option<&Path>) -> Result<(), Error> {
    let written = match output {
        None => {
            let mut stdout = io::stdout().lock();
            io::copy(&mut content, &mut stdout).and_then(|_| stdout.flush())
        }
        Some(path) => write_whole(&mut content, path),
    };
    written.map_err(|error| {
        let place = output.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
        Error::new(ErrorKind::Local, format!("cannot write {place}")).because(error)
    })
}

/// Writes a file beside `path` and gives it that name once it is complete and on disk.
fn write_whole(content: &mut impl Read, path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    io::copy(content, &mut file)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
