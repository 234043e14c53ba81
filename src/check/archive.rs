//! Checks that the archive is available and supports what archiving needs.

use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::shell::Shell;
use super::{CheckFinding, Open, rights};
use crate::archive::{
    Archive, ArchiveOptions, ConditionalPut, Conditions, Expiry, MUCH_SKEW, Versioning, clock_difference,
};
use crate::call::{retry, warning};
use crate::limit::TimeLimit;
use crate::wal::SystemIdentifier;

/// Clock skew worth mentioning: times in the archive are by its clock, others by the local one.
const SOME_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// Longest time for which failed requests are tried again: whoever runs the check waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is checked, and how to write of it.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) archive: &'a Archive,
    pub(super) options: &'a ArchiveOptions,
    pub(super) shell: &'a Shell,
}

/// Returns the systems that the archive holds.
pub(super) async fn check(
    of: Subject<'_>,
    restore_only: bool,
    limit: &TimeLimit,
    findings: &mut Vec<CheckFinding>,
) -> Vec<SystemIdentifier> {
    let Subject { archive, options, shell } = of;
    let started = Instant::now();
    let patience = TimeLimit::new(started, PATIENCE.min(limit.left() / 4));
    let waiting = warning(|| patience.left_as_text());
    let reached = retry(&patience, waiting, async || archive.systems().await).await;
    let took = started.elapsed().as_millis();
    let reachable = reached.is_ok();
    let systems = reached.as_ref().cloned().unwrap_or_default();
    let held = archive.held().await;
    findings.push(match held.remedy().filter(|_| reachable) {
        Some(_) => plain_files(format!("{} answers and holds {held}", archive.url())),
        None => CheckFinding::of(
            "archive",
            reached.map(|systems| match systems.len() {
                0 => format!("{} answers in {took} ms and holds nothing yet", archive.url()),
                1 => format!("{} answers in {took} ms and holds the WAL of one system", archive.url()),
                several => {
                    format!("{} answers in {took} ms and holds the WAL of {several} systems", archive.url())
                }
            }),
            shell,
        ),
    });
    if !reachable {
        return systems;
    }
    findings.extend(archive.is_unguarded_mount().await.then(unguarded_mount));
    findings.extend(archive.address().map(|address| encryption(address, archive.verifies_certificate())));
    findings.extend(archive.clock_ahead().map(clock));
    if restore_only {
        rights::read_only(archive, &patience, shell, findings).await;
    } else {
        let bucket = options.store_place().ok().flatten().map(|place| place.bucket);
        findings.extend(archive.versioning().await.as_ref().map(|found| versions(found, bucket.as_deref())));
        rights::create_and_delete(archive, &patience, shell, findings).await;
    }
    systems
}

/// Where a setting of the store belongs.
const IN_STORE: &str = "write in [store]";

/// No setting changes what a store can do.
const ONLY_CONDITIONS: &str = "only a store that honours conditions prevents that, and only versions in the bucket keep what was replaced; let \
                               no two servers archive into one prefix";

fn plain_files(what: String) -> CheckFinding {
    CheckFinding::note("archive", what).by_typing(
        "walkeep reads no plain WAL files; archive each into a new directory, as the page \"Move from cp\" says",
        "walkeep-archive --archive /mnt/new --system-identifier ID FILE",
    )
}

/// Compares the archive's reaction to creating an existing file with the setting.
pub(super) fn conditional(found: Conditions, (set, known): (ConditionalPut, bool)) -> CheckFinding {
    let name = "conditional";
    let race = "two servers that archive the same name at the same moment could still overwrite each other, and the first one \
                not notice";
    match (found, set) {
        (Conditions::Honoured, ConditionalPut::Auto) if !known => {
            Open(CheckFinding::pass(name, "what exists is not overwritten")).by_typing(
                "the store needs no requests that ask before and after; to save them, write in [store]",
                "conditional_put = \"yes\"",
            )
        }
        (Conditions::Honoured, ConditionalPut::No) => CheckFinding::note(
            name,
            format!("the store would refuse to overwrite, but is not asked to; {race}"),
        )
        .by_typing(IN_STORE, "conditional_put = \"yes\""),
        (Conditions::Honoured, _) => CheckFinding::pass(name, "what exists is not overwritten"),
        (Conditions::Ignored, ConditionalPut::Yes) => CheckFinding::fail(
            name,
            "the store overwrites what exists, although conditional_put says that it does not",
        )
        .by_typing(IN_STORE, "conditional_put = \"auto\""),
        (Conditions::Ignored, ConditionalPut::Auto) if known => {
            CheckFinding::fail(name, "the store overwrites what exists")
                .by_typing(IN_STORE, "conditional_put = \"no\"")
        }
        (Conditions::Ignored, _) => CheckFinding::note(
            name,
            format!(
                "the store cannot refuse to overwrite, so walkeep looks before and after it writes; {race}"
            ),
        )
        .advice(ONLY_CONDITIONS),
        (Conditions::NotUnderstood, ConditionalPut::No) => CheckFinding::note(
            name,
            format!(
                "the store knows no conditional writes, so walkeep looks before and after it writes; {race}"
            ),
        )
        .advice(ONLY_CONDITIONS),
        (Conditions::NotUnderstood, ConditionalPut::Auto) if !known => CheckFinding::note(
            name,
            format!(
                "the store knows no conditional writes, so walkeep looks before and after it writes; {race}"
            ),
        )
        .by_typing("to save trying them every time, write in [store]", "conditional_put = \"no\""),
        (Conditions::NotUnderstood, _) => CheckFinding::fail(name, "the store knows no conditional writes")
            .by_typing(IN_STORE, "conditional_put = \"no\""),
    }
}

