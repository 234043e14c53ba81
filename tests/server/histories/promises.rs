//! Promises of a prune, implemented a second time, by comparing what is recoverable before and after it.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use jiff::{SignedDuration, Timestamp};
use walkeep::catalog::Labels;
use walkeep::prune::PrunePlan;
use walkeep::retention::{BackupPolicy, Before, Policy};
use walkeep::wal::{SegmentName, WalName};

use super::disagreements::Disagreements;
use super::events::Wish;
use super::findings::goes_on;
use super::recovery::{Archive, BaseBackup, Outcome, Tli};
use super::view::{self, Known};
use super::world::{Backup, Files, World, known_timelines, timeline};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Returns `true` if the server reaches the end of the backup on any path. If an ancestor's segment would do for one
/// that was written and is missing, `walkeep-restore` reports a gap, and the server does not get to request it.
pub(crate) fn is_complete(archive: &Archive, targets: &BTreeSet<Tli>, is: &BaseBackup) -> bool {
    let end = is.stop.saturating_sub(1) / archive.segment_bytes;
    targets.iter().any(|target| {
        let outcome = archive.recover(is, *target);
        let stops_before =
            outcome.in_part.is_some_and(|(_, number)| number <= end && goes_on(archive, *target, number));
        outcome.consistent && !stops_before
    })
}

/// Returns `true` if a recovery of the backup reaches the start of the timeline, or is on it already.
fn arrives(archive: &Archive, is: &BaseBackup, target: Tli) -> bool {
    let outcome = archive.recover(is, target);
    let begin = archive.histories.get(&target).and_then(|lines| lines.last()).map_or(0, |(_, at)| *at);
    outcome.consistent && outcome.reached >= begin / archive.segment_bytes * archive.segment_bytes
}

/// Converts a wish into a policy.
fn policy(wish: &Wish, files: &Files) -> Policy {
    let segments: Vec<_> = files.keys().filter_map(|name| name.segment()).collect();
    let before = wish.before.filter(|_| !segments.is_empty());
    Policy {
        backups: BackupPolicy {
            keep_backups: NonZeroUsize::new(wish.keep_backups),
            keep_days: wish.keep_days,
        },
        wal_days: wish.keep_wal_days,
        before: before.map(|index| Before::Segment(segments[index.index(segments.len())])),
        backup_may_take: SignedDuration::from_hours(wish.backup_may_take_hours),
        accept_no_backup: wish.accept_no_backup,
        ..Policy::default()
    }
}

/// A prune about to happen.
struct Prune<'a> {
    world: &'a World,
    wish: &'a Wish,
    policy: Policy,
    targets: BTreeSet<Tli>,
    known: Vec<Known>,
    complete: Vec<Known>,
}

/// A base backup that must stay, and must recover as far as before on every timeline.
struct Promised {
    why: &'static str,
    index: usize,
    is: BaseBackup,
    outcomes: Vec<Outcome>,
}

/// Prunes, checks all promises, and returns the remaining files.
pub(crate) fn prune(world: &World, wish: &Wish, found: &mut Disagreements) -> Option<Files> {
    let files = &world.files;
    if files.is_empty() {
        return None;
    }
    let archive = world.archive(files);
    let targets = known_timelines(files);
    let known = view::known(world, files, wish.looks_elsewhere);
    let complete = known.iter().filter(|known| is_complete(&archive, &targets, &known.is)).cloned().collect();
    let prune = Prune { world, wish, policy: policy(wish, files), targets, known, complete };
    let goes = prune.plan(files, found)?;
    let promised = prune.promised(&archive);
    let mut left = files.clone();
    let some = goes.len() / 4 + 1;
    for (number, name) in goes.iter().enumerate() {
        found.unless(left.remove(name).is_some(), "deletes what is not there", || name.to_string());
        if (number + 1) % some == 0 || number + 1 == goes.len() {
            prune.hold(&promised, &left, found);
        }
    }
    prune.leaves_no_hole(&left, &goes, found);
    let archive = world.archive(&left);
    let is_left = |known: &Known| is_complete(&archive, &prune.targets, &known.is);
    let holds = wish.accept_no_backup || prune.complete.is_empty() || prune.complete.iter().any(is_left);
    found.unless(holds, "no complete backup is left", || format!("{:?}\n{world}", prune.policy));
    if let Some(again) = prune.plan(&left, found) {
        found.unless(again.is_empty(), "pruning twice is not pruning once", || format!("{again:?}\n{world}"));
    }
    Some(left)
}

