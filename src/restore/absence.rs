//! Meaning of a file that the archive does not have.
//!
//! "Not found" ends a recovery, so it must be certain. A fresh lookup must show that the archive is available and
//! contains files of this cluster. A missing segment must be the end of the WAL and no gap. [`crate::coverage`]
//! decides; this module collects the facts, cheapest first, and words the result.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::RestoreRequest;
use super::astray::astray;
use super::backups::traces;
use super::words::{end_of_wal, gap, holds_no_segment, no_backup_without};
use crate::archive::{Archive, Surroundings};
use crate::archived_file::{read_text, size_and_time_of};
use crate::blocking::blocking;
use crate::cluster::{RecoveryMode, TargetTimeline, breaks_off, held_after, histories, holds_segment};
use crate::coverage::{Absence, BackupTrace, Evidence, MissingSegment, Way};
use crate::error::{Error, ErrorKind};
use crate::frame::MAX_TEXT_BYTES;
use crate::wal::{
    BackupLabel, SegmentName, SegmentSize, SystemIdentifier, TimelineHistory, TimelineId, WalName,
};
use crate::whole_file::{directory_of, read_regular};

/// Time after the arrival of a later segment during which a missing one may still arrive. A push archives several files
/// concurrently and publishes each when it is ready; a file that failed is retried by its own call.
const SETTLING: Duration = Duration::from_mins(1);

/// Result of the lookup.
pub(super) enum Answer {
    /// The file has arrived since.
    IsThere,
    /// A later segment has just arrived, so the missing one may follow within that time.
    Settling(Duration, Error),
    /// The error with which the restore ends.
    Final(Error),
}

/// Determines why the archive does not have the file. `absent` is the archive's answer.
pub(super) async fn explain(
    archive: &Archive,
    system: SystemIdentifier,
    request: &RestoreRequest,
    absent: Error,
) -> Result<Answer, Error> {
    let explained = match request.name {
        WalName::Segment(segment) => explain_segment(archive, system, request, segment, absent).await,
        WalName::History(timeline) if request.mode == RecoveryMode::Recovery => {
            explain_history(archive, system, timeline, absent).await
        }
        _ => archive.confirm_holds(system).await.map(|()| Answer::Final(absent)),
    };
    match explained {
        Err(error) if error.kind() == ErrorKind::Empty && request.accept_empty => {
            tracing::warn!("{}; going on, as --accept-empty says", error.report());
            Ok(Answer::Final(error.of_kind(ErrorKind::Absent)))
        }
        Err(error) if error.kind() == ErrorKind::Empty => Ok(Answer::Final(error.hint(
            "is it mounted, and is its address right? To recover from a base backup alone, while its cluster has archived \
             nothing yet, give walkeep-restore --accept-empty; require_mount keeps pushes out of an empty mount point",
        ))),
        // This is about another file, deleted since it was listed: `Answer::Final` reports the requested one.
        Err(error) if error.kind() == ErrorKind::Absent => Err(error.of_kind(ErrorKind::Unavailable)),
        explained => explained,
    }
}

/// Explains a missing history file in recovery. If its timeline has segments, the file was lost. That is an error: the
/// server would take the number for unused, and choose the timeline a second time.
///
/// Not called for a standby, which asks again, and which is promoted whatever the answer.
async fn explain_history(
    archive: &Archive,
    system: SystemIdentifier,
    timeline: TimelineId,
    absent: Error,
) -> Result<Answer, Error> {
    let Some(segment) = archive.lowest_segment(system, timeline).await? else {
        return archive.confirm_holds(system).await.map(|()| Answer::Final(absent));
    };
    let name = WalName::History(timeline);
    let what = format!(
        "{name} is missing in the archive {}, which holds {segment} of that timeline: it was lost, or never archived",
        archive.url()
    );
    Ok(Answer::Final(Error::new(ErrorKind::Gap, what).hint(format!(
        "recovery must not take timeline {timeline} for a new one: put the file back, with walkeep-archive or walkeep backfill \
         from the pg_wal of a server that has been on that timeline"
    ))))
}

