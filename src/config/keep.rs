//! Settings for what an archive keeps, and which base backups count.

use std::path::PathBuf;

use jiff::SignedDuration;

use super::given::Given;
use super::units::Timeline;
use super::wrong;
use crate::catalog::Labels;
use crate::error::Error;
use crate::retention::{BackupPolicy, BranchPolicy, Policy};
use crate::wal::TimelineId;

/// Default maximum duration of a base backup. Most take less, and WAL of a day hardly enlarges an archive that is pruned
/// daily.
const BACKUP_MAY_TAKE: SignedDuration = SignedDuration::from_hours(24);

/// Settings of `walkeep prune`, and of the commands that say what can be recovered: `walkeep verify`, `status`, `check`
/// and `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepSettings {
    /// Retention policy.
    pub policy: Policy,
    /// Directories that contain base backups, in addition to those that the archive knows.
    pub backup_dirs: Vec<PathBuf>,
    /// Labels of the base backups in the archive that count.
    pub backup_labels: Labels,
}

impl KeepSettings {
    pub(super) fn merge(given: &Given, file: &Given) -> Result<Self, Error> {
        let labels = if given.backup_labels.is_empty() { file } else { given }.backup_labels.clone();
        let policy = policy(given, file)?;
        Ok(Self { policy, backup_dirs: backup_dirs(given, file)?, backup_labels: labels.into() })
    }
}

fn policy(given: &Given, file: &Given) -> Result<Policy, Error> {
    let backups = BackupPolicy {
        keep_backups: given.keep_backups.or(file.keep_backups),
        keep_days: given.keep_days.or(file.keep_days),
    };
    let wal_days = given.keep_wal_days.or(file.keep_wal_days);
    if wal_days.is_some() && backups != BackupPolicy::default() {
        return Err(wrong("keep_wal_days is set, and keep_backups or keep_days, too").hint(
            "the first is for archives without base backups, and the others are for those with; leave one out",
        ));
    }
    Ok(Policy {
        backups,
        wal_days,
        backup_may_take: given
            .backup_may_take
            .or(file.backup_may_take)
            .map_or(BACKUP_MAY_TAKE, |time| time.0),
        branches: BranchPolicy {
            given_up: timelines(&given.given_up_timelines, &file.given_up_timelines),
            held: timelines(&given.held_timelines, &file.held_timelines),
        },
        ..Policy::default()
    })
}

/// Returns the timelines of both lists: those on the command line add to those in the file.
fn timelines(given: &[Timeline], file: &[Timeline]) -> Vec<TimelineId> {
    given.iter().chain(file).map(|timeline| timeline.0).collect()
}

/// Returns the directories of the command line, or else of the file. Those of the command line may be relative to the
/// working directory.
fn backup_dirs(given: &Given, file: &Given) -> Result<Vec<PathBuf>, Error> {
    if !given.backup_dirs.is_empty() {
        return Ok(given.backup_dirs.clone());
    }
    match file.backup_dirs.iter().find(|directory| directory.is_relative()) {
        Some(relative) => {
            Err(wrong(format!("backup_dirs holds {}, which is no absolute path", relative.display())))
        }
        None => Ok(file.backup_dirs.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given {
        toml::from_str(text).unwrap()
    }

    fn merged(flags: &str, file: &str) -> Result<KeepSettings, String> {
        KeepSettings::merge(&given(flags), &given(file)).map_err(|error| error.report())
    }

    #[test]
    fn timelines_add_up_and_other_lists_are_replaced() {
        let lists = |number: u32| {
            format!(
                "given_up_timelines = [{number}]\nheld_timelines = [{number}]\nbackup_dirs = ['/{number}']\n\
                 backup_labels = ['{number}']"
            )
        };
        let both = merged(&lists(3), &lists(4)).unwrap();
        let numbers =
            |timelines: &[TimelineId]| timelines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(numbers(&both.policy.branches.given_up), ["3", "4"]);
        assert_eq!(numbers(&both.policy.branches.held), ["3", "4"]);
        assert_eq!(both.backup_dirs, [PathBuf::from("/3")]);
        assert_eq!(both.backup_labels, given("backup_labels = ['3']").backup_labels.into());
        assert_eq!(merged("", &lists(4)).unwrap().backup_dirs, [PathBuf::from("/4")]);
    }

    #[test]
    fn only_the_command_line_may_name_a_relative_directory() {
        let relative = "backup_dirs = ['/a', 'b']";
        assert!(merged("", relative).unwrap_err().contains("backup_dirs holds b,"));
        assert!(merged(relative, relative).is_ok());
    }

    #[test]
    fn days_of_wal_exclude_the_policies_for_base_backups_across_sources() {
        for other in ["keep_backups = 2", "keep_days = 0"] {
            assert!(merged("keep_wal_days = 7", other).unwrap_err().contains("leave one out"), "{other}");
            assert!(merged(other, "keep_wal_days = 7").unwrap_err().contains("leave one out"), "{other}");
        }
        assert_eq!(merged("keep_wal_days = 7", "keep_wal_days = 9").unwrap().policy.wal_days, Some(7));
    }
}
