//! PostgreSQL data directories: the system identifier, the state of recovery, the contents of `pg_wal`, and the
//! server's settings.

mod caller;
mod own_wal;
mod promotion;
mod recovery_mode;
mod running;
mod settings;

use std::fs;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::wal::{
    BackupLabel, CONTROL_FILE_BYTES, Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineId,
    control_file_says_production, control_file_says_recovery, restart_point_of_control_file,
    segment_size_of_control_file, system_identifier_of_control_file,
};
use crate::whole_file::{open_regular, read_regular, read_regular_text};

pub use caller::Caller;
pub use own_wal::{breaks_off, held_after, histories, holds_segment};
pub use recovery_mode::RecoveryMode;
pub use running::Listening;
pub use settings::ServerSettings;

/// A directory that may be a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDirectory(PathBuf);

/// First version in which empty files, instead of `recovery.conf`, select recovery. It refuses to start with a
/// `recovery.conf`.
const FIRST_VERSION_WITH_SIGNAL_FILES: u32 = 12;

/// Name of a running server's lock file.
const LOCK_FILE: &str = "postmaster.pid";

/// Maximum size in bytes of a file that is read whole: more than any configuration has.
const MAX_BYTES: u64 = 16 << 20;

/// Value of `recovery_target_timeline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetTimeline {
    /// The newest timeline, which the server looks up.
    Latest,
    /// The timeline of the base backup.
    Current,
    /// A timeline by number.
    Number(TimelineId),
}

impl DataDirectory {
    /// Returns the data directory that a `%p` belongs to: two levels above it, or the working directory.
    ///
    /// The path takes precedence because `pg_rewind -c` runs the command in its caller's working directory, which may
    /// be another cluster. The levels are removed from the text of the path, because `pg_wal` is often a symbolic
    /// link.
    #[must_use]
    fn of(wal_path: &Path) -> Self {
        let above = wal_path.parent().and_then(Path::parent).map(|dir| Self(dir.join("")));
        above.filter(Self::has_control_file).unwrap_or_else(Self::current)
    }

    /// Returns the working directory, as a relative path.
    #[must_use]
    pub fn current() -> Self {
        Self(PathBuf::new())
    }

