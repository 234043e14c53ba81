//! Checks that the server archives into this archive.

use std::time::{Duration, Instant};

use super::destination::{ARCHIVING, CommandSettings, Commands, RESTORING};
use super::masked::masked;
use super::shell::Shell;
use super::{CheckFinding, CheckRequest, Outcome, archiver, backlog, keeping, rights, unanswered, version};
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
    shell: &Shell,
    limit: &TimeLimit,
    findings: &mut Vec<CheckFinding>,
) -> Checked {
    let mut checked = Checked::default();
    let CheckRequest { data, system: named, server, backup_directories, labels, restore_only, .. } = request;
    let facts = blocking({
        let (data, shell) = (data.clone(), shell.clone());
        move || facts(data.as_ref(), named, server, &commands, &shell)
    });
    let Facts { server, findings: found, system, archiving, command, only_named } = facts.await;
    findings.extend(found);
    match system {
        None => {}
        Some(Err(error)) => {
            findings.push(CheckFinding::failed("system", &error).by_typing(
                "a running server says which directory is its own",
                shell.psql(&["show data_directory", "select system_identifier from pg_control_system()"]),
            ));
            return checked;
        }
        Some(Ok(system)) => {
            // Before the settings, as people ask.
            let at = findings.iter().position(|finding| finding.name == "archive_mode");
            let known = known_system(archive, system, only_named, shell).await;
            findings.insert(at.unwrap_or(findings.len()), known);
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
    if !restore_only {
        findings.extend(rights::directories(archive, whose, shell).await);
    }
    // Failures are reported without retries.
    let reading = Reading { at_once: 1, patience: Duration::ZERO };
    let beside = Beside { data: data.clone(), backup_directories, labels, next: None };
    let known = match ask_if_any(archive, whose, beside, reading).await {
        Ok(known) => known,
        Err(error) => {
            findings.push(CheckFinding::of_archive("newest", &error, shell));
            return checked;
        }
    };
    findings.push(keeping::newest(whose, known.as_ref(), shell));
    let mut arrived = false;
    if let (Some(server), Some(system)) = (server, system) {
        let switch = switch(archive, server.clone(), system, shell, limit).await;
        arrived = switch.outcome == Outcome::Pass;
        findings.push(switch);
        findings.push(archiver::check(server, command.as_deref(), shell, limit).await);
    }
    if let Some(data) = data {
        let of_archive = backlog::Beside { known: known.as_ref(), arrived, command: command.as_deref() };
        findings.push(backlog::check(archive, whose, data, of_archive, shell).await);
    }
    findings.extend(known.as_ref().map(|known| keeping::timelines(known, shell)));
    findings.extend(known.as_ref().and_then(|known| keeping::standby(known, shell)));
    findings.extend(known.as_ref().and_then(|known| keeping::verified(known, shell)));
    findings.extend(known.as_ref().and_then(|known| keeping::unreadable(known, shell)));
    Checked { is_asked: true, known, ..checked }
}

/// What the server, or else its files, tell.
#[derive(Default)]
struct Facts {
    /// The server, if it answers.
    server: Option<Server>,
    findings: Vec<CheckFinding>,
    /// The cluster; `None` if none was given.
    system: Option<Result<SystemIdentifier, Error>>,
    /// Settings of `archive_command`, if they can be told.
    archiving: Option<CommandSettings>,
    /// Text of `archive_command`.
    command: Option<String>,
    /// `true` if neither a directory nor a server tells which cluster it is, but the caller.
    only_named: bool,
}

/// Determines the cluster and its archiving settings, from the running server or else from its files. A server that does not
/// answer is one finding, and the files tell the rest.
fn facts(
    data: Option<&DataDirectory>,
    named: Option<SystemIdentifier>,
    server: Option<Server>,
    commands: &Commands,
    shell: &Shell,
) -> Facts {
    let mut facts = Facts::default();
    let mut of_server = None;
    match server.map(|server| (server.system_identifier(), server)) {
        Some((Ok(system), server)) => {
            of_server = Some(system);
            facts.server = Some(server);
        }
        Some((Err(error), _)) => facts.findings.push(unanswered::finding(&error, data, shell)),
        None => facts.findings.extend(data.and_then(|data| unanswered::no_server(data, shell))),
    }
    facts.findings.extend(data.and_then(|data| version::check(data, shell)));
    let of_data = data.map(|data| {
        data.system_identifier_if(named)?.ok_or_else(|| {
            let what = format!("{}, given as --pgdata, is no data directory", data.path().display());
            Error::new(ErrorKind::Configuration, what)
        })
    });
    let system = match (of_data, of_server) {
        (None, None) => {
            (facts.system, facts.only_named) = (named.map(Ok), named.is_some());
            return facts;
        }
        (_, Some(server)) if named.is_some_and(|named| named != server) => {
            let named = named.map_or_else(String::new, |named| named.to_string());
            let what = format!("the server is of system {server}, not of {named}");
            Err(Error::new(ErrorKind::Configuration, what).hint("leave --system-identifier out"))
        }
        (Some(Err(error)), Some(_)) if named.is_some() => Err(error),
        (Some(Ok(data)), Some(server)) if data != server => {
            let what = format!("the data directory is of system {data}, the server of {server}");
            Err(Error::new(ErrorKind::Configuration, what).hint("give those of the same cluster"))
        }
        (_, Some(system)) => Ok(system),
        (Some(system), None) => system,
    };
    if system.is_ok() {
        settings(data, commands, shell, &mut facts);
    }
    facts.system = Some(system);
    facts
}

/// Adds what the settings tell.
fn settings(data: Option<&DataDirectory>, commands: &Commands, shell: &Shell, facts: &mut Facts) {
    let found = match (&facts.server, data) {
        (Some(server), _) => server.settings().and_then(|settings| Ok((settings, server.is_in_recovery()?))),
        (None, Some(data)) if !data.has_settings() => return facts.findings.push(elsewhere(data, shell)),
        (None, Some(data)) => {
            data.server_settings().map(|settings| (settings, data.recovery_mode() == RecoveryMode::Standby))
        }
        (None, None) => Ok((ServerSettings::new(), false)),
    };
    match found {
        Ok((settings, standby)) => {
            let by_walkeep = ARCHIVING.walkeeps(&settings).is_some();
            facts.findings.extend(archiving(&settings, standby, by_walkeep, shell));
            let (destination, archiving) = commands.compare(&ARCHIVING, &settings, shell).unzip();
            facts.findings.extend(destination);
            facts.findings.extend(commands.compare(&RESTORING, &settings, shell).map(|(source, _)| source));
            facts.archiving = archiving.flatten();
            facts.command = settings.get("archive_command").filter(|_| by_walkeep).cloned();
        }
        Err(error) => facts.findings.push(CheckFinding::failed("archive_mode", &error).by_typing(
            "a running server says what is wrong in its files",
            shell.psql(&[
                "select sourcefile, sourceline, error from pg_file_settings where error is not null",
            ]),
        )),
    }
}

/// Reports that the settings are in another directory, such as below `/etc`.
fn elsewhere(data: &DataDirectory, shell: &Shell) -> CheckFinding {
    let data = data.path().display();
    let what =
        format!("unknown: there is no postgresql.conf in {data}, as on Debian, which keeps it below /etc");
    CheckFinding::note("archive_mode", what)
        .by_typing("give --pg-url, and the running server is asked", shell.check_with_server())
}

/// `only_named` says that nothing here is of that cluster, so that only the archive can tell of it.
async fn known_system(
    archive: &Archive,
    system: SystemIdentifier,
    only_named: bool,
    shell: &Shell,
) -> CheckFinding {
    let (name, names) = ("system", archive.names());
    let shown = names.shown(system);
    match archive.systems().await {
        Ok(systems) if systems.contains(&system) => {
            CheckFinding::pass(name, format!("the archive holds WAL of system {shown}"))
        }
        Ok(_) if only_named => {
            let what = format!("the archive holds no WAL of system {shown}, given as --system-identifier");
            CheckFinding::fail(name, what).by_typing("what it holds", shell.walkeep("list", ""))
        }
        Ok(others) => {
            let what = format!("the archive holds no WAL of system {shown} yet");
            match others.first() {
                None => CheckFinding::note(name, what).by_typing(SEND_ONE, shell.psql(&[SWITCH])),
                Some(other) => {
                    CheckFinding::note(name, format!("{what}, but of {}", some_of(&others, names))).by_typing(
                        "is it this cluster's archive? What the other one is",
                        shell.walkeep("list", &format!("--system-identifier {other}")),
                    )
                }
            }
        }
        Err(error) => CheckFinding::of_archive(name, &error, shell),
    }
}

/// Makes the server archive something.
pub(super) const SWITCH: &str = "select pg_switch_wal()";

/// What [`SWITCH`] is for.
pub(super) const SEND_ONE: &str = "to have the server end a segment and archive it";

/// Checks the settings for archiving. A standby need not archive unless it is to be promoted. `by_walkeep` says whether
/// `archive_command` calls walkeep.
fn archiving(settings: &ServerSettings, standby: bool, by_walkeep: bool, shell: &Shell) -> Vec<CheckFinding> {
    let setting = |name: &str| settings.get(name).map_or("", String::as_str);
    let (mode, command) = (setting("archive_mode"), setting("archive_command"));
    let library = setting("archive_library");
    let on = ["on", "always", "true", "yes", "1"].contains(&mode.to_ascii_lowercase().as_str());
    if standby && !on {
        let what = "archive_mode is off: a standby archives nothing, nor will this one once it is promoted";
        // A standby cannot change its own settings while it is in recovery, but its file.
        let hint = "if it may ever be promoted, write in its postgresql.conf, and restart it";
        return vec![CheckFinding::note("archive_mode", what).by_typing(hint, "archive_mode = on")];
    }
    let mode = if on {
        CheckFinding::pass("archive_mode", format!("archive_mode is {mode}"))
    } else {
        CheckFinding::fail("archive_mode", "archive_mode is off: the server archives nothing").by_typing(
            "turn it on, and restart the server",
            shell.psql(&["alter system set archive_mode = on"]),
        )
    };
    let fail = |detail: String| {
        CheckFinding::fail("archive_command", detail)
            .by_typing("set it", shell.alter("archive_command", &shell.archive_command()))
    };
    let command = if !library.is_empty() {
        CheckFinding::fail(
            "archive_command",
            format!("archive_library is {library}, which the server uses instead"),
        )
        .by_typing("unset it", shell.alter("archive_library", ""))
    } else if command.is_empty() || command == "(disabled)" {
        fail("archive_command is empty: WAL piles up in pg_wal".to_owned())
    } else if !by_walkeep {
        fail(format!("archive_command is not walkeep's: {}", masked(command)))
    } else if !command.contains("%p") {
        fail(format!("archive_command does not name the file: {}", masked(command)))
    } else {
        CheckFinding::pass("archive_command", format!("archive_command is {}", masked(command)))
    };
    vec![mode, command]
}

/// Makes the server end a segment, and waits until the archive has it.
async fn switch(
    archive: &Archive,
    server: Server,
    system: SystemIdentifier,
    shell: &Shell,
    limit: &TimeLimit,
) -> CheckFinding {
    let name = "switch";
    let asked = server.clone();
    let switched =
        blocking(move || if asked.is_in_recovery()? { Ok(None) } else { asked.switch_segment().map(Some) });
    let segment = match switched.await {
        Ok(Some(segment)) => segment,
        Ok(None) => {
            return CheckFinding::note(name, "the server is in recovery: it ends no segments of its own")
                .by_typing(
                    "check its primary, which it names",
                    shell.psql(&["select conninfo from pg_stat_wal_receiver"]),
                );
        }
        Err(error) => {
            return CheckFinding::failed(name, &error).by_typing(
                "the check does that",
                shell.psql(&["select pg_create_restore_point('x')", SWITCH]),
            );
        }
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
                .by_typing("its log says why; is its archive this one?", shell.psql(&[archiver::STATISTICS]))
        }
        Err(error) => CheckFinding::of_archive(name, &error, shell),
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
            archiving(&settings, false, ARCHIVING.walkeeps(&settings).is_some(), &Shell::of_test())
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
            archiving(&settings, true, false, &Shell::of_test())
                .into_iter()
                .map(|finding| finding.outcome)
                .collect::<Vec<_>>()
        };
        assert_eq!(standby("off"), [Outcome::Note]);
        assert_eq!(standby("always"), [Outcome::Pass, Outcome::Fail]);
        let library = ("archive_library", "basic_archive");
        assert_eq!(outcomes(&[("archive_mode", "on"), walkeep, library])[1], Outcome::Fail);
    }
}
