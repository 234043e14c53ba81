//! Checks the version of a data directory.

use super::CheckFinding;
use super::shell::Shell;
use crate::cluster::DataDirectory;

/// First version whose names walkeep knows: `pg_wal` was `pg_xlog` before.
const OLDEST: u32 = 10;

/// Newest version that was looked at.
const NEWEST: u32 = 19;

/// Reports on the version; `None` if there is no data directory. May block.
pub(super) fn check(data: &DataDirectory, shell: &Shell) -> Option<CheckFinding> {
    data.system_identifier().ok().flatten()?;
    Some(judge(data.version().as_deref(), shell, || shell.head(&data.path().join("PG_VERSION"))))
}

fn judge(version: Option<&str>, shell: &Shell, look: impl Fn() -> String) -> CheckFinding {
    let name = "version";
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match (version, major) {
        (Some(version), Some(..OLDEST)) => CheckFinding::fail(
            name,
            format!("it is a directory of PostgreSQL {version}; walkeep needs 10 or later"),
        )
        .advice("upgrade the server, or give the directory of the newer one"),
        (Some(version), Some(OLDEST..=NEWEST)) => {
            CheckFinding::pass(name, format!("it is a directory of PostgreSQL {version}"))
        }
        (Some(version), Some(_)) => {
            let what = format!(
                "it is a directory of PostgreSQL {version}, which is newer than those that walkeep was tried with"
            );
            CheckFinding::note(name, what)
                .by_typing("a segment that the server ends shows whether it works", shell.check_with_server())
        }
        (..) => {
            let what = "PG_VERSION is missing or names no version: which files select recovery is not known";
            CheckFinding::note(name, what).by_typing("no server starts there; to see it", look())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    #[test]
    fn versions_before_10_fail_and_those_of_the_future_are_noted() {
        use Outcome::{Fail, Note, Pass};
        for (version, outcome) in [
            (Some("9.6"), Fail),
            (Some("9"), Fail),
            (Some("10"), Pass),
            (Some("19"), Pass),
            (Some("20"), Note),
            (Some("4294967295"), Note),
            (Some("4294967296"), Note),
            (Some("x"), Note),
            (None, Note),
        ] {
            let finding = judge(version, &Shell::of_test(), || "head PG_VERSION".to_owned());
            assert_eq!(finding.outcome, outcome, "{version:?}: {finding:?}");
            assert_eq!(finding.hint.is_some(), outcome != Pass, "{version:?}");
        }
    }
}
