//! What may be done in the archive, tried out on a file of the check's own.

use super::CheckFinding;
use super::archive::conditional;
use super::shell::Shell;
use crate::archive::{Archive, Probe};
use crate::call::{retry, warning};
use crate::error::{Error, ErrorKind};
use crate::limit::TimeLimit;
use crate::wal::SystemIdentifier;

/// Creates, reads, lists and deletes the file.
pub(super) async fn create_and_delete(
    archive: &Archive,
    patience: &TimeLimit,
    shell: &Shell,
    findings: &mut Vec<CheckFinding>,
) {
    let probe = archive.probe();
    findings.push(match tried(patience, async || probe.create().await).await {
        Ok(true) => CheckFinding::pass("create", "a file can be created"),
        Ok(false) => {
            let what = format!(
                "{} is there from before and may not be replaced, so that nobody can tell whether files can be created",
                probe.name()
            );
            CheckFinding::note("create", what)
                .by_typing("a segment that the server ends shows it", shell.check_with_server())
        }
        Err(error) => {
            findings.push(CheckFinding::of_archive("create", &error, shell));
            return;
        }
    });
    findings.push(CheckFinding::of("read", read(&probe, patience).await, shell));
    findings.push(match is_listed(&probe, patience).await {
        Ok(true) => CheckFinding::pass("list", "a file is listed"),
        Ok(false) => CheckFinding::fail("list", "a file that was just created is not listed").by_typing(
            "a store that lists late cannot tell what is absent; try again",
            shell.walkeep("check", ""),
        ),
        Err(error) => CheckFinding::of_archive("list", &error, shell),
    });
    findings.push(match tried(patience, async || probe.create_again().await).await {
        Ok(conditions) => conditional(conditions, archive.conditional_put()),
        Err(error) => CheckFinding::of_archive("conditional", &error, shell),
    });
    // Whatever else has failed. Archiving and restoring need no deletion, and some archives forbid it on purpose.
    findings.push(match tried(patience, async || probe.remove().await).await {
        Ok(()) => CheckFinding::pass("delete", "a file can be deleted"),
        Err(error) => CheckFinding::failed("delete", &error).noted().by_typing(
            format!(
                "nothing can be pruned, which may be intended; {} stays in the archive, and is used again; the rights of a prune",
                probe.name()
            ),
            shell.walkeep("check", "--print-policy prune"),
        ),
    });
}

/// Checks that this user may write in the directories of the cluster that are there already: those above do not tell.
pub(super) async fn directories(
    archive: &Archive,
    system: SystemIdentifier,
    shell: &Shell,
) -> Option<CheckFinding> {
    let (name, denied) = ("directories", archive.denied_directories(system).await?);
    let stops = denied.iter().find(|directory| directory.is_pushed_into);
    let Some(first) = stops.or_else(|| denied.first()) else {
        return Some(CheckFinding::pass(name, "files can be created in the directories of the system"));
    };
    let others = denied.iter().filter(|other| other.path != first.path);
    let others: Vec<String> = others.map(|other| format!("; nor in {}", other.path.display())).collect();
    let what = format!("{}{}", first.error.report(), others.concat());
    let (found, purpose) = if first.is_pushed_into {
        (CheckFinding::fail(name, what), "pushes fail there; to see whose it is")
    } else {
        (
            CheckFinding::note(name, what),
            "pushes do not need it, but verify and prune may; to see whose it is",
        )
    };
    Some(found.by_typing(purpose, shell.namei(&first.path)))
}

/// Reads, and changes nothing.
pub(super) async fn read_only(
    archive: &Archive,
    patience: &TimeLimit,
    shell: &Shell,
    findings: &mut Vec<CheckFinding>,
) {
    let probe = archive.probe();
    findings.push(match tried(patience, async || probe.read().await).await {
        Ok(()) => CheckFinding::pass("read", "a file can be read"),
        // Without the rights to read and to list, a store does not say so.
        Err(error) if error.kind() == ErrorKind::Absent => {
            CheckFinding::pass("read", "a file can be asked for")
        }
        Err(error) => CheckFinding::of_archive("read", &error, shell),
    });
    findings.push(untried(shell));
}

fn untried(shell: &Shell) -> CheckFinding {
    let what = "whether files can be created, are never replaced and can be deleted was not tried, because of --restore-only";
    CheckFinding::note("untried", what).by_typing("on the host that archives", shell.walkeep("check", ""))
}

async fn read(probe: &Probe<'_>, patience: &TimeLimit) -> Result<String, Error> {
    let read = async || tried(patience, async || probe.read().await).await;
    let outcome = match read().await {
        // Another check has removed it.
        Err(error) if error.kind() == ErrorKind::Absent => {
            probe.create().await?;
            read().await
        }
        outcome => outcome,
    };
    outcome.map(|()| "a file reads back as it was written".to_owned())
}

async fn is_listed(probe: &Probe<'_>, patience: &TimeLimit) -> Result<bool, Error> {
    let listed = async || tried(patience, async || probe.is_listed().await).await;
    if listed().await? {
        return Ok(true);
    }
    // Another check has removed it.
    probe.create().await?;
    listed().await
}

async fn tried<T>(patience: &TimeLimit, attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    retry(patience, warning(|| patience.left_as_text()), attempt).await
}
