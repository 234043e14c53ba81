//! Checks what the server says about its calls of `archive_command`.
//!
//! A file that cannot be archived holds up all others, but look-ahead archives them all the same: that a new segment arrives
//! does not prove that the server's own calls succeed.

use std::time::{Duration, Instant};

use super::CheckFinding;
use super::shell::Shell;
use crate::blocking::blocking;
use crate::limit::TimeLimit;
use crate::server::{Archiver, Server};
use crate::wal::WalName;

/// Interval between questions.
const PAUSE: Duration = Duration::from_millis(200);

/// Time within which a server counts a call that has just ended: versions up to 14 send it to another process first.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the server, until its last call has succeeded or the patience ends.
pub(super) async fn check(
    server: Server,
    command: Option<&str>,
    shell: &Shell,
    limit: &TimeLimit,
) -> CheckFinding {
    let started = Instant::now();
    loop {
        let asked = server.clone();
        let found = match blocking(move || asked.archiver()).await {
            Ok(found) => found,
            Err(error) => {
                return CheckFinding::failed("archiver", &error)
                    .by_typing("to ask it", shell.psql(&[STATISTICS]));
            }
        };
        if !found.fails || started.elapsed() > PATIENCE || limit.left() < PAUSE * 5 {
            return judge(&found, command, shell);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks for what the server says of its calls.
pub(super) const STATISTICS: &str = "select * from pg_stat_archiver";

fn judge(found: &Archiver, command: Option<&str>, shell: &Shell) -> CheckFinding {
    let name = "archiver";
    let Archiver { failures, fails, last_failed: (file, at) } = found;
    let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times") };
    if *fails {
        let what = format!(
            "the server's last call of archive_command failed, for {file} at {at}; it has failed {times}, and nothing else is \
             handed over before that file is archived"
        );
        let open = CheckFinding::fail(name, what);
        return match file.parse::<WalName>() {
            Ok(file) => {
                open.by_typing("the server's log says why; to see it here", shell.archive(command, file))
            }
            Err(_) => open.by_typing("the server's log says why", shell.psql(&[STATISTICS])),
        };
    }
    CheckFinding::pass(
        name,
        match failures {
            0 => "no call of archive_command has failed since the server's statistics began".to_owned(),
            _ => {
                format!("archive_command has failed {times}, at last for {file} at {at}, and succeeded since")
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    #[test]
    fn a_call_that_failed_last_is_a_failure_and_older_ones_are_told() {
        let last_failed = ("000000010000000000000003".to_owned(), "2026-01-02T03:04:05Z".to_owned());
        let of = |failures, fails| {
            judge(
                &Archiver { failures, fails, last_failed: last_failed.clone() },
                Some("archive %p"),
                &Shell::of_test(),
            )
        };
        let stuck = of(7, true);
        assert_eq!(stuck.outcome, Outcome::Fail);
        for word in ["000000010000000000000003", "2026-01-02T03:04:05Z", "7 times"] {
            assert!(stuck.detail.contains(word), "{stuck:?}");
        }
        assert!(stuck.command.unwrap().ends_with("'cd /data && archive pg_wal/000000010000000000000003'"));
        let before = of(1, false);
        assert!(before.outcome == Outcome::Pass && before.detail.contains("failed once"), "{before:?}");
        assert!(judge(&Archiver::default(), None, &Shell::of_test()).detail.starts_with("no call"));
    }
}
