//! What a server does at the end of the WAL, by the files that its version reads.
//!
//! Source: `readRecoverySignalFile` and, up to version 11, `readRecoveryCommandFile` in `access/transam/xlog.c`; `parse_bool` in
//! `utils/adt/bool.c`.

use std::fs;
use std::io::ErrorKind as IoErrorKind;

use super::{DataDirectory, FIRST_VERSION_WITH_SIGNAL_FILES, settings};

/// Behaviour of a server when its `restore_command` finds no more WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryMode {
    /// It retries, and may stream in between.
    Standby,
    /// It ends recovery and promotes itself.
    Recovery,
    /// It has ended recovery and removed the file that would start it again. It only asks for the history of the
    /// timeline that it leaves.
    Ending,
}

impl DataDirectory {
    /// Returns what the server does when it finds no more WAL, by the files that its version uses. `PG_VERSION`
    /// selects these, because files of other versions may exist without effect.
    ///
    /// An unreadable file means [`RecoveryMode::Recovery`]: its answer to a failure is safe on a standby, while the
    /// standby's answer would lose data in recovery.
    #[must_use]
    pub fn recovery_mode(&self) -> RecoveryMode {
        let decided = match self.major_version() {
            None => Some(RecoveryMode::Recovery),
            Some(FIRST_VERSION_WITH_SIGNAL_FILES..) => self.by_signal_files(),
            Some(_) => self.by_recovery_conf(),
        };
        decided.unwrap_or_else(|| if self.recovers() { RecoveryMode::Ending } else { RecoveryMode::Recovery })
    }

    /// Reads the mode as versions from 12 on do; `None` if neither file exists.
    fn by_signal_files(&self) -> Option<RecoveryMode> {
        let files = [("standby.signal", RecoveryMode::Standby), ("recovery.signal", RecoveryMode::Recovery)];
        files.into_iter().find_map(|(name, mode)| match fs::metadata(self.0.join(name)) {
            Ok(_) => Some(mode),
            Err(error) if error.kind() == IoErrorKind::NotFound => None,
            Err(_) => Some(RecoveryMode::Recovery),
        })
    }

    /// Reads the mode as versions up to 11 do; `None` if the file does not exist.
    fn by_recovery_conf(&self) -> Option<RecoveryMode> {
        if let Err(error) = fs::metadata(self.0.join(settings::RECOVERY_CONF))
            && error.kind() == IoErrorKind::NotFound
        {
            return None;
        }
        let settings = settings::read_recovery_conf(&self.0);
        let is_on = settings.is_ok_and(|set| set.get("standby_mode").is_some_and(|value| is_true(value)));
        Some(if is_on { RecoveryMode::Standby } else { RecoveryMode::Recovery })
    }
}

