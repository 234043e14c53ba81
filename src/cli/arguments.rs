//! Arguments shared by several binaries, and parsing of command lines.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue, ErrorKind as ClapErrorKind};
use clap::{Args, Parser};

use crate::config::{Given, LogFormat, Timeout, without_value};
use crate::error::{Error, ErrorKind};
use crate::wal::{NameError, SystemChoice, WalName};

/// Maximum width of a help text, in columns. It is broken between words.
pub(super) const WIDTH: usize = 80;

/// Arguments of every command.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Archive: a directory such as /mnt/archive, or a part of a store: s3://bucket/prefix, gs://bucket/prefix,
    /// az://container/prefix
    #[arg(long, value_name = "URL", env = "WALKEEP_ARCHIVE", hide_env_values = true)]
    archive: Option<PathBuf>,

    /// Configuration file [default: /etc/walkeep/walkeep.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "WALKEEP_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,

    /// System identifier of the cluster, or its name in the configuration file, if no data directory contains it
    #[arg(long, value_name = "ID")]
    system_identifier: Option<SystemChoice>,

    /// Time limit, such as 30s. Each command says what it limits
    #[arg(long, value_name = "DURATION", env = "WALKEEP_TIMEOUT", hide_env_values = true)]
    timeout: Option<Timeout>,

    /// Format of log lines [default: text]
    #[arg(long, value_name = "FORMAT", env = "WALKEEP_LOG_FORMAT", hide_env_values = true)]
    log_format: Option<LogFormat>,

    /// Log a line for every file
    #[arg(short, long)]
    pub(super) verbose: bool,
}

/// Additional arguments of the server's commands.
#[derive(Debug, Args)]
pub(super) struct Spooling {
    /// Directory for notes from one call to the next [default: /var/tmp/walkeep-UID]
    #[arg(long, value_name = "DIRECTORY", env = "WALKEEP_SPOOL", hide_env_values = true)]
    pub(super) spool: Option<PathBuf>,
}

impl Common {
    pub(super) fn given(&self) -> Given {
        Given {
            archive: self.archive.clone(),
            file: self.config.clone(),
            system: self.system_identifier.clone(),
            timeout: self.timeout,
            log_format: self.log_format,
            ..Given::default()
        }
    }
}

/// Reason why a command line has nothing to run.
#[derive(Debug)]
pub(super) enum Nothing {
    /// It asks for `--help` or `--version`, whose text this holds.
    Asked(Box<clap::Error>),
    /// It is empty, and is answered with the help.
    Empty(Box<clap::Error>),
    /// It is wrong.
    Wrong(Error),
}

impl Nothing {
    /// Prints the answer, or reports the error with `report`, and returns the exit status.
    pub(super) fn end(self, report: impl FnOnce(&Error) -> ExitCode) -> ExitCode {
        match self {
            Self::Asked(answer) => {
                let _ = answer.print();
                ExitCode::SUCCESS
            }
            Self::Empty(help) => {
                let _ = help.print();
                ExitCode::from(2)
            }
            Self::Wrong(error) => report(&error),
        }
    }
}

/// Parses a command line whose first word is the program.
pub(super) fn parse<P: Parser>(line: impl IntoIterator<Item = OsString>) -> Result<P, Nothing> {
    let line: Vec<OsString> = line.into_iter().collect();
    P::try_parse_from(&line).map_err(|error| match error.kind() {
        ClapErrorKind::DisplayHelp | ClapErrorKind::DisplayVersion => Nothing::Asked(Box::new(error)),
        ClapErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Nothing::Empty(Box::new(error)),
        _ => Nothing::Wrong(match of_variable(&error, &line, std::env::vars_os()) {
            Some((name, why)) => {
                let what = format!("{name} has a value of the wrong form: {why}");
                Error::new(ErrorKind::Configuration, what).hint("--help shows the usage")
            }
            None => unusable(&error),
        }),
    })
}

/// Returns the variable that holds a wrong value, and what is wrong with it, if nobody typed the value. It is not quoted: it may be
/// a secret, pasted into the wrong variable.
fn of_variable(
    error: &clap::Error,
    line: &[OsString],
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Option<(String, String)> {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    if value.is_empty() || line.iter().any(|word| word.to_string_lossy().contains(value.as_str())) {
        return None;
    }
    let holds = |(name, found): &(OsString, OsString)| {
        name.to_string_lossy().starts_with("WALKEEP_") && found.to_string_lossy() == value.as_str()
    };
    let (name, _) = variables.into_iter().find(holds)?;
    let possible = || match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => Some(format!("it must be one of {}", values.join(", "))),
        _ => None,
    };
    let why = match error.source() {
        Some(source) => without_value(&source.to_string()),
        None => possible()?,
    };
    Some((name.to_string_lossy().into_owned(), why.replace(value.as_str(), "…")))
}

/// Parses the command line of a server's command. `--help` and `--version` are answered only if they are the only
/// argument: the server would take exit status 0 for a file that was archived or restored.
pub(super) fn parse_servers<P: Parser>(line: Vec<OsString>) -> Result<P, Nothing> {
    let is_alone = line.len() == 2;
    parse(line).map_err(|nothing| match nothing {
        Nothing::Asked(_) if !is_alone => Nothing::Wrong(
            Error::new(ErrorKind::Configuration, "--help and --version must stand alone")
                .hint("nothing was done; for a line about each file give -v"),
        ),
        nothing => nothing,
    })
}

