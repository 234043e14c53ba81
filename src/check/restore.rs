//! Test of the server's own `restore_command`, run as the server would run it, so that a broken command is found
//! before a failover.
//!
//! It is asked for a history file, which is small, and writes it into a directory of its own in `pg_wal`, where it
//! cannot be confused with the server's own files.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::CheckFinding;
use super::masked::masked;
use super::shell::Shell;
use crate::archive::{Archive, ArchiveOptions, TextFiles};
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::error::{Error, ErrorKind};
use crate::frame::{Digest, MAX_TEXT_BYTES};
use crate::limit::TimeLimit;
use crate::restore::read_verified;
use crate::wal::{SystemIdentifier, TimelineId, WalName};
use crate::whole_file::open_regular;

const NAME: &str = "restore_command";

/// Interval between checks for the end of the command.
const PAUSE: Duration = Duration::from_millis(20);

/// Time that must remain when the command is killed.
const MARGIN: Duration = Duration::from_secs(3);

/// Maximum number of characters shown of the command's output.
const MOST_SAID: usize = 500;

/// Value of `%r` if nothing has been replayed.
const NO_RESTART_POINT: &str = "000000000000000000000000";

pub(super) async fn check(
    options: &ArchiveOptions,
    archive: &Archive,
    data: DataDirectory,
    system: SystemIdentifier,
    shell: &Shell,
    limit: &TimeLimit,
) -> CheckFinding {
    match try_out(options, archive, data, system, shell, limit).await {
        Ok(finding) => finding,
        Err(error) => CheckFinding::failed(NAME, &error).by_typing("to try it again", shell.check_restore()),
    }
}

async fn try_out(
    options: &ArchiveOptions,
    archive: &Archive,
    data: DataDirectory,
    system: SystemIdentifier,
    shell: &Shell,
    limit: &TimeLimit,
) -> Result<CheckFinding, Error> {
    let fail = |detail: String| {
        let command = shell.alter("restore_command", &shell.restore_command());
        Ok(CheckFinding::fail(NAME, detail).by_typing("from version 14 on no restart is needed", command))
    };
    let asked = data.clone();
    let Some(command) = blocking(move || asked.restore_command()).await? else {
        return fail(
            "restore_command is empty: neither a standby nor pg_rewind can use the archive".to_owned(),
        );
    };
    if !command.contains("%f") || !command.contains("%p") {
        return fail(format!("restore_command names no file, or no place for it: {}", masked(&command)));
    }
    let (name, archived) = file_to_ask_for(options, archive, system, limit).await?;
    let started = Instant::now();
    let started_command = command.clone();
    let running = blocking(move || Running::start(&data, &started_command, name)).await?;
    let tried = running.end(limit).await?;
    let took = started.elapsed().as_millis();
    Ok(judge(name, archived, &tried, took, &shell.restore(&masked(&command), name)))
}

/// Returns the newest history file in the archive with its digest or, without one, the name of the next one.
async fn file_to_ask_for(
    options: &ArchiveOptions,
    archive: &Archive,
    system: SystemIdentifier,
    limit: &TimeLimit,
) -> Result<(WalName, Option<Digest>), Error> {
    let histories = archive.text_files(system, TextFiles::Histories).await?;
    match histories.last().map(|file| file.name) {
        Some(name) => {
            let (header, _) = read_verified(options, name, Some(system), limit).await?;
            Ok((name.wal(), Some(header.blake3)))
        }
        None => {
            let second =
                TimelineId::new(2).ok_or_else(|| Error::new(ErrorKind::Local, "there is no timeline 2"))?;
            Ok((WalName::History(second), None))
        }
    }
}

/// Result of a command.
struct Tried {
    /// Exit status; `None` if the command was killed.
    status: Option<ExitStatus>,
    /// Digest of the restored file.
    brought: Option<Digest>,
    /// Output, on one line.
    said: String,
}

/// A running command. On drop, it is killed with all its children, and its directory removed.
struct Running {
    child: Child,
    said: File,
    target: PathBuf,
    _directory: TempDir,
}

impl Running {
    /// Starts the command as the server does: with the shell, in the data directory.
    fn start(data: &DataDirectory, command: &str, name: WalName) -> Result<Self, Error> {
        let data: PathBuf = std::path::absolute(data.path()).map_err(cannot_run)?.components().collect();
        let wal = data.join("pg_wal");
        let directory =
            tempfile::Builder::new().prefix("walkeep-check.").tempdir_in(&wal).map_err(|error| {
                Error::new(ErrorKind::Local, format!("cannot make a directory in {}", wal.display()))
                    .because(error)
                    .hint("run it as the server's user")
            })?;
        let target = directory.path().join("RECOVERYHISTORY");
        // Relative, as in the server.
        let relative = target.strip_prefix(&data).unwrap_or(&target);
        let said = tempfile::tempfile().map_err(cannot_run)?;
        let child = Command::new("/bin/sh")
            .args(["-c", &filled_in(command, name, relative)])
            .current_dir(&data)
            .env("PGDATA", &data)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(said.try_clone().map_err(cannot_run)?)
            .stderr(said.try_clone().map_err(cannot_run)?)
            .spawn()
            .map_err(cannot_run)?;
        Ok(Self { child, said, target, _directory: directory })
    }

