//! Checks that the server's own commands use the archive that was given.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use super::CheckFinding;
use super::command::{Called, Invocation, called, programs};
use super::masked::masked;
use super::shell::Shell;
use crate::archive::{ArchiveOptions, Sameness};
use crate::cluster::{DataDirectory, ServerSettings};
use crate::error::Error;
use crate::whole_file::open_regular;

/// Maximum size of a script that is looked at, in bytes.
const MOST_OF_A_SCRIPT: u64 = 1 << 16;

/// Settings of one of the server's commands that the check compares or tries.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// Location of its archive.
    pub archive: ArchiveOptions,
    /// Directory in which it creates spools.
    pub spool: PathBuf,
    /// `true` if it takes other files along.
    pub looks_ahead: bool,
}

/// Finds out the settings of a call in an environment.
pub type Resolve = fn(&Invocation, &BTreeMap<String, String>) -> Result<CommandSettings, Error>;

/// The server that runs the commands.
#[derive(Clone)]
pub(super) struct Commands {
    /// Archive that was given to the check.
    pub(super) archive: ArchiveOptions,
    /// Data directory of the server, if it is on this machine.
    pub(super) data: Option<DataDirectory>,
    pub(super) resolve: Resolve,
}

/// One of the server's settings, which calls one of walkeep's programs.
pub(super) struct Setting {
    /// Name of the finding.
    name: &'static str,
    parameter: &'static str,
    program: &'static str,
}

/// The command that archives.
pub(super) const ARCHIVING: Setting =
    Setting { name: "destination", parameter: "archive_command", program: "walkeep-archive" };

/// The command that restores.
pub(super) const RESTORING: Setting =
    Setting { name: "source", parameter: "restore_command", program: "walkeep-restore" };

impl Setting {
    /// Returns the command, if it calls walkeep: by its name, or by a script that holds the name. May block.
    pub(super) fn walkeeps<'a>(&self, settings: &'a ServerSettings) -> Option<&'a str> {
        let command = settings.get(self.parameter)?;
        (command.contains(self.program) || is_wrapper(command, self.program)).then_some(command.as_str())
    }
}

impl Setting {
    /// Returns a value that uses the archive of the check.
    fn that_fits(&self, shell: &Shell) -> String {
        if self.program == RESTORING.program { shell.restore_command() } else { shell.archive_command() }
    }
}

/// Returns `true` if a program in the command is a script that holds the name of `program`.
fn is_wrapper(command: &str, program: &str) -> bool {
    programs(command).iter().any(|path| {
        let text = open_regular(path.as_ref()).ok().and_then(|file| {
            let mut text = Vec::new();
            file.take(MOST_OF_A_SCRIPT).read_to_end(&mut text).ok().map(|_| text)
        });
        text.is_some_and(|text| text.starts_with(b"#!") && String::from_utf8_lossy(&text).contains(program))
    })
}

impl Commands {
    /// Compares the archive of a command with the one that was given. Returns the command's settings, if they can be told. May
    /// block.
    pub(super) fn compare(
        &self,
        setting: &Setting,
        settings: &ServerSettings,
        shell: &Shell,
    ) -> Option<(CheckFinding, Option<CommandSettings>)> {
        let Setting { name, parameter, program } = *setting;
        let command = setting.walkeeps(settings)?;
        let invocation = match called(command, program) {
            Called::Walkeep(invocation) => invocation,
            Called::CannotTell(why) => {
                let what = format!("nobody can tell which archive {parameter} uses: {}", masked(&why));
                let finding = CheckFinding::note(name, what).by_typing(
                    "with --pg-url, archiving is tried out; --restore tries restore_command out",
                    shell.check_with_server(),
                );
                return Some((finding, None));
            }
        };
        let of_server = self.data.as_ref().and_then(DataDirectory::environment);
        let says_so = invocation.archive.is_some() || invocation.variables.contains_key("WALKEEP_ARCHIVE");
        let is_certain = of_server.is_some() || says_so;
        let environment = of_server.unwrap_or_else(environment_here);
        let environment = environment.into_iter().chain(invocation.variables.clone()).collect();
        let unless = if is_certain { "" } else { ", unless WALKEEP_ARCHIVE is set for the server" };
        let resolved = match (self.resolve)(&invocation, &environment) {
            Ok(resolved) => resolved,
            Err(error) => {
                let what = format!("{parameter} cannot work: {}", masked(&error.report()));
                let better = || shell.alter(parameter, &setting.that_fits(shell));
                let finding = if is_certain {
                    CheckFinding::fail(name, what).by_typing("with this archive it is", better())
                } else {
                    let what = format!(
                        "nobody can tell which archive {parameter} uses: {}",
                        masked(&error.report())
                    );
                    CheckFinding::note(name, what)
                        .by_typing("give --archive in it, or start the server, and check again", better())
                };
                return Some((finding, None));
            }
        };
        let (ours, its) = (&self.archive.url, &resolved.archive.url);
        let finding = match self.archive.compare(&resolved.archive) {
            Ok(Sameness::Same) => CheckFinding::pass(name, format!("{parameter} uses this archive{unless}")),
            Ok(Sameness::Different) => CheckFinding::fail(
                name,
                format!("{parameter} uses another archive: {its}, and not {ours}{unless}"),
            )
            .by_typing(
                format!("check that one with --archive {its}, or change {parameter}"),
                shell.alter(parameter, &setting.that_fits(shell)),
            ),
            Ok(Sameness::DifferentBy(settings)) => {
                let settings = settings.join(", ");
                let what = format!(
                    "{parameter} uses another archive: {its} with another {settings} in [store]{unless}"
                );
                CheckFinding::fail(name, what).by_typing(
                    "give the check the same --config, and the same environment; the server's command is",
                    shell.psql(&[&format!("show {parameter}")]),
                )
            }
            Err(error) => CheckFinding::failed(name, &error)
                .noted()
                .by_typing("the server's command is", shell.psql(&[&format!("show {parameter}")])),
        };
        Some((finding, Some(resolved)))
    }
}

