//! Test run of archiving and restoring: configuration, archive, server.
//!
//! Each finding has a name, an outcome, a description and a hint. Nothing is left behind, except the segment that a
//! running server was asked to archive.

mod archive;
mod archiver;
mod backlog;
mod command;
mod destination;
mod keeping;
mod links;
mod masked;
mod mounts;
mod place;
mod policy;
mod restore;
mod rights;
mod server;
mod shell;
mod space;
mod unanswered;
mod user;
mod version;

use std::fmt::Display;
use std::path::PathBuf;

use serde::Serialize;

use crate::archive::{Archive, ArchiveOptions, ArchiveUrl};
use crate::blocking::blocking;
use crate::catalog::Labels;
use crate::cluster::{DataDirectory, Listening};
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::server::Server;
use crate::wal::SystemIdentifier;

pub use command::Invocation;
use destination::Commands;
pub use destination::{CommandSettings, Resolve};
pub use policy::{Purpose, policy};
use shell::Shell;

/// Subjects of the check.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// Path and permissions of the configuration file that was read.
    pub configuration: Option<(PathBuf, u32)>,
    /// Data directory whose WAL is archived.
    pub data: Option<DataDirectory>,
    /// Cluster that was named, whether it has a data directory here or not.
    pub system: Option<SystemIdentifier>,
    /// Running server.
    pub server: Option<Server>,
    /// `true` to create and delete nothing in the archive.
    pub restore_only: bool,
    /// `true` to run the `restore_command` of the data directory.
    pub restore: bool,
    /// Directories that contain base backups.
    pub backup_directories: Vec<PathBuf>,
    /// Labels of the base backups in the archive that count.
    pub labels: Labels,
    /// Settings of this process, which are those of a server's command that sets none.
    pub own: CommandSettings,
    /// Finds out the settings of a server's command.
    pub resolve: Resolve,
    /// Configuration file to name in commands; `None` for the usual one.
    pub config: Option<PathBuf>,
    /// Number of the user who typed the command.
    pub typed_by: u32,
}

/// A finding.
#[derive(Debug, Clone, Serialize)]
pub struct CheckFinding {
    /// Name of the check, which stays the same across versions.
    pub name: &'static str,
    /// Outcome of the check.
    pub outcome: Outcome,
    /// Description of the finding.
    pub detail: String,
    /// Hint for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What to type, as the hint ends with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// Outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All is well.
    Pass,
    /// It works, but somebody should know about it.
    Note,
    /// WAL will not be archived or restored as it should.
    Fail,
}

/// A finding that is not all well, and lacks what its reader can do.
#[derive(Debug)]
struct Open(CheckFinding);

impl Open {
    /// Says what mends it: what to type, and what for.
    fn by_typing(self, purpose: impl Display, command: impl Into<String>) -> CheckFinding {
        let command = command.into();
        CheckFinding { hint: Some(format!("{purpose}: {command}")), command: Some(command), ..self.0 }
    }

    /// Says what to do where nothing can be typed.
    fn advice(self, hint: impl Into<String>) -> CheckFinding {
        CheckFinding { hint: Some(hint.into()), ..self.0 }
    }

    /// Turns a failure into a note.
    fn noted(self) -> Self {
        Self(CheckFinding { outcome: Outcome::Note, ..self.0 })
    }
}

impl CheckFinding {
    fn new(name: &'static str, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { name, outcome, detail: detail.into(), hint: None, command: None }
    }

    fn pass(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Pass, detail)
    }

    fn note(name: &'static str, detail: impl Into<String>) -> Open {
        Open(Self::new(name, Outcome::Note, detail))
    }

    fn fail(name: &'static str, detail: impl Into<String>) -> Open {
        Open(Self::new(name, Outcome::Fail, detail))
    }

    fn failed(name: &'static str, error: &Error) -> Open {
        Self::fail(name, error.report())
    }

    /// Creates the finding of an error of the archive.
    fn of_archive(name: &'static str, error: &Error, shell: &Shell) -> Self {
        let (purpose, command) = shell.look(error);
        Self::failed(name, error).by_typing(purpose, command)
    }

    /// Creates a finding from a description or an error of the archive.
    fn of(name: &'static str, found: Result<String, Error>, shell: &Shell) -> Self {
        match found {
            Ok(detail) => Self::pass(name, detail),
            Err(error) => Self::of_archive(name, &error, shell),
        }
    }
}