    /// Creates a data directory from a path given by the user.
    #[must_use]
    pub fn named(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns the path; empty for the working directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the settings from the files that the server reads at startup.
    pub fn server_settings(&self) -> Result<ServerSettings, Error> {
        settings::read(&self.0)
    }

    /// Returns `true` if the configuration file exists that the server would read at startup.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        !matches!(
            fs::metadata(settings::configuration_file(&self.0)),
            Err(error) if error.kind() == IoErrorKind::NotFound
        )
    }

    /// Returns the `restore_command`, read from the file that the server's version uses; `None` if it is not set.
    pub fn restore_command(&self) -> Result<Option<String>, Error> {
        let settings = match self.major_version() {
            Some(..FIRST_VERSION_WITH_SIGNAL_FILES) => settings::read_recovery_conf(&self.0)?,
            _ => self.server_settings()?,
        };
        Ok(settings.get("restore_command").filter(|command| !command.is_empty()).cloned())
    }

    /// Returns the server's `recovery_target_timeline`, read from the files that its version uses; `None` if they are
    /// unreadable.
    #[must_use]
    pub fn target_timeline(&self) -> Option<TargetTimeline> {
        let (settings, default) = match self.major_version()? {
            ..FIRST_VERSION_WITH_SIGNAL_FILES => {
                (settings::read_recovery_conf(&self.0), TargetTimeline::Current)
            }
            _ => (self.server_settings(), TargetTimeline::Latest),
        };
        match settings.ok()?.get("recovery_target_timeline").map(String::as_str) {
            None | Some("") => Some(default),
            Some("latest") => Some(TargetTimeline::Latest),
            Some("current") => Some(TargetTimeline::Current),
            Some(number) => number.parse().ok().and_then(TimelineId::new).map(TargetTimeline::Number),
        }
    }

    fn control_file(&self) -> PathBuf {
        self.0.join("global/pg_control")
    }

    /// Returns `true` if `pg_control` exists, readable or not.
    fn has_control_file(&self) -> bool {
        !matches!(fs::metadata(self.control_file()), Err(error) if error.kind() == IoErrorKind::NotFound)
    }

    /// Reads the system identifier; `None` if there is no `pg_control`.
    pub fn system_identifier(&self) -> Result<Option<SystemIdentifier>, Error> {
        let cannot_read =
            || Error::new(ErrorKind::Local, format!("cannot read {}", self.control_file().display()));
        let denied =
            |error| denied::cannot_read(ErrorKind::Local, "", &self.control_file(), Kept::ForOwner, error);
        let Some(beginning) = self.control().map_err(denied)? else {
            return Ok(None);
        };
        system_identifier_of_control_file(&beginning).map(Some).map_err(|e| cannot_read().because(e))
    }

    /// Reads the system identifier, and refuses another one than `expected`, if that is given: whoever names two clusters means
    /// one of them, and nobody can tell which.
    pub fn system_identifier_if(
        &self,
        expected: Option<SystemIdentifier>,
    ) -> Result<Option<SystemIdentifier>, Error> {
        let found = self.system_identifier()?;
        match (found, expected) {
            (Some(whose), Some(expected)) if whose != expected => {
                let path = self.path().display();
                let what = format!("the data directory {path} is of system {whose}, not of {expected}");
                Err(Error::new(ErrorKind::Configuration, what).hint("leave --system-identifier out"))
            }
            _ => Ok(found),
        }
    }

    /// Reads the segment size; `None` if `pg_control` is missing or does not contain it.
    #[must_use]
    pub fn segment_size(&self) -> Option<SegmentSize> {
        segment_size_of_control_file(&self.control().ok()??)
    }

    /// Returns the segment from which a server of that cluster would restart if it is in recovery, as a standby is.
    #[must_use]
    pub fn restart_segment(&self, system: SystemIdentifier) -> Option<SegmentName> {
        let control = self.control().ok()??;
        let is_its =
            system_identifier_of_control_file(&control) == Ok(system) && control_file_says_recovery(&control);
        let (timeline, redo) = restart_point_of_control_file(&control).filter(|_| is_its)?;
        SegmentName::containing(timeline, redo, segment_size_of_control_file(&control)?)
    }

    /// Reads the start of `pg_control`; `None` if the file does not exist.
    pub fn control(&self) -> std::io::Result<Option<Vec<u8>>> {
        let mut beginning = Vec::new();
        match open_regular(&self.control_file()) {
            Ok(file) => {
                file.take(CONTROL_FILE_BYTES as u64).read_to_end(&mut beginning).map(|_| Some(beginning))
            }
            Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a text that identifies one run of a server in this directory. It is constant while no server runs.
    pub fn run(&self) -> Result<String, Error> {
        let path = if self.0 == Path::new("") { Path::new(".") } else { &self.0 };
        let found = fs::metadata(path).map_err(|error| {
            let what = format!("cannot look at {}", path.display());
            denied::failed(ErrorKind::Local, what, path, Kept::ForOwner, error)
        })?;
        let lock = read_regular_text(&self.0.join(LOCK_FILE), MAX_BYTES).unwrap_or_default();
        // PID, directory and start time. The lines after those change while the server runs.
        let mut lines = lock.lines();
        let (process, started) = (lines.next().unwrap_or("none"), lines.nth(1).unwrap_or("never"));
        Ok(format!("{}.{}.{}.{}", found.dev(), found.ino(), process.trim(), started.trim()))
    }

    /// Returns 15 for 15.4, and 9 for 9.6.
    fn major_version(&self) -> Option<u32> {
        self.version()?.split('.').next()?.parse().ok()
    }

    /// Returns the version by the file `PG_VERSION`, such as 15 or 9.6; `None` if that holds no number.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let text = read_regular_text(&self.0.join("PG_VERSION"), MAX_BYTES).ok()?;
        let version = text.trim();
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        version.split('.').all(is_number).then(|| version.to_owned())
    }

    /// Returns `true` if `pg_control` says that the server is in recovery. The server updates it after its last
    /// request for WAL.
    fn recovers(&self) -> bool {
        self.control()
            .is_ok_and(|beginning| beginning.is_some_and(|bytes| control_file_says_recovery(&bytes)))
    }

    /// Returns the position from which a server in recovery would restart, with its timeline; `None` if the server is
    /// not in recovery or the files are unreadable.
    #[must_use]
    pub fn restart_point(&self) -> Option<(TimelineId, Lsn)> {
        if self.recovery_mode() != RecoveryMode::Standby && !self.recovers() {
            return None;
        }
        // In a base backup that was never started, this file has the start; its `pg_control` may be newer.
        if let Ok(label) = read_regular(&self.0.join("backup_label"), MAX_BYTES)
            && let Ok(label) = BackupLabel::parse(&label)
        {
            return Some((label.start_segment.timeline(), label.start));
        }
        restart_point_of_control_file(&self.control().ok()??)
    }

    /// Returns the position of the last checkpoint of a server that writes, with its timeline; `None` if it is in recovery or was
    /// stopped, or the file is unreadable.
    #[must_use]
    pub fn written_up_to(&self) -> Option<(TimelineId, Lsn)> {
        let control = self.control().ok()??;
        control_file_says_production(&control).then(|| restart_point_of_control_file(&control))?
    }

    /// Returns the timeline of the last checkpoint; `None` if it is unreadable.
    #[must_use]
    pub fn timeline(&self) -> Option<TimelineId> {
        restart_point_of_control_file(&self.control().ok()??).map(|(timeline, _)| timeline)
    }

    /// Returns `true` if the server is shutting down. It may keep working while clients stay connected.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        let lock = read_regular_text(&self.0.join(LOCK_FILE), MAX_BYTES).unwrap_or_default();
        lock.lines().nth(7).is_some_and(|status| status.trim() == "stopping")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_shuts_down_is_recognized() {
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDirectory::named(temporary.path().to_owned());
        assert!(!data.is_stopping());
        for (status, stopping) in [("ready   ", false), ("stopping", true), ("standby ", false), ("", false)]
        {
            let lock = format!("17\n/data\n1700000000\n5432\n/tmp\n*\n  1234  1\n{status}\n");
            fs::write(temporary.path().join("postmaster.pid"), lock).unwrap();
            assert_eq!(data.is_stopping(), stopping, "{status}");
        }
    }

    #[test]
    fn the_target_timeline_is_read_from_the_files_of_its_version() {
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDirectory::named(temporary.path().to_owned());
        let write = |name: &str, text: &str| fs::write(temporary.path().join(name), text).unwrap();
        assert_eq!(data.target_timeline(), None, "of no known version");
        write("PG_VERSION", "15\n");
        assert_eq!(data.target_timeline(), None, "no configuration can be read");
        write("postgresql.conf", "port = 1\n");
        assert_eq!(data.target_timeline(), Some(TargetTimeline::Latest));
        for (line, expected) in [
            ("recovery_target_timeline = 'latest'", Some(TargetTimeline::Latest)),
            ("recovery_target_timeline = 'current'", Some(TargetTimeline::Current)),
            ("recovery_target_timeline = 3", TimelineId::new(3).map(TargetTimeline::Number)),
            ("recovery_target_timeline = 'x'", None),
        ] {
            write("postgresql.auto.conf", line);
            assert_eq!(data.target_timeline(), expected, "{line}");
        }
        write("PG_VERSION", "11\n");
        assert_eq!(
            data.target_timeline(),
            Some(TargetTimeline::Current),
            "another file, and another default"
        );
        write("recovery.conf", "recovery_target_timeline = 'latest'\n");
        assert_eq!(data.target_timeline(), Some(TargetTimeline::Latest));
    }

    #[test]
    fn a_run_ends_with_the_server_or_its_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        fs::create_dir(&path).unwrap();
        let data = DataDirectory::named(path.clone());
        let run_of = |lock: &str| {
            fs::write(path.join("postmaster.pid"), lock).unwrap();
            data.run().unwrap()
        };
        let none = data.run().unwrap();
        let first = run_of("17\n/data\n1700000000\n");
        assert_eq!(first, run_of("17\n/data\n1700000000\n5432\n/tmp\n*\nready   \n"));
        let others = [none, run_of("18\n/data\n1700000000\n"), run_of("17\n/data\n1700000001\n")];
        assert!(!others.contains(&first), "{others:?}");
        fs::rename(&path, temporary.path().join("old")).unwrap();
        assert!(data.run().is_err());
        fs::create_dir(&path).unwrap();
        assert_ne!(run_of("17\n/data\n1700000000\n"), first, "another directory of the same name");
    }

    #[test]
    fn the_data_directory_is_two_levels_above_the_file() {
        let cluster = tempfile::tempdir().unwrap();
        fs::create_dir(cluster.path().join("global")).unwrap();
        let pg_control = [&7u64.to_ne_bytes()[..], &1300u32.to_ne_bytes(), &[0; 4]].concat();
        fs::write(cluster.path().join("global/pg_control"), pg_control).unwrap();
        let found = DataDirectory::of(&cluster.path().join("pg_wal/RECOVERYXLOG"));
        assert_eq!(found.system_identifier().unwrap(), SystemIdentifier::new(7));
        assert_eq!(found.recovery_mode(), RecoveryMode::Recovery);
        fs::write(cluster.path().join("PG_VERSION"), "15\n").unwrap();
        fs::write(cluster.path().join("standby.signal"), "").unwrap();
        assert_eq!(found.recovery_mode(), RecoveryMode::Standby);
        assert_eq!(DataDirectory::of(Path::new("/nowhere/pg_wal/x")), DataDirectory::current());
        assert_eq!(DataDirectory::of(Path::new("x")), DataDirectory::current());
    }
}