async fn explain_segment(
    archive: &Archive,
    system: SystemIdentifier,
    request: &RestoreRequest,
    segment: SegmentName,
    absent: Error,
) -> Result<Answer, Error> {
    let around = archive.surroundings(system, segment).await?;
    if around.is_there {
        return Ok(Answer::IsThere);
    }
    let own = {
        let (request, later_is_archived) = (request.clone(), around.later.is_some());
        blocking(move || OwnFacts::gather(&request, system, segment, later_is_archived)).await
    };
    if own.has_segment {
        log_in_recovery(&own, &format!("{}; the server has it in its own pg_wal", absent.report()));
        return Ok(Answer::Final(absent));
    }
    let mut known = Known::gather(archive, system, request, segment, &around, own).await?;
    let mut absence = known.judge(segment, &around);
    // A standby asks again, whatever the answer: it costs a store no request.
    if absence == Absence::End && (request.mode == RecoveryMode::Recovery || !archive.is_store()) {
        known.add_backups(archive, system, segment).await?;
        absence = known.judge(segment, &around);
    }
    let starts_here = known.begins_with(segment);
    let evidence = match absence {
        _ if starts_here && !request.accept_gaps.contains(&segment) => {
            return Ok(Answer::Final(no_backup_without(archive, segment, known.lowest)));
        }
        Absence::End if !around.any_segment => return Err(holds_no_segment(archive, system)),
        Absence::End | Absence::Outside => {
            if request.mode == RecoveryMode::Recovery
                && let (Some(size), Some(history)) = (known.size, known.own.history(segment.timeline()))
                && let Some(warning) = astray(archive, system, segment, size, history).await?
            {
                tracing::warn!("{warning}");
            }
            log_in_recovery(&known.own, &end_of_wal(archive, &absent, absence, segment, around.partial));
            return Ok(Answer::Final(absent));
        }
        Absence::Gap(_) if request.accept_gaps.contains(&segment) => {
            tracing::warn!("{}; recovery ends there, as --accept-gap says", absent.report());
            return Ok(Answer::Final(absent));
        }
        Absence::Gap(evidence) => evidence,
    };
    let gap = gap(archive, segment, evidence, known.lowest, around.partial);
    let since = match evidence {
        Evidence::Later(_) => around.later.map(|(_, since)| since),
        // The server archives the file right after the segment in which the backup began.
        Evidence::Backup { file, .. } => {
            let proves = |trace: &BackupTrace| trace.proves_by_name(segment) || trace.name() == file;
            known.backups.iter().filter(|(trace, _)| proves(trace)).map(|(_, since)| *since).min()
        }
        Evidence::Own(_) | Evidence::History { .. } => None,
    };
    let now = at_the_store(Timestamp::now(), archive.clock_ahead());
    let settling = since.map_or(Duration::ZERO, |since| settling(now.duration_since(since)));
    Ok(if settling.is_zero() { Answer::Final(gap) } else { Answer::Settling(settling, gap) })
}

/// Returns the time by the store's clock, and by this machine's if no clock can be so far ahead.
fn at_the_store(now: Timestamp, ahead: Option<SignedDuration>) -> Timestamp {
    ahead.and_then(|ahead| now.checked_add(ahead).ok()).unwrap_or(now)
}

/// Returns the time for which the missing segment may still arrive, if a later one arrived `age` ago.
fn settling(age: SignedDuration) -> Duration {
    // A time in the future is an unknown age.
    SETTLING.saturating_sub(Duration::try_from(age).unwrap_or_default())
}

/// Facts known from the server's files.
#[derive(Debug, Default)]
struct OwnFacts {
    /// `true` if the server asks again, whatever the answer.
    is_standby: bool,
    /// `true` if its own `pg_wal` has the segment. If a later segment is archived, it must be complete.
    has_segment: bool,
    /// Lowest later segment of the timeline in its own `pg_wal`.
    later: Option<SegmentName>,
    size: Option<SegmentSize>,
    histories: Vec<(TimelineId, TimelineHistory)>,
    target: Option<TargetTimeline>,
    /// Label of the base backup being recovered, until the server has found its start.
    backup: Option<BackupLabel>,
}