    /// Waits for the command to end, until the time is nearly up.
    async fn end(mut self, limit: &TimeLimit) -> Result<Tried, Error> {
        let status = loop {
            match self.child.try_wait().map_err(cannot_run)? {
                None if limit.left() < MARGIN => break None,
                None => tokio::time::sleep(PAUSE).await,
                ended => break ended,
            }
        };
        // Whatever the command has left there: a pipe would never be opened.
        let brought = open_regular(&self.target).ok().and_then(|file| digest(file).ok());
        let mut said = String::new();
        self.said.rewind().map_err(cannot_run)?;
        // Output that is no text is useless.
        let _ = (&self.said).take(MAX_TEXT_BYTES).read_to_string(&mut said);
        let said = said.trim().chars().take(MOST_SAID).collect::<String>().replace(char::is_control, " ");
        Ok(Tried { status, brought, said })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn cannot_run(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Local, "cannot run restore_command").because(error)
}

fn digest(mut file: File) -> std::io::Result<Digest> {
    let mut content = Vec::new();
    (&mut file).take(MAX_TEXT_BYTES).read_to_end(&mut content)?;
    Ok((*blake3::hash(&content).as_bytes()).into())
}

/// Substitutes the server's placeholders in a command. Unknown ones stay, as in versions up to 15.
fn filled_in(command: &str, name: WalName, target: &Path) -> String {
    let mut filled = String::new();
    let mut letters = command.chars().peekable();
    while let Some(letter) = letters.next() {
        let value = match (letter, letters.peek()) {
            ('%', Some('f')) => name.to_string(),
            ('%', Some('p')) => target.display().to_string(),
            ('%', Some('r')) => NO_RESTART_POINT.to_owned(),
            ('%', Some('%')) => "%".to_owned(),
            _ => {
                filled.push(letter);
                continue;
            }
        };
        filled.push_str(&value);
        letters.next();
    }
    filled
}

/// Interprets the result as the server would.
fn judge(name: WalName, archived: Option<Digest>, tried: &Tried, took: u128, command: &str) -> CheckFinding {
    let Tried { status, brought, said } = tried;
    let says = if said.is_empty() { String::new() } else { format!("; it says: {said}") };
    let hint = "a standby that is promoted, and a recovery, depend on it; to see it here";
    let fail = |what: String| CheckFinding::fail(NAME, format!("{what}{says}")).by_typing(hint, command);
    let Some(status) = status else {
        return fail(format!("restore_command is still at work on {name} after {took} ms"));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    match (archived, code) {
        (Some(archived), 0) if *brought == Some(archived) => {
            let what = format!("restore_command brings {name} back, in {took} ms");
            if said.is_empty() {
                CheckFinding::pass(NAME, what)
            } else {
                CheckFinding::note(NAME, format!("{what}{says}")).by_typing("to see it here", command)
            }
        }
        (Some(_), 0) => {
            fail(format!("restore_command succeeds for {name} and does not bring what the archive holds"))
        }
        (Some(_), 1..126) => {
            fail(format!("restore_command has status {code} for {name}, which the archive holds"))
        }
        (None, 1) => {
            CheckFinding::pass(NAME, format!("restore_command finds that there is no {name}, in {took} ms"))
        }
        (None, 0) => fail(format!("restore_command succeeds for {name}, which the archive does not hold")),
        (None, 2..126) => fail(format!("restore_command has status {code} for {name}, and cannot tell")),
        (_, _) => fail(format!("restore_command has status {code} for {name}, which stops the server")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    #[test]
    fn placeholders_are_substituted_as_by_the_server() {
        let name = "00000002.history".parse().unwrap();
        let filled = |command| filled_in(command, name, Path::new("pg_wal/x"));
        assert_eq!(filled("a %f \"%p\" %r"), format!("a 00000002.history \"pg_wal/x\" {NO_RESTART_POINT}"));
        assert_eq!(filled("a %%f %%%f %x 5% %"), "a %f %00000002.history %x 5% %");
    }

    #[test]
    fn a_command_that_would_break_a_failover_fails() {
        use Outcome::{Fail, Note, Pass};
        let [one, other]: [Digest; 2] = [[1; 32].into(), [2; 32].into()];
        let outcome = |archived, status: Option<i32>, brought, said: &str| {
            let status = status
                .map(|status| ExitStatus::from_raw(if status > 255 { status - 256 } else { status << 8 }));
            let tried = Tried { status, brought, said: said.to_owned() };
            judge("00000002.history".parse().unwrap(), archived, &tried, 7, "walkeep-restore").outcome
        };
        let by_signal = 256 + 9;
        for (archived, status, brought, said, expected) in [
            (Some(one), Some(0), Some(one), "", Pass),
            (Some(one), Some(0), Some(one), "a warning", Note),
            (Some(one), Some(0), Some(other), "", Fail),
            (Some(one), Some(0), None, "", Fail),
            (Some(one), Some(1), None, "", Fail),
            (Some(one), Some(75), None, "", Fail),
            (Some(one), Some(255), None, "", Fail),
            (Some(one), Some(by_signal), None, "", Fail),
            (Some(one), None, None, "", Fail),
            (None, Some(1), None, "", Pass),
            (None, Some(0), Some(one), "", Fail),
            (None, Some(75), None, "", Fail),
            (None, Some(127), None, "", Fail),
            (None, Some(by_signal), None, "", Fail),
        ] {
            assert_eq!(outcome(archived, status, brought, said), expected, "{status:?}");
        }
    }
}