/// Reads a boolean as the server does: any case, and a beginning of the word, if that of no other.
fn is_true(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
    value == "1" || value == "on" || begins("true") || begins("yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standby_mode_is_read_as_the_server_reads_it() {
        use RecoveryMode::{Recovery, Standby};
        for on in [
            "standby_mode = 'on'",
            "standby_mode=on",
            "  STANDBY_MODE\t'TRUE' # yes",
            "standby_mode 1",
            "standby_mode = y",
            "standby_mode = 'On'",
            "standby_mode = tru",
            "standby_mode = 'o\\156'",
            "# standby_mode = off\nrestore_command = 'x'\nstandby_mode = 'on'\n",
            "standby_mode = off\nstandby_mode = on\r\n",
        ] {
            assert_eq!(mode_of(Some("11"), 0, &[("recovery.conf", on)]), Standby, "{on:?}");
        }
        for off in [
            "",
            "standby_mode = 'off'",
            "standby_mode = o",
            "standby_mode =",
            "standby_mode = ' on'",
            "standby_mode = trues",
            "standby_modes = on",
            "# standby_mode = 'on'",
            "standby_mode = on\nstandby_mode = 'false'",
            "restore_command = 'standby_mode = on'",
        ] {
            assert_eq!(mode_of(Some("11"), 0, &[("recovery.conf", off)]), Recovery, "{off:?}");
        }
    }

    #[test]
    fn standby_mode_may_be_in_a_file_that_recovery_conf_includes() {
        use RecoveryMode::{Recovery, Standby};
        let (on, off) = ("standby_mode = on\n", "standby_mode = off\n");
        for (conf, included, mode) in [
            ("include 'global/of_standby'", on, Standby),
            ("INCLUDE = global/of_standby", on, Standby),
            ("include_if_exists 'global/of_standby'", on, Standby),
            ("include_if_exists 'global/none'", on, Recovery),
            ("include 'global/of_standby'\nstandby_mode = off", on, Recovery),
            ("standby_mode = on\ninclude 'global/of_standby'", off, Recovery),
            // A server would not start with any of these.
            ("standby_mode = on\ninclude 'global/none'", on, Recovery),
            ("standby_mode = on\ninclude 'recovery.conf'", on, Recovery),
        ] {
            let files = [("recovery.conf", conf), ("global/of_standby", included)];
            assert_eq!(mode_of(Some("10"), 5, &files), mode, "{conf:?}");
        }
        let in_directory =
            [("recovery.conf", "include_dir global"), ("global/1.conf", off), ("global/2.conf", on)];
        assert_eq!(mode_of(Some("11"), 5, &in_directory), Standby);
    }

    /// Creates a data directory of that version with these files and that state in `pg_control`, and returns its
    /// mode.
    fn mode_of(version: Option<&str>, state: u32, files: &[(&str, &str)]) -> RecoveryMode {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("global")).unwrap();
        let control =
            [&7u64.to_ne_bytes()[..], &1300u32.to_ne_bytes(), &[0; 4], &state.to_ne_bytes()].concat();
        fs::write(temporary.path().join("global/pg_control"), control).unwrap();
        for (name, text) in files.iter().copied().chain(version.map(|version| ("PG_VERSION", version))) {
            fs::write(temporary.path().join(name), text).unwrap();
        }
        DataDirectory::named(temporary.path().to_owned()).recovery_mode()
    }

    #[test]
    fn the_version_decides_which_file_counts() {
        use RecoveryMode::{Recovery, Standby};
        let (signal, conf) = (("standby.signal", ""), ("recovery.conf", "standby_mode = on"));
        for (version, files, mode) in [
            (Some("15\n"), &[signal][..], Standby),
            (Some("12\n"), &[signal, ("recovery.signal", "")], Standby),
            (Some("15\n"), &[conf], Recovery),
            (Some("15\n"), &[("recovery.signal", ""), conf], Recovery),
            (Some("11\n"), &[signal], Recovery),
            (Some("11\n"), &[signal, ("recovery.conf", "standby_mode = off")], Recovery),
            (Some("9.6\n"), &[conf], Standby),
            (Some("11\n"), &[conf], Standby),
            (Some("x\n"), &[signal, conf], Recovery),
            (Some(""), &[signal, conf], Recovery),
            (None, &[signal, conf], Recovery),
        ] {
            assert_eq!(mode_of(version, 0, files), mode, "{version:?} {files:?}");
        }
    }

    #[test]
    fn a_server_in_recovery_without_its_file_is_ending() {
        use RecoveryMode::{Ending, Recovery, Standby};
        let in_archive_recovery = 5;
        for version in ["11\n", "12\n", "18\n"] {
            assert_eq!(mode_of(Some(version), in_archive_recovery, &[]), Ending, "{version}");
            for state in [0, 1, 2, 3, 4, 6] {
                assert_eq!(mode_of(Some(version), state, &[]), Recovery, "{version} {state}");
            }
        }
        assert_eq!(mode_of(None, in_archive_recovery, &[]), Recovery);
        assert_eq!(mode_of(Some("15"), in_archive_recovery, &[("recovery.signal", "")]), Recovery);
        assert_eq!(mode_of(Some("15"), in_archive_recovery, &[("standby.signal", "")]), Standby);
        assert_eq!(mode_of(Some("11"), in_archive_recovery, &[("recovery.conf", "")]), Recovery);
    }
}