impl OwnFacts {
    /// Reads the facts; empty outside a data directory.
    fn gather(
        request: &RestoreRequest,
        system: SystemIdentifier,
        segment: SegmentName,
        later_is_archived: bool,
    ) -> Self {
        let data = request.caller.data();
        if !matches!(data.system_identifier(), Ok(Some(own)) if own == system) {
            return Self::default();
        }
        let wal = directory_of(&request.path).to_owned();
        let label = read_regular(&data.path().join("backup_label"), MAX_TEXT_BYTES).ok();
        Self {
            is_standby: data.recovery_mode() == RecoveryMode::Standby,
            has_segment: holds_segment(&wal, system, segment)
                && !(later_is_archived && breaks_off(&wal, segment)),
            later: held_after(&wal, system, segment),
            size: data.segment_size(),
            histories: histories(&wal),
            target: data.target_timeline(),
            backup: label.and_then(|label| BackupLabel::parse(&label).ok()),
        }
    }

    fn history(&self, timeline: TimelineId) -> Option<&TimelineHistory> {
        self.histories.iter().find(|(of, _)| *of == timeline).map(|(_, history)| history)
    }

    /// Returns the path of the recovery from `timeline` on. `pg_wal` contains the history files on the path to the
    /// target, and those of other timelines that the server has examined.
    fn way(&self, timeline: TimelineId) -> Way<'_> {
        let highest = || self.histories.iter().rfind(|(_, history)| history.left(timeline).is_some());
        match self.target {
            Some(TargetTimeline::Number(target)) if target != timeline => match self.history(target) {
                Some(history) if history.left(timeline).is_some() => Way::To(target, history),
                _ => Way::Unknown,
            },
            Some(TargetTimeline::Number(_) | TargetTimeline::Current) => Way::On,
            latest => match (highest(), latest) {
                (Some((target, history)), _) => Way::To(*target, history),
                (None, Some(_)) => Way::On,
                (None, None) => Way::Unknown,
            },
        }
    }
}

/// All facts for the decision.
struct Known {
    own: OwnFacts,
    /// Segment size; `None` outside a data directory if the timeline has no archived segment.
    size: Option<SegmentSize>,
    /// History of the segment's timeline.
    history: Option<TimelineHistory>,
    /// Archived histories of higher timelines, if the target is unknown.
    higher: Vec<(TimelineId, TimelineHistory)>,
    /// Lowest archived segment of the timeline, if it has a later one than the missing one.
    lowest: Option<SegmentName>,
    /// Archived traces of base backups of the timeline, with their times of archiving, if nothing else proves a gap.
    backups: Vec<(BackupTrace, Timestamp)>,
}

impl Known {
    async fn gather(
        archive: &Archive,
        system: SystemIdentifier,
        request: &RestoreRequest,
        segment: SegmentName,
        around: &Surroundings,
        own: OwnFacts,
    ) -> Result<Self, Error> {
        let timeline = segment.timeline();
        // The header of any segment of the timeline states it.
        let size = match own.size {
            Some(size) => Some(size),
            None => match archive.lowest_segment(system, timeline).await? {
                Some(lowest) => Some(size_and_time_of(archive, system, WalName::Segment(lowest)).await?.0),
                None => None,
            },
        };
        let (mut history, mut lowest) = (own.history(timeline).cloned(), None);
        if around.later.or(own.later.map(|later| (later, Timestamp::MAX))).is_some() {
            if history.is_none() && timeline != TimelineId::FIRST {
                history = read_history(archive, system, timeline).await?;
            }
            lowest = archive.lowest_segment(system, timeline).await?;
        }
        let branches_decide =
            around.later.is_none() && own.later.is_none() && !matches!(own.way(timeline), Way::To(..));
        let has_branches = branches_decide
            && (around.higher_timelines
                || !archive.is_store()
                // A standby asks again, whatever the answer.
                || request.mode == RecoveryMode::Recovery
                    && has_next_timeline(archive, system, timeline).await?);
        let higher = if has_branches { higher(archive, system, timeline).await? } else { Vec::new() };
        Ok(Self { own, size, history, higher, lowest, backups: Vec::new() })
    }

    /// Adds what base backups prove, and where the timeline began if they may prove anything.
    async fn add_backups(
        &mut self,
        archive: &Archive,
        system: SystemIdentifier,
        segment: SegmentName,
    ) -> Result<(), Error> {
        self.backups = traces(archive, system, segment).await?;
        let timeline = segment.timeline();
        if !self.backups.is_empty() && self.history.is_none() && timeline != TimelineId::FIRST {
            self.history = read_history(archive, system, timeline).await?;
        }
        Ok(())
    }

