//! Checks for whom the other checks speak, and whether that user can keep a spool.

use std::path::Path;

use nix::unistd::{Uid, User};

use super::CheckFinding;
use super::shell::Shell;
use crate::denied::name_of;
use crate::spool::{Spool, SpoolState};

/// Reports whether this process runs as the user of the server, `server`, who owns its data directory.
pub(super) fn check(own: u32, server: Option<u32>, shell: &Shell) -> Option<CheckFinding> {
    let name = "user";
    let mine = name_of(own);
    Some(match server {
        Some(server) if server == own => {
            CheckFinding::pass(name, format!("this runs as {mine}, as the server does"))
        }
        Some(server) => {
            let servers = name_of(server);
            let what = format!("this runs as {mine} and the server as {servers}, who may have other rights");
            CheckFinding::note(name, what).by_typing(
                "run it as the server's user",
                Shell { user: Some(for_sudo(server)), ..shell.clone() }.walkeep("check", &shell.pgdata()),
            )
        }
        None if own == 0 => {
            let what = "this runs as root, to whom no permission is denied; whether the server's user may write is not known";
            CheckFinding::note(name, what).by_typing(
                "give --pgdata, or run it as the server's user",
                Shell { user: Some("postgres".to_owned()), ..shell.clone() }.walkeep("check", ""),
            )
        }
        None => return None,
    })
}

/// Returns a user as sudo takes it: by name, or else by number.
pub(super) fn for_sudo(user: u32) -> String {
    let known = User::from_uid(Uid::from_raw(user)).ok().flatten();
    known.map_or_else(|| format!("'#{user}'"), |known| known.name)
}

/// Reports whether look-ahead and prefetching work for `user`, who keeps spools in `base`.
pub(super) fn look_ahead(base: &Path, looks_ahead: bool, user: u32, shell: &Shell) -> CheckFinding {
    let name = "look_ahead";
    let of_user = Spool::default_base_of(user);
    let base = if base == Spool::default_base() { &of_user } else { base };
    match SpoolState::of(base, user) {
        _ if !looks_ahead => {
            CheckFinding::pass(name, "look_ahead_files is 0: each call archives one file, and nothing else")
        }
        SpoolState::Usable => {
            CheckFinding::pass(name, format!("look-ahead and prefetching work, with their notes in {}", base.display()))
        }
        SpoolState::Missing => {
            let base = base.display();
            CheckFinding::pass(name, format!("look-ahead and prefetching will work; the first call makes {base}"))
        }
        SpoolState::Unusable(why) => {
            CheckFinding::note(name, format!("look-ahead and prefetching do not work: {why}")).by_typing(
                "until then each call archives or restores one file alone, which takes several times as long; remove that \
                 directory, or name another one (spool = \"/var/lib/postgresql/walkeep\"); to see what is there",
                shell.ls(base),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    #[test]
    fn a_check_by_another_user_than_the_servers_says_so() {
        let outcome = |own, server| check(own, server, &Shell::of_test()).map(|finding| finding.outcome);
        assert_eq!(outcome(101, Some(101)), Some(Outcome::Pass));
        assert_eq!(outcome(0, Some(0)), Some(Outcome::Pass));
        assert_eq!(outcome(0, Some(12_345)), Some(Outcome::Note));
        assert_eq!(outcome(101, Some(12_345)), Some(Outcome::Note));
        assert_eq!(outcome(0, None), Some(Outcome::Note));
        assert_eq!(outcome(101, None), None);
        let another = check(0, Some(12_345), &Shell::of_test()).unwrap();
        assert!(another.detail.contains("root and the server as uid 12345"));
        assert!(another.command.unwrap().starts_with("sudo -u '#12345' walkeep check --archive"));
    }

    #[test]
    fn a_spool_that_another_user_squats_on_is_a_warning_with_its_cost() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path().join("spool");
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(look_ahead(&base, true, own, &Shell::of_test()).outcome, Outcome::Pass);
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&base).unwrap();
        assert_eq!(look_ahead(&base, true, own, &Shell::of_test()).outcome, Outcome::Pass);
        let squatted = look_ahead(&base, true, own + 12_345, &Shell::of_test());
        assert_eq!(squatted.outcome, Outcome::Note);
        assert!(squatted.detail.contains("do not work") && squatted.hint.unwrap().contains("one file alone"));
        assert_eq!(
            look_ahead(&base, false, own + 12_345, &Shell::of_test()).outcome,
            Outcome::Pass,
            "it is not used"
        );
        let of_default = look_ahead(&Spool::default_base(), true, 12_345, &Shell::of_test()).detail;
        assert!(of_default.contains("/var/tmp/walkeep-12345"), "the server's, not this user's: {of_default}");
    }
}
