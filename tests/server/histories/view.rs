//! View of a cluster and its archive that walkeep gets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use walkeep::archive::{ArchivedFile, Inventory};
use walkeep::catalog::Catalog;
use walkeep::coverage::{self, Coverage, KnownFrom};
use walkeep::wal::{BackupHistory, BackupWal, Lsn, SystemIdentifier, TimelineHistory, WalName};

use super::recovery::BaseBackup;
use super::world::{Backup, Files, World, timeline};

/// A base backup known to walkeep.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Index in the world.
    pub(crate) index: usize,
    pub(crate) is: BaseBackup,
    /// End of the backup, as far as anybody can know.
    pub(crate) ended: Timestamp,
    pub(crate) found: bool,
}

/// Returns the name of a base backup: its label, or its directory.
fn title(index: usize) -> String {
    format!("b{index}")
}

/// The number of the base backup of that label or directory.
pub(crate) fn index_of(label: Option<&String>, directory: Option<&str>) -> usize {
    let name = label.map_or_else(|| directory.unwrap(), String::as_str);
    name.trim_start_matches('b').parse().unwrap()
}

/// Returns the base backups known from an archive with these files, and from directories.
pub(crate) fn known(world: &World, files: &Files, looks_elsewhere: bool) -> Vec<Known> {
    let of = |(index, backup): (usize, &Backup)| {
        let found = backup.found && looks_elsewhere;
        let file = world.backup_file(&backup.is);
        let archived = files.contains_key(&file) && !backup.is.from_standby;
        let ended = backup.ended?;
        let ended = if archived { world.first_archived[&file] } else { ended };
        (archived || found).then_some(Known { index, is: backup.is, ended, found })
    };
    world.backups.iter().enumerate().filter_map(of).collect()
}

/// Returns the base backups found in directories.
pub(crate) fn elsewhere(world: &World, looks_elsewhere: bool) -> Vec<coverage::BaseBackup> {
    let found = world.backups.iter().enumerate().filter(|(_, backup)| backup.found && looks_elsewhere);
    let seen = |(index, backup): (usize, &Backup)| coverage::BaseBackup {
        known_from: KnownFrom::Directory(title(index)),
        label: None,
        wal: BackupWal {
            start_segment: world.segment(backup.is.tli, world.number_of(backup.is.redo)),
            start: Lsn(backup.is.redo),
            end: Some((timeline(backup.is.stop_tli), Lsn(backup.is.stop))),
        },
        from_standby: backup.is.from_standby,
        ended: backup.ended.unwrap(),
        known_since: backup.ended.unwrap(),
        counts: true,
        builds_on: None,
    };
    found.map(seen).collect()
}

/// Returns a catalog of the archive's files.
pub(crate) fn catalog(world: &World, files: &Files) -> Catalog {
    let entry = |(name, since): (&WalName, &Timestamp)| ArchivedFile {
        name: (*name).into(),
        since: *since,
        stored_size: 1,
    };
    let histories = files.keys().filter_map(|name| match name {
        WalName::History(of) => {
            let text = world.history_text(of.get());
            Some((*of, TimelineHistory::parse(*of, text.as_bytes()).unwrap()))
        }
        _ => None,
    });
    let coverage = Coverage::new(world.size, files.keys().copied(), histories.collect::<BTreeMap<_, _>>());
    let backups = world.backups.iter().enumerate().filter_map(|(index, backup)| {
        let name = world.backup_file(&backup.is);
        let is_there = files.contains_key(&name) && backup.ended.is_some() && !backup.is.from_standby;
        let archived_at = *world.first_archived.get(&name).filter(|_| is_there)?;
        let history = backup_history(world, index, &backup.is, name);
        Some(coverage::BaseBackup {
            known_from: KnownFrom::History(name),
            label: history.label,
            wal: history.wal,
            from_standby: false,
            // Its time zone is ambiguous.
            ended: archived_at,
            known_since: archived_at,
            counts: true,
            builds_on: None,
        })
    });
    let mut backups: Vec<coverage::BaseBackup> = backups.collect();
    backups.sort_by_key(|backup| backup.known_from.history());
    let inventory = Inventory { files: files.iter().map(entry).collect(), ..Inventory::default() };
    let system = SystemIdentifier::new(7).unwrap();
    Catalog {
        system,
        inventory,
        sizes: world.size.into(),
        coverage,
        other_coverages: Vec::new(),
        backups,
        unreadable: Vec::new(),
    }
}

fn backup_history(world: &World, index: usize, is: &BaseBackup, name: WalName) -> BackupHistory {
    let WalName::Backup { segment, .. } = name else { panic!("{name} names no backup") };
    let [start, stop, checkpoint] = [is.redo, is.stop, is.checkpoint].map(Lsn);
    let last = world.segment(is.stop_tli, world.number_of(is.stop - 1));
    let text = format!(
        "START WAL LOCATION: {start} (file {segment})\nSTOP WAL LOCATION: {stop} (file {last})\n\
         CHECKPOINT LOCATION: {checkpoint}\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
         START TIME: 2026-01-01 00:00:00 CET\nLABEL: {}\nSTART TIMELINE: {}\n\
         STOP TIME: 2026-01-01 00:00:00 CET\nSTOP TIMELINE: {}\n",
        title(index),
        is.tli,
        is.stop_tli
    );
    BackupHistory::parse(segment, text.as_bytes()).unwrap()
}