/// Runs all checks, in an order that suits people.
pub async fn check(options: &ArchiveOptions, request: CheckRequest, limit: &TimeLimit) -> Vec<CheckFinding> {
    let mut findings = vec![configuration(request.configuration.as_ref())];
    let (known, server) = (request.data.clone(), request.server.clone());
    let local = blocking(move || {
        let named = known.or_else(|| server?.local_data_directory());
        named.filter(|data| data.system_identifier().is_ok_and(|system| system.is_some()))
    });
    let local = local.await;
    let user = local.as_ref().and_then(DataDirectory::owner);
    let mut shell = Shell {
        user: user.filter(|user| *user != request.typed_by).map(user::for_sudo),
        archive: absolute(&options.url),
        must_be_mounted: options.require_mount,
        config: request.config.clone(),
        data: local
            .as_ref()
            .or(request.data.as_ref())
            .map(|data| std::path::absolute(data.path()).unwrap_or_else(|_| data.path().to_owned())),
        system: request.system,
        has_others: false,
        url: request.server.as_ref().map(ToString::to_string),
        listening: listening(local.clone()).await,
    };
    let archive = match Archive::open(options).await {
        Ok(archive) => archive,
        Err(error) => {
            findings.push(CheckFinding::of_archive("archive", &error, &shell));
            return findings;
        }
    };
    let me = rustix::process::geteuid().as_raw();
    findings.extend(user::check(me, user, &shell));
    let contacted = options.clone();
    if let Ok(Some(contact)) = blocking(move || contacted.contact()).await {
        findings.push(CheckFinding::pass("contact", contact));
    }
    let of_archive = archive::Subject { archive: &archive, options, shell: &shell };
    let systems = archive::check(of_archive, request.restore_only, limit, &mut findings).await;
    let (of_data, named) = (local.clone(), request.system);
    let own = blocking(move || named.or_else(|| of_data?.system_identifier().ok().flatten())).await;
    shell.has_others = match own {
        Some(own) => systems.iter().any(|system| *system != own),
        None => systems.len() > 1,
    };
    if findings.iter().any(|finding| finding.name == "archive" && finding.outcome != Outcome::Fail) {
        place::check(&archive, local.clone(), request.restore_only, &shell, &mut findings).await;
        if !request.restore_only {
            links::check(&archive, &shell, &mut findings).await;
        }
    }
    let commands = Commands { archive: options.clone(), data: local, resolve: request.resolve };
    let data = request.data.clone().filter(|_| request.restore);
    let (spool, looks_ahead) = (request.own.spool.clone(), request.own.looks_ahead);
    let server::Checked { system, is_asked, known, archiving } =
        server::check(&archive, request, commands, &shell, limit, &mut findings).await;
    let (spool, looks_ahead) =
        archiving.map_or((spool, looks_ahead), |archiving| (archiving.spool, archiving.looks_ahead));
    let user = user.unwrap_or(me);
    findings.push({
        let shell = shell.clone();
        blocking(move || user::look_ahead(&spool, looks_ahead, user, &shell)).await
    });
    if let (Some(data), Some(system)) = (data, system) {
        findings.push(restore::check(options, &archive, data, system, &shell, limit).await);
    }
    // Last, because it reports whether anything else remains to do.
    if is_asked {
        let backup = keeping::backup(known.as_ref(), &findings, &shell);
        findings.push(backup);
    }
    findings
}