/// Returns the environment of this process without walkeep's own variables: those of the server are unknown.
fn environment_here() -> BTreeMap<String, String> {
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(name, _)| !name.starts_with("WALKEEP_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::StoreOptions;
    use crate::check::Outcome;
    use crate::error::ErrorKind;

    fn options(url: &str) -> ArchiveOptions {
        let store = StoreOptions { file: BTreeMap::new(), environment: BTreeMap::new(), objects: None };
        ArchiveOptions::new(url.parse().unwrap(), store)
    }

    /// The archive of the flag, or of the variable.
    fn resolve(
        invocation: &Invocation,
        environment: &BTreeMap<String, String>,
    ) -> Result<CommandSettings, Error> {
        let url = invocation.archive.as_ref().or(environment.get("WALKEEP_ARCHIVE"));
        let url = url.ok_or_else(|| Error::new(ErrorKind::Configuration, "no archive is configured"))?;
        Ok(CommandSettings { archive: options(url), spool: "/s".into(), looks_ahead: true })
    }

    fn compared(command: &str) -> Option<(Outcome, String)> {
        let commands = Commands { archive: options("/a"), data: None, resolve };
        let settings = [("archive_command".to_owned(), command.to_owned())].into();
        let (finding, resolved) = commands.compare(&ARCHIVING, &settings, &Shell::of_test())?;
        assert_eq!(resolved.is_some(), finding.outcome != Outcome::Note, "{finding:?}");
        Some((finding.outcome, finding.detail))
    }

    #[test]
    fn another_archive_is_a_failure_and_one_that_cannot_be_told_a_note() {
        use Outcome::{Fail, Note, Pass};
        for (command, outcome, word) in [
            ("walkeep-archive --archive /a %p", Pass, "this archive"),
            ("walkeep-archive --archive /a/ %p", Pass, "this archive"),
            ("WALKEEP_ARCHIVE=/a walkeep-archive %p", Pass, "this archive"),
            ("walkeep-archive --archive /b %p", Fail, "/b, and not /a"),
            ("WALKEEP_ARCHIVE=/b walkeep-archive %p", Fail, "/b, and not /a"),
            ("walkeep-archive --archive s3://b/p %p", Fail, "s3://b/p, and not /a"),
            ("walkeep-archive %p", Note, "no archive is configured"),
            ("ssh x walkeep-archive --archive /a %p", Note, "by ssh"),
        ] {
            let (found, detail) = compared(command).unwrap();
            assert_eq!(found, outcome, "{command}: {detail}");
            assert!(detail.contains(word), "{command}: {detail}");
        }
        for command in ["", "cp %p /a/%f", "/nowhere/archive.sh %p"] {
            assert_eq!(compared(command), None, "{command}");
        }
    }

    #[test]
    fn a_script_that_calls_walkeep_is_a_wrapper() {
        let temporary = tempfile::tempdir().unwrap();
        let script = temporary.path().join("archive.sh");
        let command = format!("{} %p", script.display());
        std::fs::write(&script, "#!/bin/sh\nexec walkeep-archive --archive /a \"$1\"\n").unwrap();
        assert_eq!(compared(&command).unwrap().0, Outcome::Note);
        std::fs::write(&script, "#!/bin/sh\ncp \"$1\" /a\n").unwrap();
        assert_eq!(compared(&command), None);
    }
}