fn unguarded_mount() -> CheckFinding {
    CheckFinding::note("mount", "the archive directory is a mount point, and nothing insists that it is mounted").by_typing(
        "otherwise pushes go to the disk below while it is not mounted, and a restore takes what they leave there for the \
         archive; write in the configuration file, before [store]",
        "require_mount = true",
    )
}

fn versions(found: &Versioning, bucket: Option<&str>) -> CheckFinding {
    let name = "versions";
    if !found.keeps {
        return CheckFinding::pass(name, "the bucket keeps no versions: what is deleted is gone");
    }
    let keeps = format!("the bucket keeps versions{}", found.how_long());
    match found.expiry {
        Expiry::Never | Expiry::AllButNewest(_) => CheckFinding::note(name, keeps).by_typing(
            "what walkeep prune deletes is paid for until a rule removes it; \"Versions and object lock\" in guide/stores.md has one",
            format!(
                "aws s3api put-bucket-lifecycle-configuration --bucket {} --lifecycle-configuration file://rule.json",
                bucket.unwrap_or("BUCKET")
            ),
        ),
        Expiry::Unknown | Expiry::AfterDays(_) => CheckFinding::pass(name, keeps),
    }
}

fn encryption(address: &str, verifies_certificate: bool) -> CheckFinding {
    let name = "tls";
    if !address.starts_with("https://") {
        return CheckFinding::note(name, format!("{address} is not encrypted")).by_typing(
            "whoever listens in between can read the WAL; write in [store]",
            format!("endpoint = \"{}\"", address.replacen("http://", "https://", 1)),
        );
    }
    if verifies_certificate {
        CheckFinding::pass(name, format!("{address} has proven who it is"))
    } else {
        CheckFinding::note(name, format!("{address} has not been asked to prove who it is")).by_typing(
            "write in [store], instead of allow_invalid_certificates, the file of who has signed it",
            "ca_file = \"/etc/ssl/certs/ca.pem\"",
        )
    }
}

fn clock(ahead: SignedDuration) -> CheckFinding {
    let name = "clock";
    let by = SignedDuration::from_secs(ahead.abs().as_secs());
    let detail = clock_difference(ahead);
    let (purpose, command) = ("set this machine's clock by NTP", "sudo timedatectl set-ntp true");
    if by > MUCH_SKEW {
        CheckFinding::fail(name, detail).by_typing(purpose, command)
    } else if by > SOME_SKEW {
        CheckFinding::note(name, detail).by_typing(purpose, command)
    } else {
        CheckFinding::pass(name, "this machine's clock agrees with the store's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    #[test]
    fn a_store_that_overwrites_fails_only_where_walkeep_relies_on_it() {
        use ConditionalPut::{Auto, No, Yes};
        use Conditions::{Honoured, Ignored, NotUnderstood};
        use Outcome::{Fail, Note, Pass};
        for (found, set, known, outcome, hint) in [
            (Honoured, Auto, true, Pass, ""),
            (Honoured, Auto, false, Pass, "\"yes\""),
            (Honoured, Yes, false, Pass, ""),
            (Honoured, No, false, Note, "\"yes\""),
            (Ignored, Auto, true, Fail, "\"no\""),
            (Ignored, Auto, false, Note, "versions"),
            (Ignored, Yes, false, Fail, "\"auto\""),
            (Ignored, No, false, Note, "versions"),
            (NotUnderstood, Auto, true, Fail, "\"no\""),
            (NotUnderstood, Auto, false, Note, "\"no\""),
            (NotUnderstood, Yes, false, Fail, "\"no\""),
            (NotUnderstood, No, false, Note, "versions"),
        ] {
            let finding = conditional(found, (set, known));
            assert_eq!(finding.outcome, outcome, "{found:?} {set:?} {known}");
            let given = finding.hint.unwrap_or_default();
            assert!(
                given.contains(hint) && given.is_empty() == hint.is_empty(),
                "{found:?} {set:?}: {given}"
            );
        }
    }

    #[test]
    fn a_small_clock_skew_is_tolerated() {
        for (seconds, outcome) in
            [(0, Outcome::Pass), (-31, Outcome::Note), (301, Outcome::Fail), (-9999, Outcome::Fail)]
        {
            assert_eq!(clock(SignedDuration::from_secs(seconds)).outcome, outcome, "{seconds}");
        }
        assert!(clock(SignedDuration::from_secs(-60)).detail.contains("1m ahead of"));
    }
}
