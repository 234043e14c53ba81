//! Checks that the server archives into this archive.

use std::time::{Duration, Instant};

use super::destination::{ARCHIVING, CommandSettings, Commands, RESTORING};
use super::{CheckFinding, CheckRequest, Outcome, archiver, keeping};
use crate::archive::{Archive, some_of};
use crate::blocking::blocking;
use crate::catalog::Reading;
use crate::cluster::{DataDirectory, RecoveryMode, ServerSettings};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::server::{Archiver, Server};
use crate::status::{ArchiveStatus, Beside, ask_if_any};
use crate::wal::{SegmentName, SystemIdentifier, WalName};

/// Interval between requests for a segment that the server is to archive.
const PAUSE: Duration = Duration::from_millis(200);

/// What became known of the server.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) system: Option<SystemIdentifier>,
    /// `true` if its archive could be asked.
    pub(super) is_asked: bool,
    /// State of its archive; `None` if that holds nothing of it.
    pub(super) known: Option<ArchiveStatus>,
    /// Settings of its `archive_command`.
    pub(super) archiving: Option<CommandSettings>,
}

/// Checks the server.
pub(super) async fn check(
    archive: &Archive,
    request: CheckRequest,
    commands: Commands,
    limit: &TimeLimit,
    findings: &mut Vec<CheckFinding>,
) -> Checked {
    let mut checked = Checked::default();
    let CheckRequest { data, server, backup_directories, labels, .. } = request;
    let facts = blocking({
        let (data, server) = (data.clone(), server.clone());
        move || facts(data.as_ref(), server.as_ref(), &commands)
    });
    match facts.await {
        None => {}
        Some(Err(error)) => {
            findings.push(CheckFinding::failed("system", &error));
            return checked;
        }
        Some(Ok((system, settings, archiving))) => {
            findings.push(known_system(archive, system).await);
            findings.extend(settings);
            checked = Checked { system: Some(system), archiving, ..checked };
        }
    }
    let system = checked.system;
    let whose = match system {
        Some(whose) => whose,
        // No cluster was given, and the archive may contain none or several.
        None => match archive.only_system().await {
            Ok(whose) => whose,
            Err(_) => return checked,
        },
    };
    // Failures are reported without retries.
    let reading = Reading { at_once: 1, patience: Duration::ZERO };
    let beside = Beside { data: data.clone(), backup_directories, labels, next: None };
    let known = match ask_if_any(archive, whose, beside, reading).await {
        Ok(known) => known,
        Err(error) => {
            findings.push(CheckFinding::failed("newest", &error));
            return checked;
        }
    };
    findings.push(keeping::newest(whose, known.as_ref()));
    let mut arrived = false;
    if let (Some(server), Some(system)) = (server, system) {
        let switch = switch(archive, server.clone(), system, limit).await;
        arrived = switch.outcome == Outcome::Pass;
        findings.push(switch);
        findings.push(archiver::check(server, limit).await);
    }
    if let Some(data) = data {
        findings.push(keeping::backlog(archive, whose, data, known.as_ref(), arrived).await);
    }
    findings.extend(known.as_ref().map(keeping::timelines));
    findings.extend(known.as_ref().and_then(keeping::standby));
    findings.extend(known.as_ref().and_then(keeping::verified));
    findings.extend(known.iter().flat_map(keeping::unreadable));
    Checked { is_asked: true, known, ..checked }
}

/// System identifier, findings about the settings, and the settings of `archive_command`.
type ServerFindings = (SystemIdentifier, Vec<CheckFinding>, Option<CommandSettings>);

/// Determines the cluster and its archiving settings, from the running server or else from its files.
fn facts(
    data: Option<&DataDirectory>,
    server: Option<&Server>,
    commands: &Commands,
) -> Option<Result<ServerFindings, Error>> {
    let of_data = data.map(|data| {
        data.system_identifier()?.ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "what was given as --pgdata is no data directory")
        })
    });
    let of_server = server.map(Server::system_identifier);
    let system = match (of_data, of_server) {
        (None, None) => return None,
        (Some(Ok(data)), Some(Ok(server))) if data != server => {
            let what = format!("the data directory is of system {data}, the server of {server}");
            Err(Error::new(ErrorKind::Configuration, what).hint("give those of the same cluster"))
        }
        (_, Some(system)) | (Some(system), None) => system,
    };
    Some(system.map(|system| {
        let (findings, archiving) = settings(data, server, commands);
        (system, findings, archiving)
    }))
}

