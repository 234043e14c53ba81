//! Limits for an archive, and their evaluation. Pure: takes the status, returns problems.

use jiff::{SignedDuration, Timestamp};

use super::{ArchiveStatus, Status, Unarchived};
use crate::coverage::BaseBackup;
use crate::reports::VerifyReport;
use crate::wal::WalName;

/// Limits. Each one exceeded is a problem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demands {
    /// Maximum lag of the archive.
    pub lag: Option<SignedDuration>,
    /// Maximum number of waiting files.
    pub backlog: Option<u64>,
    /// Maximum time since the end of the newest base backup.
    pub backup_age: Option<SignedDuration>,
    /// Maximum time since the end of the last prune.
    pub prune_age: Option<SignedDuration>,
    /// Maximum time since the end of the last verification.
    pub verify_age: Option<SignedDuration>,
}

/// Maintenance work that leaves a report in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// `walkeep prune`.
    Prune,
    /// `walkeep verify`.
    Verify,
}

/// A problem that somebody must act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem<'a> {
    /// Too many files wait.
    Backlog {
        /// Number of waiting files.
        files: u64,
        /// Limit.
        max: u64,
    },
    /// A running server cannot get this file archived, and so no other; files have waited since that time.
    Stuck(WalName, Timestamp),
    /// The archive has no segment, although there is a limit for its lag.
    NoSegment(SignedDuration),
    /// The archive lags too far.
    Lag {
        /// Evidence of the lag.
        by: LagBy,
        /// Lag.
        lag: SignedDuration,
        /// Limit.
        max: SignedDuration,
    },
    /// None of this number of known base backups can be recovered, although there is a limit for their age.
    NoBackup(usize, SignedDuration),
    /// The newest base backup that can be recovered is too old.
    OldBackup {
        /// The backup.
        newest: &'a BaseBackup,
        /// Time since its end.
        age: SignedDuration,
        /// Limit.
        max: SignedDuration,
    },
    /// The work has no report, although there is a limit for its age.
    Never(Chore, SignedDuration),
    /// There is a limit for the age of the work, and its report cannot be read.
    NotKnown(Chore, SignedDuration),
    /// The last work, which ended at that time, failed.
    Failed(Chore, Timestamp, Why<'a>),
    /// The last work is too old.
    LongAgo {
        /// Kind of work.
        work: Chore,
        /// End of the work.
        at: Timestamp,
        /// Time since its end.
        age: SignedDuration,
        /// Limit.
        max: SignedDuration,
    },
    /// A danger to a recovery, which is a problem without any limits.
    Danger(String),
}

/// Evidence that an archive lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LagBy {
    /// The age of its newest segment.
    Newest,
    /// A finished file that waits to be archived.
    Waiting,
    /// A finished segment that the server does not pass to `archive_command`.
    NotHandedOver(Unarchived),
}

/// Reason why the work failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why<'a> {
    /// Error in the report.
    Error(&'a str),
    /// Number of failures found.
    Found(u64),
}

/// The part of a report that limits depend on.
#[derive(Clone, Copy)]
struct Noted<'a> {
    work: Chore,
    at: Timestamp,
    ok: bool,
    why: Why<'a>,
}

impl Demands {
    /// Returns the exceeded limits and the dangers to a recovery. If the archive cannot be asked, only limits that
    /// need no archive are evaluated.
    #[must_use]
    pub fn problems<'a>(&self, status: &'a Status) -> Vec<Problem<'a>> {
        let mut problems = Vec::new();
        problems.extend(self.backlog(status));
        let stuck = status.backlog().and_then(|backlog| backlog.stuck(status.at));
        problems.extend(stuck.map(|(next, since)| Problem::Stuck(next, since)));
        problems.extend(self.lag(status));
        if let Ok(archive) = &status.archive {
            problems.extend(self.backup(status, archive));
            let prune = archive.prune.as_ref().map(|report| Noted {
                work: Chore::Prune,
                at: report.at,
                ok: report.ok,
                why: report.error.as_deref().map_or(Why::Found(0), Why::Error),
            });
            problems.extend(too_old(status, Chore::Prune, self.prune_age, prune));
            let verify = archive.verify.as_ref().map(VerifyReport::decisive).map(|report| Noted {
                work: Chore::Verify,
                at: report.at,
                ok: report.ok,
                why: match &report.error {
                    Some(error) => Why::Error(error),
                    None if report.at_work => Why::Error("no verify has come to its end yet"),
                    None => Why::Found(report.failures),
                },
            });
            problems.extend(too_old(status, Chore::Verify, self.verify_age, verify));
            let is_told = |problem: &Problem<'_>| matches!(problem, Problem::Failed(Chore::Verify, ..));
            if !problems.iter().any(is_told) {
                let found = archive.failed_verification();
                let system = status.system.map_or_else(String::new, |system| {
                    format!(": walkeep verify --system-identifier {system}")
                });
                let told = |(what, remedy)| Problem::Danger(format!("{what}; {remedy}{system}"));
                problems.extend(found.map(told));
            }
            problems.extend(archive.dangers(status.at).into_iter().map(Problem::Danger));
        }
        problems
    }

    fn backlog<'a>(&self, status: &Status) -> Option<Problem<'a>> {
        let (max, files) = (self.backlog?, status.backlog()?.files);
        (files > max).then_some(Problem::Backlog { files, max })
    }

    fn backup<'a>(&self, status: &Status, archive: &'a ArchiveStatus) -> Option<Problem<'a>> {
        let max = self.backup_age?;
        let Some(newest) = &archive.newest_backup else {
            return Some(Problem::NoBackup(archive.backups.0, max));
        };
        let age = status.age(newest.ended);
        (age > max).then_some(Problem::OldBackup { newest, age, max })
    }

    fn lag<'a>(&self, status: &Status) -> Option<Problem<'a>> {
        let (max, archive) = (self.lag?, status.archive.as_ref().ok()?);
        let Some(lag) = status.lag() else {
            return status.backlog.is_none().then_some(Problem::NoSegment(max));
        };
        let oldest_mark = status.backlog().and_then(|backlog| backlog.oldest);
        let by = match archive.unarchived {
            _ if status.backlog.is_none() => LagBy::Newest,
            // The archiver has nothing to do.
            Some(left) if oldest_mark.is_none() => LagBy::NotHandedOver(left),
            _ => LagBy::Waiting,
        };
        (lag > max).then_some(Problem::Lag { by, lag, max })
    }
}

