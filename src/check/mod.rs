//! Whether archiving and restoring will work, tried out before they have to: the configuration, the place, the server.
//!
//! Each finding says what was looked at, whether it is well, what was found, and what to do. Nothing is left behind but
//! the segment that a running server was asked to archive.

mod keeping;
mod place;
mod restore;
mod server;

use std::path::PathBuf;

use serde::Serialize;

use crate::archive::{Archive, ArchiveOptions};
use crate::catalog::Labels;
use crate::cluster::DataDirectory;
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::server::Server;

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// The configuration file that was read, and its permissions.
    pub configuration: Option<(PathBuf, u32)>,
    /// The data directory whose WAL is archived.
    pub data: Option<DataDirectory>,
    /// The running server.
    pub server: Option<Server>,
    /// Whether to run the `restore_command` of the data directory.
    pub restore: bool,
    /// Directories in which base backups are kept.
    pub backup_directories: Vec<PathBuf>,
    /// The labels of the base backups in the archive that count.
    pub labels: Labels,
}

/// One finding.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at: a name that stays the same from version to version.
    pub name: &'static str,
    /// Whether it is well.
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Whether something is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is.
    Pass,
    /// It works, and somebody should know something about it.
    Note,
    /// WAL will not be archived or restored as it should be.
    Fail,
}

impl Finding {
    fn pass(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Pass, detail: detail.into(), hint: None }
    }

    fn note(name: &'static str, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Note, ..Self::pass(name, detail) }
    }

    fn fail(name: &'static str, detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, ..Self::pass(name, detail) }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn failed(name: &'static str, error: &Error) -> Self {
        Self::fail(name, error.report())
    }

    /// What was found, or the failure to find out.
    fn of(name: &'static str, found: Result<String, Error>) -> Self {
        match found {
            Ok(detail) => Self::pass(name, detail),
            Err(error) => Self::failed(name, &error),
        }
    }
}

/// Looks at everything, in the order in which people would.
pub async fn check(options: &ArchiveOptions, request: CheckRequest, limit: &TimeLimit) -> Vec<Finding> {
    let mut findings = vec![configuration(request.configuration.as_ref())];
    let archive = match Archive::open(options).await {
        Ok(archive) => archive,
        Err(error) => {
            findings.push(Finding::failed("archive", &error));
            return findings;
        }
    };
    place::check(&archive, &mut findings).await;
    let data = request.data.clone().filter(|_| request.restore);
    let (system, known) = server::check(&archive, request, limit, &mut findings).await;
    if let (Some(data), Some(system)) = (data, system) {
        findings.push(restore::check(options, &archive, data, system, limit).await);
    }
    // Last, because it says whether anything else is left to do.
    if let Some(known) = known {
        let backup = keeping::backup(known.as_ref(), &findings);
        findings.push(backup);
    }
    findings
}

fn configuration(file: Option<&(PathBuf, u32)>) -> Finding {
    let name = "configuration";
    let Some((path, mode)) = file else {
        return Finding::pass(name, "no file; flags and environment");
    };
    let path = path.display();
    let regular = mode & 0o170_000 == 0o100_000;
    if !regular {
        return Finding::pass(name, format!("{path}, which is no regular file"));
    }
    if mode & 0o002 != 0 {
        return Finding::fail(name, format!("everyone can write {path}"))
            .hint("whoever writes it chooses where the WAL goes: chmod o-w");
    }
    let readers = match (mode & 0o040 != 0, mode & 0o004 != 0) {
        (_, true) => "everyone can read it, and it holds no secret",
        (true, false) => "its owner and group can read it",
        (false, false) => "its owner alone can read it",
    };
    Finding::pass(name, format!("{path}; {readers}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_everyone_can_write_is_a_cross() {
        let outcome = |mode| configuration(Some(&(PathBuf::from("/x"), mode))).outcome;
        assert_eq!(outcome(0o100_640), Outcome::Pass);
        assert_eq!(outcome(0o100_644), Outcome::Pass);
        assert_eq!(outcome(0o100_646), Outcome::Fail);
        assert_eq!(outcome(0o020_666), Outcome::Pass, "such as /dev/null");
        assert_eq!(configuration(None).outcome, Outcome::Pass);
    }
}