/// Returns the findings about the settings.
fn settings(
    data: Option<&DataDirectory>,
    server: Option<&Server>,
    commands: &Commands,
) -> (Vec<CheckFinding>, Option<CommandSettings>) {
    let found = match (server, data) {
        (Some(server), _) => server.settings().and_then(|settings| Ok((settings, server.is_in_recovery()?))),
        (None, Some(data)) if !data.has_settings() => return (vec![elsewhere(data)], None),
        (None, Some(data)) => {
            data.server_settings().map(|settings| (settings, data.recovery_mode() == RecoveryMode::Standby))
        }
        (None, None) => Ok((ServerSettings::new(), false)),
    };
    match found {
        Ok((settings, standby)) => {
            let mut findings = archiving(&settings, standby, ARCHIVING.walkeeps(&settings).is_some());
            let (destination, archiving) = commands.compare(&ARCHIVING, &settings).unzip();
            findings.extend(destination);
            findings.extend(commands.compare(&RESTORING, &settings).map(|(source, _)| source));
            (findings, archiving.flatten())
        }
        Err(error) => (vec![CheckFinding::failed("archive_mode", &error)], None),
    }
}

/// Reports that the settings are in another directory, such as below `/etc`.
fn elsewhere(data: &DataDirectory) -> CheckFinding {
    let data = data.path().display();
    let what =
        format!("unknown: there is no postgresql.conf in {data}, as on Debian, which keeps it below /etc");
    CheckFinding::note("archive_mode", what).hint("give --pg-url, and the running server is asked")
}

async fn known_system(archive: &Archive, system: SystemIdentifier) -> CheckFinding {
    let (name, names) = ("system", archive.names());
    let shown = names.shown(system);
    match archive.systems().await {
        Ok(systems) if systems.contains(&system) => {
            CheckFinding::pass(name, format!("the archive holds WAL of system {shown}"))
        }
        Ok(others) => {
            let what = format!("the archive holds no WAL of system {shown} yet");
            if others.is_empty() {
                CheckFinding::note(name, what)
            } else {
                CheckFinding::note(name, format!("{what}, but of {}", some_of(&others, names)))
                    .hint("is it this cluster's archive?")
            }
        }
        Err(error) => CheckFinding::failed(name, &error),
    }
}

/// Checks the settings for archiving. A standby need not archive unless it is to be promoted. `by_walkeep` says whether
/// `archive_command` calls walkeep.
fn archiving(settings: &ServerSettings, standby: bool, by_walkeep: bool) -> Vec<CheckFinding> {
    let setting = |name: &str| settings.get(name).map_or("", String::as_str);
    let (mode, command) = (setting("archive_mode"), setting("archive_command"));
    let library = setting("archive_library");
    let on = ["on", "always", "true", "yes", "1"].contains(&mode.to_ascii_lowercase().as_str());
    if standby && !on {
        let what = "archive_mode is off: a standby archives nothing, nor will this one once it is promoted";
        let hint = "set archive_mode = on, and restart it, if it may ever be promoted";
        return vec![CheckFinding::note("archive_mode", what).hint(hint)];
    }
    let mode = if on {
        CheckFinding::pass("archive_mode", format!("archive_mode is {mode}"))
    } else {
        CheckFinding::fail("archive_mode", "archive_mode is off: the server archives nothing")
            .hint("set archive_mode = on, and restart the server")
    };
    let fail = |detail: String| {
        CheckFinding::fail("archive_command", detail).hint("set archive_command = 'walkeep-archive %p'")
    };
    let command = if !library.is_empty() {
        CheckFinding::fail(
            "archive_command",
            format!("archive_library is {library}, which the server uses instead"),
        )
        .hint("set archive_library = ''")
    } else if command.is_empty() || command == "(disabled)" {
        fail("archive_command is empty: WAL piles up in pg_wal".to_owned())
    } else if !by_walkeep {
        fail(format!("archive_command is not walkeep's: {command}"))
    } else if !command.contains("%p") {
        fail(format!("archive_command does not name the file: {command}"))
    } else {
        CheckFinding::pass("archive_command", format!("archive_command is {command}"))
    };
    vec![mode, command]
}

