//! `walkeep completions` and `walkeep man`: files that packages install, generated from the command line definitions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap_complete::Shell;
use clap_mangen::Man;

use super::exit::ExitStatuses;
use super::manual::{sections, without_statuses};
use super::print::print_text;
use super::{archive, restore};
use crate::config::LogFormat;
use crate::error::{Error, ErrorKind};

/// Print a shell script that completes the command lines of walkeep, walkeep-archive and walkeep-restore
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Name of the shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Write the manual pages of walkeep, its commands, walkeep-archive and walkeep-restore
#[derive(Debug, clap::Args)]
pub(super) struct Manual {
    /// Directory to write to, such as /usr/share/man/man1; created if missing
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Returns the definitions of all three programs; the caller provides that of `walkeep`.
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

/// Joins the scripts. PowerShell requires its `using` lines first, and each only once.
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
        let early = |error: Error| ExitStatuses::OfTool.report_early(program, LogFormat::default(), &error);
        let mut programs = programs(walkeep).into_iter();
        programs.try_for_each(|command| write(command, &self.directory)).map_err(early)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the pages of a command and of its subcommands.
fn write(command: clap::Command, directory: &Path) -> Result<(), Error> {
    let mut command = command.disable_help_subcommand(true);
    // Gives each subcommand its full name, such as walkeep-prune.
    command.build();
    for page in command.get_subcommands().filter(|command| !command.is_hide_set()).chain([&command]) {
        let name = page.get_display_name().unwrap_or(page.get_name()).to_owned();
        let (page, statuses) = without_statuses(page.clone());
        let sections = sections(&name, &page, &statuses);
        let page = Man::new(page).manual("walkeep");
        let path = directory.join(page.get_filename());
        let mut text = Vec::new();
        let written = page
            .render(&mut text)
            .and_then(|()| sections.to_writer(&mut text))
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
    fn using_lines_come_first_and_once() {
        let scripts = ["using a\nx\n", "using a\ny\n", "z"].map(str::to_owned);
        assert_eq!(together(&scripts), "using a\nx\ny\nz\n");
    }
}
