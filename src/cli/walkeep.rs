//! `walkeep`, for people.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use super::arguments;
use super::backfill::Backfill;
use super::cat::Cat;
use super::check::Check;
use super::exit::{ExitStatuses, exit_on_panic};
use super::generate::{Completions, Manual};
use super::list::List;
use super::prune::Prune;
use super::status::Status;
use super::verify::Verify;
use crate::config::LogFormat;
use crate::error::Error;

const PROGRAM: &str = "walkeep";

/// Maintain an archive of PostgreSQL's write-ahead log
///
/// Exit status: 0 all well; 1 a problem was found, or the work failed; 2 wrong usage or configuration,
/// or an archive that refuses; 141 the reader of the output has left.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = super::arguments::WIDTH)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Backfill(Backfill),
    Cat(Cat),
    Check(Check),
    List(List),
    Prune(Prune),
    Status(Status),
    Verify(Verify),
    Completions(Completions),
    #[command(name = "man")]
    Manual(Manual),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    exit_on_panic(PROGRAM, ExitStatuses::OfTool);
    let early = |error: &Error| ExitStatuses::OfTool.report_early(PROGRAM, LogFormat::default(), error);
    let (Ok(status) | Err(status)) = arguments::parse(std::env::args_os())
        .map_err(|nothing| nothing.end(|error| early(error).into()))
        .and_then(run);
    status
}

fn run(arguments: Arguments) -> Result<ExitCode, ExitCode> {
    match arguments.command {
        Command::Backfill(command) => command.run(PROGRAM),
        Command::Cat(command) => command.run(PROGRAM),
        Command::Check(command) => command.run(PROGRAM),
        Command::List(command) => command.run(PROGRAM),
        Command::Prune(command) => command.run(PROGRAM),
        Command::Status(command) => command.run(PROGRAM),
        Command::Verify(command) => command.run(PROGRAM),
        Command::Completions(command) => command.run(Arguments::command()),
        Command::Manual(command) => command.run(PROGRAM, Arguments::command()),
    }
}