/// Makes the server end a segment, and waits until the archive has it.
async fn switch(
    archive: &Archive,
    server: Server,
    system: SystemIdentifier,
    limit: &TimeLimit,
) -> CheckFinding {
    let name = "switch";
    let asked = server.clone();
    let switched =
        blocking(move || if asked.is_in_recovery()? { Ok(None) } else { asked.switch_segment().map(Some) });
    let segment = match switched.await {
        Ok(Some(segment)) => segment,
        Ok(None) => {
            return CheckFinding::note(name, "the server is in recovery: it ends no segments of its own");
        }
        Err(error) => return CheckFinding::failed(name, &error),
    };
    let started = Instant::now();
    match wait_for(archive, system, segment, limit).await {
        Ok(true) => {
            let took = started.elapsed().as_millis();
            CheckFinding::pass(
                name,
                format!("{segment} was in the archive {took} ms after the server had ended it"),
            )
        }
        Ok(false) => {
            let failure = blocking(move || server.archiver()).await.ok().filter(|found| found.fails);
            let failure = failure.map_or_else(String::new, |Archiver { last_failed: (file, at), .. }| {
                format!("; its last failure was {file} at {at}")
            });
            CheckFinding::fail(name, format!("the server has not archived {segment}{failure}"))
                .hint("its log says why; is its archive this one?")
        }
        Err(error) => CheckFinding::failed(name, &error),
    }
}

/// Returns `true` if the segment is archived before the time is nearly up.
async fn wait_for(
    archive: &Archive,
    system: SystemIdentifier,
    segment: SegmentName,
    limit: &TimeLimit,
) -> Result<bool, Error> {
    loop {
        match archive.holds(system, WalName::Segment(segment)).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => return Err(error),
        }
        if limit.left() < PAUSE * 10 {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    #[test]
    fn only_walkeeps_own_command_passes_and_a_standby_needs_none() {
        let outcomes = |pairs: &[(&str, &str)]| {
            let settings =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            archiving(&settings, false, ARCHIVING.walkeeps(&settings).is_some())
                .into_iter()
                .map(|finding| finding.outcome)
                .collect::<Vec<_>>()
        };
        let walkeep = ("archive_command", "walkeep-archive %p");
        assert_eq!(outcomes(&[("archive_mode", "on"), walkeep]), [Outcome::Pass, Outcome::Pass]);
        assert_eq!(outcomes(&[("archive_mode", "always"), walkeep]), [Outcome::Pass, Outcome::Pass]);
        assert_eq!(outcomes(&[("archive_mode", "off"), walkeep]), [Outcome::Fail, Outcome::Pass]);
        assert_eq!(outcomes(&[]), [Outcome::Fail, Outcome::Fail]);
        for command in ["", "(disabled)", "cp %p /archive/%f", "walkeep-archive"] {
            assert_eq!(outcomes(&[("archive_mode", "on"), ("archive_command", command)])[1], Outcome::Fail);
        }
        let standby = |mode: &str| {
            let settings = [("archive_mode".to_owned(), mode.to_owned())].into();
            archiving(&settings, true, false).into_iter().map(|finding| finding.outcome).collect::<Vec<_>>()
        };
        assert_eq!(standby("off"), [Outcome::Note]);
        assert_eq!(standby("always"), [Outcome::Pass, Outcome::Fail]);
        let library = ("archive_library", "basic_archive");
        assert_eq!(outcomes(&[("archive_mode", "on"), walkeep, library])[1], Outcome::Fail);
    }
}
