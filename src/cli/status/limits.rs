//! Limits on the command line, and messages about exceeded ones.

use clap::Args;
use jiff::SignedDuration;

use crate::cli::print::{count, duration, plain, time};
use crate::config::LongTime;
use crate::status::{Chore, Demands, LagBy, Problem, Unarchived, Why};
use crate::wal::WalName;

/// Limits. Each one exceeded is a problem.
#[derive(Debug, Args)]
pub(super) struct Limits {
    /// Fail if a finished file has waited for archiving longer than this, such as 30m or 2h
    ///
    /// Without --pgdata, fails if the newest segment is older. Then archive_timeout must be set. An idle server still
    /// raises an alarm, because it ends no segment, so give --pgdata if you can.
    #[arg(long = "max-lag", value_name = "DURATION", value_parser = whole_duration)]
    lag: Option<SignedDuration>,

    /// Fail if more than N files wait to be archived
    #[arg(long = "max-backlog", value_name = "N", requires = "pgdata", conflicts_with = "wanted")]
    backlog: Option<u64>,

    /// Fail if the newest base backup whose first segment still exists ended longer ago, such as 2d, or none is known
    #[arg(long = "max-backup-age", value_name = "DURATION", value_parser = whole_duration)]
    backup_age: Option<SignedDuration>,

    /// Fail if the last prune is longer ago, such as 2d, or failed
    #[arg(long = "max-prune-age", value_name = "DURATION", value_parser = whole_duration)]
    prune_age: Option<SignedDuration>,

    /// Fail if the last verify is longer ago, such as 8d, or failed
    #[arg(long = "max-verify-age", value_name = "DURATION", value_parser = whole_duration)]
    verify_age: Option<SignedDuration>,
}

/// Parses `30m`, `2h`, `1d 12h`; a day has 24 hours.
fn whole_duration(text: &str) -> Result<SignedDuration, String> {
    text.parse::<LongTime>().map(|time| time.0)
}

impl Limits {
    pub(super) fn demands(&self) -> Demands {
        let Self { lag, backlog, backup_age, prune_age, verify_age } = *self;
        Demands { lag, backlog, backup_age, prune_age, verify_age }
    }
}

/// Formats a problem as a sentence that names its flag. `command` returns what shows why a file is not archived.
pub(super) fn render(problem: &Problem<'_>, command: impl Fn(WalName) -> String) -> String {
    const REMEDY: &str = "take one, such as with pg_basebackup";
    let flag = |what: &str, max: SignedDuration| format!("--max-{what} {}", duration(max));
    match problem {
        Problem::Backlog { files, max } => {
            format!("{} waiting to be archived, more than --max-backlog {max}", number(*files, "file"))
        }
        Problem::Stuck(next, since) => format!(
            "files have waited to be archived since {}, and {next} holds up the others: the server's disk fills; to see why, type as \
             the server's user: {}",
            time(*since),
            command(*next)
        ),
        Problem::NoSegment(max) => format!("there is no segment in the archive ({})", flag("lag", *max)),
        Problem::Lag { by, lag, max } => lagging(*by, &duration(*lag), &flag("lag", *max)),
        Problem::NoBackup(0, max) => {
            format!("no base backup is known ({}); {REMEDY}", flag("backup-age", *max))
        }
        Problem::NoBackup(known, max) => {
            let (known, flag) = (count(*known, "base backup"), flag("backup-age", *max));
            format!("of {known} known, the first segment is missing ({flag}); {REMEDY}")
        }
        Problem::OldBackup { newest, age, max } => {
            let (title, ended) = (plain(&newest.title()), time(newest.ended));
            let (age, flag) = (duration(*age), flag("backup-age", *max));
            format!(
                "the newest base backup, {title}, ended at {ended}, {age} ago, longer than {flag}; {REMEDY}"
            )
        }
        Problem::Never(work, max) => {
            let work = name(*work);
            format!("no {work} is known of ({})", flag(&format!("{work}-age"), *max))
        }
        Problem::NotKnown(work, max) => {
            let work = name(*work);
            let flag = flag(&format!("{work}-age"), *max);
            format!("the last {work} is not known, because its report cannot be read ({flag})")
        }
        Problem::Failed(work, at, why) => {
            let why = match why {
                Why::Error(error) => plain(error),
                Why::Found(failures) => format!("{} found", number(*failures, "failure")),
            };
            format!("the last {}, at {}, failed: {why}", name(*work), time(*at))
        }
        Problem::LongAgo { work, at, age, max } => {
            let work = name(*work);
            let (at, age, flag) = (time(*at), duration(*age), flag(&format!("{work}-age"), *max));
            format!("the last {work}, at {at}, was {age} ago, longer than {flag}")
        }
        Problem::Danger(what) => what.clone(),
    }
}

fn lagging(by: LagBy, ago: &str, flag: &str) -> String {
    match by {
        LagBy::Newest => format!("the newest segment was archived {ago} ago, which is longer than {flag}"),
        LagBy::Waiting => {
            format!("a finished file has been waiting to be archived for {ago}, longer than {flag}")
        }
        LagBy::NotHandedOver(Unarchived { first, .. }) => format!(
            "{first} was finished {ago} ago and is not in the archive, although nothing waits to be archived, longer than \
             {flag}; does the server archive, and into this archive?"
        ),
    }
}

fn name(work: Chore) -> &'static str {
    match work {
        Chore::Prune => "prune",
        Chore::Verify => "verify",
    }
}

fn number(number: u64, what: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), what)
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
