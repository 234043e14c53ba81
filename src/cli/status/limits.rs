//! What is demanded of an archive, and what does not meet it.

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::dangers;
use crate::catalog::VerifyReport;
use crate::cli::print::{count, duration, plain, time};
use crate::config::LongTime;
use crate::status::{ArchiveStatus, Status};

/// The demands. Whatever does not meet them is a problem.
#[derive(Debug, Args)]
pub(super) struct Limits {
    /// Fail if the archive lags behind by more than that, such as 30m or 2h. With --pgdata: if a finished file has been
    /// waiting for longer; a server that is idle does not lag. Without: if the newest segment is older; archive_timeout
    /// must be set then, and an idle server alarms all the same, because it ends no segment, so --pgdata is the better way
    #[arg(long = "max-lag", value_name = "DURATION", value_parser = whole_duration)]
    lag: Option<SignedDuration>,

    /// Fail if more files than that wait to be archived
    #[arg(long = "max-backlog", value_name = "N", requires = "pgdata")]
    backlog: Option<u64>,

    /// Fail if the newest base backup ended longer ago, such as 2d, or if none is known whose first segment is still there
    #[arg(long = "max-backup-age", value_name = "DURATION", value_parser = whole_duration)]
    backup_age: Option<SignedDuration>,

    /// Fail if the last prune is longer ago, such as 2d, or failed
    #[arg(long = "max-prune-age", value_name = "DURATION", value_parser = whole_duration)]
    prune_age: Option<SignedDuration>,

    /// Fail if the last verify is longer ago, such as 8d, or failed
    #[arg(long = "max-verify-age", value_name = "DURATION", value_parser = whole_duration)]
    verify_age: Option<SignedDuration>,
}

/// Reads `30m`, `2h`, `1d 12h`; a day has 24 hours.
fn whole_duration(text: &str) -> Result<SignedDuration, String> {
    text.parse::<LongTime>().map(|time| time.0)
}

/// What a report says that matters here.
struct Noted<'a> {
    at: Timestamp,
    ok: bool,
    error: Option<&'a str>,
    failures: u64,
}

impl Limits {
    /// What does not meet the demands, each in a sentence that names its flag, and what endangers a recovery. Of an archive that cannot be asked, only what is
    /// known without it.
    pub(super) fn problems(&self, status: &Status) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.backlog(status));
        problems.extend(self.lag(status));
        if let Ok(archive) = &status.archive {
            let prune = archive.prune.as_ref().map(|report| Noted {
                at: report.at,
                ok: report.ok,
                error: report.error.as_deref(),
                failures: 0,
            });
            problems.extend(self.backup(status, archive));
            problems.extend(too_old(status, "prune", self.prune_age, prune));
            let verify = archive.verify.as_ref().map(VerifyReport::to_go_by).map(|report| Noted {
                at: report.at,
                ok: report.ok,
                error: report
                    .error
                    .as_deref()
                    .or(report.at_work.then_some("no verify has come to its end yet")),
                failures: report.failures,
            });
            problems.extend(too_old(status, "verify", self.verify_age, verify));
            problems.extend(dangers::problems(status.at, archive));
        }
        problems
    }

    fn backlog(&self, status: &Status) -> Option<String> {
        let (max, backlog) = (self.backlog?, status.backlog()?);
        let files = count(usize::try_from(backlog.files).unwrap_or(usize::MAX), "file");
        (backlog.files > max)
            .then(|| format!("{files} waiting to be archived, more than --max-backlog {max}"))
    }

    fn backup(&self, status: &Status, archive: &ArchiveStatus) -> Option<String> {
        let max = self.backup_age?;
        let flag = format!("--max-backup-age {}", duration(max));
        let remedy = "take one, such as with pg_basebackup";
        let Some(newest) = &archive.newest_backup else {
            return Some(match archive.backups {
                (0, _) => format!("no base backup is known ({flag}); {remedy}"),
                (known, _) => {
                    let known = count(known, "base backup");
                    format!("of {known} known, the first segment is missing ({flag}); {remedy}")
                }
            });
        };
        let (age, ended, title) = (status.age(newest.ended), time(newest.ended), plain(&newest.title()));
        (age > max).then(|| {
            let age = duration(age);
            format!(
                "the newest base backup, {title}, ended at {ended}, {age} ago, longer than {flag}; {remedy}"
            )
        })
    }

    fn lag(&self, status: &Status) -> Option<String> {
        let (max, archive) = (self.lag?, status.archive.as_ref().ok()?);
        let flag = format!("--max-lag {}", duration(max));
        let Some(lag) = status.lag() else {
            return status.backlog.is_none().then(|| format!("there is no segment in the archive ({flag})"));
        };
        if lag <= max {
            return None;
        }
        let ago = duration(lag);
        if status.backlog.is_none() {
            return Some(format!("the newest segment was archived {ago} ago, which is longer than {flag}"));
        }
        let oldest_mark = status.backlog().and_then(|backlog| backlog.oldest);
        Some(match archive.unarchived {
            // Nothing that the archiver would be at work on.
            Some(left) if oldest_mark.is_none() => format!(
                "{} was finished {ago} ago and is not in the archive, although nothing waits to be archived, longer than \
                 {flag}; does the server archive, and into this archive?",
                left.first
            ),
            _ => format!("a finished file has been waiting to be archived for {ago}, longer than {flag}"),
        })
    }
}

fn too_old(
    status: &Status,
    work: &str,
    max: Option<SignedDuration>,
    noted: Option<Noted<'_>>,
) -> Option<String> {
    let max = max?;
    let flag = format!("--max-{work}-age {}", duration(max));
    let Some(noted) = noted else { return Some(format!("no {work} is known of ({flag})")) };
    let (age, at) = (status.age(noted.at), time(noted.at));
    if !noted.ok {
        let why = noted.error.map_or_else(|| format!("{} found", count_of(noted.failures)), plain);
        return Some(format!("the last {work}, at {at}, failed: {why}"));
    }
    (age > max).then(|| format!("the last {work}, at {at}, was {} ago, longer than {flag}", duration(age)))
}

fn count_of(failures: u64) -> String {
    count(usize::try_from(failures).unwrap_or(usize::MAX), "failure")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_days_and_without_signs() {
        let hours = |text: &str| whole_duration(text).map(|duration| duration.as_secs() / 3600);
        assert_eq!(
            [hours("2h"), hours("2d"), hours("1d 12h"), hours("90m"), hours("0s")].map(Result::unwrap),
            [2, 48, 36, 1, 0]
        );
        for wrong in ["", "2", "-2h", "2h ago", "soon", "1mo", "1y"] {
            assert!(whole_duration(wrong).is_err(), "{wrong}");
        }
    }
}
