//! Text output of `walkeep prune`.

use std::io::{self, Write};

use crate::catalog::Totals;
use crate::cli::print::{bytes, count, plain, time};
use crate::coverage::{BackupState, Chain};
use crate::prune::{Pruned, Retention};
use crate::server::Need;

pub(super) fn write(to: &mut dyn Write, pruned: &Pruned, dry_run: bool) -> io::Result<()> {
    let Pruned { plan, deleted, retention, error } = pruned;
    if dry_run {
        for file in &plan.goes {
            writeln!(to, "would delete {}", file.name)?;
        }
        for file in &plan.staged {
            writeln!(to, "would delete {}", file.key)?;
        }
    }
    for kept in &plan.kept {
        let why: Vec<String> = kept.why.iter().map(ToString::to_string).collect();
        let backup = &kept.state.backup;
        let lacks = if kept.state.complete { "" } else { ", although it lacks WAL" };
        let counts = if backup.counts { "" } else { ", which does not count by its label" };
        // A label may contain anything.
        let (title, ended) = (plain(&backup.title()), time(backup.ended));
        let also = Chain::below(backup, &plan.backups())
            .in_words()
            .map_or_else(String::new, |words| format!("; {words}"));
        writeln!(to, "keeps {title}, ended {ended}{lacks}{counts}: {}{also}", why.join("; "))?;
    }
    for BackupState { backup, complete, .. } in &plan.forgotten {
        let lacks = if *complete { "" } else { ", which lacks WAL already" };
        let stays = if plan.files_are_needed(backup) {
            "; keep its files, on which one that is kept builds"
        } else if plan.files_must_stay(backup) {
            "; its files may still be needed: of one that is kept, not all is known on which it builds"
        } else {
            ""
        };
        writeln!(to, "forgets {}, ended {}{lacks}{stays}", plain(&backup.title()), time(backup.ended))?;
    }
    if let Some(young) = plan.young {
        let (from, since) = (young.from, time(young.since));
        writeln!(
            to,
            "keeps {from}, archived {since}, and what follows: a base backup may be at work that needs it"
        )?;
    }
    for branch in &plan.given_up {
        let (timeline, since) = (branch.timeline, time(branch.since));
        writeln!(
            to,
            "gives up timeline {timeline}, last written on {since}: no base backup leads there any more"
        )?;
    }
    if let Some(Need { from, who }) = &plan.needed {
        writeln!(to, "keeps all from {from} on: {}", plain(who))?;
    }
    let verb = if dry_run { "would delete" } else { "deleted" };
    let (files, gone) = (count(plan.number(), "file"), bytes(plan.bytes()));
    let retention = retention.as_ref().map_or_else(String::new, |retention| retained(retention, dry_run));
    if error.is_some() {
        return writeln!(to, "{verb} {} of {files}, {} of {gone}", deleted.number(), bytes(deleted.bytes()))
            .and_then(|()| to.write_all(retention.as_bytes()));
    }
    let begins = plan.begins_at.map_or_else(String::new, |segment| format!(", which begins at {segment}"));
    let Totals { files: staying, stored_bytes, .. } = plan.stays;
    let staying = count(usize::try_from(staying).unwrap_or(usize::MAX), "file");
    writeln!(to, "{verb} {files}, {gone}; {staying} stay, {}{begins}", bytes(stored_bytes))?;
    to.write_all(retention.as_bytes())?;
    if plan.unknown > 0 {
        writeln!(to, "left alone: {} that walkeep knows nothing of", count(plan.unknown, "file"))?;
    }
    Ok(())
}

/// Returns the line about a bucket that keeps versions.
fn retained(Retention { versioning, retained }: &Retention, dry_run: bool) -> String {
    let keeps = format!("the bucket keeps versions{}", versioning.how_long());
    let Some(found) = retained else {
        return format!("{keeps}: what was deleted is still there as an older one\n");
    };
    let which = if found.whole { "the last" } else { "one" };
    let locked = versioning
        .locked_until(found)
        .map_or_else(String::new, |until| format!("; {which} of them is locked until {}", time(until)));
    let files = count(usize::try_from(found.files).unwrap_or(usize::MAX), "file");
    let more = if dry_run { "; what goes will be among them" } else { "" };
    let than = if found.whole { "" } else { "more than " };
    format!(
        "{keeps}: of what was deleted or replaced it still has {than}{files}, {}{locked}{more}\n",
        bytes(found.bytes)
    )
}