impl Prune<'_> {
    /// Returns the files that the policy deletes, in order; `None` if walkeep is in doubt, which is then checked.
    fn plan(&self, files: &Files, found: &mut Disagreements) -> Option<Vec<WalName>> {
        let elsewhere = view::elsewhere(self.world, self.wish.looks_elsewhere);
        match PrunePlan::of(
            view::catalog(self.world, files),
            &elsewhere,
            &Labels::default(),
            &self.policy,
            self.world.now,
        ) {
            Ok(plan) => Some(plan.goes.iter().map(|file| file.name.wal()).collect()),
            Err(error) => {
                let reason = error.report();
                let has_reason = self.has_reason(files, &reason);
                found.unless(has_reason, "a doubt without a reason", || format!("{reason}\n{}", self.world));
                None
            }
        }
    }

    fn has_reason(&self, files: &Files, doubt: &str) -> bool {
        let Policy { backups, wal_days, before, .. } = &self.policy;
        let days = backups.keep_days.or(*wal_days).map(|days| i32::try_from(days.max(1)).unwrap());
        let is_old =
            |newest: &Timestamp| days.is_some_and(|days| self.world.now.duration_since(*newest) > DAY * days);
        // With a policy only for backups kept elsewhere, one of those must be complete.
        let counts = |known: &Known| *backups != BackupPolicy::default() || known.found;
        (doubt.contains("base backup was found") && !self.complete.iter().any(counts))
            || (doubt.contains("nothing has been archived since") && files.values().max().is_some_and(is_old))
            || (doubt.contains("nothing says where timeline") && self.begins_somewhere(files))
            || (doubt.contains("no complete base backup would be left") && before.is_some())
            || (doubt.contains("a limit by age would not look at")
                && wal_days.is_some()
                && !self.known.is_empty())
    }

    /// Returns `true` if a timeline has no history file and older backups may lead to it.
    fn begins_somewhere(&self, files: &Files) -> bool {
        let has_history = |tli: &Tli| files.keys().any(|name| *name == WalName::History(timeline(*tli)));
        self.targets.iter().any(|tli| *tli > 1 && !has_history(tli))
    }

    fn hold(&self, promised: &[Promised], left: &Files, found: &mut Disagreements) {
        let archive = self.world.archive(left);
        for Promised { why, index, is, outcomes } in promised {
            for (target, before) in self.targets.iter().zip(outcomes) {
                let now = archive.recover(is, *target);
                found.unless(now == *before, why, || {
                    format!(
                        "b{index} to timeline {target}: {before:?}, now {now:?}\n{:?}\n{}",
                        self.policy, self.world
                    )
                });
            }
        }
        // A backup in the archive can be recovered as before.
        let before = self.world.archive(&self.world.files);
        for Known { index, is, .. } in view::known(self.world, left, false) {
            let lost = |target: &Tli| archive.recover(&is, *target) != before.recover(&is, *target);
            found.unless(
                !self.targets.iter().any(lost),
                "a backup history file is left of a backup that is lost",
                || format!("b{index}\n{:?}\n{}", self.policy, self.world),
            );
        }
    }

    fn leaves_no_hole(&self, left: &Files, goes: &[WalName], found: &mut Disagreements) {
        let order_of = |name: &WalName| name.segment().map(SegmentName::order);
        let newest = goes.iter().filter_map(order_of).max();
        let holds = newest.is_none_or(|newest| left.keys().filter_map(order_of).all(|order| order > newest));
        found.unless(holds, "a hole is made", || format!("{goes:?}\n{}", self.world));
    }

    /// Returns the base backups that must stay, with reasons.
    fn promised(&self, archive: &Archive) -> Vec<Promised> {
        let mut promised = Vec::new();
        let mut keep = |why, index: usize, is: BaseBackup| {
            let outcomes = self.targets.iter().map(|target| archive.recover(&is, *target)).collect();
            promised.push(Promised { why, index, is, outcomes });
        };
        for backup in self.known.iter().filter(|known| known.found) {
            keep("a backup that is still there is lost", backup.index, backup.is);
        }
        let BackupPolicy { keep_backups, keep_days } = self.policy.backups;
        let number = keep_backups.map_or(0, NonZeroUsize::get);
        // Which of several that ended in the same second is the newest is undefined.
        let as_new = |than: &Known| self.complete.iter().filter(|other| other.ended >= than.ended).count();
        for backup in self.complete.iter().filter(|backup| as_new(backup) <= number) {
            keep("one of the newest backups is lost", backup.index, backup.is);
        }
        if let Some(days) = keep_days {
            let begin = self.world.now - DAY * i32::try_from(days).unwrap();
            for backup in self.complete.iter().filter(|backup| backup.ended > begin) {
                keep("a backup within the window is lost", backup.index, backup.is);
            }
            for target in self.targets.iter().filter(|target| self.was_written_since(begin, **target)) {
                let leads = |backup: &Known| backup.ended <= begin && arrives(archive, &backup.is, *target);
                if let Some(backup) = self.newest(leads) {
                    keep("the last backup before the window is lost", backup.index, backup.is);
                }
            }
        }
        if keep_backups.is_none() && keep_days.is_none() {
            return promised;
        }
        for target in &self.targets {
            let is_newest = Some(target) == self.targets.last();
            if !is_newest && !self.is_young_end(archive, *target) {
                continue;
            }
            let Some(backup) = self.newest(|backup| arrives(archive, &backup.is, *target)) else { continue };
            let why = if is_newest {
                "the way to the present is lost"
            } else {
                "the way to a young branch is lost"
            };
            keep(why, backup.index, backup.is);
        }
        if let Some(backup) = self.newest(|_| true) {
            keep("the last complete backup is lost", backup.index, backup.is);
        }
        for (index, backup) in self.world.backups.iter().enumerate() {
            if let Some(is) = self.running(backup) {
                keep("a running backup is lost", index, is);
            }
        }
        promised
    }

    /// Returns the newest of these; `None` if several ended at the same time.
    fn newest(&self, of: impl Fn(&Known) -> bool) -> Option<&Known> {
        let newest = self.complete.iter().filter(|backup| of(backup)).max_by_key(|backup| backup.ended)?;
        let as_new = self.complete.iter().filter(|other| of(other) && other.ended == newest.ended);
        (as_new.count() == 1).then_some(newest)
    }

    fn was_written_since(&self, moment: Timestamp, tli: Tli) -> bool {
        let mut segments = self.world.files.iter().filter(|(name, _)| matches!(name, WalName::Segment(_)));
        segments.any(|(name, since)| name.timeline().get() == tli && *since > moment)
    }

    /// Returns `true` for a timeline that was not left later on, and was written within 14 days.
    fn is_young_end(&self, archive: &Archive, tli: Tli) -> bool {
        let begin = self.world.now - DAY * 14;
        let name = WalName::History(timeline(tli));
        let is_young = self.was_written_since(begin, tli)
            || self.world.files.get(&name).is_some_and(|since| *since >= begin);
        // WAL after the last fork belongs to this timeline alone.
        let left = archive.last_left(tli);
        let behind = |number: u64| left.is_none_or(|left| number > (left - 1) / archive.segment_bytes);
        let mut own = archive.segments.range((tli, 0)..).take_while(|(of, _)| *of == tli);
        is_young && (left.is_none() || own.any(|(_, number)| behind(*number)))
    }

    /// Returns a backup that has not run for longer than the policy allows, as if it ended now.
    fn running(&self, backup: &Backup) -> Option<BaseBackup> {
        let lasts = self.world.now.duration_since(backup.began);
        let on = backup.on.filter(|_| backup.ended.is_none() && lasts < self.policy.backup_may_take)?;
        let (stop_tli, stop) = self.world.writer_before_end(on);
        // Its replay may start before the backup.
        let number = self.world.number_of(backup.is.redo);
        let home = self.world.archive(&self.world.files).home(on, number);
        let first = WalName::Segment(self.world.segment(home, number));
        let since = self.world.files.get(&first);
        // The segment being written cannot be deleted.
        let is_young = since.is_some_and(|since| *since >= backup.began);
        is_young.then_some(BaseBackup { stop, stop_tli, ..backup.is })
    }
}