    fn judge(&self, segment: SegmentName, around: &Surroundings) -> Absence {
        let Some(size) = self.size else {
            // No position is known as a number, but names can be compared.
            let by_name = self.backups.iter().rev().find(|(trace, _)| trace.proves_by_name(segment));
            return by_name.map_or(Absence::End, |(trace, _)| {
                Absence::Gap(Evidence::Backup { file: trace.name(), last: trace.segment })
            });
        };
        let backups: Vec<BackupTrace> = self.backups.iter().map(|(trace, _)| *trace).collect();
        let higher = self.higher.iter().map(|(timeline, history)| (*timeline, history));
        let missing = MissingSegment {
            name: segment,
            size,
            later: around.later.map(|(later, _)| later),
            lowest: self.lowest,
            history: self.history.as_ref(),
            own_later: self.own.later,
            way: self.own.way(segment.timeline()),
            higher: higher.collect(),
            backups: &backups,
        };
        missing.judge()
    }

    /// Returns `true` if the base backup being recovered starts with the segment.
    fn begins_with(&self, segment: SegmentName) -> bool {
        match (&self.own.backup, self.size) {
            (Some(label), Some(size)) => label.begins_with(segment, size),
            (label, _) => label.as_ref().is_some_and(|label| label.start_segment == segment),
        }
    }
}

/// Returns `true` if the next timeline has a history file. A server gives a new timeline the next unused number, so
/// the end of an ordinary recovery needs no listing of history files.
async fn has_next_timeline(
    archive: &Archive,
    system: SystemIdentifier,
    timeline: TimelineId,
) -> Result<bool, Error> {
    match timeline.get().checked_add(1).and_then(TimelineId::new) {
        Some(next) => Ok(read_history(archive, system, next).await?.is_some()),
        None => Ok(false),
    }
}

/// Reads the history files of the timelines above this one.
async fn higher(
    archive: &Archive,
    system: SystemIdentifier,
    timeline: TimelineId,
) -> Result<Vec<(TimelineId, TimelineHistory)>, Error> {
    let mut histories = Vec::new();
    for of in archive.timelines(system).await? {
        if of > timeline
            && let Some(history) = read_history(archive, system, of).await?
        {
            histories.push((of, history));
        }
    }
    Ok(histories)
}

async fn read_history(
    archive: &Archive,
    system: SystemIdentifier,
    timeline: TimelineId,
) -> Result<Option<TimelineHistory>, Error> {
    match read_text(archive, system, WalName::History(timeline)).await {
        // A decoded text file was parsed before it was archived.
        Ok((_, content)) => Ok(TimelineHistory::parse(timeline, &content).ok()),
        Err(error) if error.kind() == ErrorKind::Absent => Ok(None),
        Err(error) => Err(error),
    }
}

/// Logs the decision in recovery, where it matters. On a standby it is routine.
fn log_in_recovery(own: &OwnFacts, text: &str) {
    if !own.is_standby {
        tracing::info!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_whose_clock_shows_the_end_of_time_is_not_believed() {
        let now = Timestamp::UNIX_EPOCH;
        let minute = SignedDuration::from_mins(1);
        assert_eq!(at_the_store(now, Some(minute)).as_second(), 60);
        assert_eq!(at_the_store(now, None), now);
        for ahead in [SignedDuration::MAX, SignedDuration::MIN] {
            assert_eq!(at_the_store(now, Some(ahead)), now);
        }
        assert_eq!(at_the_store(Timestamp::MAX, Some(minute)), Timestamp::MAX);
    }

    #[test]
    fn a_later_segment_that_just_arrived_gives_the_missing_one_time() {
        let age = SignedDuration::from_secs;
        assert_eq!(settling(age(0)), SETTLING);
        assert_eq!(settling(age(59)), Duration::from_secs(1));
        assert_eq!(settling(age(60)), Duration::ZERO);
        assert_eq!(settling(age(9_999)), Duration::ZERO);
        assert_eq!(settling(age(-9_999)), SETTLING, "a clock that is ahead");
    }
}
