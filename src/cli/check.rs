//! `walkeep check`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use nix::unistd::geteuid;
use serde::Serialize;

use super::arguments::Common;
use super::exit::{ExitStatuses, exit_on_panic};
use super::log;
use super::owner::{become_servers_user, run_as_servers_user, typed_by};
use super::print::{print, write_json};
use super::supervise::supervise;
use super::tool::TIMEOUT_OF_ALL;
use crate::archive::ArchiveUrl;
use crate::call::unless_stopped;
use crate::check::{
    CheckFinding, CheckRequest, CommandSettings, Invocation, Outcome, Purpose, check, policy,
};
use crate::cluster::DataDirectory;
use crate::config::{DEFAULT_FILE, Given, Settings};
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::server::Server;

/// Test whether archiving and restoring will work
///
/// Exit status: 0 all well; 1 something will not work; 2 wrong usage or configuration;
/// 141 the reader of the output has left.
#[derive(Debug, clap::Args)]
#[command(mut_arg("timeout", |timeout| timeout.help(TIMEOUT_OF_ALL)))]
pub(super) struct Check {
    #[command(flatten)]
    common: Common,

    /// Check the server's data directory as well: its cluster, settings, waiting files and, on a standby, the WAL it
    /// needs
    #[arg(long, value_name = "DIRECTORY")]
    pgdata: Option<PathBuf>,

    /// Make the running server end a segment, and wait until it is archived: a connection URL, without a password
    #[arg(long, value_name = "URL")]
    pg_url: Option<String>,

    /// Run the server's own restore_command for a history file, as the server would; run this as the server's user
    #[arg(long, requires = "pgdata")]
    restore: bool,

    /// Create and delete nothing in the archive: for a host that may only read it
    #[arg(long, conflicts_with = "pg_url")]
    restore_only: bool,

    /// Print the rights that this work needs in the archive, ready to hand on, and do nothing else; asks nobody
    #[arg(long, value_name = "WORK", conflicts_with_all = ["json", "pgdata", "pg_url", "restore_only"])]
    print_policy: Option<Work>,

    /// Include base backups that pg_basebackup has written to this directory or below; may be repeated
    #[arg(long, value_name = "DIRECTORY")]
    backup_dir: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Work that needs rights.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Work {
    /// walkeep-archive, walkeep backfill, walkeep check
    Archive,
    /// walkeep-restore, walkeep list, status and cat, walkeep check --restore-only
    Restore,
    /// walkeep prune
    Prune,
    /// walkeep verify
    Verify,
}

impl Work {
    fn purpose(self) -> Purpose {
        match self {
            Self::Archive => Purpose::Archive,
            Self::Restore => Purpose::Restore,
            Self::Prune => Purpose::Prune,
            Self::Verify => Purpose::Verify,
        }
    }
}

/// JSON output.
#[derive(Serialize)]
struct Report<'a> {
    archive: String,
    /// `true` if the exit status is 0.
    ok: bool,
    /// First check that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    checks: &'a [CheckFinding],
}

impl Check {
    pub(super) fn run(self, program: &'static str) -> Result<ExitCode, ExitCode> {
        let started = Instant::now();
        let statuses = ExitStatuses::of_tool(self.json);
        exit_on_panic(program, statuses);
        let given = Given { backup_dirs: self.backup_dir, ..self.common.given() };
        let format = given.log_format.unwrap_or_default();
        let early = |error: Error| statuses.report_early(program, format, &error);
        let server = self.pg_url.as_deref().map(Server::new).transpose().map_err(early)?;
        let of_server = server.as_ref().filter(|_| self.pgdata.is_none() && geteuid().is_root());
        let of_server = of_server.and_then(Server::local_data_directory);
        let data = self.pgdata.as_deref().or(of_server.as_ref().map(DataDirectory::path));
        let as_user = match data.filter(|_| self.print_policy.is_none()) {
            Some(data) => run_as_servers_user(data),
            None => Ok(()),
        };
        let mut settings = Settings::load(&given).map_err(early)?;
        // In a directory all is done by this process; only a store needs what is in that user's home.
        if matches!(settings.archive.url, ArchiveUrl::Store(_)) {
            as_user.map_err(early)?;
        }
        log::start_with(program, &settings, self.common.verbose);
        if let Some(work) = self.print_policy {
            let text = policy(&settings.archive, work.purpose()).map_err(|error| statuses.report(&error))?;
            print(|to| to.write_all(text.as_bytes()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let system = settings.system;
        become_servers_user(&mut settings, data, system).map_err(|error| statuses.report(&error))?;
        let request = CheckRequest {
            configuration: settings.file,
            data: self.pgdata.map(DataDirectory::named),
            system,
            server,
            restore: self.restore,
            restore_only: self.restore_only,
            backup_directories: settings.keep.backup_dirs,
            labels: settings.keep.backup_labels,
            own: CommandSettings {
                archive: settings.archive.clone(),
                spool: settings.spool,
                looks_ahead: settings.push.look_ahead.files > 0,
            },
            resolve,
            config: given
                .file
                .filter(|path| path != Path::new(DEFAULT_FILE) && path != Path::new("/dev/null"))
                // The server runs its commands in its data directory.
                .map(|path| std::path::absolute(&path).unwrap_or(path)),
            typed_by: typed_by(),
        };
        let limit = TimeLimit::new(started, settings.tool.timeout);
        let archive = settings.archive;
        let findings = supervise(&limit, async |stop| {
            let checking = Box::pin(async { Ok(check(&archive, request, &limit).await) });
            unless_stopped(&stop, checking, "stopped before all was checked").await
        });
        let findings = findings.map_err(|ended| statuses.report_ended(&ended))?;
        let ok = findings.iter().all(|finding| finding.outcome != Outcome::Fail);
        let failed = findings.iter().find(|finding| finding.outcome == Outcome::Fail);
        let error = failed.map(|CheckFinding { name, detail, .. }| format!("{name}: {detail}"));
        let report = Report { archive: archive.url.to_string(), ok, error, checks: &findings };
        print(
            |to| {
                if self.json { write_json(to, &report) } else { to.write_all(as_text(&findings).as_bytes()) }
            },
        )?;
        Ok(u8::from(!ok).into())
    }
}

/// Returns the settings with which a server's command runs.
fn resolve(
    invocation: &Invocation,
    environment: &BTreeMap<String, String>,
) -> Result<CommandSettings, Error> {
    let given = Given {
        archive: invocation.archive.as_ref().map(PathBuf::from),
        file: invocation.config.as_ref().map(PathBuf::from),
        spool: invocation.spool.as_ref().map(PathBuf::from),
        ..Given::default()
    };
    let settings = Settings::load_in(&given, environment)?;
    let looks_ahead = settings.push.look_ahead.files > 0;
    Ok(CommandSettings { archive: settings.archive, spool: settings.spool, looks_ahead })
}

fn as_text(findings: &[CheckFinding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or_default();
    let lines = findings.iter().map(|CheckFinding { name, outcome, detail, hint, .. }| {
        let mark = match outcome {
            Outcome::Pass => '✓',
            Outcome::Note => '!',
            Outcome::Fail => '✗',
        };
        let hint = hint.as_ref().map_or_else(String::new, |hint| format!("  {:width$}  → {hint}\n", ""));
        format!("{mark} {name:width$}  {}\n{hint}", detail.replace(char::is_control, " "))
    });
    lines.collect()
}