/// Returns the place as the server can use it, which runs its commands in its data directory.
fn absolute(url: &ArchiveUrl) -> ArchiveUrl {
    match url {
        ArchiveUrl::Directory(path) => {
            ArchiveUrl::Directory(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        }
        store @ ArchiveUrl::Store(_) => store.clone(),
    }
}

/// Returns where the server that runs in the directory listens.
async fn listening(data: Option<DataDirectory>) -> Option<Listening> {
    blocking(move || data.filter(DataDirectory::seems_served)?.listening()).await
}

fn configuration(file: Option<&(PathBuf, u32)>) -> CheckFinding {
    let name = "configuration";
    let Some((path, mode)) = file else {
        return CheckFinding::pass(name, "no file; flags and environment");
    };
    let shown = path.display();
    let regular = mode & 0o170_000 == 0o100_000;
    if !regular {
        return CheckFinding::pass(name, format!("{shown}, which is no regular file"));
    }
    if mode & 0o002 != 0 {
        let command = format!("sudo chmod o-w {}", shell::quoted(&shown.to_string()));
        return CheckFinding::fail(name, format!("everyone can write {shown}"))
            .by_typing("whoever writes it chooses where the WAL goes", command);
    }
    let readers = match (mode & 0o040 != 0, mode & 0o004 != 0) {
        (_, true) => "everyone can read it, and it holds no secret",
        (true, false) => "its owner and group can read it",
        (false, false) => "its owner alone can read it",
    };
    CheckFinding::pass(name, format!("{shown}; {readers}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{IN_PRODUCTION, Scene, position};

    #[test]
    fn a_world_writable_configuration_fails() {
        let outcome = |mode| configuration(Some(&(PathBuf::from("/x"), mode))).outcome;
        assert_eq!(outcome(0o100_640), Outcome::Pass);
        assert_eq!(outcome(0o100_644), Outcome::Pass);
        assert_eq!(outcome(0o100_646), Outcome::Fail);
        assert_eq!(outcome(0o020_666), Outcome::Pass, "such as /dev/null");
        assert_eq!(configuration(None).outcome, Outcome::Pass);
    }

    #[tokio::test]
    async fn what_will_not_work_is_a_cross_and_nothing_is_left_behind() {
        let scene = Scene::new().await;
        scene.segments(1, 1..=3, 1);
        scene.control(IN_PRODUCTION, 1, position(4, 0x28));
        scene.finish(1, 3..=4, 1);
        let before = scene.names();
        let own = CommandSettings { archive: scene.options(), spool: scene.path("spool"), looks_ahead: true };
        let request = |configuration| CheckRequest {
            own: own.clone(),
            resolve: |_, _| {
                Err(Error::new(crate::error::ErrorKind::Configuration, "no archive is configured"))
            },
            configuration,
            data: Some(scene.data()),
            system: None,
            server: None,
            restore: false,
            restore_only: false,
            backup_directories: Vec::new(),
            labels: Labels::default(),
            config: None,
            typed_by: rustix::process::geteuid().as_raw(),
        };
        let limit = TimeLimit::new(std::time::Instant::now(), std::time::Duration::from_secs(9));
        let found = check(&scene.options(), request(Some((PathBuf::from("/x"), 0o100_666))), &limit).await;
        let outcome = |name| found.iter().find(|finding| finding.name == name).map(|finding| finding.outcome);
        assert_eq!(outcome("configuration"), Some(Outcome::Fail));
        for name in ["archive", "create", "read", "list", "delete", "newest"] {
            assert_eq!(outcome(name), Some(Outcome::Pass), "{name}: {found:?}");
        }
        assert_eq!(scene.names(), before);
        let elsewhere = ArchiveOptions { url: "/nowhere/at/all".parse().unwrap(), ..scene.options() };
        let found = check(&elsewhere, request(None), &limit).await;
        let outcomes: Vec<_> = found.iter().map(|finding| (finding.name, finding.outcome)).collect();
        assert_eq!(outcomes, [("configuration", Outcome::Pass), ("archive", Outcome::Fail)]);
    }
}
