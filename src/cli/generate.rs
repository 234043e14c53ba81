//! `walkeep completions` and `walkeep man`: what packages install beside the programs, made from what these say of
//! themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap_complete::Shell;
use clap_mangen::Man;

use super::exit::Failure;
use super::print::print_text;
use super::{archive, restore};
use crate::config::LogFormat;
use crate::error::{Error, ErrorKind};

/// Print what a shell needs to complete the command lines of walkeep, walkeep-archive and walkeep-restore
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Write the manual pages of walkeep, its commands, walkeep-archive and walkeep-restore
#[derive(Debug, clap::Args)]
pub(super) struct Manual {
    /// Write them here, such as /usr/share/man/man1; made if it is missing
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// All three, of which `walkeep` is given.
fn programs(walkeep: clap::Command) -> [clap::Command; 3] {
    [walkeep, archive::command(), restore::command()]
}

impl Completions {
    pub(super) fn run(self, walkeep: clap::Command) -> Result<ExitCode, ExitCode> {
        let scripts = programs(walkeep).map(|mut program| {
            let name = program.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(self.shell, &mut program, name, &mut script);
            String::from_utf8_lossy(&script).into_owned()
        });
        print_text(&together(&scripts))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// One script after the other. PowerShell wants its `using` before everything else, and once is enough.
fn together(scripts: &[String]) -> String {
    let of_all = |line: &&str| !line.starts_with("using ");
    let lines = scripts
        .iter()
        .enumerate()
        .flat_map(|(number, script)| script.lines().filter(move |line| number == 0 || of_all(line)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

impl Manual {
    pub(super) fn run(self, program: &'static str, walkeep: clap::Command) -> Result<ExitCode, ExitCode> {
        let early = |error: Error| Failure::OfTool.report_early(program, LogFormat::default(), &error);
        let mut programs = programs(walkeep).into_iter();
        programs.try_for_each(|command| write(command, &self.directory)).map_err(early)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the page of a command, and those of its own commands.
fn write(command: clap::Command, directory: &Path) -> Result<(), Error> {
    let mut command = command.disable_help_subcommand(true);
    // Gives each its full name, such as walkeep-prune.
    command.build();
    for page in command.get_subcommands().filter(|command| !command.is_hide_set()).chain([&command]) {
        let page = Man::new(page.clone()).manual("walkeep");
        let path = directory.join(page.get_filename());
        let mut text = Vec::new();
        let written = page
            .render(&mut text)
            .and_then(|()| fs::create_dir_all(directory))
            .and_then(|()| fs::write(&path, text));
        written.map_err(|error| {
            Error::new(ErrorKind::Local, format!("cannot write {}", path.display())).because(error)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_come_first_comes_once() {
        let scripts = ["using a\nx\n", "using a\ny\n", "z"].map(str::to_owned);
        assert_eq!(together(&scripts), "using a\nx\ny\nz\n");
    }
}