fn unusable(error: &clap::Error) -> Error {
    // The first paragraph contains the error. The rest of clap's page would be noise in a server's log.
    let text = error.render().to_string();
    let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ").trim_end_matches(':');
    let details: Vec<&str> =
        text.lines().skip(1).take_while(|line| !line.is_empty()).map(str::trim).collect();
    let what = if details.is_empty() { what.to_owned() } else { format!("{what}: {}", details.join(" ")) };
    // The standard library's words are about types.
    let what = what
        .replace("number would be zero for non-zero type", "it must be 1 or more")
        .replace("invalid digit found in string", "it must be a whole number");
    let error = Error::new(ErrorKind::Configuration, what);
    // clap's first suggestion is what is meant; its others say how a value could begin with a dash.
    let suggestion = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let error = match suggestion {
        Some(suggestion) if suggestion.contains("similar") => error.hint(suggestion),
        _ => error,
    };
    error.hint_also("--help shows the usage")
}

/// Parses the name of a WAL file.
pub(super) fn wal_name(text: &OsString, kind_if_wrong: ErrorKind) -> Result<WalName, Error> {
    name(text, kind_if_wrong)
}

/// Parses a name of type `T`.
pub(super) fn name<T: FromStr<Err = NameError>>(
    text: &OsString,
    kind_if_wrong: ErrorKind,
) -> Result<T, Error> {
    text.to_string_lossy().parse().map_err(|error: NameError| Error::new(kind_if_wrong, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(version)]
    struct Line {
        #[arg(long)]
        flag: bool,
        name: String,
    }

    /// Returns the result of a command line: `asked`, the error, or the name in it.
    fn read(parse: impl FnOnce(Vec<OsString>) -> Result<Line, Nothing>, line: &str) -> String {
        match parse(line.split(' ').map(OsString::from).collect()) {
            Ok(line) => line.name,
            Err(Nothing::Asked(_) | Nothing::Empty(_)) => "asked".to_owned(),
            Err(Nothing::Wrong(error)) => error.report(),
        }
    }

    #[derive(Debug, Parser)]
    struct Timed {
        #[arg(long, env = "WALKEEP_TIMEOUT_OF_NOBODY")]
        timeout: Option<Timeout>,
        #[arg(long)]
        log_format: Option<LogFormat>,
    }

    #[test]
    fn a_wrong_value_of_a_variable_is_named_and_not_quoted() {
        let variables = || [("WALKEEP_TIMEOUT", "s3cret"), ("WALKEEP_LOG_FORMAT", "s3cret")];
        for (flag, name, why) in [
            ("--timeout", "WALKEEP_TIMEOUT", "it is not a time limit such as 30s or 5m, of at most a day"),
            ("--log-format", "WALKEEP_LOG_FORMAT", "it must be one of text, json"),
        ] {
            // As clap reads a variable: the value is not on the line.
            let error = Timed::try_parse_from(["x", flag, "s3cret"]).unwrap_err();
            let set = variables().into_iter().filter(|(variable, _)| *variable == name);
            let set = set.map(|(name, value)| (name.into(), value.into()));
            let found = of_variable(&error, &["x".into()], set.clone());
            assert_eq!(found, Some((name.to_owned(), why.to_owned())));
            let typed = ["x".into(), flag.into(), "s3cret".into()];
            assert_eq!(of_variable(&error, &typed, set), None, "a person sees what was typed");
        }
    }

    #[test]
    fn a_person_may_ask_for_help_anywhere_and_a_server_only_alone() {
        for line in ["x --help", "x --version", "x -h", "x -V"] {
            assert_eq!(read(parse, line), "asked", "{line}");
            assert_eq!(read(parse_servers, line), "asked", "{line}");
        }
        for line in ["x a --help", "x --flag -V", "x --help a"] {
            assert_eq!(read(parse, line), "asked", "{line}");
            let message = read(parse_servers, line);
            assert!(
                message.starts_with("--help and --version must stand alone; nothing was done"),
                "{line}: {message}"
            );
        }
        assert_eq!(read(parse_servers, "x --flag a"), "a");
    }

    #[test]
    fn an_error_in_a_command_line_is_one_line() {
        assert_eq!(
            read(parse, "x --flog a"),
            "unexpected argument '--flog' found; a similar argument exists: '--flag'; --help shows the usage"
        );
        assert_eq!(
            read(parse, "x --wholly-else a"),
            "unexpected argument '--wholly-else' found; --help shows the usage"
        );
        let message = read(parse_servers, "x");
        assert!(message.contains("<NAME>") && message.lines().count() == 1, "{message}");
    }

    #[test]
    fn answering_help_is_no_failure() {
        let error = || Error::new(ErrorKind::Configuration, "x");
        let report = |_: &Error| ExitCode::from(2);
        assert_eq!(Nothing::Wrong(error()).end(report), ExitCode::from(2));
        let Err(asked) = parse::<Line>(["x", "--version"].map(OsString::from)) else { panic!("not asked") };
        assert_eq!(asked.end(report), ExitCode::SUCCESS);
    }
}