fn too_old<'a>(
    status: &Status,
    work: Chore,
    max: Option<SignedDuration>,
    noted: Option<Noted<'a>>,
) -> Option<Problem<'a>> {
    let max = max?;
    let Some(Noted { work, at, ok, why }) = noted else {
        let is_unknown = status.archive.as_ref().is_ok_and(|archive| archive.not_known.contains(&work));
        return Some(if is_unknown { Problem::NotKnown(work, max) } else { Problem::Never(work, max) });
    };
    if !ok {
        return Some(Problem::Failed(work, at, why));
    }
    let age = status.age(at);
    (age > max).then_some(Problem::LongAgo { work, at, age, max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::reports::{PruneReport, Scope};
    use crate::status::Backlog;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn hours(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    /// Creates a status at ten o'clock.
    fn status(archive: ArchiveStatus) -> Status {
        Status { system: None, at: hours(10), backlog: None, archive: Ok(archive) }
    }

    fn pruned(at: Timestamp, error: Option<&str>) -> PruneReport {
        let error = error.map(str::to_owned);
        PruneReport { at, ok: error.is_none(), error, deleted_files: 0, deleted_bytes: 0, totals: None }
    }

    fn verified(text: &str) -> VerifyReport {
        let common = r#""deep": false, "checked_files": 1, "notes": 0"#;
        serde_json::from_str(&format!("{{{common}, {text}}}")).unwrap()
    }

    #[test]
    fn a_value_equal_to_its_limit_is_accepted() {
        let demands = Demands { prune_age: Some(HOUR), ..Demands::default() };
        let problems = |prune: Option<PruneReport>| {
            let status = status(ArchiveStatus { prune, ..ArchiveStatus::default() });
            let problems = demands.problems(&status);
            assert!(problems.len() < 2);
            problems.first().map(|problem| format!("{problem:?}"))
        };
        assert_eq!(problems(Some(pruned(hours(9), None))), None);
        assert_eq!(problems(Some(pruned(hours(11), None))), None, "a clock that is ahead");
        let late = problems(Some(pruned(hours(8), None))).unwrap();
        assert!(late.starts_with("LongAgo { work: Prune"), "{late}");
        let failed = problems(Some(pruned(hours(9), Some("no")))).unwrap();
        assert!(failed.starts_with("Failed(Prune") && failed.contains(r#"Error("no")"#), "{failed}");
        assert!(problems(None).unwrap().starts_with("Never(Prune"));
    }

    #[test]
    fn a_verification_fails_because_of_findings_or_because_it_never_ended() {
        let demands = Demands { verify_age: Some(HOUR), ..Demands::default() };
        let why = |text: &str| {
            let verify = Some(verified(&format!(r#""at": "{}", {text}"#, hours(10))));
            let status = status(ArchiveStatus { verify, ..ArchiveStatus::default() });
            match demands.problems(&status).as_slice() {
                [] => None,
                [Problem::Failed(Chore::Verify, _, why)] => Some(format!("{why:?}")),
                others => panic!("{others:?}"),
            }
        };
        assert_eq!(why(r#""ok": true, "failures": 0"#), None);
        assert_eq!(why(r#""ok": false, "failures": 3"#).unwrap(), "Found(3)");
        assert_eq!(why(r#""ok": false, "failures": 3, "error": "no""#).unwrap(), r#"Error("no")"#);
        let at_work = why(r#""ok": false, "failures": 0, "at_work": true"#).unwrap();
        assert!(at_work.contains("no verify has come to its end yet"), "{at_work}");
        let full = verified(&format!(r#""at": "{}", "ok": true, "failures": 0"#, hours(10)));
        assert_eq!(full.scope, Scope::All);
        let goes_by = serde_json::to_string(&full).unwrap();
        let at_work = format!(r#""ok": false, "failures": 0, "at_work": true, "last_full": {goes_by}"#);
        assert_eq!(why(&at_work), None, "the one before counts as long as this one is at work");
    }

    #[test]
    fn a_missing_base_backup_is_a_problem_only_with_a_limit() {
        let demands = Demands { backup_age: Some(HOUR), ..Demands::default() };
        for backups in [(0, 0), (2, 2)] {
            let status = status(ArchiveStatus { backups, ..ArchiveStatus::default() });
            assert_eq!(demands.problems(&status), [Problem::NoBackup(backups.0, HOUR)]);
            assert_eq!(Demands::default().problems(&status), []);
        }
    }

    #[test]
    fn a_lag_is_shown_by_waiting_files_or_else_by_unmarked_segments() {
        let demands = Demands { lag: Some(HOUR), backlog: Some(2), ..Demands::default() };
        let first = "000000010000000000000004".parse().unwrap();
        let left = Unarchived { first, since: hours(7), segments: 3 };
        let of = |files, oldest, unarchived| {
            let archive = ArchiveStatus { unarchived, ..ArchiveStatus::default() };
            let backlog = Backlog { files, oldest, ..Backlog::default() };
            let status = Status { backlog: Some(Ok(backlog)), ..status(archive) };
            let problems = demands.problems(&status).into_iter().map(|problem| match problem {
                Problem::Backlog { files, max } => format!("{files} of {max}"),
                Problem::Lag { by, lag, .. } => format!("{by:?} {}", lag.as_hours()),
                other => panic!("{other:?}"),
            });
            problems.collect::<Vec<_>>()
        };
        assert_eq!(of(0, None, None), Vec::<String>::new(), "an idle server does not lag");
        assert_eq!(of(2, Some(hours(9)), None), Vec::<String>::new());
        assert_eq!(of(3, Some(hours(8)), None), ["3 of 2", "Waiting 2"]);
        assert_eq!(of(1, Some(hours(9)), Some(left)), ["Waiting 3"]);
        let not_handed_over = format!("{:?} 3", LagBy::NotHandedOver(left));
        assert_eq!(of(0, None, Some(left)), [not_handed_over]);
    }

    #[test]
    fn a_stuck_file_and_what_verify_has_found_are_problems_without_any_limit() {
        let none = Demands::default();
        let next = "000000010000000000000004".parse().ok();
        let backlog = Backlog { files: 1, oldest: Some(hours(9)), next, served: true, ..Backlog::default() };
        let of = |backlog| Status { backlog: Some(Ok(backlog)), ..status(ArchiveStatus::default()) };
        assert_eq!(none.problems(&of(backlog)), [Problem::Stuck(next.unwrap(), hours(9))]);
        assert_eq!(none.problems(&of(Backlog { served: false, ..backlog })), []);
        let verify = Some(verified(&format!(r#""at": "{}", "ok": false, "failures": 2"#, hours(9))));
        let status = status(ArchiveStatus { verify, ..ArchiveStatus::default() });
        let [Problem::Danger(what)] = &none.problems(&status)[..] else { panic!("one danger") };
        assert!(
            what.contains("found 2 failures") && what.contains("a verify of this system says which"),
            "{what}"
        );
        let limited = Demands { verify_age: Some(HOUR), ..none };
        assert!(
            matches!(limited.problems(&status)[..], [Problem::Failed(Chore::Verify, ..)]),
            "and not twice"
        );
    }

    #[test]
    fn without_an_archive_only_the_backlog_is_evaluated() {
        let archive = Err(Error::new(ErrorKind::Unavailable, "no"));
        let backlog = Some(Ok(Backlog { files: 3, oldest: Some(hours(1)), ..Backlog::default() }));
        let status = Status { system: None, at: hours(10), backlog, archive };
        let all = Some(HOUR);
        let demands =
            Demands { lag: all, backlog: Some(2), backup_age: all, prune_age: all, verify_age: all };
        assert_eq!(demands.problems(&status), [Problem::Backlog { files: 3, max: 2 }]);
        let empty = self::status(ArchiveStatus::default());
        let demands = Demands { lag: all, ..Demands::default() };
        assert_eq!(demands.problems(&empty), [Problem::NoSegment(HOUR)]);
    }
}
